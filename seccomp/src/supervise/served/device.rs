//! Devices: the machine's, by name, where the tree's `/dev` cannot have nodes, and terminals of its own.
//!
//! Only terminals that a process of the sandbox made are shown, each by its open file: a number alone may
//! be the terminal of somebody outside.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::Served;
use super::node::{Node, number};
use crate::supervise::sys;

/// What is served where there are no nodes.
const DEVICES: [&[u8]; 6] = [b"null", b"zero", b"full", b"random", b"urandom", b"tty"];

/// Terminals by number, as mere paths.
pub type Terminals = HashMap<u32, OwnedFd>;

/// Whether a path, from `/dev` on, is not simply a file of the tree's `/dev`.
pub fn is_served(rest: &[u8], nodes: bool) -> bool {
    let Some(name) = rest.strip_prefix(b"/") else {
        return false;
    };
    name == b"pts" || name.starts_with(b"pts/") || (!nodes && DEVICES.contains(&name))
}

impl Served {
    /// What is at a path below `/dev`.
    pub fn device(&self, names: &[&[u8]]) -> Result<Node, Errno> {
        match names {
            [b"pts"] => Ok(Node::Directory(None)),
            [b"pts", b"ptmx"] => Ok(Node::Terminal(None)),
            [b"pts", name] => {
                let number = if *name == b"0" { Some(0) } else { number(name) };
                let number = number.ok_or(Errno::NOENT)?;
                self.terminal(number)?;
                Ok(Node::Terminal(Some(number)))
            }
            [name] if DEVICES.contains(name) => {
                let name = std::str::from_utf8(name).map_err(|_| Errno::NOENT)?;
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let file = openat(CWD, format!("/dev/{name}"), flags, Mode::empty())?;
                Ok(Node::File(file))
            }
            _ => Err(Errno::NOENT),
        }
    }

    /// A terminal of the sandbox, or the place where they come from, as a mere path.
    pub fn terminal(&self, number: u32) -> Result<OwnedFd, Errno> {
        let terminals = super::stubs::lock(&self.terminals);
        let file = terminals.get(&number).ok_or(Errno::NOENT)?;
        if fstat(file)?.st_nlink == 0 {
            return Err(Errno::NOENT);
        }
        file.try_clone().map_err(|_| Errno::MFILE)
    }

    /// The numbers of the terminals that are there.
    pub fn terminal_numbers(&self) -> Vec<u32> {
        let mut terminals = super::stubs::lock(&self.terminals);
        terminals.retain(|_, file| fstat(&*file).is_ok_and(|stat| stat.st_nlink > 0));
        terminals.keys().copied().collect()
    }

    /// The place where terminals come from, as a mere path.
    pub fn multiplexer(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat(CWD, "/dev/pts/ptmx", flags, Mode::empty())
    }

    /// A new terminal.
    pub fn new_terminal(&self, flags: i32) -> Result<OwnedFd, Errno> {
        let flags = flags | libc::O_NOCTTY;
        let master = match sys::open_at(CWD, c"/dev/pts/ptmx", flags, 0) {
            Err(Errno::ACCESS) => sys::open_at(CWD, c"/dev/ptmx", flags, 0)?,
            other => other?,
        };
        let number = sys::terminal_number(master.as_fd())?;
        let path = OFlags::PATH | OFlags::CLOEXEC;
        let slave = openat(CWD, format!("/dev/pts/{number}"), path, Mode::empty())?;
        super::stubs::lock(&self.terminals).insert(number, slave);
        Ok(master)
    }
}
