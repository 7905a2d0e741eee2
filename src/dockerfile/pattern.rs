//! Shell patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` and `?`, everything else literal (S3).
//!
//! As in Go's regular expressions, on which Docker's matching rests, neither matches a newline.

/// Cells of the table that a match may need: 4 MiB of them.
const MOST_CELLS: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Literal(char),
}

/// A pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("a backslash in a pattern may stand before * ? \\ }} or / only, not before {0:?}")]
    Escape(char),
    #[error("a pattern must not end with a backslash")]
    End,
    #[error("pattern of {0} characters is too long for a value of {1}")]
    Size(usize, usize),
    #[error("the result is too long")]
    Long,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            tokens.push(match letter {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match letters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    Some(other) => return Err(PatternError::Escape(other)),
                    None => return Err(PatternError::End),
                },
                other => Token::Literal(other),
            });
        }
        tokens.dedup_by(|left, right| *left == Token::Star && *right == Token::Star);
        Ok(Self { tokens })
    }

    /// `value` without the prefix that matches.
    pub fn trim_prefix(&self, value: &str, longest: bool) -> Result<String, PatternError> {
        let letters: Vec<char> = value.chars().collect();
        let table = Table::new(&self.tokens, &letters)?;
        let end = table.walk(0, longest).unwrap_or(0);
        Ok(letters[end..].iter().collect())
    }

    /// `value` without the suffix that matches.
    pub fn trim_suffix(&self, value: &str, longest: bool) -> Result<String, PatternError> {
        let reversed = Self {
            tokens: self.tokens.iter().rev().copied().collect(),
        };
        let value: String = value.chars().rev().collect();
        let trimmed = reversed.trim_prefix(&value, longest)?;
        Ok(trimmed.chars().rev().collect())
    }

    /// `value` with the first match replaced by `replacement` as it is.
    pub fn replace_first(&self, value: &str, replacement: &str) -> Result<String, PatternError> {
        let letters: Vec<char> = value.chars().collect();
        let table = Table::new(&self.tokens, &letters)?;
        let Some((start, end)) = table.find(0) else {
            return Ok(value.to_owned());
        };
        let mut out: String = letters[..start].iter().collect();
        out.push_str(replacement);
        out.extend(&letters[end..]);
        Ok(out)
    }

    /// `value` with every match replaced by `template`, a template of Go's regexp package; no
    /// longer than `most` bytes and one replacement more.
    pub fn replace_all(
        &self,
        value: &str,
        template: &str,
        most: usize,
    ) -> Result<String, PatternError> {
        let letters: Vec<char> = value.chars().collect();
        let table = Table::new(&self.tokens, &letters)?;
        let mut out = String::new();
        let (mut search, mut copied) = (0, 0);
        while search <= letters.len() {
            let Some((start, end)) = table.find(search) else {
                break;
            };
            out.extend(&letters[copied..start]);
            // An empty match right after another match is none.
            if end > copied || start == 0 {
                let whole: String = letters[start..end].iter().collect();
                fill_template(template, &whole, &mut out);
            }
            if out.len() > most {
                return Err(PatternError::Long);
            }
            copied = end;
            search = end.max(search + 1);
        }
        out.extend(&letters[copied..]);
        Ok(out)
    }
}

/// Go's `Regexp.Expand` for an expression without groups: `$0` is the match, any other name empty.
fn fill_template(template: &str, whole: &str, out: &mut String) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        match template_name(rest) {
            Some((name, after)) => {
                if name == "0" {
                    out.push_str(whole);
                }
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
}

fn template_name(text: &str) -> Option<(&str, &str)> {
    let (braced, body) = match text.strip_prefix('{') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let end = body
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(body.len());
    let (name, after) = body.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced {
        return after.strip_prefix('}').map(|after| (name, after));
    }
    Some((name, after))
}

/// For every suffix of the pattern and every place in the value, whether the one matches there.
struct Table<'a> {
    tokens: &'a [Token],
    letters: &'a [char],
    can: Vec<bool>,
}

impl<'a> Table<'a> {
    fn new(tokens: &'a [Token], letters: &'a [char]) -> Result<Self, PatternError> {
        let width = letters.len() + 1;
        let cells = width.saturating_mul(tokens.len() + 1);
        if cells > MOST_CELLS {
            return Err(PatternError::Size(tokens.len(), letters.len()));
        }
        let mut can = vec![false; cells];
        can[tokens.len() * width..].fill(true);
        for token in (0..tokens.len()).rev() {
            for at in (0..width).rev() {
                let next = |at: usize| can[(token + 1) * width + at];
                let letter = letters.get(at);
                can[token * width + at] = match tokens[token] {
                    Token::Star => {
                        next(at)
                            || (letter.is_some_and(|c| *c != '\n') && can[token * width + at + 1])
                    }
                    Token::Any => letter.is_some_and(|c| *c != '\n') && next(at + 1),
                    Token::Literal(wanted) => letter == Some(&wanted) && next(at + 1),
                };
            }
        }
        Ok(Self {
            tokens,
            letters,
            can,
        })
    }

    fn matches(&self, token: usize, at: usize) -> bool {
        self.can[token * (self.letters.len() + 1) + at]
    }

    /// The end of the match at `start`: a star takes as much as it can, or as little.
    fn walk(&self, start: usize, longest: bool) -> Option<usize> {
        if !self.matches(0, start) {
            return None;
        }
        let mut at = start;
        for (index, token) in self.tokens.iter().enumerate() {
            if *token != Token::Star {
                at += 1;
                continue;
            }
            let reach = self.letters[at..]
                .iter()
                .position(|letter| *letter == '\n')
                .map_or(self.letters.len(), |line| at + line);
            let fits = |end: &usize| self.matches(index + 1, *end);
            at = if longest {
                (at..=reach).rev().find(fits)?
            } else {
                (at..=reach).find(fits)?
            };
        }
        Some(at)
    }

    /// The leftmost match from `search` on.
    fn find(&self, search: usize) -> Option<(usize, usize)> {
        (search..=self.letters.len()).find_map(|start| Some((start, self.walk(start, true)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_prefix_and_suffix() {
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        for (text, value, shortest, longest) in [
            ("*/", "a/b/c", "b/c", "c"),
            ("a?", "abc", "c", "c"),
            ("x", "abc", "abc", "abc"),
            ("[a]", "[a]b", "b", "b"),
            ("\\*", "*b", "b", "b"),
            ("*", "ab", "ab", ""),
            ("*b*", "abab", "ab", ""),
        ] {
            assert_eq!(
                pattern(text).trim_prefix(value, false).unwrap(),
                shortest,
                "{text}"
            );
            assert_eq!(
                pattern(text).trim_prefix(value, true).unwrap(),
                longest,
                "{text}"
            );
        }
        assert_eq!(pattern(".*").trim_suffix("a.b.c", false).unwrap(), "a.b");
        assert_eq!(pattern(".*").trim_suffix("a.b.c", true).unwrap(), "a");
    }

    #[test]
    fn s3_replace() {
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        assert_eq!(pattern("b*").replace_first("abcb", "x").unwrap(), "ax");
        assert_eq!(pattern("b").replace_all("abcb", "x", 99).unwrap(), "axcx");
        assert_eq!(
            pattern("b").replace_all("ab", "[$0]$1$$", 99).unwrap(),
            "a[b]$"
        );
        assert_eq!(pattern("").replace_all("ab", "-", 99).unwrap(), "-a-b-");
        assert_eq!(pattern("*").replace_all("ab", "-", 99).unwrap(), "-");
        assert!(Pattern::parse("\\a").is_err());
        assert!(Pattern::parse("\\").is_err());
    }

    #[test]
    fn a_huge_pattern_is_refused() {
        let pattern = Pattern::parse(&"*a".repeat(5000)).unwrap();
        assert!(pattern.trim_prefix(&"a".repeat(5000), true).is_err());
    }
}
