//! What comes from the cache, and what must not.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::Case;
use crate::support::{Context, Outcome, Ran, ran};

pub const CASES: &[Case] = &[
    ("a_second_build_executes_nothing", again),
    ("changes_bust_what_follows_them", changes),
    ("one_image_whoever_builds_it", reproducible),
    ("equal_steps_of_a_build_run_once", once),
    ("a_table_that_cannot_be_kept_fails_no_build", no_table),
    ("layers_of_two_runs_are_not_mixed", unmixed),
    ("equal_steps_on_different_layers_are_two", filtered),
];

const DOCKERFILE: &str = "FROM base\nARG A=1\nRUN echo first >/first\nCOPY a /a\nENV E=1\nRUN cat /a >/b\nCOPY c /c\nWORKDIR /w\nCMD x\n";

fn files(c: &Context) {
    c.file("a", "a");
    c.file("c", "c");
}

fn build(c: &Context, dockerfile: &str, args: &[&str]) -> Ran {
    c.build(dockerfile, args).ok()
}

fn again(c: &Context) -> Outcome {
    files(c);
    let ids = ["-q", "--iidfile", "id"];
    let first = build(c, DOCKERFILE, &ids);
    assert_eq!(first.err, "");
    assert!(first.out.starts_with("sha256:"), "{}", first.out);
    let time = fs::metadata(c.path("id")).unwrap().modified().unwrap();
    assert_eq!(
        fs::read_to_string(c.path("id")).unwrap(),
        first.out.trim_end()
    );
    let second = build(c, DOCKERFILE, &["--iidfile", "id"]);
    assert_eq!(second.out, "", "stdout carries data only");
    assert_eq!(second.executed(), Vec::<String>::new());
    assert_eq!(second.cached(), 5);
    assert!(second.err.contains(first.out.trim_end()));
    assert_eq!(
        fs::metadata(c.path("id")).unwrap().modified().unwrap(),
        time
    );
    assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    let anew = build(c, DOCKERFILE, &["--no-cache"]);
    assert_eq!(anew.cached(), 0);
    assert_eq!(anew.executed().len(), 5);
    Outcome::Passed
}

fn changes(c: &Context) -> Outcome {
    files(c);
    build(c, DOCKERFILE, &[]);
    let later = SystemTime::now() + Duration::from_secs(100);
    let file = fs::File::options()
        .append(true)
        .open(c.path("context/a"))
        .unwrap();
    file.set_modified(later).unwrap();
    assert_eq!(
        build(c, DOCKERFILE, &[]).cached(),
        5,
        "a new time is no change"
    );
    let all = [
        "RUN echo first >/first",
        "COPY a /a",
        "RUN cat /a >/b",
        "COPY c /c",
        "WORKDIR /w",
    ];
    type Change<'a> = (&'a str, &'a dyn Fn(), String, &'a [&'a str], usize);
    let same = || {};
    let cases: [Change<'_>; 7] = [
        (
            "a file",
            &|| _ = c.file("a", "new"),
            DOCKERFILE.into(),
            &[],
            1,
        ),
        (
            "the last file",
            &|| _ = c.file("c", "new"),
            DOCKERFILE.into(),
            &[],
            3,
        ),
        ("a comment", &same, format!("# said\n{DOCKERFILE}"), &[], 5),
        (
            "a label",
            &same,
            DOCKERFILE.replace("CMD x", "CMD y\nLABEL a=b"),
            &[],
            5,
        ),
        (
            "a variable",
            &same,
            DOCKERFILE.replace("E=1", "E=2"),
            &[],
            2,
        ),
        (
            "an argument",
            &same,
            DOCKERFILE.into(),
            &["--build-arg", "A=2"],
            0,
        ),
        (
            "an unknown argument",
            &same,
            DOCKERFILE.into(),
            &["--build-arg", "B=2"],
            5,
        ),
    ];
    for (what, change, dockerfile, args, kept) in cases {
        change();
        let ran = build(c, &dockerfile, args);
        assert_eq!(
            ran.executed().len(),
            all.len() - kept,
            "{what}:\n{}",
            ran.err
        );
        for (name, expected) in ran.executed().iter().zip(&all[kept..]) {
            assert!(
                ran.executed().iter().any(|n| n == expected),
                "{what}: {name}"
            );
        }
    }
    fs::write(c.path("rootfs/etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    c.import();
    assert_eq!(build(c, DOCKERFILE, &[]).cached(), 0, "another base");
    Outcome::Passed
}

/// A build without the cache that goes no further than its first step leaves a new layer under an old
/// one's key. What was made on the old one is not put on the new one.
fn unmixed(c: &Context) -> Outcome {
    let text = "FROM base\nRUN cat /proc/sys/kernel/random/uuid >/a\n\
        RUN --mount=type=secret,id=s grep -q yes /run/secrets/s && cp /a /b\n\
        COPY c /c\nCOPY --link a /d\n";
    let with = |secret: &str, flags: &[&str]| {
        fs::write(c.path("secret"), secret).unwrap();
        let mut all = vec!["--secret", "id=s,src=secret", "-t", "app"];
        all.extend(flags);
        c.build(text, &all)
    };
    files(c);
    with("yes", &[]).ok();
    with("no", &["--no-cache"]).fails(4, &["grep -q yes"]);
    let third = with("yes", &[]).ok();
    // What is linked depends on nothing below.
    assert_eq!(third.executed().len(), 2, "{}", third.err);
    assert_eq!(third.cached(), 2, "{}", third.err);
    let tree = |name: &str| c.run(&["run", "app", "cat", name]).ok().out;
    assert_eq!(tree("/a"), tree("/b"));
    assert_eq!(with("yes", &[]).ok().cached(), 4);
    Outcome::Passed
}

/// Two stages with equal steps, one of which is built anew, and a stage on each of them.
fn filtered(c: &Context) -> Outcome {
    let text = "FROM base AS a\nRUN cat /proc/sys/kernel/random/uuid >/a\n\
        FROM base AS b\nRUN cat /proc/sys/kernel/random/uuid >/a\n\
        FROM a AS c\nRUN cp /a /b\nFROM b AS d\nRUN cp /a /b\n\
        FROM base\nCOPY --from=c /a /b /c/\nCOPY --from=d /a /b /d/\n";
    build(c, text, &["-t", "app"]);
    build(c, text, &["-t", "app", "--no-cache-filter", "a"]);
    let show = |name: &str| c.run(&["run", "app", "cat", name]).ok().out;
    assert_eq!(show("/c/a"), show("/c/b"));
    assert_eq!(show("/d/a"), show("/d/b"));
    assert_ne!(show("/c/a"), show("/d/a"));
    Outcome::Passed
}

/// Digests that were computed once for all; each Dockerfile makes the same image everywhere.
fn reproducible(c: &Context) -> Outcome {
    files(c);
    let mut import = c.command(&["import", "../base.tar", "base"]);
    ran(import.env("SOURCE_DATE_EPOCH", "1")).ok();
    let mut digests = String::new();
    for text in [
        "FROM scratch\nCOPY a /a\n",
        "FROM scratch\nCOPY --chown=12:34 --chmod=4755 a c /d/\n",
        "FROM scratch\nADD a /deep/er/a\nENV A=b\nLABEL x=y\n",
        "FROM scratch\nWORKDIR /w/x\nUSER 5:6\nWORKDIR y\nCMD [\"z\"]\n",
        "FROM scratch AS s\nCOPY --chown=7:8 a /x/a\nFROM scratch\nCOPY --from=s /x /y\n",
        "FROM scratch\nCOPY --link a /l/a\nCOPY c /l/c\n",
        "FROM scratch\nCOPY <<E /e\ntext\nE\n",
        "FROM base\nRUN rm /etc/group; mkdir /n; touch -d @5 /n/f; ln /n/f /n/g; chmod 2755 /n\n",
        "FROM base\nRUN rm -r /tmp; touch -d @6 /tmp; mkfifo /p; ln -s x /s\nRUN rm /tmp; mkdir /tmp\n",
        "FROM base\nCOPY --chown=app:wheel a /home/\nRUN cat /home/a >/copy\n",
        "FROM base\nCOPY --chown=1000 a /o\nRUN chmod 600 /o\n",
    ] {
        let mut command = c.command(&[
            "build",
            "-o",
            "type=oci,dest=x.tar",
            "--metadata-file",
            "m",
            "context",
        ]);
        c.file("Dockerfile", text);
        ran(command.env("SOURCE_DATE_EPOCH", "1")).ok();
        let told: serde_json::Value =
            serde_json::from_slice(&fs::read(c.path("m")).unwrap()).unwrap();
        let digest = told["containerimage.digest"].as_str().unwrap().to_owned();
        digests.push_str(&format!("{digest} {text:?}\n"));
    }
    // The first who gets here writes down what the others have to find.
    let common = c.base.parent().unwrap().join("digests");
    match fs::read_to_string(&common) {
        Ok(expected) => {
            for (ours, theirs) in digests.lines().zip(expected.lines()) {
                assert_eq!(ours, theirs);
            }
        }
        Err(_) => drop(fs::write(common, digests)),
    }
    Outcome::Passed
}

/// Steps with one key in several stages: one is executed, the others take its result.
fn once(c: &Context) -> Outcome {
    c.file("a", "a");
    let run =
        "RUN --mount=type=cache,target=/c echo x >>/c/times; cat /c/times >/times; echo \\* ran";
    let stages = |step: &str| {
        format!(
            "FROM base AS one\n{step}\nFROM base AS two\n{step}\nFROM base AS three\n{step}\n\
             FROM scratch\nCOPY --from=one /times /1\nCOPY --from=two /times /2\nCOPY --from=three /times /3\n"
        )
    };
    for (args, times) in [(&[][..], "x\n"), (&["--no-cache"], "x\nx\n")] {
        let mut all = vec!["-o", "type=tar,dest=t.tar"];
        all.extend(args);
        let ran = c.build(&stages(run), &all).ok();
        assert_eq!(ran.said(), ["ran"], "{args:?}\n{}", ran.err);
        let tree = crate::support::read_tar(&c.path("t.tar"));
        for name in ["1", "2", "3"] {
            assert_eq!(tree[name].text(), times, "{args:?} {name}");
        }
    }
    // One of them alone is to be executed anew: it does not take what the others take.
    let ran = c.build(&stages(run), &["--no-cache-filter", "two"]).ok();
    assert_eq!(ran.said(), ["ran"], "{}", ran.err);
    let ran = c.build(&stages("RUN sleep 0.1; exit 7"), &[]);
    let ran = ran.fails(4, &["exit status 7"]);
    assert!(!ran.err.contains("was not built"), "{}", ran.err);
    assert!(c.leftovers().is_empty());
    Outcome::Passed
}

/// The table's directory is gone, and nothing can be written there.
fn no_table(c: &Context) -> Outcome {
    files(c);
    c.import();
    let (tables, text) = (c.path("store/v1/files"), "FROM scratch\nCOPY a /a\n");
    // A file that has just been written is not remembered.
    while fs::read_dir(&tables).unwrap().count() == 0 {
        build(c, text, &[]);
    }
    fs::remove_dir_all(&tables).unwrap();
    let told = "cannot be kept for the next build";
    let ran = build(c, text, &["-t", "x"]);
    assert!(ran.err.contains(told), "{}", ran.err);
    assert!(c.run(&["images"]).ok().out.contains('x'));
    c.build("FROM base\nCOPY a /a\nRUN exit 7\n", &[])
        .fails(4, &["exit status 7", told]);
    Outcome::Passed
}
