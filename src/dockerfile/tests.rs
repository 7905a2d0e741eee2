//! Tests of whole files, by section of the specification.

use proptest::prelude::*;

use super::*;

fn only(text: &str) -> Instruction {
    let parsed = parse(&format!("FROM a\n{text}")).unwrap();
    assert_eq!(parsed.instructions.len(), 2, "{text:?}");
    parsed.instructions[1].clone()
}

fn shell_text(instruction: &Instruction) -> &str {
    match &instruction.kind {
        InstructionKind::Run(run) => match &run.command {
            CommandLine::Shell(text) => &text.value,
            CommandLine::Exec(_) => panic!("exec form"),
        },
        _ => panic!("no RUN"),
    }
}

#[test]
fn s1_lines_and_continuations() {
    for (text, expected, last) in [
        ("RUN a", "a", 2),
        ("  run a  \r\n", "a", 2),
        ("RUN a \\\n  b", "a   b", 3),
        ("RUN a\\\nb", "ab", 3),
        (
            "RUN a \\  \n# comment\n\n   # another\n  b # c",
            "a   b # c",
            6,
        ),
        ("RUN a\\\\", "a\\\\", 2),
        ("RUN a \\", "a", 2),
        ("RUN a \\\r\nb\r\n", "a b", 3),
        ("RUN\ta", "a", 2),
        ("R\\\nUN a", "a", 3),
    ] {
        let instruction = only(text);
        assert_eq!(shell_text(&instruction), expected, "{text:?}");
        assert_eq!(instruction.lines, Lines { first: 2, last }, "{text:?}");
    }
}

#[test]
fn s1_byte_order_mark_and_spans() {
    let text = "\u{feff}FROM a\nRUN x \\\n y";
    let parsed = parse(text).unwrap();
    assert_eq!(&text[parsed.instructions[0].span.range()], "FROM a");
    assert_eq!(&text[parsed.instructions[1].span.range()], "RUN x \\\n y");
    assert_eq!(parsed.instructions[1].text, "RUN x  y");
}

#[test]
fn s1_command_forms() {
    for (text, exec) in [
        ("CMD [\"a\", \"b\"]", Some(vec!["a", "b"])),
        ("CMD []", Some(vec![])),
        ("CMD [\"a\"] b", None),
        ("CMD ['a']", None),
        ("CMD", None),
    ] {
        let InstructionKind::Cmd(command) = only(text).kind else {
            panic!("{text}");
        };
        match (command, exec) {
            (CommandLine::Exec(argv), Some(exec)) => assert_eq!(argv.value, exec),
            (CommandLine::Shell(_), None) => {}
            (command, _) => panic!("{text}: {command:?}"),
        }
    }
}

#[test]
fn s1_all_errors_of_a_file_are_told() {
    let text = "FROM a b\nRNU x\nCOPY a\nENV\nRUN ok\nSHELL x\nUSER\n";
    assert_eq!(parse(text).unwrap_err().len(), 6);
}

#[test]
fn s1_refused() {
    for text in [
        "",
        "\n# x\n",
        "ARG A",
        "RUN x\nFROM a",
        "FROM",
        "FROM a as",
        "FROM a AS b/c",
        "FROM a AS $x",
        "FROM a\nCOPY x",
        "FROM a\nVOLUME",
        "FROM a\nRUN []",
        "FROM a\nRUN [1]",
        "FROM a\nENV a",
        "FROM a\nENV =b",
        "FROM a\nARG =b",
        "FROM a\nARG",
        "FROM a\nONBUILD",
        "FROM a\nONBUILD ONBUILD RUN x",
        "FROM a\nONBUILD FROM x",
        "FROM a\nONBUILD MAINTAINER x",
        "FROM a\nHEALTHCHECK NONE x",
        "FROM a\nHEALTHCHECK CMD",
        "FROM a\nHEALTHCHECK x",
        "FROM a\nSHELL []",
        "FROM a\nCOPY x <<EOF\nEOF",
        "FROM a\nRUN --network=x y",
        "FROM a\nHEALTHCHECK --retries=-1 CMD x",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
    let long = |bytes: usize| format!("FROM a\nRUN {}\n", "x".repeat(bytes - 4));
    assert!(parse(&long(65535)).is_ok());
    assert!(parse(&long(65536)).is_err());
}

#[test]
fn s1_keywords_in_any_case() {
    for text in [
        "FROM a\nWorkDir x",
        "from a\nworkdir\u{b}x",
        "fRoM a\nWORKDIR\u{c}x",
    ] {
        let parsed = parse(text).unwrap();
        assert!(
            matches!(parsed.instructions[1].kind, InstructionKind::Workdir(_)),
            "{text:?}"
        );
    }
    // The dotless i has an upper case that is no keyword's.
    assert!(parse("FROM a\nWORKD\u{131}R x").is_err());
}

#[test]
fn s1_an_unknown_instruction_is_told_with_its_line_and_the_nearest() {
    let text = "FROM a\n\nENTRYPONT x\n";
    let errors = parse(text).unwrap_err();
    let shown = render(&errors[0], "Dockerfile", text, false);
    assert!(shown.contains("Dockerfile:3:1"), "{shown}");
    assert!(shown.contains("did you mean ENTRYPOINT?"), "{shown}");
}

#[test]
fn s1_a_number_sign_is_a_comment_only_at_the_start_of_a_line() {
    assert_eq!(shell_text(&only("RUN a # b")), "a # b");
    assert_eq!(shell_text(&only("  # c\n  RUN a \\\n  # d\n  b")), "a   b");
    assert_eq!(shell_text(&only("RUN #a")), "#a");
}

#[test]
fn s1_comments_directly_above_belong_to_an_instruction() {
    for (above, expected) in [
        ("# one\n#two  \n", vec!["one", "two"]),
        ("# one\n\n# two\n", vec!["two"]),
        ("# one\n\n", vec![]),
        ("   # one\r\n", vec!["one"]),
        ("#\n", vec![""]),
        ("# syntax=x\n# one\n", vec!["one"]),
    ] {
        let text = format!("{above}FROM a AS b\nRUN x");
        let parsed = parse(&text).unwrap();
        let comments = &parsed.instructions[0].comments;
        let texts: Vec<&str> = comments
            .iter()
            .map(|comment| comment.value.as_str())
            .collect();
        assert_eq!(texts, expected, "{text:?}");
        for comment in comments {
            assert_eq!(&text[comment.span.range()], comment.value);
        }
        assert!(parsed.instructions[1].comments.is_empty());
    }
    // Comments inside a continuation are nobody's.
    assert!(only("RUN a \\\n# c\n b").comments.is_empty());
}

#[test]
fn s1_the_first_word_of_a_comment_makes_it_a_description() {
    for (above, expected) in [
        ("# A is it", Some("is it")),
        ("# A is it\n# more", Some("is it")),
        ("# B is it\n# A   too", Some("too")),
        ("# a is it", None),
        ("# AB is it", None),
        ("# A", None),
    ] {
        let parsed = parse(&format!("{above}\nARG A\nFROM x")).unwrap();
        assert_eq!(
            parsed.instructions[0].description("A"),
            expected,
            "{above:?}"
        );
    }
}

#[test]
fn s1_flags_stand_before_arguments() {
    let flags = |text: &str| -> Vec<String> {
        let flags = only(text).flags;
        flags.into_iter().map(|flag| flag.value).collect()
    };
    assert_eq!(flags("COPY --link --from=x a b"), ["--link", "--from=x"]);
    assert_eq!(flags("COPY a --link b"), Vec::<String>::new());
    assert_eq!(
        flags("RUN --network='none' -- --mount=x"),
        ["--network=none"]
    );
}

#[test]
fn s1_argument_shapes() {
    let arguments = |text: &str| {
        let text = format!("FROM a\n{text}");
        let told = dump(&parse(&text).unwrap(), &text);
        without_spans(&told["instructions"][1]["arguments"]).to_string()
    };
    for (text, expected) in [
        ("USER a  b ", r#"{"value":"a  b"}"#),
        ("STOPSIGNAL a b", r#"{"value":"a b"}"#),
        ("MAINTAINER a \"b\"", r#"{"value":"a \"b\""}"#),
        ("EXPOSE 1  2", r#"{"values":["1","2"]}"#),
        ("VOLUME \"a b\"", r#"{"values":["\"a","b\""]}"#),
        ("VOLUME [\"a b\"]", r#"{"values":["a b"]}"#),
        (
            "ADD [\"a b\", \"c\"]",
            r#"{"destination":"c","inline":[],"sources":["a b"]}"#,
        ),
        (
            "ENV a  b  c",
            r#"{"legacy":true,"pairs":[{"key":"a","value":"b  c"}]}"#,
        ),
        (
            "LABEL a=\"b c\"",
            r#"{"legacy":false,"pairs":[{"key":"a","value":"\"b c\""}]}"#,
        ),
        (
            "ARG a='x y' b",
            r#"{"items":[{"default":"'x y'","name":"a"},{"default":null,"name":"b"}]}"#,
        ),
        (
            "SHELL [\"a\", \"-c\"]",
            r#"{"command":["a","-c"],"form":"json"}"#,
        ),
        ("RUN  [\"a\" ]", r#"{"command":["a"],"form":"json"}"#),
        ("ENTRYPOINT a  b", r#"{"command":"a  b","form":"shell"}"#),
        (
            "HEALTHCHECK cmd [\"a\"]",
            r#"{"command":["a"],"form":"json","type":"CMD"}"#,
        ),
        ("HEALTHCHECK NONE", r#"{"type":"NONE"}"#),
    ] {
        assert_eq!(arguments(text), expected, "{text:?}");
    }
}

/// `{"value": …, "span": …}` as the value alone, and no other spans.
fn without_spans(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(members) => {
            let mut members = members.clone();
            members.remove("span");
            let is_text = members.len() == 1 && members.get("value").is_some_and(|v| v.is_string());
            match members.get("value") {
                Some(text) if is_text && value.get("span").is_some() => text.clone(),
                _ => members
                    .iter()
                    .map(|(key, value)| (key.clone(), without_spans(value)))
                    .collect(),
            }
        }
        serde_json::Value::Array(items) => items.iter().map(without_spans).collect(),
        other => other.clone(),
    }
}

#[test]
fn s1_only_arg_before_the_first_from() {
    assert_eq!(
        parse("ARG A\nARG B=1\nFROM $A").unwrap().instructions.len(),
        3
    );
    let errors = parse("ENV A=1\nFROM a").unwrap_err();
    assert!(
        errors[0]
            .to_string()
            .contains("only ARG may come before FROM")
    );
}

#[test]
fn s1_the_escape_character_of_lines_and_words() {
    let text = "# escape=`\nFROM a\nRUN a `\n b\nCOPY c:\\ d`\n";
    let parsed = parse(text).unwrap();
    assert_eq!(parsed.instructions[1].text, "RUN a  b");
    assert_eq!(parsed.instructions[2].text, "COPY c:\\ d");
    let flag = parse("# escape=`\nFROM a\nRUN --network=n`one x").unwrap();
    assert_eq!(flag.instructions[1].flags[0].value, "--network=none");
}

#[test]
fn s2_only_some_instructions_have_heredocs() {
    for (text, count) in [
        ("FROM a\nRUN <<E\nE\n", 1),
        ("FROM a\nCOPY <<E <<F /x\nE\nF\n", 2),
        ("FROM a\nADD <<E /x\nE\n", 1),
        ("FROM a\nONBUILD ADD <<E /x\nE\n", 1),
        ("FROM a\nENV a=<<E\n", 0),
        ("FROM a\nCMD cat <<E\n", 0),
        ("FROM a\nONBUILD CMD cat <<E\n", 0),
        ("FROM a\nCOPY [\"<<E\", \"/x\"]\n", 0),
    ] {
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.instructions[1].heredocs.len(), count, "{text:?}");
    }
}

#[test]
fn s2_the_body_is_raw_up_to_the_delimiter() {
    for (text, body) in [
        ("RUN <<E\n# a\n\n b \\\nE\n", "# a\n\n b \\\n"),
        ("RUN <<E\nE x\n E\nE\n", "E x\n E\n"),
        ("RUN <<-E\n\ta\n\t\tE\n", "\ta\n"),
        ("RUN <<E\nE", ""),
        ("RUN <<'E F'\nx\nE F\n", "x\n"),
        ("RUN cat \\\n <<E\nx\nE\n", "x\n"),
    ] {
        assert_eq!(only(text).heredocs[0].body, body, "{text:?}");
    }
    assert!(parse("FROM a\nRUN <<E\nx\n E\n").is_err());
}

#[test]
fn s2_a_heredoc_is_a_source_and_no_destination() {
    let InstructionKind::Copy(copy) = only("COPY a <<E <<-\"F\" /d/\n$x\nE\n\ty\nF\n").kind else {
        panic!("no COPY");
    };
    assert_eq!(copy.sources.len(), 1);
    let files: Vec<_> = copy
        .inline
        .iter()
        .map(|file| (file.name.value.as_str(), file.body.as_str(), file.expand))
        .collect();
    assert_eq!(files, [("E", "$x\n", true), ("F", "y\n", false)]);
    assert!(parse("FROM a\nCOPY a <<E\nE\n").is_err());
}

#[test]
fn s2_run_is_one_heredoc_or_text_with_some() {
    for (text, expected) in [
        ("RUN <<E\nx\nE", true),
        ("RUN --network=none <<E\nx\nE", true),
        ("RUN <<E sh\nx\nE", false),
        ("RUN cat <<E\nx\nE", false),
        ("RUN <<E <<F\nE\nF", false),
    ] {
        let InstructionKind::Run(run) = only(text).kind else {
            panic!("no RUN");
        };
        assert_eq!(run.is_heredoc, expected, "{text:?}");
    }
}

#[test]
fn s2_heredocs_end_where_they_should() {
    let text = "FROM a\nRUN cat <<-A <<B\n\tone\n\tA\ntwo \\\n# three\nB\nUSER x";
    let parsed = parse(text).unwrap();
    assert_eq!(parsed.instructions.len(), 3);
    let run = &parsed.instructions[1];
    assert_eq!(run.heredocs[0].content(), "one\n");
    assert_eq!(run.heredocs[1].body, "two \\\n# three\n");
    assert_eq!(run.lines, Lines { first: 2, last: 7 });
    let crlf = parse("FROM a\r\nCOPY <<A /\r\nx\r\nA\r\n").unwrap();
    assert_eq!(crlf.instructions[1].heredocs[0].body, "x\r\n");
    let json = parse("FROM a\nRUN [\"cat\", \"<<A\"]\nUSER x").unwrap();
    assert_eq!(json.instructions.len(), 3);
}

#[test]
fn s10_onbuild_text() {
    let InstructionKind::OnBuild(trigger) = only("ONBUILD COPY <<A \\\n /d\n x\nA\n").kind else {
        panic!("no ONBUILD");
    };
    assert_eq!(trigger.text, "COPY <<A  /d\n x\nA");
    let parsed = parse_onbuild_trigger(&trigger.text).unwrap();
    assert_eq!(parsed.heredocs[0].body, " x\n");
    for text in ["", "ONBUILD RUN x", "FROM a", "RUN a\nRUN b", "NOPE"] {
        let error = parse_onbuild_trigger(text).unwrap_err();
        assert_eq!(error.trigger.as_deref(), Some(text));
    }
}

#[test]
fn a_file_of_a_thousand_lines() {
    let text = format!("FROM a\n{}", "RUN echo \\\n  hello\n".repeat(500));
    let parsed = parse(&text).unwrap();
    assert_eq!(parsed.instructions.len(), 501);
    let lines = Lines {
        first: 1000,
        last: 1001,
    };
    assert_eq!(parsed.instructions[500].lines, lines);
}

const LINE: &str = "(FROM|RUN|COPY|ADD|ENV|ARG|ONBUILD|ONBUILD RUN|HEALTHCHECK|SHELL|CMD|#|# escape=`)\
                    [ \\ta-z$\\{\\}<\"'\\\\\\[\\]=,`#\u{e9}-]{0,30}";

proptest! {
    #[test]
    fn s1_never_panics(lines in proptest::collection::vec(LINE, 0..8), free in ".{0,80}") {
        for text in [lines.join("\n"), free.clone(), format!("FROM a\nRUN {free}\n")] {
            match parse(&text) {
                Ok(parsed) => {
                    let told = dump(&parsed, &text);
                    let instructions = told["instructions"].as_array().map(Vec::len);
                    prop_assert_eq!(instructions, Some(parsed.instructions.len()));
                    if let Some(form) = normalised(&parsed) {
                        let again = parse(&form).map(|again| normalised(&again));
                        prop_assert_eq!(again, Ok(Some(form)));
                    }
                }
                Err(errors) => {
                    for error in errors {
                        prop_assert!(!render(&error, "f", &text, false).is_empty());
                    }
                }
            }
        }
    }
}
