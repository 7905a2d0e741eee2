//! The builder's side of a sandbox: from a specification to a running init and its end.
//!
//! Safe to call from any thread of a threaded process: the child between clone and exec makes bare
//! system calls only. The init process runs from a sealed copy of our own program in memory, so
//! nothing in a sandbox can write to the program on disk through `/proc/PID/exe`.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use seccomp::supervise::{Configuration, Credentials, Owners};

use crate::child::Child;
use crate::chroot::InTree;
use crate::error::Error;
use crate::idmap::IdMap;
use crate::mount::{clone_tree, set_readonly};
use crate::owners::Watch;
use crate::roots::Workspace;
use crate::spec::{BindSource, Mount, Network, RunSpec, Stdin, limit_number};
use crate::wire::{self, Failure, Job, MountJob, MountKind, Report};
use crate::{chroot, filter, hosts, sys};

/// The name under which our program finds that it is to be an init process.
pub(crate) const INIT_NAME: &str = "lapstrake-init";

/// `/dev/shm` as container engines size it.
const SHM_SIZE: u64 = 64 << 20;

/// How often, and after which pauses, a copy of our program is sealed that the kernel still uses.
const SEALING_TRIES: u32 = 100;
const SEALING_PAUSE: Duration = Duration::from_millis(20);

/// Whether this kernel has refused a `/proc` for a new PID namespace; then nobody asks again.
static PROC_REFUSED: AtomicBool = AtomicBool::new(false);

/// Takes over what a probe has found: nobody has to ask for a `/proc` of its own.
pub(crate) fn assume_no_fresh_proc() {
    PROC_REFUSED.store(true, Ordering::Relaxed);
}

/// Starts `spec` in `workspace`, which was made by [`Workspace::for_run`] for it.
///
/// Returns when the program has been executed. A workspace's mount moves into the sandbox, so a
/// workspace runs one process. `stdout` and `stderr` are closed here.
pub fn spawn(
    workspace: &Workspace,
    spec: RunSpec,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Child, Error> {
    if let Some(tree) = workspace.tree() {
        return chroot::spawn(tree, spec, stdout, stderr);
    }
    let Some(root) = workspace.mount_fd() else {
        return Err(Error::Init("there is no root file system".to_owned()));
    };
    let prepared = Prepared::new(root.as_fd(), spec, stdout, stderr, None)?;
    if !PROC_REFUSED.load(Ordering::Relaxed) {
        match prepared.start(true)? {
            Start::Running(child) => return Ok(child),
            Start::ProcRefused => PROC_REFUSED.store(true, Ordering::Relaxed),
        }
    }
    match prepared.start(false)? {
        Start::Running(child) => Ok(child),
        Start::ProcRefused => Err(Error::Init("it asked twice for another /proc".to_owned())),
    }
}

/// Starts `spec` in the directory `tree` without any namespace or mount: the process changes its root
/// directory, with real ids, and a supervisor shows it `/proc`, `/sys` and what is missing of `/dev`.
///
/// `tree` has the directories `proc`, `sys` and `dev`, which belong to the sandbox while it runs, and
/// everything that `spec` wants mounted.
///
/// # Errors
/// [`Error::Unsupported`] for what needs namespaces.
pub fn spawn_in(
    tree: BorrowedFd<'_>,
    spec: RunSpec,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Child, Error> {
    let own = InTree::of(tree, &spec)?;
    let prepared = Prepared::new(tree, spec, stdout, stderr, Some(own))?;
    match prepared.start(false)? {
        Start::Running(child) => Ok(child),
        Start::ProcRefused => Err(Error::Init("it asked for another /proc".to_owned())),
    }
}

enum Start {
    Running(Child),
    ProcRefused,
}

/// Everything that a start needs, open.
struct Prepared {
    job: Job,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    mounts: Vec<OwnedFd>,
    root: OwnedFd,
    /// Who the program begins as, and where owners are kept.
    supervised: Option<(Credentials, Arc<Owners>)>,
    in_tree: Option<InTree>,
}

impl Prepared {
    fn new(
        root: BorrowedFd<'_>,
        spec: RunSpec,
        stdout: OwnedFd,
        stderr: OwnedFd,
        in_tree: Option<InTree>,
    ) -> Result<Self, Error> {
        let ids = IdMap::current().map_err(Error::io("read", Path::new("/proc/self/uid_map")))?;
        let supervised = spec.owners.clone().map(|owners| {
            let first = Credentials::new(spec.uid, spec.gid, spec.groups.clone());
            (first, owners)
        });
        let is_supervised = supervised.is_some();
        let groups = match supervised {
            Some(_) => None,
            None => usable_groups(&spec, &ids)?,
        };
        let root = root
            .try_clone_to_owned()
            .map_err(init_error("hold the root file system"))?;
        let mut mounts = Vec::new();
        let mut jobs = match in_tree {
            Some(_) => Vec::new(),
            None => {
                let mut names = hosts::mounts(&spec)?;
                names.retain(|mount| !spec.covers(mount.target()));
                let jobs = names.into_iter().map(|mount| mount_job(mount, &mut mounts));
                jobs.collect::<Result<_, _>>()?
            }
        };
        let limits = limits(&spec)?;
        let covered: Vec<bool> = (0..spec.mounts.len())
            .map(|at| spec.is_covered(at))
            .collect();
        let all = spec.mounts.into_iter().zip(covered);
        let mut extra: Vec<Mount> = all
            .filter_map(|(mount, covered)| (!covered).then_some(mount))
            .collect();
        extra.sort_by_key(|mount| mount.target().components().count());
        for mount in extra {
            jobs.push(mount_job(mount, &mut mounts)?);
        }
        let (stdin, new_session) = match spec.stdin {
            Stdin::Null => (Some(dev_null()?), true),
            Stdin::Fd(fd) => (Some(fd), true),
            Stdin::Inherit => (None, false),
        };
        let capabilities = in_tree
            .as_ref()
            .map_or(spec.capabilities, |t| t.capabilities);
        let filter = match &in_tree {
            Some(tree) => filter::in_tree(capabilities, tree.fence, is_supervised)?,
            None => filter::compiled(spec.seccomp.then_some(capabilities), is_supervised)?,
        };
        let job = Job {
            argv: spec.argv,
            env: spec.env,
            cwd: spec.cwd.into_os_string(),
            uid: spec.uid,
            gid: spec.gid,
            groups,
            hostname: spec.hostname,
            own_network: spec.network == Network::None,
            own_pids: true,
            new_session,
            limits,
            shm_size: spec.shm_size.unwrap_or(SHM_SIZE),
            capabilities,
            seccomp: spec.seccomp,
            supervised: None,
            filter,
            in_tree: in_tree.as_ref().map(|tree| tree.fence),
            masked: spec.masked,
            tty_group: ids.holds_gid(5),
            root: root.as_raw_fd(),
            mounts: jobs,
        };
        Ok(Self {
            job,
            stdin,
            stdout,
            stderr,
            mounts,
            root,
            supervised,
            in_tree,
        })
    }

    fn start(&self, own_pids: bool) -> Result<Start, Error> {
        let (control, theirs) = UnixStream::pair().map_err(init_error("make a socket"))?;
        let mut keep: Vec<RawFd> = self.mounts.iter().map(AsRawFd::as_raw_fd).collect();
        keep.extend([self.root.as_raw_fd(), theirs.as_raw_fd()]);
        let listening = match self.supervised.is_some() || self.in_tree.is_some() {
            true => Some(UnixStream::pair().map_err(init_error("make a socket"))?),
            false => None,
        };
        let listener = listening.as_ref().map(|(_, theirs)| theirs.as_raw_fd());
        keep.extend(listener);
        let argv = [INIT_NAME.to_owned(), theirs.as_raw_fd().to_string()]
            .map(|word| CString::new(word).unwrap_or_default());
        let inherited = io::stdin();
        let stdin = self
            .stdin
            .as_ref()
            .map_or_else(|| inherited.as_fd(), AsFd::as_fd);
        let image = sys::Image {
            exe: own_program()?,
            argv: &argv,
            stdio: [stdin, self.stdout.as_fd(), self.stderr.as_fd()],
            keep: &keep,
        };
        let (pid, pidfd) =
            sys::spawn_init(self.namespaces(own_pids), &image).map_err(|source| Error::Clone {
                advice: clone_advice(&source),
                source,
            })?;
        drop(theirs);
        let mut child = Child::new(pidfd, control);
        if let Some((ours, theirs)) = listening {
            drop(theirs);
            let watch = Watch::begin(ours, self.supervision(pid)?);
            child.watch = Some(watch.map_err(init_error("start a thread to supervise it"))?);
        }
        self.converse(child, own_pids, listener)
    }

    /// What a supervisor has to answer; `init` is the process that everything descends from.
    fn supervision(&self, init: libc::pid_t) -> Result<Configuration, Error> {
        let mut configuration = match &self.supervised {
            Some((first, owners)) => {
                Configuration::owners(first.clone(), Arc::clone(owners), self.job.seccomp)
            }
            None => Configuration::default(),
        };
        if let Some(tree) = &self.in_tree {
            let root = self.root.try_clone().map_err(init_error("hold the tree"))?;
            let served = tree.served(root, init);
            let served = served.map_err(init_error("show it /proc"))?;
            configuration.serve(served);
        }
        Ok(configuration)
    }

    fn namespaces(&self, own_pids: bool) -> libc::c_int {
        if self.in_tree.is_some() {
            return 0;
        }
        let mut flags =
            libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
        if own_pids {
            flags |= libc::CLONE_NEWPID;
        }
        if self.job.own_network {
            flags |= libc::CLONE_NEWNET;
        }
        flags
    }

    /// Sends the job and hears how the start went.
    fn converse(
        &self,
        child: Child,
        own_pids: bool,
        listener: Option<RawFd>,
    ) -> Result<Start, Error> {
        let mut control = child.control();
        let mut job =
            serde_json::to_value(&self.job).map_err(|e| init_error("write the job")(e.into()))?;
        job["own_pids"] = own_pids.into();
        job["supervised"] = listener.into();
        wire::send(&mut control, &job).map_err(init_error("send the job"))?;
        match wire::receive(&mut control).map_err(init_error("read its report"))? {
            Some(Report::Started) => Ok(Start::Running(child)),
            Some(Report::ProcRefused) => Ok(Start::ProcRefused),
            // A call that nobody answers fails in the program's process for no reason of its own.
            Some(Report::Failed(failure)) => Err(match child.unsupervised() {
                Some(error) => Error::Setup {
                    doing: "supervise the process".to_owned(),
                    why: format!("{error}: {}", clone_advice(&error)),
                },
                None => failure.into(),
            }),
            Some(Report::Ended(_)) | None => {
                Err(Error::Init("it ended before it began".to_owned()))
            }
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Setup { doing, why } => Self::Setup { doing, why },
            Failure::MountPoint { target, why } => Self::MountPoint {
                target: target.into(),
                why,
            },
            Failure::WorkingDirectory { path, why } => Self::WorkingDirectory {
                path: path.into(),
                why,
            },
            Failure::Exec(error) => Self::Exec(error),
        }
    }
}

fn init_error(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::Init(format!("cannot {doing}: {error}"))
}

fn clone_advice(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => {
            "a limit on namespaces is reached: see the sysctls user.max_*_namespaces".to_owned()
        }
        Some(libc::EAGAIN) => {
            "the limit on processes is reached (ulimit -u, pids cgroup)".to_owned()
        }
        Some(libc::EPERM) => "runtime::enter has to come first".to_owned(),
        _ => "see the kernel's log".to_owned(),
    }
}

/// Checks the ids of a process against the map; its supplementary groups if they can be set at all.
fn usable_groups(spec: &RunSpec, ids: &IdMap) -> Result<Option<Vec<u32>>, Error> {
    let unmapped = |kind, id| Error::UnmappedId {
        kind,
        id,
        available: ids.count(),
    };
    if !ids.holds_uid(spec.uid) {
        return Err(unmapped("user", spec.uid));
    }
    if !ids.holds_gid(spec.gid) {
        return Err(unmapped("group", spec.gid));
    }
    let fixed = fs::read_to_string("/proc/self/setgroups").is_ok_and(|s| s.trim() == "deny");
    if fixed {
        return Ok(None);
    }
    match spec.groups.iter().find(|gid| !ids.holds_gid(**gid)) {
        Some(gid) => Err(unmapped("group", *gid)),
        None => Ok(Some(spec.groups.clone())),
    }
}

fn limits(spec: &RunSpec) -> Result<Vec<(u32, u64, u64)>, Error> {
    spec.ulimits
        .iter()
        .map(|limit| match limit_number(&limit.name) {
            Some(number) => Ok((number, limit.soft, limit.hard)),
            None => Err(Error::UnknownLimit(limit.name.clone())),
        })
        .collect()
}

/// Opens what a mount needs from the host; only we can, since init has another mount namespace.
fn mount_job(mount: Mount, fds: &mut Vec<OwnedFd>) -> Result<MountJob, Error> {
    let target: OsString = mount.target().as_os_str().to_owned();
    let kind = match mount {
        Mount::Tmpfs {
            size,
            mode,
            readonly,
            ..
        } => MountKind::Tmpfs {
            size,
            mode,
            readonly,
        },
        Mount::Content {
            content,
            mode,
            uid,
            gid,
            ..
        } => MountKind::Content {
            content,
            mode,
            uid,
            gid,
        },
        Mount::Bind {
            source, readonly, ..
        } => {
            let (source, path) = match source {
                BindSource::Fd(fd) => (fd, target.clone().into()),
                BindSource::Path(path) | BindSource::Owned(path) => (open_path(&path)?, path),
            };
            let mount = clone_tree(source.as_fd(), "", true).map_err(Error::io("bind", &path))?;
            if readonly {
                set_readonly(mount.as_fd(), true).map_err(Error::io("make read-only", &path))?;
            }
            let number = mount.as_raw_fd();
            fds.push(mount);
            MountKind::Attach(number)
        }
    };
    Ok(MountJob { target, kind })
}

fn open_path(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", path)(e.into()))
}

fn dev_null() -> Result<OwnedFd, Error> {
    let path = Path::new("/dev/null");
    Ok(File::open(path).map_err(Error::io("open", path))?.into())
}

/// A sealed copy of the running program, made once.
fn own_program() -> Result<BorrowedFd<'static>, Error> {
    static COPY: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(copy) = COPY.get() {
        return Ok(copy.as_fd());
    }
    let made = copy_program().map_err(Error::io("copy", Path::new("/proc/self/exe")))?;
    Ok(COPY.get_or_init(|| made).as_fd())
}

fn copy_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(
        rustix::fs::memfd_create(INIT_NAME, flags | MemfdFlags::EXEC)
            // MFD_EXEC is younger (Linux 6.3); before it, every memfd was executable.
            .or_else(|_| rustix::fs::memfd_create(INIT_NAME, flags))?,
    );
    let mut program = File::open("/proc/self/exe")?;
    io::copy(&mut program, &mut copy)?;
    copy.rewind()?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    for _ in 0..SEALING_TRIES {
        match rustix::fs::fcntl_add_seals(&copy, seals) {
            // The kernel still has pages of it in use from the copying.
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(SEALING_PAUSE),
            result => return Ok(result.map(|()| copy.into())?),
        }
    }
    Err(rustix::io::Errno::BUSY.into())
}
