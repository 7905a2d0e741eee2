//! Mounts beyond the usual ones: what they show, where they go, and that they leave nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use runtime::{BindSource, Mount, View, Workspace};

use crate::Case;
use crate::support::{Context, Outcome, shell, tree, write};

pub const CASES: &[Case] = &[
    (
        "mounts_appear_and_leave_nothing",
        true,
        mounts_appear_and_leave_nothing,
    ),
    (
        "parts_of_overlays_can_be_bound",
        true,
        parts_of_overlays_can_be_bound,
    ),
    (
        "mounts_inside_mounts_make_their_place",
        true,
        mounts_inside_mounts_make_their_place,
    ),
];

fn mounts_appear_and_leave_nothing(cx: &Context) -> Outcome {
    let host = cx.dir("host");
    write(&host, "sub/file", "from the host\n", 0o644);
    let fd = fs::File::open(host.join("sub")).unwrap();
    let bind = |source, target: &str, readonly| Mount::Bind {
        source,
        target: target.into(),
        readonly,
    };
    let path = |p: PathBuf| BindSource::Path(p);
    let content = b"secret\n".to_vec();
    let script = "cat /a/b/ro/sub/file /one; cat /run/secrets/s; echo w >/rw/new; echo no >/a/b/ro/x;
        touch /one; cat /fd/file; echo t >/tmp/t; stat -c %a /tmp /run/secrets/s; ls /dev; touch /dev/shm/x";
    let ran = cx.sh_with(script, |spec| {
        spec.mounts = vec![
            bind(path(host.join("sub/file")), "/one", true),
            bind(path(host.clone()), "/a/b/ro", true),
            bind(path(host.clone()), "/rw", false),
            bind(BindSource::Fd(fd.into()), "/fd", true),
            Mount::Tmpfs {
                target: "/tmp".into(),
                size: Some(1 << 20),
                mode: 0o1777,
                readonly: false,
            },
            Mount::Content {
                content,
                target: "/run/secrets/s".into(),
                mode: 0o400,
                uid: 0,
                gid: 0,
            },
        ];
    });
    assert!(
        ran.out
            .starts_with("from the host\nfrom the host\nsecret\n"),
        "{}",
        ran.out
    );
    assert_eq!(
        ran.out.matches("Read-only file system").count(),
        2,
        "{}",
        ran.out
    );
    assert!(ran.out.contains("1777\n400\n"), "{}", ran.out);
    assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "w\n");
    assert_eq!(tree(&ran.upper), [""; 0]);
    Outcome::Passed
}

fn parts_of_overlays_can_be_bound(cx: &Context) -> Outcome {
    let stage = cx.dir("stage");
    write(&stage, "sub/file", "of a stage\n", 0o644);
    let view = View::overlay(std::slice::from_ref(&stage), &cx.dir("scratch")).unwrap();
    let view = view.attach(&cx.dir("points").join("view")).unwrap();
    let throw_away = Workspace::overlay(std::slice::from_ref(&stage), &cx.dir("upper")).unwrap();
    let throw_away = throw_away.attach().unwrap();
    let open = |root, path: &str| {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::openat(root, path, flags, rustix::fs::Mode::empty());
        BindSource::Fd(fd.unwrap())
    };
    let bind = |source, target: &str, readonly| Mount::Bind {
        source,
        target: target.into(),
        readonly,
    };
    let script = "cat /mnt/file; echo x >/mnt/file; echo new >/rw/file; cat /rw/file /one";
    let ran = cx.sh_with(script, |spec| {
        spec.mounts = vec![
            bind(open(view.root(), "sub"), "/mnt", true),
            bind(open(throw_away.root(), "sub"), "/rw", false),
            bind(open(throw_away.root(), "sub/file"), "/one", true),
        ];
    });
    let expected = "of a stage\n/bin/sh: can't create /mnt/file: Read-only file system\nnew\nnew\n";
    assert_eq!(
        ran.out.replace("line 0: ", "").replace("line 1: ", ""),
        expected
    );
    assert_eq!(tree(&ran.upper), [""; 0]);
    assert_eq!(
        fs::read_to_string(stage.join("sub/file")).unwrap(),
        "of a stage\n"
    );
    Outcome::Passed
}

fn mounts_inside_mounts_make_their_place(cx: &Context) -> Outcome {
    let (host, empty) = (cx.dir("writable"), cx.dir("readonly"));
    let bind = |source: &PathBuf, target: &str, readonly| Mount::Bind {
        source: BindSource::Path(source.clone()),
        target: target.into(),
        readonly,
    };
    let content = |target: &str| Mount::Content {
        content: b"content\n".to_vec(),
        target: target.into(),
        mode: 0o444,
        uid: 0,
        gid: 0,
    };
    let script = "cat /m/deep/er/file /dev/x/file; stat -c %a /m/deep; ls -A /m/deep/dir";
    let ran = cx.sh_with(script, |spec| {
        spec.mounts = vec![
            content("/m/deep/er/file"),
            bind(&empty, "/m/deep/dir", true),
            bind(&host, "/m", false),
            content("/dev/x/file"),
        ];
    });
    assert_eq!(ran.out, "content\ncontent\n755\n");
    assert_eq!(tree(&ran.upper), [""; 0]);
    assert!(host.join("deep/er/file").is_file());
    // A link in a mount leads back into the root file system, where nothing may be made.
    symlink("/etc", host.join("out")).unwrap();
    for (above, target, why) in [
        (bind(&empty, "/m", true), "/m/file", "read-only"),
        (bind(&host, "/m", true), "/m/out/new", "leads out"),
    ] {
        let mut spec = shell("true");
        spec.mounts = vec![above, content(target)];
        let error = cx.run_spec(&[cx.busybox()], spec).unwrap_err().to_string();
        assert!(error.contains(target) && error.contains(why), "{error}");
    }
    Outcome::Passed
}
