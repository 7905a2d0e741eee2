//! [`seal`]: a finished upper directory becomes a layer.

use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use runtime::{Owners, Record};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use super::unchanged::drop_unchanged;
use super::{Attr, Attributes, LayerError, LayerStack, MAX_DEPTH, disk, supervised};
use crate::rootfs::RootPath;

/// Moves `upper` to `staging/diff` and writes `staging/attributes`, ready to be published by
/// renaming `staging`.
///
/// `recorded` is what the step itself recorded; to it comes what `inherit` finds. What `below` has as well leaves
/// the upper directory, as the module `unchanged` says. `upper` and `staging` lie on one file system.
///
/// # Errors
/// [`LayerError::Disk`]; `staging` is then to be thrown away.
pub fn seal(
    staging: &Path,
    upper: &Path,
    below: &LayerStack,
    recorded: Attributes,
    inherit: Inherit<'_>,
) -> Result<(), LayerError> {
    let diff = staging.join("diff");
    let mut attributes = recorded;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, upper, flags, Mode::empty())
        .map_err(LayerError::disk("open", upper.display()))?;
    if inherit.finds(below) {
        let mut heir = Heir {
            below,
            inherit,
            attributes: &mut attributes,
        };
        heir.entry(&root, &RootPath::root())?;
        heir.directory(&root, &RootPath::root(), 0)?;
    }
    drop_unchanged(&root, below, &mut attributes)?;
    std::fs::rename(upper, &diff).map_err(LayerError::disk("move the upper to", diff.display()))?;
    attributes.save(staging)
}

/// Where owners come from that the disk under an upper directory has not kept.
#[derive(Clone, Copy)]
pub enum Inherit<'a> {
    /// Whoever wrote has recorded it all.
    Nothing,
    /// Regular files and directories that overlayfs copied up (they carry `user.overlay.origin`) and
    /// that have no record inherit that of `below`, but for what the step has changed of it: a copy has lost an
    /// owner that the disk could not hold, and a device. A copy of a file with several names carries no origin: it
    /// cannot be told from a new file, whose owner the disk says, and counts as one.
    Copies,
    /// A supervisor has kept them: in attributes of the files, which go before what was recorded, and
    /// in these tables. Copies of files from layers without attributes inherit as above.
    Supervised(&'a Owners),
}

impl Inherit<'_> {
    fn finds(self, below: &LayerStack) -> bool {
        match self {
            Self::Nothing => false,
            Self::Copies => !below.has_no_attributes(),
            Self::Supervised(owners) => !below.has_no_attributes() || owners.has_records(),
        }
    }
}

struct Heir<'a> {
    below: &'a LayerStack,
    inherit: Inherit<'a>,
    attributes: &'a mut Attributes,
}

impl Heir<'_> {
    fn directory(
        &mut self,
        dir: &OwnedFd,
        path: &RootPath,
        depth: usize,
    ) -> Result<(), LayerError> {
        if depth > MAX_DEPTH {
            return Err(LayerError::Depth {
                path: path.to_string(),
                limit: MAX_DEPTH,
            });
        }
        let names = disk::list(dir).map_err(LayerError::disk("list the directory", path))?;
        for (name, kind) in names {
            let entry = path.join(OsStr::from_bytes(name.to_bytes()));
            let failed = || LayerError::disk::<Errno>("open", &entry);
            match kind {
                FileType::Directory => {
                    let fd = disk::open_dir(dir, &name).map_err(failed())?;
                    self.entry(&fd, &entry)?;
                    self.directory(&fd, &entry, depth + 1)?;
                }
                FileType::RegularFile => {
                    let fd = disk::open_file(dir, &name).map_err(failed())?;
                    self.entry(&fd, &entry)?;
                }
                // The kernel stores no user attribute, and so no origin, on anything else.
                _ => self.table(dir, &name, &entry)?,
            }
        }
        Ok(())
    }

    /// What only the supervisor's table can say.
    fn table(&mut self, dir: &OwnedFd, name: &CStr, path: &RootPath) -> Result<(), LayerError> {
        let Inherit::Supervised(owners) = self.inherit else {
            return Ok(());
        };
        let record = supervised::in_table(owners, (dir, name), (self.below, path))?;
        if let Some(record) = record {
            let stat = disk::stat(dir, name).map_err(LayerError::disk("look at", path))?;
            self.take(&record, &stat, None, path)?;
        }
        Ok(())
    }

    /// Whether a supervisor has recorded the open entry; then the table says so, too.
    fn supervised(&mut self, fd: &OwnedFd, path: &RootPath) -> Result<bool, LayerError> {
        let Inherit::Supervised(owners) = self.inherit else {
            return Ok(false);
        };
        let mut record =
            supervised::get(fd).map_err(LayerError::disk("read the owner of", path))?;
        if record.is_none() && owners.attributes_refused() {
            record = supervised::in_table(owners, (fd, c""), (self.below, path))?;
        }
        let Some(record) = record else {
            return Ok(false);
        };
        let stat = fstat(fd).map_err(LayerError::disk("look at", path))?;
        self.take(&record, &stat, Some(fd), path)?;
        Ok(true)
    }

    fn take(
        &mut self,
        record: &Record,
        stat: &Stat,
        file: Option<&OwnedFd>,
        path: &RootPath,
    ) -> Result<(), LayerError> {
        let attr = supervised::attr(record, stat, file)
            .map_err(LayerError::disk("read the attributes of", path))?;
        match attr {
            Some(attr) => self.attributes.insert(path.clone(), attr),
            None => drop(self.attributes.remove(path)),
        }
        Ok(())
    }

    /// Whether a copy of what is below would have a record of its own. Then a file without one was
    /// copied up somewhere else, and renamed, and a directory was given to whom the disk says.
    fn would_tell(&self, path: &RootPath) -> Result<bool, LayerError> {
        let lower = match self.below.file(path)? {
            Some((dir, name, stat))
                if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile =>
            {
                disk::open_file(&dir, &name)
            }
            Some(_) => return Ok(false),
            None => match self.below.open_dir(path)? {
                Some(dir) => Ok(dir),
                None => return Ok(false),
            },
        };
        let record = lower.and_then(supervised::get);
        Ok(record
            .map_err(LayerError::disk("read the owner of", path))?
            .is_some())
    }

    fn entry(&mut self, fd: &OwnedFd, path: &RootPath) -> Result<(), LayerError> {
        if self.supervised(fd, path)? {
            return Ok(());
        }
        if self.attributes.get(path).is_some() {
            return Ok(());
        }
        // The root of an upper directory is made by us and stands for the root of the stack.
        let is_copy = path.is_root()
            || disk::is_copied_up(fd).map_err(LayerError::disk("read the origin of", path))?;
        if is_copy
            && let Some(mut attr) = self.below.attr(path)?
            && (path.is_root() || !self.would_tell(path)?)
        {
            let stat = fstat(fd).map_err(LayerError::disk("look at", path))?;
            if let Some(lower) = self.below.on_disk(path)?
                && !path.is_root()
            {
                overlay_changes(&mut attr, &stat, &lower);
            }
            self.attributes.insert(path.clone(), attr);
        }
        Ok(())
    }
}

/// Puts into a record of what is below what a step has changed of that: where its copy on disk differs from
/// `lower`, what stood there for the truth.
fn overlay_changes(attr: &mut Attr, stat: &Stat, lower: &Stat) {
    if stat.st_uid != lower.st_uid {
        attr.uid = stat.st_uid;
    }
    if stat.st_gid != lower.st_gid {
        attr.gid = stat.st_gid;
    }
    if stat.st_mode != lower.st_mode {
        let kind = FileType::from_raw_mode(attr.mode).as_raw_mode();
        attr.mode = kind | (stat.st_mode & 0o7777);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Layer;
    use super::*;

    fn attr(uid: u32) -> Attr {
        Attr {
            uid,
            gid: uid,
            mode: 0o100_600,
            rdev: (0, 0),
            xattrs: BTreeMap::new(),
        }
    }

    fn mark_copied(path: &Path) -> bool {
        let file = std::fs::File::open(path).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&file, disk::ORIGIN, b"\0", flags).is_ok()
    }

    #[test]
    fn copies_inherit_what_the_disk_lost() {
        let dir = tempfile::tempdir().unwrap();
        let lower = dir.path().join("lower");
        std::fs::create_dir_all(lower.join("diff/d")).unwrap();
        let mut table = Attributes::default();
        for name in ["copied", "fresh", "chowned"] {
            std::fs::write(lower.join("diff/d").join(name), "").unwrap();
            table.insert(RootPath::new("/d").join(name), attr(5));
        }
        table.save(&lower).unwrap();
        let mut below = LayerStack::default();
        below.push(Layer::open("lower", &lower).unwrap());

        let upper = dir.path().join("upper");
        std::fs::create_dir_all(upper.join("d")).unwrap();
        for name in ["copied", "fresh", "chowned"] {
            std::fs::write(upper.join("d").join(name), "changed").unwrap();
        }
        if !mark_copied(&upper.join("d/copied")) || !mark_copied(&upper.join("d/chowned")) {
            println!("skipped: the temporary directory holds no user.* attributes");
            return;
        }
        let mut recorded = Attributes::default();
        recorded.insert(RootPath::new("/d/chowned"), attr(9));
        let staging = dir.path().join("staging");
        std::fs::create_dir(&staging).unwrap();
        seal(&staging, &upper, &below, recorded, Inherit::Copies).unwrap();

        let layer = Layer::open("new", &staging).unwrap();
        let uid = |path: &str| layer.attributes().get(&RootPath::new(path)).map(|a| a.uid);
        assert_eq!(uid("/d/copied"), Some(5));
        assert_eq!(uid("/d/chowned"), Some(9));
        assert_eq!(uid("/d/fresh"), None);
        assert!(!upper.exists());
    }
}
