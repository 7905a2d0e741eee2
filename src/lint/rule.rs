//! [`Rule`]: the names, and what each is about.

/// A rule, named as BuildKit names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the descriptions stand in the table below")]
pub enum Rule {
    StageNameCasing,
    FromAsCasing,
    NoEmptyContinuation,
    ConsistentInstructionCasing,
    DuplicateStageName,
    ReservedStageName,
    JSONArgsRecommended,
    MaintainerDeprecated,
    UndefinedArgInFrom,
    WorkdirRelativePath,
    UndefinedVar,
    MultipleInstructionsDisallowed,
    LegacyKeyValueFormat,
    InvalidBaseImagePlatform,
    RedundantTargetPlatform,
    SecretsUsedInArgOrEnv,
    InvalidDefaultArgInFrom,
    FromPlatformFlagConstDisallowed,
    CopyIgnoredFile,
    InvalidDefinitionDescription,
    ExposeProtoCasing,
    ExposeInvalidFormat,
}

/// Every rule, its name, the end of its address, and its description.
const TABLE: [(Rule, &str, &str, &str); 22] = {
    use Rule::*;
    [
        (
            StageNameCasing,
            "StageNameCasing",
            "stage-name-casing",
            "the name of a stage is best in lower case",
        ),
        (
            FromAsCasing,
            "FromAsCasing",
            "from-as-casing",
            "AS is best written in the case of its FROM",
        ),
        (
            NoEmptyContinuation,
            "NoEmptyContinuation",
            "no-empty-continuation",
            "blank lines inside a continued instruction will be refused some day",
        ),
        (
            ConsistentInstructionCasing,
            "ConsistentInstructionCasing",
            "consistent-instruction-casing",
            "the keywords of a file are best all in upper case, or all in lower case",
        ),
        (
            DuplicateStageName,
            "DuplicateStageName",
            "duplicate-stage-name",
            "two stages of one name cannot be told apart",
        ),
        (
            ReservedStageName,
            "ReservedStageName",
            "reserved-stage-name",
            "scratch and context have a meaning of their own and are no names for stages",
        ),
        (
            JSONArgsRecommended,
            "JSONArgsRecommended",
            "json-args-recommended",
            "a command in JSON form gets signals itself, one in shell form leaves them to a shell",
        ),
        (
            MaintainerDeprecated,
            "MaintainerDeprecated",
            "maintainer-deprecated",
            "MAINTAINER is deprecated; a label names the author",
        ),
        (
            UndefinedArgInFrom,
            "UndefinedArgInFrom",
            "undefined-arg-in-from",
            "FROM sees only arguments that an ARG before the first FROM declares",
        ),
        (
            WorkdirRelativePath,
            "WorkdirRelativePath",
            "workdir-relative-path",
            "a relative WORKDIR depends on the base image's, which may change",
        ),
        (
            UndefinedVar,
            "UndefinedVar",
            "undefined-var",
            "a variable is used that nothing defines before",
        ),
        (
            MultipleInstructionsDisallowed,
            "MultipleInstructionsDisallowed",
            "multiple-instructions-disallowed",
            "of several CMD, ENTRYPOINT or HEALTHCHECK in a stage only the last counts",
        ),
        (
            LegacyKeyValueFormat,
            "LegacyKeyValueFormat",
            "legacy-key-value-format",
            "the form without an equals sign is deprecated",
        ),
        (
            InvalidBaseImagePlatform,
            "InvalidBaseImagePlatform",
            "invalid-base-image-platform",
            "the base image is for another platform than the one built for",
        ),
        (
            RedundantTargetPlatform,
            "RedundantTargetPlatform",
            "redundant-target-platform",
            "the target platform is what FROM takes without --platform",
        ),
        (
            SecretsUsedInArgOrEnv,
            "SecretsUsedInArgOrEnv",
            "secrets-used-in-arg-or-env",
            "what ARG and ENV hold can be read from the image",
        ),
        (
            InvalidDefaultArgInFrom,
            "InvalidDefaultArgInFrom",
            "invalid-default-arg-in-from",
            "without build arguments the name of the base image is empty or invalid",
        ),
        (
            FromPlatformFlagConstDisallowed,
            "FromPlatformFlagConstDisallowed",
            "from-platform-flag-const-disallowed",
            "a platform that is written out ties the file to it",
        ),
        (
            CopyIgnoredFile,
            "CopyIgnoredFile",
            "copy-ignored-file",
            "a file is copied that .dockerignore excludes",
        ),
        (
            InvalidDefinitionDescription,
            "InvalidDefinitionDescription",
            "invalid-definition-description",
            "a comment directly above a named stage or an ARG describes it and begins with the name",
        ),
        (
            ExposeProtoCasing,
            "ExposeProtoCasing",
            "expose-proto-casing",
            "the protocol of EXPOSE is best in lower case",
        ),
        (
            ExposeInvalidFormat,
            "ExposeInvalidFormat",
            "expose-invalid-format",
            "EXPOSE takes a container's port; addresses and host ports mean nothing there",
        ),
    ]
};

impl Rule {
    /// Every rule.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(rule, ..)| *rule)
    }

    /// The name, which `# check=skip=` takes.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What it is about, in general.
    pub fn description(self) -> &'static str {
        self.row().3
    }

    /// Where it is explained.
    pub fn url(self) -> String {
        format!(
            "https://docs.docker.com/go/dockerfile/rule/{}/",
            self.row().2
        )
    }

    /// Whether it is checked only if `experimental=` names it.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, &'static str) {
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_rules() {
        for (index, rule) in Rule::all().enumerate() {
            assert_eq!(rule as usize, index);
            assert_eq!(format!("{rule:?}"), rule.name());
        }
        assert_eq!(
            Rule::JSONArgsRecommended.url(),
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
        );
    }
}
