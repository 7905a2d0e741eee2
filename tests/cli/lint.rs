//! Checks, outlines, targets, and Dockerfiles as JSON: what is said without building, and what a
//! build says besides.

use std::fs;

use serde_json::Value;

use crate::Case;
use crate::support::{Context, Outcome, Ran};

pub const CASES: &[Case] = &[
    ("check_tells_and_builds_nothing", check),
    ("check_in_formats_for_programs", formats),
    ("check_of_a_wrong_dockerfile", wrong),
    ("check_of_many_files", many),
    ("outline_and_targets", questions),
    ("a_build_tells_what_its_checks_found", build),
    ("checks_that_are_errors_end_a_build_first", fatal),
    ("parse_shows_a_dockerfile", parse),
];

const SLOPPY: &str = "FROM base as b\nCOPY secret /\nCMD true\n";

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}", ran.out))
}

#[track_caller]
fn shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

fn rules(warnings: &Value) -> Vec<&str> {
    let all = warnings.as_array().unwrap().iter();
    all.map(|warning| warning["ruleName"].as_str().unwrap())
        .collect()
}

fn check(c: &Context) -> Outcome {
    c.file(".dockerignore", "secret\n");
    c.file("Dockerfile", SLOPPY);
    let ran = c.run(&["build", "--check", "context"]).fails(1, &[]);
    shows(
        &ran.out,
        &[
            "FromAsCasing",
            "context/Dockerfile:1:1",
            "CopyIgnoredFile",
            "JSONArgsRecommended",
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
            "checked context/Dockerfile: 3 warnings",
        ],
    );
    assert!(!c.path("store").exists(), "a store was made");
    let skipped = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"];
    let mut args = vec!["build", "--call=check", "context"];
    args.extend(skipped);
    shows(&c.run(&args).ok().out, &["no warnings"]);
    c.run(&["build", "--call=check,ignorestatus=true", "context"])
        .ok();
    c.run(&["build", "--call=explain", "context"])
        .fails(2, &["explain", "outline"]);
    c.run(&["build", "--call=check", "--check", "context"])
        .fails(2, &["--call"]);
    let wrong = "BUILDKIT_DOCKERFILE_CHECK=nonsense";
    c.run(&["build", "--check", "--build-arg", wrong, "context"])
        .fails(2, &["BUILDKIT_DOCKERFILE_CHECK", "nonsense"]);
    Outcome::Passed
}

fn formats(c: &Context) -> Outcome {
    c.file("Dockerfile", SLOPPY);
    let ran = c
        .run(&["build", "--call=check,format=json", "context"])
        .fails(1, &[]);
    let told = json(&ran);
    assert_eq!(
        rules(&told["warnings"]),
        ["FromAsCasing", "JSONArgsRecommended"]
    );
    let range = &told["warnings"][1]["location"]["ranges"][0];
    assert_eq!(range["start"]["line"], 3);
    assert_eq!(told["sources"][0]["filename"], "context/Dockerfile");
    let ran = c
        .run(&["build", "--call=check,format=sarif", "context"])
        .fails(1, &[]);
    assert_eq!(
        json(&ran)["runs"][0]["results"][1]["ruleId"],
        "JSONArgsRecommended"
    );
    c.file("Dockerfile", "FROM base\n");
    let clean = json(
        &c.run(&["build", "--call=check,format=json", "context"])
            .ok(),
    );
    assert_eq!(clean["warnings"], Value::Array(Vec::new()));
    Outcome::Passed
}

fn wrong(c: &Context) -> Outcome {
    c.file("Dockerfile", "FROM base\nRNU x\n");
    c.run(&["build", "--check", "context"])
        .fails(3, &["Dockerfile:2:1", "RNU"]);
    let ran = c
        .run(&["build", "--call=check,format=json", "context"])
        .fails(3, &[]);
    let error = &json(&ran)["buildError"];
    shows(
        error["message"].as_str().unwrap(),
        &["RNU", "did you mean RUN?"],
    );
    assert_eq!(error["location"]["ranges"][0]["start"]["line"], 2);
    c.file("Dockerfile", "# check=error=true\nFROM base as x\n");
    let ran = c
        .run(&["build", "--check", "context"])
        .fails(3, &["FromAsCasing"]);
    shows(&ran.out, &["1 warning, 1 error"]);
    c.file("Dockerfile", "# check=nope=1\nFROM base\n");
    c.run(&["build", "--check", "context"])
        .fails(3, &["Dockerfile:1", "nope"]);
    c.build("# check=nope=1\nFROM base\n", &[])
        .fails(3, &["Dockerfile:1", "nope"]);
    Outcome::Passed
}

fn many(c: &Context) -> Outcome {
    c.file("Dockerfile", "FROM base\n");
    c.file("a/Dockerfile.dev", "FROM base as x\n");
    c.file("a/b/c.Dockerfile", "FROM base\nCMD x\n");
    c.file("a/b/Containerfile", "FROM base\nMAINTAINER x\n");
    c.file("a/Dockerfile.dockerignore", "x\n");
    c.file("a/other", "no Dockerfile\n");
    c.file(".git/Dockerfile", "no Dockerfile\n");
    let ran = c.run(&["check", "context"]).fails(1, &[]);
    shows(
        &ran.out,
        &[
            "context/a/Dockerfile.dev:1",
            "context/a/b/c.Dockerfile:2",
            "4 files: 3 warnings",
        ],
    );
    let ran = c
        .run(&["check", "--format=json", "context/a", "context/Dockerfile"])
        .fails(1, &[]);
    let told = json(&ran);
    let expected = [
        "MaintainerDeprecated",
        "JSONArgsRecommended",
        "FromAsCasing",
    ];
    let mut found = rules(&told["warnings"]);
    found.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    for warning in told["warnings"].as_array().unwrap() {
        let index = warning["location"]["sourceIndex"].as_u64().unwrap();
        assert!(told["sources"][usize::try_from(index).unwrap()]["filename"].is_string());
    }
    c.file("a/z.dockerfile", "FORM base\n");
    let ran = c.run(&["check", "--format=sarif", "context"]).fails(3, &[]);
    let results = &json(&ran)["runs"][0]["results"];
    let levels: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["level"])
        .collect();
    assert_eq!(levels.iter().filter(|level| **level == "error").count(), 1);
    let ran = c
        .run(&["check", "context/a", "--format=json"])
        .fails(3, &[]);
    assert_eq!(json(&ran)["buildErrors"].as_array().unwrap().len(), 1);
    c.run(&["check", "context/Dockerfile"]).ok();
    c.run(&["check", "context/none"])
        .fails(2, &["context/none"]);
    fs::create_dir(c.path("empty")).unwrap();
    c.run(&["check", "empty"])
        .fails(2, &["empty holds no Dockerfile"]);
    Outcome::Passed
}

fn questions(c: &Context) -> Outcome {
    let text = "# V is the version\nARG V=1\n# build makes it\nFROM base:$V AS build\nARG OWN\n\
                RUN --mount=type=secret,id=token,required=true true\nFROM base\nARG OTHER\n";
    c.file("Dockerfile", text);
    let ran = c
        .run(&["build", "--call=targets,format=json", "context"])
        .ok();
    let targets = &json(&ran)["targets"];
    assert_eq!(targets[0]["name"], "build");
    assert_eq!(targets[0]["description"], "makes it");
    assert_eq!(targets[1]["default"], true);
    let told = c.run(&["build", "--call=targets", "context"]).ok().out;
    shows(&told, &["build", "makes it", "(default)"]);

    let args = [
        "build",
        "--call=outline,format=json",
        "--target=build",
        "--build-arg=V=2",
    ];
    let ran = c.run(&[&args[..], &["context"]].concat()).ok();
    let outline = json(&ran);
    assert_eq!(outline["name"], "build");
    let args: Vec<_> = outline["args"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&args[0]["name"], &args[0]["value"]),
        (&"V".into(), &"2".into())
    );
    assert_eq!(args[0]["description"], "is the version");
    assert_eq!(args[1]["name"], "OWN");
    assert_eq!(args.len(), 2);
    assert_eq!(outline["secrets"][0]["name"], "token");
    assert_eq!(outline["secrets"][0]["required"], true);
    let told = c
        .run(&["build", "--call=outline", "--target=build", "context"])
        .ok()
        .out;
    shows(&told, &["BUILD ARG", "is the version", "token", "yes"]);
    c.run(&["build", "--call=outline", "--target=none", "context"])
        .fails(3, &["none"]);
    Outcome::Passed
}

fn build(c: &Context) -> Outcome {
    let text = "FROM base as b\nENV A=$NOPE\nCMD true\n";
    let ran = c.build(text, &["--metadata-file=meta.json"]).ok();
    let parts = [
        "3 warnings found:",
        "FromAsCasing",
        "$NOPE is not defined",
        "Dockerfile:3",
    ];
    shows(&ran.err, &parts);
    let meta: Value = serde_json::from_slice(&fs::read(c.path("meta.json")).unwrap()).unwrap();
    let expected = ["FromAsCasing", "UndefinedVar", "JSONArgsRecommended"];
    assert_eq!(rules(&meta["lapstrake.warnings"]), expected);
    // Whether the base sets the variable is known only when it is there.
    let ran = c.run(&["build", "--check", "context"]).fails(1, &[]);
    assert!(!ran.out.contains("UndefinedVar"), "{}", ran.out);
    let quiet = c.run(&["build", "-q", "context"]).ok();
    assert!(!quiet.err.contains("warning"), "{}", quiet.err);
    let failed = c.build(
        "FROM base as b\nRUN false\n",
        &["--metadata-file=meta.json"],
    );
    failed.fails(4, &["1 warning found:", "FromAsCasing"]);
    let meta: Value = serde_json::from_slice(&fs::read(c.path("meta.json")).unwrap()).unwrap();
    assert_eq!(rules(&meta["lapstrake.warnings"]), ["FromAsCasing"]);
    assert_eq!(meta["lapstrake.error"]["class"], "run");
    let other = "# syntax=example/frontend:1\nFROM base\n";
    let ran = c.build(other, &[]).ok();
    shows(&ran.err, &["example/frontend:1", "not executed"]);
    let unused = ["--build-arg=VERSON=1", "--build-arg=http_proxy=x"];
    let ran = c.build("ARG VERSION\nFROM base\n", &unused).ok();
    shows(
        &ran.err,
        &["warning: --build-arg VERSON", "did you mean VERSION?"],
    );
    assert!(!ran.err.contains("http_proxy"), "{}", ran.err);
    assert!(!ran.err.contains("found:"), "{}", ran.err);
    Outcome::Passed
}

fn fatal(c: &Context) -> Outcome {
    let text = "FROM base\nRUN echo executed\nCMD true\n";
    for (head, args) in [
        ("# check=error=true\n", &[][..]),
        (
            "",
            &["--build-arg=BUILDKIT_DOCKERFILE_CHECK=error=true"][..],
        ),
    ] {
        let args = [args, &["--metadata-file=meta.json"]].concat();
        let ran = c
            .build(&format!("{head}{text}"), &args)
            .fails(3, &["JSONArgsRecommended"]);
        assert!(!ran.err.contains("executed\n"), "{}", ran.err);
        assert!(!ran.err.contains("FROM base"), "{}", ran.err);
        let meta: Value = serde_json::from_slice(&fs::read(c.path("meta.json")).unwrap()).unwrap();
        assert_eq!(meta["lapstrake.error"]["exitCode"], 3);
        assert_eq!(rules(&meta["lapstrake.warnings"]), ["JSONArgsRecommended"]);
    }
    // What needs the base is told when the base is there, and before anything is executed.
    let text = "# check=error=true\nFROM base AS a\nRUN echo executed\nFROM base\nUSER $NOPE\nCOPY --from=a / /\n";
    let ran = c
        .build(text, &[])
        .fails(3, &["UndefinedVar", "Dockerfile:5"]);
    assert!(!ran.err.contains(" executed\n"), "{}", ran.err);
    let clean =
        "# check=error=true;skip=JSONArgsRecommended\nFROM base\nRUN echo executed\nCMD true\n";
    let ran = c.build(clean, &[]).ok();
    shows(&ran.err, &[" executed\n"]);
    Outcome::Passed
}

fn parse(c: &Context) -> Outcome {
    let text = "# escape=`\nfrom base `\n  as b\ncopy <<E /x\n# y\nE\n";
    let file = c.file("Dockerfile", text);
    let path = file.to_str().unwrap();
    let ran = c.run(&["parse", path]).ok();
    assert_eq!(
        ran.out,
        "# escape=`\nFROM base   as b\nCOPY <<E /x\n# y\nE\n"
    );
    let told = json(&c.run(&["parse", "--json", path]).ok());
    assert_eq!(told["directives"]["escape"], "`");
    assert_eq!(told["instructions"][0]["arguments"]["name"]["value"], "b");
    assert_eq!(told["instructions"][1]["heredocs"][0]["body"], "# y\n");
    assert_eq!(told["instructions"][1]["span"]["start"]["line"], 4);
    c.file("Dockerfile", "FORM base\n");
    c.run(&["parse", "--json", path])
        .fails(3, &["did you mean FROM?"]);
    c.run(&["parse", "none"]).fails(3, &["none"]);
    c.file("Dockerfile", "// syntax=example/other\nthing {}\n");
    c.run(&["parse", path])
        .fails(3, &["example/other", "only Dockerfiles"]);
    Outcome::Passed
}
