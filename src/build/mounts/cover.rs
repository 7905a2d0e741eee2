//! An overlay over a directory of the host: it hides entries, takes writes, or both.
//!
//! What is to be hidden is deleted in a layer of our own on top of the directory, in overlayfs' form:
//! a character device 0:0 of its name. The directories on the way to it look like the ones below.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Result;
use runtime::{Attached, View, Workspace};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, fstat, futimens, mknodat};

use crate::rootfs::{Follow, RootDir, RootPath};

/// Hangs an overlay over `lower` into the new directory `dir`, without the entries `hidden`. What
/// is written to it goes to `dir`.
pub(super) fn over(
    lower: &OwnedFd,
    hidden: &[RootPath],
    readonly: bool,
    dir: &Path,
) -> Result<Attached> {
    fs::create_dir(dir)?;
    let mut lowers = vec![PathBuf::from(format!(
        "/proc/self/fd/{}",
        lower.as_raw_fd()
    ))];
    if !hidden.is_empty() {
        let cover = dir.with_extension("cover");
        hide(&RootDir::from_fd(lower.try_clone()?), hidden, &cover)?;
        lowers.insert(0, cover);
    }
    Ok(if readonly {
        View::overlay(&lowers, dir)?.attach(&dir.join("mounted"))?
    } else {
        Workspace::overlay(&lowers, dir)?.attach()?
    })
}

/// Fills the new directory `cover` with what deletes `hidden` from `lower`.
fn hide(lower: &RootDir, hidden: &[RootPath], cover: &Path) -> io::Result<()> {
    let mut ways = BTreeSet::from([RootPath::root()]);
    for path in hidden {
        let mut way = path.parent();
        while let Some(dir) = way {
            way = dir.parent();
            ways.insert(dir);
        }
    }
    for way in &ways {
        fs::create_dir(inside(cover, way))?;
    }
    for path in hidden {
        let deleted = inside(cover, path);
        mknodat(CWD, &deleted, FileType::CharacterDevice, Mode::empty(), 0)?;
    }
    // Children first, since making them changed their parents' times.
    for way in ways.iter().rev() {
        let stat = fstat(lower.resolve(way, Follow::No)?)?;
        let made = inside(cover, way);
        chown(&made, Some(stat.st_uid), Some(stat.st_gid))?;
        fs::set_permissions(&made, fs::Permissions::from_mode(stat.st_mode & 0o7777))?;
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        futimens(File::open(&made)?.as_fd(), &times)?;
    }
    Ok(())
}

/// `cover` is ours and empty, and the paths are plain names, so joining is safe.
fn inside(cover: &Path, path: &RootPath) -> PathBuf {
    if path.is_root() {
        return cover.to_owned();
    }
    cover.join(path.relative())
}

fn time(seconds: i64, nanoseconds: u64) -> Timespec {
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    }
}
