use std::os::unix::fs::symlink;

use super::find::beneath;
use super::node::number;
use super::*;

fn tree() -> (tempfile::TempDir, Served) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["proc", "sys", "dev", "etc"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
    let served = Served::new(fd, 1, "name", true, false).unwrap();
    (dir, served)
}

#[test]
fn the_tops_are_filled_without_what_tells_of_the_machine() {
    let (dir, served) = tree();
    let names: Vec<_> = std::fs::read_dir(dir.path().join("proc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.contains(&"meminfo".to_owned()), "{names:?}");
    assert!(names.contains(&"self".to_owned()), "{names:?}");
    for hidden in ["kcore", "keys", "kallsyms", "sysrq-trigger"] {
        assert!(!names.contains(&hidden.to_owned()), "{hidden}");
    }
    let error = std::fs::read(dir.path().join("proc/self/status")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    assert_eq!(
        served.shown([served.top.as_slice(), b"/bin/x"].concat()),
        b"/bin/x"
    );
    assert_eq!(served.shown(b"pipe:[1]".to_vec()), b"pipe:[1]");
}

#[test]
fn paths_are_ours_by_their_names_alone() {
    let (_dir, served) = tree();
    for (path, ours) in [
        ("/proc", true),
        ("/proc/1/root", true),
        ("/process", false),
        ("/sys/class", true),
        ("/dev", false),
        ("/dev/null", true),
        ("/dev/null2", false),
        ("/dev/pts/3", true),
        ("/dev/shm/x", false),
        ("/etc/proc", false),
    ] {
        assert_eq!(served.is_ours(path.as_bytes()), ours, "{path}");
    }
    for (path, hidden) in [
        ("/proc/kcore", true),
        ("/proc/kcores", false),
        ("/sys/firmware/efi", true),
        ("/sys/kernel", false),
    ] {
        assert_eq!(served.is_hidden(path.as_bytes()), hidden, "{path}");
    }
    assert_eq!(beneath(b"/a/b", b"/a/b/c"), Some(&b"/c"[..]));
    assert_eq!(beneath(b"/a/b", b"/a/b"), Some(&b"/"[..]));
    assert_eq!(beneath(b"/a/b", b"/a/bc"), None);
    assert_eq!(number(b"12"), Some(12));
    assert_eq!(number(b"012"), None);
    assert_eq!(number(b""), None);
}

#[test]
fn stubs_are_never_made_through_a_link() {
    let (dir, served) = tree();
    let outside = tempfile::tempdir().unwrap();
    std::fs::remove_dir_all(dir.path().join("sys")).unwrap();
    symlink(outside.path(), dir.path().join("sys")).unwrap();
    served.stub(b"/sys/class/net").unwrap_err();
    symlink(outside.path(), dir.path().join("proc/77")).unwrap();
    served.stub(b"/proc/77/fd").unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    let short = served.short(b"/a/long/path").unwrap();
    assert_eq!(short, "/proc/.0");
    assert_eq!(served.short(b"/a/long/path").unwrap(), short);
    let target = std::fs::read_link(dir.path().join("proc/.0")).unwrap();
    assert_eq!(target.to_str(), Some("/a/long/path"));
}
