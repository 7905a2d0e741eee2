//! Steps that change their root directory, without namespaces and mounts. Only as root, with the
//! capabilities and the system call filter of an ordinary container.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use caps::CapSet;
use runtime::{
    Capabilities, Child, EnterOptions, Error, Exit, Mode, Network, RunSpec, enter, spawn_in,
};

use crate::Case;
use crate::harness::SECRET;
use crate::support::{Context, Outcome, processes_with, shell, write};

pub const CASES: &[Case] = &[
    ("a_tree_has_its_surroundings", false, surroundings),
    ("proc_shows_the_step_and_nobody_else", false, processes),
    ("links_of_proc_lead_into_the_tree", false, links),
    ("a_shell_executes_itself", false, itself),
    ("nothing_of_the_builder_is_read_in_a_tree", false, secrets),
    ("nobody_outside_is_signalled_from_a_tree", false, signals),
    ("there_is_no_way_out_of_a_tree", false, ways_out),
    ("users_of_a_tree_have_real_ids", false, users),
    ("a_step_in_a_tree_leaves_no_process", false, no_process_left),
    ("what_a_tree_cannot_do_is_refused_by_name", false, refusals),
    ("calls_in_a_tree_keep_their_errors", false, errors),
    ("there_is_one_supervisor", false, one_supervisor),
    ("what_would_be_a_mount_point_stays_in_place", false, tops),
    ("looking_costs_little_in_a_tree", false, costs),
];

/// Puts this process where a container's root is; why not.
fn contained() -> Result<(), Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Outcome::Skipped(
            "only root changes its root directory".to_owned(),
        ));
    }
    let mask = Capabilities::default().mask();
    let ours = caps::read(None, CapSet::Permitted).unwrap();
    let has = |cap: caps::Capability| ours.contains(&cap);
    if has(caps::Capability::CAP_SYS_ADMIN) {
        let filter = seccomp::compile(&seccomp::Profile::docker_default(mask)).unwrap();
        seccomp::install(&filter).unwrap();
    }
    let keep = |cap: &caps::Capability| mask & cap.bitmask() != 0;
    for cap in caps::all() {
        if !keep(&cap) && caps::has_cap(None, CapSet::Bounding, cap).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, cap).unwrap();
        }
    }
    let kept: caps::CapsHashSet = ours.into_iter().filter(keep).collect();
    caps::clear(None, CapSet::Inheritable).unwrap();
    caps::set(None, CapSet::Effective, &kept).unwrap();
    caps::set(None, CapSet::Permitted, &kept).unwrap();
    let options = EnterOptions {
        mode: Some(Mode::Chroot),
    };
    match enter(&options) {
        Ok(_) => Ok(()),
        Err(error) => Err(Outcome::Skipped(error.to_string())),
    }
}

/// A tree to run in.
fn tree(cx: &Context) -> PathBuf {
    let root = cx.busybox();
    for dir in ["proc", "sys", "dev", "etc", "tmp", "root"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    for name in [
        "cp", "mknod", "chroot", "usleep", "setpriv", "tty", "realpath", "cmp", "killall",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    write(
        &root,
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nann:x:70:71::/:/bin/sh\n",
        0o644,
    );
    write(&root, "etc/group", "root:x:0:\nann:x:71:\n", 0o644);
    symlink("/proc/self/mounts", root.join("etc/mtab")).unwrap();
    fs::copy("/proc/self/exe", root.join("bin/inside")).unwrap();
    root
}

fn start(root: &Path, spec: RunSpec) -> Result<(Child, std::io::PipeReader), Error> {
    let tree = File::open(root).unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let err = write.try_clone().unwrap();
    let child = spawn_in(tree.as_fd(), spec, write.into(), err.into())?;
    Ok((child, read))
}

fn run(root: &Path, spec: RunSpec) -> (Exit, String) {
    // As whoever places them does: nothing of an earlier run is left.
    for dir in ["proc", "sys", "dev"] {
        fs::remove_dir_all(root.join(dir)).unwrap();
        fs::create_dir(root.join(dir)).unwrap();
    }
    let (child, mut read) = start(root, spec).unwrap();
    let mut out = String::new();
    read.read_to_string(&mut out).unwrap();
    (child.wait().unwrap(), out)
}

fn sh(root: &Path, script: &str) -> String {
    let (exit, out) = run(root, shell(script));
    assert_eq!(exit, Exit::Code(0), "{out}");
    out
}

macro_rules! contained {
    () => {
        if let Err(outcome) = contained() {
            return outcome;
        }
    };
}

fn surroundings(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    let out = sh(
        &root,
        "hostname; cat /proc/sys/kernel/hostname; id -u; pwd; echo x >/dev/null; head -c 4 /dev/zero | wc -c
         head -c 9 /dev/urandom | wc -c; echo full >/dev/full || echo refused; echo out >/dev/stdout
         echo a >/dev/shm/f; cat /dev/shm/f; ls -d /sys/class/net/lo; cat /sys/class/net/lo/mtu
         grep -c MemTotal /proc/meminfo; cat /etc/mtab | head -1 | grep -c ' / '; df / | wc -l
         tty </dev/tty || echo none; grep -c 'NoNewPrivs:.1' /proc/self/status
         cat /proc/sys/kernel/ostype; test -e /proc/kcore || echo hidden
         echo x >/proc/sys/kernel/ostype || echo locked",
    );
    let lines: Vec<&str> = out.lines().filter(|line| !line.contains(": ")).collect();
    let expected = [
        "buildkitsandbox",
        "buildkitsandbox",
        "0",
        "/",
        "4",
        "9",
        "refused",
        "out",
        "a",
        "/sys/class/net/lo",
        "65536",
        "1",
        "1",
        "2",
        "none",
        "1",
        "Linux",
        "hidden",
        "locked",
    ];
    assert_eq!(lines, expected, "{out}");
    Outcome::Passed
}

fn processes(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    let me = std::process::id();
    let out = sh(
        &root,
        &format!(
            "sleep 7 & ls /proc | grep -c '^[0-9]'; ps | grep -c 'sleep 7$'; cat /proc/$!/comm
             ls /proc/1 || echo no first; cat /proc/{me}/environ || echo no builder
             cat /proc/$PPID/comm || echo no init; test $$ = $(readlink /proc/self) || echo forked
             cd /proc/$$ && pwd -P | grep -c '^/proc/'; cat comm; cd fd; ls | wc -l
             cat ../../self/comm; kill %1"
        ),
    );
    for line in ["no first", "no builder", "no init", "forked"] {
        assert!(out.lines().any(|l| l == line), "{line}: {out}");
    }
    let count: usize = out.lines().next().unwrap().parse().unwrap();
    assert!((2..=5).contains(&count), "{out}");
    Outcome::Passed
}

fn links(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    symlink("/proc/self/exe", root.join("me")).unwrap();
    symlink("../proc/self/fd/0", root.join("etc/input")).unwrap();
    let out = sh(
        &root,
        "for link in exe root cwd; do readlink /proc/self/$link; done; cd /etc; readlink /proc/self/cwd
         cat /proc/self/root/etc/group | head -1; cat /proc/self/cwd/group | wc -l
         echo in | cat /proc/self/fd/0; echo in2 | cat /dev/stdin; echo in3 | cat /etc/input
         exec 5>/tmp/file; readlink /proc/self/fd/5; echo hi >/proc/self/fd/5; cat /tmp/file
         echo new >/proc/self/cwd/made; cat /etc/made; ls -l /proc/self/fd | grep -c pipe
         cmp /me /bin/busybox && echo same; chmod 604 /proc/self/fd/5; stat -c %a /tmp/file
         touch -d @1000 /proc/self/fd/5; stat -c %Y /tmp/file; /bin/inside --inside held
         cd /proc/self/root && pwd -P
         cd /proc/self/fd && ls | head -1",
    );
    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        "/bin/busybox",
        "/",
        "/",
        "/etc",
        "root:x:0:",
        "2",
        "in",
        "in2",
        "in3",
        "/tmp/file",
        "hi",
        "new",
        "2",
        "same",
        "604",
        "1000",
        "held well",
        "/",
        "0",
    ];
    assert_eq!(lines, expected, "{out}");
    Outcome::Passed
}

fn itself(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    fs::create_dir_all(root.join("a/directory/with/a/long/name")).unwrap();
    fs::copy(
        "/proc/self/exe",
        root.join("a/directory/with/a/long/name/inside"),
    )
    .unwrap();
    let out = sh(
        &root,
        "/bin/inside --inside again; /a/directory/with/a/long/name/inside --inside again
         cp /bin/sh /tmp/sh; exec /tmp/sh -c 'echo three | cat'",
    );
    assert_eq!(out, "once more\nonce more\nonce more\nonce more\nthree\n");

    Outcome::Passed
}

fn secrets(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    let me = std::process::id();
    let store = cx.dir("store");
    write(&store, "credentials", SECRET, 0o600);
    symlink(format!("/proc/{me}/root"), root.join("leak")).unwrap();
    symlink(format!("/proc/{me}/environ"), root.join("leak2")).unwrap();
    let others = fs::read_dir("/proc").unwrap();
    let pids: Vec<String> = others
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.parse::<u32>().is_ok())
        .collect();
    let pids = pids.join(" ");
    let (exit, out) = run(
        &root,
        shell(&format!(
            "cat /proc/*/environ /proc/{me}/environ /proc/{me}/task/*/environ /leak2
             cat {0}/credentials /leak{0}/credentials /proc/1/root{0}/credentials
             cat /proc/self/root/..{0}/credentials /proc/$PPID/cwd/*; env
             for fd in 3 4 5 6 7 8 9; do ls -l /proc/self/fd/$fd; done; bin/inside --inside escape {pids}; true",
            store.display()
        )),
    );
    assert!(!out.contains(SECRET), "{out}");
    assert!(out.contains("all refused"), "{exit:?} {out}");
    Outcome::Passed
}

fn signals(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    let me = std::process::id();
    let mut victim = std::process::Command::new("sleep")
        .arg("100")
        .spawn()
        .unwrap();
    let script = format!(
        "kill -9 {} && echo hit; kill -9 {me} && echo hit; kill -9 $PPID && echo hit; kill -9 -1 && echo hit
         kill -9 -{} && echo hit; /bin/inside --inside reach {}; sleep 50 & kill $! && echo own",
        victim.id(),
        nix::unistd::getpgrp(),
        victim.id(),
    );
    let (_, out) = run(&root, shell(&script));
    assert!(victim.try_wait().unwrap().is_none(), "{out}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(!out.contains("hit") && out.contains("own"), "{out}");
    assert!(out.contains("all refused"), "{out}");
    Outcome::Passed
}

fn ways_out(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    let mark = cx.dir("outside");
    fs::write(mark.join("there"), SECRET).unwrap();
    let (_, out) = run(
        &root,
        shell(&format!(
            "chroot / /bin/true && echo out; mkdir /jail; chroot /jail && echo out
             cd /proc && cat ../../../../../../../../{0}/there && echo out
             cd /proc/self/fd && cat ../../../../../../../../../../{0}/there && echo out
             cd /sys/class && cat ../../../../../../../../../../{0}/there && echo out
             cd /dev/pts && cat ../../../../../../../../../../{0}/there && echo out
             /bin/inside --inside climb {0}/there; mount -t proc proc /proc && echo out
             unshare -r true && echo out; cat {0}/there && echo out; true",
            mark.display()
        )),
    );
    assert!(
        !out.contains(SECRET) && !out.lines().any(|l| l == "out"),
        "{out}"
    );
    assert!(out.contains("all refused"), "{out}");
    Outcome::Passed
}

fn users(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    write(&root, "etc/private", "for ann\n", 0o600);
    chown(root.join("etc/private"), Some(70), Some(71)).unwrap();
    let look = "id -u; cat /etc/private; cat /proc/self/status | grep -c '^Uid:.70.70.70.70'
        readlink /proc/self/exe; echo x >/dev/stdout; cd /etc; cat passwd | wc -l; readlink /proc/self/cwd
        cat /proc/$PPID/environ && echo leaked; ls /proc/self/fd | wc -l; touch /tmp/of-ann";
    let (exit, out) = run(
        &root,
        shell(&format!(
            "su ann -c \"{}\"; stat -c %u /tmp/of-ann",
            look.replace('$', "\\$")
        )),
    );
    let lines: Vec<&str> = out.lines().filter(|l| !l.contains(": ")).collect();
    assert_eq!(
        lines,
        ["70", "for ann", "1", "/bin/busybox", "2", "/etc", "3", "70"],
        "{exit:?} {out}"
    );
    let mut spec = shell(look);
    (spec.uid, spec.gid, spec.groups) = (70, 71, vec![72]);
    let (exit, out) = run(&root, spec);
    let lines: Vec<&str> = out.lines().filter(|l| !l.contains(": ")).collect();
    assert_eq!(
        lines,
        ["70", "for ann", "1", "/bin/busybox", "x", "2", "/etc", "3"],
        "{exit:?} {out}"
    );
    let out = sh(
        &root,
        "/bin/inside --inside dropped; mknod /tmp/disk b 8 0 && cat /tmp/disk | head -c 1; true",
    );
    assert!(out.contains("dropped well"), "{out}");
    Outcome::Passed
}

fn no_process_left(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    let out = sh(&root, "setsid sleep 4321 & (sleep 4321 &) ; exit 0");
    assert_eq!(out, "");
    assert!(processes_with("sleep\x004321").is_empty());
    let (child, _read) = start_anew(&root, "setsid sleep 4322 & sleep 4322");
    child.kill();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    assert!(processes_with("sleep\x004322").is_empty());
    Outcome::Passed
}

fn start_anew(root: &Path, script: &str) -> (Child, std::io::PipeReader) {
    for dir in ["proc", "sys", "dev"] {
        fs::remove_dir_all(root.join(dir)).unwrap();
        fs::create_dir(root.join(dir)).unwrap();
    }
    start(root, shell(script)).unwrap()
}

fn refusals(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    type Change = fn(&mut RunSpec);
    let changes: [(Change, &str); 3] = [
        (|spec| spec.network = Network::None, "without network"),
        (|spec| spec.shm_size = Some(1 << 20), "/dev/shm"),
        (|spec| spec.capabilities = Capabilities::all(), "insecure"),
    ];
    for (change, word) in changes {
        let mut spec = shell("true");
        change(&mut spec);
        let error = start(&root, spec).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(fs::read_dir(root.join("dev")).unwrap().count(), 0);
    Outcome::Passed
}

fn errors(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    let out = sh(&root, "/bin/inside --inside errors");
    assert_eq!(out, "all as expected\n");
    let mut spec = RunSpec::new(["/no/such"]);
    spec.cwd = "/".into();
    for dir in ["proc", "sys", "dev"] {
        fs::remove_dir_all(root.join(dir)).unwrap();
        fs::create_dir(root.join(dir)).unwrap();
    }
    assert!(matches!(start(&root, spec), Err(Error::Exec(_))));
    Outcome::Passed
}

fn one_supervisor(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    crate::fallbacks::no_new_privs();
    let _listener = crate::fallbacks::listen();
    let error = start(&root, shell("true")).unwrap_err().to_string();
    for word in [
        "come under supervision",
        "already tells somebody of system calls",
        "SCMP_ACT_NOTIFY",
        "outside of a RUN",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
    Outcome::Passed
}

fn tops(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    let out = sh(&root, "cd / && /bin/inside --inside tops");
    assert_eq!(out, "all as expected\n");
    Outcome::Passed
}

/// Says what opening and asking costs; no bound, since machines differ.
fn costs(cx: &Context) -> Outcome {
    contained!();
    let root = tree(cx);
    println!("{}", sh(&root, "/bin/inside --inside costs"));
    Outcome::Passed
}
