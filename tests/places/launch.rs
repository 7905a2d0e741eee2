//! The launcher: makes a place, becomes the user and executes a program there.
//!
//! As root it can do all of it; without, calls are refused under `no_new_privs` and nothing is mounted.
//! Whatever a place is made of comes from the arguments of this test program, never from anything that
//! the program under test would look at.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, close, execv, geteuid, setgid, setgroups, setuid};
use seccomp::{Action, Condition, Profile, Rule, compile, install};

/// `WORD=VALUE` up to `--`, then the program and its arguments.
///
/// * `refuse=CALL:ERRNO[:ARGUMENT:VALUE]…`, the last for calls with that in an argument only
/// * `mount=TYPE:TARGET:OPTIONS`, `nosuid`, `nodev`, `noexec` and `ro` among them; `remount` for a directory
///   as it is, `here` for a mount as it is
/// * `open=FILE`, a descriptor that is left open
/// * `user=UID`, whose group has the same number
/// * `limit=NAME:NUMBER`, `umask=OCTAL`, `close=DESCRIPTOR`
/// * `ignore=SIGNAL`, as a shell names it; `block=all`
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut rules = Vec::new();
    let mut later = Vec::new();
    let mut before = Vec::new();
    for arg in args.by_ref() {
        if arg == "--" {
            break;
        }
        let arg = arg.into_string().unwrap();
        let (word, value) = arg.split_once('=').unwrap();
        match word {
            "refuse" => rules.push(rule(value)),
            "mount" => mount_there(value),
            // A shell ignores it for us.
            "ignore" => {
                let script = format!("trap '' {value}; exec \"$@\"");
                before = ["/bin/sh", "-c", &script, "sh"]
                    .map(|word| CString::new(word).unwrap())
                    .into();
            }
            _ => later.push((word.to_owned(), value.to_owned())),
        }
    }
    if !rules.is_empty() {
        refuse(rules);
    }
    for (word, value) in later {
        change(&word, &value);
    }
    let words = args.map(|arg| CString::new(arg.into_vec()).unwrap());
    let argv: Vec<CString> = before.into_iter().chain(words).collect();
    match execv(&argv[0], &argv) {
        Ok(never) => match never {},
        Err(errno) => panic!("{:?}: {errno}", argv[0]),
    }
}

fn rule(text: &str) -> Rule {
    let mut words = text.split(':');
    let mut word = || words.next().unwrap().to_owned();
    let (call, errno) = (word(), word());
    let rest: Vec<u32> = words.map(|word| word.parse().unwrap()).collect();
    let all = rest
        .chunks(2)
        .map(|pair| Condition::equals(u8::try_from(pair[0]).unwrap(), pair[1]))
        .collect();
    Rule {
        call: Box::leak(call.into_boxed_str()),
        all,
        action: Action::Errno(u16::try_from(errno_of(&errno) as i32).unwrap()),
    }
}

fn errno_of(name: &str) -> Errno {
    match name {
        "EPERM" => Errno::EPERM,
        "EACCES" => Errno::EACCES,
        "ENOSYS" => Errno::ENOSYS,
        "EINVAL" => Errno::EINVAL,
        "ENOTSUP" => Errno::EOPNOTSUPP,
        "ENOLCK" => Errno::ENOLCK,
        "ENODEV" => Errno::ENODEV,
        "EXDEV" => Errno::EXDEV,
        "EMLINK" => Errno::EMLINK,
        "EBUSY" => Errno::EBUSY,
        _ => panic!("which errno is {name}?"),
    }
}

fn refuse(rules: Vec<Rule>) {
    let profile = Profile {
        rules,
        refused: Action::Allow,
        unknown: Action::Allow,
    };
    if !geteuid().is_root() {
        nix::sys::prctl::set_no_new_privs().unwrap();
    }
    install(&compile(&profile).unwrap()).unwrap();
}

/// `TYPE:TARGET:OPTIONS`, seen by this process and what it starts.
pub fn mount_there(text: &str) {
    let mut words = text.splitn(3, ':');
    let mut word = || words.next().unwrap_or_default();
    let (kind, target, options) = (word(), word(), word());
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    if kind == "remount" || kind == "here" {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        if kind == "remount" {
            mount(Some(target), target, None::<&str>, flags, None::<&str>).unwrap();
        }
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags_of(options).0;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>).unwrap();
        return;
    }
    let (flags, data) = flags_of(options);
    let data = Some(data.as_str()).filter(|data| !data.is_empty());
    mount(Some("none"), target, Some(kind), flags, data).unwrap_or_else(|e| panic!("{text}: {e}"));
}

fn flags_of(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',') {
        match option {
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "ro" => flags |= MsFlags::MS_RDONLY,
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

fn change(word: &str, value: &str) {
    match word {
        "user" => {
            let id: u32 = value.parse().unwrap();
            setgroups(&[]).unwrap();
            setgid(Gid::from_raw(id)).unwrap();
            setuid(Uid::from_raw(id)).unwrap();
        }
        "limit" => {
            let (name, number) = value.split_once(':').unwrap();
            let resource = match name {
                "nofile" => Resource::RLIMIT_NOFILE,
                "nproc" => Resource::RLIMIT_NPROC,
                "fsize" => Resource::RLIMIT_FSIZE,
                "as" => Resource::RLIMIT_AS,
                "core" => Resource::RLIMIT_CORE,
                _ => panic!("which limit is {name}?"),
            };
            let number = number.parse().unwrap();
            setrlimit(resource, number, number).unwrap();
        }
        "open" => {
            let file = std::fs::File::open(value).unwrap();
            // A number that nothing else gets by itself.
            let inherited = rustix::io::fcntl_dupfd_cloexec(&file, 200).unwrap();
            rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
            std::mem::forget(inherited);
        }
        "umask" => {
            umask(Mode::from_bits_truncate(
                u32::from_str_radix(value, 8).unwrap(),
            ));
        }
        "close" => close(value.parse::<i32>().unwrap()).unwrap(),
        "block" => pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).unwrap(),
        _ => panic!("{word}={value}"),
    }
}
