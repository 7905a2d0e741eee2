//! What the user grants to steps: secrets, agents, rights; and what is kept of one that fails.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;

use crate::Case;
use crate::support::{Context, Outcome, ran};

pub const CASES: &[Case] = &[
    ("secrets_are_seen_where_they_are_mounted", secrets),
    ("secrets_are_kept_nowhere", kept_nowhere),
    ("agents_answer_in_steps", agents),
    ("rights_are_given_by_name", rights),
    ("surroundings_of_a_run", surroundings),
    ("a_failed_run_can_be_entered", failed),
];

/// Not a word that is anywhere else.
const VALUE: &str = "v4lue-of-a-build-secret";

fn secrets(c: &Context) -> Outcome {
    fs::write(c.path("token"), VALUE).unwrap();
    let user = "USER app\n";
    let owner = "1000:10";
    for (mount, args, script, expected) in [
        (
            "id=t",
            &["id=t,src=token"][..],
            "echo \" * $(cat /run/secrets/t) $(stat -c '%a %u:%g' /run/secrets/t)\"",
            format!("{VALUE} 400 0:0"),
        ),
        (
            "id=a/t,target=sub/file,mode=0440,uid=1000,gid=10",
            &["id=a/t,src=token"],
            "echo \" * $(stat -c '%a %u:%g %s' /w/sub/file)\"",
            format!("440 {owner} {}", VALUE.len()),
        ),
        (
            "source=t",
            &["id=t,src=token"],
            "ls /run/secrets/t >/dev/null && echo ' * there'",
            "there".into(),
        ),
        (
            "target=/x/t",
            &["token"],
            "ls /x 2>/dev/null || echo ' * none'",
            "none".into(),
        ),
        (
            "target=/x/token",
            &["token"],
            "echo \" * $(cat /x/token)\"",
            VALUE.into(),
        ),
        (
            "id=t,env=TOKEN",
            &["id=t,src=token"],
            "echo \" * $TOKEN $(ls /run/secrets 2>/dev/null | wc -l)\"",
            format!("{VALUE} 0"),
        ),
        (
            "id=t,env=TOKEN,target=/f",
            &["id=t,src=token"],
            "echo \" * $TOKEN $(cat /f)\"",
            format!("{VALUE} {VALUE}"),
        ),
        (
            "id=t,env=PATH2",
            &["id=t,env=CI_SECRET"],
            "echo \" * $PATH2\"",
            crate::SECRET.into(),
        ),
        (
            "id=CI_SECRET",
            &["CI_SECRET"],
            "echo \" * $(cat /run/secrets/CI_SECRET)\"",
            crate::SECRET.into(),
        ),
        (
            "id=none",
            &[],
            "ls /run/secrets 2>/dev/null || echo ' * none'",
            "none".into(),
        ),
        (
            "id=t,required",
            &["id=t,src=token"],
            "echo \" * $(wc -c </run/secrets/t)\"",
            VALUE.len().to_string(),
        ),
    ] {
        let text = format!("FROM base\nWORKDIR /w\nRUN --mount=type=secret,{mount} {script}\n");
        let mut all = vec!["--no-cache"];
        args.iter().for_each(|spec| all.extend(["--secret", spec]));
        let told = c.build(&text, &all).ok();
        assert_eq!(told.said().concat(), expected, "{mount}");
    }
    // A user of its own can read what is his, and nothing else.
    let text = format!(
        "FROM base\n{user}RUN --mount=type=secret,id=t,uid=1000 --mount=type=secret,id=t,target=/root-only \
        echo \" * $(cat /run/secrets/t) $(cat /root-only 2>/dev/null | wc -c)\"\n"
    );
    let other = if c.one_id() { VALUE.len() } else { 0 };
    let told = c.build(&text, &["--secret", "id=t,src=token"]).ok();
    assert_eq!(told.said().concat(), format!("{VALUE} {other}"));
    for (spec, why) in [
        ("id=t,src=gone", "gone: No such file"),
        ("id=t,env=GONE", "GONE is not set"),
        ("src=token", "needs an id"),
    ] {
        c.build("FROM base\n", &["--secret", spec]).fails(2, &[why]);
    }
    Outcome::Passed
}

/// Every file below a directory that holds the secret's value.
fn holding(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        let kind = fs::symlink_metadata(&next).unwrap().file_type();
        if kind.is_dir() {
            // A directory that its owner cannot read is overlayfs' own, and empty.
            let entries = fs::read_dir(&next).into_iter().flatten();
            pending.extend(entries.map(|entry| entry.unwrap().path()));
        } else if kind.is_file() {
            let mut bytes = Vec::new();
            if let Ok(mut file) = fs::File::open(&next) {
                file.read_to_end(&mut bytes).unwrap();
            }
            if bytes
                .windows(VALUE.len())
                .any(|window| window == VALUE.as_bytes())
            {
                found.push(next);
            }
        } else if kind.is_symlink() {
            assert!(
                !fs::read_link(&next)
                    .unwrap()
                    .to_string_lossy()
                    .contains(VALUE)
            );
        }
    }
    found
}

fn kept_nowhere(c: &Context) -> Outcome {
    fs::write(c.path("token"), VALUE).unwrap();
    let text = "FROM base\nRUN --mount=type=secret,id=t --mount=type=secret,id=t,env=TOKEN \
        --mount=type=cache,target=/c wc -c /run/secrets/t; test -n \"$TOKEN\"; touch /made /c/f\n";
    let args = [
        "--secret",
        "id=t,src=token",
        "-t",
        "x",
        "--metadata-file",
        "m",
    ];
    let told = c.build(text, &args).ok();
    c.build(
        text,
        &["--secret", "id=t,src=token", "-o", "type=docker,dest=x.tar"],
    )
    .ok();
    assert!(!told.err.contains(VALUE), "{}", told.err);
    let failing = format!("{text}RUN --mount=type=secret,id=t,env=TOKEN echo >/f; false\n");
    let told = c.build(&failing, &["--secret", "id=t,src=token", "--keep-failed"]);
    assert!(told.code == 4 && !told.err.contains(VALUE), "{}", told.err);
    fs::remove_file(c.path("token")).unwrap();
    assert_eq!(holding(&c.base), Vec::<std::path::PathBuf>::new());
    // The search finds what is there.
    let text = format!("FROM base\nRUN echo {VALUE}\n");
    c.build(&text, &[]).ok();
    assert!(!holding(&c.path("store")).is_empty());
    Outcome::Passed
}

/// An agent of no keys: answers each request, whatever it is, with a list of none.
fn agent(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = [0; 5];
            while client.read_exact(&mut request).is_ok() {
                client.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).unwrap();
            }
        }
    });
}

/// Asks the agent at `socket` for its keys, and to forget them; says the types of its answers.
/// This is what the test's own program does inside of a step: busybox speaks to no such socket.
pub fn ask(socket: &Path) -> ExitCode {
    let mut stream = UnixStream::connect(socket).unwrap();
    for request in [11, 19] {
        stream.write_all(&[0, 0, 0, 1, request]).unwrap();
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let mut rest = vec![0; usize::from(head[3]) - 1];
        stream.read_exact(&mut rest).unwrap();
        println!(" * {request}: {}", head[4]);
    }
    ExitCode::SUCCESS
}

fn agents(c: &Context) -> Outcome {
    let socket = c.path("agent");
    agent(&socket);
    c.import();
    fs::copy(std::env::current_exe().unwrap(), c.path("context/ask")).unwrap();
    let user = "USER app\n";
    let owner = if c.one_id() { "0:0" } else { "1000:0" };
    let look = "echo \" * $SSH_AUTH_SOCK $(stat -c '%F %a %u:%g' $SSH_AUTH_SOCK)\"";
    let filtered = ["11: 12", "19: 5"];
    for (mount, args, expected, answers) in [
        (
            "uid=1000",
            &["default"][..],
            format!("/run/buildkit/ssh_agent.0 socket 600 {owner}"),
            &filtered[..],
        ),
        (
            "id=other,mode=0666,target=/s/a",
            &["other=agent"],
            "/s/a socket 666 0:0".into(),
            &filtered,
        ),
        (
            "id=raw,mode=0666",
            &["raw=agent,raw=true"],
            "/run/buildkit/ssh_agent.0 socket 666 0:0".into(),
            &["11: 12", "19: 12"],
        ),
        ("id=none", &[], "/run/buildkit/ssh_agent.0".into(), &[]),
    ] {
        let ask = match answers {
            [] => "! ls $SSH_AUTH_SOCK",
            _ => "/ask --ask $SSH_AUTH_SOCK",
        };
        // Without namespaces there is no network of a step's own.
        let network = if c.in_trees() { "" } else { "--network=none" };
        c.file(
            "Dockerfile",
            format!(
                "FROM base\n{user}RUN {network} --mount=type=ssh,{mount} --mount=target=/ask,source=ask \
                {look} 2>/dev/null; {ask}\n"
            ),
        );
        let mut all = vec!["build", "--no-cache"];
        args.iter().for_each(|spec| all.extend(["--ssh", spec]));
        all.push("context");
        let told = ran(c.command(&all).env("SSH_AUTH_SOCK", &socket)).ok();
        let said = told.said();
        assert_eq!(said[0], expected, "{mount}");
        assert_eq!(said[1..], *answers, "{mount}");
    }
    c.build("FROM base\n", &["--ssh", "default"])
        .fails(2, &["SSH_AUTH_SOCK is not set"]);
    c.build("FROM base\n", &["--ssh", "k=rootfs/etc/passwd"])
        .fails(2, &["ssh-add"]);
    Outcome::Passed
}

fn rights(c: &Context) -> Outcome {
    if c.in_trees() {
        let args = ["--allow", "security.insecure"];
        c.build("FROM base\nRUN --security=insecure true\n", &args)
            .fails(3, &["--security=insecure", "Dockerfile:2"]);
        return Outcome::Passed;
    }
    let caps = "echo \" * $(grep -E 'CapEff|Seccomp:' /proc/self/status | tr -d '\\n\\t')\"";
    let usual = format!("FROM base\nRUN {caps}\n");
    assert_eq!(
        c.build(&usual, &[]).ok().said(),
        ["CapEff:00000000a80425fbSeccomp:2"]
    );
    let insecure = format!("FROM base\nRUN --security=insecure {caps}\n");
    c.build(&insecure, &[]).fails(
        3,
        &[
            "RUN --security=insecure",
            "--allow security.insecure",
            "Dockerfile:2",
        ],
    );
    let told = c.build(&insecure, &["--allow", "security.insecure"]).ok();
    let line = told.said().concat();
    // With one id the supervisor of owners has its filter, which refuses nothing that is usual.
    let filter = if c.one_id() { "Seccomp:2" } else { "Seccomp:0" };
    assert!(
        line.ends_with(filter) && !line.contains("a80425fb"),
        "{line}"
    );
    let mount = "FROM base\nRUN --security=insecure mkdir /m && busybox mount -t tmpfs x /m && touch /m/f\n";
    c.build(mount, &["--allow", "security.insecure"]).ok();
    c.build(&mount.replace("insecure", "sandbox"), &[])
        .fails(4, &["exit status 1"]);
    // The network of one step.
    let link = "echo \" * $(ip link | grep -c '^[0-9]')\"";
    let text = |network: &str| format!("FROM base\nRUN --network={network} {link}\n");
    assert_eq!(c.build(&text("none"), &[]).ok().said(), ["1"]);
    let host = c.build(&text("host"), &["--network", "none"]);
    host.fails(3, &["--network=host", "--allow network.host"]);
    let args = ["--network", "none", "--allow", "network.host", "--no-cache"];
    let outside = c.build(&text("host"), &args).ok().said();
    assert_eq!(
        outside,
        c.build(&text("default"), &["--no-cache"]).ok().said()
    );
    assert_eq!(
        c.build(&text("default"), &["--network", "none", "--no-cache"])
            .ok()
            .said(),
        ["1"]
    );
    c.build("FROM base\nRUN --device=x true\n", &[])
        .fails(3, &["RUN --device is not supported"]);
    c.build("FROM base\n", &["--allow", "device"])
        .fails(2, &["device", "network.host"]);
    Outcome::Passed
}

fn surroundings(c: &Context) -> Outcome {
    let text = "FROM base\nENV A=1\nRUN echo \" * $(hostname) $HTTPS_PROXY $https_proxy $(grep -c build-db /etc/hosts) \
        $(grep here /etc/hosts | tr -s '\\t' ' ') $(ulimit -n) $(df -k /dev/shm | grep -o ' 2048 ' | head -n 1)\"\n";
    let mut args = vec![
        "--build-arg",
        "BUILDKIT_SANDBOX_HOSTNAME=named",
        "--build-arg",
        "https_proxy=http://p:1",
        "--add-host",
        "build-db:10.0.0.1",
        "--add-host",
        "here:host-gateway",
        "--ulimit",
        "nofile=99:100",
        "-t",
        "x",
    ];
    let mut expected = "named http://p:1 http://p:1 1 127.0.0.1 here 99".to_owned();
    if !c.in_trees() {
        args.extend(["--shm-size", "2m"]);
        expected += "  2048";
    }
    let told = c.build(text, &args).ok();
    let said = told.said().concat();
    assert_eq!(said, expected);
    let config = c.inspect("x").to_string();
    assert!(
        !config.contains("http://p") && !config.contains("named"),
        "{config}"
    );
    // The key has the names, not the values.
    let with = |change: &dyn Fn(&str) -> String| {
        let args: Vec<String> = args.iter().map(|arg| change(arg)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        c.build(text, &args).ok().cached()
    };
    assert_eq!(with(&|arg| arg.replace("p:1", "p:2")), 1);
    assert_eq!(with(&|arg| arg.replace("10.0.0.1", "10.0.0.2")), 1);
    assert_eq!(with(&|arg| arg.replace("build-db", "other-db")), 0);
    assert_eq!(with(&|arg| arg.replace("=named", "=other")), 0);
    assert_eq!(with(&|arg| arg.replace("99:100", "98:100")), 0);
    Outcome::Passed
}

fn failed(c: &Context) -> Outcome {
    let user = "USER app\n";
    let name = "app";
    let text = format!(
        "FROM base\nARG V=1\nRUN mkdir -m 777 /w\nWORKDIR /w\n{user}RUN --mount=type=tmpfs,target=/t \
        echo left >here; seq 30; echo last words; exit 7\n"
    );
    let plain = c.build(&text, &[]);
    plain.fails(
        4,
        &[
            "Dockerfile:",
            "exit status 7",
            "last words",
            "--keep-failed",
        ],
    );
    let kept = c.build(&text, &["--keep-failed"]);
    assert_eq!(kept.code, 4);
    let line = kept
        .err
        .lines()
        .find(|line| line.starts_with("  lapstrake --root "))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let id = words[4];
    let inside = c.run(&[
        "run",
        id,
        "sh",
        "-c",
        "echo $(cat here) $PWD $V $(id -un); ls -d /t",
    ]);
    assert_eq!(inside.out, format!("left /w 1 {name}\n"), "{}", inside.err);
    let again = c.run(&["run", id]);
    assert_eq!(
        again.code, 7,
        "the command that failed is its own: {}",
        again.err
    );
    assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    c.run(&["prune", "--force"]).ok();
    c.run(&["run", id, "true"]).fails(125, &[id]);
    Outcome::Passed
}
