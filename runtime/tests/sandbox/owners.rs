//! One id, and programs that see as many as they like.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::{Owners, RECORD, Record, RunSpec};

use crate::Case;
use crate::support::{Context, Outcome, Ran, shell, write};

pub const CASES: &[Case] = &[
    ("owners_read_back", true, owners_read_back),
    (
        "owners_travel_with_their_files",
        true,
        owners_travel_with_their_files,
    ),
    (
        "files_belong_to_their_maker",
        true,
        files_belong_to_their_maker,
    ),
    (
        "users_are_changed_and_inherited",
        true,
        users_are_changed_and_inherited,
    ),
    (
        "set_id_programs_run_as_their_owner",
        true,
        set_id_programs_run_as_their_owner,
    ),
    ("devices_are_recorded", true, devices_are_recorded),
    (
        "every_call_that_makes_files_is_known",
        true,
        every_call_that_makes_files_is_known,
    ),
    ("every_call_shows_the_same", true, every_call_shows_the_same),
    ("every_way_shows_the_same", true, every_way_shows_the_same),
    ("many_at_once", true, many_at_once),
    (
        "peers_and_kept_capabilities",
        true,
        peers_and_kept_capabilities,
    ),
    (
        "nothing_outside_is_reached",
        true,
        nothing_outside_is_reached,
    ),
    ("a_root_of_its_own_holds", true, a_root_of_its_own_holds),
    ("killed_in_the_middle", true, killed_in_the_middle),
];

/// Why the cases cannot run here.
fn unfit(cx: &Context) -> Option<Outcome> {
    if !cx.one_id() {
        return Some(Outcome::Skipped("only where there is one id".to_owned()));
    }
    let why = runtime::supervision().err()?;
    Some(Outcome::Skipped(why.to_owned()))
}

struct Supervised {
    ran: Ran,
    owners: Arc<Owners>,
}

impl Supervised {
    /// The lines that it wrote.
    fn lines(&self) -> Vec<&str> {
        self.ran.out.lines().collect()
    }

    /// The record of a file or directory of the upper directory.
    fn record(&self, path: &str) -> Option<Record> {
        let mut value = [0; 64];
        let file = self.ran.upper.join(path);
        match rustix::fs::lgetxattr(&file, RECORD, &mut value[..]) {
            Ok(length) => Record::decode(&value[..length]),
            Err(_) => {
                let inode = fs::symlink_metadata(&file).unwrap().ino();
                self.owners.of_inode(inode, None)
            }
        }
    }
}

/// A system with users, for shell scripts.
fn system(cx: &Context) -> PathBuf {
    let root = cx.busybox();
    let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/:/bin/sh\nbob:x:7:8::/:/bin/sh\n";
    write(&root, "etc/passwd", passwd, 0o644);
    let group = "root:x:0:\nann:x:1001:\nbob:x:8:\nwheel:x:10:ann\nmail:x:12:\n";
    write(&root, "etc/group", group, 0o644);
    for name in [
        "mknod", "mkfifo", "tar", "cp", "setpriv", "seq", "usleep", "chroot",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::copy("/proc/self/exe", root.join("bin/inside")).unwrap();
    // As the layer of an image has it: su is set-id, and root's.
    fs::remove_file(root.join("bin/su")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/su")).unwrap();
    fs::set_permissions(
        root.join("bin/su"),
        std::os::unix::fs::PermissionsExt::from_mode(0o4755),
    )
    .unwrap();
    root
}

fn run(cx: &Context, lowers: &[PathBuf], mut spec: RunSpec) -> Supervised {
    let owners = Arc::new(Owners::default());
    spec.owners = Some(Arc::clone(&owners));
    let ran = cx.run_spec(lowers, spec).unwrap();
    Supervised { ran, owners }
}

/// Runs a script as root.
fn sh(cx: &Context, script: &str) -> Supervised {
    let ran = run(cx, &[system(cx)], shell(script));
    assert!(ran.ran.exit.success(), "{script}: {:?}", ran.ran);
    ran
}

fn owners_read_back(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = sh(
        cx,
        "mkdir /tmp; cd /tmp
         touch f; mkdir d; ln -s f l
         chown ann:wheel f; chown bob d; chown -h 5:6 l
         stat -c '%n %u:%g %a' f d l; stat -L -c '%U:%G' l
         chown :mail f; stat -c '%U:%G' f
         chown 0:0 f; stat -c '%u:%g' f; ls -ld d
         chown 4294967294:2000000000 /etc/passwd; stat -c %u:%g /etc/passwd
         chown 1 nothing 2>&1; chown 1 /proc/self/status 2>&1; chown 9 /dev/stdout; stat -Lc %u /dev/stdout",
    );
    let lines = ran.lines();
    assert_eq!(
        lines[..7],
        [
            "f 1000:10 644",
            "d 7:0 755",
            "l 5:6 777",
            "ann:wheel",
            "ann:mail",
            "0:0",
            lines[6]
        ]
    );
    assert!(lines[6].contains("bob      root"), "{lines:?}");
    assert_eq!(lines[7], "4294967294:2000000000");
    assert!(lines[8].contains("No such file"), "{lines:?}");
    assert!(lines[9].starts_with("chown: /proc"), "{lines:?}");
    assert_eq!(lines[10..], ["9"]);
    assert_eq!(ran.record("tmp/d"), Some(Record::new(7, 0)));
    assert_eq!(ran.record("tmp/l"), Some(Record::new(5, 6)));
    assert_eq!(
        ran.record("etc/passwd"),
        Some(Record::new(4_294_967_294, 2_000_000_000))
    );
    Outcome::Passed
}

fn owners_travel_with_their_files(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let lower = system(cx);
    write(&lower, "old/file", "x", 0o640);
    fs::hard_link(lower.join("old/file"), lower.join("old/other")).unwrap();
    for (path, value) in [("old/file", "1000:10"), ("old", "7:8")] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(lower.join(path), RECORD, value.as_bytes(), flags).unwrap();
    }
    let script = "cd /; stat -c %u:%g old old/file old/other
        echo >> old/file; mv old/file new; chmod 4700 new; ln new again; stat -c %u:%g:%a old new again
        ln -s x link; chown -h 3:4 link; mv link moved; ln moved hard; stat -c %u:%g moved hard
        rm moved hard; ln -s y link; stat -c %u:%g link
        cp new plain; cp -a new kept; stat -c %u:%g plain kept
        mv old/other /dev/shm/; stat -c %u:%g /dev/shm/other; mv /dev/shm/other back; stat -c %u:%g back
        chown 6 new; stat -c %u:%a new";
    let ran = run(cx, &[lower], shell(script));
    assert_eq!(
        ran.lines(),
        [
            "7:8",
            "1000:10",
            "1000:10",
            "7:8:755",
            "1000:10:4700",
            "1000:10:4700",
            "3:4",
            "3:4",
            "0:0",
            "0:0",
            "1000:10",
            "1000:10",
            "1000:10",
            "6:700"
        ]
    );
    assert_eq!(ran.record("new"), Some(Record::new(6, 10)));
    assert_eq!(ran.record("old"), Some(Record::new(7, 8)));
    Outcome::Passed
}

fn files_belong_to_their_maker(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = sh(
        cx,
        "mkdir -m 777 /w; mkdir /mail; chown :mail /mail; chmod 2775 /mail
         echo x > /mail/f; mkdir /mail/d; mkfifo /mail/p; ln -s x /mail/l
         cd /w; umask 027
         su ann -c 'umask 002; echo x > f; mkdir d; mkfifo p; ln -s gone dangling; echo y > dangling; \
                    echo z >> f; (umask 077; echo > private); true > /mail/by-ann; id -u > who'
         stat -c '%n %u:%g %a' f d p dangling gone private /mail/f /mail/d /mail/p /mail/l /mail/by-ann
         cat f gone who; touch mine; stat -c '%n %u:%g %a' mine",
    );
    assert_eq!(
        ran.lines(),
        [
            "f 1000:1001 664",
            "d 1000:1001 775",
            "p 1000:1001 664",
            "dangling 1000:1001 777",
            "gone 1000:1001 664",
            "private 1000:1001 600",
            "/mail/f 0:12 644",
            "/mail/d 0:12 2755",
            "/mail/p 0:12 644",
            "/mail/l 0:12 777",
            "/mail/by-ann 1000:12 664",
            "x",
            "z",
            "y",
            "1000",
            "mine 0:0 640"
        ]
    );
    Outcome::Passed
}

fn users_are_changed_and_inherited(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = sh(
        cx,
        "id; su ann -c id; su bob -c 'id -u; (id -u); sh -c \"sh -c id\"; (usleep 30000; id -un > /w) & '
         usleep 200000; cat /w
         su bob -c 'chown ann /bin/sh || echo refused; chown bob:8 /w && echo own; su ann -c id < /dev/null' 2>&1
         id -u",
    );
    let lines = ran.lines();
    assert_eq!(lines[0], "uid=0(root) gid=0(root)");
    assert_eq!(
        lines[1],
        "uid=1000(ann) gid=1001(ann) groups=10(wheel),1001(ann)"
    );
    assert_eq!(lines[2..4], ["7", "7"]);
    assert_eq!(lines[4], "uid=7(bob) gid=8(bob) groups=8(bob)");
    assert_eq!(lines[5], "bob");
    assert!(
        lines[6].contains("not permitted") && lines[7..9] == ["refused", "own"],
        "{lines:?}"
    );
    assert_eq!(lines.last(), Some(&"0"));

    let mut spec = shell("id; touch /new; stat -c %u:%g /new; ulimit -a > /dev/null");
    (spec.uid, spec.gid, spec.groups) = (1000, 1001, vec![10, 12]);
    let ran = run(cx, &[system(cx)], spec);
    assert_eq!(
        ran.lines(),
        [
            "uid=1000(ann) gid=1001(ann) groups=10(wheel),12(mail)",
            "1000:1001"
        ]
    );
    Outcome::Passed
}

fn set_id_programs_run_as_their_owner(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = sh(
        cx,
        "cp /bin/inside /id; chown bob:mail /id; chmod 6755 /id; chmod 4755 /bin/inside
         printf '#!/bin/sh\nid -u\n' > /script; chown bob /script; chmod 4755 /script
         /id --inside ids; su ann -c '/id --inside ids; inside --inside ids; /script; id -u'",
    );
    assert_eq!(
        ran.lines(),
        [
            "0 7 7, 0 12 12, []",
            "1000 7 7, 1001 12 12, [10, 1001]",
            "1000 0 0, 1001 1001 1001, [10, 1001]",
            "1000",
            "1000"
        ]
    );
    Outcome::Passed
}

fn devices_are_recorded(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = sh(
        cx,
        "cd /; mknod -m 640 c c 1 3; mknod b b 259 65536; chown 5:6 b; mknod p p; mv b moved
         stat -c '%n %F %t:%T %u:%g %a' c moved p; ls -l c; mknod c c 1 3 2>&1; mknod w c 0 0 2>&1
         su ann -c 'mknod x c 1 5' 2>&1; test -c c && test -b moved && echo yes; rm c",
    );
    let lines = ran.lines();
    assert_eq!(
        lines[..3],
        [
            "c character special file 1:3 0:0 640",
            "moved block special file 103:10000 5:6 644",
            "p fifo 0:0 0:0 644"
        ]
    );
    assert!(lines[3].contains("1,   3"), "{lines:?}");
    assert!(lines[4].contains("File exists"), "{lines:?}");
    assert!(
        lines[5].contains("not permitted") && lines[6].contains("not permitted"),
        "{lines:?}"
    );
    assert_eq!(lines[7..], ["yes"]);
    let device = ran.record("moved").unwrap().device.unwrap();
    assert_eq!(
        (device.block, device.major, device.minor),
        (true, 259, 65536)
    );
    assert!(!Path::new(&ran.ran.upper).join("c").exists());
    Outcome::Passed
}

/// Runs this program in the sandbox.
fn inside(cx: &Context, what: &str) -> Supervised {
    let script = format!("mkdir /w; cd /w && inside --inside {what} 2>&1");
    let ran = run(cx, &[system(cx)], shell(&script));
    assert!(ran.ran.exit.success(), "{what}: {:?}", ran.ran);
    ran
}

fn every_call_that_makes_files_is_known(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = inside(cx, "create");
    assert_eq!(
        ran.lines(),
        [
            "made/renamed 33:33 100640",
            "named 33:33 100700",
            "opened 33:33 100600",
            "made 33:33 40700",
            "link 33:33 120777"
        ]
    );
    for path in ["w/made/renamed", "w/named", "w/opened", "w/made", "w/link"] {
        assert_eq!(ran.record(path), Some(Record::new(33, 33)), "{path}");
    }
    Outcome::Passed
}

fn every_call_shows_the_same(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    assert_eq!(inside(cx, "show").lines(), ["user.mine "]);
    Outcome::Passed
}

fn every_way_shows_the_same(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = inside(cx, "ways");
    assert_eq!(ran.lines(), ["all well"]);
    assert_eq!(ran.record("w/plain"), None);
    assert_eq!(ran.record("w/f"), Some(Record::new(70, 71)));
    assert_eq!(ran.record("w/d/a"), Some(Record::new(0, 12)));
    Outcome::Passed
}

fn many_at_once(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = inside(cx, "crowd");
    assert_eq!(ran.lines(), ["all well"]);
    for entry in fs::read_dir(ran.ran.upper.join("w/crowd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let uid = name.split('-').next().unwrap().parse().unwrap();
        assert_eq!(
            ran.record(&format!("w/crowd/{name}")),
            Some(Record::new(uid, uid))
        );
    }
    Outcome::Passed
}

fn peers_and_kept_capabilities(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = inside(cx, "peer");
    assert_eq!(
        ran.lines(),
        ["1000 1000 1000, 1001 1001 1001, [10, 1001]", "44 44"]
    );
    assert_eq!(
        inside(cx, "keep").lines(),
        ["9 9 9, 9 9 9, [2, 3]", "true Err(EPERM)"]
    );
    Outcome::Passed
}

fn nothing_outside_is_reached(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let outside = cx.base.join("outside");
    fs::write(&outside, "").unwrap();
    let before = fs::metadata(&outside).unwrap();
    let path = outside.to_str().unwrap();
    let up = "../".repeat(60);
    let builder = std::process::id();
    // Each would be the file if anything were resolved where the builder is.
    let mut script = format!(
        "mkdir -p /w/d; cd /w/d; ln -s {path} absolute; ln -s {up}{path} up; ln -s /proc/self/root/{path} own
         ln -s /proc/{builder}/root/{path} builder; ln -s /proc/1/root/{path} init; ln -s /proc/self d-self\n"
    );
    for form in [
        path.to_owned(),
        format!("{up}{path}"),
        format!("/proc/self/root{path}"),
        format!("/proc/self/cwd/{up}{path}"),
        format!("/proc/thread-self/root/..{path}"),
        format!("/proc/{builder}/root{path}"),
        format!("/proc/{builder}/cwd{path}"),
        format!("/proc/1/root{path}"),
        format!("d-self/root{path}"),
        format!("/dev/fd/3/{up}{path}"),
    ]
    .iter()
    .map(String::as_str)
    .chain(["absolute", "up", "own", "builder", "init"])
    {
        for command in [
            "chown 5:5",
            "chown -h 5:5",
            "su ann -c 'true >> \"$0\"'",
            "stat",
            "mkdir",
        ] {
            let quiet = "3< / > /dev/null 2>&1";
            script += &format!(
                "{command} {form} {quiet} && case {form} in /*|.*|d-*) echo reached {command} {form};; esac\n"
            );
        }
    }
    for link in ["absolute", "up", "own", "builder", "init"] {
        script += &format!("chown 5 {link} 2>/dev/null && echo reached {link}\n");
    }
    script += "true";
    let ran = sh(cx, &script);
    assert_eq!(ran.lines(), [""; 0]);
    let after = fs::metadata(&outside).unwrap();
    assert_eq!(
        (before.ctime(), before.ctime_nsec()),
        (after.ctime(), after.ctime_nsec())
    );
    let mut value = [0; 64];
    assert!(rustix::fs::getxattr(&outside, RECORD, &mut value[..]).is_err());
    Outcome::Passed
}

fn a_root_of_its_own_holds(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let ran = sh(
        cx,
        "mkdir -p /jail/bin /jail/d; cp -a /bin/busybox /bin/sh /bin/chown /bin/stat /bin/mkdir /jail/bin
         echo > /file; echo > /jail/file; ln -s /file /jail/d/link; ln -s ../../../file /jail/d/up
         chroot /jail sh -c 'cd /d; chown 5 link; chown 6:6 ../../../../file -h; stat -c %u link; stat -Lc %u:%g up /file; mkdir /made'
         stat -c %u:%g /file /jail/file; stat -c %u /jail/made
         cd /jail/d; chown :9 link; stat -Lc %g link /file",
    );
    assert_eq!(
        ran.lines(),
        ["0", "6:6", "6:6", "0:0", "6:6", "0", "9", "9"]
    );
    Outcome::Passed
}

fn killed_in_the_middle(cx: &Context) -> Outcome {
    if let Some(why) = unfit(cx) {
        return why;
    }
    let lower = system(cx);
    for _ in 0..5 {
        let mut spec = shell("cd /; echo go; while :; do chown $((1 + $$)) etc & stat etc; done");
        spec.owners = Some(Arc::default());
        let (child, workspace, mut read) = cx.start(std::slice::from_ref(&lower), spec).unwrap();
        std::io::Read::read_exact(&mut read, &mut [0; 3]).unwrap();
        child.kill();
        assert_eq!(child.wait().unwrap(), runtime::Exit::Signal(9));
        workspace.finish().unwrap();
    }
    let ran = run(cx, &[lower], shell("chown 5 /etc; stat -c %u /etc"));
    assert_eq!(ran.lines(), ["5"]);
    Outcome::Passed
}
