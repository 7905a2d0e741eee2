//! Cutting an instruction into keyword, flags and argument, and an argument into words (S1).

use serde_json::Value;

use super::diagnostic::{Diagnostic, DiagnosticKind};
use super::span::{Part, Span, Spanned};

/// Keyword, flag words without quotes, and the rest without white space around it.
pub(super) struct Head<'a> {
    pub keyword: Part<'a>,
    pub flags: Vec<Spanned<String>>,
    /// A flag with a quote that is not closed: it has swallowed the rest.
    pub open_flag: Option<Span>,
    pub rest: Part<'a>,
}

/// Cuts a whole instruction; `line` is not blank.
pub(super) fn split_head(line: Part<'_>, escape: char) -> Head<'_> {
    let line = line.trim();
    let (keyword, rest) = line.split(|c| matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' '));
    let rest = rest.unwrap_or_else(|| line.from(line.text.len()));
    let (flags, open_flag, rest) = split_flags(rest, escape);
    Head {
        keyword,
        flags,
        open_flag,
        rest: rest.trim(),
    }
}

/// The leading words that begin with `--`, up to a bare `--`.
fn split_flags(part: Part<'_>, escape: char) -> (Vec<Spanned<String>>, Option<Span>, Part<'_>) {
    let mut flags = Vec::new();
    let mut open = None;
    let mut rest = part.trim();
    while rest.text.starts_with("--") {
        let (word, end, is_open) = flag_word(rest.text, escape);
        let place = rest.slice(0..end);
        if is_open {
            open = Some(place.span());
        }
        rest = rest.from(end).trim();
        if word == "--" {
            break;
        }
        flags.push(Spanned::new(word, place.span()));
    }
    (flags, open, rest)
}

/// The first word with quotes and escapes removed, where it ends, and whether a quote stays open.
fn flag_word(text: &str, escape: char) -> (String, usize, bool) {
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match quote {
            None if letter.is_whitespace() => return (word, at, false),
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ if letter == escape => word.extend(letters.next().map(|(_, next)| next)),
            _ => word.push(letter),
        }
    }
    (word, text.len(), quote.is_some())
}

/// Words for `ENV`, `LABEL` and `ARG`: white space in quotes or after the escape character does
/// not end a word, and both stay in it.
pub(super) fn quoted_words(part: Part<'_>, escape: char) -> Vec<Part<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut letters = part.text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match quote {
            None if letter.is_whitespace() => {
                words.extend(start.take().map(|first| part.slice(first..at)));
                continue;
            }
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ if letter == escape && quote != Some('\'') => {
                letters.next();
            }
            _ => {}
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|first| part.from(first)));
    words
}

/// The strings of a JSON array; `None` if the text is no complete JSON array.
pub(super) fn json_strings(part: Part<'_>) -> Result<Option<Vec<String>>, Diagnostic> {
    if !part.text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(part.text) else {
        return Ok(None);
    };
    let strings = values.into_iter().map(|value| match value {
        Value::String(text) => Ok(text),
        other => Err(Diagnostic::error(
            DiagnosticKind::Syntax,
            part.span(),
            format!("only strings may stand in this JSON array, not {other}"),
        )
        .hint("write every argument in double quotes")),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::span::Joined;
    use super::*;

    #[test]
    fn s1_flags() {
        for (text, flags, rest) in [
            ("COPY a b", vec![], "a b"),
            (
                "COPY --from=x  --link a  b ",
                vec!["--from=x", "--link"],
                "a  b",
            ),
            ("RUN -- --x", vec![], "--x"),
            ("RUN --mount='a b'\\ c d", vec!["--mount=a b c"], "d"),
            ("RUN --a --", vec!["--a"], ""),
            ("RUN -x", vec![], "-x"),
            ("RUN", vec![], ""),
        ] {
            let joined = Joined::single(text, 0);
            let head = split_head(joined.part(), '\\');
            let words: Vec<&str> = head.flags.iter().map(|flag| flag.value.as_str()).collect();
            assert_eq!((words, head.rest.text), (flags, rest), "{text}");
        }
    }

    #[test]
    fn s1_quote_aware_words() {
        for (text, expected) in [
            ("a b", vec!["a", "b"]),
            (r#"a="x y" b='z w'"#, vec![r#"a="x y""#, "b='z w'"]),
            (r"a=x\ y b", vec![r"a=x\ y", "b"]),
            (r#"a="\" b" c"#, vec![r#"a="\" b""#, "c"]),
            (r"a='\' b", vec![r"a='\'", "b"]),
            (r#""" x"#, vec![r#""""#, "x"]),
        ] {
            let joined = Joined::single(text, 0);
            let words: Vec<&str> = quoted_words(joined.part(), '\\')
                .iter()
                .map(|word| word.text)
                .collect();
            assert_eq!(words, expected, "{text}");
        }
    }

    #[test]
    fn s1_json_detection() {
        let read = |text: &str| json_strings(Joined::single(text, 0).part());
        assert_eq!(
            read(r#"["a", "b\n"]"#),
            Ok(Some(vec!["a".into(), "b\n".into()]))
        );
        assert_eq!(read("[]"), Ok(Some(vec![])));
        for text in [r#"["a"] b"#, "['a']", "[ -e x ] && y", "a", "", r#"["\x"]"#] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
        assert!(read(r#"["a", 1]"#).is_err());
    }
}
