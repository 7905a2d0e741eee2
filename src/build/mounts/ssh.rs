//! Agents: a socket of the step's own, behind which the user's agent answers.
//!
//! The user's socket itself is not mounted: it belongs to the user, so a step that runs as another
//! one could not open it, and whoever can open it can also take keys away or lock the agent. What
//! is passed on is what signing needs; other requests fail as if the agent had refused them.
//!
//! The protocol: frames of a length (four bytes, big-endian) and a body whose first byte is the
//! type; each request has one answer.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use runtime::{BindSource, Mount, RunSpec};
use rustix::fs::{Mode, OFlags};

use super::{Held, MountError, possible_owner};
use crate::build::stage::Stage;
use crate::plan::{RunMount, RunMountKind};

/// Lists keys, signs, extends.
const PASSED_ON: [u8; 3] = [11, 13, 27];
/// The answer to everything else.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];
/// Larger frames are none of an agent's.
const MAX_FRAME: u32 = 1 << 20;

/// An agent of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its socket.
    pub socket: PathBuf,
    /// It is any socket, and everything is passed on.
    pub raw: bool,
}

/// All agents of a build, by id.
pub type Agents = BTreeMap<String, Agent>;

/// Adds the socket at `path`; nothing if the agent was not given and need not be.
pub(super) fn add(
    stage: &Stage<'_>,
    mount: &RunMount,
    path: &str,
    held: &mut Held,
    spec: &mut RunSpec,
) -> Result<()> {
    let RunMountKind::Ssh {
        id,
        required,
        mode,
        uid,
        gid,
    } = &mount.kind
    else {
        return Ok(());
    };
    let Some(agent) = stage.settings().agents.get(id) else {
        return match required {
            true => Err(MountError::NoAgent(id.clone()).into()),
            false => Ok(()),
        };
    };
    let socket = held.scratch(&format!("agent{}", held.agents.len()));
    let owner = possible_owner(stage, *uid, *gid);
    let forward = Forward::start(agent.clone(), &socket, *mode, owner)
        .with_context(|| format!("cannot pass the agent {id:?} on"))?;
    held.agents.push(forward);
    spec.mounts.push(Mount::Bind {
        source: BindSource::Path(socket),
        target: path.into(),
        readonly: mount.readonly,
    });
    Ok(())
}

/// A listening socket and the thread that serves it; dropping it ends both.
pub(super) struct Forward {
    listener: Arc<UnixListener>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    fn start(agent: Agent, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Self> {
        let listener = Arc::new(by_short_path(path, |path| UnixListener::bind(path))?);
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        chown(path, Some(owner.0), Some(owner.1))?;
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, ended) = (Arc::clone(&listener), Arc::clone(&over));
        let thread = std::thread::Builder::new()
            .name("agent".into())
            .spawn(move || accept(&theirs, &ended, &agent))?;
        Ok(Self {
            listener,
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread; connections end with the step's processes, which are gone by now.
        let woken = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let (Ok(()), Some(thread)) = (woken, self.thread.take()) {
            drop(thread.join());
        }
    }
}

/// Does something with a socket by way of its directory's descriptor, since the path of a socket
/// has 107 bytes at most.
fn by_short_path<T>(path: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    act(&short.join(name))
}

fn accept(listener: &UnixListener, over: &AtomicBool, agent: &Agent) {
    while !over.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((client, _)) => {
                let agent = agent.clone();
                let serve = move || {
                    // An agent that breaks off is seen by the client as one that does.
                    drop(serve(client, &agent));
                };
                // Without a thread the client is hung up on.
                drop(
                    std::thread::Builder::new()
                        .name("agent".into())
                        .spawn(serve),
                );
            }
            Err(_) if over.load(Ordering::SeqCst) => return,
            // Out of descriptors: better times may come.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn serve(mut client: UnixStream, agent: &Agent) -> io::Result<()> {
    let mut theirs = by_short_path(&agent.socket, |path| UnixStream::connect(path))?;
    if agent.raw {
        return pass_on(&client, &theirs);
    }
    while let Some(request) = frame(&mut client)? {
        if request.get(4).is_some_and(|kind| PASSED_ON.contains(kind)) {
            theirs.write_all(&request)?;
            match frame(&mut theirs)? {
                Some(answer) => client.write_all(&answer)?,
                None => return Ok(()),
            }
        } else {
            client.write_all(&FAILURE)?;
        }
    }
    Ok(())
}

/// Reads one frame, its length included; none at the end.
fn frame(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(head);
    if length > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = head.to_vec();
    frame.resize(4 + length as usize, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(Some(frame))
}

/// Passes everything on in both directions until both have said their last.
fn pass_on(one: &UnixStream, other: &UnixStream) -> io::Result<()> {
    let copy = |mut from: &UnixStream, mut to: &UnixStream| -> io::Result<()> {
        let copied = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write)?;
        copied.map(drop)
    };
    std::thread::scope(|scope| {
        let back = std::thread::Builder::new().spawn_scoped(scope, || copy(other, one))?;
        let there = copy(one, other);
        let back = back.join().unwrap_or(Err(io::ErrorKind::Other.into()));
        there.and(back)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every request with its body, type 12 in front.
    fn echo(socket: &Path) -> JoinHandle<Vec<u8>> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            while let Some(request) = frame(&mut client).unwrap() {
                seen.push(request[4]);
                let mut answer = request;
                answer[4] = 12;
                client.write_all(&answer).unwrap();
            }
            seen
        })
    }

    #[test]
    fn s9_only_what_signing_needs_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let link = dir.path().join("short");
        std::os::unix::fs::symlink(&deep, &link).unwrap();
        let agent = echo(&link.join("agent"));
        let (socket, ours) = (deep.join("agent"), deep.join("ours"));
        let us = (
            nix::unistd::getuid().as_raw(),
            nix::unistd::getgid().as_raw(),
        );
        let forward = Forward::start(Agent { socket, raw: false }, &ours, 0o600, us).unwrap();
        let mode = fs::metadata(&ours).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let mut client = UnixStream::connect(link.join("ours")).unwrap();
        for (kind, answered) in [(11, 12), (13, 12), (27, 12), (17, 5), (19, 5), (22, 5)] {
            client.write_all(&[0, 0, 0, 2, kind, 7]).unwrap();
            let answer = frame(&mut client).unwrap().unwrap();
            assert_eq!(answer[4], answered, "{kind}");
        }
        drop(client);
        assert_eq!(agent.join().unwrap(), [11, 13, 27]);
        drop(forward);
        assert!(
            UnixStream::connect(link.join("ours")).is_err(),
            "it is over"
        );
    }
}
