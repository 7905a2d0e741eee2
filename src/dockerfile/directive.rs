//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the top of the file (S1).

use super::diagnostic::{Diagnostic, DiagnosticKind};
use super::span::{Span, Spanned};

/// The directives of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The frontend image the file asks for; not used.
    pub syntax: Option<Spanned<String>>,
    /// The escape character, backslash or backtick.
    pub escape: char,
    /// What the linter is told.
    pub check: Option<Spanned<String>>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
        }
    }
}

/// Reads the directives from the top of `text`, which has no byte order mark any more; `offset` is
/// where it stands in the file.
pub(super) fn read_directives(text: &str, offset: usize) -> Result<Directives, Diagnostic> {
    let mut directives = Directives::default();
    let mut escape: Option<Span> = None;
    let mut at = offset;
    for line in text.split_inclusive('\n') {
        let Some((key, value)) = read_line(line) else {
            break;
        };
        let lead = line.len() - line.trim_start().len();
        let span = Span::new(at + lead, at + line.trim_end().len());
        at += line.len();
        let place = Spanned::new(value.to_owned(), span);
        let earlier = match key.as_str() {
            "syntax" => directives.syntax.replace(place).map(|old| old.span),
            "check" => directives.check.replace(place).map(|old| old.span),
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

fn read_line(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
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
}
