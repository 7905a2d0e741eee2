//! Entering the user and mount namespace in which everything else runs.
//!
//! A forked child makes the user namespace and waits in it. We stand outside, give it its id map,
//! and only when that worked step in ourselves. So a failed attempt costs nothing and the next
//! weaker map can be tried: `newuidmap` may succeed where `newgidmap` fails, and a map can be
//! written only once.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid};

use crate::diagnose;
use crate::idmap::{IdMap, Range, subordinate, with_subordinate};
use crate::owners;
use crate::sys;

/// How to enter.
#[derive(Debug, Clone, Copy, Default)]
pub struct EnterOptions {
    /// The one mode that will do; the strongest that works if not given.
    pub mode: Option<Mode>,
}

/// The kind of sandbox, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A user namespace with a range of ids.
    UsernsMany,
    /// A user namespace with the caller's own id alone.
    UsernsOne,
    /// No namespace and no mount: root changes the root directory, and ids are real.
    Chroot,
}

impl Mode {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::UsernsMany, Self::UsernsOne, Self::Chroot];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsernsMany => "userns-many",
            Self::UsernsOne => "userns-one",
            Self::Chroot => "chroot",
        }
    }
}

/// What [`enter`] achieved.
#[derive(Debug, Clone)]
pub struct Entered {
    /// The kind of namespace.
    pub mode: Mode,
    /// Its ids.
    pub ids: IdMap,
    /// One line for people: what was chosen, and why nothing stronger.
    pub note: String,
}

/// Why no namespace could be entered. Each message names the cause and the cure.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The process has threads.
    #[error("cannot enter a user namespace: this process already has {0} threads")]
    Threads(usize),
    /// The kernel refused the user namespace.
    #[error("cannot create a user namespace: {error}: {advice}")]
    Unshare {
        /// What the kernel said.
        error: io::Error,
        /// Cause and cure.
        advice: String,
    },
    /// The id map was refused.
    #[error("cannot map ids into a user namespace: {why}")]
    Map {
        /// What failed, with cause and cure.
        why: String,
    },
    /// The user namespace is there but may not mount.
    #[error("cannot {doing} in the user namespace: {error}: {advice}")]
    Mounts {
        /// The step.
        doing: &'static str,
        /// What the kernel said.
        error: io::Error,
        /// Cause and cure.
        advice: String,
    },
    /// The root directory or the ids of a process cannot be changed.
    #[error("cannot change the root directory and the ids of a process: {error}: {advice}")]
    Chroot {
        /// What the kernel said.
        error: io::Error,
        /// Cause and cure.
        advice: &'static str,
    },
    /// Something ordinary failed on the way.
    #[error("cannot {doing}: {error}")]
    Io {
        /// The step.
        doing: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> EnterError {
    move |error| EnterError::Io { doing, error }
}

/// Enters a new user and mount namespace as user 0, with the strongest id map that can be had.
///
/// Must be called before any thread is started. Afterwards this process has all capabilities inside
/// the namespace, its mounts are private, it adopts orphaned descendants, and it is not dumpable
/// (a process in the same namespace can read neither its environment nor its memory).
pub fn enter(opts: &EnterOptions) -> Result<Entered, EnterError> {
    let threads = sys::threads().map_err(io_error("list /proc/self/task (is /proc mounted?)"))?;
    if threads != 1 {
        return Err(EnterError::Threads(threads));
    }
    let mut weaker = None;
    if opts.mode == Some(Mode::Chroot) {
        return stay();
    }
    if opts.mode != Some(Mode::UsernsOne) {
        match many().and_then(hold_wide) {
            Ok((holder, how)) => return step_in(holder, how, None),
            Err(Attempt::Fatal(error)) => return Err(error),
            Err(Attempt::Weaker(why)) if opts.mode == Some(Mode::UsernsMany) => {
                return Err(EnterError::Map { why });
            }
            Err(Attempt::Weaker(why)) => weaker = Some(why),
        }
    }
    let holder = Holder::new()?;
    holder.write_single().map_err(|error| EnterError::Map {
        why: diagnose::single_map(&error),
    })?;
    step_in(holder, "your own id only".to_owned(), weaker)
}

/// Enters nothing: each step is to change its root directory, with the ids that we have.
fn stay() -> Result<Entered, EnterError> {
    may_change_root().map_err(|error| EnterError::Chroot {
        advice: diagnose::chroot(),
        error,
    })?;
    adopt_and_hide()?;
    let ids = IdMap::current().map_err(io_error("read /proc/self/uid_map"))?;
    Ok(Entered {
        mode: Mode::Chroot,
        note: "changed root directory with real ids".to_owned(),
        ids,
    })
}

/// Tries it in a child.
fn may_change_root() -> io::Result<()> {
    let Some(child) = sys::fork_single()? else {
        let done = nix::unistd::chroot("/").and_then(|()| nix::unistd::setgroups(&[]));
        sys::exit_now(done.err().map_or(0, |errno| errno as i32));
    };
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Ok(other) => return Err(io::Error::other(format!("the attempt ended: {other:?}"))),
            Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Orphaned descendants become ours, and nobody reads our environment or memory.
fn adopt_and_hide() -> Result<(), EnterError> {
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(io_error("become a subreaper"))?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(io_error("become undumpable"))
}

/// Why an attempt did not succeed: try something weaker, or give up.
enum Attempt {
    Weaker(String),
    Fatal(EnterError),
}

impl From<EnterError> for Attempt {
    fn from(e: EnterError) -> Self {
        Self::Fatal(e)
    }
}

/// A wide id map and who may write it.
enum Wide {
    /// We may: identity over what the parent has.
    Direct(IdMap),
    /// The set-uid helpers may.
    Helpers { uids: Vec<Range>, gids: Vec<Range> },
}

/// Makes a namespace and applies a wide map to it.
fn hold_wide(wide: Wide) -> Result<(Holder, String), Attempt> {
    let holder = Holder::new()?;
    match wide {
        Wide::Direct(map) => {
            holder
                .write_direct(&map)
                .map_err(|e| Attempt::Weaker(diagnose::direct_map(&e)))?;
            Ok((holder, "all ids of the caller".to_owned()))
        }
        Wide::Helpers { uids, gids } => {
            holder.run_helper("newuidmap", &uids)?;
            holder.run_helper("newgidmap", &gids)?;
            Ok((holder, "subordinate ids by newuidmap".to_owned()))
        }
    }
}

/// The widest map this process could ask for.
fn many() -> Result<Wide, Attempt> {
    let uid = geteuid().as_raw();
    if uid == 0 {
        let map = IdMap::current().map_err(io_error("read /proc/self/uid_map"))?;
        return Ok(Wide::Direct(map));
    }
    let name = user_name(uid);
    let who = name.clone().unwrap_or_else(|| uid.to_string());
    let ranges = |file: &str| -> Result<Vec<(u32, u32)>, Attempt> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let found = subordinate(&text, name.as_deref(), uid);
        if found.is_empty() {
            return Err(Attempt::Weaker(format!("{file} gives no ids to {who}")));
        }
        Ok(found)
    };
    let uids = with_subordinate(uid, &ranges("/etc/subuid")?);
    let gids = with_subordinate(getegid().as_raw(), &ranges("/etc/subgid")?);
    Ok(Wide::Helpers { uids, gids })
}

/// The login name of a user: from `/etc/passwd`, else what the environment says (the helpers check).
fn user_name(uid: u32) -> Option<String> {
    let number = uid.to_string();
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    known.or_else(|| {
        std::env::var("USER")
            .or_else(|_| std::env::var("LOGNAME"))
            .ok()
    })
}

/// Enters the holder's namespace, then a mount namespace of our own.
fn step_in(holder: Holder, how: String, weaker: Option<String>) -> Result<Entered, EnterError> {
    let ns = fs::File::open(format!("/proc/{}/ns/user", holder.pid))
        .map_err(io_error("open the new user namespace"))?;
    setns(&ns, CloneFlags::CLONE_NEWUSER).map_err(|e| EnterError::Mounts {
        doing: "take part",
        error: e.into(),
        advice: diagnose::confined(e),
    })?;
    drop(holder);
    if !geteuid().is_root() {
        sys::set_ids(0, 0).map_err(io_error("become user 0 of the new user namespace"))?;
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| EnterError::Mounts {
        doing: "create a mount namespace",
        error: e.into(),
        advice: diagnose::confined(e),
    })?;
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(|e| {
        EnterError::Mounts {
            doing: "make the mounts private",
            error: e.into(),
            advice: diagnose::confined(e),
        }
    })?;
    adopt_and_hide()?;
    let ids = IdMap::current().map_err(io_error("read /proc/self/uid_map"))?;
    let mut entered = describe(ids, &how, weaker);
    if entered.mode == Mode::UsernsOne {
        entered.note.push_str("; ");
        entered.note.push_str(&match owners::probe() {
            Ok(()) => "other owners are shown to programs by a supervisor".to_owned(),
            Err(why) => format!("programs cannot change their user: {why}"),
        });
    }
    Ok(entered)
}

fn describe(ids: IdMap, how: &str, weaker: Option<String>) -> Entered {
    let (mode, mut note) = if ids.is_single() {
        let note = format!("user namespace with one id ({how})");
        (Mode::UsernsOne, note)
    } else {
        let note = format!("user namespace with {} ids ({how})", ids.count());
        (Mode::UsernsMany, note)
    };
    if let Some(why) = weaker {
        note.push_str("; no more because ");
        note.push_str(&why);
    }
    Entered { mode, ids, note }
}

/// A child process that sits in a new user namespace until this value is dropped.
struct Holder {
    pid: Pid,
    /// Dropping it lets the child go.
    leash: Option<OwnedFd>,
}

impl Holder {
    fn new() -> Result<Self, EnterError> {
        let pipe = || io::pipe().map_err(io_error("make a pipe"));
        let (mut ready, tell) = pipe()?;
        let (wait, leash) = pipe()?;
        let Some(pid) = sys::fork_single().map_err(io_error("fork"))? else {
            drop((ready, leash));
            hold(tell, wait);
        };
        drop((tell, wait));
        let holder = Self {
            pid,
            leash: Some(leash.into()),
        };
        let mut errno = [0; 4];
        ready
            .read_exact(&mut errno)
            .map_err(io_error("hear from the new user namespace"))?;
        match i32::from_ne_bytes(errno) {
            0 => Ok(holder),
            errno => Err(EnterError::Unshare {
                error: io::Error::from_raw_os_error(errno),
                advice: diagnose::unshare(errno),
            }),
        }
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        // One write, since the kernel takes a map in one piece or not at all.
        fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/{}/{file}", self.pid))?
            .write_all(text.as_bytes())
    }

    /// Maps every id of ours to itself.
    fn write_direct(&self, map: &IdMap) -> io::Result<()> {
        let identity = |ranges: &[Range]| -> String {
            ranges
                .iter()
                .map(|r| format!("{} {} {}\n", r.inside, r.inside, r.count))
                .collect()
        };
        self.write("gid_map", &identity(map.gids()))?;
        self.write("uid_map", &identity(map.uids()))
    }

    /// Maps our own ids to 0. Needs no privilege, but groups can then not be changed any more.
    fn write_single(&self) -> io::Result<()> {
        self.write("setgroups", "deny")?;
        self.write("gid_map", &format!("0 {} 1\n", getegid()))?;
        self.write("uid_map", &format!("0 {} 1\n", geteuid()))
    }

    fn run_helper(&self, program: &str, ranges: &[Range]) -> Result<(), Attempt> {
        let mut args = vec![OsString::from(self.pid.to_string())];
        for range in ranges {
            args.extend([range.inside, range.outside, range.count].map(|n| n.to_string().into()));
        }
        match Command::new(program).args(args).output() {
            Ok(out) if out.status.success() => Ok(()),
            Ok(out) => {
                let said = String::from_utf8_lossy(&out.stderr);
                Err(Attempt::Weaker(diagnose::helper(program, said.trim())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Attempt::Weaker(format!(
                "{program} is not in PATH (install the uidmap package, or shadow-utils)"
            ))),
            Err(error) => Err(Attempt::Weaker(format!("{program} cannot be run: {error}"))),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.leash.take());
        // The child reads the end of the pipe and leaves; there is nothing to learn from its status.
        while waitpid(self.pid, None) == Err(nix::Error::EINTR) {}
    }
}

/// The child's whole life.
fn hold(mut tell: io::PipeWriter, mut wait: io::PipeReader) -> ! {
    let errno = match unshare(CloneFlags::CLONE_NEWUSER) {
        Ok(()) => 0,
        Err(errno) => errno as i32,
    };
    let told = tell.write_all(&errno.to_ne_bytes());
    // Ends when the parent closes its end, or dies.
    let waited = wait.read(&mut [0]);
    sys::exit_now(i32::from(told.is_err() || waited.is_err()))
}
