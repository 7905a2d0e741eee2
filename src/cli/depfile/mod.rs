//! `--depfile`: a rule for make, by which it knows without lapstrake that there is nothing to do.
//!
//! The target is the file that the build makes; its prerequisites are the Dockerfile, the ignore
//! files and what the steps looked at in contexts that are directories: files by their times,
//! directories because theirs change when something is added or taken away. Every prerequisite is
//! also a target with nothing to do, so that one which has vanished does not stop make.
//!
//! make compares times, and so the target gets its own last of all, when no file of the build will
//! change the time of a directory any more. If something that was read has changed meanwhile, the
//! target gets a time before that instead.

mod escape;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use super::build_args::BuildArgs;
use super::exit::UsageError;
use super::files::write_whole;
use super::output_spec::OutputSpec;
use crate::context::{Context, Mtime};
use crate::progress::Progress;
use escape::{Escaped, escape, is_plain};

/// A rule that was asked for.
pub(super) struct Depfile<'a> {
    path: &'a Path,
    /// The target as it is written.
    target: Escaped,
    /// The file that gets its time last, if the build makes the target.
    stamp: Option<&'a Path>,
    /// What the build writes.
    written: Vec<&'a Path>,
    /// What was read, with its time when it was.
    read: BTreeMap<PathBuf, Option<Mtime>>,
    /// What would be read if it were there.
    absent: BTreeSet<PathBuf>,
}

impl<'a> Depfile<'a> {
    /// What the flags ask for.
    ///
    /// # Errors
    /// When nothing can be the target.
    pub(super) fn asked(
        args: &'a BuildArgs,
        outputs: &'a [OutputSpec],
    ) -> Result<Option<Self>, UsageError> {
        let Some(path) = args.depfile.as_deref() else {
            return Ok(None);
        };
        let dests = outputs.iter().filter_map(|output| output.dest.as_deref());
        let dests: Vec<&Path> = dests.filter(|dest| dest.as_os_str() != "-").collect();
        let made = || {
            args.iidfile
                .as_deref()
                .into_iter()
                .chain(dests.iter().copied())
        };
        let (target, stamp) = match args.depfile_target.as_deref() {
            Some(target) => (target, made().find(|made| is_same(made, target))),
            None => match made().next() {
                Some(made) => (made, Some(made)),
                None => {
                    return Err(UsageError(
                        "--depfile needs a file that the build makes, to be the target of its rule: give \
                         --iidfile FILE or an output with dest=PATH, or name one with --depfile-target"
                            .into(),
                    ));
                }
            },
        };
        let escaped = escape(target.as_os_str()).ok_or_else(|| {
            UsageError(format!("{target:?} cannot be written as a target for make"))
        })?;
        let written = made().chain([path]).chain(args.metadata_file.as_deref());
        Ok(Some(Self {
            path,
            target: escaped,
            stamp,
            written: written.collect(),
            read: BTreeMap::new(),
            absent: BTreeSet::new(),
        }))
    }

    /// Adds the Dockerfile, if it is a file here, and the ignore file of `context`.
    pub(super) fn add_dockerfile(&mut self, dockerfile: Option<&Path>, context: &Context) {
        if let Some(file) = dockerfile {
            self.add_text(file);
            let mut own = file.as_os_str().to_owned();
            own.push(".dockerignore");
            if context.ignore_path() != Some(Path::new(&own)) {
                self.absent.insert(clean(Path::new(&own)));
            }
            if file.file_name() == Some("dockerfile".as_ref()) {
                self.absent
                    .insert(clean(&file.with_file_name("Dockerfile")));
            }
        }
        self.add_ignore_file(context);
    }

    /// Adds other files of this host.
    pub(super) fn add_files(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        for file in files {
            self.add_text(&file);
        }
    }

    /// Adds what the steps looked at.
    pub(super) fn add_inputs(&mut self, context: &Context) {
        let Some((dir, inputs)) = context.recorded() else {
            return;
        };
        for (path, input) in inputs.all() {
            self.read
                .insert(clean(&dir.join(path.relative())), input.mtime);
        }
    }

    /// Adds the ignore file that is in force; without one, its place.
    pub(super) fn add_ignore_file(&mut self, context: &Context) {
        match (context.ignore_path(), context.recorded()) {
            (Some(file), _) => self.add_text(file),
            (None, Some((dir, _))) => _ = self.absent.insert(clean(&dir.join(".dockerignore"))),
            (None, None) => {}
        }
    }

    fn add_text(&mut self, file: &Path) {
        let mtime = fs::metadata(file).map(|metadata| mtime(&metadata));
        // One that has vanished since it was read has changed, which make will see.
        self.read.insert(clean(file), mtime.ok());
    }

    /// Writes the rule, unless it is there already, and gives the target its time.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn finish(mut self, progress: &Progress) -> Result<()> {
        let rule = self.rule(progress);
        let is_there = fs::read(self.path).is_ok_and(|held| held == rule);
        if !is_there {
            write_whole(self.path, |out| Ok(out.write_all(&rule)?))?;
        }
        let Some(stamp) = self.stamp else {
            return Ok(());
        };
        let is_ours = |metadata: &fs::Metadata| metadata.is_file() || metadata.is_dir();
        if !fs::metadata(stamp).is_ok_and(|metadata| is_ours(&metadata)) {
            return Ok(());
        }
        let time = match self.changed() {
            None => Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            },
            Some((path, (seconds, nanoseconds))) => {
                progress.warn(&format!(
                    "{} changed during the build: make will build again",
                    path.display()
                ));
                Timespec {
                    tv_sec: seconds - 1,
                    tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
                }
            }
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, stamp, &times, AtFlags::empty())
            .with_context(|| format!("cannot set the time of {}", stamp.display()))
    }

    /// What has changed since it was read, and the earliest time of such a change.
    fn changed(&self) -> Option<(&Path, Mtime)> {
        let parents = self.written.iter().filter_map(|path| identity(above(path)));
        let ours: BTreeSet<(u64, u64)> = parents.collect();
        let changed = self.read.iter().filter_map(|(path, then)| {
            let metadata = fs::metadata(path).ok()?;
            let (then, now) = ((*then)?, mtime(&metadata));
            // The build itself writes into its own directories.
            let is_own = ours.contains(&(metadata.dev(), metadata.ino()))
                || self
                    .written
                    .iter()
                    .any(|made| path.starts_with(clean(made)));
            (then != now && !(metadata.is_dir() && is_own)).then_some((path.as_path(), now))
        });
        changed.min_by_key(|(_, now)| *now)
    }

    fn rule(&mut self, progress: &Progress) -> Vec<u8> {
        // A place that make cannot look for is noticed by the directory it is in.
        let (plain, odd): (Vec<_>, Vec<_>) = std::mem::take(&mut self.absent)
            .into_iter()
            .filter(|path| !self.read.contains_key(path))
            .partition(|path| is_plain(path.as_os_str()));
        let odd = odd.iter().map(|path| (above(path).to_owned(), None));
        self.read.extend(odd);
        let mut names = Vec::new();
        for path in self.read.keys() {
            match escape(path.as_os_str()) {
                Some(name) => names.push(name),
                None => progress.warn(&format!(
                    "--depfile: make has no way to write {path:?}, so it will not notice when that changes"
                )),
            }
        }
        let mut rule = [&self.target.target, &b":"[..]].concat();
        let mut add = |name: &[u8]| {
            rule.extend_from_slice(b" \\\n  ");
            rule.extend_from_slice(name);
        };
        for name in &names {
            add(&name.prerequisite);
        }
        for path in plain {
            add(&[b"$(wildcard ", path.as_os_str().as_bytes(), b")"].concat());
        }
        rule.push(b'\n');
        for name in names {
            rule.push(b'\n');
            rule.extend_from_slice(&name.target);
            rule.extend_from_slice(b":\n");
        }
        rule
    }
}

/// The path without `.` in it, but for `.` itself: make takes `./x` for `x`.
fn clean(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let clean: PathBuf = parts.collect();
    match clean.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => clean,
    }
}

/// The directory that a path is in.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn mtime(metadata: &fs::Metadata) -> Mtime {
    let nanoseconds = u64::try_from(metadata.mtime_nsec()).unwrap_or_default();
    (metadata.mtime(), nanoseconds)
}

/// Whether both paths are one place, which may hold nothing yet.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| -> Option<((u64, u64), OsString)> {
        Some((identity(above(path))?, path.file_name()?.to_owned()))
    };
    let (one, other) = (place(one), place(other));
    one.is_some() && one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_make_has_them() {
        for (path, expected, parent) in [
            (".", ".", "."),
            ("./", ".", "."),
            ("./a/./b/", "a/b", "a"),
            ("a", "a", "."),
            ("../a", "../a", ".."),
            ("/a/b", "/a/b", "/a"),
        ] {
            let clean = clean(Path::new(path));
            assert_eq!(clean, Path::new(expected));
            if expected != "." {
                assert_eq!(above(&clean), Path::new(parent));
            }
        }
        assert!(is_same(Path::new("./x"), Path::new("x")));
        assert!(!is_same(Path::new("y"), Path::new("x")));
    }
}
