//! [`select`]: from the sources of a `COPY` to a list of entries.
//!
//! A source that is named, and each match of a wildcard, is resolved through symbolic links inside
//! the source's root; links found while walking a directory are kept as links. Entries come in
//! bytewise order of the names in each directory, a directory before what is in it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Stat, fstat};

use super::entry::{Entry, Kind, failed, is_directory, is_missing};
use super::expand::{Parts, expand};
use super::walk::{Place, Walk};
use super::{CopyError, CopyOptions, Source};
use crate::context::IgnoreFile;
use crate::rootfs::{Follow, RootPath};

/// One source after wildcards: a single entry, or a directory with all that is in it.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    /// Its name in a destination that is a directory.
    pub name: OsString,
    pub entries: Vec<Entry>,
    /// Whether the entries keep their paths below a destination that is a directory.
    pub parents: bool,
}

/// What a `COPY` copies: entries in a stable order.
#[derive(Clone, Debug)]
pub struct Selection {
    pub(super) hits: Vec<Hit>,
}

impl Selection {
    /// One selection for each thing that was named or matched, in order: `ADD` looks at each.
    pub fn into_hits(self) -> impl Iterator<Item = Selection> {
        self.hits
            .into_iter()
            .map(|hit| Selection { hits: vec![hit] })
    }

    /// The file, if a single regular file was selected.
    ///
    /// # Errors
    /// When it cannot be opened or has changed.
    pub fn open_single_file(&self, source: &Source<'_>) -> Result<Option<File>, CopyError> {
        match self.hits.as_slice() {
            [Hit { entries, .. }] => match entries.as_slice() {
                [entry] if entry.kind == Kind::File => Ok(Some(entry.open(source)?.0)),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

/// Resolves `patterns`, the sources as they are written, to what is to be copied.
///
/// # Errors
/// A literal source that does not exist or is excluded, a malformed pattern, and whatever cannot
/// be read.
pub fn select(
    source: &Source<'_>,
    patterns: &[String],
    options: &CopyOptions,
) -> Result<Selection, CopyError> {
    let selector = Selector::new(source, IgnoreFile::from_patterns(&options.exclude)?);
    let mut hits = Vec::new();
    for pattern in patterns {
        if options.parents {
            hits.push(selector.with_parents(pattern)?);
        } else {
            selector.plain(pattern, &mut hits)?;
        }
    }
    Ok(Selection { hits })
}

pub(super) struct Selector<'s> {
    source: &'s Source<'s>,
    exclude: IgnoreFile,
    no_filter: IgnoreFile,
    /// What was left out, relative to what is selected; only the topmost of what was.
    pub(super) hidden: RefCell<Vec<RootPath>>,
    /// Whether owners on the disk are not those that count.
    pub(super) foreign: Cell<bool>,
}

impl<'s> Selector<'s> {
    pub(super) fn new(source: &'s Source<'s>, exclude: IgnoreFile) -> Self {
        Self {
            source,
            exclude,
            no_filter: IgnoreFile::default(),
            hidden: RefCell::default(),
            foreign: Cell::new(false),
        }
    }

    pub(super) fn filter(&self) -> &IgnoreFile {
        self.source.filter.unwrap_or(&self.no_filter)
    }

    fn plain(&self, pattern: &str, hits: &mut Vec<Hit>) -> Result<(), CopyError> {
        let parts = Parts::parse(pattern, false)?;
        if parts.is_literal() {
            let path = parts.literal(self.source);
            if self.filter().verdict(&path).prune {
                return Err(self.missing(pattern, &path));
            }
            let name = path.file_name().unwrap_or_default();
            let excluded = |real_is_dir: bool| {
                !real_is_dir && self.exclude.matches(&RootPath::root().join(name))
            };
            match self.hit(pattern, &path, &excluded)? {
                Some(hit) => hits.extend(hit),
                None => return Err(self.missing(pattern, &path)),
            }
            return Ok(());
        }
        let base = self.canonical(&parts.base)?;
        for path in expand(self.source, self.filter(), &base, &parts.rest)? {
            let relative = below(&path, &base);
            let excluded = |_| self.exclude.matches(&relative);
            hits.extend(self.hit(pattern, &path, &excluded)?.flatten());
        }
        Ok(())
    }

    /// The hit at `path`; `None` when the filter hides it, `Some(None)` when `--exclude` does.
    pub(super) fn hit(
        &self,
        pattern: &str,
        path: &RootPath,
        excluded: &dyn Fn(bool) -> bool,
    ) -> Result<Option<Option<Hit>>, CopyError> {
        let real = self.canonical(path)?;
        let Some((stat, fd)) = self.look(&real)? else {
            return Err(self.missing(pattern, path));
        };
        let is_dir = is_directory(&stat);
        if real != *path {
            if let Some(inputs) = self.source.inputs {
                inputs.add_links(self.source.root, path);
            }
            let linked = self.filter().verdict(path);
            if linked.excluded && linked.prune {
                return Ok(None);
            }
        }
        if excluded(is_dir) {
            return Ok(Some(None));
        }
        let filter = self.filter().verdict(&real);
        if filter.excluded && (filter.prune || !is_dir) {
            if real != *path {
                return Err(self.missing(pattern, path));
            }
            return Ok(None);
        }
        let hidden = filter.excluded;
        let mut entries = Vec::new();
        let name = real.file_name().unwrap_or_default();
        entries.extend(self.entry(&real, RootPath::root(), &stat, &fd, name)?);
        if is_dir {
            let place = Place {
                path: real,
                relative: RootPath::root(),
                filter,
                exclude: self.exclude.root(),
            };
            self.walk(place, &mut entries)?;
        }
        if entries.is_empty() || (hidden && entries.len() == 1) {
            return Ok(if hidden { None } else { Some(None) });
        }
        Ok(Some(Some(Hit {
            name: path.file_name().unwrap_or_default().to_owned(),
            entries,
            parents: false,
        })))
    }

    fn with_parents(&self, pattern: &str) -> Result<Hit, CopyError> {
        let parts = Parts::parse(pattern, true)?;
        let base = self.canonical(&parts.base)?;
        let mut hit = Hit {
            name: OsString::new(),
            entries: Vec::new(),
            parents: true,
        };
        let mut seen = BTreeSet::new();
        let literal = parts.is_literal();
        for path in expand(self.source, self.filter(), &base, &parts.rest)? {
            let mut found = Vec::new();
            self.tree(&base, &path, &mut found)?;
            if !found.is_empty() {
                self.add_ancestors(&base, &path, &mut seen, &mut hit.entries)?;
            }
            for entry in found {
                if seen.insert(entry.relative.clone()) {
                    hit.entries.push(entry);
                }
            }
        }
        let full = parts.base.join(parts.text());
        let there = || -> Result<bool, CopyError> {
            Ok(self.look(&base.join(parts.text()))?.is_some()
                && !self.filter().verdict(&full).excluded)
        };
        if literal && hit.entries.is_empty() && !there()? {
            return Err(self.missing(pattern, &full));
        }
        Ok(hit)
    }

    /// The entry at `path` and everything below it, with paths relative to `base`.
    fn tree(
        &self,
        base: &RootPath,
        path: &RootPath,
        entries: &mut Vec<Entry>,
    ) -> Result<(), CopyError> {
        let Some((stat, fd)) = self.look(path)? else {
            return Ok(());
        };
        let relative = below(path, base);
        let place = Place {
            filter: self.filter().verdict(path),
            exclude: self.exclude.verdict(&relative),
            path: path.clone(),
            relative,
        };
        let hidden = place.filter.excluded || place.exclude.excluded;
        let is_dir = is_directory(&stat);
        if hidden && (!is_dir || place.filter.prune || place.exclude.prune) {
            return Ok(());
        }
        let name = path.file_name().unwrap_or_default();
        let relative = place.relative.clone();
        entries.extend(self.entry(path, relative, &stat, &fd, name)?);
        if is_dir {
            self.walk(place, entries)?;
        }
        if hidden && entries.len() == 1 {
            entries.clear();
        }
        Ok(())
    }

    fn add_ancestors(
        &self,
        base: &RootPath,
        path: &RootPath,
        seen: &mut BTreeSet<RootPath>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), CopyError> {
        let relative = below(path, base);
        let mut at = RootPath::root();
        let names: Vec<&OsStr> = relative.components().collect();
        for name in names.iter().take(names.len().saturating_sub(1)) {
            at = at.join(name);
            if !seen.insert(at.clone()) {
                continue;
            }
            let real = base.join(at.relative());
            if let Some((stat, fd)) = self.look(&real)?
                && let Some(mut entry) = self.entry(&real, at.clone(), &stat, &fd, name)?
            {
                entry.on_the_way = true;
                entries.push(entry);
            }
        }
        Ok(())
    }

    /// Adds everything below a directory.
    fn walk(&self, place: Place, entries: &mut Vec<Entry>) -> Result<(), CopyError> {
        let walk = Walk {
            source: self.source,
            filter: self.filter(),
            exclude: &self.exclude,
        };
        let seen = walk.below(place, entries)?;
        self.hidden.borrow_mut().extend(seen.hidden);
        self.foreign.set(self.foreign.get() || seen.is_foreign);
        Ok(())
    }

    /// The entry of `stat`, which was asked of `fd`; none for a socket of a stage.
    fn entry(
        &self,
        path: &RootPath,
        relative: RootPath,
        stat: &Stat,
        fd: &OwnedFd,
        name: &OsStr,
    ) -> Result<Option<Entry>, CopyError> {
        let found = Entry::find(
            self.source,
            path.clone(),
            relative,
            stat,
            (fd, OsStr::new("")),
            name,
        )?;
        self.foreign.set(self.foreign.get() || found.is_foreign);
        Ok(found.entry)
    }

    fn canonical(&self, path: &RootPath) -> Result<RootPath, CopyError> {
        let real = self.source.root.canonicalize(path);
        real.map_err(|error| self.failed("resolve", path, error))
    }

    /// `lstat` with the descriptor it was asked of; none when there is nothing.
    fn look(&self, path: &RootPath) -> Result<Option<(Stat, OwnedFd)>, CopyError> {
        let look = || -> io::Result<(Stat, OwnedFd)> {
            let fd = self.source.root.resolve(path, Follow::No)?;
            Ok((fstat(&fd)?, fd))
        };
        match look() {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed("look at", path, error)),
        }
    }

    fn failed(&self, operation: &'static str, path: &RootPath, source: io::Error) -> CopyError {
        failed(self.source, operation, path, source)
    }

    /// The error for a source that is not there, or is there but excluded.
    pub(super) fn missing(&self, pattern: &str, path: &RootPath) -> CopyError {
        let exists = self.source.root.resolve(path, Follow::Yes).is_ok();
        if exists && let Some(filter) = self.source.filter_path {
            return CopyError::Excluded {
                pattern: pattern.to_owned(),
                place: self.source.place.to_owned(),
                filter: filter.display().to_string(),
            };
        }
        if let Ok(target) = self.source.root.read_link(path) {
            return CopyError::DanglingLink {
                pattern: pattern.to_owned(),
                target,
                place: self.source.place.to_owned(),
            };
        }
        CopyError::NotFound {
            pattern: pattern.to_owned(),
            place: self.source.place.to_owned(),
            nearest: super::expand::nearest(self.source, path),
        }
    }
}

/// `path` as it is seen from `base`, which holds it.
pub(super) fn below(path: &RootPath, base: &RootPath) -> RootPath {
    let skipped = base.components().count();
    let mut relative = RootPath::root();
    for name in path.components().skip(skipped) {
        relative = relative.join(name);
    }
    relative
}
