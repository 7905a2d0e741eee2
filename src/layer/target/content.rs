//! Bytes: the content of a new file, and deleting trees.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Unit of copying through memory.
const BUFFER: usize = 128 * 1024;

/// Where the content of a new regular file comes from.
pub enum Content<'c> {
    /// From the beginning of an open file to its end; holes stay holes.
    File(&'c File),
    /// From the reader's position to its end.
    Reader(&'c mut dyn Read),
}

/// Copies contents.
#[derive(Default)]
pub(super) struct Copier {
    files: runtime::Copier,
    buffer: Vec<u8>,
}

impl Copier {
    /// Fills `dest`, which is empty, and gives the number of bytes.
    pub(super) fn fill(&mut self, dest: &File, content: Content<'_>) -> io::Result<u64> {
        match content {
            Content::File(source) => self.files.copy(source, dest),
            Content::Reader(reader) => self.copy_reader(reader, dest),
        }
    }

    fn copy_reader(&mut self, reader: &mut dyn Read, dest: &File) -> io::Result<u64> {
        self.buffer.resize(BUFFER, 0);
        let mut done = 0;
        loop {
            let count = match reader.read(&mut self.buffer) {
                Ok(0) => return Ok(done),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            dest.write_all_at(&self.buffer[..count], done)?;
            done += count as u64;
        }
    }
}

/// Deletes the entry `name` of `dir` and everything below it, following nothing.
pub(super) fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        // EPERM is what POSIX wants for a directory; Linux says EISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return Ok(result?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = openat(dir, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&inside)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            use std::os::unix::ffi::OsStrExt;
            remove_tree(inside.as_fd(), OsStr::from_bytes(child))?;
        }
    }
    Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}
