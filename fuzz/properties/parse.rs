//! A file parses to the same instructions when it is printed, and its errors can be shown anywhere.

use super::print::print;
use super::{text, without_places};
use crate::dockerfile::{Diagnostic, Dockerfile, Span, parse, render};

/// The longest line of the language; what was written on several may be longer on one.
const LONGEST_LINE: usize = 65535;

/// How long a diagnostic may be: some lines, each cut to a width.
const LONGEST_DIAGNOSTIC: usize = 16 << 10;

/// Checks one file.
pub fn check(data: &[u8]) {
    let text = text(data);
    match parse(&text) {
        Ok(dockerfile) => {
            check_places(&dockerfile, &text);
            check_print(&dockerfile);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "an error that says nothing");
            check_shown(&errors, &text);
        }
    }
}

fn check_places(dockerfile: &Dockerfile, text: &str) {
    let lines = text.split_inclusive('\n').count();
    let mut last = 0;
    for instruction in &dockerfile.instructions {
        let (first, end) = (instruction.lines.first, instruction.lines.last);
        assert!(
            last < first && first <= end && end <= lines,
            "lines {first} to {end}"
        );
        last = end;
        let shown = slice(text, instruction.keyword.span);
        assert!(
            shown.starts_with(|c| instruction.keyword.value.starts_with(c)),
            "{shown:?}"
        );
        slice(text, instruction.span);
    }
}

fn slice(text: &str, span: Span) -> &str {
    text.get(span.range())
        .unwrap_or_else(|| panic!("{span:?} is no place in the text"))
}

fn check_print(dockerfile: &Dockerfile) {
    let printed = print(dockerfile);
    if printed.lines().any(|line| line.len() > LONGEST_LINE) {
        return;
    }
    let again = parse(&printed).unwrap_or_else(|errors| panic!("{errors:?} in {printed:?}"));
    // Comments and blank lines are not printed.
    let bare = |file: &Dockerfile| {
        let mut instructions = file.instructions.clone();
        for instruction in &mut instructions {
            instruction.comments.clear();
            instruction.blank_lines.clear();
        }
        let directives = &file.directives;
        let directives = (&directives.syntax, directives.escape, &directives.check);
        without_places(&(directives, instructions))
    };
    assert_eq!(bare(dockerfile), bare(&again), "printed as {printed:?}");
}

/// Errors are shown whole, at a line of the file, and without what could steer a terminal.
pub fn check_shown(diagnostics: &[Diagnostic], text: &str) {
    for diagnostic in diagnostics.iter().take(4) {
        for label in &diagnostic.labels {
            let end = diagnostic.trigger.as_deref().unwrap_or(text).len();
            assert!(
                label.span.start <= label.span.end && label.span.end <= end,
                "{label:?}"
            );
        }
        let shown = render(diagnostic, "Dockerfile", text, false);
        assert!(shown.len() < LONGEST_DIAGNOSTIC, "{} bytes", shown.len());
        let wild = |c: char| {
            c != '\n'
                && (c.is_control()
                    || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        };
        assert!(!shown.contains(wild), "{shown:?}");
    }
}
