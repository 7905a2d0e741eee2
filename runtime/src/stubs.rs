//! Mount points that an image lacks, as a layer of our own between the image and the upper.
//!
//! The layer is built by looking at the merged image: an ancestor that exists there gets the same
//! owner, mode, times and attributes here, so that overlayfs shows the same directory and copies the
//! same one up when a step writes into it. What does not exist is an empty file or a directory of
//! root. As all this lies beneath the upper, nothing has to be removed from it after a step.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Timespec, Timestamps, futimens};

use crate::error::Error;
use crate::inroot::{self, Located};
use crate::spec::{BindSource, Mount, RunSpec};

/// A place that something will be mounted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub path: PathBuf,
    pub directory: bool,
    /// The kernel's own file systems go on a real directory or nowhere: a link there is an attack.
    pub own: bool,
}

impl Target {
    /// The name in the root directory through which it is reached.
    pub fn first_name(&self) -> Option<OsString> {
        let name = inroot::relative(&self.path).components().next()?;
        Some(name.as_os_str().to_owned())
    }
}

/// A layer of mount points.
#[derive(Debug)]
pub struct Built {
    /// Its directory; `None` if the image has every mount point.
    pub layer: Option<PathBuf>,
    /// Whether a target is not where its path says.
    pub through_links: bool,
}

/// Directories that every sandbox mounts.
const DIRECTORIES: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Files that every sandbox mounts.
const FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// All mount points of a run. Those inside another mount (`/dev/shm/x`) are left to the mounter, who
/// looks for them when that mount is there.
pub fn targets(spec: &RunSpec) -> Result<Vec<Target>, Error> {
    let fixed = |path: &&str, directory| Target {
        path: path.into(),
        directory,
        own: directory,
    };
    let mut all: Vec<Target> = DIRECTORIES.iter().map(|p| fixed(p, true)).collect();
    let own_files = FILES.iter().filter(|file| !spec.covers(Path::new(file)));
    all.extend(own_files.map(|p| fixed(p, false)));
    for (at, mount) in spec.mounts.iter().enumerate() {
        let path = mount.target().to_owned();
        if path == Path::new("/proc") {
            return Err(Error::MountPoint {
                target: path,
                why: "the sandbox itself needs /proc as the kernel shows it".to_owned(),
            });
        }
        let inside = |above: &Path| path.starts_with(above) && path != above;
        if spec.is_covered(at)
            || DIRECTORIES.iter().any(|dir| path.starts_with(dir))
            || spec.mounts.iter().any(|above| inside(above.target()))
        {
            continue;
        }
        all.push(Target {
            directory: is_directory(mount)?,
            path,
            own: false,
        });
    }
    Ok(all)
}

fn is_directory(mount: &Mount) -> Result<bool, Error> {
    match mount {
        Mount::Tmpfs { .. } => Ok(true),
        Mount::Content { .. } => Ok(false),
        Mount::Bind {
            source: BindSource::Path(path) | BindSource::Owned(path),
            ..
        } => Ok(fs::metadata(path)
            .map_err(Error::io("mount", path))?
            .is_dir()),
        Mount::Bind {
            source: BindSource::Fd(fd),
            target,
            ..
        } => {
            let stat = rustix::fs::fstat(fd)
                .map_err(|e| Error::io("look at the source of the mount on", target)(e.into()))?;
            Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
        }
    }
}

/// A tree to be made: what each path is. Parents come before children.
type Plan = BTreeMap<PathBuf, Entry>;

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// A directory of the image, shadowed by one that looks alike.
    Shadow,
    Directory,
    File,
}

/// Builds the layer at `dir`, where nothing is yet.
pub fn build(root: BorrowedFd<'_>, targets: &[Target], dir: &Path) -> Result<Built, Error> {
    let mut plan = Plan::new();
    let mut through_links = false;
    for target in targets {
        let refuse = |why: String| Error::MountPoint {
            target: target.path.clone(),
            why,
        };
        let located = inroot::locate(root, &target.path).map_err(|e| refuse(e.to_string()))?;
        through_links |= located.path() != inroot::relative(&target.path);
        if located.missing.is_empty() {
            check(root, &located, target)?;
        } else if target.own && located.path() != inroot::relative(&target.path) {
            return Err(refuse("it is a symbolic link in the image".to_owned()));
        } else {
            add(&mut plan, &located, target.directory);
        }
    }
    let mut layer = None;
    if !plan.is_empty() {
        make(root, &plan, dir).map_err(Error::io("make the layer of mount points", dir))?;
        layer = Some(dir.to_owned());
    }
    Ok(Built {
        layer,
        through_links,
    })
}

/// A mount point that exists has to be of the kind that is mounted there.
fn check(root: BorrowedFd<'_>, at: &Located, target: &Target) -> Result<(), Error> {
    let refuse = |why: &str| Error::MountPoint {
        target: target.path.clone(),
        why: why.to_owned(),
    };
    if target.own && at.exists != inroot::relative(&target.path) {
        return Err(refuse("it is a symbolic link in the image"));
    }
    let fd = inroot::open(root, &at.exists, OFlags::PATH | OFlags::NOFOLLOW)
        .map_err(|e| refuse(&io::Error::from(e).to_string()))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| refuse(&io::Error::from(e).to_string()))?;
    match (
        target.directory,
        FileType::from_raw_mode(stat.st_mode).is_dir(),
    ) {
        (true, false) => Err(refuse(
            "it is no directory in the image, but a directory goes there",
        )),
        (false, true) => Err(refuse(
            "it is a directory in the image, but a file goes there",
        )),
        _ => Ok(()),
    }
}

fn add(plan: &mut Plan, at: &Located, directory: bool) {
    for ancestor in at.exists.ancestors() {
        plan.entry(ancestor.to_owned()).or_insert(Entry::Shadow);
    }
    let mut path = at.exists.clone();
    let (last, parents): (&OsString, &[OsString]) = match at.missing.split_last() {
        Some(parts) => parts,
        None => return,
    };
    for name in parents {
        path.push(name);
        plan.entry(path.clone()).or_insert(Entry::Directory);
    }
    path.push(last);
    plan.entry(path).or_insert(if directory {
        Entry::Directory
    } else {
        Entry::File
    });
}

fn make(root: BorrowedFd<'_>, plan: &Plan, dir: &Path) -> io::Result<()> {
    for (path, entry) in plan {
        // `dir` is ours and empty, and the plan's paths are plain names, so joining is safe.
        let path = if path.as_os_str().is_empty() {
            dir.to_owned()
        } else {
            dir.join(path)
        };
        match entry {
            Entry::File => {
                fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o644)
                    .open(&path)?;
            }
            Entry::Shadow | Entry::Directory => fs::DirBuilder::new().mode(0o755).create(&path)?,
        }
    }
    // Children first, since making them changed their parents' times.
    for (path, entry) in plan.iter().rev() {
        let made = File::open(if path.as_os_str().is_empty() {
            dir.to_owned()
        } else {
            dir.join(path)
        })?;
        match entry {
            Entry::Shadow => {
                let from = inroot::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                crate::attributes::copy(from.as_fd(), made.as_fd())?;
            }
            Entry::Directory | Entry::File => {
                let mode = if *entry == Entry::File { 0o644 } else { 0o755 };
                rustix::fs::fchmod(&made, rustix::fs::Mode::from_raw_mode(mode))?;
                futimens(&made, &EPOCH)?;
            }
        }
    }
    Ok(())
}

/// A time that does not depend on when the step ran, should such a directory be copied up.
const EPOCH: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    },
    last_modification: Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn target(path: &str, directory: bool) -> Target {
        Target {
            path: path.into(),
            directory,
            own: DIRECTORIES.contains(&path),
        }
    }

    fn run(image: &Path, targets: &[Target]) -> Result<Option<PathBuf>, Error> {
        let out = image.with_extension("stubs");
        let built = build(File::open(image).unwrap().as_fd(), targets, &out);
        built.map(|built| built.layer)
    }

    #[test]
    fn only_what_is_missing_is_made_and_ancestors_look_alike() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::create_dir_all(image.join("etc")).unwrap();
        fs::set_permissions(image.join("etc"), fs::Permissions::from_mode(0o751)).unwrap();
        fs::create_dir(image.join("proc")).unwrap();
        symlink("../run/stub", image.join("etc/resolv.conf")).unwrap();
        let wanted = [
            target("/proc", true),
            target("/dev", true),
            target("/etc/hosts", false),
            target("/etc/resolv.conf", false),
            target("/a/b", true),
            target("/a/b/c", true),
        ];
        let made = run(&image, &wanted).unwrap().unwrap();
        assert!(!made.join("proc").exists());
        assert!(made.join("etc/hosts").is_file() && made.join("run/stub").is_file());
        assert!(!made.join("etc/resolv.conf").exists());
        assert!(made.join("dev").is_dir() && made.join("a/b/c").is_dir());
        let (etc, shadow) = (
            fs::metadata(image.join("etc")).unwrap(),
            fs::metadata(made.join("etc")).unwrap(),
        );
        assert_eq!(
            (etc.mode(), etc.mtime_nsec()),
            (shadow.mode(), shadow.mtime_nsec())
        );
        assert_eq!(fs::metadata(made.join("a")).unwrap().mtime(), 0);
    }

    #[test]
    fn links_and_wrong_kinds_are_refused_and_a_complete_image_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::create_dir_all(image.join("real")).unwrap();
        fs::write(image.join("file"), "").unwrap();
        symlink("/real", image.join("proc")).unwrap();
        symlink("/none", image.join("sys")).unwrap();
        for (path, directory, why) in [
            ("/proc", true, "symbolic link"),
            ("/sys", true, "symbolic link"),
            ("/file", true, "no directory"),
            ("/real", false, "is a directory"),
            ("/file/x", false, "Not a directory"),
        ] {
            let error = run(&image, &[target(path, directory)])
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
        assert!(
            run(&image, &[target("/real", true), target("/file", false)])
                .unwrap()
                .is_none()
        );
    }
}
