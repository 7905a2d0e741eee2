//! What this program does in a tree, when a case runs it there.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::time::Instant;

use nix::unistd::Pid;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

/// Does `what` and writes what came of it.
pub fn run(what: &str) -> ExitCode {
    match what {
        "escape" => escape(),
        "reach" => reach(),
        "climb" => climb(),
        "dropped" => dropped(),
        "held" => held(),
        "again" => again(),
        "errors" => errors(),
        "tops" => tops(),
        "costs" => costs(),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Processes that are not ours.
fn outsiders() -> impl Iterator<Item = u32> {
    std::env::args().skip(3).map(|pid| pid.parse().unwrap())
}

/// Executes itself by the links of `/proc`.
fn again() {
    if std::env::args().len() > 3 {
        return println!("once more");
    }
    let file = File::open("/proc/self/exe").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let by_number = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    for path in ["/proc/self/exe", &by_number] {
        let started = Command::new(path).args(["--inside", "again", "x"]).status();
        assert!(started.unwrap().success());
    }
}

/// Looks into processes that are not ours, by every way there is.
fn escape() {
    for pid in outsiders() {
        for name in [
            "environ", "mem", "maps", "cwd", "root", "exe", "fd", "cmdline", "status",
        ] {
            let path = format!("/proc/{pid}/{name}");
            assert!(File::open(&path).is_err(), "{path}");
            assert!(fs::symlink_metadata(&path).is_err(), "{path}");
            assert!(fs::read_link(&path).is_err(), "{path}");
        }
        let pid = Pid::from_raw(pid.cast_signed());
        assert!(nix::sys::ptrace::attach(pid).is_err(), "{pid}");
        let mut byte = [0];
        let mut local = [std::io::IoSliceMut::new(&mut byte)];
        let remote = [nix::sys::uio::RemoteIoVec {
            base: 0x40_0000,
            len: 1,
        }];
        assert!(
            nix::sys::uio::process_vm_readv(pid, &mut local, &remote).is_err(),
            "{pid}"
        );
    }
    println!("all refused");
}

/// Does things to a process that is not ours.
fn reach() {
    let victim: i32 = std::env::args().nth(3).unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(victim).unwrap();
    use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
    let sent =
        pidfd_open(pid, PidfdFlags::empty()).and_then(|fd| pidfd_send_signal(fd, Signal::KILL));
    assert!(sent.is_err());
    assert!(kill_process(pid, Signal::KILL).is_err());
    let limits = rustix::process::Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    let limited = rustix::process::prlimit(Some(pid), rustix::process::Resource::Cpu, limits);
    assert!(limited.is_err());
    assert!(rustix::process::setpriority_process(Some(pid), 19).is_err());
    let here = rustix::thread::sched_getaffinity(None).unwrap();
    assert!(rustix::thread::sched_setaffinity(Some(pid), &here).is_err());
    rustix::thread::sched_setaffinity(None, &here).unwrap();
    println!("all refused");
}

/// From every directory that can be opened in what is served, up and out.
fn climb() {
    let outside = std::env::args().nth(3).unwrap();
    for start in [
        "/",
        "/proc",
        "/proc/self",
        "/proc/self/fd",
        "/proc/self/root",
        "/proc/self/cwd",
        "/sys",
        "/sys/class/net",
        "/sys/devices",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/proc/self/ns",
        "/proc/sys/kernel",
        "/proc/self/task",
        "/proc/net",
        "/proc/thread-self",
    ] {
        for flags in [OFlags::RDONLY, OFlags::PATH] {
            let dir = rustix::fs::open(start, flags | OFlags::DIRECTORY, Mode::empty());
            let dir = dir.unwrap_or_else(|errno| panic!("{start}: {errno}"));
            let up = format!("{}{outside}", "../".repeat(30));
            let opened = rustix::fs::openat(&dir, up.as_str(), OFlags::RDONLY, Mode::empty());
            assert!(opened.is_err(), "{start}");
            let looked = rustix::fs::statat(&dir, up.as_str(), AtFlags::empty());
            assert_eq!(looked.unwrap_err(), Errno::NOENT, "{start}");
            let changed = rustix::fs::chmodat(&dir, up.as_str(), Mode::RWXU, AtFlags::empty());
            assert_eq!(changed.unwrap_err(), Errno::NOENT, "{start}");
        }
    }
    println!("all refused");
}

/// An open file by its link in `/proc`.
fn held() {
    use rustix::fs::{XattrFlags, getxattr, linkat, setxattr};
    use std::os::fd::AsRawFd;
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let file = rustix::fs::open("/tmp", flags, Mode::RUSR | Mode::WUSR).unwrap();
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(
        rustix::fs::CWD,
        &link,
        rustix::fs::CWD,
        "/tmp/named",
        AtFlags::SYMLINK_FOLLOW,
    )
    .unwrap();
    assert_eq!(rustix::fs::fstat(&file).unwrap().st_nlink, 1);
    setxattr(&link, "user.mine", b"x", XattrFlags::empty()).unwrap();
    assert_eq!(
        getxattr("/tmp/named", "user.mine", &mut [0_u8; 9][..]),
        Ok(1)
    );
    assert_eq!(getxattr(&link, "user.mine", &mut [0_u8; 9][..]), Ok(1));
    let none = getxattr("/proc/self/status", "user.mine", &mut [0_u8; 9][..]);
    assert_eq!(none, Err(Errno::OPNOTSUPP));
    assert_eq!(
        rustix::fs::listxattr("/proc/self/fd", &mut [0_u8; 9][..]),
        Ok(0)
    );
    let refused = rustix::fs::chmod("/proc/self/status", Mode::RWXU);
    assert_eq!(refused, Err(Errno::PERM));
    println!("held well");
}

/// After changing its user without an exec.
fn dropped() {
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(70.into(), 70.into(), 70.into()).unwrap();
    nix::unistd::setresuid(70.into(), 70.into(), 70.into()).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("Uid:\t70\t70\t70\t70"));
    assert_eq!(
        fs::read_link("/proc/sys/../self")
            .unwrap()
            .to_str()
            .unwrap(),
        std::process::id().to_string()
    );
    std::thread::spawn(|| fs::read_to_string("/proc/thread-self/comm").unwrap())
        .join()
        .unwrap();
    OpenOptions::new().write(true).open("/dev/null").unwrap();
    // What it starts is somebody that can be looked at again.
    let out = Command::new("/bin/inside")
        .args(["--inside", "ids"])
        .output()
        .unwrap();
    assert!(out.status.success());
    println!("dropped well");
}

/// Calls whose result depends on flags.
fn errors() {
    let open = |path: &str, flags: OFlags| rustix::fs::open(path, flags, Mode::RWXU).map(drop);
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    for (path, flags, expected) in [
        ("/proc/meminfo", OFlags::RDONLY, Ok(())),
        ("/proc/meminfo", OFlags::DIRECTORY, Err(Errno::NOTDIR)),
        ("/proc/meminfo/", OFlags::RDONLY, Err(Errno::NOTDIR)),
        ("/proc/meminfo", OFlags::WRONLY, Err(Errno::ROFS)),
        ("/proc/meminfo", new, Err(Errno::EXIST)),
        ("/proc/nothing", OFlags::RDONLY, Err(Errno::NOENT)),
        ("/proc/nothing", new, Err(Errno::NOENT)),
        ("/proc/self", OFlags::NOFOLLOW, Err(Errno::LOOP)),
        ("/proc/self/exe", OFlags::NOFOLLOW, Err(Errno::LOOP)),
        ("/proc/self", OFlags::RDWR, Err(Errno::ISDIR)),
        ("/proc/self/comm", OFlags::WRONLY, Ok(())),
        ("/proc/self/mounts", OFlags::RDONLY, Ok(())),
        ("/proc/self/mountinfo", OFlags::RDWR, Err(Errno::ROFS)),
        ("/proc/self/fd/999", OFlags::RDONLY, Err(Errno::NOENT)),
        ("/sys/class/net/lo/mtu", OFlags::WRONLY, Err(Errno::ROFS)),
        ("/etc/none", OFlags::RDONLY, Err(Errno::NOENT)),
        ("/etc/passwd/x", OFlags::RDONLY, Err(Errno::NOTDIR)),
        ("/dev/null", OFlags::RDWR, Ok(())),
        ("/dev/pts/99", OFlags::RDWR, Err(Errno::NOENT)),
        ("/dev/tty", OFlags::RDWR, Err(Errno::NXIO)),
    ] {
        assert_eq!(open(path, flags), expected, "{path} {flags:?}");
    }
    let is = |path: &str| rustix::fs::stat(path).map(|s| s.st_mode & 0o170_000);
    assert_eq!(is("/dev/null"), Ok(0o020_000));
    assert_eq!(is("/proc/self/exe"), Ok(0o100_000));
    assert_eq!(is("/proc/self/fd"), Ok(0o040_000));
    assert_eq!(is("/proc/self/cwd/"), Ok(0o040_000));
    assert_eq!(
        rustix::fs::lstat("/proc/self").unwrap().st_mode & 0o170_000,
        0o120_000
    );
    let x = rustix::fs::statx(
        rustix::fs::CWD,
        "/proc/meminfo",
        AtFlags::empty(),
        StatxFlags::ALL,
    );
    assert_eq!(x.unwrap().stx_size, 0);
    let dir = File::open("/proc/self").unwrap();
    let by_descriptor = rustix::fs::stat("/proc/self").unwrap();
    assert_eq!(
        rustix::fs::fstat(&dir).unwrap().st_ino,
        by_descriptor.st_ino
    );
    rustix::fs::openat(&dir, "status", OFlags::RDONLY, Mode::empty()).unwrap();
    let link = rustix::fs::readlinkat(dir.as_fd(), "exe", Vec::new()).unwrap();
    assert_eq!(link, CString::new("/bin/inside").unwrap());
    assert_eq!(
        rustix::fs::statfs("/proc/self").unwrap().f_type as u32,
        0x9fa0
    );
    rustix::fs::access("/proc/self/status", rustix::fs::Access::READ_OK).unwrap();
    assert!(rustix::fs::access("/proc/none", rustix::fs::Access::EXISTS).is_err());
    terminal();
    println!("all as expected");
}

/// The directories that would be mount points: none can be moved or removed, nor can anything take their place.
fn tops() {
    use rustix::fs::{CWD, RenameFlags, rename, renameat, renameat_with, rmdir, unlinkat};
    let root = File::open("/").unwrap();
    std::fs::create_dir("/tmp/dir").unwrap();
    std::os::unix::fs::symlink("/", "/tmp/root").unwrap();
    for top in ["proc", "sys", "dev"] {
        for way in ["", "/", "//tmp/../", "/tmp/root/"] {
            let path = format!("{way}{top}");
            assert_eq!(rmdir(&path), Err(Errno::BUSY), "{path}");
            assert_eq!(rmdir(format!("{path}//")), Err(Errno::BUSY), "{path}//");
            assert_eq!(rename(&path, "/tmp/x"), Err(Errno::BUSY), "{path}");
            assert_eq!(rename("/tmp/dir", &path), Err(Errno::BUSY), "{path}");
        }
        let flag = AtFlags::REMOVEDIR;
        assert_eq!(unlinkat(&root, top, flag), Err(Errno::BUSY), "{top}");
        assert_eq!(renameat(&root, top, CWD, "x"), Err(Errno::BUSY), "{top}");
        let swapped = renameat_with(CWD, "/tmp/dir", &root, top, RenameFlags::EXCHANGE);
        assert_eq!(swapped, Err(Errno::BUSY), "{top}");
        // The same name elsewhere is like any other.
        let other = format!("/tmp/{top}");
        rename("/tmp/dir", &other).unwrap();
        rename(&other, "/tmp/dir").unwrap();
        std::fs::create_dir(&other).unwrap();
        rmdir(&other).unwrap();
        assert_eq!(rmdir(&other), Err(Errno::NOENT));
    }
    rename("/tmp/dir", "/devices").unwrap();
    rmdir("/devices").unwrap();
    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(70)).unwrap();
    assert_eq!(
        rmdir("/proc"),
        Err(Errno::ACCESS),
        "who may not write there"
    );
    println!("all as expected");
}

/// A terminal of our own, if the machine has any to give.
fn terminal() {
    let Ok(master) = OpenOptions::new().read(true).write(true).open("/dev/ptmx") else {
        return;
    };
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let mode = rustix::fs::stat(&name).unwrap().st_mode & 0o170_000;
    assert_eq!(mode, 0o020_000);
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    assert!(rustix::termios::isatty(&slave));
    drop(master);
    assert!(rustix::fs::stat(&name).is_err());
}

fn costs() {
    let measure = |what: &str, mut act: Box<dyn FnMut()>| {
        // The best of many short rounds: others use the machine, too.
        let (mut best, rounds) = (f64::MAX, 10);
        for _ in 0..100 {
            let start = Instant::now();
            (0..rounds).for_each(|_| act());
            best = best.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
        }
        println!("{what}: {best:.2} us");
    };
    measure(
        "getppid",
        Box::new(|| {
            nix::unistd::getppid();
        }),
    );
    std::os::unix::fs::symlink("/etc", "/link").unwrap();
    for path in [
        "/etc/passwd",
        "/link/passwd",
        "/etc/none",
        "/link/none",
        "/proc/self/status",
        "/proc/meminfo",
        "/dev/null",
    ] {
        measure(
            &format!("stat {path}"),
            Box::new(move || drop(fs::metadata(path))),
        );
        measure(
            &format!("open and close {path}"),
            Box::new(move || drop(File::open(path))),
        );
    }
    fs::write("/tmp/one", "").unwrap();
    measure(
        "rename a file there and back",
        Box::new(|| {
            fs::rename("/tmp/one", "/tmp/other").unwrap();
            fs::rename("/tmp/other", "/tmp/one").unwrap();
        }),
    );
    std::env::set_current_dir("/etc").unwrap();
    measure(
        "stat passwd, relative",
        Box::new(|| drop(fs::metadata("passwd"))),
    );
}
