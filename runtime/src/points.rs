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
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, statat};
use rustix::io::Errno;

use crate::error::Error;
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
}
