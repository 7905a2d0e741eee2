//! `--depfile`, with make itself as the reader.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::Case;
use crate::support::{Context, Outcome, Ran, ran};

pub const CASES: &[Case] = &[
    ("make_starts_a_build_only_when_something_changed", example),
    ("make_sees_what_comes_and_goes", changes),
    ("the_rule_names_what_was_read", rule),
    ("a_depfile_needs_a_target_and_a_directory", refused),
    ("what_changes_during_the_build_is_built_again", meanwhile),
    ("an_output_can_be_the_target", outputs),
    ("make_in_a_step_has_a_job_server_of_its_own", job_server),
];

/// The example of the manual, as it is.
const EXAMPLE: [(&str, &str); 7] = [
    ("Makefile", include_str!("../../examples/make/Makefile")),
    (
        ".dockerignore",
        include_str!("../../examples/make/.dockerignore"),
    ),
    (
        "hello.Dockerfile",
        include_str!("../../examples/make/hello.Dockerfile"),
    ),
    (
        "bye.Dockerfile",
        include_str!("../../examples/make/bye.Dockerfile"),
    ),
    (
        "hello/hello.txt",
        include_str!("../../examples/make/hello/hello.txt"),
    ),
    (
        "bye/bye.txt",
        include_str!("../../examples/make/bye/bye.txt"),
    ),
    (
        "shared/world.txt",
        include_str!("../../examples/make/shared/world.txt"),
    ),
];

fn has_make() -> bool {
    Command::new("make").arg("--version").output().is_ok()
}

fn no_make() -> Outcome {
    Outcome::Skipped("no make; install make".into())
}

/// What the builds that make started were asked for; a wrapper writes it down.
fn make(c: &Context, args: &[&str]) -> Vec<String> {
    let counted = c.path("counted");
    let starts = c.path("starts");
    if !counted.exists() {
        c.import();
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>'{}'\nexec '{}' --root '{}' \"$@\"\n",
            starts.display(),
            c.program().display(),
            c.path("store").display(),
        );
        fs::write(&counted, script).unwrap();
        fs::set_permissions(&counted, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(&starts, "").unwrap();
    // The clock of a file system may stand still for some milliseconds.
    sleep(Duration::from_millis(20));
    let mut make = c.tool(Path::new("make"));
    make.args(args).current_dir(c.path("make"));
    make.env("LAPSTRAKE", &counted).env("BASE", "base");
    ran(&mut make).ok();
    let started = fs::read_to_string(&starts).unwrap();
    let mut started: Vec<String> = started.lines().map(target).collect();
    started.sort();
    started
}

/// The id file that a build was asked for, without what is around its name.
fn target(call: &str) -> String {
    let mut words = call.split(' ').skip_while(|word| *word != "--iidfile");
    let path = Path::new(words.nth(1).unwrap());
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn write(c: &Context, path: &str, content: &str) {
    let path = c.path("make").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn text(c: &Context, image: &str) -> String {
    let out = c
        .tool(&c.program())
        .arg("--root")
        .arg(c.path("store"))
        .args(["run", image])
        .output();
    String::from_utf8(out.unwrap().stdout)
        .unwrap()
        .replace('\n', " ")
}

fn example(c: &Context) -> Outcome {
    if !has_make() {
        return no_make();
    }
    for (path, content) in EXAMPLE {
        write(c, path, content);
    }
    let nothing: [&str; 0] = [];
    let both = ["bye", "hello"];
    assert_eq!(make(c, &["-j2"]), both);
    assert_eq!(make(c, &["-j2"]), nothing);
    assert_eq!(make(c, &[]), nothing);
    assert_eq!(text(c, "example/hello"), "Hello, world. ");
    write(c, "hello/hello.txt", "Hi,\n");
    assert_eq!(make(c, &["-j2"]), ["hello"]);
    assert_eq!(make(c, &["-j2"]), nothing);
    assert_eq!(text(c, "example/hello"), "Hi, world. ");
    assert_eq!(text(c, "example/bye"), "Good bye, world. ");
    // What both share, and what only one has; files that come and go, in directories too.
    for (change, built) in [
        (
            &(|| write(c, "shared/world.txt", "all.\n")) as &dyn Fn(),
            &both[..],
        ),
        (&|| write(c, "shared/new.txt", "new\n"), &both),
        (
            &|| fs::remove_file(c.path("make/shared/new.txt")).unwrap(),
            &both,
        ),
        (&|| write(c, "bye/deep/er/x", ""), &["bye"]),
        (&|| write(c, "bye/deep/er/y", ""), &["bye"]),
        (
            &|| fs::remove_dir_all(c.path("make/bye/deep")).unwrap(),
            &["bye"],
        ),
        (&|| write(c, "hello/a $name #1: 100%", ""), &["hello"]),
        (&|| write(c, "hello/a $name #1: 100%", "x"), &["hello"]),
        (
            &|| fs::remove_file(c.path("make/hello/a $name #1: 100%")).unwrap(),
            &["hello"],
        ),
        (&|| write(c, "neither", ""), &[]),
        (&|| write(c, ".dockerignore", "build\n*.md\n"), &both),
        (
            &|| write(c, "bye.Dockerfile.dockerignore", "build\n"),
            &["bye"],
        ),
        (
            &|| fs::remove_file(c.path("make/bye.Dockerfile.dockerignore")).unwrap(),
            &["bye"],
        ),
        (&|| write(c, "hello.Dockerfile", EXAMPLE[2].1), &["hello"]),
    ] {
        change();
        assert_eq!(make(c, &["-j2"]), built);
        assert_eq!(make(c, &["-j2"]), nothing);
    }
    // Nothing else than the times tells a rule that has not changed.
    let rule = || {
        fs::metadata(c.path("make/build/hello.d"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = rule();
    write(c, "hello/hello.txt", "Hello,\n");
    assert_eq!(make(c, &[]), ["hello"]);
    assert_eq!(rule(), before);
    Outcome::Passed
}

/// An id file in the context itself, everything of which is copied.
fn changes(c: &Context) -> Outcome {
    if !has_make() {
        return no_make();
    }
    write(
        c,
        "Makefile",
        "a.id:\n\t$(LAPSTRAKE) build --iidfile $@ --depfile a.d --metadata-file a.json -q ./\n-include a.d\n",
    );
    write(c, "Dockerfile", "FROM base\nCOPY . /all\nRUN ls /all\n");
    write(c, ".dockerignore", "a.*\nhidden\n");
    write(c, "hidden/x", "");
    write(c, "gone", "");
    let nothing: [&str; 0] = [];
    assert_eq!(make(c, &[]), ["a"]);
    assert_eq!(make(c, &[]), nothing);
    write(c, "hidden/y", "");
    assert_eq!(make(c, &[]), nothing);
    fs::remove_file(c.path("make/gone")).unwrap();
    assert_eq!(make(c, &[]), ["a"]);
    assert_eq!(make(c, &[]), nothing);
    // The same image under the same id: nothing to do all the same.
    let now = SystemTime::now();
    let file = fs::File::open(c.path("make/Dockerfile")).unwrap();
    file.set_modified(now + Duration::from_millis(1)).unwrap();
    assert_eq!(make(c, &[]), ["a"]);
    assert_eq!(make(c, &[]), nothing);
    fs::remove_file(c.path("make/a.id")).unwrap();
    assert_eq!(make(c, &[]), ["a"]);
    assert_eq!(make(c, &[]), nothing);
    Outcome::Passed
}

/// The prerequisites in a rule, and its target first.
fn names(c: &Context) -> Vec<String> {
    let rule = fs::read_to_string(c.path("d")).unwrap();
    let first = rule.split("\n\n").next().unwrap();
    let names: Vec<String> = first
        .split(" \\\n  ")
        .map(|name| name.trim_end().to_owned())
        .collect();
    for name in &names[1..] {
        let has = rule.contains(&format!("\n{name}:\n")) || name.starts_with("$(");
        assert!(has, "{name} is no target: {rule}");
    }
    names
}

fn rule(c: &Context) -> Outcome {
    for file in [
        "src/a",
        "src/sub/b",
        "src/x.log",
        "other/c",
        "dir/d.txt",
        "dir/e",
        "far/f",
        "bound/g",
    ] {
        c.file(file, file);
    }
    std::os::unix::fs::symlink("far", c.path("context/link")).unwrap();
    fs::create_dir(c.path("named")).unwrap();
    fs::write(c.path("named/n"), "").unwrap();
    c.file(".dockerignore", "**/*.log\n");
    let text = "FROM base AS unused\nCOPY other /other\nFROM base AS a\nCOPY src /src\nFROM base\nCOPY dir/*.txt /\nCOPY link/f /f\nCOPY --from=named / /n\nRUN --mount=target=/in,source=bound ls /in\nCOPY --from=a /src /\n";
    let args = [
        "--iidfile",
        "./id",
        "--depfile",
        "d",
        "--build-context",
        "named=named",
    ];
    let expected = [
        "./id:",
        "context",
        "context/.dockerignore",
        "context/Dockerfile",
        "context/bound",
        "context/bound/g",
        "context/dir",
        "context/dir/d.txt",
        "context/far/f",
        "context/src",
        "context/src/a",
        "context/src/sub",
        "context/src/sub/b",
        "named",
        "named/n",
        "$(wildcard context/Dockerfile.dockerignore)",
        "$(wildcard named/.dockerignore)",
    ];
    c.build(text, &args).ok();
    assert_eq!(names(c), expected);
    let cached = c.build(text, &args).ok();
    assert_eq!(cached.executed(), [""; 0]);
    assert_eq!(names(c), expected, "of steps in the cache, too");
    // A failed build leaves what was there.
    fs::write(c.path("d"), "old").unwrap();
    c.build(&text.replace("ls /in", "false"), &args)
        .fails(4, &[]);
    assert_eq!(fs::read_to_string(c.path("d")).unwrap(), "old");
    c.file("src/line\nfeed", "");
    c.build(text, &args).ok();
    let warned = c.build(text, &args).ok().err;
    assert!(
        warned.contains("no way to write \"context/src/line\\nfeed\""),
        "{warned}"
    );
    assert_eq!(names(c), expected);
    Outcome::Passed
}

fn refused(c: &Context) -> Outcome {
    let text = "FROM base\nCOPY Dockerfile /\n";
    c.build(text, &["--depfile", "d"])
        .fails(2, &["--depfile-target"]);
    c.build(text, &["--depfile-target", "d"])
        .fails(2, &["--depfile"]);
    c.build(text, &["--depfile", "d", "--iidfile", "a\nb"])
        .fails(2, &["cannot be written as a target"]);
    c.build(text, &["--depfile", "none/d", "--iidfile", "id"])
        .fails(2, &["directory that does not exist"]);
    c.fed(
        &["build", "--depfile", "d", "--iidfile", "id", "-"],
        text.as_bytes(),
    )
    .fails(2, &["a build context that is a directory"]);
    assert!(!c.path("d").exists());
    c.build(text, &["--depfile", "d", "--depfile-target", "any name"])
        .ok();
    assert_eq!(names(c)[0], "any\\ name:");
    Outcome::Passed
}

fn meanwhile(c: &Context) -> Outcome {
    c.file("a", "1");
    c.file("src/b", "1");
    let text = "FROM base\nCOPY a /\nCOPY src /src\nRUN echo started; sleep 2\n";
    let time = |path: &str| fs::metadata(c.path(path)).unwrap().modified().unwrap();
    for (change, name) in [
        (&(|| _ = c.file("a", "2")) as &dyn Fn(), "context/a"),
        (&|| _ = c.file("src/new", ""), "context/src"),
    ] {
        let ran: Ran = std::thread::scope(|scope| {
            let args = ["--iidfile", "id", "--depfile", "d", "--no-cache"];
            let build = scope.spawn(move || c.build(text, &args));
            // The step that sleeps comes after all that are copied.
            sleep(Duration::from_millis(1500));
            change();
            build.join().unwrap()
        });
        assert!(
            ran.ok()
                .err
                .contains(&format!("{name} changed during the build"))
        );
        assert!(time("id") < time(name));
    }
    c.build(text, &["--iidfile", "id", "--depfile", "d"]).ok();
    assert!(time("id") >= time("context/a"));
    Outcome::Passed
}

fn outputs(c: &Context) -> Outcome {
    c.file("a", "1");
    let text = "FROM scratch\nCOPY a /\n";
    let old = SystemTime::now() - Duration::from_secs(1000);
    for (output, dest) in [("type=oci,dest=a.tar", "a.tar"), ("out", "out")] {
        let args = ["-o", output, "--depfile", "d", "--metadata-file", "m"];
        c.build(text, &args).ok();
        assert_eq!(names(c)[0], format!("{dest}:"));
        let file = fs::File::open(c.path(dest)).unwrap();
        file.set_modified(old).unwrap();
        c.build(text, &args).ok();
        let time = fs::metadata(c.path(dest)).unwrap().modified().unwrap();
        assert!(time > old + Duration::from_secs(900), "{dest}");
    }
    // With a target of its own, an id that stays keeps its time.
    let args = [
        "--iidfile",
        "id",
        "--depfile",
        "d",
        "--depfile-target",
        "stamp",
    ];
    c.build(text, &args).ok();
    fs::File::open(c.path("id"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    c.build(text, &args).ok();
    assert_eq!(fs::metadata(c.path("id")).unwrap().modified().unwrap(), old);
    Outcome::Passed
}

/// make of this machine with its libraries, in a step.
fn job_server(c: &Context) -> Outcome {
    let Some(root) = with_make(c) else {
        return no_make();
    };
    let mut import = c.command(&["import", root.to_str().unwrap(), "make"]);
    ran(&mut import).ok();
    let rules = "all: a b c\na: ; @touch /m/a; while [ ! -e /m/b ]; do sleep 0.01; done; echo \"* a\"\nb: ; @touch /m/b; while [ ! -e /m/a ]; do sleep 0.01; done; echo \"* b\"\nc: a b ; +@$(MAKE) -f /rules nested\nnested: x y\nx: ; @touch /m/x; while [ ! -e /m/y ]; do sleep 0.01; done; echo \"* x\"\ny: ; @touch /m/y; while [ ! -e /m/x ]; do sleep 0.01; done; echo \"* y\"\n";
    c.file("rules", rules);
    let text = "FROM make\nCOPY rules /\nRUN mkdir /m; echo \"* flags:$MAKEFLAGS:$MAKELEVEL\"; make -j2 -f /rules\n";
    c.file("Dockerfile", text);
    // As a make outside would start it.
    let mut command = c.command(&["build", "context"]);
    command
        .env("MAKEFLAGS", " -j4 --jobserver-auth=3,4")
        .env("MAKELEVEL", "1");
    let mut said = ran(&mut command).ok().said();
    said.sort();
    assert_eq!(said, ["a", "b", "flags::", "x", "y"]);
    Outcome::Passed
}

/// The tests' root file system with make in it.
fn with_make(c: &Context) -> Option<std::path::PathBuf> {
    let make = ["/usr/bin/make", "/bin/make"]
        .iter()
        .find(|path| Path::new(path).exists())?;
    c.import();
    let root = c.path("rootfs");
    let linked = Command::new("ldd").arg(make).output().ok()?;
    let linked = String::from_utf8(linked.stdout).unwrap();
    let words = linked
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for file in words.chain([*make]) {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
    Some(root)
}
