//! S3 and S4, statement by statement: what is expanded where, and which value it gets.

use super::*;
use crate::dockerfile::Instruction;

/// The variable `R` after `FROM base` + `text`.
fn result(text: &str, build_args: &[(&str, &str)], base: &ImageConfig) -> Option<String> {
    let (state, _) = evaluate(text, build_args, base).unwrap_or_else(|e| panic!("{text}: {e}"));
    state.environment().get("R").map(str::to_owned)
}

/// Instructions, build arguments, and the variable `R` after them.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);

fn check(cases: &[Case<'_>]) {
    for (text, build_args, expected) in cases {
        let found = result(text, build_args, &ImageConfig::default());
        assert_eq!(found.as_deref(), *expected, "{text} with {build_args:?}");
    }
}

/// Plans `text` and evaluates the stages that its target needs, in order.
fn states(text: &str, asked: &PlanOptions) -> Vec<StageState> {
    let plan = plan_with(text, asked).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let mut done: Vec<(usize, StageState)> = Vec::new();
    for stage in plan.stages() {
        let mut state = match &stage.base {
            Base::Stage(index) => {
                let parent = done.iter().find(|(done, _)| done == index);
                StageState::from_stage(&plan, stage, &parent.unwrap().1)
            }
            _ => StageState::from_image(&plan, stage, Some(&ImageConfig::default())),
        };
        let triggers: Vec<Instruction> = state.triggers().unwrap();
        for instruction in triggers.iter().chain(&stage.instructions) {
            state.apply(instruction).unwrap();
        }
        done.push((stage.index, state));
    }
    done.into_iter().map(|(_, state)| state).collect()
}

fn last(text: &str, build_args: &[(&str, &str)]) -> StageState {
    states(text, &options(build_args, None)).pop().unwrap()
}

#[test]
fn s3_unset_is_empty() {
    check(&[
        ("ENV R=a${NO}b$NO", &[], Some("ab")),
        ("ENV R=$NO", &[], Some("")),
        ("ENV R=\"$NO\"", &[], Some("")),
    ]);
}

#[test]
fn s3_from_sees_global_arguments_only() {
    let text = "ARG T=1 A=arm64\nFROM --platform=linux/$A base:$T AS one\nARG T=2\nENV T=3\n\
                FROM base:$T";
    let plan = plan_with(text, &options(&[], Some("one"))).unwrap();
    let bases: Vec<String> = (0..2)
        .map(|index| match &plan.stage(index).unwrap().base {
            Base::Image {
                reference,
                platform,
            } => format!("{reference} {platform}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bases, ["base:1 linux/arm64", "base:1 linux/amd64"]);
}

#[test]
fn s3_keys_and_values_of_env_and_label() {
    let (state, _) = plain("ENV A=b\nENV $A=1 R=${A}c\nLABEL l.$A=\"x $A\" '$A'=q").unwrap();
    assert_eq!(state.environment().get("b"), Some("1"));
    assert_eq!(state.environment().get("R"), Some("bc"));
    let labels = &state.config().config.labels;
    assert_eq!(labels["l.b"], "x b");
    assert_eq!(labels["$A"], "q");
}

#[test]
fn s3_the_legacy_form_of_env_and_label() {
    let (state, _) = plain("ENV A b\nENV R  x $A  y\nLABEL l \"$A\" c").unwrap();
    assert_eq!(state.environment().get("R"), Some("x b  y"));
    assert_eq!(state.config().config.labels["l"], "b c");
}

#[test]
fn s3_names_and_defaults_of_arg_see_the_items_before() {
    check(&[
        ("ARG N=R\nARG $N=v", &[], Some("v")),
        ("ARG A=1 B=${A}2 R=$B", &[], Some("12")),
        ("ARG R=$A A=1", &[], Some("")),
    ]);
}

#[test]
fn s3_what_copy_and_add_expand() {
    let sum = format!("sha256:{:064}", 0);
    let text = format!(
        "ENV A=a M=0600 C={sum} E=*.md\n\
                COPY --chown=$A:$A --chmod=$M --exclude=$E $A/x '$A' /$A/\n\
                ADD --checksum=$C --chown=${{A}}2 https://h/$A /$A"
    );
    let (_, steps) = plain(&text).unwrap();
    let StepKind::Copy(copy) = &steps[1].kind else {
        panic!("no COPY");
    };
    assert_eq!(copy.sources, ["a/x", "$A"]);
    assert_eq!(copy.dest, "/a/");
    assert_eq!(copy.chown.as_deref(), Some("a:a"));
    assert_eq!(copy.chmod.as_deref(), Some("0600"));
    assert_eq!(copy.exclude, ["$E"], "--exclude is not expanded");
    let StepKind::Add(add) = &steps[2].kind else {
        panic!("no ADD");
    };
    assert_eq!(add.sources, [AddSource::Http("https://h/a".into())]);
    assert_eq!(add.checksum, Some(sum));
    assert_eq!(add.chown.as_deref(), Some("a2"));
}

#[test]
fn s3_flags_that_must_not_hold_a_variable() {
    for flag in ["--from=$A", "--link=$A", "--parents=$A", "--from=a${A}"] {
        let text = format!("FROM base\nCOPY {flag} a b");
        assert!(parse(&text).is_err(), "{flag}");
    }
    for flag in ["--unpack=$A", "--keep-git-dir=$A"] {
        let text = format!("FROM base\nADD {flag} a b");
        assert!(parse(&text).is_err(), "{flag}");
    }
    assert!(parse("FROM base\nRUN --mount=from=$A,target=/x y").is_err());
}

#[test]
fn s3_values_of_mounts_are_expanded() {
    let text = "ENV A=a\nRUN --mount=type=cache,id=i$A,target=/c/${A},sharing=locked x";
    let (_, steps) = plain(text).unwrap();
    let StepKind::Run(run) = &steps[1].kind else {
        panic!("no RUN");
    };
    assert_eq!(run.mounts[0].target.as_deref(), Some("/c/a"));
    assert!(matches!(&run.mounts[0].kind, RunMountKind::Cache { id, .. } if id == "ia"));
}

#[test]
fn s3_commands_are_not_expanded() {
    let text = "ENV A=a\nRUN $A\nCMD $A\nENTRYPOINT [\"$A\"]\nSHELL [\"$A\"]\n\
                HEALTHCHECK CMD $A\nMAINTAINER $A\nRUN <<EOF\n$A\nEOF";
    let (state, steps) = plain(text).unwrap();
    let argv = |index: usize| match &steps[index].kind {
        StepKind::Run(run) => run.argv.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(argv(1), ["/bin/sh", "-c", "$A"]);
    assert_eq!(argv(7), ["$A", "$A\n"]);
    let config = &state.config().config;
    assert_eq!(config.entrypoint.as_deref(), Some(&["$A".to_owned()][..]));
    assert_eq!(
        config.healthcheck.as_ref().unwrap().test,
        ["CMD-SHELL", "$A"]
    );
    assert_eq!(state.config().author.as_deref(), Some("$A"));
}

#[test]
fn s3_what_configuration_instructions_expand() {
    let text = "ENV A=a S=TERM P=80\nUSER $A:${A}b\nWORKDIR /$A\nVOLUME /$A [\"x\"]\n\
                VOLUME [\"/v$A\"]\nSTOPSIGNAL SIG$S\nEXPOSE $P/udp";
    let (state, _) = plain(text).unwrap();
    let config = &state.config().config;
    assert_eq!(
        (config.user.as_str(), config.working_dir.as_str()),
        ("a:ab", "/a")
    );
    let volumes: Vec<&String> = config.volumes.keys().collect();
    assert_eq!(volumes, ["/a", "/va", "[x]"]);
    assert_eq!(config.stop_signal.as_deref(), Some("SIGTERM"));
    assert!(config.exposed_ports.contains_key("80/udp"));
}

#[test]
fn s3_expose_splits_what_a_variable_holds() {
    let (state, _) = plain("ENV P=\"80 81\"\nEXPOSE $P 82").unwrap();
    let ports: Vec<&String> = state.config().config.exposed_ports.keys().collect();
    assert_eq!(ports, ["80/tcp", "81/tcp", "82/tcp"]);
    assert!(plain("ENV P=\"80 81\"\nEXPOSE \"$P\"").is_err());
}

#[test]
fn s3_onbuild_is_stored_raw_and_expanded_when_replayed() {
    let text = "FROM base AS p\nENV A=parent\nONBUILD ENV R=$A.$B\nFROM p\nENV A=child";
    let all = states(text, &options(&[], None));
    assert_eq!(all[0].config().config.on_build, ["ENV R=$A.$B"]);
    assert_eq!(all[1].environment().get("R"), Some("parent."));
}

#[test]
fn s3_an_instruction_sees_the_environment_before_it() {
    check(&[
        ("ENV A=old\nENV A=new R=$A", &[], Some("old")),
        ("ENV A=old\nENV A=new\nENV R=$A", &[], Some("new")),
        ("ENV R=$R.a\nENV R=$R.b", &[], Some(".a.b")),
    ]);
}

#[test]
fn s3_the_escape_directive_also_holds_in_words() {
    let state = last(
        "# escape=`\nFROM base\nENV A=1\nENV R=c:\\`$A`\"\\\"$A`\"\"",
        &[],
    );
    assert_eq!(state.environment().get("R"), Some("c:\\$A\"\\1\""));
}

#[test]
fn s4_global_arguments_are_evaluated_in_order() {
    for (text, given, expected) in [
        ("ARG A=1\nARG B=$A.2\nFROM base:$B", None, "base:1.2"),
        ("ARG B=$A.2\nARG A=1\nFROM base:$B$A", None, "base:.21"),
        ("ARG A=1\nARG B=$A.2\nFROM base:$B", Some("7"), "base:7.2"),
        ("ARG A=1\nARG A=2\nFROM base:$A", None, "base:2"),
        ("ARG A\nFROM base:${A-none}", None, "base:none"),
        ("ARG A=\nFROM base:v${A-none}", None, "base:v"),
        ("ARG N=$TARGETARCH\nFROM base:$N", None, "base:amd64"),
    ] {
        let args: Vec<_> = given.map(|value| ("A", value)).into_iter().collect();
        let plan = plan_with(text, &options(&args, None)).unwrap();
        let Base::Image { reference, .. } = &plan.stages()[0].base else {
            panic!("{text}");
        };
        assert_eq!(reference, expected, "{text} with {given:?}");
    }
}

#[test]
fn s4_global_arguments_are_only_a_fallback_in_stages() {
    for (text, expected) in [
        ("ARG V=g\nFROM base\nENV R=$V", ""),
        ("ARG V=g\nFROM base\nARG V\nENV R=$V", "g"),
        ("ARG V=g\nFROM base\nARG V=own\nENV R=$V", "own"),
        ("ARG V=g\nFROM base\nARG V=\nENV R=${V-unset}", ""),
        ("ARG V\nFROM base\nARG V\nENV R=${V-unset}", "unset"),
    ] {
        assert_eq!(
            last(text, &[]).environment().get("R"),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn s4_an_argument_without_value_sets_nothing() {
    check(&[
        ("ARG X\nENV R=${X-d}", &[], Some("d")),
        ("ENV X=env\nARG X\nENV R=$X", &[], Some("env")),
        ("ARG X=1\nARG X\nENV R=$X", &[], Some("1")),
    ]);
}

#[test]
fn s4_a_later_env_replaces_the_argument_in_both() {
    let (state, _) = plain("ARG X=arg\nENV X=env").unwrap();
    assert_eq!(state.environment().get("X"), Some("env"));
    assert!(state.config().config.env.contains(&"X=env".to_owned()));
}

#[test]
fn s4_an_argument_beats_the_env_of_the_base() {
    let config = base(r#"{"config":{"Env":["X=base"]}}"#);
    let (state, steps) = evaluate("ARG X=arg\nRUN x", &[], &config).unwrap();
    let StepKind::Run(run) = &steps[1].kind else {
        panic!("no RUN");
    };
    assert!(
        run.env.contains(&("X".into(), "arg".into())),
        "{:?}",
        run.env
    );
    assert_eq!(state.config().config.env[0], "X=base");
}

#[test]
fn s4_scope_is_the_stage_and_those_built_on_it() {
    let text = "FROM base AS a\nARG X=1\nFROM a AS child\nENV R=$X\nFROM base AS sibling\n\
                COPY --from=a / /\nENV R=$X\nFROM sibling\nCOPY --from=child / /";
    let found: Vec<Option<String>> = states(text, &options(&[], None))
        .iter()
        .map(|state| state.environment().get("R").map(str::to_owned))
        .collect();
    let expected = [None, Some("1"), Some(""), Some("")].map(|value| value.map(str::to_owned));
    assert_eq!(found, expected);
}

#[test]
fn s4_an_undeclared_build_argument_has_no_effect() {
    let given = [("X", "given")];
    check(&[("ENV R=${X-unset}", &given, Some("unset"))]);
    let (_, with) = evaluate("RUN x", &given, &ImageConfig::default()).unwrap();
    let (_, without) = plain("RUN x").unwrap();
    assert_eq!(with, without);
    let plan = plan_with(
        "FROM base\nARG Y",
        &options(&[("X", "1"), ("Y", "2")], None),
    )
    .unwrap();
    assert_eq!(plan.unused_build_args(), ["X"]);
}

#[test]
fn s4_of_equal_build_arguments_the_last_counts() {
    check(&[("ARG R=own", &[("R", "1"), ("R", "2")], Some("2"))]);
}

#[test]
fn s4_proxies_are_in_the_history_only_if_declared() {
    let run = |text: &str| {
        let (_, steps) = evaluate(text, &[("http_proxy", "p")], &ImageConfig::default()).unwrap();
        let step = steps.last().unwrap();
        let StepKind::Run(run) = &step.kind else {
            panic!("no RUN");
        };
        (
            step.created_by.clone(),
            run.env.clone(),
            run.proxy_env.clone(),
        )
    };
    let (created_by, env, proxies) = run("RUN x");
    assert_eq!(created_by, "RUN /bin/sh -c x # buildkit");
    assert!(
        !env.iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("http_proxy"))
    );
    assert_eq!(proxies.len(), 2);
    let (created_by, env, _) = run("ARG http_proxy\nRUN x");
    assert_eq!(created_by, "RUN |1 http_proxy=p /bin/sh -c x # buildkit");
    assert!(env.contains(&("http_proxy".into(), "p".into())));
}

#[test]
fn s4_platform_arguments() {
    let mut asked = options(&[("TARGETOS", "plan9")], None);
    asked.platform = "linux/arm/v7".parse().unwrap();
    for (name, expected) in [
        ("TARGETPLATFORM", "linux/arm/v7"),
        ("TARGETOS", "plan9"),
        ("TARGETARCH", "arm"),
        ("TARGETVARIANT", "v7"),
        ("TARGETOSVERSION", ""),
        ("BUILDPLATFORM", "linux/amd64"),
        ("BUILDOS", "linux"),
        ("BUILDARCH", "amd64"),
        ("BUILDVARIANT", ""),
        ("TARGETSTAGE", "default"),
    ] {
        let text = format!("FROM base\nARG {name}\nENV R=${{{name}-unset}}");
        let state = states(&text, &asked).pop().unwrap();
        assert_eq!(state.environment().get("R"), Some(expected), "{name}");
    }
    check(&[("ENV R=$TARGETARCH", &[], Some(""))]);
}

#[test]
fn s4_scanner_arguments_are_never_in_the_environment() {
    for name in ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"] {
        let (state, _) = plain(&format!("ARG {name}=true")).unwrap();
        assert_eq!(state.environment().get(name), None);
    }
}

#[test]
fn s4_path_is_added_only_if_the_base_has_none() {
    let plan = plan_with("FROM b", &options(&[], None)).unwrap();
    let env = |json: &str| StageState::from_image(&plan, &plan.stages()[0], Some(&base(json)));
    let path = format!("PATH={DEFAULT_PATH}");
    let state = env(r#"{"config":{"Env":["A=1"]}}"#);
    assert_eq!(state.config().config.env, ["A=1", &path]);
    assert_eq!(state.environment().get("PATH"), Some(DEFAULT_PATH));
    let state = env(r#"{"config":{"Env":["PATH=","A=1"]}}"#);
    assert_eq!(state.config().config.env, ["PATH=", "A=1"]);
}

#[test]
fn s4_env_updates_in_place() {
    let config = base(r#"{"config":{"Env":["PATH=/b","A=1","B=2","A_B=3"]}}"#);
    let (state, _) = evaluate("ENV B=x C=y\nENV A=z C=w", &[], &config).unwrap();
    assert_eq!(
        state.config().config.env,
        ["PATH=/b", "A=z", "B=x", "A_B=3", "C=w"]
    );
}
