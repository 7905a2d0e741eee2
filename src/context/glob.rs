//! [`Glob`]: the wildcards of Go's `filepath.Match`, and `**` where a caller wants it.
//!
//! A pattern is matched by walking all its states at once, so no pattern takes longer than its
//! length times the length of the path.

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed pattern {pattern:?}: {reason}")]
pub struct GlobError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// One character but `/`.
    Any,
    /// Any run of characters but `/`.
    Star,
    /// One character of a set.
    Class(Class),
    /// Perhaps some leading directories: always followed by [`Token::InDirs`].
    Dirs,
    InDirs,
    /// Anything at all.
    Rest,
}

/// The characters in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
    /// Whether `/` can be one of them: in ignore files it can.
    holds_slash: bool,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Compiles `pattern` as `filepath.Match` reads it: `*`, `?`, `[a-z]`, `[^a]` and `\`.
    ///
    /// # Errors
    /// An open or empty class, or a backslash at the end.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        Self::compile(pattern, false)
    }

    /// Compiles `pattern` with `**` as well, as an ignore file reads it.
    ///
    /// # Errors
    /// As [`Glob::new`].
    pub fn with_double_star(pattern: &str) -> Result<Self, GlobError> {
        Self::compile(pattern, true)
    }

    /// Whether `pattern` has a wildcard that is not escaped.
    pub fn has_wildcards(pattern: &str) -> bool {
        let mut chars = pattern.chars();
        while let Some(next) = chars.next() {
            match next {
                '\\' => drop(chars.next()),
                '*' | '?' | '[' => return true,
                _ => {}
            }
        }
        false
    }

    fn compile(pattern: &str, double: bool) -> Result<Self, GlobError> {
        let fail = |reason| GlobError {
            pattern: pattern.to_owned(),
            reason,
        };
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(next) = chars.next() {
            match next {
                '*' if double && chars.next_if_eq(&'*').is_some() => {
                    // `**/` is `**`.
                    chars.next_if_eq(&'/');
                    if chars.peek().is_none() {
                        tokens.push(Token::Rest);
                    } else {
                        tokens.extend([Token::Dirs, Token::InDirs]);
                    }
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::Any),
                '[' => tokens.push(Token::Class(class(&mut chars, double).map_err(fail)?)),
                '\\' => {
                    let escaped = chars.next();
                    let escaped = escaped.ok_or_else(|| fail("nothing follows the backslash"))?;
                    tokens.push(Token::Char(escaped));
                }
                other => tokens.push(Token::Char(other)),
            }
        }
        Ok(Self { tokens })
    }

    /// The text of a pattern that has no wildcards.
    pub(super) fn literal(&self) -> Option<String> {
        let text = |token: &Token| match token {
            Token::Char(char) => Some(*char),
            _ => None,
        };
        self.tokens.iter().map(text).collect()
    }

    /// The text before the first wildcard.
    pub(super) fn literal_prefix(&self) -> String {
        let text = |token: &Token| match token {
            Token::Char(char) => Some(*char),
            _ => None,
        };
        self.tokens.iter().map_while(text).collect()
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut states = vec![false; self.tokens.len() + 1];
        let mut next = states.clone();
        self.enter(&mut states, 0);
        let mut rest = path;
        while !rest.is_empty() {
            let (char, length) = decode(rest);
            rest = &rest[length..];
            next.fill(false);
            for (at, token) in self.tokens.iter().enumerate() {
                if states[at] {
                    self.step(&mut next, at, token, char);
                }
            }
            std::mem::swap(&mut states, &mut next);
        }
        states[self.tokens.len()]
    }

    /// Adds state `at` and those reached from it by consuming nothing.
    fn enter(&self, states: &mut [bool], mut at: usize) {
        while !states[at] {
            states[at] = true;
            match self.tokens.get(at) {
                Some(Token::Star | Token::Rest) => at += 1,
                Some(Token::Dirs) => {
                    states[at + 1] = true;
                    at += 2;
                }
                _ => return,
            }
        }
    }

    fn step(&self, next: &mut [bool], at: usize, token: &Token, char: char) {
        let taken = match token {
            Token::Char(wanted) => *wanted == char,
            Token::Any => char != '/',
            Token::Class(class) => class.holds(char),
            Token::Star => {
                return if char == '/' {
                } else {
                    self.enter(next, at)
                };
            }
            Token::Rest => return self.enter(next, at),
            Token::InDirs => {
                next[at] = true;
                char == '/'
            }
            Token::Dirs => false,
        };
        if taken {
            self.enter(next, at + 1);
        }
    }
}

/// The first character of `bytes`, which are not empty; a byte that is no UTF-8 stands for itself
/// alone.
fn decode(bytes: &[u8]) -> (char, usize) {
    let length = match bytes[0] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    let char = bytes
        .get(..length)
        .and_then(|head| std::str::from_utf8(head).ok());
    match char.and_then(|text| text.chars().next()) {
        Some(char) => (char, length),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

impl Class {
    fn holds(&self, char: char) -> bool {
        let mut ranges = self.ranges.iter();
        let inside = ranges.any(|(low, high)| (low..=high).contains(&&char));
        inside != self.negated && (char != '/' || self.holds_slash)
    }
}

/// A class. Only an ignore file takes a range that holds nothing for a mistake.
fn class(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    is_ignore: bool,
) -> Result<Class, &'static str> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Class {
                negated,
                ranges,
                holds_slash: is_ignore,
            });
        }
        let low = class_member(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() {
            class_member(chars)?
        } else {
            low
        };
        if is_ignore && high < low {
            return Err("the class [ has a range that ends before it begins");
        }
        ranges.push((low, high));
    }
}

fn class_member(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<char, &'static str> {
    match chars.next() {
        None => Err("the class [ is not closed"),
        Some(']') => Err("the class [ has an empty member"),
        Some('-') => Err("the class [ has a range without a beginning"),
        Some('\\') => chars.next().ok_or("nothing follows the backslash"),
        Some(member) => Ok(member),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_filepath_match() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "", true),
            ("*", "a/b", false),
            ("*c", "abc", true),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("*x", "xxx", true),
            ("**", "a/b", false),
            (".*", ".git", true),
            ("*", ".git", true),
            ("a.c", "abc", false),
            ("a]", "a]", true),
        ];
        for (pattern, path, expected) in cases {
            let found = Glob::new(pattern).unwrap().matches(path.as_bytes());
            assert_eq!(found, expected, "{pattern:?} on {path:?}");
        }
        for pattern in [
            "[", "[]a]", "[-]", "[x-]", "[-x]", "a[", "[^", "[^bc", "a\\", "[a\\",
        ] {
            assert!(Glob::new(pattern).is_err(), "{pattern:?}");
        }
    }

    #[test]
    fn no_pattern_is_slow() {
        let glob = Glob::with_double_star(&"*a**/b".repeat(40)).unwrap();
        assert!(!glob.matches(&[b'a'; 4000]));
    }

    #[test]
    fn bytes_that_are_no_text_match_wildcards() {
        assert!(Glob::new("a?b*").unwrap().matches(b"a\xffb\xfe\xff"));
    }
}
