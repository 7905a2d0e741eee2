//! S5, statement by statement: names, references, inheritance, platforms.

use super::*;
use crate::image::Platform;

fn plan(text: &str) -> Plan {
    plan_with(text, &options(&[], None)).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

fn target(text: &str, name: &str) -> Result<usize, String> {
    plan_with(text, &options(&[], Some(name)))
        .map(|plan| plan.target())
        .map_err(|errors| errors[0].to_string())
}

fn told(text: &str) -> String {
    let errors = plan_with(text, &options(&[], None)).unwrap_err();
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn s5_shape_of_from_and_names() {
    for (text, name) in [
        ("FROM a", None),
        ("FROM a AS b", Some("b")),
        ("from a as B-1_x.y", Some("b-1_x.y")),
    ] {
        assert_eq!(plan(text).stages()[0].name.as_deref(), name, "{text}");
    }
    for text in [
        "FROM",
        "FROM a b",
        "FROM a AS",
        "FROM a AS b c",
        "FROM a IS b",
        "FROM a AS 1",
        "FROM a AS _b",
        "FROM a AS b/c",
        "FROM a AS $b",
        "FROM a AS \u{e4}",
        "FROM a AS b:c",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn s5_reserved_names_are_names() {
    for name in ["scratch", "Context"] {
        let stage = &plan(&format!("FROM a AS {name}")).stages()[0].clone();
        assert_eq!(stage.name, Some(name.to_lowercase()));
    }
}

#[test]
fn s5_from_matches_the_lower_case_name_only() {
    assert_eq!(
        plan("FROM a AS Build\nFROM build").stages()[1].base,
        Base::Stage(0)
    );
    assert!(told("FROM a AS Build\nFROM Build").contains("write FROM build"));
    let image = plan("FROM a AS build\nFROM builder");
    assert!(
        matches!(&image.stages()[0].base, Base::Image { reference, .. } if reference == "builder")
    );
}

#[test]
fn s5_from_does_not_see_later_stages() {
    let plan = plan("FROM later AS first\nFROM a AS later\nFROM first");
    assert!(
        matches!(&plan.stage(0).unwrap().base, Base::Image { reference, .. } if reference == "later")
    );
}

#[test]
fn s5_other_references_match_in_any_case() {
    let text =
        "FROM a AS one\nFROM b AS two\nCOPY --from=ONE x y\nRUN --mount=from=One,target=/m x";
    assert_eq!(plan(text).stage(1).unwrap().depends_on, [0]);
    assert_eq!(target(text, "ONE"), Ok(0));
}

#[test]
fn s5_numbers_are_stages_for_copy_only() {
    let text = "FROM a\nFROM b\nCOPY --from=0 x y\nRUN --mount=from=0,target=/m x";
    let plan = plan(text);
    let stage = plan.stage(1).unwrap();
    assert_eq!(stage.depends_on, [0]);
    assert_eq!(stage.images, ["0"]);
    assert!(target(text, "0").unwrap_err().contains("not a number"));
    assert!(told("FROM a\nCOPY --from=1 x y").contains("there is no stage 1"));
    assert!(told("FROM a\nCOPY --from=0 x y").contains("itself"));
}

#[test]
fn s5_of_equal_names_the_last_counts() {
    let text = "FROM a AS x\nFROM x AS y\nFROM b AS X\nFROM x AS z\nCOPY --from=x p q";
    let plan = plan(text);
    assert_eq!(plan.stage(1).unwrap().base, Base::Stage(0));
    assert_eq!(plan.stage(3).unwrap().depends_on, [2]);
    assert_eq!(target(text, "x"), Ok(2));
}

#[test]
fn s5_what_is_no_stage_is_an_image() {
    let text = "FROM a\nCOPY --from=nginx x y\nRUN --mount=from=reg.example/r:1,target=/m x";
    assert_eq!(plan(text).stages()[0].images, ["nginx", "reg.example/r:1"]);
}

#[test]
fn s5_later_stages_and_itself_are_refused_before_anything_runs() {
    for (text, expected) in [
        ("FROM a AS x\nCOPY --from=x p q", "itself"),
        ("FROM a AS x\nRUN --mount=from=x,target=/m y", "itself"),
        (
            "FROM a AS x\nCOPY --from=y p q\nFROM a AS y\nFROM x",
            "defined after",
        ),
        ("FROM a AS x\nCOPY --from=y p q\nFROM x AS y", "itself"),
        (
            "FROM a AS x\nCOPY --from=2 p q\nFROM b\nFROM x AS y",
            "itself",
        ),
    ] {
        assert!(told(text).contains(expected), "{text}: {}", told(text));
    }
}

#[test]
fn s5_only_stages_that_the_target_needs_are_built() {
    let text = "FROM a AS one\nFROM b AS unused\nRUN x\nFROM c AS two\nCOPY --from=one p q\n\
                FROM unused AS also-unused\nFROM two";
    let plan = plan(text);
    let indices: Vec<usize> = plan.stages().iter().map(|stage| stage.index).collect();
    assert_eq!(indices, [0, 2, 4]);
    assert!(!plan.is_needed(1) && !plan.is_needed(3));
}

#[test]
fn s5_unneeded_stages_are_parsed_and_their_names_checked() {
    assert!(parse("FROM a\nNOPE\nFROM b").is_err());
    assert!(parse("FROM a AS 1x\nFROM b").is_err());
    assert!(told("ARG NO\nFROM $NO\nFROM b").contains("expands to nothing"));
    assert!(told("FROM a\nCOPY --from=7 x y\nFROM b").contains("there is no stage 7"));
    // What would only be wrong when it is built is not.
    plan("FROM a AS later\nCOPY --from=z x y\nFROM b AS z\nEXPOSE none\nFROM c");
}

#[test]
fn s5_a_child_has_all_of_its_parent_but_onbuild() {
    let text = "FROM a AS p\nENV E=1\nARG A=2\nWORKDIR /w\nUSER u\nSHELL [\"sh\"]\nLABEL l=1\n\
                EXPOSE 1\nVOLUME /v\nCMD c\nENTRYPOINT [\"e\"]\nSTOPSIGNAL 9\nONBUILD LABEL t=1\n\
                FROM p AS child\nFROM child AS grandchild";
    let plan = plan(text);
    let stages = plan.stages();
    let mut state = StageState::from_image(&plan, &stages[0], Some(&ImageConfig::default()));
    for instruction in &stages[0].instructions {
        state.apply(instruction).unwrap();
    }
    let parent = state.config().config.clone();
    let mut child = StageState::from_stage(&plan, &stages[1], &state);
    let triggers = child.triggers().unwrap();
    assert_eq!(triggers.len(), 1);
    child.apply(&triggers[0]).unwrap();
    let mut expected = parent;
    expected.on_build.clear();
    expected.labels.insert("t".into(), "1".into());
    assert_eq!(child.config().config, expected);
    assert_eq!(child.environment(), state.environment());
    let grandchild = StageState::from_stage(&plan, &stages[2], &child);
    assert!(grandchild.triggers().unwrap().is_empty());
    assert_eq!(grandchild.config().config, expected);
}

#[test]
fn s5_an_entrypoint_keeps_a_cmd_of_its_own_stage_only() {
    let text = "FROM a AS p\nCMD [\"c\"]\nFROM p\nENTRYPOINT [\"e\"]";
    let plan = plan(text);
    let stages = plan.stages();
    let mut parent = StageState::from_image(&plan, &stages[0], Some(&ImageConfig::default()));
    parent.apply(&stages[0].instructions[0]).unwrap();
    let mut child = StageState::from_stage(&plan, &stages[1], &parent);
    child.apply(&stages[1].instructions[0]).unwrap();
    assert_eq!(child.config().config.cmd, None);
}

#[test]
fn s5_platform_of_a_base() {
    let arm: Platform = "linux/arm64".parse().unwrap();
    let mut asked = options(&[], None);
    asked.platform = arm.clone();
    let text = "FROM a AS x\nFROM --platform=linux/s390x b AS y\nCOPY --from=x p q\nFROM y\n\
                COPY --from=y p q\nFROM --platform=$TARGETPLATFORM d\nCOPY --from=2 p q";
    let plan = plan_with(text, &asked).unwrap();
    let platforms: Vec<String> = plan
        .stages()
        .iter()
        .map(|s| s.platform.to_string())
        .collect();
    assert_eq!(
        platforms,
        ["linux/arm64", "linux/s390x", "linux/s390x", "linux/arm64"]
    );
}

#[test]
fn s5_the_result_is_of_the_platform_that_was_asked_for() {
    let amd = base(r#"{"os":"linux","architecture":"amd64"}"#);
    for (explicit, expected) in [(true, "arm64"), (false, "amd64")] {
        let mut asked = options(&[], None);
        asked.platform = "linux/arm64".parse().unwrap();
        asked.platform_explicit = explicit;
        let plan = plan_with("FROM a", &asked).unwrap();
        let state = StageState::from_image(&plan, &plan.stages()[0], Some(&amd));
        assert_eq!(state.config().architecture, expected);
    }
}
