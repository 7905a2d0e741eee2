//! What this program does when a case runs it in a sandbox, where no other can be asked to make just
//! these calls.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown, fchown, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, ExitCode};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, XattrFlags};

/// Does `what` and writes what came of it.
pub fn run(what: &str) -> ExitCode {
    match what {
        "ids" => println!("{}", ids()),
        "create" => create(),
        "show" => show(),
        "ways" => ways(),
        "crowd" => crowd(),
        "peer" => peer(),
        "keep" => keep(),
        other => return crate::inside_tree::run(other),
    }
    ExitCode::SUCCESS
}

/// Real, effective and saved user, the same of the group, and all groups.
fn ids() -> String {
    let (user, group) = (
        nix::unistd::getresuid().unwrap(),
        nix::unistd::getresgid().unwrap(),
    );
    let groups: Vec<u32> = nix::unistd::getgroups()
        .unwrap()
        .iter()
        .map(|g| g.as_raw())
        .collect();
    format!(
        "{} {} {}, {} {} {}, {groups:?}",
        user.real, user.effective, user.saved, group.real, group.effective, group.saved
    )
}

fn become_user(uid: u32) {
    nix::unistd::setresgid(uid.into(), uid.into(), uid.into()).unwrap();
    nix::unistd::setresuid(uid.into(), uid.into(), uid.into()).unwrap();
}

fn owner(file: &File) -> u32 {
    file.metadata().unwrap().uid()
}

/// Files made in every way, by somebody who is not root, in the current directory.
fn create() {
    become_user(33);
    let mut file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .append(true)
        .mode(0o640)
        .open("new")
        .unwrap();
    file.write_all(b"one").unwrap();
    file.rewind().unwrap();
    file.write_all(b"two").unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), owner(&file)), ("onetwo", 33));
    let flags = rustix::io::fcntl_getfd(&file).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let again = OpenOptions::new().create_new(true).write(true).open("new");
    assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    let kept = rustix::fs::open("new", OFlags::CREATE | OFlags::RDWR, Mode::empty()).unwrap();
    assert!(rustix::io::fcntl_getfd(&kept).unwrap().is_empty());

    let unnamed = rustix::fs::open(".", OFlags::TMPFILE | OFlags::WRONLY, Mode::RWXU).unwrap();
    assert_eq!(rustix::fs::fstat(&unnamed).unwrap().st_uid, 33);
    rustix::fs::linkat(&unnamed, "", CWD, "named", AtFlags::EMPTY_PATH)
        .or_else(|_| {
            use std::os::fd::AsRawFd;
            let path = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
            rustix::fs::linkat(CWD, path, CWD, "named", AtFlags::SYMLINK_FOLLOW)
        })
        .unwrap();
    let dir = File::open(".").unwrap();
    let how = rustix::fs::ResolveFlags::empty();
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let opened = rustix::fs::openat2(&dir, "opened", flags, mode, how).unwrap();
    assert_eq!(rustix::fs::fstat(&opened).unwrap().st_uid, 33);
    rustix::fs::mkdirat(&dir, "made/", Mode::RWXU).unwrap();
    assert!(rustix::fs::mkdirat(&dir, "made", Mode::RWXU).is_err());
    rustix::fs::symlinkat("nowhere", &dir, "link").unwrap();
    fs::rename("new", "made/renamed").unwrap();
    for path in ["made/renamed", "named", "opened", "made", "link"] {
        let meta = fs::symlink_metadata(path).unwrap();
        println!("{path} {}:{} {:o}", meta.uid(), meta.gid(), meta.mode());
    }
    // Elsewhere, where there are no pipes and directories of ours.
    assert!(File::create("/proc/none").is_err());
    assert!(fs::create_dir("/proc/none").is_err());
    let memory = rustix::fs::memfd_create("m", rustix::fs::MemfdFlags::empty()).unwrap();
    rustix::fs::fstat(&memory).unwrap();
}

/// The same file shown by every call, and what is hidden of it.
fn show() {
    fs::write("f", "text").unwrap();
    rustix::fs::setxattr("f", "user.mine", b"x", XattrFlags::empty()).unwrap();
    chown("f", Some(70), Some(71)).unwrap();
    let file = File::open("f").unwrap();
    let x = rustix::fs::statx(CWD, "f", AtFlags::empty(), StatxFlags::ALL).unwrap();
    let empty = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).unwrap();
    let plain = rustix::fs::stat("f").unwrap();
    let open = rustix::fs::fstat(&file).unwrap();
    assert_eq!((x.stx_uid, x.stx_gid, x.stx_size), (70, 71, 4));
    assert_eq!((empty.stx_uid, empty.stx_ino), (70, x.stx_ino));
    assert_eq!((plain.st_uid, plain.st_ino), (70, x.stx_ino));
    assert_eq!(
        (plain.st_mtime, plain.st_mtime_nsec),
        (open.st_mtime, open.st_mtime_nsec)
    );
    assert_eq!(
        (plain.st_dev, plain.st_nlink, plain.st_blksize),
        (open.st_dev, open.st_nlink, open.st_blksize)
    );
    let mut list = [0; 256];
    let length = rustix::fs::listxattr("f", &mut list[..]).unwrap();
    let size = rustix::fs::flistxattr_query(file.as_fd()).unwrap();
    assert_eq!(size, length);
    println!(
        "{}",
        String::from_utf8_lossy(&list[..length]).replace('\0', " ")
    );
    let short = rustix::fs::listxattr("f", &mut list[..3]);
    assert_eq!(short, Err(rustix::io::Errno::RANGE));
}

/// A file shown by every way to it, while all records are attributes and when some are not.
fn ways() {
    fs::create_dir("d").unwrap();
    fs::write("f", "").unwrap();
    fs::write("plain", "").unwrap();
    fs::write("page", "").unwrap();
    for (target, link) in [
        ("/w/f", "absolute"),
        ("f", "relative"),
        ("../f", "d/up"),
        ("/w/d", "dir"),
        ("gone", "dangling"),
    ] {
        std::os::unix::fs::symlink(target, link).unwrap();
    }
    chown("f", Some(70), Some(71)).unwrap();
    let (file, top) = (File::open("f").unwrap(), File::open("/w").unwrap());
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    let own = format!("/dev/fd/{number}");
    std::os::unix::fs::symlink(&own, "own").unwrap();
    let long = format!("/w/{}f", "./".repeat(150));
    let descriptor = format!("/proc/self/fd/{number}");
    let forms = [
        "f",
        "./f",
        "d/../f",
        "/w/f",
        "//w//f",
        "absolute",
        "relative",
        "d/up",
        "dir/up",
        "own",
        &long,
        &own,
        &descriptor,
    ];
    let uid = |path: &str, flags| rustix::fs::statat(&top, path, flags).map(|stat| stat.st_uid);
    let all = |plain, link| {
        for form in forms {
            assert_eq!(uid(form, AtFlags::empty()), Ok(70), "{form}");
            assert_eq!(fs::metadata(form).unwrap().uid(), 70, "{form}");
            let x = rustix::fs::statx(&top, form, AtFlags::empty(), StatxFlags::UID).unwrap();
            assert_eq!(x.stx_uid, 70, "{form}");
        }
        assert_eq!(
            (owner(&file), fs::metadata("plain").unwrap().uid()),
            (70, plain)
        );
        assert_eq!(uid("absolute", AtFlags::SYMLINK_NOFOLLOW), Ok(link));
        assert_eq!(uid("relative", AtFlags::SYMLINK_NOFOLLOW), Ok(0));
        for missing in ["none", "dangling", "f/x", "/none/x", "none/../f"] {
            assert!(uid(missing, AtFlags::empty()).is_err(), "{missing}");
        }
    };
    all(0, 0);
    assert_eq!(across_pages("/w/./f"), 70);
    assert_eq!(across_pages("/w/./plain"), 0);
    // Names change hands without any call that is answered.
    fs::rename("f", "g").unwrap();
    fs::rename("plain", "f").unwrap();
    assert_eq!(fs::metadata("/w/f").unwrap().uid(), 0);
    assert_eq!(
        (fs::metadata("/w/g").unwrap().uid(), owner(&file)),
        (70, 70)
    );
    fs::rename("f", "plain").unwrap();
    fs::rename("g", "f").unwrap();
    // Root's remains root's, and what is given back is.
    for (path, uid) in [("plain", 0), ("page", 8), ("page", 0)] {
        chown(path, Some(uid), None).unwrap();
        assert_eq!(fs::metadata(path).unwrap().uid(), uid);
    }
    let page = File::open("page").unwrap();
    fchown(&page, Some(9), Some(0)).unwrap();
    assert_eq!(owner(&page), 9);
    fchown(&page, Some(0), None).unwrap();
    assert_eq!(owner(&page), 0);
    // In a directory that hands on its group, however it is named.
    chown("d", None, Some(12)).unwrap();
    fs::set_permissions("d", std::os::unix::fs::PermissionsExt::from_mode(0o2775)).unwrap();
    for (at, name) in ["d/a", "/w/d/b", "dir/c", "./d/../d/d"]
        .into_iter()
        .enumerate()
    {
        match at % 2 {
            0 => drop(File::create(name).unwrap()),
            _ => fs::create_dir(name).unwrap(),
        }
        assert_eq!(fs::metadata(name).unwrap().gid(), 12, "{name}");
    }
    lchown("absolute", Some(5), None).unwrap();
    all(0, 5);
    become_user(33);
    chown("plain", Some(0), None).unwrap_err();
    assert_eq!(owner(&File::create("mine").unwrap()), 33);
    fs::create_dir("own-dir").unwrap();
    assert_eq!(fs::metadata("own-dir").unwrap().uid(), 33);
    println!("all well");
}

/// Who owns a file, by a path that lies across the end of a page in every way.
fn across_pages(path: &str) -> u32 {
    const PAGE: usize = 4096;
    let path = std::ffi::CString::new(path).unwrap();
    let path = path.as_bytes_with_nul();
    let mut memory = vec![0; 3 * PAGE];
    let end = PAGE + PAGE - memory.as_ptr().addr() % PAGE;
    let owner = |before| {
        let at = end - before;
        memory[at..at + path.len()].copy_from_slice(path);
        let path = std::ffi::CStr::from_bytes_until_nul(&memory[at..]).unwrap();
        rustix::fs::stat(path).unwrap().st_uid
    };
    let mut owners: Vec<_> = (1..=path.len()).map(owner).collect();
    owners.dedup();
    assert_eq!(owners.len(), 1);
    owners[0]
}

/// Many threads of many processes, each a user of its own with files of its own.
fn crowd() {
    match std::env::args().nth(3) {
        Some(uid) => return member(uid.parse().unwrap()),
        None => fs::create_dir("crowd").unwrap(),
    }
    let start = |uid: u32| {
        let args = ["--inside", "crowd", &uid.to_string()].map(str::to_owned);
        Command::new("/proc/self/exe").args(args).spawn().unwrap()
    };
    let all: Vec<_> = (100..112).map(start).collect();
    for mut child in all {
        assert!(child.wait().unwrap().success());
    }
    println!("all well");
}

fn member(uid: u32) {
    let waiting = std::thread::spawn(|| std::thread::park_timeout(std::time::Duration::MAX));
    become_user(uid);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for n in 0..50 {
                    let name = format!("crowd/{uid}-{thread}-{n}");
                    assert_eq!(owner(&File::create_new(&name).unwrap()), uid);
                    assert_eq!(nix::unistd::geteuid().as_raw(), uid);
                    lchown(&name, None, Some(uid)).unwrap();
                    let renamed = format!("{name}+");
                    fs::rename(&name, &renamed).unwrap();
                    assert_eq!(fs::metadata(&renamed).unwrap().uid(), uid);
                    let open = File::open(&renamed).unwrap();
                    assert!(fchown(&open, Some(0), None).is_err());
                    if n % 10 == 0 {
                        let child = Command::new("/bin/id").arg("-u").output().unwrap();
                        assert_eq!(String::from_utf8(child.stdout).unwrap(), format!("{uid}\n"));
                    }
                }
            });
        }
    });
    drop(waiting);
}

/// Who is at the other end of a socket.
fn peer() {
    let listener = UnixListener::bind("socket").unwrap();
    let mut child = Command::new("/bin/su")
        .args(["ann", "-c", "/bin/inside --inside ids; exec /bin/sleep 0"])
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let client = std::thread::spawn(|| UnixStream::connect("socket").unwrap());
    let (server, _) = listener.accept().unwrap();
    let client = client.join().unwrap();
    become_user(44);
    let who = rustix::net::sockopt::socket_peercred(&server).unwrap();
    let me = std::process::id().cast_signed();
    assert_eq!(who.pid.as_raw_nonzero().get(), me);
    println!("{} {}", who.uid.as_raw(), who.gid.as_raw());
    drop(client);
}

/// A user that keeps the capability to change its ids, and then gives it up.
fn keep() {
    nix::sys::prctl::set_keepcaps(true).unwrap();
    nix::unistd::setresuid(9.into(), 9.into(), 9.into()).unwrap();
    nix::unistd::setresgid(9.into(), 9.into(), 9.into()).unwrap();
    nix::unistd::setgroups(&[3.into(), 2.into()]).unwrap();
    println!("{}", ids());
    let none = caps_none();
    println!("{none} {:?}", nix::unistd::setuid(0.into()));
}

/// Gives up every capability.
fn caps_none() -> bool {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets).is_ok()
}
