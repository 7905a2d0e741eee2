//! Flags of an instruction: which there are, and their values (S1).

use super::diagnostic::{Diagnostic, DiagnosticKind};
use super::span::{Span, Spanned};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// One value, once.
    Text,
    /// One value each time, any number of times.
    List,
    /// Nothing, `true` or `false`, once.
    Bool,
}

pub(super) type Known = &'static [(&'static str, Takes)];

/// The flags that were given, with names from the table of known ones.
#[derive(Debug)]
pub(super) struct Flags {
    given: Vec<(&'static str, Spanned<String>)>,
}

impl Flags {
    /// Checks `words`, each beginning with `--`, against `known`.
    pub fn read(words: &[Spanned<String>], known: Known) -> Result<Self, Diagnostic> {
        let mut flags = Self { given: Vec::new() };
        for word in words {
            let (name, value) = match word.value[2..].split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (&word.value[2..], None),
            };
            let (name, takes) = known
                .iter()
                .find(|(known, _)| *known == name)
                .copied()
                .ok_or_else(|| unknown(name, word.span, known))?;
            if takes != Takes::List && flags.given.iter().any(|(given, _)| *given == name) {
                let message = format!("flag --{name} is given twice");
                return Err(Diagnostic::error(DiagnosticKind::Flag, word.span, message));
            }
            let value = checked(name, takes, value, word.span)?;
            flags.given.push((name, Spanned::new(value, word.span)));
        }
        Ok(flags)
    }

    /// The value of a flag given at most once; an empty one is as none.
    pub fn text(&self, name: &str) -> Option<Spanned<String>> {
        let value = self.list(name).into_iter().next()?;
        Some(value).filter(|value| !value.value.is_empty())
    }

    /// All values of a flag.
    pub fn list(&self, name: &str) -> Vec<Spanned<String>> {
        self.given
            .iter()
            .filter(|(given, _)| *given == name)
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// The value of a boolean flag.
    pub fn bool(&self, name: &str) -> Option<Spanned<bool>> {
        let value = self.text(name)?;
        Some(Spanned::new(value.value == "true", value.span))
    }
}

fn unknown(name: &str, span: Span, known: Known) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(DiagnosticKind::Flag, span, format!("unknown flag --{name}"));
    let names: Vec<String> = known.iter().map(|(name, _)| format!("--{name}")).collect();
    if names.is_empty() {
        return diagnostic
            .label("this instruction has no flags")
            .hint("write -- before an argument that begins with --");
    }
    let given = format!("--{name}");
    let near = super::nearest(&given, names.iter().map(String::as_str));
    match near {
        Some(name) => diagnostic.hint(format!("did you mean {name}?")),
        None => diagnostic.hint(format!("known flags: {}", names.join(", "))),
    }
}

fn checked(
    name: &str,
    takes: Takes,
    value: Option<&str>,
    span: Span,
) -> Result<String, Diagnostic> {
    let error = |message| Err(Diagnostic::error(DiagnosticKind::Flag, span, message));
    match (takes, value) {
        (Takes::Bool | Takes::List, Some("")) => error(format!("flag --{name} has an empty value")),
        (Takes::Bool, None) => Ok("true".into()),
        (Takes::Bool, Some(value)) => match value.to_ascii_lowercase().as_str() {
            lower @ ("true" | "false") => Ok(lower.to_owned()),
            _ => error(format!(
                "flag --{name} is a switch: expected true or false, found {value:?}"
            )),
        },
        (_, None) => error(format!("flag --{name} needs a value: --{name}=…")),
        (_, Some(value)) => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = &[
        ("from", Takes::Text),
        ("exclude", Takes::List),
        ("link", Takes::Bool),
    ];

    fn read(words: &[&str]) -> Result<Flags, Diagnostic> {
        let words: Vec<_> = words
            .iter()
            .map(|word| Spanned::new((*word).to_owned(), Span::default()))
            .collect();
        Flags::read(&words, KNOWN)
    }

    #[test]
    fn s1_flag_values() {
        let flags = read(&["--link", "--exclude=a", "--exclude=b=c"]).unwrap();
        assert!(flags.bool("link").unwrap().value);
        assert_eq!(flags.list("exclude")[1].value, "b=c");
        assert_eq!(flags.text("from"), None);
        assert_eq!(read(&["--from="]).unwrap().text("from"), None);
        assert!(!read(&["--link=FALSE"]).unwrap().bool("link").unwrap().value);
    }

    #[test]
    fn s1_wrong_flags() {
        for (words, expected) in [
            (&["--form=x"][..], "did you mean --from?"),
            (&["--from=a", "--from=b"], "given twice"),
            (&["--from"], "needs a value"),
            (&["--from=", "--from=a"], "given twice"),
            (&["--exclude="], "empty value"),
            (&["--link="], "empty value"),
            (&["--link=1"], "true or false"),
        ] {
            let error = read(words).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
