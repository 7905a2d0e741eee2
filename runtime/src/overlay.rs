//! Overlay mounts: a file system that can be written and whose upper directory is the difference.
//!
//! Mounts are detached: they hang in no directory of the host and vanish with their descriptor.
//! `userxattr` keeps overlayfs' own marks in `user.overlay.*`, the only form that works in a user
//! namespace. `volatile` leaves out every sync: whoever keeps the upper directory syncs it once.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use crate::attached::Attached;
use crate::attributes;
use crate::error::Error;
use crate::mount::{Filesystem, clone_tree, errno};
use crate::points::Points;

/// An overlay mount.
///
/// Directories below `dir` of one that can be written: `upper` (what changed, in overlayfs form), `work`
/// (the kernel's own), `empty` and `stubs` (lowers of our making; a step's mount points may lie
/// elsewhere).
#[derive(Debug)]
pub struct Overlay {
    root: OwnedFd,
    // Holds the mount; goes after everything in it.
    mount: OwnedFd,
    dir: PathBuf,
    points: Option<Points>,
}

impl Overlay {
    /// Mounts `lowers` (topmost first, directories in overlayfs form), below `points` if given, with
    /// a fresh upper in `dir`, an empty directory on a file system that can hold one.
    pub fn writable(
        points: Option<PathBuf>,
        lowers: &[PathBuf],
        dir: &Path,
    ) -> Result<Self, Error> {
        let upper = make_dir(dir, "upper")?;
        let work = make_dir(dir, "work")?;
        let bottom = if lowers.is_empty() {
            Some(empty_dir(dir, 0)?)
        } else {
            None
        };
        let points = points.map(|layer| Points::new(layer, lowers));
        // The root is always the upper's: it looks like the topmost layer of the image.
        if let Some(top) = lowers.first().or(bottom.as_ref()) {
            let from = File::open(top).map_err(Error::io("open the layer", top))?;
            let to = File::open(&upper).map_err(Error::io("open", &upper))?;
            attributes::copy(from.as_fd(), to.as_fd()).map_err(Error::io(
                "copy the attributes of the root directory to",
                &upper,
            ))?;
        }
        let lowers: Vec<PathBuf> = points
            .iter()
            .map(|points| points.layer.clone())
            .chain(lowers.iter().cloned())
            .chain(bottom)
            .collect();
        let layers = Layers::open(&lowers, Some((&upper, &work)))?;
        let mount = layers.mount(dir)?;
        let root = open_root(&mount, dir)?;
        Ok(Self {
            mount,
            root,
            dir: dir.to_owned(),
            points,
        })
    }

    /// Mounts `lowers` (topmost first); none is an empty directory. `scratch` is a directory in which
    /// an empty one may be made.
    pub fn readonly(lowers: &[PathBuf], scratch: &Path) -> Result<Self, Error> {
        // An overlay without an upper has at least two lowers; an empty one changes nothing.
        let mut all = lowers.to_vec();
        while all.len() < 2 {
            all.push(empty_dir(scratch, all.len() - lowers.len())?);
        }
        let mount = Layers::open(&all, None)?.mount(scratch)?;
        Ok(Self {
            root: open_root(&mount, scratch)?,
            mount,
            dir: scratch.to_owned(),
            points: None,
        })
    }

    /// The merged tree, a directory open for reading.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub fn mount(&self) -> &OwnedFd {
        &self.mount
    }

    /// Hangs it into the directory `mounted` of its own, to bind parts of it. What is written there
    /// goes to the upper directory all the same, of which nobody is told.
    pub fn attach(self) -> Result<Attached, Error> {
        Attached::new(&self.mount, self.root, &self.dir.join("mounted"))
    }

    /// Hangs it into `point`, a directory to be made, to bind parts of it.
    pub fn attach_to(&self, point: &Path) -> Result<Attached, Error> {
        let root = self.root.try_clone().map_err(Error::io("open", point))?;
        Attached::new(&self.mount, root, point)
    }

    /// Unmounts one that can be written and returns the upper directory.
    pub fn finish(self) -> Result<PathBuf, Error> {
        let Self {
            mount,
            root,
            dir,
            points,
        } = self;
        drop((root, mount));
        if let Some(points) = points {
            let upper = dir.join("upper");
            let forgotten = points.forget(&upper);
            forgotten.map_err(Error::io("take mount points out of", &upper))?;
        }
        if remove_plain_work(&dir.join("work")).is_err() {
            remove(&dir.join("work"))?;
        }
        for name in ["stubs", "empty"] {
            remove(&dir.join(name))?;
        }
        Ok(dir.join("upper"))
    }
}

/// What the kernel leaves in a work directory of which nothing was in use when it was unmounted: taking
/// it away by name is a fifth of the system calls of looking what is there.
fn remove_plain_work(work: &Path) -> io::Result<()> {
    let inner = work.join("work");
    let incompatible = inner.join("incompat");
    let volatile = incompatible.join("volatile");
    fs::remove_file(volatile.join("dirty"))?;
    for dir in [&volatile, &incompatible, &inner, work] {
        fs::remove_dir(dir)?;
    }
    Ok(())
}

/// Deletes a tree; none there is no error.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// The directories of an overlay, open, so that their names in options are short and need no quoting.
struct Layers {
    lowers: Vec<File>,
    upper: Option<(File, File)>,
}

impl Layers {
    fn open(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<Self, Error> {
        let open = |path: &Path| -> Result<File, Error> {
            rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map(File::from)
            .map_err(|e| Error::io("open the layer", path)(e.into()))
        };
        Ok(Self {
            lowers: lowers
                .iter()
                .map(|path| open(path))
                .collect::<Result<_, _>>()?,
            upper: match upper {
                Some((upper, work)) => Some((open(upper)?, open(work)?)),
                None => None,
            },
        })
    }

    /// With `fsconfig` and `lowerdir+` (Linux 6.5), which takes hundreds of layers; else with `mount`
    /// and all layers in one page of options, cut loose afterwards.
    fn mount(&self, dir: &Path) -> Result<OwnedFd, Error> {
        let done = match self.mount_new() {
            Err(Refused::OldKernel) => self.mount_classic(dir),
            Err(Refused::Io(e)) => Err(e),
            Ok(mount) => Ok(mount),
        };
        done.map_err(|source| Error::Overlay {
            dir: dir.to_owned(),
            advice: advice(&source, dir),
            source,
        })
    }

    fn mount_new(&self) -> Result<OwnedFd, Refused> {
        let fs = Filesystem::open("overlay")?;
        for lower in &self.lowers {
            match fs.set("lowerdir+", &name(lower)) {
                Err(e) if errno(&e) == Some(libc::EINVAL) => return Err(Refused::OldKernel),
                other => other?,
            }
        }
        let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
        if let Some((upper, work)) = &self.upper {
            fs.set("upperdir", &name(upper))?;
            fs.set("workdir", &name(work))?;
            fs.flag("volatile")?;
            attributes = MountAttrFlags::empty();
        }
        fs.flag("userxattr")?;
        // Hard links behave alike whatever the kernel's default for inode indexes is.
        fs.set("index", "off")?;
        Ok(fs.mount(attributes)?)
    }

    fn mount_classic(&self, dir: &Path) -> io::Result<OwnedFd> {
        let lowers: Vec<String> = self.lowers.iter().map(name).collect();
        let mut options = format!("userxattr,index=off,lowerdir={}", lowers.join(":"));
        let mut flags = MsFlags::MS_RDONLY;
        if let Some((upper, work)) = &self.upper {
            options += &format!(",volatile,upperdir={},workdir={}", name(upper), name(work));
            flags = MsFlags::empty();
        }
        if options.len() >= 4096 {
            return Err(io::Error::other(format!(
                "{} layers do not fit into one page of mount options; Linux 6.5 has no such limit",
                self.lowers.len()
            )));
        }
        let point = dir.join("mounted");
        fs::create_dir_all(&point)?;
        nix::mount::mount(
            Some("overlay"),
            &point,
            Some("overlay"),
            flags,
            Some(options.as_str()),
        )?;
        let tree = rustix::fs::open(&point, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|fd| clone_tree(fd.as_fd(), "", false));
        nix::mount::umount2(&point, MntFlags::MNT_DETACH)?;
        fs::remove_dir(&point)?;
        tree
    }
}

enum Refused {
    OldKernel,
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Opens the root of a mount whose own descriptor is a mere path.
fn open_root(mount: &OwnedFd, dir: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(mount, ".", flags, Mode::empty())
        .map_err(|e| Error::io("open the root of the overlay in", dir)(e.into()))
}

/// Whether the kernel lets `dir` be named as an upper directory; nothing is mounted or made.
///
/// # Errors
/// When its file system never holds one. Linux before 6.5 says so only when it mounts.
pub fn try_upper(dir: &Path) -> io::Result<()> {
    let dir = File::open(dir)?;
    Filesystem::open("overlay")?.set("upperdir", &name(&dir))
}

fn name(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn make_dir(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = dir.join(name);
    fs::create_dir(&path).map_err(Error::io("create", &path))?;
    Ok(path)
}

/// The `number`th empty directory, with the mode that a root directory has by default.
pub fn empty_dir(dir: &Path, number: usize) -> Result<PathBuf, Error> {
    let path = dir.join("empty").join(number.to_string());
    fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o755))
        .map_err(|e| Error::io("set the mode of", &path)(e.into()))?;
    Ok(path)
}

const ELSEWHERE: &str = "choose a directory on another file system with LAPSTRAKE_ROOT or --root, such as a volume, an emptyDir or /dev/shm";

fn advice(error: &io::Error, dir: &Path) -> String {
    match errno(error) {
        Some(libc::EACCES) => "AppArmor denies mounts, or a layer's directory cannot be read".to_owned(),
        Some(libc::ENODEV) => "this kernel has no overlay file system".to_owned(),
        Some(libc::EPERM) => {
            "overlays in a user namespace need Linux 5.11 and a seccomp profile that allows mounting".to_owned()
        }
        Some(libc::ENOSPC) => "the disk is full, or a limit on mounts is reached".to_owned(),
        _ => match kind_of_filesystem(dir) {
            Some(kind) => format!("{kind} cannot hold an overlay's upper directory; {ELSEWHERE}"),
            None => format!("its file system may not be able to hold one; {ELSEWHERE}"),
        },
    }
}

/// The name of a file system that is known not to work below an overlay.
fn kind_of_filesystem(dir: &Path) -> Option<&'static str> {
    let stat = rustix::fs::statfs(dir).ok()?;
    [
        (0x794c_7630, "an overlay (a container's own root)"),
        (0x6969, "NFS"),
        (0x6573_5546, "FUSE"),
        (0x0bd0_0bd0, "Lustre"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB"),
        (0x4d44, "FAT"),
        (0xf15f, "eCryptfs"),
    ]
    .iter()
    .find(|(magic, _)| *magic == stat.f_type as i64 as u32 as i64)
    .map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_directory_and_the_cure() {
        let e = |errno| Error::Overlay {
            dir: "/here".into(),
            source: io::Error::from_raw_os_error(errno),
            advice: advice(&io::Error::from_raw_os_error(errno), Path::new("/here")),
        };
        let text = e(libc::EINVAL).to_string();
        assert!(
            text.contains("/here") && text.contains("LAPSTRAKE_ROOT"),
            "{text}"
        );
        assert!(e(libc::ENODEV).to_string().contains("no overlay"));
    }
}
