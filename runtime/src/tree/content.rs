//! Files whose content is in memory: written for a step and destroyed after it.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, openat};
use rustix::io::Errno;

use super::entry;
use crate::spec::Mount;

const PLAIN: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// A new file, open for writing.
pub fn new_file(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | PLAIN;
    Ok(File::from(openat(
        dir,
        name,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?))
}

/// Makes the file of a [`Mount::Content`]; nothing for any other mount.
pub fn write(mount: &Mount, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let Mount::Content {
        content,
        mode,
        uid,
        gid,
        ..
    } = mount
    else {
        return Ok(());
    };
    let mut file = new_file(dir, name)?;
    file.write_all(content)?;
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    fchown(&file, Some(uid), Some(gid))?;
    Ok(fchmod(&file, Mode::from_raw_mode(*mode & 0o7777))?)
}

/// Overwrites a file and deletes it: it may have been a secret, also under another name by now.
/// Anything else that the step has put in its place is only deleted.
pub fn destroy(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match entry::stat(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        Ok(stat) if entry::kind(&stat) == FileType::RegularFile => {
            overwrite(dir, name, u64::try_from(stat.st_size).unwrap_or(0))?;
        }
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    entry::remove(dir, name).map(drop)
}

fn overwrite(dir: BorrowedFd<'_>, name: &CStr, size: u64) -> io::Result<()> {
    let mut file = File::from(openat(dir, name, OFlags::WRONLY | PLAIN, Mode::empty())?);
    file.rewind()?;
    io::copy(&mut io::Read::take(io::repeat(0), size), &mut file)?;
    file.flush()
}
