//! Which findings are wanted: directives, comments, build arguments.

use super::*;

#[test]
fn s1_check_directive_comment_and_argument() {
    let wrong = "FROM a as b\nCMD x";
    let check = [("BUILDKIT_DOCKERFILE_CHECK", "skip=FromAsCasing")];
    for (head, args, expected) in [
        (
            "",
            &[][..],
            &[("FromAsCasing", 1), ("JSONArgsRecommended", 2)][..],
        ),
        (
            "# check=skip=FromAsCasing\n",
            &[],
            &[("JSONArgsRecommended", 3)],
        ),
        ("# check=skip=all\n", &[], &[]),
        ("# check=skip=all\n", &check, &[("JSONArgsRecommended", 3)]),
        // A comment below a blank line is no directive any more.
        ("\n# check=skip=all\n", &[], &[("JSONArgsRecommended", 4)]),
        (
            "\n# check=skip=nonsense;x\n",
            &[],
            &[("FromAsCasing", 3), ("JSONArgsRecommended", 4)],
        ),
    ] {
        let text = format!("{head}{wrong}");
        assert_eq!(
            names(&found_with(&text, args, "", None)),
            expected,
            "{head:?}"
        );
    }
}

#[test]
fn s1_check_options_that_are_wrong() {
    for text in ["# check=nope\nFROM a", "# check=error=perhaps\nFROM a"] {
        let dockerfile = parse(text).unwrap();
        let options = PlanOptions::default();
        let wrong = CheckOptions::of(&dockerfile, &options).unwrap_err();
        assert!(wrong.span().is_some(), "{text}");
    }
}

#[test]
fn s1_error_makes_findings_fatal() {
    let fatal = found_with("# check=error=true\nFROM a as b\nCMD x", &[], "", None);
    let violation = fatal.violation().unwrap().to_string();
    assert!(
        violation.contains("FromAsCasing, JSONArgsRecommended"),
        "{violation}"
    );
    assert!(
        found_with("# check=error=true\nFROM a", &[], "", None)
            .violation()
            .is_none()
    );
    assert!(
        found_with("FROM a as b", &[], "", None)
            .violation()
            .is_none()
    );
}
