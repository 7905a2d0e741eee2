//! The body of a heredoc reaches the instruction byte for byte, and survives printing and ONBUILD.

use super::print::print_instruction;
use super::text;
use crate::dockerfile::{Instruction, InstructionKind, parse, parse_onbuild_trigger};

/// The first byte chooses the form of the redirection, the rest is the body.
pub fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let mut body = text(rest).into_owned();
    if !body.is_empty() && !body.ends_with('\n') {
        body.push('\n');
    }
    let strip = choice & 1 != 0;
    let name = ["EOF", "a.sh", "x-1"][usize::from(choice >> 2) % 3];
    if body.lines().any(|line| ends(line, name, strip)) || longest_line(&body) > 65534 {
        return;
    }
    let dash = if strip { "-" } else { "" };
    let quote = if choice & 2 != 0 { "'" } else { "" };
    let word = format!("<<{dash}{quote}{name}{quote}");
    let quoted = !quote.is_empty();
    for form in [
        "RUN cat {}",
        "RUN {}",
        "COPY {} /d/",
        "ADD a {} /d/",
        "ONBUILD RUN {}",
    ] {
        let line = form.replace("{}", &word);
        let file = format!("FROM a\n{line}\n{body}{name}\nUSER end\n");
        let parsed = parse(&file).unwrap_or_else(|errors| panic!("{errors:?} in {file:?}"));
        assert_eq!(parsed.instructions.len(), 3, "{file:?}");
        check_body(&parsed.instructions[1], &body, strip, quoted);
    }
}

fn ends(line: &str, name: &str, strip: bool) -> bool {
    let line = line.trim_end_matches('\r');
    line == name || (strip && line.trim_start_matches('\t') == name)
}

fn longest_line(body: &str) -> usize {
    body.split('\n').map(str::len).max().unwrap_or(0)
}

fn check_body(instruction: &Instruction, body: &str, strip: bool, quoted: bool) {
    let [heredoc] = instruction.heredocs.as_slice() else {
        panic!("{} heredocs", instruction.heredocs.len());
    };
    assert_eq!(heredoc.body, body);
    assert_eq!(heredoc.expand, !quoted);
    let content = match strip {
        true => body
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect(),
        false => body.to_owned(),
    };
    assert_eq!(heredoc.content(), content);
    check_inline(instruction, &content);
    let mut printed = String::from("FROM a\n");
    print_instruction(instruction, '\\', &mut printed);
    let again = parse(&printed).unwrap_or_else(|errors| panic!("{errors:?} in {printed:?}"));
    assert_eq!(again.instructions[1].heredocs[0].body, body);
}

fn check_inline(instruction: &Instruction, content: &str) {
    match &instruction.kind {
        InstructionKind::Copy(transfer) => assert_eq!(transfer.inline[0].body, content),
        InstructionKind::Add(add) => assert_eq!(add.transfer.inline[0].body, content),
        InstructionKind::OnBuild(trigger) => {
            let replayed = parse_onbuild_trigger(&trigger.text);
            let replayed = replayed.unwrap_or_else(|error| panic!("{error}: {:?}", trigger.text));
            assert_eq!(replayed.heredocs[0].content(), content);
        }
        _ => {}
    }
}
