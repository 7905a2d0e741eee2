//! [`TreeRoot::place`]: what would be mounted is put into the tree, and taken out again.
//!
//! What is at a place goes aside, out of the tree, and comes back; what leads to it and is not there
//! is made, and goes again if nothing else has come into it. The times of the directories in which
//! this happens are kept, and the snapshot forgives it, so that nothing of it is in the difference.
//!
//! | mount | in the tree |
//! |---|---|
//! | [`BindSource::Owned`], writable | the very directory, moved there and back; in a second place a link to it |
//! | any other directory or file | a copy, thrown away |
//! | a socket, a FIFO or a device | another name of it |
//! | [`Mount::Tmpfs`] | an empty directory, thrown away |
//! | [`Mount::Content`] | a file, overwritten and thrown away |
//!
//! So nothing is refused that is written to a read-only place: it is lost, like all that is written
//! to a copy.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, fstat,
    futimens, linkat, open, openat, renameat, symlinkat,
};

use super::journal::Note;
use super::snapshot::{Stamp, settle};
use super::{Shared, TreeRoot, content, entry, fill};
use crate::attributes;
use crate::content::Copier;
use crate::error::Error;
use crate::inroot;
use crate::spec::{BindSource, Mount};

/// What was put into a tree. Who drops it takes everything out, too, but is not told what failed.
#[derive(Debug)]
pub struct Placed {
    shared: Arc<Shared>,
    /// In the order in which it was done.
    done: Vec<Done>,
    /// The directories in which something was done that were there before, and what they were when
    /// all was done.
    touched: Vec<(OwnedFd, PathBuf, Option<Stamp>)>,
    /// Directories that were moved here, and where to.
    moved: Vec<(PathBuf, PathBuf)>,
    /// Whether taking out was tried.
    over: bool,
}

/// One thing that was done.
#[derive(Debug)]
struct Done {
    dir: OwnedFd,
    /// The path of the place, beneath the root.
    path: PathBuf,
    name: CString,
    /// Under which name what was there is kept.
    aside: Option<CString>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A directory that was not there, to be a parent.
    Parent,
    Copy,
    Content,
    Moved(Note),
}

impl TreeRoot {
    /// Puts `mounts` into the tree; of several for one target the last one. Symbolic links are
    /// followed beneath the root.
    ///
    /// # Errors
    /// [`Error::MountPoint`] for a place that cannot be one, [`Error::Io`] when the disk refuses; then
    /// nothing is left in the tree.
    pub fn place(&self, mounts: Vec<Mount>) -> Result<Placed, Error> {
        let mut placed = Placed {
            shared: Arc::clone(&self.shared),
            done: Vec::new(),
            touched: Vec::new(),
            moved: Vec::new(),
            over: false,
        };
        self.shared.lock().placed += 1;
        for mount in uncovered(mounts) {
            placed.put(&mount)?;
        }
        for (dir, _, stamp) in &mut placed.touched {
            let now = fstat(&*dir).map_err(|e| placed.shared.error("look at")(e.into()))?;
            *stamp = Some(Stamp::new(&now));
        }
        settle();
        Ok(placed)
    }
}

/// The last mount on each target, outer ones first.
fn uncovered(mut mounts: Vec<Mount>) -> Vec<Mount> {
    let targets: Vec<PathBuf> = mounts.iter().map(|m| m.target().to_owned()).collect();
    let mut at = 0;
    mounts.retain(|mount| {
        at += 1;
        !targets[at..].iter().any(|later| later == mount.target())
    });
    mounts.sort_by_key(|mount| mount.target().components().count());
    // Before it is moved here, and anything else goes into it.
    let early = |mount: &Mount| {
        let target = mount.target();
        let inner = targets.iter().any(|t| target.starts_with(t) && t != target);
        owned(mount).is_some_and(|(_, readonly)| readonly) && !inner
    };
    mounts.sort_by_key(|mount| !early(mount));
    mounts
}

/// The directory that is moved or copied for a mount, and whether it is for reading.
fn owned(mount: &Mount) -> Option<(&Path, bool)> {
    match mount {
        Mount::Bind {
            source: BindSource::Owned(home),
            readonly,
            ..
        } => Some((home, *readonly)),
        _ => None,
    }
}

impl Placed {
    /// Takes everything out again and puts back what was there. No process may be left in the tree.
    pub fn remove(mut self) -> Result<(), Error> {
        self.take_out()
    }

    fn put(&mut self, mount: &Mount) -> Result<(), Error> {
        let target = mount.target();
        let refuse = |why: String| Error::MountPoint {
            target: target.to_owned(),
            why,
        };
        let root = Arc::clone(&self.shared);
        let located =
            inroot::locate(root.root(), target).map_err(|error| refuse(error.to_string()))?;
        let path = located.path();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refuse("it is the root directory".to_owned()));
        };
        let failed = root.error("put a mount into");
        let made = located.missing.len().saturating_sub(1);
        self.make_parents(
            &located.exists,
            located.missing.get(..made).unwrap_or_default(),
        )
        .map_err(&failed)?;
        let name = entry::c_name(name).map_err(&failed)?;
        let dir = entry::open_dir(root.root(), parent).map_err(&failed)?;
        self.touch(&dir, parent).map_err(&failed)?;
        let source = Source::open(mount, &self.moved)?;
        if located.missing.is_empty() {
            check(&dir, &name, source.is_directory()).map_err(|why| refuse(why.to_owned()))?;
        }
        let put = |placed: &mut Self| -> io::Result<()> {
            let what = source.what(placed, &path)?;
            let aside = placed.set_aside(&dir, &name)?;
            // From here on it is undone, whatever fails.
            placed.done.push(Done {
                dir: dir.try_clone()?,
                path: path.clone(),
                name: name.clone(),
                aside,
                what,
            });
            source.fill(dir.as_fd(), &name)
        };
        entry::unnoticed(dir.as_fd(), || put(self)).map_err(&failed)?;
        if let Source::Owned(home) = source {
            self.moved.push((home, path));
        }
        Ok(())
    }

    /// Makes the directories `missing` below `exists`, as root's, with the time zero.
    fn make_parents(&mut self, exists: &Path, missing: &[std::ffi::OsString]) -> io::Result<()> {
        let mut path = exists.to_owned();
        for name in missing {
            let dir = entry::open_dir(self.shared.root(), &path)?;
            self.touch(&dir, &path)?;
            path.push(name);
            let name = entry::c_name(name)?;
            entry::unnoticed(dir.as_fd(), || new_dir(dir.as_fd(), &name, 0o755))?;
            self.done.push(Done {
                dir,
                path: path.clone(),
                name,
                aside: None,
                what: What::Parent,
            });
        }
        Ok(())
    }

    /// Remembers a directory in which something is about to be done.
    fn touch(&mut self, dir: &OwnedFd, path: &Path) -> io::Result<()> {
        let is_ours = self.done.iter().any(|done| path.starts_with(&done.path));
        if !is_ours && !self.touched.iter().any(|(_, known, _)| known == path) {
            self.touched.push((dir.try_clone()?, path.to_owned(), None));
        }
        Ok(())
    }

    /// Moves what is at a place out of the tree; under which name, if there is anything.
    fn set_aside(&self, dir: &OwnedFd, name: &CString) -> io::Result<Option<CString>> {
        let aside = CString::new(self.shared.number().to_string())?;
        match renameat(dir, name, &self.shared.aside, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn take_out(&mut self) -> Result<(), Error> {
        // Once: what stays after a failure is known no more, and counts as placed forever.
        self.over = true;
        let done = std::mem::take(&mut self.done);
        let touched = std::mem::take(&mut self.touched);
        let shared = Arc::clone(&self.shared);
        let failed = shared.error("take a mount out of");
        // Who has not touched them since sees them as they were.
        let mut untouched = Vec::new();
        for (dir, path, stamp) in touched {
            let now = Stamp::new(&fill::look(dir.as_fd()).map_err(&failed)?);
            if stamp.is_none_or(|stamp| stamp == now) {
                untouched.push((dir, path));
            }
        }
        // Whatever fails: a secret is not to stay because a cache cannot go home.
        let mut undone = Ok(());
        for done in done.into_iter().rev() {
            let dir = done.dir.try_clone();
            let this = dir.and_then(|dir| entry::unnoticed(dir.as_fd(), || done.undo(&shared)));
            undone = undone.and(this);
        }
        undone.map_err(&failed)?;
        let mut state = shared.lock();
        for (dir, path) in untouched {
            let now = fill::look(dir.as_fd()).map_err(&failed)?;
            state.before.forgive(&path, &now);
        }
        state.placed -= 1;
        Ok(())
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if !self.over {
            drop(self.take_out());
        }
    }
}

impl Done {
    fn undo(self, shared: &Shared) -> io::Result<()> {
        match self.what {
            What::Parent => return remove_parent(&self.dir, &self.name),
            What::Copy => drop(entry::remove(self.dir.as_fd(), &self.name)?),
            What::Content => content::destroy(self.dir.as_fd(), &self.name)?,
            What::Moved(note) => {
                bring_home(&self.dir, &self.name, note.home())?;
                note.erase()?;
            }
        }
        let Some(aside) = self.aside else {
            return Ok(());
        };
        match renameat(&shared.aside, &aside, &self.dir, &self.name) {
            Ok(()) => {}
            // The step has deleted the directory in which it was.
            Err(rustix::io::Errno::NOENT) => {
                entry::remove(shared.aside.as_fd(), &aside)?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        // Being moved has changed its time of change, which nobody else could.
        let now = entry::stat(self.dir.as_fd(), &self.name)?;
        shared.lock().before.forgive(&self.path, &now);
        Ok(())
    }
}

/// A directory that was made as a parent stays if something has come into it, or in its place.
fn remove_parent(dir: &OwnedFd, name: &CString) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Takes a directory that was moved here home. One that the step has deleted is empty from now on.
fn bring_home(dir: &OwnedFd, name: &CString, home: &Path) -> io::Result<()> {
    match entry::stat(dir.as_fd(), name) {
        Ok(stat) if entry::kind(&stat) == FileType::Directory => {
            return Ok(renameat(dir, name, CWD, home)?);
        }
        Ok(_) => drop(entry::remove(dir.as_fd(), name)?),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::create_dir(home) {
        // It has never left.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// A mount point that exists has to be of the kind that goes there.
fn check(dir: &OwnedFd, name: &CString, directory: bool) -> Result<(), &'static str> {
    let found = entry::stat(dir.as_fd(), name).map(|stat| entry::kind(&stat).is_dir());
    match (directory, found) {
        (true, Ok(false)) => Err("it is no directory in the image, but a directory goes there"),
        (false, Ok(true)) => Err("it is a directory in the image, but a file goes there"),
        _ => Ok(()),
    }
}

/// Where the files of a mount come from.
enum Source<'m> {
    Directory(OwnedFd),
    File(OwnedFd),
    /// A socket, a FIFO or a device.
    Special(OwnedFd),
    Owned(PathBuf),
    /// A directory that is in the tree already, at this path.
    Again(PathBuf),
    Empty(u32),
    Content(&'m Mount),
}

impl<'m> Source<'m> {
    fn open(mount: &'m Mount, moved: &[(PathBuf, PathBuf)]) -> Result<Self, Error> {
        let (source, readonly) = match mount {
            Mount::Tmpfs { mode, .. } => return Ok(Self::Empty(*mode)),
            Mount::Content { .. } => return Ok(Self::Content(mount)),
            Mount::Bind {
                source, readonly, ..
            } => (source, *readonly),
        };
        if let BindSource::Owned(home) = source {
            match moved.iter().find(|(known, _)| known == home) {
                Some((_, at)) if readonly => {
                    return Err(Error::MountPoint {
                        target: mount.target().to_owned(),
                        why: format!(
                            "what goes there read-only is at /{} for writing, and this place is inside of another mount, where it cannot be copied to",
                            at.display()
                        ),
                    });
                }
                Some((_, at)) => return Ok(Self::Again(at.clone())),
                None => {}
            }
            if !readonly {
                return Ok(Self::Owned(home.clone()));
            }
        }
        let found = match source {
            BindSource::Path(path) | BindSource::Owned(path) => {
                open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|e| Error::io("mount", path)(e.into()))?
            }
            BindSource::Fd(fd) => fd
                .try_clone()
                .map_err(Error::io("open the source of the mount on", mount.target()))?,
        };
        let stat = fill::look(found.as_fd()).map_err(Error::io(
            "look at the source of the mount on",
            mount.target(),
        ))?;
        Ok(match entry::kind(&stat) {
            FileType::Directory => Self::Directory(found),
            FileType::RegularFile => Self::File(found),
            _ => Self::Special(found),
        })
    }

    fn is_directory(&self) -> bool {
        match self {
            Self::Directory(_) | Self::Owned(_) | Self::Again(_) | Self::Empty(_) => true,
            Self::File(_) | Self::Special(_) | Self::Content(_) => false,
        }
    }

    fn what(&self, placed: &Placed, path: &Path) -> io::Result<What> {
        Ok(match self {
            Self::Content(_) => What::Content,
            Self::Owned(home) => {
                let dir = placed.shared.notes.join(placed.shared.number().to_string());
                What::Moved(Note::write(dir, home, path)?)
            }
            _ => What::Copy,
        })
    }

    /// Makes what goes to the free name.
    fn fill(&self, dir: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
        match self {
            Self::Directory(source) => copy_directory(source, dir, name),
            Self::File(source) => copy_file(source, dir, name),
            Self::Special(source) => {
                let from = entry::magic(source.as_fd());
                Ok(linkat(CWD, from, dir, name, AtFlags::SYMLINK_FOLLOW)?)
            }
            Self::Owned(home) => Ok(renameat(CWD, home, dir, name)?),
            Self::Again(at) => Ok(symlinkat(Path::new("/").join(at), dir, name)?),
            Self::Empty(mode) => new_dir(dir, name, *mode),
            Self::Content(mount) => content::write(mount, dir, name),
        }
    }
}

/// An empty directory of root's with this mode and the time zero.
fn new_dir(dir: BorrowedFd<'_>, name: &CString, mode: u32) -> io::Result<()> {
    entry::make_dir(dir, name)?;
    let made = entry::open_dir(dir, entry::as_path(name))?;
    fchown(&made, Some(Uid::ROOT), Some(Gid::ROOT))?;
    fchmod(&made, Mode::from_raw_mode(mode & 0o7777))?;
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    futimens(
        &made,
        &Timestamps {
            last_access: zero,
            last_modification: zero,
        },
    )?;
    Ok(())
}

fn copy_directory(source: &OwnedFd, dir: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let source = openat(source, ".", flags, Mode::empty())?;
    entry::make_dir(dir, name)?;
    let copy = entry::open_dir(dir, entry::as_path(name))?;
    let links =
        fill::fill(source.as_fd(), copy.as_fd(), entry::as_path(name)).map_err(io::Error::other)?;
    fill::join(copy.as_fd(), &links)
}

fn copy_file(source: &OwnedFd, dir: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    let source = std::fs::File::open(entry::magic(source.as_fd()))?;
    let dest = content::new_file(dir, name)?;
    Copier::default().copy(&source, &dest)?;
    attributes::copy(source.as_fd(), dest.as_fd())
}
