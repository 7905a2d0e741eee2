//! [`IgnoreFile`]: `.dockerignore` (spec S8), also the language of `--exclude`.
//!
//! Patterns are tried in order, a plain one only on what is not excluded yet, a `!` one only on what
//! is; one that was tried on a directory and matched holds for everything below it, one that was not
//! tried holds for nothing yet. The last that held decides.

use std::os::unix::ffi::OsStrExt;

use super::glob::{Glob, GlobError};
use crate::rootfs::RootPath;

/// Why an ignore file cannot be read as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A `!` with nothing behind it.
    #[error("line {line}: the pattern \"!\" re-includes nothing; name what to keep")]
    Empty {
        /// Counted from 1.
        line: usize,
    },
    /// A pattern with a mistake.
    #[error("line {line}: {source}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// The mistake.
        source: GlobError,
    },
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact(Vec<u8>),
    /// `text**`.
    Prefix(Vec<u8>),
    /// `**text`, where the text may begin with a slash.
    Suffix(Vec<u8>),
    Glob(Glob),
}

#[derive(Clone, Debug)]
struct Pattern {
    keeps: bool,
    matcher: Matcher,
    /// What every match begins with.
    prefix: Vec<u8>,
}

/// The patterns of an ignore file; the default one excludes nothing.
#[derive(Clone, Debug, Default)]
pub struct IgnoreFile {
    patterns: Vec<Pattern>,
}

/// What the patterns say of a directory, for the entries inside it.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Per pattern, whether it matches the directory or one above.
    hits: Vec<bool>,
    /// Whether the entry is excluded.
    pub excluded: bool,
    /// Whether nothing below can be kept, so that the directory need not be read.
    pub prune: bool,
}

impl IgnoreFile {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// A malformed pattern, with its line.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if !line.starts_with('#') {
                patterns.extend(parse_line(line, index + 1)?);
            }
        }
        Ok(Self { patterns })
    }

    /// Takes each of `patterns` as a line, the arguments of `--exclude`; `#` is nothing special.
    ///
    /// # Errors
    /// As [`IgnoreFile::parse`]; the line is the number of the pattern.
    pub fn from_patterns(patterns: &[String]) -> Result<Self, IgnoreError> {
        let mut parsed = Vec::new();
        for (index, pattern) in patterns.iter().enumerate() {
            parsed.extend(parse_line(pattern, index + 1)?);
        }
        Ok(Self { patterns: parsed })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a `!` pattern may bring back something excluded.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.keeps)
    }

    /// Whether `path`, which stands in the root of the context, is excluded.
    pub fn matches(&self, path: &RootPath) -> bool {
        self.verdict(path).excluded
    }

    /// What the patterns say of `path`, from nothing known of its parents.
    pub fn verdict(&self, path: &RootPath) -> Verdict {
        let mut verdict = self.root();
        let mut at = RootPath::root();
        for name in path.components() {
            at = at.join(name);
            verdict = self.enter(&verdict, &at);
        }
        verdict
    }

    /// The verdict on the root, which no pattern matches.
    pub fn root(&self) -> Verdict {
        Verdict {
            hits: vec![false; self.patterns.len()],
            excluded: false,
            prune: false,
        }
    }

    /// The verdict on `path` from that on its parent directory.
    pub fn enter(&self, parent: &Verdict, path: &RootPath) -> Verdict {
        let text = path.relative().as_os_str().as_bytes();
        let mut hits = Vec::with_capacity(self.patterns.len());
        let mut excluded = false;
        for (pattern, above) in self.patterns.iter().zip(&parent.hits) {
            let is_tried = pattern.keeps == excluded;
            let hit = *above || (is_tried && pattern.matcher.matches(text));
            if hit {
                excluded = !pattern.keeps;
            }
            hits.push(hit);
        }
        let prune = excluded && !self.keeps_below(text, &hits);
        Verdict {
            hits,
            excluded,
            prune,
        }
    }

    /// Whether some `!` pattern may match the directory `dir` or below.
    fn keeps_below(&self, dir: &[u8], hits: &[bool]) -> bool {
        let reaches = |pattern: &Pattern| {
            let common = pattern.prefix.len().min(dir.len());
            pattern.prefix[..common] == dir[..common]
                && (pattern.prefix.len() <= dir.len() || pattern.prefix[dir.len()] == b'/')
        };
        let mut pairs = self.patterns.iter().zip(hits);
        pairs.any(|(pattern, hit)| pattern.keeps && (*hit || reaches(pattern)))
    }
}

impl Matcher {
    fn new(pattern: &str) -> Result<Self, GlobError> {
        let glob = Glob::with_double_star(pattern)?;
        if let Some(text) = glob.literal() {
            return Ok(Self::Exact(text.into_bytes()));
        }
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if let Some(suffix) = pattern.strip_prefix("**").filter(|text| plain(text)) {
            return Ok(Self::Suffix(suffix.as_bytes().to_vec()));
        }
        if let Some(prefix) = pattern.strip_suffix("**").filter(|text| plain(text)) {
            return Ok(Self::Prefix(prefix.as_bytes().to_vec()));
        }
        Ok(Self::Glob(glob))
    }

    fn prefix(&self) -> Vec<u8> {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text.clone(),
            Self::Suffix(_) => Vec::new(),
            Self::Glob(glob) => glob.literal_prefix().into_bytes(),
        }
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(text) => path.starts_with(text),
            Self::Suffix(text) => {
                path.ends_with(text) || text.strip_prefix(b"/").is_some_and(|name| name == path)
            }
            Self::Glob(glob) => glob.matches(path),
        }
    }
}

/// Reads a line in the two passes in which BuildKit does, the second of which sees the result of
/// the first as if it had been written so: `/!a` is `!a`, and `!/` keeps nothing.
fn parse_line(line: &str, number: usize) -> Result<Option<Pattern>, IgnoreError> {
    let line = line.trim();
    let first = match line.strip_prefix('!') {
        Some(rest) => format!("!{}", anchored(rest.trim())),
        None => anchored(line),
    };
    let text = match first.trim() {
        "" => return Ok(None),
        text => clean(text),
    };
    let (keeps, text) = match text.strip_prefix('!') {
        Some("") => return Err(IgnoreError::Empty { line: number }),
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let matcher = Matcher::new(text).map_err(|source| IgnoreError::Malformed {
        line: number,
        source,
    })?;
    let prefix = matcher.prefix();
    Ok(Some(Pattern {
        keeps,
        matcher,
        prefix,
    }))
}

/// A pattern without needless components and without the slash that stands for the root.
fn anchored(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let cleaned = clean(text);
    match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => cleaned,
    }
}

/// The shortest lexical form of a path: no empty, `.` or needless `..` component.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            name => parts.push(name),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &str, path: &str) -> bool {
        let file = IgnoreFile::parse(patterns).unwrap();
        file.matches(&RootPath::new(path))
    }

    /// Checks rows of patterns, path, and whether the path is excluded.
    #[track_caller]
    fn check(rows: &[(&str, &str, bool)]) {
        for (patterns, path, expected) in rows {
            let found = excluded(patterns, path);
            assert_eq!(found, *expected, "{patterns:?} on {path:?}");
        }
    }

    #[test]
    fn s8_lines_comments_and_blanks() {
        check(&[
            ("\u{feff}a", "a", true),
            ("\u{feff}#a\nb", "b", true),
            ("#a", "#a", false),
            (" #a", "#a", true),
            ("a#b", "a#b", true),
            ("", "a", false),
            ("\n \n\t\na", "a", true),
            ("  a\t", "a", true),
            ("a b", "a b", true),
            ("a b", "a", false),
            ("a\r\nb\r\n", "a", true),
            ("a\r\nb", "b", true),
        ]);
    }

    #[test]
    fn s8_patterns_are_cleaned_and_lose_one_slash() {
        check(&[
            ("/a", "a", true),
            ("//a", "a", true),
            ("a//b/", "a/b", true),
            ("./a", "a", true),
            ("x/../a", "a", true),
            ("../a", "a", false),
            ("/../a", "a", true),
            ("*/", "a", true),
            ("/", "a", false),
            (".", "a", false),
            ("a/..", "a", false),
            ("*\n! /a", "a", false),
            ("*\n!\ta//b/", "a/b", false),
        ]);
    }

    #[test]
    fn s8_a_pattern_is_read_in_two_passes() {
        check(&[
            ("*\n/!a", "a", false),
            ("*\n./!a", "a", false),
            ("!!a", "!a", false),
            ("*\n!!a", "!a", false),
            ("*\n!!a", "a", true),
            ("/ /", "b", false),
            ("/ a", "a", true),
        ]);
    }

    #[test]
    fn s8_patterns_stand_at_the_root() {
        check(&[
            ("a", "a", true),
            ("a", "b/a", false),
            ("a/b", "a/b", true),
            ("a/b", "x/a/b", false),
            ("*.md", "x.md", true),
            ("*.md", "d/x.md", false),
            ("*/b", "a/b", true),
            ("*/b", "b", false),
            ("*/b", "x/a/b", false),
        ]);
    }

    #[test]
    fn s8_what_matches_a_directory_matches_all_below() {
        check(&[
            ("a", "a/b", true),
            ("a", "a/b/c", true),
            ("a", "ab", false),
            ("*", "a/b", true),
            ("*/b", "a/b/c", true),
            ("a\n!a/b", "a/b/c", false),
            ("a\n!a/b", "a/c", true),
        ]);
    }

    #[test]
    fn s8_the_last_that_was_tried_decides() {
        check(&[
            ("a\n!a/b", "a/b", false),
            ("a\n!a/b\na/b/c", "a/b/c", true),
            ("!a\na", "a", true),
            ("*\n!a", "a/b", false),
            ("*\n! a", "a", false),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                "README-secret.md",
                true,
            ),
            ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", false),
            // A directory that is not excluded does not try `!`, so it does not hold below.
            ("*/a\n!c", "c/a", true),
            ("**/a\n!b", "b/x/a", true),
            ("*\n!c\n*/a", "c/a", true),
            // One that is excluded does not try another plain pattern.
            ("a?\n!*/a*\na?", "aa/a", false),
        ]);
    }

    #[test]
    fn s8_stars_and_question_marks() {
        check(&[
            ("*", ".git", true),
            ("a*", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "ab/c", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a?c", "ac", false),
            ("?", "\u{e9}", true),
        ]);
    }

    #[test]
    fn s8_double_stars() {
        check(&[
            ("**", "a/b", true),
            ("**/*.md", "x.md", true),
            ("**/*.md", "d/e/x.md", true),
            ("**/x", "x", true),
            ("**/x", "d/e/x", true),
            ("**/x", "d/ex", false),
            ("**x", "d/ex", true),
            ("**a/]", "xa/]", false),
            ("**a/]", "x/a/]", true),
            ("a/**", "a", false),
            ("a/**", "a/b/c", true),
            ("a**", "abc/d", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("**/a/**/b", "x/a/y/b", true),
        ]);
    }

    #[test]
    fn s8_classes_and_escapes() {
        check(&[
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[!a]x", "bx", false),
            ("[!a]x", "!x", true),
            ("[\\]]", "]", true),
            ("a]", "a]", true),
            ("a[^x]b", "a/b", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("\\!a", "!a", true),
            ("\\#a", "#a", true),
        ]);
    }

    #[test]
    fn s8_other_characters_stand_for_themselves() {
        check(&[
            ("a.b", "axb", false),
            ("a+b(c)$", "a+b(c)$", true),
            ("a+", "aa", false),
            ("*(a|b){1}^", "x(a|b){1}^", true),
            ("*|a", "a", false),
        ]);
    }

    #[test]
    fn s8_mistakes_are_errors_with_their_line() {
        for (text, line) in [
            ("a\n!", 2),
            ("[", 1),
            ("\n\n!  ", 3),
            ("x\\", 1),
            ("![a", 1),
            ("#\n!/", 2),
            ("a/[]a]", 1),
            ("[b-a]", 1),
            ("[-x]", 1),
        ] {
            let error = IgnoreFile::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("line {line}: ")),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn directories_are_pruned_when_nothing_below_can_be_kept() {
        let cases = [
            ("node_modules", "node_modules", true),
            ("node_modules\n!src/*.md", "node_modules", true),
            ("a\n!a/b/2.txt", "a", false),
            ("a\n!a/b/2.txt", "a/c", true),
            ("a\n!ab", "a", true),
            ("*\n!**/*.md", "a", false),
            ("*\n!a*/x", "abc", false),
            ("*\n!a*/x", "b", true),
            ("src", "other", false),
        ];
        for (patterns, dir, expected) in cases {
            let verdict = IgnoreFile::parse(patterns)
                .unwrap()
                .verdict(&RootPath::new(dir));
            assert_eq!(verdict.prune, expected, "{patterns:?} on {dir:?}");
        }
    }
}
