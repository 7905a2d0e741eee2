//! What is at a path below `/proc`, `/sys` and `/dev`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::find::link_target;
use super::{Served, as_caller, text, who};
use crate::supervise::tracee::Tracee;

/// Something that is shown.
pub enum Node {
    /// A directory of the machine, to see what is in it; none for one of our own.
    Directory(Option<OwnedFd>),
    /// A file of the machine, a mere path.
    File(OwnedFd),
    /// A link that leads where it says.
    Link(Vec<u8>),
    /// A link to something that a process has open: the link itself.
    Magic(OwnedFd),
    /// A file of our own.
    Text(Vec<u8>),
    /// A terminal of the sandbox, or the place where new ones come from.
    Terminal(Option<u32>),
}

impl Served {
    /// What is at `path`, which is [ours](Self::is_ours) and has neither links nor `..` on its way.
    pub fn node(&self, tracee: &Tracee<'_>, path: &[u8]) -> Result<Node, Errno> {
        if self.is_hidden(path) {
            return Err(Errno::NOENT);
        }
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
        match names.as_slice() {
            [b"dev", rest @ ..] => self.device(rest),
            [b"sys"] => self.below(self.sys.as_fd(), b"."),
            [b"sys", ..] => self.below(self.sys.as_fd(), &path[5..]),
            [b"proc"] => self.below(self.proc.as_fd(), b"."),
            [b"proc", rest @ ..] => self.in_proc(tracee, rest, &path[6..]),
            _ => Err(Errno::NOENT),
        }
    }

    fn in_proc(&self, tracee: &Tracee<'_>, names: &[&[u8]], below: &[u8]) -> Result<Node, Errno> {
        match names {
            [b"self"] => {
                let me = who(tracee)?.process;
                Ok(Node::Link(me.to_string().into_bytes()))
            }
            [b"thread-self"] => {
                let me = who(tracee)?.process;
                let link = format!("{me}/task/{}", tracee.tid());
                Ok(Node::Link(link.into_bytes()))
            }
            [b"mounts"] => Ok(Node::Link(b"self/mounts".to_vec())),
            [b"net"] => Ok(Node::Link(b"self/net".to_vec())),
            [b"sys", b"kernel", b"hostname"] => {
                Ok(Node::Text(format!("{}\n", self.hostname).into_bytes()))
            }
            [alias, ..] if alias.first() == Some(&b'.') => Err(Errno::NOENT),
            [first, rest @ ..] => match number(first) {
                Some(pid) => as_caller(who(tracee)?, || self.in_process(pid, rest)),
                None => self.below(self.proc.as_fd(), below),
            },
            [] => Err(Errno::NOENT),
        }
    }

    fn in_process(&self, pid: u32, names: &[&[u8]]) -> Result<Node, Errno> {
        let dir = self.process(pid)?;
        let own = match names {
            [b"task", thread, rest @ ..] if number(thread).is_some() => rest,
            other => other,
        };
        match own {
            [b"mounts"] => return Ok(Node::Text(text::mounts(self))),
            [b"mountinfo"] => return Ok(Node::Text(text::mountinfo(self))),
            [b"mountstats"] => return Ok(Node::Text(text::mountstats(self))),
            [b"map_files" | b"pagemap", ..] => return Err(Errno::NOENT),
            [] if names.is_empty() => return Ok(Node::Directory(Some(dir))),
            _ => {}
        }
        self.below(dir.as_fd(), &names.join(&b'/'))
    }

    /// What the machine has below `dir`.
    fn below(&self, dir: BorrowedFd<'_>, path: &[u8]) -> Result<Node, Errno> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat2(dir, OsStr::from_bytes(path), flags, Mode::empty(), how) {
            // The process is gone.
            Err(Errno::SRCH | Errno::LOOP) => return Err(Errno::NOENT),
            other => other?,
        };
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::Directory => Ok(Node::Directory(Some(file))),
            FileType::Symlink if is_magic(path) => Ok(Node::Magic(file)),
            FileType::Symlink => Ok(Node::Link(link_target(&file)?)),
            _ => Ok(Node::File(file)),
        }
    }
}

/// Whether a link, from a process's directory on, leads to what the process has open. Those to namespaces
/// do, too.
pub fn is_magic(path: &[u8]) -> bool {
    let own = match path.strip_prefix(b"task/") {
        Some(rest) => {
            &rest[rest
                .iter()
                .position(|byte| *byte == b'/')
                .map_or(0, |at| at + 1)..]
        }
        None => path,
    };
    matches!(own, b"cwd" | b"exe" | b"root") || own.starts_with(b"fd/") || own.starts_with(b"ns/")
}

/// A process's number, as `/proc` writes it.
pub fn number(name: &[u8]) -> Option<u32> {
    let digits = name.iter().all(u8::is_ascii_digit) && name.first() != Some(&b'0');
    std::str::from_utf8(name)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}
