//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the top of the file (S1).
//!
//! A first line that begins with `#!` is passed over, but `escape` counts only without one, as the
//! builders have it. `// syntax=` and a JSON object's `syntax` are how files that are no Dockerfiles
//! name their frontend: [`foreign_syntax`] finds it, for the message that such a file is not read.

use serde_json::Value;

use super::diagnostic::{Diagnostic, DiagnosticKind};
use super::span::{Span, Spanned};

/// The directives of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The frontend image the file asks for, and what follows its name; never executed.
    pub syntax: Option<Spanned<String>>,
    /// The escape character, backslash or backtick.
    pub escape: char,
    /// What the linter is told.
    pub check: Option<Spanned<String>>,
    /// The offset of the line after the last directive, or after a `#!` line; 0 without any.
    pub end: usize,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
            end: 0,
        }
    }
}

impl Directives {
    /// The image of the frontend that the file asks for: the first word of `syntax`.
    pub fn frontend(&self) -> Option<&str> {
        self.syntax.as_ref()?.value.split_whitespace().next()
    }
}

/// Reads the directives from the top of `text`, which has no byte order mark any more; `offset` is
/// where it stands in the file.
pub(super) fn read_directives(text: &str, offset: usize) -> Result<Directives, Diagnostic> {
    let mut directives = Directives::default();
    let mut escape: Option<Span> = None;
    let (mut at, lines) = without_shebang(text, offset);
    let is_script = at > offset;
    if is_script {
        directives.end = at;
    }
    for line in lines.split_inclusive('\n') {
        let Some((key, value)) = read_line(line, "#") else {
            break;
        };
        let lead = line.len() - line.trim_start().len();
        let span = Span::new(at + lead, at + line.trim_end().len());
        at += line.len();
        directives.end = at;
        let place = Spanned::new(value.to_owned(), span);
        let earlier = match key.as_str() {
            "syntax" => directives.syntax.replace(place).map(|old| old.span),
            "check" => directives.check.replace(place).map(|old| old.span),
            _ if is_script => None,
            _ => {
                directives.escape = read_escape(value, span)?;
                escape.replace(span)
            }
        };
        if let Some(first) = earlier {
            let message = format!("parser directive {key} is given twice");
            return Err(Diagnostic::error(DiagnosticKind::Syntax, span, message)
                .context(first, "first given here"));
        }
    }
    Ok(directives)
}

/// The frontend that a file names which is no Dockerfile: in `//` comments at its top, or as a JSON
/// object's `syntax`.
pub(super) fn foreign_syntax(text: &str) -> Option<String> {
    let (_, text) = without_shebang(text, 0);
    let in_comments = || {
        let lines = text.lines().map_while(|line| read_line(line, "//"));
        let mut values = lines.filter(|(key, _)| key == "syntax");
        values.next().map(|(_, value)| value.to_owned())
    };
    let value = match serde_json::from_str::<Value>(text) {
        Ok(json) => json.get("syntax")?.as_str()?.to_owned(),
        Err(_) => in_comments()?,
    };
    value.split_whitespace().next().map(str::to_owned)
}

/// The text after a first line that begins with `#!`, and where it stands.
fn without_shebang(text: &str, offset: usize) -> (usize, &str) {
    match text.strip_prefix("#!") {
        None => (offset, text),
        Some(_) => {
            let end = text.find('\n').map_or(text.len(), |at| at + 1);
            (offset + end, &text[end..])
        }
    }
}

fn read_line<'a>(line: &'a str, mark: &str) -> Option<(String, &'a str)> {
    let (key, value) = line.trim_start().strip_prefix(mark)?.split_once('=')?;
    let key = key.trim().to_ascii_lowercase();
    matches!(key.as_str(), "syntax" | "escape" | "check").then_some((key, value.trim()))
}

fn read_escape(value: &str, span: Span) -> Result<char, Diagnostic> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        _ => Err(Diagnostic::error(
            DiagnosticKind::Syntax,
            span,
            format!("the escape character must be \\ or `, not {value:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_directives() {
        for (text, escape, syntax) in [
            ("# escape=`\nFROM a", '`', None),
            (
                "#ESCAPE = ` \n# syntax=docker/dockerfile:1\n",
                '`',
                Some("docker/dockerfile:1"),
            ),
            ("# a comment\n# escape=`\n", '\\', None),
            ("\n# escape=`\n", '\\', None),
            ("# unknown=x\n# escape=`\n", '\\', None),
            ("#syntax=a/b c=d\r\n# escape=`\r\n", '`', Some("a/b c=d")),
            ("#!/usr/bin/env x\n# syntax=y\n", '\\', Some("y")),
            ("#!/usr/bin/env x\n# escape=`\n", '\\', None),
        ] {
            let directives = read_directives(text, 0).unwrap();
            assert_eq!(directives.escape, escape, "{text:?}");
            assert_eq!(
                directives.syntax.map(|value| value.value).as_deref(),
                syntax
            );
        }
        for text in ["# escape=x\n", "# escape=\n", "# check=a\n# check=b\n"] {
            assert!(read_directives(text, 0).is_err(), "{text:?}");
        }
    }

    #[test]
    fn s1_the_first_word_of_syntax_is_the_frontend() {
        let directives = read_directives("# syntax = a/b:1 x=y\n", 0).unwrap();
        assert_eq!(directives.frontend(), Some("a/b:1"));
        assert_eq!(directives.end, 21);
    }

    #[test]
    fn s1_syntax_of_other_files() {
        for (text, expected) in [
            ("// syntax=a/b\n", Some("a/b")),
            ("#!/bin/x\n// check=x\n//syntax = a/b c\nrest", Some("a/b")),
            ("{\"syntax\": \"a/b c\", \"x\": 1}", Some("a/b")),
            ("{\"x\": 1}", None),
            ("FROM a\n// syntax=a/b\n", None),
            ("# syntax=a/b\n", None),
        ] {
            assert_eq!(foreign_syntax(text).as_deref(), expected, "{text:?}");
        }
    }
}
