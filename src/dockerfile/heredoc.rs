//! Heredocs of `RUN`, `COPY` and `ADD` (S2).

use super::span::{Part, Span};

/// One heredoc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// The file descriptor before `<<`, 0 if none.
    pub descriptor: u32,
    /// `<<-`: leading tabs do not count.
    pub strip_tabs: bool,
    /// Whether the delimiter was written without quotes.
    pub expand: bool,
    /// The lines up to the delimiter, as they stand in the file.
    pub body: String,
    /// Where the body stands.
    pub place: Span,
    /// Where the redirection stands.
    pub span: Span,
}

impl Heredoc {
    /// The body as it is used: without the leading tabs if it was opened by `<<-`.
    pub fn content(&self) -> String {
        if !self.strip_tabs {
            return self.body.clone();
        }
        self.body
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }

    /// Whether `line`, which has no newline, ends the body.
    pub(super) fn ends_with(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        if self.strip_tabs {
            line.trim_start_matches('\t') == self.name
        } else {
            line == self.name
        }
    }

    /// Why `line`, which does not end the body, was probably meant to.
    pub(super) fn almost_ends_with(&self, line: &str) -> Option<&'static str> {
        let word = line.trim();
        if word == self.name {
            let tabs = line.trim_start_matches('\t') == self.name;
            return Some(match tabs {
                true => "write <<- to allow tabs before the delimiter",
                false => "no white space may stand around the delimiter",
            });
        }
        if !word.is_empty() && word.eq_ignore_ascii_case(&self.name) {
            return Some("the case of the delimiter counts");
        }
        let alike = self.name.len() > 2
            && word.len() > 2
            && super::nearest(word, [self.name.as_str()]).is_some();
        alike.then_some("the delimiter must be written as it was at the start")
    }
}

/// The heredocs that a line opens, their bodies still empty.
///
/// Words are a shell's, with the backslash as the escape character under every directive. A line
/// with an open quote has none.
pub(super) fn find_heredocs(line: Part<'_>) -> Vec<Heredoc> {
    shell_words(line)
        .unwrap_or_default()
        .into_iter()
        .filter_map(read_heredoc)
        .collect()
}

/// The heredoc that `word` opens: digits, `<<`, perhaps `-`, and one word without `<`.
pub(super) fn read_heredoc(word: Part<'_>) -> Option<Heredoc> {
    let digits = word.text.len()
        - word
            .text
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .len();
    let rest = word.text[digits..].strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.contains('<') {
        return None;
    }
    let name = without_quotes(rest)?;
    if name.is_empty() {
        return None;
    }
    let descriptor = match &word.text[..digits] {
        "" => 0,
        number => number.parse().unwrap_or(0),
    };
    Some(Heredoc {
        expand: name == rest,
        name,
        descriptor,
        strip_tabs,
        body: String::new(),
        place: Span::default(),
        span: word.span(),
    })
}

/// Words with their quotes and escapes in them; `None` if a quote stays open.
fn shell_words(line: Part<'_>) -> Option<Vec<Part<'_>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut letters = line.text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (None, letter) if letter.is_whitespace() => {
                words.extend(start.take().map(|first| line.slice(first..at)));
                continue;
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (None | Some('"'), '\\') => {
                letters.next();
            }
            _ => {}
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|first| line.from(first)));
    quote.is_none().then_some(words)
}

fn without_quotes(word: &str) -> Option<String> {
    let mut bare = String::new();
    let mut quote = None;
    let mut letters = word.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (None, '\\') => bare.extend(letters.next()),
            (Some('"'), '\\') if matches!(letters.peek(), Some('"' | '\\' | '$')) => {
                bare.extend(letters.next());
            }
            _ => bare.push(letter),
        }
    }
    quote.is_none().then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::super::span::Joined;
    use super::*;

    #[test]
    fn s2_which_words_open_a_heredoc() {
        for (line, expected) in [
            ("RUN cat <<EOF", vec![("EOF", false, true)]),
            ("RUN <<-'E F' cat", vec![("E F", true, false)]),
            ("RUN <<-'EF' cat", vec![("EF", true, false)]),
            (
                "RUN cat 3<<\"A\"B <<C",
                vec![("AB", false, false), ("C", false, true)],
            ),
            (r"RUN <<\EOF", vec![("EOF", false, false)]),
            (
                "RUN echo \"<<EOF\" && cat <<EOF",
                vec![("EOF", false, true)],
            ),
            ("RUN echo $((1<<2))", vec![]),
            ("RUN cat<<EOF", vec![]),
            ("RUN cat <<< x", vec![]),
            ("RUN cat <<<x", vec![]),
            ("RUN echo it's <<EOF", vec![]),
            ("RUN << EOF", vec![]),
        ] {
            let joined = Joined::single(line, 0);
            let found = find_heredocs(joined.part());
            let found: Vec<_> = found
                .iter()
                .map(|doc| (doc.name.as_str(), doc.strip_tabs, doc.expand))
                .collect();
            assert_eq!(found, expected, "{line}");
        }
    }
}
