//! A parsed Dockerfile as text again.

use crate::dockerfile::{Dockerfile, Instruction};

/// A Dockerfile that parses to the same directives and instructions: every instruction on one line,
/// no comments.
pub fn print(dockerfile: &Dockerfile) -> String {
    let mut text = String::new();
    let directives = &dockerfile.directives;
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(value) = value {
            text.push_str(&format!("# {name}={}\n", value.value));
        }
    }
    let escape = directives.escape;
    if escape != '\\' {
        text.push_str(&format!("# escape={escape}\n"));
    }
    for instruction in &dockerfile.instructions {
        print_instruction(instruction, escape, &mut text);
    }
    text
}

/// The instruction and the bodies of its heredocs.
pub fn print_instruction(instruction: &Instruction, escape: char, text: &mut String) {
    text.push_str(&instruction.text);
    // What ends with an escape character was followed by white space other than a space or a tab, or
    // it would have been continued.
    if instruction.text.ends_with(escape) {
        text.push('\u{b}');
    }
    text.push('\n');
    for heredoc in &instruction.heredocs {
        text.push_str(&heredoc.body);
        text.push_str(&heredoc.name);
        text.push('\n');
    }
}
