//! The builder's side of a sandbox: from a specification to a running init and its end.
//!
//! Safe to call from any thread of a threaded process: the child between clone and exec makes bare
//! system calls only. The init process runs from a sealed copy of our own program in memory, so
//! nothing in a sandbox can write to the program on disk through `/proc/PID/exe`.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Seek};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::process::{WaitId, WaitIdOptions};
use seccomp::supervise::{Credentials, Owners};

use crate::error::{Error, Exit};
use crate::idmap::IdMap;
use crate::mount::{clone_tree, set_readonly};
use crate::overlay::Workspace;
use crate::owners::Watch;
use crate::spec::{BindSource, Mount, Network, RunSpec, Stdin, limit_number};
use crate::wire::{self, Failure, Job, MountJob, MountKind, Report};
use crate::{filter, hosts, sys};

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

/// A running sandbox. Dropping it without [`Child::wait`] kills it.
#[derive(Debug)]
pub struct Child {
    handle: KillHandle,
    ended: bool,
    watch: Option<Watch>,
}

/// Kills a sandbox from any thread, also after it ended.
#[derive(Debug, Clone)]
pub struct KillHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pidfd: OwnedFd,
    control: UnixStream,
}

impl KillHandle {
    /// Ends every process of the sandbox. Returns at once; [`Child::wait`] sees `Signal(9)`.
    pub fn kill(&self) {
        // Init takes the end of its lifeline for the order to kill everything, with or without a
        // PID namespace. A socket that is down already means that it is over.
        if let Err(error) = self.shared.control.shutdown(Shutdown::Write) {
            debug_assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        }
    }
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
    let prepared = Prepared::new(workspace, spec, stdout, stderr)?;
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

impl Child {
    /// A handle to kill it with.
    pub fn kill_handle(&self) -> KillHandle {
        self.handle.clone()
    }

    /// The process id of its init, as this process sees it, while it lives: all its processes are
    /// below that one.
    pub fn pid(&self) -> Option<u32> {
        let fd = self.handle.shared.pidfd.as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        pid.trim().parse().ok()
    }

    /// Ends every process of the sandbox.
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// Waits until the program has ended and no process of the sandbox is left.
    pub fn wait(mut self) -> Result<Exit, Error> {
        let mut control = &self.handle.shared.control;
        let report = wire::receive::<Report>(&mut control);
        let exit = self.reap()?;
        if let Some(watch) = self.watch.take() {
            watch.end().map_err(init_error("supervise it"))?;
        }
        match report {
            Ok(Some(Report::Ended(exit))) => Ok(exit),
            // Killed from outside: there was nobody left to tell us.
            Ok(None) => exit.ok_or_else(|| Error::Init("it broke off".to_owned())),
            Ok(Some(other)) => Err(Error::Init(format!("it said {other:?} out of turn"))),
            Err(error) => Err(Error::Init(format!("cannot read its report: {error}"))),
        }
    }

    /// Takes the init process off the process table; its signal, if one ended it.
    fn reap(&mut self) -> Result<Option<Exit>, Error> {
        self.ended = true;
        let fd = self.handle.shared.pidfd.as_fd();
        loop {
            match rustix::process::waitid(WaitId::PidFd(fd), WaitIdOptions::EXITED) {
                Ok(status) => {
                    return Ok(status
                        .and_then(|s| s.terminating_signal())
                        .map(Exit::Signal));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::Init(format!("cannot wait for it: {error}"))),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            // Nobody asked how it ended.
            drop(self.reap());
            drop(self.watch.take().map(Watch::end));
        }
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
    root: RawFd,
    /// Who the program begins as, and where owners are kept.
    supervised: Option<(Credentials, Arc<Owners>)>,
}

impl Prepared {
    fn new(
        workspace: &Workspace,
        spec: RunSpec,
        stdout: OwnedFd,
        stderr: OwnedFd,
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
        let root = workspace.mount_fd().as_raw_fd();
        let mut mounts = Vec::new();
        let mut jobs = hosts::mounts(&spec)?;
        jobs.retain(|job| !spec.covers(Path::new(&job.target)));
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
            capabilities: spec.capabilities,
            seccomp: spec.seccomp,
            supervised: None,
            filter: filter::compiled(spec.seccomp.then_some(spec.capabilities), is_supervised)?,
            masked: spec.masked,
            tty_group: ids.holds_gid(5),
            root,
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
        })
    }

    fn start(&self, own_pids: bool) -> Result<Start, Error> {
        let (control, theirs) = UnixStream::pair().map_err(init_error("make a socket"))?;
        let mut keep: Vec<RawFd> = self.mounts.iter().map(AsRawFd::as_raw_fd).collect();
        keep.extend([self.root, theirs.as_raw_fd()]);
        let listening = match self.supervised {
            Some(_) => Some(UnixStream::pair().map_err(init_error("make a socket"))?),
            None => None,
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
        let (_, pidfd) =
            sys::spawn_init(self.namespaces(own_pids), &image).map_err(|source| Error::Clone {
                advice: clone_advice(&source),
                source,
            })?;
        drop(theirs);
        let shared = Arc::new(Shared { pidfd, control });
        let mut child = Child {
            handle: KillHandle { shared },
            ended: false,
            watch: None,
        };
        if let (Some((ours, theirs)), Some((first, owners))) = (listening, &self.supervised) {
            drop(theirs);
            let watch = Watch::begin(ours, first.clone(), Arc::clone(owners), self.job.seccomp);
            child.watch = Some(watch.map_err(init_error("start a thread to supervise it"))?);
        }
        self.converse(child, own_pids, listener)
    }

    fn namespaces(&self, own_pids: bool) -> libc::c_int {
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
        let mut control = &child.handle.shared.control;
        let mut job =
            serde_json::to_value(&self.job).map_err(|e| init_error("write the job")(e.into()))?;
        job["own_pids"] = own_pids.into();
        job["supervised"] = listener.into();
        wire::send(&mut control, &job).map_err(init_error("send the job"))?;
        match wire::receive(&mut control).map_err(init_error("read its report"))? {
            Some(Report::Started) => Ok(Start::Running(child)),
            Some(Report::ProcRefused) => Ok(Start::ProcRefused),
            Some(Report::Failed(failure)) => Err(failure.into()),
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
                BindSource::Path(path) => (open_path(&path)?, path),
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
