//! Each rule on files that break it and files that do not.

mod answers;
mod choices;

use super::*;
use crate::dockerfile::parse;
use crate::plan::PlanOptions;

/// Among the arguments: look at stages that the target does not need, too.
const EVERY_STAGE: (&str, &str) = ("every stage", "");

fn found_with(
    text: &str,
    args: &[(&str, &str)],
    ignore: &str,
    base: Option<ImageConfig>,
) -> Report {
    let dockerfile = parse(text).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"));
    let amd64: Platform = "linux/amd64".parse().unwrap();
    let pairs = args
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    let options = PlanOptions {
        platform: amd64.clone(),
        build_platform: amd64,
        build_args: pairs.collect(),
        ..PlanOptions::default()
    };
    let plan = Plan::new(&dockerfile, &options).ok();
    let ignore = IgnoreFile::parse(ignore).unwrap();
    let request = Request {
        dockerfile: &dockerfile,
        options: &options,
        plan: plan.as_ref(),
        all_stages: args.contains(&EVERY_STAGE),
        ignore: Some(&ignore),
        bases: &|_, _| base.clone(),
    };
    check(&request).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn names(report: &Report) -> Vec<(&'static str, usize)> {
    let found = report.findings.iter();
    found
        .map(|finding| (finding.rule.name(), finding.lines.first))
        .collect()
}

fn rows(rule: Rule, rows: &[(&str, &[usize])]) {
    for (text, lines) in rows {
        let report = found_with(text, &[], "", None);
        let found: Vec<usize> = names(&report)
            .into_iter()
            .filter(|(name, _)| *name == rule.name())
            .map(|(_, line)| line)
            .collect();
        assert_eq!(found, *lines, "{rule:?} {text:?}");
    }
}

#[test]
fn s15_stage_name_casing() {
    rows(
        Rule::StageNameCasing,
        &[
            ("FROM a AS Build", &[1]),
            ("FROM a AS build", &[]),
            ("FROM a", &[]),
            ("FROM A AS \\\n  Build", &[1]),
        ],
    );
}

#[test]
fn s15_from_as_casing() {
    rows(
        Rule::FromAsCasing,
        &[
            ("FROM a as b", &[1]),
            ("from a AS b", &[1]),
            ("FROM a AS b\nfrom a as c", &[]),
            ("From a as b", &[]),
            ("FROM a As b", &[1]),
        ],
    );
}

#[test]
fn s15_no_empty_continuation() {
    rows(
        Rule::NoEmptyContinuation,
        &[
            ("FROM a\nRUN x \\\n\n\n y", &[2]),
            ("FROM a\nRUN x \\\n# c\n y\n\nRUN z", &[]),
            ("FROM a\nRUN <<E\n\nE", &[]),
        ],
    );
}

#[test]
fn s15_consistent_instruction_casing() {
    rows(
        Rule::ConsistentInstructionCasing,
        &[
            ("FROM a\nrun x", &[2]),
            ("from a\nrun x\nUSER y", &[3]),
            ("FROM a\nRun x\nUSER y", &[2]),
            ("arg A\nFROM a\nRUN x", &[]),
            ("from a\nonbuild RUN x", &[]),
        ],
    );
}

#[test]
fn s15_stage_names() {
    rows(
        Rule::DuplicateStageName,
        &[
            ("FROM a AS x\nFROM b AS X", &[2]),
            ("FROM a AS x\nFROM b AS y\nFROM c\nFROM d", &[]),
        ],
    );
    rows(
        Rule::ReservedStageName,
        &[
            ("FROM a AS scratch", &[1]),
            ("FROM a AS Context", &[1]),
            ("FROM scratch AS b", &[]),
        ],
    );
}

#[test]
fn s15_json_args_recommended() {
    rows(
        Rule::JSONArgsRecommended,
        &[
            ("FROM a\nCMD x y", &[2]),
            ("FROM a\nENTRYPOINT x", &[2]),
            ("FROM a\nCMD [\"x\"]\nENTRYPOINT []", &[]),
            ("FROM a\nSHELL [\"bash\"]\nCMD x", &[]),
            ("FROM a AS b\nSHELL [\"bash\"]\nFROM b\nCMD x", &[]),
            ("FROM a\nRUN x\nHEALTHCHECK CMD x", &[]),
            ("FROM a\nCMD x\nFROM b", &[]),
        ],
    );
    let mut config = ImageConfig::default();
    config.config.shell = Some(vec!["bash".into()]);
    (config.os, config.architecture) = ("linux".into(), "amd64".into());
    assert!(
        found_with("FROM a\nCMD x", &[], "", Some(config))
            .findings
            .is_empty()
    );
}

#[test]
fn s15_maintainer_deprecated() {
    rows(
        Rule::MaintainerDeprecated,
        &[
            ("FROM a\nMAINTAINER me", &[2]),
            ("FROM a\nLABEL maintainer=me", &[]),
        ],
    );
}

#[test]
fn s15_undefined_arg_in_from() {
    rows(
        Rule::UndefinedArgInFrom,
        &[
            ("FROM a:${V}", &[1]),
            ("ARG V\nFROM a:${V}", &[]),
            ("FROM --platform=$BUILDPLATFROM a", &[1]),
            ("FROM --platform=$BUILDPLATFORM a", &[]),
            ("FROM a\nARG V\nFROM a:$V", &[3]),
            ("FROM ${V:-a}", &[1]),
        ],
    );
    let report = found_with("ARG VERSION=1\nFROM a:$VERSON", &[], "", None);
    let told = &report
        .findings
        .iter()
        .find(|f| f.rule == Rule::UndefinedArgInFrom);
    assert!(told.unwrap().detail.contains("did you mean VERSION?"));
}

#[test]
fn s15_workdir_relative_path() {
    rows(
        Rule::WorkdirRelativePath,
        &[
            ("FROM a\nWORKDIR x", &[2]),
            ("FROM a\nWORKDIR x\nWORKDIR y", &[2]),
            ("FROM a\nWORKDIR /x\nWORKDIR y", &[]),
            ("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y", &[]),
            ("FROM a\nWORKDIR $HOME", &[]),
            ("FROM scratch\nWORKDIR $NOPE", &[2]),
            ("FROM a\nENV P=/x\nWORKDIR $P", &[]),
            ("FROM a\nONBUILD WORKDIR x", &[]),
        ],
    );
}

#[test]
fn s15_undefined_var_where_the_base_is_known() {
    rows(
        Rule::UndefinedVar,
        &[
            ("FROM scratch\nENV A=$B", &[2]),
            ("FROM scratch\nARG B\nENV A=$B", &[]),
            ("FROM scratch\nENV A=1 B=$A", &[2]),
            ("FROM scratch\nARG A=1 B=$A", &[]),
            ("FROM scratch\nARG A=$B B", &[2]),
            ("FROM scratch\nENV PATH=$PATH:/x", &[]),
            ("FROM scratch\nRUN echo $x", &[]),
            ("FROM scratch\nRUN --mount=type=cache,target=$x y", &[2]),
            ("FROM scratch\nCOPY <<E /x\n$y\nE", &[2]),
            ("FROM scratch\nCOPY <<'E' /x\n$y\nE", &[]),
            ("FROM scratch\nCOPY --chown=$u $a $b /", &[2, 2, 2]),
            ("FROM scratch\nCOPY $a $a /", &[2]),
            ("FROM scratch\nUSER \\$x\nLABEL a='$b'", &[]),
            ("FROM scratch AS b\nARG X\nFROM b\nUSER $X", &[]),
            (
                "FROM scratch AS b\nFROM scratch\nARG X\nFROM b\nUSER $X",
                &[5],
            ),
            ("FROM scratch\nONBUILD USER $x", &[]),
            ("FROM scratch\nUSER $BUILDKIT_SBOM_SCAN_STAGE", &[]),
            ("FROM scratch\nUSER ${x:-root}", &[2]),
        ],
    );
    let report = found_with("FROM scratch\nENV VERSION=1\nUSER $VERSON", &[], "", None);
    assert!(report.findings[0].detail.contains("did you mean $VERSION?"));
}

#[test]
fn s15_a_default_that_is_replaced_is_not_expanded() {
    let text = "FROM scratch\nARG A=$B";
    assert_eq!(
        names(&found_with(text, &[], "", None)),
        [("UndefinedVar", 2)]
    );
    assert_eq!(names(&found_with(text, &[("A", "1")], "", None)), []);
}

#[test]
fn s15_undefined_var_needs_the_bases_environment() {
    let text = "FROM a\nENV A=$B\nUSER $$x";
    // `$$` is no variable of any image.
    assert_eq!(
        names(&found_with(text, &[], "", None)),
        [("UndefinedVar", 3)]
    );
    let mut config = ImageConfig::default();
    (config.os, config.architecture) = ("linux".into(), "amd64".into());
    let known = found_with(text, &[], "", Some(config.clone()));
    assert_eq!(names(&known), [("UndefinedVar", 2), ("UndefinedVar", 3)]);
    config.config.env = vec!["B=1".into()];
    let known = found_with("FROM a\nENV A=$B", &[], "", Some(config));
    assert_eq!(names(&known), []);
}

#[test]
fn s15_multiple_instructions_disallowed() {
    rows(
        Rule::MultipleInstructionsDisallowed,
        &[
            ("FROM a\nCMD [\"a\"]\nCMD [\"b\"]\nCMD [\"c\"]", &[2, 3]),
            ("FROM a\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]", &[2]),
            ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD x", &[2]),
            ("FROM a AS b\nCMD [\"a\"]\nFROM b\nCMD [\"b\"]", &[]),
        ],
    );
}

#[test]
fn s15_legacy_key_value_format() {
    rows(
        Rule::LegacyKeyValueFormat,
        &[
            ("FROM a\nENV A b c", &[2]),
            ("FROM a\nLABEL A b", &[2]),
            ("FROM a\nENV A=b\nLABEL \"x y\"=z", &[]),
        ],
    );
}

#[test]
fn s15_invalid_base_image_platform() {
    let mut config = ImageConfig::default();
    (config.os, config.architecture) = ("linux".into(), "arm64".into());
    let text = "FROM a\nCOPY --from=b /x /y\nFROM scratch\nCOPY --from=0 / /";
    let expected = ["InvalidBaseImagePlatform"; 2].into_iter().zip([1, 2]);
    let found = found_with(text, &[], "", Some(config.clone()));
    assert_eq!(names(&found), expected.collect::<Vec<_>>());
    config.architecture = "amd64".into();
    assert_eq!(names(&found_with(text, &[], "", Some(config))), []);
    assert_eq!(names(&found_with(text, &[], "", None)), []);
}

#[test]
fn s15_platform_flags() {
    rows(
        Rule::RedundantTargetPlatform,
        &[
            ("FROM --platform=$TARGETPLATFORM a", &[1]),
            ("FROM --platform=${TARGETPLATFORM} a", &[1]),
            ("FROM --platform=$BUILDPLATFORM a", &[]),
            ("FROM --platform=$TARGETOS/$TARGETARCH a", &[]),
        ],
    );
    rows(
        Rule::FromPlatformFlagConstDisallowed,
        &[
            ("FROM --platform=linux/amd64 a", &[1]),
            ("FROM --platform=linux/amd64 a AS build-amd64", &[]),
            ("FROM --platform=linux/amd64 a AS linux", &[]),
            ("FROM --platform=$BUILDPLATFORM a", &[]),
        ],
    );
}

#[test]
fn s15_secrets_used_in_arg_or_env() {
    rows(
        Rule::SecretsUsedInArgOrEnv,
        &[
            ("FROM a\nARG API_TOKEN\nENV PASSWORD=x", &[2, 3]),
            ("FROM a\nENV A=1 B_KEY=2 PUBLIC_KEY=3", &[2]),
            ("ARG TOKEN\nFROM a\nLABEL TOKEN=x", &[]),
        ],
    );
}

#[test]
fn s15_invalid_default_arg_in_from() {
    rows(
        Rule::InvalidDefaultArgInFrom,
        &[
            ("ARG V\nFROM a:$V", &[2]),
            ("ARG V\nFROM $V", &[2]),
            ("ARG V=1\nFROM a:$V", &[]),
            ("ARG V\nFROM a:${V:-1}", &[]),
            ("FROM a", &[]),
        ],
    );
    let given = found_with("ARG V\nFROM a:$V", &[("V", "1")], "", None);
    assert_eq!(names(&given), [("InvalidDefaultArgInFrom", 2)]);
}

#[test]
fn s15_copy_ignored_file() {
    for (ignore, text, lines) in [
        ("x\n", "FROM a\nCOPY x /", &[2][..]),
        ("x\n", "FROM a\nADD ./x/y /", &[2]),
        ("x\n", "FROM a\nCOPY y /", &[]),
        ("x\n!x/y\n", "FROM a\nCOPY x /", &[]),
        ("x\n", "FROM a AS b\nFROM a\nCOPY --from=b x /", &[]),
        ("*.txt\n", "FROM a\nCOPY *.txt /", &[2]),
        ("x\n", "FROM a\nADD https://h/x /", &[]),
        ("x\n", "FROM a\nENV N=x\nCOPY $N /", &[3]),
        ("x\n", "FROM a\nCOPY x$UNKNOWN /", &[]),
        ("*\n", "FROM a\nCOPY . /", &[2]),
        ("x\n", "FROM a\nCOPY . /", &[]),
    ] {
        let report = found_with(text, &[], ignore, None);
        let expected: Vec<_> = lines
            .iter()
            .map(|line| ("CopyIgnoredFile", *line))
            .collect();
        assert_eq!(names(&report), expected, "{ignore:?} {text:?}");
    }
}

#[test]
fn s15_invalid_definition_description_is_experimental() {
    let rule = "InvalidDefinitionDescription";
    for (text, lines) in [
        ("# about it\nFROM a AS b", &[][..]),
        ("# check=experimental=all\n\n# about it\nFROM a AS b", &[4]),
        ("# check=experimental=all\n\n# b is it\nFROM a AS b", &[]),
        ("# check=experimental=all\n\n# about it\nFROM a", &[]),
        ("# check=experimental=all\n\n# about it\n\nFROM a AS b", &[]),
        ("# check=experimental=all\nFROM a AS b", &[]),
        (
            "# check=experimental=InvalidDefinitionDescription\n\n# x\nARG A=a B\nFROM $A",
            &[4],
        ),
    ] {
        let expected: Vec<_> = lines.iter().map(|line| (rule, *line)).collect();
        assert_eq!(
            names(&found_with(text, &[], "", None)),
            expected,
            "{text:?}"
        );
    }
}

#[test]
fn s15_expose() {
    rows(
        Rule::ExposeProtoCasing,
        &[
            ("FROM a\nEXPOSE 80/TCP 81", &[2]),
            ("FROM a\nEXPOSE 80/tcp", &[]),
        ],
    );
    rows(
        Rule::ExposeInvalidFormat,
        &[
            ("FROM a\nEXPOSE 8080:80", &[2]),
            ("FROM a\nEXPOSE 127.0.0.1:80:80", &[2]),
            ("FROM a\nENV P=8080:80\nEXPOSE $P", &[3]),
            ("FROM a\nEXPOSE 80 81-90/udp $P", &[]),
        ],
    );
}

#[test]
fn certain_mistakes_are_told_without_a_base() {
    for (text, expected) in [
        ("FROM a\nEXPOSE $P", 0),
        ("FROM a\nUSER ${X:?}", 0),
        ("FROM scratch\nUSER ${X:?}", 1),
    ] {
        let report = found_with(text, &[], "", None);
        assert_eq!(
            report.mistakes.len(),
            expected,
            "{text:?}: {:?}",
            report.mistakes
        );
    }
}

#[test]
fn stages_that_the_target_does_not_need() {
    let text = "FROM a AS x\nCMD x\nEXPOSE 99999\nFROM x AS y\nWORKDIR z\nFROM b\nCMD y";
    let needed = found_with(text, &[], "", None);
    assert_eq!(names(&needed), [("JSONArgsRecommended", 7)]);
    assert!(needed.mistakes.is_empty());
    let all = found_with(text, &[EVERY_STAGE], "", None);
    let expected = [
        ("JSONArgsRecommended", 2),
        ("WorkdirRelativePath", 5),
        ("JSONArgsRecommended", 7),
    ];
    assert_eq!(names(&all), expected);
    assert_eq!(all.mistakes.len(), 1);
}

#[test]
fn a_file_without_a_plan_is_checked_as_far_as_it_goes() {
    let report = found_with("ARG V\nFROM $V as x\nMAINTAINER me", &[], "", None);
    let expected = [
        ("FromAsCasing", 2),
        ("InvalidDefaultArgInFrom", 2),
        ("MaintainerDeprecated", 3),
    ];
    assert_eq!(names(&report), expected);
}
