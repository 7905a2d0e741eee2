//! What to run and what it sees: the input of [`crate::spawn`].

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use seccomp::supervise::Owners;

use crate::capabilities::Capabilities;

/// The `PATH` of a process that was given none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One process in a sandbox. [`RunSpec::new`] has the defaults of a build step.
#[derive(Debug)]
pub struct RunSpec {
    /// Program and arguments. A name without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory inside the root file system; must exist.
    pub cwd: PathBuf,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary groups. Not set where the kernel forbids it (one id only, without `owners`).
    pub groups: Vec<u32>,
    /// Name of the machine inside.
    pub hostname: String,
    /// Which network it sees.
    pub network: Network,
    /// More lines of `/etc/hosts`: (name, address).
    pub hosts: Vec<(String, String)>,
    /// Resource limits; others stay as they are.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`; 64 MiB if not given.
    pub shm_size: Option<u64>,
    /// Mounts beyond the usual ones, attached in the order of their depth.
    pub mounts: Vec<Mount>,
    /// Capabilities of root, and the bounding set of everyone.
    pub capabilities: Capabilities,
    /// Whether the system call filter is installed.
    pub seccomp: bool,
    /// Whether what tells of the machine in `/proc` and `/sys` is hidden, and what changes it is
    /// write-protected.
    pub masked: bool,
    /// Standard input.
    pub stdin: Stdin,
    /// Where a supervisor keeps the owners of files: the process, its ids included, then is what it
    /// would be with all ids. Only where [`crate::supervision`] works.
    pub owners: Option<Arc<Owners>>,
}

impl RunSpec {
    /// Whether one of the mounts goes on `path` itself.
    pub(crate) fn covers(&self, path: &std::path::Path) -> bool {
        self.mounts.iter().any(|mount| mount.target() == path)
    }

    /// Whether a later mount goes on the same place as the mount `at`, so that nobody would see it.
    /// It is left out then: on a file that has no name, as content has, the kernel mounts nothing.
    pub(crate) fn is_covered(&self, at: usize) -> bool {
        let (mount, later) = match self.mounts.get(at..) {
            Some([mount, later @ ..]) => (mount, later),
            _ => return false,
        };
        later.iter().any(|other| other.target() == mount.target())
    }

    /// A process as root in `/`, on the host's network, with the default protection.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: vec![("PATH".into(), DEFAULT_PATH.into())],
            cwd: "/".into(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            hostname: "buildkitsandbox".to_owned(),
            network: Network::Host,
            hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            mounts: Vec::new(),
            capabilities: Capabilities::default(),
            seccomp: true,
            masked: true,
            stdin: Stdin::Null,
            owners: None,
        }
    }
}

/// Which network a process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The one of the caller.
    Host,
    /// An empty one with a loopback interface.
    None,
}

/// Standard input, and with it the terminal.
#[derive(Debug)]
pub enum Stdin {
    /// Empty; a session of its own, so no controlling terminal.
    Null,
    /// This file; a session of its own.
    Fd(OwnedFd),
    /// The caller's, with its session and terminal.
    Inherit,
}

/// A resource limit: `nofile`, `nproc`, … and its two values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// The name as `docker build --ulimit` knows it.
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Something mounted into the sandbox. Targets are paths inside, symbolic links are followed beneath
/// the root, and what is missing appears without ever being in the upper directory.
#[derive(Debug)]
pub enum Mount {
    /// A host file or directory.
    Bind {
        /// The host side.
        source: BindSource,
        /// Where it appears.
        target: PathBuf,
        /// Whether writes are refused.
        readonly: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Where it appears.
        target: PathBuf,
        /// Bytes; the kernel's default (half of memory) if not given.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
        /// Whether writes are refused.
        readonly: bool,
    },
    /// A read-only file with this content, which is never on a disk; in a tree it is one that can be
    /// written, and is overwritten afterwards.
    Content {
        /// The bytes.
        content: Vec<u8>,
        /// Where it appears.
        target: PathBuf,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl Mount {
    /// Where it appears.
    pub fn target(&self) -> &std::path::Path {
        match self {
            Self::Bind { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::Content { target, .. } => target,
        }
    }
}

/// The host side of a bind mount.
#[derive(Debug)]
pub enum BindSource {
    /// By path, resolved when the process is spawned.
    Path(PathBuf),
    /// An open file or directory (`O_PATH` will do), safe from being exchanged meanwhile.
    Fd(OwnedFd),
    /// A directory that is the caller's own, on the file system of the workspace. Where nothing can
    /// be mounted, what is written to any other source is lost; this one goes into the tree itself
    /// and comes back.
    Owned(PathBuf),
}

/// Whether [`Ulimit::name`] may be `name`.
pub fn is_limit(name: &str) -> bool {
    limit_number(name).is_some()
}

/// The number of a resource limit by its name.
pub(crate) fn limit_number(name: &str) -> Option<u32> {
    #[allow(clippy::unnecessary_cast)] // the type differs between libcs
    let known = [
        ("as", libc::RLIMIT_AS as u32),
        ("core", libc::RLIMIT_CORE as u32),
        ("cpu", libc::RLIMIT_CPU as u32),
        ("data", libc::RLIMIT_DATA as u32),
        ("fsize", libc::RLIMIT_FSIZE as u32),
        ("locks", libc::RLIMIT_LOCKS as u32),
        ("memlock", libc::RLIMIT_MEMLOCK as u32),
        ("msgqueue", libc::RLIMIT_MSGQUEUE as u32),
        ("nice", libc::RLIMIT_NICE as u32),
        ("nofile", libc::RLIMIT_NOFILE as u32),
        ("nproc", libc::RLIMIT_NPROC as u32),
        ("rss", libc::RLIMIT_RSS as u32),
        ("rtprio", libc::RLIMIT_RTPRIO as u32),
        ("rttime", libc::RLIMIT_RTTIME as u32),
        ("sigpending", libc::RLIMIT_SIGPENDING as u32),
        ("stack", libc::RLIMIT_STACK as u32),
    ];
    known
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, number)| *number)
}
