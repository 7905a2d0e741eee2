//! [`MountPoints`]: layers of mount points, remembered from one step to the next.
//!
//! What a stack lacks is looked up once, in its merged view. A layer that is put on top of it changes
//! nothing of that unless it has something at a name that was looked at, so for the next step it is
//! enough to look for these names in the new layers. The layer of mount points itself is the same for
//! all of them: overlays share what lies below them.
//!
//! Invariant: for each [`Known`] and every path of its targets, the merged view of its lowers was
//! free of symbolic links, and none of its lowers changes.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fstat, futimens, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::Error;
use crate::inroot;
use crate::overlay::Overlay;
use crate::stubs::{self, Target};

/// More stacks than this are not remembered at once.
const MOST: usize = 64;

/// What is known of mount points that layers lack, for as long as a directory lasts.
#[derive(Debug)]
pub struct MountPoints {
    dir: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: Vec<Known>,
    made: usize,
}

/// What was found out about one stack.
#[derive(Debug)]
struct Known {
    targets: Vec<Target>,
    lowers: Vec<PathBuf>,
    /// The names in the root directory through which the targets are reached.
    names: BTreeSet<OsString>,
    layer: Option<PathBuf>,
}

impl MountPoints {
    /// Keeps its layers in `dir`, which is made when it is needed, on the file system of the lowers.
    /// The directory must outlive every workspace that is made with this value.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            inner: Mutex::default(),
        }
    }

    /// The layer of those `targets` that `lowers` lack; `None` if they have all. `scratch` is an empty
    /// directory of the caller's.
    pub(crate) fn layer(
        &self,
        lowers: &[PathBuf],
        scratch: &Path,
        targets: Vec<Target>,
    ) -> Result<Option<PathBuf>, Error> {
        if let Some(layer) = self.remembered(lowers, &targets) {
            return Ok(layer);
        }
        let dir = self.next_dir()?;
        let built = match lowers {
            // A layer on its own is what its overlay would show: there is nothing to hide in it.
            [only] => {
                let root = File::open(only).map_err(Error::io("open the layer", only))?;
                stubs::build(root.as_fd(), &targets, &dir)?
            }
            _ => {
                let view = Overlay::readonly(lowers, scratch)?;
                stubs::build(view.root(), &targets, &dir)?
            }
        };
        if !built.through_links {
            self.remember(Known {
                names: targets.iter().filter_map(Target::first_name).collect(),
                targets,
                lowers: lowers.to_vec(),
                layer: built.layer.clone(),
            });
        }
        Ok(built.layer)
    }

    fn remembered(&self, lowers: &[PathBuf], targets: &[Target]) -> Option<Option<PathBuf>> {
        let mut inner = self.lock();
        let known = inner.known.iter_mut().find(|known| {
            known.targets == targets
                && lowers
                    .strip_suffix(known.lowers.as_slice())
                    .is_some_and(|new| new.iter().all(|layer| has_none_of(layer, &known.names)))
        })?;
        if known.lowers.len() < lowers.len() {
            known.lowers = lowers.to_vec();
        }
        Some(known.layer.clone())
    }

    fn remember(&self, known: Known) {
        let mut inner = self.lock();
        if inner.known.len() == MOST {
            inner.known.remove(0);
        }
        inner.known.push(known);
    }

    /// The place for another layer; nothing is there.
    fn next_dir(&self) -> Result<PathBuf, Error> {
        let number = {
            let mut inner = self.lock();
            inner.made += 1;
            inner.made
        };
        fs::create_dir_all(&self.dir).map_err(Error::io("create", &self.dir))?;
        Ok(self.dir.join(number.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mount points of one step.
#[derive(Debug)]
pub(crate) struct Points {
    pub layer: PathBuf,
    lowers: Vec<PathBuf>,
}

impl Points {
    /// Those of `layer`, made for `lowers`.
    pub fn new(layer: PathBuf, lowers: &[PathBuf]) -> Self {
        Self {
            layer,
            lowers: lowers.to_vec(),
        }
    }

    /// Takes directories out of `upper` that are there only because something was to be mounted below
    /// them: a step that changes their owner or mode (`chown -R`) has them copied up. Those in which it has made
    /// something stay.
    pub fn forget(&self, upper: &Path) -> io::Result<()> {
        let root = File::open(upper)?;
        let mut dirs = Vec::new();
        directories(&self.layer, Path::new(""), &mut dirs)?;
        // Children come after their parents.
        for dir in dirs.iter().rev() {
            if let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let parent = match inroot::open(root.as_fd(), parent, flags) {
                    Err(Errno::NOENT | Errno::NOTDIR) => continue,
                    other => other?,
                };
                if is_directory(&parent, name)? && !self.is_in_image(dir)? {
                    forget(&parent, name)?;
                }
            }
        }
        Ok(())
    }

    fn is_in_image(&self, dir: &Path) -> io::Result<bool> {
        for lower in &self.lowers {
            let root = File::open(lower)?;
            match inroot::open(root.as_fd(), dir, OFlags::PATH | OFlags::NOFOLLOW) {
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// The directories below `dir` of a layer of mount points, which is small, relative to it.
fn directories(layer: &Path, dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(layer.join(dir))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let path = dir.join(entry.file_name());
            found.push(path.clone());
            directories(layer, &path, found)?;
        }
    }
    Ok(())
}

fn is_directory(dir: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        other => Ok(FileType::from_raw_mode(other?.st_mode).is_dir()),
    }
}

/// Removes a directory if it is empty, and puts the time of the one it is in back.
fn forget(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let stat = fstat(dir)?;
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
        other => other?,
    }
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime as _,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    };
    Ok(futimens(dir, &times)?)
}

/// Whether the root directory of a layer has nothing by these names, deletions included. When in
/// doubt it has: then the merged view is asked.
fn has_none_of(layer: &Path, names: &BTreeSet<OsString>) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(layer, flags, Mode::empty()) else {
        return false;
    };
    names.iter().all(|name| {
        let found = statat(&root, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW);
        matches!(found, Err(Errno::NOENT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn target(path: &str) -> Target {
        Target {
            path: path.into(),
            directory: true,
            own: false,
        }
    }

    /// One step over `lowers`, each a list of directories; `None` where an overlay would be needed.
    fn step(points: &MountPoints, lowers: &[PathBuf], paths: &[&str]) -> Option<Option<PathBuf>> {
        let targets: Vec<Target> = paths.iter().map(|path| target(path)).collect();
        if lowers.len() == 1 {
            return Some(points.layer(lowers, Path::new("/none"), targets).unwrap());
        }
        points.remembered(lowers, &targets)
    }

    #[test]
    fn layers_that_touch_none_of_the_places_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str, paths: &[&str]| {
            for path in paths {
                fs::create_dir_all(dir.path().join(name).join(path)).unwrap();
            }
            dir.path().join(name)
        };
        let base = layer("base", &["etc", "lib"]);
        let other = layer("other", &["usr/etc", "tmp"]);
        let etc = layer("etc", &["etc"]);
        let points = MountPoints::new(dir.path().join("points"));
        let wanted = ["/proc", "/etc/x"];
        let first = step(&points, std::slice::from_ref(&base), &wanted).unwrap();
        assert!(first.as_ref().unwrap().join("etc/x").is_dir());
        let grown = [other.clone(), base.clone()];
        assert_eq!(step(&points, &grown, &wanted), Some(first.clone()));
        let twice = [other.clone(), other.clone(), base.clone()];
        assert_eq!(step(&points, &twice, &wanted), Some(first.clone()));
        // Something at one of the names, another stack, other places: to be looked up anew.
        let changed = [etc.clone(), other.clone(), other.clone(), base.clone()];
        assert_eq!(step(&points, &changed, &wanted), None);
        assert_eq!(step(&points, &[other.clone(), etc], &wanted), None);
        assert_eq!(step(&points, &twice, &["/proc"]), None);
        // Nothing is missing here, which is remembered, too.
        assert_eq!(
            step(&points, std::slice::from_ref(&base), &["/lib"]),
            Some(None)
        );
        assert_eq!(step(&points, &[other, base], &["/lib"]), Some(None));
    }

    #[test]
    fn what_was_reached_through_a_link_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(base.join("run")).unwrap();
        fs::create_dir(base.join("var")).unwrap();
        symlink("/run", base.join("var/run")).unwrap();
        let points = MountPoints::new(dir.path().join("points"));
        let lowers = std::slice::from_ref(&base);
        let made = step(&points, lowers, &["/var/run/x"]).unwrap().unwrap();
        assert!(made.join("run/x").is_dir());
        assert_eq!(points.remembered(lowers, &[target("/var/run/x")]), None);
    }

    #[test]
    fn directories_that_only_carry_mounts_leave_the_upper() {
        let dir = tempfile::tempdir().unwrap();
        let make = |paths: &[&str]| {
            for path in paths {
                fs::create_dir_all(dir.path().join(path)).unwrap();
            }
        };
        make(&[
            "layer/a/b/c",
            "layer/etc/x/y",
            "layer/n/o",
            "base/etc/x",
            "base/n",
        ]);
        make(&[
            "upper/a/b",
            "upper/a/new",
            "upper/etc/x",
            "upper/n/o",
            "upper/own",
        ]);
        let upper = dir.path().join("upper");
        let age = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5);
        let a = File::open(upper.join("a")).unwrap();
        a.set_times(fs::FileTimes::new().set_modified(age)).unwrap();
        let points = Points::new(dir.path().join("layer"), &[dir.path().join("base")]);
        points.forget(&upper).unwrap();
        for (path, stays) in [
            ("a", true),
            ("a/b", false),
            ("a/new", true),
            ("etc/x", true),
            ("n", true),
            ("n/o", false),
            ("own", true),
        ] {
            assert_eq!(upper.join(path).exists(), stays, "{path}");
        }
        assert_eq!(a.metadata().unwrap().modified().unwrap(), age);
    }
}
