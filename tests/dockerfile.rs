//! Golden tests: `tests/dockerfile/NAME/{Dockerfile,expected}` is planned and every needed stage
//! evaluated (each image stands for an empty one), and checked; `tests/dockerfile/negative/NAME` must
//! fail with the rendered diagnostics. `UPDATE_EXPECTED=1` rewrites what is expected.
//!
//! Beside the Dockerfile may lie `args`: one `name=value` a line, `--target=NAME` among them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lapstrake::dockerfile::{Diagnostic, parse, render};
use lapstrake::image::{ImageConfig, Platform};
use lapstrake::lint::{Request, check};
use lapstrake::plan::{Base, Plan, PlanOptions, StageState, StepKind};

fn folders(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", root.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("Dockerfile").is_file())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no cases in {}", root.display());
    found
}

fn options(folder: &Path) -> PlanOptions {
    let amd64: Platform = "linux/amd64".parse().unwrap();
    let mut options = PlanOptions {
        platform: amd64.clone(),
        build_platform: amd64,
        ..PlanOptions::default()
    };
    let args = std::fs::read_to_string(folder.join("args")).unwrap_or_default();
    for line in args.lines() {
        match line.split_once('=').unwrap() {
            ("--target", name) => options.target = Some(name.into()),
            (name, value) => options.build_args.push((name.into(), value.into())),
        }
    }
    options
}

fn evaluate(text: &str, options: &PlanOptions) -> Result<String, Vec<Diagnostic>> {
    let plan = Plan::new(&parse(text)?, options)?;
    let mut out = String::new();
    let mut done: BTreeMap<usize, StageState> = BTreeMap::new();
    for stage in plan.stages() {
        writeln!(out, "stage {} {:?}", stage.index, stage.base).unwrap();
        let empty = ImageConfig {
            os: stage.platform.os.clone(),
            architecture: stage.platform.arch.clone(),
            ..ImageConfig::default()
        };
        let mut state = match &stage.base {
            Base::Scratch | Base::Files(_) => StageState::from_image(&plan, stage, None),
            Base::Image { .. } => StageState::from_image(&plan, stage, Some(&empty)),
            Base::Stage(index) => StageState::from_stage(&plan, stage, &done[index]),
        };
        let triggers = state.triggers().map_err(|error| vec![error])?;
        for instruction in triggers.iter().chain(&stage.instructions) {
            let step = state.apply(instruction).map_err(|error| vec![error])?;
            writeln!(out, "  {:?}", step.created_by).unwrap();
            match step.kind {
                StepKind::Config => {}
                kind => writeln!(out, "    {kind:?}").unwrap(),
            }
        }
        if stage.index == plan.target() {
            let json = serde_json::to_string_pretty(&state.config().config).unwrap();
            writeln!(out, "config {json}").unwrap();
        }
        done.insert(stage.index, state);
    }
    let dockerfile = parse(text)?;
    let request = Request {
        dockerfile: &dockerfile,
        options,
        plan: Some(&plan),
        all_stages: false,
        ignore: None,
        bases: &|_, _| None,
    };
    for finding in check(&request).map_err(|error| vec![error])?.findings {
        writeln!(
            out,
            "{}",
            render(&finding.diagnostic(), "Dockerfile", text, false)
        )
        .unwrap();
    }
    for name in plan.unused_build_args() {
        writeln!(out, "unused build argument {name}").unwrap();
    }
    Ok(out)
}

fn compare(folder: &Path, found: &str) -> Option<String> {
    let path = folder.join("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, found).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    (expected != found).then(|| {
        format!(
            "{}\nexpected:\n{expected}\nfound:\n{found}",
            folder.display()
        )
    })
}

#[test]
fn goldens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dockerfile");
    let wrong: Vec<String> = folders(&root)
        .iter()
        .filter_map(|folder| {
            let text = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
            match evaluate(&text, &options(folder)) {
                Ok(found) => compare(folder, &found),
                Err(errors) => Some(format!("{}: {errors:?}", folder.display())),
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn negative_folders() -> Vec<PathBuf> {
    folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dockerfile/negative"))
}

#[test]
fn negative_goldens() {
    let cases = negative_folders();
    assert!(cases.len() > 60, "{} cases", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|folder| {
            let text = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
            match evaluate(&text, &options(folder)) {
                Ok(_) => Some(format!("{}: no error", folder.display())),
                Err(errors) => {
                    let shown = errors
                        .iter()
                        .map(|error| render(error, "Dockerfile", &text, false));
                    compare(folder, &shown.map(|text| text + "\n").collect::<String>())
                }
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What needs no base to be found out is told by the program with status 3, before it opens a store
/// or a sandbox; and again without colours, since nobody reads them here.
#[test]
fn the_program_tells_the_same() {
    let home = tempfile::tempdir().unwrap();
    let mut told = 0;
    for folder in negative_folders() {
        let text = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
        let options = options(&folder);
        let planned = parse(&text).and_then(|file| Plan::new(&file, &options));
        if planned.is_ok() {
            continue;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_lapstrake"));
        command
            .current_dir(&folder)
            .env_clear()
            .env("HOME", home.path());
        command.args(["build", "-f", "Dockerfile", "."]);
        for (name, value) in &options.build_args {
            command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        if let Some(target) = &options.target {
            command.arg("--target").arg(target);
        }
        let done = command.stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(
            done.status.code(),
            Some(3),
            "{}: {stderr}",
            folder.display()
        );
        assert!(done.stdout.is_empty(), "{}", folder.display());
        let expected = std::fs::read_to_string(folder.join("expected")).unwrap();
        let bare = |text: &str| {
            text.lines()
                .filter(|line| !line.is_empty())
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(bare(&stderr), bare(&expected), "{}", folder.display());
        told += 1;
    }
    assert!(told > 60, "{told} cases");
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        0,
        "nothing was written"
    );
}
