//! What instructions do, seen in the result.

use serde_json::json;

use crate::Case;
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[
    ("stages_and_copies_between_them", stages),
    ("what_the_target_does_not_need_is_left_alone", target),
    ("triggers_run_where_they_are_inherited", triggers),
    ("triggers_of_an_image_name_stages", image_triggers),
    ("arguments_and_variables", arguments),
    ("the_configuration", configuration),
    ("users_and_groups", users),
    ("a_directory_that_is_gone_is_made_for_the_step", gone),
    ("heredocs", heredocs),
    ("flags_of_run", flags),
    ("steps_are_counted_as_they_are_shown", numbers),
    ("linked_copies_do_not_hide_the_base", linked),
];

fn stages(c: &Context) -> Outcome {
    let tree = c.tree(
        "FROM base AS one\nRUN echo 1 >/one\nFROM base AS Two\nRUN echo 2 >/two; mkdir /d; echo 3 >/d/f\n\
         FROM scratch\nCOPY --from=one /one /a\nCOPY --from=1 two d/f /b/\nCOPY --from=two /d /c\nCOPY --from=base /etc/group /\n",
    );
    for (path, text) in [
        ("a", "1\n"),
        ("b/two", "2\n"),
        ("b/f", "3\n"),
        ("c/f", "3\n"),
    ] {
        assert_eq!(tree[path].text(), text, "{path}");
    }
    assert!(tree.contains_key("group"));
    assert_eq!(tree.len(), 7, "{:?}", tree.keys());
    Outcome::Passed
}

fn target(c: &Context) -> Outcome {
    let dockerfile = "FROM base AS wanted\nRUN true\nFROM base AS bad\nRUN false\n\
         FROM 127.0.0.1:1/none AS unreachable\nRUN --mount=type=cache,target=/x true\nFROM bad AS last\nCOPY --from=unreachable / /\n";
    let ran = c.build(dockerfile, &["--target", "WANTED"]).ok();
    assert_eq!(ran.executed(), ["RUN true"]);
    c.build(dockerfile, &["--target", "bad"])
        .fails(4, &["RUN false", "exit status 1"]);
    Outcome::Passed
}

fn triggers(c: &Context) -> Outcome {
    let tree = c.tree(
        "FROM base AS tools\nRUN echo t >/tool\nFROM base AS parent\nONBUILD COPY --from=tools /tool /tool\nONBUILD RUN echo ran >/ran\n\
         FROM parent\nRUN cat /ran /tool >/both\n",
    );
    assert_eq!(tree["both"].text(), "ran\nt\n");
    c.build("FROM base\nONBUILD RUN echo x >/x\n", &["-t", "parent"])
        .ok();
    assert_eq!(
        c.inspect("parent")["Config"]["OnBuild"],
        json!(["RUN echo x >/x"])
    );
    let tree = c.tree("FROM parent\n");
    assert_eq!(tree["x"].text(), "x\n");
    Outcome::Passed
}

fn image_triggers(c: &Context) -> Outcome {
    c.build(
        "FROM base\nONBUILD COPY --from=assets /a /a\n",
        &["-t", "parent"],
    )
    .ok();
    let tree = c.tree("FROM base AS assets\nRUN echo a >/a\nFROM parent\n");
    assert_eq!(tree["a"].text(), "a\n");
    c.build("FROM base AS asset\nFROM parent\nRUN true\n", &[])
        .fails(5, &["Dockerfile:2", "ONBUILD COPY --from=assets", "assets"]);
    c.build(
        "FROM base\nONBUILD RUN --device=x.com/y true\n",
        &["-t", "devices"],
    )
    .ok();
    c.build("FROM devices\n", &[])
        .fails(3, &["RUN --device is not supported", "Dockerfile:1"]);
    Outcome::Passed
}

fn arguments(c: &Context) -> Outcome {
    let dockerfile = "ARG G=global\nFROM base\nARG G\nARG A=1\nARG B=${A}2\nENV E=$B E2=\"a b\" E3=${NONE:-dflt}\nENV A=env\n\
         LABEL l.one=$E l.two=\"two $G\"\nRUN echo $G $A $B $E \"$E2\" $E3 >/out\n";
    let tree = c.tree(dockerfile);
    assert_eq!(tree["out"].text(), "global env 12 12 a b dflt\n");
    let args = [
        "--build-arg",
        "B=b",
        "--build-arg",
        "G=g",
        "--label",
        "l.two=cli",
        "--label",
        "x=y=z",
        "-t",
        "img",
    ];
    c.build(dockerfile, &args).ok();
    let config = &c.inspect("img")["Config"];
    assert_eq!(
        config["Labels"],
        json!({"l.one": "b", "l.two": "cli", "x": "y=z"})
    );
    let env: Vec<&str> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    assert_eq!(env[1..], ["E=b", "E2=a b", "E3=dflt", "A=env"]);
    assert!(env[0].starts_with("PATH="));
    Outcome::Passed
}

fn configuration(c: &Context) -> Outcome {
    c.build(
        "FROM base\nWORKDIR /srv\nWORKDIR sub\nUSER app:wheel\nVOLUME /data /more\nEXPOSE 80 53/udp\nCMD [\"a\", \"b c\"]\nENTRYPOINT exec $X\n\
         HEALTHCHECK --interval=5s --retries=3 CMD true\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/sh\", \"-ec\"]\nUSER 0\nRUN true\n",
        &["-t", "img"],
    )
    .ok();
    let told = c.inspect("img");
    let config = &told["Config"];
    for (name, value) in [
        ("WorkingDir", json!("/srv/sub")),
        ("User", json!("0")),
        ("Volumes", json!({"/data": {}, "/more": {}})),
        ("ExposedPorts", json!({"53/udp": {}, "80/tcp": {}})),
        ("Cmd", json!(["a", "b c"])),
        ("Entrypoint", json!(["/bin/sh", "-c", "exec $X"])),
        ("StopSignal", json!("SIGINT")),
        ("Shell", json!(["/bin/sh", "-ec"])),
    ] {
        assert_eq!(config[name], value, "{name}: {told:#}");
    }
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    let history = told["History"].as_array().unwrap();
    let ours: Vec<&str> = history
        .iter()
        .skip(1)
        .map(|h| h["created_by"].as_str().unwrap())
        .collect();
    assert_eq!(ours[0], "WORKDIR /srv");
    assert_eq!(ours[ours.len() - 1], "RUN /bin/sh -ec true # buildkit");
    let layers = history
        .iter()
        .filter(|h| h["empty_layer"] != json!(true))
        .count();
    assert_eq!(layers, 4);
    assert!(
        history.iter().all(|entry| entry["created"].is_string()),
        "{told:#}"
    );
    Outcome::Passed
}

/// A RUN finds its directory, whoever removed it: `docker build` makes it, too.
fn gone(c: &Context) -> Outcome {
    let user = 1000;
    let tree = c.tree(&format!(
        "FROM base\nWORKDIR /a/b\nRUN cd / && rm -r /a\nUSER {user}\nRUN pwd >/tmp/pwd\n\
         FROM base\nCOPY --from=0 /tmp/pwd /\nCOPY --from=0 /a /a\n\
         WORKDIR /m\nRUN cd / && rmdir /m\nRUN --mount=target=/m test -f Dockerfile\n"
    ));
    assert_eq!(tree["pwd"].text(), "/a/b\n");
    assert_eq!(tree["a/b"].owner, (user, user));
    assert!(!tree.contains_key("m"), "{:?}", tree.keys());
    c.build(
        "FROM base\nWORKDIR /a\nRUN cd / && rmdir /a && touch /a\nRUN true\n",
        &[],
    )
    .fails(
        3,
        &["/a exists in the image and is no directory", "Dockerfile:4"],
    );
    Outcome::Passed
}

fn users(c: &Context) -> Outcome {
    let tree = c.tree(
        "FROM base\nRUN id >/root.txt; mkdir -m 777 /w\nUSER app\nRUN id >/w/app; echo $HOME >>/w/app\nUSER app:0\nRUN id >/w/app0\nUSER 7:8\nRUN id >/w/seven\nWORKDIR /w/made\n",
    );
    assert!(
        tree["root.txt"]
            .text()
            .starts_with("uid=0(root) gid=0(root)")
    );
    let app = tree["w/app"].text();
    assert!(
        app.contains("uid=1000(app) gid=1000(app) groups=10(wheel),1000(app)"),
        "{app}"
    );
    assert!(app.contains("/home/app"), "{app}");
    assert!(tree["w/app0"].text().contains("uid=1000(app) gid=0(root)"));
    assert!(tree["w/seven"].text().contains("uid=7 gid=8"));
    assert_eq!(tree["w/app"].owner, (1000, 1000));
    assert_eq!(tree["w/made"].owner, (7, 8));
    Outcome::Passed
}

fn heredocs(c: &Context) -> Outcome {
    let tree = c.tree(
        "FROM base\nENV V=val\nRUN <<EOF\necho one >/one\necho $V >>/one\nEOF\nRUN <<'X'\n#!/bin/sh\necho \"$0\" >/script\nX\n\
         COPY <<a.txt <<\"b.txt\" /files/\nis $V\na.txt\nis $V\nb.txt\nCOPY --chmod=600 <<-E /tabbed\n\t\ttext\n\tE\n",
    );
    assert_eq!(tree["one"].text(), "one\nval\n");
    assert!(tree["script"].text().starts_with("/dev/pipes/"));
    assert_eq!(tree["files/a.txt"].text(), "is val\n");
    assert_eq!(tree["files/b.txt"].text(), "is $V\n");
    assert_eq!(
        (tree["tabbed"].text(), tree["tabbed"].mode),
        ("text\n", 0o600)
    );
    Outcome::Passed
}

fn flags(c: &Context) -> Outcome {
    let mut dockerfile =
        "FROM base\nRUN grep 10.1.2.3 /etc/hosts >/hosts; sh -c 'ulimit -n' >/files\n\
         RUN cat /etc/hosts >/after || true\n"
            .to_owned();
    let mut args = vec!["--add-host", "db:10.1.2.3", "--ulimit", "nofile=100:200"];
    args.extend(["-o", "type=tar,dest=tree.tar"]);
    if !c.in_trees() {
        dockerfile += "RUN --network=none ls /sys/class/net >/net\nRUN df -k /dev/shm >/shm\n";
        args.extend(["--shm-size", "8m"]);
    }
    c.build(&dockerfile, &args).ok();
    let tree = crate::support::read_tar(&c.path("tree.tar"));
    assert!(tree["hosts"].text().contains("db"));
    assert_eq!(tree["files"].text(), "100\n");
    if !c.in_trees() {
        let shm = tree["shm"].text();
        assert!(shm.contains("8192"), "{shm}");
    }
    assert!(
        !tree.contains_key("etc/hosts"),
        "the sandbox's own files are not in the image"
    );
    Outcome::Passed
}

fn numbers(c: &Context) -> Outcome {
    let ran = c
        .build(
            "FROM base AS b\nENV A=1\nRUN true\nLABEL x=y\nWORKDIR /d\nFROM b\nRUN echo\nCMD x\n",
            &[],
        )
        .ok();
    for name in [
        "[b 1/3] FROM base AS b",
        "[b 2/3] RUN true",
        "[b 3/3] WORKDIR /d",
        "[stage-1 1/1] RUN echo",
    ] {
        assert!(ran.err.contains(name), "{name}:\n{}", ran.err);
    }
    Outcome::Passed
}

fn linked(c: &Context) -> Outcome {
    c.build("FROM base\nRUN echo one >/who\n", &["-t", "one"])
        .ok();
    c.build("FROM base\nRUN echo two >/who\n", &["-t", "two"])
        .ok();
    c.file("x", "x");
    for who in ["one", "two"] {
        let tree = c.tree(&format!(
            "FROM {who}\nCOPY --link x /x\nRUN cat /who >/saw\n"
        ));
        assert_eq!(tree["saw"].text(), format!("{who}\n"));
    }
    Outcome::Passed
}
