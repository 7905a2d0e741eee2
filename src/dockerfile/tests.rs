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
            for error in parse(&text).err().unwrap_or_default() {
                prop_assert!(!render(&error, "f", &text, false).is_empty());
            }
        }
    }
}
