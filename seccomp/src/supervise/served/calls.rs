//! Calls that open files, or ask about them, by path.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fcntl_getfl, fcntl_setfl, fstat, openat2};
use rustix::io::Errno;

use super::find::{Spot, link_target};
use super::node::{Node, number};
use super::{FileIds, Served, WRITABLE, as_caller, rewrite, text, who};
use crate::supervise::call::Call;
use crate::supervise::create::{self, Open};
use crate::supervise::memory::AsUser;
use crate::supervise::resolve::{AT_FDCWD, own_path};
use crate::supervise::tracee::Tracee;
use crate::supervise::{Answer, Answered, DONE, stat as stats, sys};

const KERNEL: Answered = Ok(Answer::Continue);
const WRITES: i32 = libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC;
/// Flags that say which file is opened, which we have found by then.
const WAY: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;

/// `open` and its like.
pub fn open(served: &Served, tracee: &Tracee<'_>, call: Call) -> Answered {
    let Ok(open) = create::request(tracee, call) else {
        return KERNEL;
    };
    let exclusive = open.flags & libc::O_EXCL != 0 && open.flags & libc::O_CREAT != 0;
    let follow = open.flags & libc::O_NOFOLLOW == 0 && !exclusive;
    let Some(spot) = served.find(tracee, open.dir, &open.path, follow)? else {
        return KERNEL;
    };
    // The kernel finds the stub, or what it was told to refuse.
    if !open.usual {
        return KERNEL;
    }
    tracee.still_there()?;
    let path = &open.path;
    let file = match spot {
        Spot::Virtual(path, directory) => {
            let node = served.node(tracee, &path)?;
            if exclusive {
                return Err(Errno::EXIST);
            }
            let is_directory = matches!(node, Node::Directory(_));
            if !is_directory && (directory || asks_for(&open, libc::O_DIRECTORY)) {
                return Err(Errno::NOTDIR);
            }
            if matches!(node, Node::Link(_) | Node::Magic(_)) {
                return link(served, tracee, call, &open, &path);
            }
            opened(served, who(tracee)?, &path, node, readable(open.flags))?
        }
        Spot::Held(_) if exclusive => return Err(Errno::EXIST),
        Spot::Held(link) => held(served, tracee, &link, readable(open.flags) & !WAY)?,
        Spot::Real(target) if asks_for(&open, libc::O_PATH) => {
            return rewrite::lead(served, tracee, path_argument(call), path, &target);
        }
        Spot::Real(path) => real(served, tracee, &path, &open)?,
    };
    Ok(Answer::Descriptor(file, asks_for(&open, libc::O_CLOEXEC)))
}

fn asks_for(open: &Open, flag: i32) -> bool {
    open.flags & flag == flag
}

/// A mere path cannot be put into another process: it gets the file open for reading.
fn readable(flags: i32) -> i32 {
    if flags & libc::O_PATH == 0 {
        return flags;
    }
    (flags & (libc::O_DIRECTORY | libc::O_CLOEXEC)) | libc::O_NONBLOCK
}

fn path_argument(call: Call) -> usize {
    match call {
        Call::Open | Call::Creat => 0,
        _ => 1,
    }
}

/// A link itself, which can be had as a mere path only: the kernel opens that of the stubs.
fn link(served: &Served, tracee: &Tracee<'_>, call: Call, open: &Open, path: &[u8]) -> Answered {
    if !asks_for(open, libc::O_PATH) {
        return Err(Errno::LOOP);
    }
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let parent = &path[..slash];
    if let Node::Directory(source) = served.node(tracee, parent)? {
        served.fill(parent, source.as_ref().zip(tracee.file_ids()))?;
    }
    rewrite::lead(served, tracee, path_argument(call), &open.path, path)
}

fn opened(
    served: &Served,
    who: FileIds,
    path: &[u8],
    node: Node,
    flags: i32,
) -> Result<OwnedFd, Errno> {
    match node {
        Node::Directory(_) if flags & (WRITES | libc::O_CREAT) != 0 => Err(Errno::ISDIR),
        Node::Directory(source) => served.fill(path, source.as_ref().map(|dir| (dir, who))),
        Node::Link(_) | Node::Magic(_) => Err(Errno::LOOP),
        Node::File(_) if path == b"/dev/tty" => Err(Errno::NXIO),
        Node::File(file) => {
            if flags & WRITES != 0 && !may_write(path) {
                return Err(Errno::ROFS);
            }
            reopen(who, &file, flags)
        }
        Node::Text(_) if flags & WRITES != 0 => Err(Errno::ROFS),
        Node::Text(content) => text::file(&content),
        Node::Terminal(None) => as_caller(who, || served.new_terminal(flags & !WAY)),
        Node::Terminal(Some(number)) => reopen(who, &served.terminal(number)?, flags),
    }
}

/// Opens what a mere path leads to.
fn reopen(who: FileIds, file: &OwnedFd, flags: i32) -> Result<OwnedFd, Errno> {
    let path = own_path(file.as_fd());
    let path = std::ffi::CString::new(path).map_err(|_| Errno::INVAL)?;
    let flags = (flags & !WAY) | libc::O_NOCTTY;
    as_caller(who, || sys::open_at(rustix::fs::CWD, &path, flags, 0))
}

fn may_write(path: &[u8]) -> bool {
    if path.starts_with(b"/dev/") {
        return true;
    }
    let mut names = path.rsplit(|byte| *byte == b'/');
    let name = names.next().unwrap_or_default();
    WRITABLE.iter().any(|known| known.as_bytes() == name) && names.next().and_then(number).is_some()
}

/// Opens what a process has open, by the link in `/proc`.
fn held(served: &Served, tracee: &Tracee<'_>, link: &[u8], flags: i32) -> Result<OwnedFd, Errno> {
    let (process, rest) = process_of(served, link)?;
    let who = who(tracee)?;
    let open = |flags| as_caller(who, || sys::open_at(process.as_fd(), &rest, flags, 0));
    let flags = flags | libc::O_NOCTTY;
    if flags & libc::O_PATH != 0 {
        return open(flags);
    }
    // Nobody may be at the other end of a FIFO, and we do not wait for them.
    let kind = fstat(open(libc::O_PATH)?)?.st_mode;
    if FileType::from_raw_mode(kind) != FileType::Fifo || flags & libc::O_NONBLOCK != 0 {
        return open(flags);
    }
    let file = open(flags | libc::O_NONBLOCK)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// The directory of the process that a link of `/proc` is in, and the way on from there.
pub fn process_of(served: &Served, link: &[u8]) -> Result<(OwnedFd, std::ffi::CString), Errno> {
    let mut names = link.splitn(4, |byte| *byte == b'/').skip(2);
    let pid = names.next().and_then(number).ok_or(Errno::NOENT)?;
    let rest = names.next().ok_or(Errno::NOENT)?;
    let rest = std::ffi::CString::new(rest).map_err(|_| Errno::INVAL)?;
    Ok((served.process(pid)?, rest))
}

/// Opens or makes a file of the tree that only a link of `/proc` leads to.
fn real(served: &Served, tracee: &Tracee<'_>, path: &[u8], open: &Open) -> Result<OwnedFd, Errno> {
    let who = who(tracee)?;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = |less: i32, more: i32| {
        let bits = (open.flags & !less) | more | libc::O_NOCTTY | libc::O_CLOEXEC;
        OFlags::from_bits_retain(bits.cast_unsigned())
    };
    let there = flags(libc::O_CREAT | libc::O_EXCL, 0);
    let existing = || openat2(&served.tree, path, there, Mode::empty(), how);
    as_caller(who, || {
        if open.flags & libc::O_CREAT == 0 {
            return existing();
        }
        if open.flags & libc::O_EXCL == 0 {
            match existing() {
                Err(Errno::NOENT) => {}
                other => return other,
            }
        }
        let mask = tracee.status("Umask:").ok_or(Errno::SRCH)?;
        let mask = u32::from_str_radix(&mask, 8).map_err(|_| Errno::IO)?;
        let mode = Mode::from_raw_mode(open.mode & !mask & 0o7777);
        let new = flags(0, libc::O_EXCL);
        let file = openat2(&served.tree, path, new, mode, how)?;
        rustix::fs::fchmod(&file, mode)?;
        Ok(file)
    })
}

/// What a call asks about, as a mere path; none if the kernel is to answer.
fn asked(
    served: &Served,
    tracee: &Tracee<'_>,
    dir: i32,
    path: &[u8],
    follow: bool,
) -> Result<Option<(OwnedFd, Vec<u8>)>, Errno> {
    let Some(spot) = served.find(tracee, dir, path, follow)? else {
        return Ok(None);
    };
    tracee.still_there()?;
    let path = match &spot {
        Spot::Virtual(path, _) | Spot::Held(path) => path.clone(),
        Spot::Real(_) => Vec::new(),
    };
    Ok(Some((open_spot(served, tracee, spot, follow)?, path)))
}

/// Opens what a path leads to, as a mere path.
pub fn open_spot(
    served: &Served,
    tracee: &Tracee<'_>,
    spot: Spot,
    follow: bool,
) -> Result<OwnedFd, Errno> {
    match spot {
        Spot::Virtual(path, directory) => {
            let node = served.node(tracee, &path)?;
            if directory && !matches!(node, Node::Directory(_)) {
                return Err(Errno::NOTDIR);
            }
            looked_at(served, &path, node)
        }
        Spot::Held(link) => held(served, tracee, &link, libc::O_PATH),
        Spot::Real(path) => {
            let mut flags = OFlags::PATH;
            flags.set(OFlags::NOFOLLOW, !follow);
            let way = ResolveFlags::NO_MAGICLINKS;
            as_caller(who(tracee)?, || served.open_beneath(&path, flags, way))
        }
    }
}

fn looked_at(served: &Served, path: &[u8], node: Node) -> Result<OwnedFd, Errno> {
    match node {
        Node::Directory(_) => served.stub(path),
        Node::File(file) | Node::Magic(file) => Ok(file),
        Node::Terminal(None) => served.multiplexer(),
        Node::Terminal(Some(number)) => served.terminal(number),
        // Looks like any other text that is made as it is read.
        Node::Text(_) => served.machines(b"/proc/version"),
        Node::Link(_) => served.machines(path),
    }
}

/// `stat` and its like.
pub fn stat(served: &Served, tracee: &Tracee<'_>, call: Call) -> Answered {
    let Ok((dir, path, follow)) = stats::subject(tracee, call) else {
        return KERNEL;
    };
    match asked(served, tracee, dir, &path, follow)? {
        Some((file, _)) => stats::tell(tracee, call, file.as_fd()),
        None => KERNEL,
    }
}

/// `access` and its like, which go by the real ids unless told otherwise.
pub fn access(served: &Served, tracee: &Tracee<'_>, call: Call) -> Answered {
    let (dir, path, mode, flags) = match call {
        Call::Access => (AT_FDCWD, 0, tracee.int(1), 0),
        Call::Faccessat => (tracee.int(0), 1, tracee.int(2), 0),
        _ => (tracee.int(0), 1, tracee.int(2), tracee.int(3)),
    };
    let Ok(path) = tracee.path(path) else {
        return KERNEL;
    };
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let Some((file, path)) = asked(served, tracee, dir, &path, follow)? else {
        return KERNEL;
    };
    let ids = who(tracee)?;
    let is_file = fstat(&file)?.st_mode & libc::S_IFMT == libc::S_IFREG;
    if mode & libc::W_OK != 0 && is_file && served.is_ours(&path) && !may_write(&path) {
        return Err(Errno::ROFS);
    }
    let _ids = match flags & libc::AT_EACCESS {
        0 => AsUser::new(ids.real_uid, ids.real_gid),
        _ => AsUser::new(ids.uid, ids.gid),
    };
    sys::access(file.as_fd(), mode)?;
    DONE
}

/// `readlink` and `readlinkat`.
pub fn readlink(served: &Served, tracee: &Tracee<'_>, call: Call) -> Answered {
    let (dir, first) = match call {
        Call::Readlink => (AT_FDCWD, 0),
        _ => (tracee.int(0), 1),
    };
    let Ok(path) = tracee.path(first) else {
        return KERNEL;
    };
    let target = match served.find(tracee, dir, &path, false)? {
        None => return KERNEL,
        Some(Spot::Virtual(path, _)) => match served.node(tracee, &path)? {
            Node::Link(target) => target,
            Node::Magic(link) => {
                let target = as_caller(who(tracee)?, || link_target(&link))?;
                served.shown(target)
            }
            _ => return Err(Errno::INVAL),
        },
        // A slash at its end: what it leads to is no link.
        Some(Spot::Held(_)) => return Err(Errno::INVAL),
        Some(Spot::Real(path)) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            link_target(&served.open_beneath(&path, flags, ResolveFlags::NO_MAGICLINKS)?).map_err(
                |errno| {
                    if errno == Errno::NOENT {
                        Errno::INVAL
                    } else {
                        errno
                    }
                },
            )?
        }
    };
    let size = usize::try_from(tracee.int(first + 2)).map_err(|_| Errno::INVAL)?;
    if size == 0 {
        return Err(Errno::INVAL);
    }
    let count = target.len().min(size);
    tracee.write(tracee.pointer(first + 1), &target[..count])?;
    Ok(Answer::Value(count as i64))
}

/// `statfs`: of which kind the file system is.
pub fn statfs(served: &Served, tracee: &Tracee<'_>) -> Answered {
    // Its form for 32-bit programs the kernel knows better; they are told of the tree's file system.
    if tracee.layout().is_32() {
        return KERNEL;
    }
    let Ok(path) = tracee.path(0) else {
        return KERNEL;
    };
    let file = match served.find(tracee, AT_FDCWD, &path, true)? {
        None => return KERNEL,
        Some(Spot::Virtual(path, _)) => {
            served.node(tracee, &path)?;
            let names = path.split(|byte| *byte == b'/');
            let top = names.take(2).collect::<Vec<_>>().join(&b'/');
            served.machines(&top)?
        }
        Some(Spot::Held(link)) => held(served, tracee, &link, libc::O_PATH)?,
        Some(Spot::Real(path)) => {
            served.open_beneath(&path, OFlags::PATH, ResolveFlags::NO_MAGICLINKS)?
        }
    };
    tracee.write(tracee.pointer(1), &sys::statfs(file.as_fd())?)?;
    DONE
}

/// `uname`: the machine has the sandbox's name.
pub fn uname(served: &Served, tracee: &Tracee<'_>) -> Answered {
    const FIELD: usize = 65;
    let name = rustix::system::uname();
    let fields = [
        name.sysname().to_bytes(),
        served.hostname.as_bytes(),
        name.release().to_bytes(),
        name.version().to_bytes(),
        name.machine().to_bytes(),
        b"(none)",
    ];
    let mut bytes = [0; FIELD * 6];
    for (to, field) in bytes.chunks_exact_mut(FIELD).zip(fields) {
        let count = field.len().min(FIELD - 1);
        to[..count].copy_from_slice(&field[..count]);
    }
    tracee.write(tracee.pointer(0), &bytes)?;
    DONE
}

impl Served {
    /// A file of the machine as a mere path; a link is not followed.
    fn machines(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(rustix::fs::CWD, path, flags, Mode::empty(), how)
    }
}
