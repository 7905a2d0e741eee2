//! [`Copier`]: the content of a file, copied by the cheapest way there is.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

/// Unit of copying through memory.
const BUFFER: usize = 128 * 1024;
/// Below this a read and a write cost less than asking the kernel for something clever.
const SMALL: u64 = 32 * 1024;

/// Copies contents and remembers which of the kernel's shortcuts work here.
#[derive(Debug)]
pub struct Copier {
    reflink: bool,
    in_kernel: bool,
    buffer: Vec<u8>,
}

impl Default for Copier {
    fn default() -> Self {
        Self {
            reflink: true,
            in_kernel: true,
            buffer: Vec::new(),
        }
    }
}

impl Copier {
    /// Fills `dest`, which is empty, with all of `source`, and gives the number of bytes. Holes stay
    /// holes.
    ///
    /// # Errors
    /// The kernel's for either file.
    pub fn copy(&mut self, source: &File, dest: &File) -> io::Result<u64> {
        let metadata = source.metadata()?;
        let size = metadata.len();
        if size > 0 && self.clone_file(source, dest)? {
            return Ok(size);
        }
        if metadata.blocks().saturating_mul(512) < size && size > SMALL {
            return self.copy_sparse(source, dest, size);
        }
        let copied = if size > SMALL {
            self.copy_range(source, dest, 0, size)?
        } else {
            0
        };
        // A file that grew, or one whose size says nothing, is read to its end.
        self.copy_bytes(source, dest, copied, u64::MAX)
            .map(|rest| copied + rest)
    }

    /// Shares the blocks of `source`; false when these two files cannot.
    fn clone_file(&mut self, source: &File, dest: &File) -> io::Result<bool> {
        if !self.reflink {
            return Ok(false);
        }
        match ioctl_ficlone(dest, source) {
            Ok(()) => Ok(true),
            Err(error @ (Errno::IO | Errno::NOSPC | Errno::DQUOT)) => Err(error.into()),
            Err(_) => {
                self.reflink = false;
                Ok(false)
            }
        }
    }

    fn copy_sparse(&mut self, source: &File, dest: &File, size: u64) -> io::Result<u64> {
        let mut offset = 0;
        while offset < size {
            let data = match seek(source, SeekFrom::Data(offset)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let hole = seek(source, SeekFrom::Hole(data))?;
            self.copy_range(source, dest, data, hole.saturating_sub(data))?;
            offset = hole;
        }
        ftruncate(dest, size)?;
        Ok(size)
    }

    /// Copies `length` bytes at `start`, fewer at the end of the file.
    fn copy_range(
        &mut self,
        source: &File,
        dest: &File,
        start: u64,
        length: u64,
    ) -> io::Result<u64> {
        let mut done = 0;
        while self.in_kernel && done < length {
            let (mut from, mut to) = (start + done, start + done);
            let want = usize::try_from(length - done)
                .unwrap_or(usize::MAX)
                .min(1 << 30);
            match copy_file_range(source, Some(&mut from), dest, Some(&mut to), want) {
                Ok(0) => break,
                Ok(count) => done += count as u64,
                Err(Errno::INTR) => {}
                Err(error @ (Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                    return Err(error.into());
                }
                Err(_) => self.in_kernel = false,
            }
        }
        Ok(done + self.copy_bytes(source, dest, start + done, length - done)?)
    }

    fn copy_bytes(
        &mut self,
        source: &File,
        dest: &File,
        start: u64,
        length: u64,
    ) -> io::Result<u64> {
        self.buffer.resize(BUFFER, 0);
        let mut done = 0;
        while done < length {
            let want = usize::try_from(length - done).unwrap_or(BUFFER).min(BUFFER);
            let count = match source.read_at(&mut self.buffer[..want], start + done) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            dest.write_all_at(&self.buffer[..count], start + done)?;
            done += count as u64;
        }
        Ok(done)
    }
}
