//! Why steps were not found in the cache, for people and for programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::Case;
use crate::support::{Context, Outcome, Ran, ran};

pub const CASES: &[Case] = &[
    ("the_first_input_that_differs_is_named", inputs),
    ("a_copy_from_a_stage_names_the_file", stages),
    ("what_a_mount_shows_names_the_file", mounts),
    ("steps_are_found_again_where_others_come_and_go", edits),
    ("what_was_lost_or_failed_is_told", lost),
    ("the_cache_is_explained_to_programs", programs),
    ("a_build_with_nothing_to_do_writes_no_record", unchanged),
    ("records_hold_no_value_of_a_secret", records),
    ("progress_can_be_json", json),
    ("progress_has_the_usual_kinds", kinds),
];

/// The reasons of the steps that missed, as people read them.
fn reasons(ran: &Ran) -> Vec<String> {
    let lines = ran.err.lines().filter(|line| line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(" MISS "))
        .map(|(_, reason)| reason.to_owned())
        .collect()
}

fn explained(c: &Context, dockerfile: &str, args: &[&str]) -> Vec<String> {
    let args = [args, &["--explain"]].concat();
    reasons(&c.build(dockerfile, &args).ok())
}

const DOCKERFILE: &str = "FROM base\nARG A=1\nARG API_KEY=none\nENV E=1\nRUN echo one two >/first\nCOPY --chmod=644 src /src\nRUN cat /src/a\n";

fn inputs(c: &Context) -> Outcome {
    c.file("src/a", "a");
    c.file("src/sub/b", "b");
    let never = "it was never built here";
    assert_eq!(explained(c, DOCKERFILE, &[]), [never; 3]);
    assert_eq!(explained(c, DOCKERFILE, &[]), [""; 0]);
    let all = |reason: &str| {
        let before = "a step before it changed: [stage-0 2/4] RUN echo one two >/first";
        vec![reason.to_owned(), before.to_owned(), before.to_owned()]
    };
    let files = |reason: &str| {
        let before = "a step before it changed: [stage-0 3/4] COPY --chmod=644 src /src";
        vec![reason.to_owned(), before.to_owned()]
    };
    assert_eq!(
        explained(c, DOCKERFILE, &["--build-arg", "A=2"]),
        all("ARG A changed: 1 → 2")
    );
    assert_eq!(
        explained(c, DOCKERFILE, &["--build-arg", "API_KEY=hidden"]),
        all("ARG API_KEY changed"),
        "compared with the run that is nearest, not with the last one"
    );
    assert_eq!(
        explained(c, &DOCKERFILE.replace("E=1", "E=2"), &[]),
        all("ENV E changed: 1 → 2")
    );
    assert_eq!(explained(c, DOCKERFILE, &[]), [""; 0]);
    c.file("src/sub/b", "changed");
    assert_eq!(
        explained(c, DOCKERFILE, &[]),
        files("the content of src/sub/b changed")
    );
    c.file("src/sub/c", "");
    c.file("src/sub/d", "");
    assert_eq!(
        explained(c, DOCKERFILE, &[]),
        files("src/sub/c was added, and 1 more")
    );
    fs::remove_file(c.path("context/src/sub/d")).unwrap();
    assert_eq!(
        explained(c, DOCKERFILE, &[]),
        files("src/sub/d was deleted")
    );
    let free = DOCKERFILE.replace("--chmod=644 ", "");
    explained(c, &free, &[]);
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(c.path("context/src/a"), mode).unwrap();
    assert_eq!(
        explained(c, &free, &[])[0],
        "the mode of src/a changed: 0644 → 0600"
    );
    fs::write(c.path("rootfs/etc/group"), "root:x:0:\n").unwrap();
    c.import();
    let base = explained(c, &free, &[]);
    assert!(
        base[0].starts_with("the base image base changed: sha256:"),
        "{base:?}"
    );
    assert_eq!(explained(c, &free, &["--no-cache"]), ["--no-cache"; 3]);
    Outcome::Passed
}

fn stages(c: &Context) -> Outcome {
    c.file("a", "1");
    let text = "FROM base AS build\nCOPY a /in\nRUN mkdir /out; cp /in /out/in; echo same >/out/same\nFROM scratch\nCOPY --from=build /out /\nFROM scratch\nCOPY --from=1 /same /\nCOPY --from=build /out/in /\n";
    c.build(text, &[]).ok();
    c.file("a", "2");
    let ran = c.build(text, &["--explain", "--metadata-file", "m"]).ok();
    let told: Value = serde_json::from_slice(&fs::read(c.path("m")).unwrap()).unwrap();
    let steps = told["lapstrake.steps"].as_array().unwrap();
    let told: Vec<String> = steps
        .iter()
        .map(|step| {
            let text = step["name"].as_str().unwrap().split_once("] ").unwrap().1;
            format!(
                "{} {text}: {}",
                step["result"].as_str().unwrap(),
                step["reason"]
            )
        })
        .collect();
    let expected = [
        r#"miss COPY a /in: {"kind":"file-content","name":"a"}"#,
        r#"miss RUN mkdir /out; cp /in /out/in; echo same >/out/same: {"kind":"step-before","name":"[build 2/3] COPY a /in"}"#,
        r#"miss COPY --from=build /out /: {"kind":"file-content","name":"out/in","place":"--from=build"}"#,
        r#"hit COPY --from=1 /same /: null"#,
        r#"miss COPY --from=build /out/in /: {"kind":"file-content","name":"out/in","place":"--from=build"}"#,
    ];
    assert_eq!(told, expected, "{}", ran.err);
    Outcome::Passed
}

fn mounts(c: &Context) -> Outcome {
    c.file("a", "1");
    let text = "FROM base\nRUN --mount=target=/in cat /in/a\n";
    c.build(text, &[]).ok();
    c.file("b", "2");
    assert_eq!(explained(c, text, &[]), ["b was added in the mount at /in"]);
    assert_eq!(
        explained(c, &text.replace("in cat", "in,rw cat"), &[])[0],
        "the mount at /in changed"
    );
    Outcome::Passed
}

fn edits(c: &Context) -> Outcome {
    let build = |steps: &str| explained(c, &format!("FROM base\n{steps}"), &[]);
    build("RUN echo 1\nRUN echo 2\nRUN echo 3\n");
    assert_eq!(
        build("RUN echo 1\nRUN echo new\nRUN echo 2\nRUN echo 3\n"),
        [
            "it was never built here",
            "a step before it changed: [stage-0 3/5] RUN echo new",
            "a step before it changed: [stage-0 3/5] RUN echo new",
        ]
    );
    assert_eq!(
        build("RUN echo 1\nRUN echo 2\nRUN echo 4\n"),
        ["the command changed: 3 → 4"]
    );
    assert_eq!(
        build("RUN echo 2\nRUN echo 4\n"),
        [
            "a step before it is gone: RUN echo 1",
            "a step before it changed: [stage-0 2/3] RUN echo 2",
        ]
    );
    assert_eq!(
        build("USER root\nRUN echo 2\n"),
        ["USER is new"],
        "of a step that never was with this user"
    );
    assert_eq!(
        build("USER root\nWORKDIR /w\nCOPY --chown=1 Dockerfile /x\nRUN echo 2\n"),
        [
            "it was never built here",
            "it was never built here",
            "a step before it changed: [stage-0 2/4] WORKDIR /w",
        ]
    );
    assert_eq!(
        build("USER root\nWORKDIR /w\nCOPY --chown=2 Dockerfile /x\n"),
        ["--chown changed"]
    );
    assert_eq!(
        build("USER root\nWORKDIR /v\n"),
        ["the directory changed: /w → /v"]
    );
    Outcome::Passed
}

fn lost(c: &Context) -> Outcome {
    let text = "FROM base\nRUN echo 1 >/a\nRUN test ! -e /fail\nRUN echo 3\n";
    let bad = text.replace("echo 3", "false");
    c.build(&bad, &[]).fails(4, &[]);
    let told = c.build(&bad, &["--explain", "--metadata-file", "m"]);
    assert_eq!(reasons(&told), ["it did not succeed the last time"]);
    let told: Value = serde_json::from_slice(&fs::read(c.path("m")).unwrap()).unwrap();
    let last = &told["lapstrake.steps"][2];
    assert_eq!(last["completed"], false, "{told}");
    assert_eq!(
        explained(c, text, &[]),
        ["the command changed: false → echo"]
    );
    // A step that a failed build did not come to is not forgotten.
    c.build(&text.replace("! -e", "-e"), &[]).fails(4, &[]);
    assert_eq!(explained(c, text, &[]), [""; 0]);
    assert_eq!(
        explained(c, &text.replace("echo 3", "echo 4"), &[]),
        ["the command changed: 3 → 4"]
    );
    for entry in fs::read_dir(c.path("store/v1/steps")).unwrap() {
        for step in fs::read_dir(entry.unwrap().path()).unwrap() {
            fs::remove_file(step.unwrap().path()).unwrap();
        }
    }
    assert_eq!(
        explained(c, &text.replace("echo 3", "echo 4"), &[]),
        ["its layer is no longer in the store"; 3]
    );
    c.run(&["prune", "--all", "--force"]).ok();
    c.import();
    assert_eq!(explained(c, text, &[]), ["it was never built here"; 3]);
    Outcome::Passed
}

fn programs(c: &Context) -> Outcome {
    let text = "FROM base\nARG A=1\nARG PASSWORD=x\nRUN echo 1\n";
    let told = |args: &[&str]| -> Value {
        let args = [args, &["-q", "--metadata-file", "m"]].concat();
        c.build(text, &args).ok();
        let told: Value = serde_json::from_slice(&fs::read(c.path("m")).unwrap()).unwrap();
        told["lapstrake.steps"].clone()
    };
    let first = told(&[]);
    assert_eq!(first[0]["result"], "miss");
    assert_eq!(first[0]["reason"]["kind"], "never-built");
    assert_eq!(first[0]["stage"], "stage-0");
    assert!(first[0]["key"].as_str().unwrap().starts_with("sha256:"));
    let second = told(&[]);
    assert_eq!(second[0]["result"], "hit");
    assert_eq!(second[0]["key"], first[0]["key"]);
    assert!(second[0].get("reason").is_none());
    let third = told(&["--build-arg", "A=2"]);
    let expected = serde_json::json!({"kind": "arg", "name": "A", "old": "1", "new": "2"});
    assert_eq!(third[0]["reason"], expected);
    let secret = told(&["--build-arg", "PASSWORD=hidden"]);
    let expected = serde_json::json!({"kind": "arg", "name": "PASSWORD"});
    assert_eq!(secret[0]["reason"], expected);
    Outcome::Passed
}

fn unchanged(c: &Context) -> Outcome {
    use std::os::unix::fs::MetadataExt;
    c.file("a", "1");
    let text = "FROM base AS one\nCOPY a /\nFROM base\nCOPY --from=one /a /b\n";
    let records = || -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for kind in ["runs", "listings"] {
            for entry in fs::read_dir(c.path("store/v1").join(kind)).unwrap() {
                let metadata = entry.unwrap().metadata().unwrap();
                found.push((metadata.ino(), metadata.len()));
            }
        }
        found.sort_unstable();
        found
    };
    c.build(text, &[]).ok();
    let first = records();
    c.build(text, &[]).ok();
    assert_eq!(records(), first);
    // What is no longer spoken of goes.
    for content in ["2", "3", "4", "5", "6"] {
        c.file("a", content);
        c.build(text, &[]).ok();
    }
    assert!(records().len() <= 1 + 2 * 3, "{:?}", records());
    Outcome::Passed
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}")))
        .collect()
}

fn json(c: &Context) -> Outcome {
    let text = "FROM base\nRUN echo said; echo again >&2\nCMD x\n";
    let args = ["--progress", "rawjson", "-t", "named"];
    let told = lines(&c.build(text, &args).ok());
    assert_eq!(told[0]["event"], "begin");
    assert_eq!(told[0]["schema"], "lapstrake.progress.v1");
    let of = |told: &[Value], event: &str| -> Vec<Value> {
        let all = told.iter().filter(|line| line["event"] == event);
        all.cloned().collect()
    };
    let run = |line: &Value| line["name"].as_str().unwrap().contains("RUN echo said");
    let id = of(&told, "start").iter().find(|l| run(l)).unwrap()["id"].clone();
    let mine = |event: &str| -> Vec<Value> {
        let all = of(&told, event).into_iter();
        all.filter(|line| line["id"] == id).collect()
    };
    let said: Vec<_> = mine("output").iter().map(|l| l["line"].clone()).collect();
    assert_eq!(said, ["said", "again"]);
    assert_eq!(mine("miss")[0]["reason"]["kind"], "never-built");
    assert_eq!(mine("finish")[0]["cached"], false);
    assert_eq!(mine("finish")[0]["outcome"], "done");
    // JSONArgsRecommended
    assert_eq!(of(&told, "check").len(), 1, "{told:?}");
    let result = told.last().unwrap();
    assert_eq!(result["event"], "result");
    assert_eq!(result["ok"], true);
    assert_eq!(
        result["result"]["image.name"],
        "docker.io/library/named:latest"
    );
    let again = lines(&c.build(text, &args).ok());
    assert!(of(&again, "miss").is_empty());
    assert_eq!(of(&again, "finish")[1]["cached"], true);
    let failing = text.replace("echo said", "exit 7");
    let failed = lines(&c.build(&failing, &args).fails(4, &[]));
    let error = &failed.last().unwrap()["error"];
    assert_eq!(error["class"], "run");
    assert_eq!(error["status"], 7);
    let wrong = lines(&c.build("FROM\n", &args).fails(3, &[]));
    assert_eq!(wrong.last().unwrap()["error"]["class"], "dockerfile");
    Outcome::Passed
}

fn records(c: &Context) -> Outcome {
    c.file("src/a", "a");
    let value = "API_KEY=value-of-a-key";
    c.build(DOCKERFILE, &["--build-arg", value]).ok();
    let told = explained(c, DOCKERFILE, &["--build-arg", "API_KEY=another"]);
    assert_eq!(told[0], "ARG API_KEY changed", "{told:?}");
    for dir in ["runs", "steps"] {
        let found = c
            .tool("/bin/grep".as_ref())
            .args(["-rl", "value-of-a-key"])
            .arg(c.path("store/v1").join(dir))
            .output();
        let found = String::from_utf8(found.unwrap().stdout).unwrap();
        assert!(found.is_empty(), "{found}");
    }
    Outcome::Passed
}

fn kinds(c: &Context) -> Outcome {
    let text = "FROM base\nRUN true\n";
    c.build(text, &["--progress", "tty"])
        .fails(2, &["--progress tty is not supported"]);
    c.build(text, &["--progress", "x"]).fails(2, &["rawjson"]);
    for quiet in ["quiet", "none"] {
        let ran = c.build(text, &["--progress", quiet]).ok();
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert!(ran.err.starts_with("built sha256:"));
    }
    c.build(text, &["--explain", "-q"])
        .fails(2, &["--explain and a quiet build exclude each other"]);
    assert_eq!(c.build(text, &["--progress", "auto"]).ok().cached(), 1);
    let with = |kind: &str, args: &[&str]| {
        let args = [&["build"], args, &["context"]].concat();
        let mut command = c.command(&args);
        ran(command.env("BUILDKIT_PROGRESS", kind))
    };
    assert_eq!(lines(&with("rawjson", &[]).ok())[0]["event"], "begin");
    assert_eq!(with("rawjson", &["--progress", "plain"]).ok().cached(), 1);
    with("tty", &[]).fails(2, &["BUILDKIT_PROGRESS=tty"]);
    Outcome::Passed
}
