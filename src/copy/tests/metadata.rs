//! What the copies have besides their places: metadata, content, digests.

use sha2::{Digest as _, Sha256};

use super::*;

#[test]
fn s6_metadata() {
    let fixture = Fixture::new(&["d/f", "d/sub/y", "f"]).with_target(&["top/sub/"]);
    let mode = |path: &str, mode| {
        fs::set_permissions(fixture.from().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, bits) in [
        ("d", 0o700),
        ("d/f", 0o4711),
        ("d/sub", 0o1770),
        ("f", 0o600),
    ] {
        mode(path, bits);
    }
    let times = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000, 77));
    for path in ["d/f", "d/sub", "d"] {
        let file = fs::File::open(fixture.from().join(path)).unwrap();
        file.set_times(times).unwrap();
    }
    let mine = CopyOptions {
        chown: Some((
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )),
        ..options()
    };
    fixture.copy(&["d"], "/top", &mine).unwrap();
    fixture.copy(&["d"], "/p/new", &mine).unwrap();
    fixture.copy(&["f"], "/q/f", &mine).unwrap();
    let bits = |path: &str| fixture.stat(path).mode() & 0o7777;
    assert_eq!(bits("top"), 0o755, "the existing top keeps its mode");
    assert_eq!(bits("top/sub"), 0o1770, "a nested one takes the source's");
    assert_eq!(bits("top/f"), 0o4711);
    assert_eq!(bits("p/new"), 0o755);
    assert_eq!(bits("q/f"), 0o600);
    for path in ["top", "top/sub", "top/f", "p/new"] {
        let stat = fixture.stat(path);
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_000, 77), "{path}");
    }
    for path in ["p", "q"] {
        assert_eq!(fixture.stat(path).mtime(), NOW, "{path}");
    }
}

#[test]
fn s6_chmod_and_chown_reach_created_parents() {
    let fixture = Fixture::new(&["d/f", "d/l -> f", "d/sub/y"]);
    if !fixture.gives_away {
        eprintln!(
            "s6_chmod_and_chown_reach_created_parents: skipped, this process may not give files away"
        );
        return;
    }
    let octal = CopyOptions {
        chown: Some((12, 34)),
        chmod: Some(Chmod::parse("2750").unwrap()),
        ..options()
    };
    fixture.copy(&["d"], "/p/t", &octal).unwrap();
    let symbolic = CopyOptions {
        chmod: Some(Chmod::parse("u=rwX,go=").unwrap()),
        ..options()
    };
    fixture.copy(&["d"], "/s/t", &symbolic).unwrap();
    for (path, mode, owner) in [
        ("p", 0o750, (12, 34)),
        ("p/t", 0o750, (12, 34)),
        ("p/t/f", 0o2750, (12, 34)),
        ("p/t/sub", 0o2750, (12, 34)),
        ("p/t/l", 0o777, (12, 34)),
        ("s", 0o755, (0, 0)),
        ("s/t", 0o755, (0, 0)),
        ("s/t/f", 0o600, (0, 0)),
        ("s/t/sub", 0o700, (0, 0)),
    ] {
        let stat = fixture.stat(path);
        assert_eq!(stat.mode() & 0o7777, mode, "{path}");
        assert_eq!((stat.uid(), stat.gid()), owner, "{path}");
    }
}

#[test]
fn s6_owners_and_capabilities_by_source() {
    let fixture = Fixture::new(&["f", "g"]);
    if !fixture.gives_away {
        eprintln!(
            "s6_owners_and_capabilities_by_source: skipped, this process may not give files away"
        );
        return;
    }
    std::os::unix::fs::chown(fixture.from().join("f"), Some(55), Some(66)).unwrap();
    let mut value = vec![0, 0, 0, 2, 0, 4, 0, 0];
    value.resize(20, 0);
    let file = fs::File::open(fixture.from().join("f")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&file, crate::layer::CAPABILITY, &value, flags).unwrap();
    let capability = |path: &str| {
        let mut buffer = [0; 64];
        let file = fs::File::open(fixture.to().join(path)).unwrap();
        rustix::fs::fgetxattr(&file, crate::layer::CAPABILITY, &mut buffer[..]).is_ok()
    };
    fixture.copy(&["f"], "/context", &options()).unwrap();
    let lookup = |path: &RootPath| {
        Ok((*path == RootPath::new("/g")).then(|| Attr {
            uid: 7,
            gid: 8,
            mode: 0o020_640,
            rdev: (1, 3),
            xattrs: BTreeMap::new(),
        }))
    };
    let root = RootDir::open(&fixture.from()).unwrap();
    let stage = Source::stage(&root, "stage \"build\"", &lookup);
    fixture
        .copy_from(&stage, &["f"], "/stage", &options())
        .unwrap();
    let owner = |path: &str| (fixture.stat(path).uid(), fixture.stat(path).gid());
    assert_eq!((owner("context"), capability("context")), ((0, 0), false));
    assert_eq!((owner("stage"), capability("stage")), ((55, 66), true));
    let patterns = ["g".to_owned()];
    let selection = select(&stage, &patterns, &options()).unwrap();
    let mut target = Target::new(RootDir::open(&fixture.to()).unwrap(), &AllIds);
    selection
        .apply(&stage, &mut target, "/null", &RootPath::root(), &options())
        .unwrap();
    let device = target.metadata(&RootPath::new("/null")).unwrap().unwrap();
    assert_eq!(
        (device.mode, device.rdev, device.uid),
        (0o020_640, (1, 3), 7)
    );
}

#[test]
fn s6_hard_links_survive_inside_one_source_only() {
    let fixture = Fixture::new(&["d/a"]);
    fs::hard_link(fixture.from().join("d/a"), fixture.from().join("d/b")).unwrap();
    fixture.copy(&["d", "d/a"], "/t/", &options()).unwrap();
    fixture.copy(&["d"], "/t/", &options()).unwrap();
    assert_eq!(fixture.stat("t/a").ino(), fixture.stat("t/b").ino());
    fixture.copy(&["d/a", "d/b"], "/u/", &options()).unwrap();
    assert_ne!(fixture.stat("u/a").ino(), fixture.stat("u/b").ino());
}

#[test]
fn demand_37_links_stay_inside_the_context() {
    let fixture = Fixture::new(&["up -> ../../../etc/hostname", "d/up -> ../../secret"]);
    fs::write(fixture.dir.path().join("secret"), "secret").unwrap();
    assert!(fixture.copy(&["up"], "/t", &options()).is_err());
    fixture.copy(&["d"], "/t", &options()).unwrap();
    assert_eq!(fixture.listing()["t/up"], "-> ../../secret");
}

#[test]
fn demand_37_a_file_swapped_after_its_selection_is_an_error() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    for swap in ["link", "fifo", "content", "gone", "directory"] {
        let fixture = Fixture::new(&["f"]);
        let context = fixture.context();
        let source = Source::context(&context);
        let selection = select(&source, &["f".to_owned()], &options()).unwrap();
        let file = fixture.from().join("f");
        fs::remove_file(&file).unwrap();
        match swap {
            "link" => symlink(outside.path(), &file).unwrap(),
            "fifo" => {
                rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
            }
            "content" => fs::write(&file, "other").unwrap(),
            "directory" => fs::create_dir(&file).unwrap(),
            _ => {}
        }
        let digest = selection.digest(&source, &options(), &FileDigests::default());
        assert!(matches!(digest, Err(CopyError::Changed { .. })), "{swap}");
        let ids = fixture.ids();
        let mut target = Target::new(RootDir::open(&fixture.to()).unwrap(), &*ids);
        let copied = selection.apply(&source, &mut target, "/t", &RootPath::root(), &options());
        assert!(matches!(copied, Err(CopyError::Changed { .. })), "{swap}");
    }
}

#[test]
fn s17_special_files_of_a_context() {
    let fixture = Fixture::new(&["d/"]);
    let _socket = std::os::unix::net::UnixListener::bind(fixture.from().join("d/sock")).unwrap();
    let fifo = fixture.from().join("d/fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    fixture.copy(&["d"], "/t", &options()).unwrap();
    let stat = fixture.stat("t/sock");
    assert!(stat.is_file() && stat.len() == 0 && stat.mode() & 0o7777 == 0o755);
    use std::os::unix::fs::FileTypeExt;
    assert!(fixture.stat("t/fifo").file_type().is_fifo());
}

#[test]
fn s13_what_is_known_is_not_read_again() {
    let fixture = Fixture::new(&["d/f"]);
    let context = fixture.context();
    let source = Source::context(&context);
    let selection = select(&source, &["d".to_owned()], &options()).unwrap();
    let digest = |known: &FileDigests| selection.digest(&source, &options(), known).unwrap();
    let file = selection.hits[0].entries.last().unwrap();
    let state = file.state(&source).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
    let (right, wrong) = (FileDigests::default(), FileDigests::default());
    right.put(&state, Sha256::digest("d/f").into(), later);
    wrong.put(&state, [0; 32], later);
    assert_eq!(digest(&right), digest(&FileDigests::default()));
    assert_ne!(digest(&wrong), digest(&right), "the file was read");

    // One that was changed just now is read every time, one that has been at rest is remembered.
    let known = FileDigests::default();
    digest(&known);
    assert_eq!(known.get(&state), None);
    std::thread::sleep(std::time::Duration::from_millis(2200));
    digest(&known);
    assert_eq!(known.get(&state), Some(Sha256::digest("d/f").into()));
}

#[test]
fn s13_the_digest_sees_content_and_modes_but_no_times() {
    let fixture = Fixture::new(&["d/f", "d/g", "d/l -> f", "other"]);
    let path = |name: &str| fixture.from().join(name);
    let digest = || fixture.digest(&["d"], &options());
    let first = digest();
    let touch = fs::File::open(path("d/f")).unwrap();
    touch.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::write(path("other"), "changed").unwrap();
    assert_eq!(digest(), first, "times, and what is not selected");
    let mut seen = vec![first];
    let changes: [(&str, &dyn Fn()); 6] = [
        ("mode", &|| {
            fs::set_permissions(path("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("content", &|| fs::write(path("d/f"), "new").unwrap()),
        ("link", &|| {
            fs::remove_file(path("d/l")).unwrap();
            symlink("g", path("d/l")).unwrap();
        }),
        ("name", &|| fs::rename(path("d/f"), path("d/h")).unwrap()),
        ("empty directory", &|| fs::create_dir(path("d/e")).unwrap()),
        ("hard link", &|| {
            fs::remove_file(path("d/g")).unwrap();
            fs::hard_link(path("d/h"), path("d/g")).unwrap();
        }),
    ];
    for (what, change) in changes {
        change();
        let next = digest();
        assert!(!seen.contains(&next), "{what}");
        seen.push(next);
    }
}

#[test]
fn s13_names_and_contents_are_framed() {
    let one = Fixture::new(&[]);
    let two = Fixture::new(&[]);
    fs::create_dir(one.from().join("d")).unwrap();
    fs::create_dir(two.from().join("d")).unwrap();
    fs::write(one.from().join("d/a"), "bc").unwrap();
    fs::write(two.from().join("d/ab"), "c").unwrap();
    assert_ne!(
        one.digest(&["d"], &options()),
        two.digest(&["d"], &options())
    );
}

#[test]
fn names_that_are_no_text_are_copied() {
    let fixture = Fixture::new(&["d/"]);
    let name = std::ffi::OsStr::from_bytes(b"a\xff\n");
    fs::write(fixture.from().join("d").join(name), "x").unwrap();
    fixture.copy(&["d"], "/t", &options()).unwrap();
    assert_eq!(fs::read(fixture.to().join("t").join(name)).unwrap(), b"x");
}
