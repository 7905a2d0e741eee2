//! The last steps before a program runs: limits, directory, ids, capabilities, filter, exec.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::unistd::Gid;
use rustix::fs::{FileType, OFlags, Uid};

use super::{in_tree, step};
use crate::capabilities::{self, Capabilities};
use crate::error::ExecError;
use crate::inroot;
use crate::owners;
use crate::spec::DEFAULT_PATH;
use crate::sys;
use crate::wire::{self, Failure, Job};

/// Becomes the program of `job`. If that fails, says why on `tell`, which a success closes.
pub fn become_it(job: &Job, mut tell: io::PipeWriter) -> ! {
    let failure = match prepare(job) {
        Ok(()) => execute(job),
        Err(failure) => failure,
    };
    // If nobody listens the builder is gone, and init is about to end us.
    let told = wire::send(&mut tell, &failure);
    sys::exit_now(if told.is_ok() { 127 } else { 125 })
}

fn prepare(job: &Job) -> Result<(), Failure> {
    if job.new_session {
        nix::unistd::setsid().map_err(step("start a session"))?;
    }
    sys::reset_signals().map_err(step("reset the signals"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    for &(number, soft, hard) in &job.limits {
        sys::set_limit(number, soft, hard).map_err(step(
            "set a resource limit (a hard limit can only be lowered)",
        ))?;
    }
    if let Some(fence) = job.in_tree {
        return in_tree::enter(job, fence);
    }
    enter_directory(&job.cwd).map_err(|why| Failure::WorkingDirectory {
        path: job.cwd.clone(),
        why,
    })?;
    if job.supervised.is_none() {
        own_pipes(job.uid).map_err(step("hand the standard streams to the user"))?;
    }
    confine(job)
}

/// Changes directory beneath the root only: a link of `/proc` to a descriptor does not count.
pub(super) fn enter_directory(path: &OsStr) -> Result<(), String> {
    let root = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|e| e.to_string())?;
    let dir = inroot::open(
        root.as_fd(),
        Path::new(path),
        OFlags::PATH | OFlags::DIRECTORY,
    )
    .map_err(|e| match e {
        rustix::io::Errno::NOENT => "no such directory in the root file system".to_owned(),
        rustix::io::Errno::LOOP => "it leads through a link of /proc".to_owned(),
        other => other.to_string(),
    })?;
    nix::unistd::fchdir(&dir).map_err(|e| e.to_string())?;
    let at = rustix::process::getcwd(Vec::new()).map_err(|e| e.to_string())?;
    if at.as_bytes().first() != Some(&b'/') {
        return Err("it is outside of the root file system".to_owned());
    }
    Ok(())
}

/// Gives pipes among the standard streams to the user, who could not open `/dev/stdout` otherwise.
pub(super) fn own_pipes(uid: u32) -> io::Result<()> {
    let streams = (io::stdin(), io::stdout(), io::stderr());
    for fd in [streams.0.as_fd(), streams.1.as_fd(), streams.2.as_fd()] {
        let stat = rustix::fs::fstat(fd)?;
        if uid != 0 && FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None) {
                // A pipe of somebody else's, from sudo or a CI runner: it works all the same, only
                // /dev/stdout cannot be opened anew.
                Err(rustix::io::Errno::PERM) => {}
                result => result?,
            }
        }
    }
    Ok(())
}

/// Gives up what the program must not have. The filter goes on while we still have CAP_SYS_ADMIN,
/// since otherwise it would take no_new_privs, and set-uid programs in images would stop working.
fn confine(job: &Job) -> Result<(), Failure> {
    capabilities::bound(job.capabilities).map_err(step("drop bounding capabilities"))?;
    if let Some(groups) = &job.groups {
        let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        nix::unistd::setgroups(&groups).map_err(step("set the supplementary groups"))?;
    }
    let filter = match job.own_pids || !job.seccomp {
        true => seccomp::from_words(&job.filter),
        false => {
            let mut profile = seccomp::Profile::docker_default(job.capabilities.mask());
            shield(&mut profile);
            if job.supervised.is_some() {
                owners::protect(&mut profile);
            }
            seccomp::compile(&profile).map_err(step("compile the system call filter"))?
        }
    };
    if let Some(fd) = job.supervised {
        let socket = sys::adopt(fd).map_err(step("take over the supervisor's socket"))?;
        owners::submit(&filter, &socket.into()).map_err(step("come under supervision"))?;
        // For the kernel everybody stays user 0, and may what the supervisor's rules do not check.
        return capabilities::apply(job.capabilities).map_err(step("set the capabilities"));
    }
    if job.seccomp {
        seccomp::install(&filter).map_err(step("install the system call filter"))?;
    }
    sys::set_ids(job.uid, job.gid)
        .map_err(step(&format!("become user {}:{}", job.uid, job.gid)))?;
    let keep = if job.uid == 0 {
        job.capabilities
    } else {
        Capabilities::none()
    };
    capabilities::apply(keep).map_err(step("set the capabilities"))
}

/// Keeps signals away from init and the builder, which a program can see where it shares their PID
/// namespace: with init gone nobody would end what the program leaves behind.
fn shield(profile: &mut seccomp::Profile) {
    let (init, builder) = (nix::unistd::getppid(), builders_pid());
    let groups = [
        nix::unistd::getpgid(Some(init)),
        nix::unistd::getpgid(builder),
    ];
    let everyone = Some(-1);
    let pids = [
        Some(init.as_raw()),
        builder.map(nix::unistd::Pid::as_raw),
        everyone,
    ]
    .into_iter()
    .chain(groups.map(|group| group.ok().map(|g| -g.as_raw())))
    .flatten();
    for pid in pids {
        for call in [
            "kill",
            "tkill",
            "tgkill",
            "rt_sigqueueinfo",
            "rt_tgsigqueueinfo",
            "pidfd_open",
        ] {
            let rule = seccomp::Rule {
                call,
                all: vec![seccomp::Condition::equals(0, pid.cast_unsigned())],
                action: seccomp::Action::Errno(libc::EPERM as u16),
            };
            profile.rules.insert(0, rule);
        }
    }
}

/// The parent of our parent.
fn builders_pid() -> Option<nix::unistd::Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", nix::unistd::getppid())).ok()?;
    super::parent_of(&stat).map(nix::unistd::Pid::from_raw)
}

fn execute(job: &Job) -> Failure {
    let name = job.argv.first().cloned().unwrap_or_default();
    let fail = |path: OsString, errno| {
        let exists = Path::new(&path).exists() && path.as_bytes().contains(&b'/');
        Failure::Exec(ExecError {
            path,
            errno,
            exists,
        })
    };
    let argv: Option<Vec<CString>> = job.argv.iter().map(|arg| c_string(arg)).collect();
    let envp: Option<Vec<CString>> = job
        .env
        .iter()
        .map(|(key, value)| {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            c_string(&pair)
        })
        .collect();
    let (Some(argv), Some(envp)) = (argv, envp) else {
        return fail(name, libc::EINVAL);
    };
    let mut worst = (name.clone(), libc::ENOENT);
    for path in candidates(&name, &job.env) {
        let Some(c_path) = c_string(&path) else {
            continue;
        };
        let error = sys::execve(&c_path, &argv, &envp);
        let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
        match errno {
            libc::ENOENT | libc::ENOTDIR if !Path::new(&path).exists() => {}
            libc::EACCES => worst = (path, errno),
            _ => return fail(path, errno),
        }
    }
    fail(worst.0, worst.1)
}

fn c_string(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}

/// The files that `name` may mean, in order.
fn candidates(name: &OsStr, env: &[(OsString, OsString)]) -> Vec<OsString> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.as_bytes().contains(&b'/') {
        return vec![name.to_owned()];
    }
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or(OsStr::new(DEFAULT_PATH), |(_, v)| v);
    path.as_bytes()
        .split(|byte| *byte == b':')
        .filter(|dir| dir.first() == Some(&b'/'))
        .map(|dir| {
            let mut file = dir.to_vec();
            file.push(b'/');
            file.extend_from_slice(name.as_bytes());
            OsString::from_vec(file)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_absolute_directories_of_the_path() {
        let env = |path: &str| vec![(OsString::from("PATH"), OsString::from(path))];
        let found = |name: &str, path: &str| candidates(OsStr::new(name), &env(path));
        assert_eq!(found("x", "/a::b:/c/"), ["/a/x", "/c//x"]);
        assert_eq!(found("./x", "/a"), ["./x"]);
        assert!(found("", "/a").is_empty());
        assert_eq!(candidates(OsStr::new("x"), &[]).len(), 6);
    }
}
