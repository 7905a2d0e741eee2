//! An ignore file that parses decides every path, by some laws; a glob matches what a slow and
//! simple matcher does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::text;
use crate::context::{Glob, IgnoreFile};
use crate::rootfs::RootPath;

/// Paths that every file is tried on, beside those that the input names.
const PATHS: [&str; 6] = ["a", "a/b", "a/b/c", ".git/x", "d.md", "src/\u{e9}/m.go"];

/// The part before the first NUL is the ignore file, the rest are paths, one a line.
pub fn check(data: &[u8]) {
    let (patterns, paths) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b""[..]),
    };
    let patterns = text(patterns);
    let given = paths
        .split(|byte| *byte == b'\n')
        .take(8)
        .map(OsStr::from_bytes);
    let known = PATHS.iter().map(OsStr::new);
    let paths: Vec<RootPath> = given.chain(known).map(RootPath::new).collect();
    if let Ok(file) = IgnoreFile::parse(&patterns) {
        check_laws(&file, &patterns, &paths);
    }
    for line in patterns.lines().take(4) {
        check_glob(line, &paths);
    }
}

fn check_laws(file: &IgnoreFile, patterns: &str, paths: &[RootPath]) {
    assert!(!file.matches(&RootPath::root()), "the root is excluded");
    let all = with_line(patterns, "**");
    let none = with_line(patterns, "!**");
    let same = with_line(patterns, "# a comment");
    for path in paths.iter().filter(|path| !path.is_root()) {
        let excluded = file.matches(path);
        assert_eq!(same.matches(path), excluded, "a comment decides {path:?}");
        assert!(all.matches(path), "** does not exclude {path:?}");
        assert!(!none.matches(path), "!** does not keep {path:?}");
        let mut above = path.parent();
        while let Some(dir) = above.filter(|dir| !dir.is_root()) {
            let verdict = file.verdict(&dir);
            assert!(
                excluded || !verdict.prune,
                "{path:?} is kept, {dir:?} is not read"
            );
            let plain = !file.has_exceptions() && verdict.excluded;
            assert!(excluded || !plain, "{dir:?} is excluded, {path:?} is not");
            above = dir.parent();
        }
    }
}

fn with_line(patterns: &str, line: &str) -> IgnoreFile {
    let text = format!("{patterns}\n{line}\n");
    IgnoreFile::parse(&text).unwrap_or_else(|error| panic!("{error} after {line:?} was added"))
}

fn check_glob(pattern: &str, paths: &[RootPath]) {
    // Only brackets are read differently in ignore files.
    let double = Glob::with_double_star(pattern).is_ok();
    let same = double == Glob::new(pattern).is_ok();
    assert!(
        same || pattern.contains('['),
        "{pattern:?} with and without **"
    );
    let Ok(glob) = Glob::new(pattern) else {
        return;
    };
    // The other matcher takes time exponential in the number of stars.
    let stars = pattern.matches('*').count();
    let short = pattern.chars().count() <= 24 && stars <= 4 && !pattern.contains('[');
    for path in paths.iter().take(4) {
        let Some(path) = path
            .relative()
            .to_str()
            .filter(|path| short && path.len() <= 24)
        else {
            continue;
        };
        let slow = matches_slowly(pattern, path);
        assert_eq!(
            glob.matches(path.as_bytes()),
            slow,
            "{pattern:?} on {path:?}"
        );
    }
}

/// `*`, `?` and `\` by trying everything.
fn matches_slowly(pattern: &str, path: &str) -> bool {
    let mut letters = pattern.chars();
    let mut rest = path.chars();
    let literal = match letters.next() {
        None => return path.is_empty(),
        Some('*') => {
            let step = rest.next().is_some_and(|letter| letter != '/');
            return matches_slowly(letters.as_str(), path)
                || (step && matches_slowly(pattern, rest.as_str()));
        }
        Some('?') => {
            let one = rest.next().is_some_and(|letter| letter != '/');
            return one && matches_slowly(letters.as_str(), rest.as_str());
        }
        Some('\\') => letters.next(),
        other => other,
    };
    rest.next() == literal && matches_slowly(letters.as_str(), rest.as_str())
}
