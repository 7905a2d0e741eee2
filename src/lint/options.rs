//! [`CheckOptions`]: `skip=A,B;error=true;experimental=C` of the `check` directive, of a comment above
//! an instruction, or of a build argument, which replaces the directive (S1).

use std::collections::BTreeSet;

use super::rule::Rule;
use crate::dockerfile::{Diagnostic, DiagnosticKind, Dockerfile, Instruction, Span};
use crate::plan::PlanOptions;

/// The build argument that replaces the directive.
pub const OPTIONS_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Names of rules, or every rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chosen {
    all: bool,
    names: BTreeSet<String>,
}

impl Chosen {
    fn read(text: &str) -> Self {
        match text.trim() {
            "all" => Self {
                all: true,
                names: BTreeSet::new(),
            },
            list => Self {
                all: false,
                names: list.split(',').map(|name| name.trim().to_owned()).collect(),
            },
        }
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.names.contains(rule.name())
    }

    fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.names.extend(other.names);
    }
}

/// Which rules are checked, and whether a finding is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    skip: Chosen,
    experimental: Chosen,
    /// Findings fail the build.
    pub error: bool,
}

impl CheckOptions {
    /// Those of a whole file: of the build argument if it is given, else of the directive.
    ///
    /// # Errors
    /// Malformed options, at the directive if they stand there.
    pub fn of(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<Self, Diagnostic> {
        if let Some(text) = options.build_arg(OPTIONS_ARG) {
            return Self::parse(text).map_err(|reason| {
                let message = format!("--build-arg {OPTIONS_ARG}: {reason}");
                Diagnostic::without_place(DiagnosticKind::Value, message)
            });
        }
        match &dockerfile.directives.check {
            None => Ok(Self::default()),
            Some(text) => Self::parse(&text.value).map_err(|reason| wrong(text.span, &reason)),
        }
    }

    /// Reads the options.
    ///
    /// # Errors
    /// An unknown option, or a value of `error` that is neither true nor false. Names of rules are
    /// not checked: a later version may have more.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        if text.trim().is_empty() {
            return Ok(options);
        }
        for option in text.split(';') {
            let (key, value) = option.split_once('=').ok_or_else(|| unknown(option))?;
            match key.trim() {
                "skip" => options.skip = Chosen::read(value),
                "experimental" => options.experimental = Chosen::read(value),
                "error" => options.error = boolean(value.trim())?,
                other => return Err(unknown(other)),
            }
        }
        Ok(options)
    }

    /// The same with what the comments above `instruction` add. A comment that is no check option
    /// says nothing.
    pub(super) fn above(&self, instruction: &Instruction) -> Self {
        let mut options = self.clone();
        for comment in &instruction.comments {
            let Some((key, value)) = comment.value.split_once('=') else {
                continue;
            };
            if !key.trim().eq_ignore_ascii_case("check") {
                continue;
            }
            if let Ok(own) = Self::parse(value) {
                options.skip.add(own.skip);
                options.experimental.add(own.experimental);
            }
        }
        options
    }

    /// Whether `rule` is checked.
    pub fn checks(&self, rule: Rule) -> bool {
        if rule.is_experimental() {
            self.experimental.has(rule)
        } else {
            !self.skip.has(rule)
        }
    }
}

fn unknown(option: &str) -> String {
    let option = option.trim();
    format!("unknown check option {option:?}: expected skip=, error= or experimental=")
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("check option error={text}: expected true or false")),
    }
}

fn wrong(span: Span, reason: &str) -> Diagnostic {
    Diagnostic::error(DiagnosticKind::Value, span, reason)
        .hint("# check=skip=RULE,RULE;error=true;experimental=RULE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_check_options() {
        for (text, skipped, checked, error) in [
            ("", "", "UndefinedVar", false),
            (
                "skip=UndefinedVar, StageNameCasing",
                "UndefinedVar",
                "FromAsCasing",
                false,
            ),
            ("skip=all;error=true", "FromAsCasing", "", true),
            (
                "error=T",
                "InvalidDefinitionDescription",
                "FromAsCasing",
                true,
            ),
            (
                " error = 0 ; experimental = all",
                "",
                "InvalidDefinitionDescription",
                false,
            ),
            (
                "skip=all;experimental=InvalidDefinitionDescription",
                "UndefinedVar",
                "InvalidDefinitionDescription",
                false,
            ),
        ] {
            let options = CheckOptions::parse(text).unwrap();
            for rule in Rule::all() {
                if rule.name() == skipped {
                    assert!(!options.checks(rule), "{text}: {skipped}");
                }
                if rule.name() == checked {
                    assert!(options.checks(rule), "{text}: {checked}");
                }
            }
            assert_eq!(options.error, error, "{text}");
        }
        for text in ["skip", "error=perhaps", "warn=all", "skip=a;;"] {
            assert!(CheckOptions::parse(text).is_err(), "{text}");
        }
    }
}
