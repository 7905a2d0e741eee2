//! From the path of a call to where it leads, as far as that concerns us.
//!
//! Almost all paths lead to a file of the tree, so that is found out with as few calls as can be: one
//! `openat2` for a path without symbolic links, whether its end exists or not; for one with links another,
//! and a look at where it ended. `/proc/self` is a link to itself among the stubs, so whatever leads through
//! it ends in `ELOOP`, and only then the path is walked name by name.
//!
//! Nothing rests on the answer but what the process is shown: a path that is taken for an ordinary one
//! is resolved by the kernel, beneath the tree.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, readlinkat};
use rustix::io::Errno;

use super::node::{Node, is_magic};
use super::{Served, as_caller, link_of, who};
use crate::supervise::resolve::AT_FDCWD;
use crate::supervise::tracee::Tracee;

/// As the kernel counts.
const MAX_LINKS: usize = 40;

/// Where a path leads that the kernel cannot follow.
#[derive(Debug, PartialEq, Eq)]
pub enum Spot {
    /// An absolute path below `/proc`, `/sys` or `/dev`, without links on the way; whether it has to be a
    /// directory.
    Virtual(Vec<u8>, bool),
    /// What a link of `/proc` to an open file leads to: the link.
    Held(Vec<u8>),
    /// A file of the tree, by a path without links of `/proc`.
    Real(Vec<u8>),
}

impl Served {
    /// Where the path of a call leads, relative to a descriptor, the last link followed or not; none for
    /// what the kernel finds in the tree.
    pub fn find(
        &self,
        tracee: &Tracee<'_>,
        dir: i32,
        path: &[u8],
        follow: bool,
    ) -> Result<Option<Spot>, Errno> {
        if path.is_empty() {
            return Ok(None);
        }
        let absolute;
        let path = match path[0] {
            b'/' => path,
            _ => {
                let Some(mut base) = self.base(tracee, dir) else {
                    return Ok(None);
                };
                base.push(b'/');
                base.extend_from_slice(path);
                absolute = base;
                &absolute
            }
        };
        if !self.is_near(path) && self.is_plain(path, follow) {
            return Ok(None);
        }
        self.walk(tracee, path, follow)
    }

    /// Where relative paths begin; none outside of the tree.
    pub fn base(&self, tracee: &Tracee<'_>, dir: i32) -> Option<Vec<u8>> {
        let link = match dir {
            AT_FDCWD => format!("/proc/{}/cwd", tracee.tid()),
            number => format!("/proc/{}/fd/{number}", tracee.tid()),
        };
        let read = || readlinkat(rustix::fs::CWD, &link, Vec::new());
        let path = match read() {
            Err(Errno::ACCESS | Errno::PERM) => as_caller(who(tracee).ok()?, read),
            other => other,
        };
        let path = path.ok()?;
        let inside = beneath(&self.top, path.as_bytes())?;
        Some(inside.to_vec())
    }

    /// Whether a path is ours by its first name.
    fn is_near(&self, path: &[u8]) -> bool {
        let rest = &path[path.iter().position(|byte| *byte != b'/').unwrap_or(0)..];
        ["proc", "sys", "dev"].iter().any(|top| {
            rest.strip_prefix(top.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }

    /// Whether a path leads to a file of the tree, or to none.
    fn is_plain(&self, path: &[u8], follow: bool) -> bool {
        let mut flags = OFlags::PATH;
        flags.set(OFlags::NOFOLLOW, !follow);
        if !path.split(|byte| *byte == b'/').any(|name| name == b"..") {
            match self.open_beneath(path, flags, ResolveFlags::NO_SYMLINKS) {
                Err(Errno::LOOP) => {}
                _ => return true,
            }
        }
        match self.open_beneath(path, flags, ResolveFlags::NO_MAGICLINKS) {
            Ok(file) => self
                .inside(std::os::fd::AsFd::as_fd(&file))
                .is_none_or(|path| !self.is_ours(&path)),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => false,
            Err(_) => true,
        }
    }

    /// Opens a path as if the tree were the root.
    pub fn open_beneath(
        &self,
        path: &[u8],
        flags: OFlags,
        how: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        let how = how | ResolveFlags::IN_ROOT;
        openat2(
            &self.tree,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            how,
        )
    }

    /// The path of an open file in the tree.
    pub fn inside(&self, file: BorrowedFd<'_>) -> Option<Vec<u8>> {
        let path = link_of(file).ok()?;
        beneath(&self.top, &path).map(<[u8]>::to_vec)
    }

    /// Whether we answer for a path without links and `..`.
    pub fn is_ours(&self, path: &[u8]) -> bool {
        self.is_near(path)
            && match path.strip_prefix(b"/dev") {
                None => true,
                Some(rest) => super::device::is_served(rest, self.nodes),
            }
    }

    /// Name by name.
    fn walk(&self, tracee: &Tracee<'_>, path: &[u8], follow: bool) -> Result<Option<Spot>, Errno> {
        let mut todo: VecDeque<Vec<u8>> = VecDeque::new();
        let must_be_directory = matches!(path, [.., b'/'] | [.., b'/', b'.']);
        prepend(&mut todo, path);
        let mut at: Vec<u8> = Vec::new();
        let (mut links, mut through) = (0, false);
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                let up = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                at.truncate(up);
                continue;
            }
            let mut next = at.clone();
            next.push(b'/');
            next.extend_from_slice(&name);
            let follows = !todo.is_empty() || follow || must_be_directory;
            let link = match follows {
                false => None,
                true if self.is_ours(&next) && !may_be_link(&next) => None,
                true if self.is_ours(&next) => match self.node(tracee, &next) {
                    Ok(Node::Link(target)) => Some(target),
                    Ok(Node::Magic(_)) if todo.is_empty() => return Ok(Some(Spot::Held(next))),
                    Ok(Node::Magic(link)) => {
                        through = true;
                        let target = as_caller(who(tracee)?, || link_target(&link))?;
                        Some(self.shown(target))
                    }
                    _ => None,
                },
                true => self.link(&next),
            };
            let Some(target) = link else {
                at = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            if target.first() == Some(&b'/') {
                at.clear();
            }
            prepend(&mut todo, &target);
        }
        Ok(if self.is_ours(&at) {
            Some(Spot::Virtual(at, must_be_directory))
        } else if through {
            Some(Spot::Real(if at.is_empty() { b"/".to_vec() } else { at }))
        } else {
            None
        })
    }

    /// What a link of the tree says.
    fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let file = self
            .open_beneath(path, flags, ResolveFlags::NO_SYMLINKS)
            .ok()?;
        link_target(&file).ok()
    }
}

/// What an open symbolic link says.
pub fn link_target(link: &OwnedFd) -> Result<Vec<u8>, Errno> {
    Ok(readlinkat(link, OsStr::from_bytes(b""), Vec::new())?.into_bytes())
}

/// Whether a path of ours may be a link: cheaper than to look.
fn may_be_link(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/proc/") else {
        return path.starts_with(b"/sys/");
    };
    let Some(slash) = rest.iter().position(|byte| *byte == b'/') else {
        return matches!(rest, b"self" | b"thread-self" | b"mounts" | b"net");
    };
    rest[..slash].iter().all(u8::is_ascii_digit) && is_magic(&rest[slash + 1..])
}

fn prepend(todo: &mut VecDeque<Vec<u8>>, path: &[u8]) {
    let names = path.split(|byte| *byte == b'/');
    for name in names.rev().filter(|name| !name.is_empty() && *name != b".") {
        todo.push_front(name.to_vec());
    }
}

/// The part of `path` from `top` on, with its slash.
pub fn beneath<'a>(top: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(top)? {
        [] => Some(b"/"),
        rest if rest[0] == b'/' => Some(rest),
        _ => None,
    }
}
