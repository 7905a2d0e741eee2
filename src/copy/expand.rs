//! Wildcards in sources, and the nearest name of a source that is not there.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, statat};

use super::walk::{names, open_dir};
use super::{CopyError, Source};
use crate::context::{Glob, IgnoreFile};
use crate::rootfs::{Follow, RootPath};

/// One component of a pattern.
pub(super) enum Part {
    Name(String),
    Glob(Glob),
    /// `**`: any number of directories, none included.
    Deep,
}

/// A source, split where its wildcards begin (at `/./` with `--parents`).
pub(super) struct Parts {
    /// The directory that the rest is relative to.
    pub base: RootPath,
    pub rest: Vec<Part>,
    text: RootPath,
}

impl Parts {
    /// Reads a source.
    pub(super) fn parse(pattern: &str, parents: bool) -> Result<Self, CopyError> {
        let (base, text) = match pattern.split_once("/./") {
            Some((base, text)) if parents => (RootPath::new(base), RootPath::new(text)),
            _ => (RootPath::root(), RootPath::new(pattern)),
        };
        let has_wildcards = Glob::has_wildcards(pattern);
        let mut parts = Self {
            base,
            rest: Vec::new(),
            text: text.clone(),
        };
        for name in text.components() {
            let name = name.to_string_lossy();
            let literal = !Glob::has_wildcards(&name);
            if literal && !parents && has_wildcards && parts.rest.is_empty() {
                parts.base = parts.base.join(unescape(&name));
                continue;
            }
            parts.rest.push(match &*name {
                "**" if parents => Part::Deep,
                name if literal && has_wildcards => Part::Name(unescape(name)),
                name if literal => Part::Name(name.to_owned()),
                name => Part::Glob(Glob::new(name)?),
            });
        }
        Ok(parts)
    }

    /// Whether there is no wildcard.
    pub(super) fn is_literal(&self) -> bool {
        self.rest.iter().all(|part| matches!(part, Part::Name(_)))
    }

    /// The pattern behind the base, relative to it.
    pub(super) fn text(&self) -> &std::path::Path {
        self.text.relative()
    }

    /// The path of a literal source: as written, or with its backslashes taken for escapes where
    /// only that exists.
    pub(super) fn literal(&self, source: &Source<'_>) -> RootPath {
        let written = self.base.join(self.text());
        let plain = unescape(&self.text.to_string());
        let unescaped = RootPath::new(&plain);
        let exists = |path: &RootPath| source.root.resolve(path, Follow::No).is_ok();
        if unescaped != written && !exists(&written) && exists(&unescaped) {
            unescaped
        } else {
            written
        }
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            '\\' => plain.extend(chars.next()),
            other => plain.push(other),
        }
    }
    plain
}

/// Every path below `base` that matches, in walk order; below a match nothing is looked for, and no
/// link is followed on the way.
pub(super) fn expand(
    source: &Source<'_>,
    filter: &IgnoreFile,
    base: &RootPath,
    parts: &[Part],
) -> Result<Vec<RootPath>, CopyError> {
    let mut search = Search {
        source,
        filter,
        found: BTreeSet::new(),
        seen: HashSet::new(),
    };
    if source.root.resolve(base, Follow::No).is_ok() {
        search.visit(base, parts)?;
    }
    let mut paths: Vec<RootPath> = search
        .found
        .into_iter()
        .map(|key| RootPath::new(key.join(OsStr::new("/"))))
        .collect();
    paths.dedup_by(|next, kept| next.starts_with(kept));
    Ok(paths)
}

struct Search<'s> {
    source: &'s Source<'s>,
    filter: &'s IgnoreFile,
    /// By components, which is the order of a walk.
    found: BTreeSet<Vec<std::ffi::OsString>>,
    /// Directories and the number of parts left there: `**` comes by more than once.
    seen: HashSet<(RootPath, usize)>,
}

impl Search<'_> {
    /// Matches `parts` against what is in the directory, or other entry, `path`.
    fn visit(&mut self, path: &RootPath, parts: &[Part]) -> Result<(), CopyError> {
        if !self.seen.insert((path.clone(), parts.len())) {
            return Ok(());
        }
        let Some((part, rest)) = parts.split_first() else {
            let names = path.components().map(OsStr::to_owned).collect();
            self.found.insert(names);
            return Ok(());
        };
        if let Part::Deep = part
            && !rest.is_empty()
        {
            self.visit(path, rest)?;
        }
        for (name, is_dir) in self.list(path)? {
            let matches = match part {
                Part::Name(wanted) => name.as_bytes() == wanted.as_bytes(),
                Part::Glob(glob) => glob.matches(name.as_bytes()),
                Part::Deep => rest.is_empty(),
            };
            let next = path.join(&name);
            if matches && (is_dir || rest.is_empty()) {
                self.visit(&next, rest)?;
            } else if matches!(part, Part::Deep) && is_dir {
                self.visit(&next, parts)?;
            }
        }
        Ok(())
    }

    /// The visible entries of a directory and whether each is one itself.
    fn list(&self, path: &RootPath) -> Result<Vec<(std::ffi::OsString, bool)>, CopyError> {
        let dir = open_dir(self.source, path)?;
        let above = self.filter.verdict(path);
        let mut list = Vec::new();
        for name in names(self.source, path, &dir)? {
            let verdict = self.filter.enter(&above, &path.join(&name));
            if verdict.prune {
                continue;
            }
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW);
            let is_dir =
                stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
            if is_dir || !verdict.excluded {
                list.push((name, is_dir));
            }
        }
        Ok(list)
    }
}

/// The existing path whose name is nearest to the first missing component of `path`.
pub(super) fn nearest(source: &Source<'_>, path: &RootPath) -> Option<RootPath> {
    let mut dir = RootPath::root();
    for name in path.components() {
        let next = dir.join(name);
        if source.root.resolve(&next, Follow::Yes).is_ok() {
            dir = next;
            continue;
        }
        let real = source.root.canonicalize(&dir).ok()?;
        let fd = open_dir(source, &real).ok()?;
        let wanted = name.to_string_lossy().to_lowercase();
        let candidates = names(source, &real, &fd).ok()?.into_iter();
        let scored = candidates.map(|name| {
            let distance = distance(&wanted, &name.to_string_lossy().to_lowercase());
            (distance, name)
        });
        let (distance, best) = scored.min()?;
        let limit = wanted.chars().count().div_ceil(2).min(3);
        return (distance <= limit).then(|| dir.join(best));
    }
    None
}

/// How many characters must be added, removed or changed.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, b) in right.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
