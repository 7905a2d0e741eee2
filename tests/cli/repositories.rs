//! Git repositories, in ADD and as contexts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use crate::Case;
use crate::support::{Context, Outcome, Ran, ran, read_tar};
use crate::web::{Web, git, has_git};

pub const CASES: &[Case] = &[
    ("add_of_a_repository", add_git),
    ("add_of_a_repository_comes_from_the_cache", cached_git),
    ("a_repository_is_a_context", git_context),
    ("repositories_over_ssh", ssh),
];

/// Why a case cannot run.
pub const NO_GIT: &str = "no git with http-backend; install git";

/// A program in the place of ssh that runs what it is asked to run here, and notes how.
const SSH: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" \"agent=$SSH_AUTH_SOCK\" >>\"$0.log\"\nfor last; do :; done\nHOME=/nonexistent exec sh -c \"$last\"\n";

/// A repository in the case's directory.
pub fn repository(c: &Context, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = c.path("repositories").join(name);
    fs::create_dir_all(&dir).unwrap();
    git(&dir, &["init", "-q", "-b", "main"]);
    change(&dir, files);
    dir
}

fn change(dir: &std::path::Path, files: &[(&str, &str)]) -> String {
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "-m", "change"]);
    git(dir, &["rev-parse", "HEAD"])
}

fn add_git(c: &Context) -> Outcome {
    if !has_git() {
        return Outcome::Skipped(NO_GIT.into());
    }
    repository(
        c,
        "r",
        &[
            ("f", "1"),
            ("d/g", "2"),
            ("d/no", "3"),
            (".dockerignore", "*"),
        ],
    );
    let web = Web::git(&c.path("repositories"));
    let url = web.url("/r/.git");
    c.file("local", "local");
    let text = format!(
        "FROM base\nADD {url} /all\nADD --chown=5:6 --chmod=0700 {url}#main:d /d\n\
         ADD --link --exclude=**/no {url}?subdir=d local /linked/\nADD --keep-git-dir {url} /kept\n",
    );
    let umask = "umask 077; exec \"$@\"";
    c.import();
    c.file("Dockerfile", &text);
    let inner = c.command(&["build", "-o", "type=tar,dest=tree.tar", "context"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", umask, "sh"]).arg(inner.get_program());
    command
        .args(inner.get_args())
        .env_clear()
        .current_dir(&c.base);
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap());
    }
    ran(&mut command).ok();
    let tree = read_tar(&c.path("tree.tar"));
    for (path, mode, owner, text) in [
        ("all/f", 0o644, (0, 0), "1"),
        ("all/d/g", 0o644, (0, 0), "2"),
        ("all/.dockerignore", 0o644, (0, 0), "*"),
        ("d/g", 0o700, (5, 6), "2"),
        ("linked/g", 0o644, (0, 0), "2"),
        ("linked/local", 0o644, (0, 0), "local"),
        ("kept/f", 0o644, (0, 0), "1"),
    ] {
        let node = &tree[path];
        assert_eq!(
            (node.mode, node.owner, node.text()),
            (mode, owner, text),
            "{path}"
        );
    }
    assert_eq!(tree["all/d"].mode, 0o755);
    assert!(!tree.contains_key("all/.git") && !tree.contains_key("linked/no"));
    assert!(tree.contains_key("kept/.git/HEAD"));
    assert!(c.leftovers().is_empty());
    Outcome::Passed
}

fn cached_git(c: &Context) -> Outcome {
    if !has_git() {
        return Outcome::Skipped(NO_GIT.into());
    }
    let dir = repository(c, "r", &[("f", "1")]);
    let first = git(&dir, &["rev-parse", "HEAD"]);
    let web = Web::git(&c.path("repositories"));
    let url = web.url("/r/.git");
    let text = format!("FROM base\nADD {url} /r\nRUN cat /r/f\n");
    let build = |text: &str, args: &[&str]| -> Ran { c.build(text, args) };
    assert_eq!(build(&text, &[]).ok().executed().len(), 2);
    assert_eq!(build(&text, &[]).ok().executed().len(), 0);
    change(&dir, &[("f", "2")]);
    assert_eq!(build(&text, &[]).ok().executed().len(), 2, "a new commit");
    let pinned = format!("FROM base\nADD {url}#{first} /r\nRUN cat /r/f\n");
    assert_eq!(build(&pinned, &[]).ok().executed().len(), 0, "an old one");
    let asked = web.seen().len();
    build(&pinned, &["--no-cache"]).ok();
    assert_eq!(web.seen().len(), asked, "a whole commit asks nobody");
    let wrong = format!("FROM base\nADD --checksum={first} {url}#main /r\n");
    build(&wrong, &[]).fails(3, &["checksum mismatch", &first]);
    build(&format!("FROM base\nADD {url}#none /r\n"), &[])
        .fails(3, &["no branch, tag or commit \"none\""]);
    build(
        &format!("FROM base\nADD {} /r\n", web.url("/none.git")),
        &[],
    )
    .fails(5, &["none.git"]);
    Outcome::Passed
}

fn git_context(c: &Context) -> Outcome {
    if !has_git() {
        return Outcome::Skipped(NO_GIT.into());
    }
    let dir = repository(
        c,
        "r",
        &[
            ("Dockerfile", "FROM scratch\nCOPY . /\n"),
            (".dockerignore", "f\n"),
            ("f", "1"),
            ("sub/Dockerfile", "FROM scratch\nCOPY g /sub\n"),
            ("sub/other", "FROM scratch\nCOPY g /other\n"),
            ("sub/g", "2"),
        ],
    );
    let web = Web::git(&c.path("repositories"));
    let url = web.url("/r/.git");
    let tree = |args: &[&str]| {
        let mut all = vec!["build", "-o", "type=tar,dest=t.tar"];
        all.extend(args);
        c.run(&all).ok();
        read_tar(&c.path("t.tar"))
    };
    let whole = tree(&[&url]);
    assert!(whole.contains_key("f"), "no ignore file is applied");
    assert!(!whole.keys().any(|path| path.starts_with(".git/")));
    let sub = format!("{url}#main:sub");
    assert_eq!(tree(&[&sub])["sub"].text(), "2");
    assert_eq!(tree(&["-f", "other", &sub])["other"].text(), "2");
    let kept = tree(&["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url]);
    assert!(kept.contains_key(".git/HEAD"));
    let mut fed = c.command(&["build", "-o", "type=tar,dest=t.tar", "-f", "-", &url]);
    let mut child = fed
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"FROM scratch\nCOPY f /fed\n").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(read_tar(&c.path("t.tar"))["fed"].text(), "1");
    change(&dir, &[("f", "3")]);
    assert_eq!(tree(&[&url])["f"].text(), "3");
    c.run(&["build", &format!("{url}#none")])
        .fails(3, &["\"none\""]);
    c.run(&["build", "-f", "none", &url])
        .fails(3, &["no Dockerfile at none"]);
    c.run(&["build", &format!("{url}#:none")])
        .fails(3, &["has no directory \"none\""]);
    assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    Outcome::Passed
}

fn ssh(c: &Context) -> Outcome {
    if !has_git() {
        return Outcome::Skipped(NO_GIT.into());
    }
    let dir = repository(
        c,
        "r",
        &[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "1")],
    );
    fs::create_dir_all(c.path("home/.ssh")).unwrap();
    fs::write(c.path("home/.ssh/known_hosts"), "").unwrap();
    fs::create_dir(c.path("bin")).unwrap();
    let program = c.path("bin/ssh");
    fs::write(&program, SSH).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", c.path("bin").display());
    let socket = c.path("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let log = || fs::read_to_string(c.path("bin/ssh.log")).unwrap();
    for (url, user) in [
        (
            format!("git@far.example:{}", dir.display()),
            "git@far.example",
        ),
        (
            format!("ssh://me@far.example{}", dir.display()),
            "me@far.example",
        ),
    ] {
        let mut command = c.command(&["build", "-o", "type=tar,dest=t.tar", &url]);
        ran(command.env("PATH", &path).env("SSH_AUTH_SOCK", "/agent")).ok();
        assert_eq!(read_tar(&c.path("t.tar"))["f"].text(), "1");
        let told = log();
        for line in [
            user,
            "-F",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "agent=/agent",
        ] {
            assert!(
                told.lines().any(|l| l == line),
                "{line} is missing in {told}"
            );
        }
        assert!(told.contains(&format!(
            "UserKnownHostsFile=\"{}",
            c.path("home").display()
        )));
        fs::remove_file(c.path("bin/ssh.log")).unwrap();
        // A Dockerfile does not get the caller's agent unasked.
        c.file("Dockerfile", format!("FROM scratch\nADD {url} /\n"));
        let mut command = c.command(&["build", "-o", "type=tar,dest=t.tar", "context"]);
        ran(command.env("PATH", &path).env("SSH_AUTH_SOCK", "/agent")).ok();
        assert!(log().lines().any(|line| line == "agent="), "{}", log());
        let allowed = format!("--ssh=default={}", socket.display());
        let mut command = c.command(&["build", "--no-cache", &allowed, "context"]);
        ran(command.env("PATH", &path)).ok();
        let told = format!("agent={}", socket.display());
        assert!(log().lines().any(|line| line == told), "{}", log());
        fs::remove_file(c.path("bin/ssh.log")).unwrap();
    }
    Outcome::Passed
}
