//! What a build step sees and leaves behind.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Instant;

use runtime::{Error, Exit, Mode, Mount, Network, RunSpec, Stdin, Ulimit, View, Workspace};

use crate::Case;
use crate::support::{Context, Outcome, pair, shell, tree, write};

pub const CASES: &[Case] = &[
    (
        "the_note_says_what_was_chosen",
        true,
        the_note_says_what_was_chosen,
    ),
    ("true_leaves_nothing", true, true_leaves_nothing),
    (
        "only_changes_are_in_the_upper",
        true,
        only_changes_are_in_the_upper,
    ),
    (
        "copied_up_ancestors_keep_their_looks",
        true,
        copied_up_ancestors_keep_their_looks,
    ),
    (
        "a_step_sees_its_surroundings",
        true,
        a_step_sees_its_surroundings,
    ),
    (
        "the_root_directory_looks_like_the_layer",
        true,
        the_root_directory_looks_like_the_layer,
    ),
    ("devices_work", true, devices_work),
    (
        "exits_and_exec_errors_are_typed",
        true,
        exits_and_exec_errors_are_typed,
    ),
    ("ids_and_groups", true, ids_and_groups),
    ("limits_and_directory", true, limits_and_directory),
    ("no_network", true, no_network),
    ("hundreds_of_layers", true, hundreds_of_layers),
    ("views_merge", true, views_merge),
    (
        "an_unfit_directory_is_named",
        true,
        an_unfit_directory_is_named,
    ),
    ("steps_run_at_once", true, steps_run_at_once),
    ("stdin_is_passed", true, stdin_is_passed),
    ("spawn_cost", true, spawn_cost),
];

fn the_note_says_what_was_chosen(cx: &Context) -> Outcome {
    let entered = cx.entered.as_ref().unwrap();
    let single = entered.ids.is_single();
    assert_eq!(
        entered.mode,
        if single {
            Mode::UsernsOne
        } else {
            Mode::UsernsMany
        }
    );
    assert!(
        entered.note.starts_with("user namespace with "),
        "{}",
        entered.note
    );
    assert!(entered.ids.holds_uid(0) && entered.ids.holds_gid(0));
    assert_eq!(entered.ids.holds_uid(42), !single);
    assert_eq!(entered.ids.key().len(), 16);
    Outcome::Passed
}

fn true_leaves_nothing(cx: &Context) -> Outcome {
    let ran = cx.sh("true");
    assert_eq!(ran.exit, Exit::Code(0), "{}", ran.out);
    assert_eq!(tree(&ran.upper), [""; 0]);
    let left: Vec<_> = fs::read_dir(ran.upper.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but upper is left in the workspace");
    Outcome::Passed
}

fn only_changes_are_in_the_upper(cx: &Context) -> Outcome {
    let ran = cx.sh("mkdir /etc/x; echo hi >/bin/new; rm /bin/echo");
    assert!(ran.exit.success(), "{}", ran.out);
    assert_eq!(
        tree(&ran.upper),
        ["bin", "bin/echo whiteout", "bin/new", "etc", "etc/x"]
    );
    Outcome::Passed
}

fn copied_up_ancestors_keep_their_looks(cx: &Context) -> Outcome {
    let root = cx.busybox();
    fs::create_dir_all(root.join("opt/a")).unwrap();
    fs::set_permissions(root.join("opt"), fs::Permissions::from_mode(0o2751)).unwrap();
    let mut spec = shell("stat -c %a /opt; chmod 700 /opt/a");
    spec.mounts.push(Mount::Tmpfs {
        target: "/opt/b/c".into(),
        size: None,
        mode: 0o755,
        readonly: false,
    });
    let ran = cx.run_spec(&[root], spec).unwrap();
    assert_eq!(ran.out, "2751\n");
    assert_eq!(tree(&ran.upper), ["opt", "opt/a"]);
    assert_eq!(
        fs::metadata(ran.upper.join("opt")).unwrap().mode() & 0o7777,
        0o2751
    );
    Outcome::Passed
}

fn a_step_sees_its_surroundings(cx: &Context) -> Outcome {
    let script = "hostname; id -u; umask; pwd; cat /etc/hosts; ls /dev; env; cat /proc/1/comm;
        ls /proc | grep -c '^[0-9]'; df /dev/shm | grep -c 65536";
    let ran = cx.sh_with(script, |spec| {
        spec.cwd = "/bin".into();
        spec.hosts.push(("db".to_owned(), "10.1.2.3".to_owned()));
        spec.env.push(pair("KEY", "a value"));
    });
    let outer = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    // A container's own filter may refuse another host name.
    let name = ran.out.lines().next().unwrap_or_default();
    assert!(name == "buildkitsandbox" || name == outer, "{name}");
    for line in [
        "0",
        "0022",
        "/bin",
        "127.0.0.1\tlocalhost buildkitsandbox",
        "10.1.2.3\tdb",
        "KEY=a value",
        "null",
        "ptmx",
        "stdout",
        "urandom",
        "1",
    ] {
        assert!(ran.out.lines().any(|l| l == line), "{line}: {}", ran.out);
    }
    for word in ["HOME=", "LOGNAME", "CARGO", ".content"] {
        assert!(!ran.out.contains(word), "{word}: {}", ran.out);
    }
    Outcome::Passed
}

fn the_root_directory_looks_like_the_layer(cx: &Context) -> Outcome {
    let root = cx.busybox();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o711)).unwrap();
    let ran = cx.run_spec(&[root], shell("stat -c %a /")).unwrap();
    assert_eq!(ran.out, "711\n");
    let empty = cx.dir("empty");
    let ws = Workspace::overlay(&[], &empty).unwrap();
    assert_eq!(
        rustix::fs::fstat(ws.root()).unwrap().st_mode & 0o7777,
        0o755
    );
    Outcome::Passed
}

fn devices_work(cx: &Context) -> Outcome {
    let script = "echo x >/dev/null && echo out >/dev/stdout && head -c 4 /dev/zero | wc -c &&
        head -c 9 /dev/urandom | wc -c; echo full >/dev/full || echo refused; ls -l /dev/ptmx | grep -c pts;
        echo a >/dev/shm/f && cat /dev/shm/f; touch /dev/mqueue/q && echo q";
    let ran = cx.sh(script);
    let lines: Vec<&str> = ran
        .out
        .lines()
        .filter(|l| !l.contains("write error"))
        .collect();
    assert_eq!(
        lines,
        ["out", "4", "9", "refused", "1", "a", "q"],
        "{}",
        ran.out
    );
    Outcome::Passed
}

fn exits_and_exec_errors_are_typed(cx: &Context) -> Outcome {
    assert_eq!(cx.sh("exit 7").exit, Exit::Code(7));
    assert_eq!(cx.sh("kill -9 $$").exit, Exit::Signal(9));
    assert_eq!(cx.sh("kill -TERM $$").exit.shell_code(), 143);
    let root = cx.busybox();
    write(&root, "plain", "x", 0o644);
    write(&root, "text", "no shebang", 0o755);
    write(&root, "script", "#!/no/such\n", 0o755);
    fs::create_dir(root.join("dir")).unwrap();
    for (program, errno, exists, code) in [
        ("nonesuch", libc::ENOENT, false, 127),
        ("/no/such/file", libc::ENOENT, false, 127),
        ("/plain", libc::EACCES, true, 126),
        ("/dir", libc::EACCES, true, 126),
        ("/text", libc::ENOEXEC, true, 126),
        ("/script", libc::ENOENT, true, 126),
        ("", libc::ENOENT, false, 127),
    ] {
        let error = cx
            .run_spec(std::slice::from_ref(&root), RunSpec::new([program]))
            .unwrap_err();
        let Error::Exec(error) = error else {
            panic!("{program}: {error}")
        };
        assert_eq!(
            (error.errno, error.exists, error.exit_code()),
            (errno, exists, code),
            "{program}"
        );
    }
    Outcome::Passed
}

fn ids_and_groups(cx: &Context) -> Outcome {
    let as_user = |spec: &mut RunSpec| {
        (spec.uid, spec.gid, spec.groups) = (42, 43, vec![43, 44]);
    };
    let mut spec = shell("true");
    as_user(&mut spec);
    if cx.one_id() {
        let error = cx.run_spec(&[cx.busybox()], spec).unwrap_err();
        assert!(
            matches!(
                error,
                Error::UnmappedId {
                    kind: "user",
                    id: 42,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("subordinate ids"), "{error}");
        let ran = cx.sh_with("id -u", |spec| spec.groups = vec![0, 7]);
        assert_eq!(ran.out, "0\n", "groups that cannot be set are left alone");
        return Outcome::Passed;
    }
    let script = "id -u; id -g; grep Groups /proc/self/status; echo to-stdout >/dev/stdout";
    let ran = cx.sh_with(script, as_user);
    assert_eq!(ran.out, "42\n43\nGroups:\t43 44 \nto-stdout\n");
    let ran = cx.sh("touch /f && chown 12:34 /f && stat -c %u:%g /f");
    assert_eq!(ran.out, "12:34\n");
    let ran = cx.sh_with("grep Groups /proc/self/status", |spec| {
        spec.groups = vec![0]
    });
    assert_eq!(ran.out, "Groups:\t0 \n");
    Outcome::Passed
}

fn limits_and_directory(cx: &Context) -> Outcome {
    let limit = |name: &str, soft, hard| Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    };
    let ran = cx.sh_with("ulimit -n; ulimit -Hn; ulimit -c", |spec| {
        spec.ulimits = vec![limit("nofile", 100, 200), limit("core", 0, 0)];
    });
    assert_eq!(ran.out, "100\n200\n0\n");
    let mut spec = shell("true");
    spec.ulimits = vec![limit("nosuch", 1, 1)];
    let error = cx.run_spec(&[cx.busybox()], spec).unwrap_err();
    assert!(error.to_string().contains("nosuch"), "{error}");
    let mut spec = shell("true");
    spec.cwd = "/not/there".into();
    let error = cx.run_spec(&[cx.busybox()], spec).unwrap_err();
    assert!(matches!(error, Error::WorkingDirectory { .. }), "{error}");
    Outcome::Passed
}

fn no_network(cx: &Context) -> Outcome {
    let ran = cx.sh_with(
        "ip -o link | wc -l; ip -o addr show lo; ls /sys/class/net",
        |spec| {
            spec.network = Network::None;
        },
    );
    assert!(ran.out.starts_with("1\n"), "{}", ran.out);
    assert!(ran.out.contains("127.0.0.1/8"), "{}", ran.out);
    assert!(ran.out.ends_with("lo\n"), "{}", ran.out);
    Outcome::Passed
}

fn hundreds_of_layers(cx: &Context) -> Outcome {
    let mut lowers: Vec<PathBuf> = (0..300)
        .map(|n| {
            let dir = cx.dir("a-directory-with-a-rather-long-name-to-fill-up-pages-");
            write(&dir, &format!("layer/{n}"), "", 0o644);
            dir
        })
        .collect();
    lowers.push(cx.busybox());
    let ran = cx.run_spec(&lowers, shell("ls /layer | wc -l")).unwrap();
    assert_eq!(ran.out, "300\n");
    Outcome::Passed
}

fn views_merge(cx: &Context) -> Outcome {
    let (low, high) = (cx.dir("low"), cx.dir("high"));
    write(&low, "both", "low", 0o644);
    write(&low, "gone", "", 0o644);
    write(&high, "both", "high", 0o644);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        high.join("gone"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap();
    for (lowers, names) in [
        (vec![], vec![]),
        (vec![low.clone()], vec!["both", "gone"]),
        (vec![high, low], vec!["both"]),
    ] {
        let view = View::overlay(&lowers, &cx.dir("scratch")).unwrap();
        let mut found: Vec<String> = rustix::fs::Dir::read_from(view.root())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "." && name != "..")
            .collect();
        found.sort();
        assert_eq!(found, names);
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        let error = rustix::fs::mkdirat(view.root().as_fd(), "new", mode).unwrap_err();
        assert_eq!(error, rustix::io::Errno::ROFS);
    }
    Outcome::Passed
}

fn an_unfit_directory_is_named(cx: &Context) -> Outcome {
    // An overlay's upper on an overlay is the commonest case: a container's own root.
    let (lower, dir) = (cx.busybox(), cx.dir("outer"));
    let outer = Workspace::overlay(&[lower], &dir).unwrap();
    let inside = PathBuf::from(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&outer.root())
    ));
    fs::create_dir(inside.join("ws")).unwrap();
    let error = Workspace::overlay(&[cx.busybox()], &inside.join("ws"))
        .unwrap_err()
        .to_string();
    for word in ["/ws", "overlay", "LAPSTRAKE_ROOT", "emptyDir"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    Outcome::Passed
}

fn steps_run_at_once(cx: &Context) -> Outcome {
    std::thread::scope(|scope| {
        for n in 0..6 {
            scope.spawn(move || {
                for _ in 0..3 {
                    let ran = cx.sh(&format!("echo {n} >/f{n}; ls /proc/self/fd | wc -l"));
                    // 0, 1, 2 and the directory that ls reads.
                    assert_eq!(ran.out, "4\n");
                    assert_eq!(tree(&ran.upper), [format!("f{n}")]);
                }
            });
        }
    });
    Outcome::Passed
}

fn stdin_is_passed(cx: &Context) -> Outcome {
    let (read, mut write) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut write, b"typed\n").unwrap();
    drop(write);
    let ran = cx.sh_with("cat", |spec| spec.stdin = Stdin::Fd(read.into()));
    assert_eq!(ran.out, "typed\n");
    assert_eq!(cx.sh("cat; readlink /proc/self/fd/0").out, "/dev/null\n");
    Outcome::Passed
}

/// Says what a step costs; the figure is for people and no condition of success.
fn spawn_cost(cx: &Context) -> Outcome {
    let lowers = [cx.busybox()];
    let mut times: Vec<[u128; 4]> = Vec::new();
    for _ in 0..30 {
        let dir = cx.dir("cost");
        let start = Instant::now();
        let spec = RunSpec::new(["/bin/true"]);
        let workspace = Workspace::for_run(&lowers, &dir, &spec).unwrap();
        let mounted = start.elapsed().as_micros();
        let (mut read, write) = std::io::pipe().unwrap();
        let err = write.try_clone().unwrap();
        let child = runtime::spawn(&workspace, spec, write.into(), err.into()).unwrap();
        let spawned = start.elapsed().as_micros();
        read.read_to_end(&mut Vec::new()).unwrap();
        child.wait().unwrap();
        let waited = start.elapsed().as_micros();
        workspace.finish().unwrap();
        times.push([
            mounted,
            spawned - mounted,
            waited - spawned,
            start.elapsed().as_micros() - waited,
        ]);
    }
    for (part, name) in ["mount", "spawn", "wait", "finish"].iter().enumerate() {
        let mut all: Vec<u128> = times.iter().map(|t| t[part]).collect();
        all.sort_unstable();
        println!(
            "  {name}: median {} us, minimum {} us",
            all[all.len() / 2],
            all[0]
        );
    }
    symlink("kept", cx.base.join("done")).unwrap();
    Outcome::Passed
}
