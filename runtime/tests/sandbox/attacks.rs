//! What must not be possible, by the attack lists that builders have collected over the years.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use runtime::{EnterOptions, Error, Exit, enter};

use crate::support::{Context, Outcome, pair, processes_with, shell, tree, write};
use crate::{Case, SECRET};

pub const CASES: &[Case] = &[
    (
        "proc_and_sys_as_links_are_refused",
        true,
        proc_and_sys_as_links_are_refused,
    ),
    (
        "a_mount_target_stays_beneath_the_root",
        true,
        a_mount_target_stays_beneath_the_root,
    ),
    (
        "a_directory_by_descriptor_is_refused",
        true,
        a_directory_by_descriptor_is_refused,
    ),
    ("no_descriptor_leaks", true, no_descriptor_leaks),
    ("capabilities_are_dockers", true, capabilities_are_dockers),
    ("the_filter_is_on", true, the_filter_is_on),
    ("set_uid_programs_work", true, set_uid_programs_work),
    ("proc_is_masked", true, proc_is_masked),
    (
        "the_builder_is_out_of_sight",
        true,
        the_builder_is_out_of_sight,
    ),
    ("init_cannot_be_touched", true, init_cannot_be_touched),
    ("daemons_do_not_survive", true, daemons_do_not_survive),
    ("killing_ends_everything", true, killing_ends_everything),
    (
        "the_builders_death_ends_everything",
        true,
        the_builders_death_ends_everything,
    ),
    ("huge_ids_are_handled", true, huge_ids_are_handled),
    (
        "without_a_proc_of_its_own",
        false,
        without_a_proc_of_its_own,
    ),
];

fn proc_and_sys_as_links_are_refused(cx: &Context) -> Outcome {
    for (name, to) in [("proc", "/bin"), ("sys", "/nowhere"), ("dev", "/../../dev")] {
        let root = cx.busybox();
        symlink(to, root.join(name)).unwrap();
        let error = cx.run_spec(&[root], shell("true")).unwrap_err();
        assert!(matches!(error, Error::MountPoint { .. }), "{name}: {error}");
        assert!(
            error.to_string().contains("symbolic link"),
            "{name}: {error}"
        );
    }
    Outcome::Passed
}

fn a_mount_target_stays_beneath_the_root(cx: &Context) -> Outcome {
    let before = fs::read("/etc/passwd").unwrap();
    for to in [
        "/../../etc/passwd",
        "../../../../../etc/passwd",
        "/proc/1/root/etc/passwd",
    ] {
        let root = cx.busybox();
        fs::create_dir(root.join("etc")).unwrap();
        fs::create_dir(root.join("proc")).unwrap();
        symlink(to, root.join("etc/resolv.conf")).unwrap();
        let ran = cx.run_spec(&[root], shell("cat /etc/resolv.conf >/dev/null; ls /etc"));
        if let Ok(ran) = ran {
            assert_eq!(tree(&ran.upper), [""; 0], "{to}");
        }
        assert_eq!(fs::read("/etc/passwd").unwrap(), before, "{to}");
    }
    let root = cx.busybox();
    fs::create_dir(root.join("etc")).unwrap();
    symlink(
        "../run/systemd/resolve/stub-resolv.conf",
        root.join("etc/resolv.conf"),
    )
    .unwrap();
    let ran = cx
        .run_spec(
            &[root],
            shell("cat /etc/resolv.conf; ls /run/systemd/resolve"),
        )
        .unwrap();
    assert!(ran.out.ends_with("stub-resolv.conf\n"), "{}", ran.out);
    assert_eq!(tree(&ran.upper), [""; 0]);
    Outcome::Passed
}

fn a_directory_by_descriptor_is_refused(cx: &Context) -> Outcome {
    let root = cx.busybox();
    symlink("/proc/self/fd/3", root.join("sneaky")).unwrap();
    for path in [
        "/proc/self/fd/3",
        "/proc/self/fd/7",
        "/proc/1/cwd",
        "/proc/self/root",
        "/sneaky",
    ] {
        let mut spec = shell("pwd");
        spec.cwd = path.into();
        let error = cx.run_spec(std::slice::from_ref(&root), spec).unwrap_err();
        assert!(
            matches!(error, Error::WorkingDirectory { .. }),
            "{path}: {error}"
        );
    }
    Outcome::Passed
}

fn no_descriptor_leaks(cx: &Context) -> Outcome {
    // One that a careless library left open across exec.
    let file = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let ran = cx.sh("ls /proc/self/fd");
    assert_eq!(ran.out, "0\n1\n2\n3\n", "3 is the directory being listed");
    Outcome::Passed
}

fn capabilities_are_dockers(cx: &Context) -> Outcome {
    let script = "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status";
    let out = cx.sh(script).out.replace('\t', " ");
    let full = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(
        out,
        format!(
            "CapInh: {none}\nCapPrm: {full}\nCapEff: {full}\nCapBnd: {full}\nCapAmb: {none}\nNoNewPrivs: 0\nSeccomp: 2\n"
        )
    );
    if !cx.one_id() {
        let ran = cx.sh_with(script, |spec| (spec.uid, spec.gid) = (5, 5));
        let out = ran.out.replace('\t', " ");
        assert!(
            out.starts_with(&format!(
                "CapInh: {none}\nCapPrm: {none}\nCapEff: {none}\nCapBnd: {full}\n"
            )),
            "{out}"
        );
    }
    Outcome::Passed
}

fn the_filter_is_on(cx: &Context) -> Outcome {
    let ran = cx.sh("mount -t tmpfs x /bin; unshare -m true; mount -t proc p /proc; ls / >/dev/null && echo fine");
    assert_eq!(
        ran.out.matches("not permitted").count() + ran.out.matches("denied").count(),
        3,
        "{}",
        ran.out
    );
    assert!(ran.out.ends_with("fine\n"), "{}", ran.out);
    Outcome::Passed
}

fn set_uid_programs_work(cx: &Context) -> Outcome {
    if cx.one_id() {
        return Outcome::Skipped("needs a second id".to_owned());
    }
    let root = cx.busybox();
    fs::create_dir(root.join("suid")).unwrap();
    fs::copy("/bin/busybox", root.join("suid/busybox")).unwrap();
    fs::set_permissions(
        root.join("suid/busybox"),
        fs::Permissions::from_mode(0o4755),
    )
    .unwrap();
    let mut spec = shell(
        "grep CapEff /proc/self/status; /suid/busybox grep -E '^(Uid|CapEff)' /proc/self/status",
    );
    (spec.uid, spec.gid) = (7, 7);
    let ran = cx.run_spec(&[root], spec).unwrap();
    let out = ran.out.replace('\t', " ");
    // busybox gives its set-uid right up for applets that do not need it, but only after it had it.
    assert!(
        out.starts_with("CapEff: 0000000000000000\nUid: 7 "),
        "{out}"
    );
    assert!(
        out.contains("Uid: 7 0 0 0") || out.contains("Uid: 7 7 "),
        "{out}"
    );
    Outcome::Passed
}

fn proc_is_masked(cx: &Context) -> Outcome {
    let script = "for f in kcore keys timer_list interrupts; do test ! -e /proc/$f || wc -c </proc/$f; done;
        ls /proc/scsi /proc/acpi /sys/firmware /sys/kernel/debug /sys/fs/bpf 2>/dev/null | grep -v -e : -e '^$';
        echo 1 >/proc/sys/kernel/panic; touch /sys/x; echo end";
    let ran = cx.sh(script);
    let lines: Vec<&str> = ran.out.lines().collect();
    let (last, refused) = (
        lines.last(),
        ran.out.matches("Read-only file system").count(),
    );
    assert_eq!((last, refused), (Some(&"end"), 2), "{}", ran.out);
    assert!(
        lines[..lines.len() - 3].iter().all(|l| *l == "0"),
        "{}",
        ran.out
    );
    Outcome::Passed
}

fn the_builder_is_out_of_sight(cx: &Context) -> Outcome {
    // We are the builder: what is in our environment must be nowhere in the sandbox.
    let script = "cat /proc/*/environ /proc/1/task/*/environ 2>/dev/null | tr '\\0' '\\n'; ls /proc | grep '^[0-9]'";
    let ran = cx.sh_with(script, |spec| {
        spec.env = vec![pair("PATH", "/bin"), pair("MINE", "1")]
    });
    assert!(std::env::vars().any(|(_, value)| value == SECRET));
    assert!(!ran.out.contains(SECRET), "{}", ran.out);
    assert!(ran.out.contains("MINE=1"), "{}", ran.out);
    let pids: Vec<u32> = ran.out.lines().filter_map(|l| l.parse().ok()).collect();
    // Where the kernel refuses another /proc, the PID namespace is shared and we are in the list.
    let shared = pids.contains(&std::process::id());
    assert!(shared || pids.len() <= 5, "{}", ran.out);
    Outcome::Passed
}

fn init_cannot_be_touched(cx: &Context) -> Outcome {
    let ran = cx.sh("readlink /proc/1/exe; readlink /proc/1/root; ls /proc/1/fd; cat /proc/1/maps; kill -9 1; kill -STOP 1; echo >/proc/1/mem; echo alive");
    assert!(!ran.out.contains("memfd"), "{}", ran.out);
    assert!(ran.out.ends_with("alive\n"), "{}", ran.out);
    assert!(ran.exit.success());
    Outcome::Passed
}

fn daemons_do_not_survive(cx: &Context) -> Outcome {
    let mark = format!("81{}", std::process::id());
    let start = Instant::now();
    let ran = cx.sh(&format!("(setsid sleep {mark} &) ; sleep {mark} & setsid sh -c 'sleep {mark} & sleep {mark}' & echo started"));
    assert_eq!(ran.exit, Exit::Code(0), "{}", ran.out);
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(processes_with(&mark), [""; 0]);
    Outcome::Passed
}

fn killing_ends_everything(cx: &Context) -> Outcome {
    let mark = format!("82{}", std::process::id());
    let spec = shell(&format!(
        "(setsid sleep {mark} &); trap '' TERM INT; echo up; sleep {mark}; sleep {mark}"
    ));
    let (child, workspace, mut read) = cx.start(&[cx.busybox()], spec).unwrap();
    let mut up = [0; 3];
    read.read_exact(&mut up).unwrap();
    let handle = child.kill_handle();
    std::thread::spawn(move || handle.kill()).join().unwrap();
    let late = child.kill_handle();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    late.kill();
    assert_eq!(processes_with(&mark), [""; 0]);
    workspace.finish().unwrap();
    // A child that nobody waits for ends as well.
    let spec = shell(&format!("echo up; sleep {mark}"));
    let (child, _workspace, mut read) = cx.start(&[cx.busybox()], spec).unwrap();
    read.read_exact(&mut up).unwrap();
    drop(child);
    assert_eq!(processes_with(&mark), [""; 0]);
    Outcome::Passed
}

/// A builder of its own, which is killed without warning.
fn the_builders_death_ends_everything(cx: &Context) -> Outcome {
    const VARIABLE: &str = "LAPSTRAKE_TEST_MARK";
    if let Ok(mark) = std::env::var(VARIABLE) {
        let spec = shell(&format!(
            "(setsid sleep {mark} &); trap '' TERM HUP; sleep {mark}"
        ));
        // The thread that spawned is gone while the sandbox runs.
        let (child, workspace, _read) = std::thread::scope(|s| {
            s.spawn(|| cx.start(&[cx.busybox()], spec).unwrap())
                .join()
                .unwrap()
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(
            !processes_with(&mark).is_empty(),
            "the end of a thread ends nothing"
        );
        println!("up");
        let exit = child.wait();
        drop(workspace);
        panic!("we should be dead: {exit:?}");
    }
    let mark = format!("83{}", std::process::id());
    let dir = cx.dir("builder");
    let ids = if cx.one_id() { "one" } else { "many" };
    let mut builder = Command::new("/proc/self/exe")
        .args(["--case", "the_builders_death_ends_everything", ids])
        .arg(&dir)
        .env(VARIABLE, &mark)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 2];
    let heard = builder.stdout.as_mut().unwrap().read_exact(&mut up);
    if heard.is_err() {
        let mut said = String::new();
        builder
            .stderr
            .as_mut()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        panic!("{said}");
    }
    builder.kill().unwrap();
    builder.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !processes_with(&mark).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(processes_with(&mark), [""; 0]);
    Outcome::Passed
}

fn huge_ids_are_handled(cx: &Context) -> Outcome {
    let held = |id: u32| cx.entered.as_ref().unwrap().ids.holds_uid(id);
    for id in [1_u32 << 31, u32::MAX - 1, u32::MAX] {
        let mut spec = shell("id -u");
        (spec.uid, spec.gid) = (id, 0);
        match cx.run_spec(&[cx.busybox()], spec) {
            Ok(ran) => {
                assert!(held(id));
                assert_eq!(ran.out, format!("{id}\n"));
            }
            Err(Error::UnmappedId { id: named, .. }) => assert!(named == id && !held(id)),
            Err(error) => panic!("{id}: {error}"),
        }
    }
    Outcome::Passed
}

fn shell_without_program() -> runtime::RunSpec {
    runtime::RunSpec::new(["/no/such/program"])
}

/// With a masked outer `/proc`, as in any container, the kernel refuses a new one.
fn without_a_proc_of_its_own(cx: &Context) -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        return Outcome::Skipped("needs root, to mask /proc beforehand".to_owned());
    }
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        return Outcome::Skipped("needs CAP_SYS_ADMIN, to mask /proc beforehand".to_owned());
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    mount(
        Some("/dev/null"),
        "/proc/version",
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap();
    let entered = enter(&EnterOptions::default()).unwrap();
    let cx = Context {
        base: cx.base.clone(),
        entered: Some(entered),
    };
    let error = cx
        .run_spec(&[cx.busybox()], shell_without_program())
        .unwrap_err();
    assert!(matches!(error, Error::Exec(_)), "{error}");
    assert_eq!(
        waitpid(None, None),
        Err(nix::Error::ECHILD),
        "nothing is left to be reaped"
    );
    let mark = format!("84{}", std::process::id());
    let root = cx.busybox();
    write(&root, "etc/keep", "", 0o644);
    let script = format!(
        "echo $$; echo x >/proc/self/comm; echo 1 >/proc/sys/kernel/panic; (setsid sleep {mark} &) ; sleep {mark} & setsid sh -c 'sleep {mark} & sleep {mark}' & echo done"
    );
    let ran = cx.run_spec(&[root], shell(&script)).unwrap();
    assert!(
        ran.exit.success() && ran.out.ends_with("done\n"),
        "{}",
        ran.out
    );
    let pid: u32 = ran.out.lines().next().unwrap().parse().unwrap();
    assert!(pid > 2, "no PID namespace: {pid}");
    assert_eq!(
        ran.out.matches("Read-only file system").count(),
        2,
        "{}",
        ran.out
    );
    assert_eq!(processes_with(&mark), [""; 0]);
    assert_eq!(tree(&ran.upper), [""; 0]);

    let script = format!(
        "tr '\\0' '\\n' </proc/{}/environ; ls /proc/{0}/fd; ls /proc/{0}/root",
        std::process::id()
    );
    let ran = cx.sh(&script);
    assert!(
        !ran.out.contains("PATH=") && ran.out.contains("denied"),
        "{}",
        ran.out
    );

    let ran = cx.sh(&format!(
        "kill -9 $PPID; kill -9 -1; kill -9 {}; (setsid sleep {mark} &) ; echo alive",
        std::process::id()
    ));
    assert!(
        ran.exit.success() && ran.out.ends_with("alive\n"),
        "{}",
        ran.out
    );
    assert_eq!(processes_with(&mark), [""; 0]);

    let spec = shell(&format!("(setsid sleep {mark} &); echo up; sleep {mark}"));
    let (child, _workspace, mut read) = cx.start(&[cx.busybox()], spec).unwrap();
    read.read_exact(&mut [0; 3]).unwrap();
    child.kill();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    assert_eq!(processes_with(&mark), [""; 0]);
    assert!(Path::new("/proc/self").exists());
    Outcome::Passed
}
