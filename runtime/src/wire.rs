//! What the builder and the init process say to each other.
//!
//! One stream socket, frames of a four-byte length (native order) and JSON. The builder sends one
//! [`Job`]; init answers with one [`Report`] when the program runs or could not be started, and in
//! the former case with another when everything is over. The socket is also the lifeline: its end
//! on the builder's side is the order to kill everything.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::capabilities::Capabilities;
use crate::error::{ExecError, Exit};
use crate::fence::Fence;

/// Larger frames are a fault.
const MAX_FRAME: usize = 64 << 20;

/// Everything init has to know. Descriptors are numbers that it inherited.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub argv: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub cwd: OsString,
    pub uid: u32,
    pub gid: u32,
    /// `None`: leave them alone, since the kernel would refuse.
    pub groups: Option<Vec<u32>>,
    pub hostname: String,
    /// There is a network namespace of our own.
    pub own_network: bool,
    /// There is a PID namespace of our own.
    pub own_pids: bool,
    /// Start a session, leaving the terminal.
    pub new_session: bool,
    pub limits: Vec<(u32, u64, u64)>,
    pub shm_size: u64,
    pub capabilities: Capabilities,
    pub seccomp: bool,
    /// A socket for the filter's listener: ids are the supervisor's business then.
    pub supervised: Option<RawFd>,
    /// The filter, if it is the same for every process with these capabilities: `seccomp::to_words`.
    pub filter: Vec<u64>,
    pub masked: bool,
    /// Whether group 5 (`tty`, for terminals) exists here.
    pub tty_group: bool,
    /// The root is a directory to change to, without namespaces and mounts.
    pub in_tree: Option<Fence>,
    /// The detached mount, or the directory, that becomes `/`.
    pub root: RawFd,
    pub mounts: Vec<MountJob>,
}

/// A mount to attach after the usual ones.
#[derive(Debug, Serialize, Deserialize)]
pub struct MountJob {
    pub target: OsString,
    pub kind: MountKind,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum MountKind {
    /// A detached mount by its descriptor, its attributes already set.
    Attach(RawFd),
    Tmpfs {
        size: Option<u64>,
        mode: u32,
        readonly: bool,
    },
    Content {
        content: Vec<u8>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

/// What init says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The program runs.
    Started,
    /// The kernel refuses a `/proc` of our own: try again without a PID namespace.
    ProcRefused,
    /// It does not run.
    Failed(Failure),
    /// It ran, and it and all its descendants are gone.
    Ended(Exit),
}

/// Why a program does not run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Failure {
    Setup { doing: String, why: String },
    MountPoint { target: OsString, why: String },
    WorkingDirectory { path: OsString, why: String },
    Exec(ExecError),
}

/// Writes one frame.
pub fn send<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_ne_bytes());
    frame.extend_from_slice(&body);
    stream.write_all(&frame)
}

/// Reads one frame; `None` if the stream ends before it.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_ne_bytes(length)).map_err(io::Error::other)?;
    if length > MAX_FRAME {
        return Err(io::Error::other(format!(
            "a frame of {length} bytes, at most {MAX_FRAME} are allowed"
        )));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_a_stream_and_its_end() {
        let mut bytes = Vec::new();
        send(&mut bytes, &Report::Ended(Exit::Signal(9))).unwrap();
        send(&mut bytes, &Report::Started).unwrap();
        let mut stream = bytes.as_slice();
        assert!(matches!(
            receive(&mut stream).unwrap(),
            Some(Report::Ended(Exit::Signal(9)))
        ));
        assert!(matches!(
            receive(&mut stream).unwrap(),
            Some(Report::Started)
        ));
        assert!(receive::<Report>(&mut stream).unwrap().is_none());
        assert!(receive::<Report>(&mut &[255_u8; 8][..]).is_err());
    }
}
