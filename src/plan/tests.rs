//! Tests of planning and evaluation together, by section of the specification.

mod large;
mod stages;
mod variables;

use super::*;
use crate::dockerfile::{Diagnostic, parse};
use crate::image::ImageConfig;

fn plan_with(text: &str, options: &PlanOptions) -> Result<Plan, Vec<Diagnostic>> {
    Plan::new(&parse(text).unwrap(), options)
}

fn options(build_args: &[(&str, &str)], target: Option<&str>) -> PlanOptions {
    let amd64: crate::image::Platform = "linux/amd64".parse().unwrap();
    PlanOptions {
        build_args: build_args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        target: target.map(str::to_owned),
        platform: amd64.clone(),
        platform_explicit: false,
        build_platform: amd64,
        contexts: Vec::new(),
    }
}

fn base(json: &str) -> ImageConfig {
    serde_json::from_str(json).unwrap()
}

/// Evaluates the only stage of `FROM base` + `text`.
fn evaluate(
    text: &str,
    build_args: &[(&str, &str)],
    base: &ImageConfig,
) -> Result<(StageState, Vec<Step>), Diagnostic> {
    let plan = plan_with(&format!("FROM base\n{text}"), &options(build_args, None))
        .map_err(|mut errors| errors.remove(0))?;
    let stage = &plan.stages()[0];
    let mut state = StageState::from_image(&plan, stage, Some(base));
    let mut steps = Vec::new();
    for instruction in state.triggers()?.iter().chain(&stage.instructions) {
        steps.push(state.apply(instruction)?);
    }
    Ok((state, steps))
}

fn plain(text: &str) -> Result<(StageState, Vec<Step>), Diagnostic> {
    evaluate(text, &[], &ImageConfig::default())
}

fn created_by(text: &str) -> Vec<String> {
    let (state, _) = plain(text).unwrap();
    let history = &state.config().history;
    assert!(
        history
            .iter()
            .all(|entry| entry.comment.as_deref() == Some(HISTORY_COMMENT))
    );
    history
        .iter()
        .map(|entry| entry.created_by.clone().unwrap())
        .collect()
}

#[test]
fn s4_argument_values() {
    for (text, given, expected) in [
        ("ARG X\nENV R=${X-d}", None, "d"),
        ("ARG X=\nENV R=${X-d}", None, ""),
        ("ARG X=own\nENV R=$X", None, "own"),
        ("ARG X=own\nENV R=$X", Some("given"), "given"),
        ("ENV R=$X", Some("given"), ""),
        ("ENV X=env\nARG X\nENV R=$X", None, "env"),
        ("ENV X=env\nARG X=own\nENV R=$X", None, "own"),
        ("ARG X=own\nENV X=env\nENV R=$X", Some("given"), "env"),
        ("ARG X=1 Y=${X}2\nENV R=$Y", None, "12"),
        ("ENV X=old\nENV X=new R=$X", None, "old"),
        ("ARG TARGETARCH\nENV R=$TARGETARCH", None, "amd64"),
        ("ENV R=$TARGETARCH", None, ""),
        ("ARG TARGETSTAGE\nENV R=$TARGETSTAGE", None, "default"),
        (
            "ARG BUILDPLATFORM\nENV R=$BUILDPLATFORM",
            None,
            "linux/amd64",
        ),
        (
            "ARG BUILDKIT_SBOM_SCAN_STAGE=1\nENV R=$BUILDKIT_SBOM_SCAN_STAGE",
            None,
            "",
        ),
    ] {
        let args: Vec<_> = given.map(|value| ("X", value)).into_iter().collect();
        let (state, _) = evaluate(text, &args, &ImageConfig::default()).unwrap();
        assert_eq!(state.environment().get("R"), Some(expected), "{text}");
    }
}

#[test]
fn s4_argument_hides_env_from_steps_but_not_in_the_configuration() {
    let (state, _) = plain("ENV X=env\nARG X=arg").unwrap();
    assert_eq!(state.environment().get("X"), Some("arg"));
    assert!(state.config().config.env.contains(&"X=env".to_owned()));
}

#[test]
fn s4_env_keeps_its_place_and_path_is_added() {
    let config = base(r#"{"config":{"Env":["A=1","B=2"]}}"#);
    let (state, _) = evaluate("ENV A=3 C=4", &[], &config).unwrap();
    let path = format!("PATH={DEFAULT_PATH}");
    assert_eq!(state.config().config.env, ["A=3", "B=2", &path, "C=4"]);
    let config = base(r#"{"config":{"Env":["PATH=/x"]}}"#);
    let (state, _) = evaluate("ENV PATH=$PATH:/y", &[], &config).unwrap();
    assert_eq!(state.config().config.env, ["PATH=/x:/y"]);
}

#[test]
fn s4_proxies_in_both_cases() {
    let args = [("http_proxy", "p"), ("NO_PROXY", "n")];
    let (_, steps) = evaluate("RUN x", &args, &ImageConfig::default()).unwrap();
    let StepKind::Run(run) = &steps[0].kind else {
        panic!("no RUN");
    };
    let names: Vec<&str> = run
        .proxy_env
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"]);
    assert_eq!(steps[0].created_by, "RUN /bin/sh -c x # buildkit");
}

#[test]
fn s4_global_arguments_and_the_fallback_of_a_bare_one() {
    let text =
        "ARG V=1\nARG W=${V}.2\nFROM base:$W AS a\nARG V\nARG U\nENV R=$V$W\nFROM ${U:-scratch}";
    let plan = plan_with(text, &options(&[("V", "7")], Some("A"))).unwrap();
    let stage = &plan.stages()[0];
    let Base::Image { reference, .. } = &stage.base else {
        panic!("no image");
    };
    assert_eq!(reference, "base:7.2");
    let mut state = StageState::from_image(&plan, stage, None);
    for instruction in &stage.instructions {
        state.apply(instruction).unwrap();
    }
    assert_eq!(state.environment().get("R"), Some("7"));
    assert_eq!(plan.stage(1).unwrap().base, Base::Scratch);
    assert_eq!(plan.globals().get("TARGETSTAGE"), Some("A"));
}

#[test]
fn s5_references_and_pruning() {
    let text = "FROM a AS one\nFROM b AS Two\nCOPY --from=ONE x y\nFROM two AS three\n\
                COPY --from=0 x y\nCOPY --from=nginx:1 x y\nRUN --mount=from=0,target=/a x\nFROM c";
    let all = |target| plan_with(text, &options(&[], target)).unwrap();
    let indices = |plan: &Plan| {
        plan.stages()
            .iter()
            .map(|stage| stage.index)
            .collect::<Vec<_>>()
    };
    let plan = all(Some("Three"));
    assert_eq!(indices(&plan), [0, 1, 2]);
    let three = plan.stage(2).unwrap();
    assert_eq!(three.base, Base::Stage(1));
    assert_eq!(three.depends_on, [0, 1]);
    assert_eq!(three.images, ["nginx:1", "0"]);
    assert_eq!(indices(&all(None)), [3]);
    assert_eq!(all(None).closure(1), [0, 1]);
    assert!(plan_with(text, &options(&[], Some("1"))).is_err());
}

#[test]
fn s5_names_used_twice() {
    let text = "FROM a AS x\nFROM x AS y\nFROM b AS x\nFROM x\nCOPY --from=x . .";
    let plan = plan_with(text, &options(&[], None)).unwrap();
    assert_eq!(plan.stage(1).unwrap().base, Base::Stage(0));
    assert_eq!(plan.stage(3).unwrap().base, Base::Stage(2));
}

#[test]
fn s5_platforms() {
    let text = "FROM --platform=$BUILDPLATFORM a AS build\nFROM build AS child\nFROM --platform=linux/riscv64 build\nFROM --platform=linux/arm/v7 b";
    let mut asked = options(&[], None);
    asked.platform = "linux/arm64".parse().unwrap();
    asked.platform_explicit = true;
    let plan = plan_with(text, &asked).unwrap();
    let platforms: Vec<String> = (0..4)
        .map(|index| plan.stage(index).unwrap().platform.to_string())
        .collect();
    assert_eq!(
        platforms,
        ["linux/amd64", "linux/amd64", "linux/amd64", "linux/arm/v7"]
    );
    let state = StageState::from_image(&plan, plan.stage(3).unwrap(), None);
    assert_eq!(state.config().architecture, "arm64");
    assert_eq!(state.config().variant, None);
}

#[test]
fn s5_a_child_starts_with_its_parents_state() {
    let text =
        "FROM a AS p\nENV E=1\nARG A=2\nWORKDIR /w\nUSER u\nSHELL [\"sh\"]\nONBUILD RUN t\nFROM p";
    let plan = plan_with(text, &options(&[], None)).unwrap();
    let mut parent =
        StageState::from_image(&plan, &plan.stages()[0], Some(&ImageConfig::default()));
    for instruction in &plan.stages()[0].instructions {
        parent.apply(instruction).unwrap();
    }
    assert_eq!(parent.config().config.on_build, ["RUN t"]);
    let mut child = StageState::from_stage(&plan, &plan.stages()[1], &parent);
    assert!(child.config().config.on_build.is_empty());
    let triggers = child.triggers().unwrap();
    let step = child.apply(&triggers[0]).unwrap();
    let StepKind::Run(run) = step.kind else {
        panic!("no RUN");
    };
    assert_eq!(run.argv, ["sh", "t"]);
    assert_eq!((run.cwd.as_str(), run.user.as_str()), ("/w", "u"));
    assert!(run.env.contains(&("A".into(), "2".into())));
    assert_eq!(step.created_by, "RUN |1 A=2 sh t # buildkit");
}

#[test]
fn s5_named_contexts_replace_stages_and_images() {
    let text = "FROM golang AS build\nRUN --mount=from=tools,target=/t x\nFROM build AS child\n\
                COPY --from=assets / /a\nCOPY --from=scratch / /s\nCOPY --from=0 / /b\nFROM alpine:3";
    let named = |name: &str, kind| NamedContext {
        name: context_name(name),
        platform: None,
        kind,
    };
    let mut asked = options(&[], Some("child"));
    asked.contexts = vec![
        named("assets", ContextKind::Files(3)),
        named("docker.io/library/alpine:3", ContextKind::Files(4)),
        named("scratch", ContextKind::Files(5)),
        named("golang", ContextKind::Image("other:1".into())),
        named("tools", ContextKind::Image("oci-layout://d:t".into())),
    ];
    let plan = plan_with(text, &asked).unwrap();
    let image = |reference: &str| Base::Image {
        reference: reference.to_owned(),
        platform: asked.platform.clone(),
    };
    let build = plan.stage(0).unwrap();
    assert_eq!((&build.base, build.replaced), (&image("other:1"), false));
    assert_eq!(build.images, ["oci-layout://d:t"]);
    assert_eq!(plan.stage(2).unwrap().base, Base::Files(4));
    let child = plan.stage(1).unwrap();
    assert_eq!(child.base, Base::Stage(0));
    let sources: Vec<&Source> = child.references.iter().map(|(source, _)| source).collect();
    assert_eq!(
        sources,
        [&Source::Files(3), &Source::Scratch, &Source::Stage(0)]
    );

    // In the place of a stage, whatever that would have needed.
    asked.contexts = vec![named("build", ContextKind::Image("done".into()))];
    let plan = plan_with(text, &asked).unwrap();
    let build = plan.stage(0).unwrap();
    assert_eq!((&build.base, build.replaced), (&image("done"), true));
    assert!(build.instructions.is_empty() && build.images.is_empty());
    // Its triggers are for the stages on top of it.
    let config = base(r#"{"config":{"OnBuild":["RUN t"]}}"#);
    let state = StageState::from_image(&plan, build, Some(&config));
    assert!(state.triggers().unwrap().is_empty());
    let child = StageState::from_stage(&plan, plan.stage(1).unwrap(), &state);
    assert_eq!(child.triggers().unwrap().len(), 1);
}

#[test]
fn s10_workdir() {
    for (text, expected) in [
        ("WORKDIR /tmp/", "/tmp/"),
        ("WORKDIR a\nWORKDIR ../b/.", "/b"),
        ("WORKDIR /a\nWORKDIR $NONE", "/a"),
        ("WORKDIR /x/../y/", "/x/../y/"),
    ] {
        let (state, _) = plain(text).unwrap();
        assert_eq!(state.config().config.working_dir, expected, "{text}");
    }
    let (_, steps) = plain("WORKDIR /\nUSER me:g\nWORKDIR /a//b").unwrap();
    assert!(steps[0].empty_layer && steps[0].kind == StepKind::Config);
    let (path, user) = ("/a/b".to_owned(), "me:g".to_owned());
    assert_eq!(steps[2].kind, StepKind::Workdir { path, user });
}

#[test]
fn s10_cmd_and_entrypoint() {
    let config = base(r#"{"config":{"Cmd":["old"],"Shell":["bash","-c"]}}"#);
    let run = |text: &str| evaluate(text, &[], &config).unwrap().0.into_config().config;
    assert_eq!(run("ENTRYPOINT [\"e\"]").cmd, None);
    assert_eq!(run("CMD [\"c\"]\nENTRYPOINT e").cmd, Some(vec!["c".into()]));
    let shell = run("CMD c\nSHELL [\"sh\"]\nENTRYPOINT e");
    assert_eq!(
        shell.cmd,
        Some(vec!["bash".into(), "-c".into(), "c".into()])
    );
    assert_eq!(shell.entrypoint, Some(vec!["sh".into(), "e".into()]));
    assert_eq!(run("CMD []").cmd, None);
    assert_eq!(run("USER x").cmd, Some(vec!["old".into()]));
}

#[test]
fn s10_wrong_values() {
    for (text, expected) in [
        ("STOPSIGNAL TREM", "did you mean SIGTERM?"),
        ("EXPOSE a", "is no port"),
        ("VOLUME $NONE", "empty path"),
        ("COPY --chmod=10000 a b", "at most 07777"),
        ("COPY http://h/x y", "cannot fetch"),
        ("ADD --checksum=sha256:0 a b", "not a local one"),
        ("ADD --checksum=sha256:0 http://a/ b c", "one source only"),
        ("ADD --checksum=sha256:0 http://a/ b", "hexadecimal digits"),
        ("ADD --checksum=md5:0 http://a/ b", "sha256:, sha384:"),
        ("ADD --checksum=xyz git@h:x b", "is no commit"),
        ("ADD git@h:x#-u b", "no name of a branch"),
        (
            "ADD --keep-git-dir=false git@h:x?keep-git-dir=1 b",
            "the URL another",
        ),
        ("RUN --mount=target=$NONE/ x", "must not be /"),
        ("ENV A=${B", "cannot expand"),
    ] {
        let error = plain(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn s7_sources_of_add() {
    let text = "ADD a https://h/x.tar https://h/r.git#main git@h:r github.com/x /d";
    let (_, steps) = plain(text).unwrap();
    let StepKind::Add(add) = &steps[0].kind else {
        panic!("no ADD");
    };
    assert_eq!(
        add.sources,
        [
            AddSource::Local("a".into()),
            AddSource::Http("https://h/x.tar".into()),
            AddSource::Git(Box::new(GitUrl::parse("https://h/r.git#main").unwrap())),
            AddSource::Git(Box::new(GitUrl::parse("git@h:r").unwrap())),
            AddSource::Local("github.com/x".into()),
        ]
    );
}

#[test]
fn s11_history() {
    for (text, expected) in [
        (
            "ADD https://u:secret@h/x /",
            "ADD https://***@h/x / # buildkit",
        ),
        ("ENV A=1 B='x y'", "ENV A=1 B=x y"),
        ("LABEL \"a b\"=c", "LABEL a b=c"),
        ("EXPOSE 90 80/UDP", "EXPOSE [80/udp 90/tcp]"),
        ("VOLUME /a /b", "VOLUME [/a /b]"),
        (
            "CMD echo \"hi\"",
            "CMD [\"/bin/sh\" \"-c\" \"echo \\\"hi\\\"\"]",
        ),
        ("RUN [\"a\", \"b c\"]", "RUN a b c # buildkit"),
        (
            "COPY --link --parents --chmod=1 --chown=a b c",
            "COPY --parents --chown=a --chmod=1 b c # buildkit",
        ),
        ("ADD a b/", "ADD a b/ # buildkit"),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
        ("STOPSIGNAL 9", "STOPSIGNAL 9"),
        ("ARG A B=1", "ARG A B=1"),
    ] {
        assert_eq!(created_by(text), [expected], "{text}");
    }
    assert!(created_by("ONBUILD RUN x").is_empty());
    assert_eq!(
        created_by("ARG A\nARG A=2\nRUN x")[2],
        "RUN |1 A=2 /bin/sh -c x # buildkit"
    );
}

#[test]
fn s9_names_of_cache_mounts() {
    let id = |mount: &str, args: &[(&str, &str)]| {
        let text = format!("WORKDIR /w\nRUN --mount=type=cache,{mount} x");
        let (_, steps) = evaluate(&text, args, &ImageConfig::default()).unwrap();
        let StepKind::Run(run) = steps[1].kind.clone() else {
            panic!("{steps:?}");
        };
        match run.mounts[0].kind.clone() {
            RunMountKind::Cache { id, .. } => id,
            other => panic!("{other:?}"),
        }
    };
    let namespace = [("BUILDKIT_CACHE_MOUNT_NS", "team")];
    for (mount, args, expected) in [
        ("target=/c/../d/", &[][..], "/d"),
        ("target=c", &[], "/w/c"),
        ("target=/c,id=go", &[], "go"),
        ("target=/c,id=go", &namespace, "team/go"),
        ("target=/c", &namespace, "team//c"),
        ("target=/c", &[("BUILDKIT_CACHE_MOUNT_NS", "")], "/c"),
    ] {
        assert_eq!(id(mount, args), expected, "{mount}");
    }
}

#[test]
fn s10_triggers_of_an_image_name_their_own_text_in_errors() {
    let config = base(r#"{"config":{"OnBuild":["ENV A=1","COPY ${x^} /d"]}}"#);
    let error = evaluate("RUN x", &[], &config).unwrap_err();
    assert_eq!(error.trigger.as_deref(), Some("COPY ${x^} /d"));
    assert_eq!(error.span().unwrap().range(), 5..10);
    let config = base(r#"{"config":{"OnBuild":["COPY --from=gone a b"]}}"#);
    let (state, steps) = evaluate("", &[], &config).unwrap();
    assert!(
        matches!(&steps[0].kind, StepKind::Copy(copy) if copy.from == Source::Image("gone".into()))
    );
    assert!(state.config().config.on_build.is_empty());
}

#[test]
fn cli_labels_come_last() {
    let (mut state, _) = plain("LABEL a=1 b=2").unwrap();
    state.apply_labels(&[("a".into(), "3".into())]);
    let labels: Vec<_> = state.config().config.labels.iter().collect();
    assert_eq!(
        labels,
        [(&"a".into(), &"3".into()), (&"b".into(), &"2".into())]
    );
}
