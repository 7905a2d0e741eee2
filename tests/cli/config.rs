//! Configuration, history and annotations of built images, read from their JSON.

use std::fs;

use serde_json::{Value, json};

use crate::Case;
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[
    ("each_instruction_in_the_configuration", instructions),
    ("each_instruction_in_the_history", history),
    ("what_a_stage_and_an_image_hand_on", inheritance),
    ("a_base_without_history", bare_base),
    ("fields_of_a_base_that_nobody_knows", unknown_fields),
    ("a_fixed_time_is_in_all_that_is_new", epoch),
    ("arguments_that_need_no_declaration", predefined),
    ("annotations", annotations),
];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of an image, as it is.
fn config(c: &Context, image: &str) -> Value {
    let told = c.inspect(image);
    let digest = told["Id"].as_str().unwrap();
    let path = c.path(&format!(
        "store/v1/oci/blobs/{}",
        digest.replacen(':', "/", 1)
    ));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Builds and gives the configuration.
fn built(c: &Context, dockerfile: &str, args: &[&str]) -> Value {
    let mut all = vec!["-t", "img"];
    all.extend(args);
    c.build(dockerfile, &all).ok();
    config(c, "img")
}

/// What is new in the history: the texts, and whether each made a layer.
fn told(config: &Value) -> Vec<(String, bool)> {
    let entries = config["history"].as_array().unwrap().iter();
    let ours = entries.filter(|entry| entry["comment"] == "buildkit.dockerfile.v0");
    ours.map(|entry| {
        assert!(entry["created"].is_string(), "{entry}");
        let text = entry["created_by"].as_str().unwrap().to_owned();
        (text, entry["empty_layer"] != true)
    })
    .collect()
}

fn instructions(c: &Context) -> Outcome {
    let scratch = |own: Value| {
        let mut all = json!({"Env": [PATH], "WorkingDir": "/"});
        let own = own.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(own);
        all
    };
    let check = |test: Value| json!({"Healthcheck": test});
    for (text, expected) in [
        ("USER 7:wheel", json!({"User": "7:wheel"})),
        ("USER $NONE", json!({})),
        (
            "EXPOSE 90-91 80/UDP 127.0.0.1:1:70 53/sctp",
            json!({"ExposedPorts": {"70/tcp": {}, "53/sctp": {}, "80/udp": {}, "90/tcp": {}, "91/tcp": {}}}),
        ),
        (
            "ARG P=\"1 2/udp\"\nEXPOSE $P",
            json!({"ExposedPorts": {"1/tcp": {}, "2/udp": {}}}),
        ),
        (
            "VOLUME [\" /a \", \"/b c\"]\nVOLUME /d /e/",
            json!({"Volumes": {"/a": {}, "/b c": {}, "/d": {}, "/e/": {}}}),
        ),
        ("STOPSIGNAL sigrtmin+3", json!({"StopSignal": "sigrtmin+3"})),
        ("STOPSIGNAL 9", json!({"StopSignal": "9"})),
        ("WORKDIR /x/../y/", json!({"WorkingDir": "/x/../y/"})),
        ("WORKDIR /a\nWORKDIR ../b//c", json!({"WorkingDir": "/b/c"})),
        (
            "LABEL a=1 \"b c\"='d e'\nLABEL a=2\nLABEL old form",
            json!({"Labels": {"a": "2", "b c": "d e", "old": "form"}}),
        ),
        (
            "ENV A=1\nENV A=2 B=$A",
            json!({"Env": [PATH, "A=2", "B=1"]}),
        ),
        (
            "CMD [\"a\", \"b c\"]",
            json!({"Cmd": ["a", "b c"], "ArgsEscaped": true}),
        ),
        (
            "CMD a  b",
            json!({"Cmd": ["/bin/sh", "-c", "a  b"], "ArgsEscaped": true}),
        ),
        (
            "CMD [\"a\"] b",
            json!({"Cmd": ["/bin/sh", "-c", "[\"a\"] b"], "ArgsEscaped": true}),
        ),
        ("CMD a\nCMD []", json!({"ArgsEscaped": true})),
        (
            "CMD a\nSHELL [\"/bin/x\", \"-y\"]\nENTRYPOINT b",
            json!({"Cmd": ["/bin/sh", "-c", "a"], "ArgsEscaped": true, "Shell": ["/bin/x", "-y"],
                "Entrypoint": ["/bin/x", "-y", "b"]}),
        ),
        (
            "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=2h --start-interval=1ms --retries=4 CMD a $B",
            check(
                json!({"Test": ["CMD-SHELL", "a $B"], "Interval": 90_000_000_000_i64,
                "Timeout": 1_500_000_000, "StartPeriod": 7_200_000_000_000_i64,
                "StartInterval": 1_000_000, "Retries": 4}),
            ),
        ),
        (
            "HEALTHCHECK --interval=0 CMD [\"a\", \"b c\"]",
            check(json!({"Test": ["CMD", "a", "b c"]})),
        ),
        (
            "HEALTHCHECK CMD a\nHEALTHCHECK NONE",
            check(json!({"Test": ["NONE"]})),
        ),
        (
            "ONBUILD RUN <<E\n a $B\nE\nONBUILD copy --from=x /a /b",
            json!({"OnBuild": ["RUN <<E\n a $B\nE", "copy --from=x /a /b"]}),
        ),
    ] {
        let config = built(c, &format!("FROM scratch\n{text}\n"), &[]);
        assert_eq!(config["config"], scratch(expected), "{text}");
        assert_eq!(config["rootfs"]["type"], "layers");
        assert_eq!(config["os"], "linux");
    }
    let config = built(c, "FROM scratch\nMAINTAINER Jane <j@x>\n", &[]);
    assert_eq!(config["author"], "Jane <j@x>");
    Outcome::Passed
}

fn history(c: &Context) -> Outcome {
    for file in ["f", "g"] {
        c.file(file, file);
    }
    for (text, expected) in [
        (
            "ARG A=1 B\nARG A\nRUN --network=none true",
            &[
                ("ARG A=1 B", false),
                ("ARG A", false),
                ("RUN |2 A=1 B= /bin/sh -c true # buildkit", true),
            ][..],
        ),
        (
            "ARG HTTP_PROXY\nRUN [\"echo\", \"a b\"]",
            &[
                ("ARG HTTP_PROXY=p", false),
                ("RUN |1 HTTP_PROXY=p echo a b # buildkit", true),
            ],
        ),
        ("RUN true", &[("RUN /bin/sh -c true # buildkit", true)]),
        (
            "RUN <<E\necho 1\necho 2\nE",
            &[("RUN /bin/sh -c echo 1\necho 2\n # buildkit", true)],
        ),
        (
            "ENV D=/d\nCOPY --chown=1:2 --chmod=0644 --link f g $D/",
            &[
                ("ENV D=/d", false),
                ("COPY --chown=1:2 --chmod=0644 f g /d/ # buildkit", true),
            ],
        ),
        (
            "COPY --parents --exclude=*.x f d/",
            &[("COPY --parents f d/ # buildkit", true)],
        ),
        (
            "COPY <<A <<B f /d/\na\nA\nb\nB",
            &[("COPY f <<A <<B /d/ # buildkit", true)],
        ),
        ("ADD f /a", &[("ADD f /a # buildkit", true)]),
        (
            "WORKDIR /w\nWORKDIR /\nWORKDIR x",
            &[
                ("WORKDIR /w", true),
                ("WORKDIR /", false),
                ("WORKDIR /x", true),
            ],
        ),
        ("LABEL a=\"b c\" d=e", &[("LABEL a=b c d=e", false)]),
        (
            "EXPOSE 81-82 80/UDP",
            &[("EXPOSE [80/udp 81/tcp 82/tcp]", false)],
        ),
        ("VOLUME /a /b", &[("VOLUME [/a /b]", false)]),
        ("USER $NONE", &[("USER ", false)]),
        ("USER a:b", &[("USER a:b", false)]),
        ("STOPSIGNAL 9", &[("STOPSIGNAL 9", false)]),
        ("SHELL [\"a\", \"b\"]", &[("SHELL [a b]", false)]),
        ("MAINTAINER me", &[("MAINTAINER me", false)]),
        (
            "CMD [\"a\", \"b\\tc\"]",
            &[("CMD [\"a\" \"b\\tc\"]", false)],
        ),
        (
            "ENTRYPOINT a \"b\"",
            &[("ENTRYPOINT [\"/bin/sh\" \"-c\" \"a \\\"b\\\"\"]", false)],
        ),
        (
            "HEALTHCHECK --interval=5m --retries=2 CMD a",
            &[(
                "HEALTHCHECK {Test:[CMD-SHELL a] Interval:5m0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:2}",
                false,
            )],
        ),
        ("ONBUILD RUN x", &[]),
    ] {
        // Without namespaces there is no network of a step's own.
        let text = match c.in_trees() {
            true => text.replace("--network=none ", ""),
            false => text.to_owned(),
        };
        let config = built(
            c,
            &format!("FROM base\n{text}\n"),
            &["--build-arg", "HTTP_PROXY=p"],
        );
        let expected: Vec<(String, bool)> = expected
            .iter()
            .map(|(text, layer)| ((*text).to_owned(), *layer))
            .collect();
        assert_eq!(told(&config), expected, "{text}");
        let entries = config["history"].as_array().unwrap();
        let layers = entries.iter().filter(|e| e["empty_layer"] != true).count();
        let diffs = config["rootfs"]["diff_ids"].as_array().unwrap().len();
        assert_eq!(layers, diffs, "{text}: {config:#}");
        if !expected.is_empty() {
            assert_eq!(config["created"], entries[entries.len() - 1]["created"]);
        }
    }
    Outcome::Passed
}

fn inheritance(c: &Context) -> Outcome {
    let parent = "FROM base AS parent\nENV A=1 B=2\nARG C=3\nLABEL l=p m=p\nWORKDIR /w\nUSER app\nEXPOSE 1\nVOLUME /v\n\
         CMD [\"c\"]\nHEALTHCHECK CMD h\nSTOPSIGNAL 9\nSHELL [\"/bin/sh\", \"-ec\"]\nMAINTAINER p\nONBUILD ENV T=$B\n";
    c.build(parent, &["-t", "parent"]).ok();
    let child = "ENV A=x\nLABEL m=c\nENTRYPOINT e\n";
    // The same, whether it comes from a stage or an image; only ARGs stay behind in the image.
    for text in [
        format!("{parent}FROM parent AS child\n{child}"),
        format!("FROM parent\n{child}"),
    ] {
        let config = built(c, &text, &["--label", "m=cli"]);
        let expected = json!({
            "Env": [PATH, "A=x", "B=2", "T=2"],
            "Labels": {"l": "p", "m": "cli"},
            "WorkingDir": "/w",
            "User": "app",
            "ExposedPorts": {"1/tcp": {}},
            "Volumes": {"/v": {}},
            "Entrypoint": ["/bin/sh", "-ec", "e"],
            "ArgsEscaped": true,
            "Healthcheck": {"Test": ["CMD-SHELL", "h"]},
            "StopSignal": "9",
            "Shell": ["/bin/sh", "-ec"],
        });
        assert_eq!(config["config"], expected, "{text}");
        assert_eq!(config["author"], "p");
        let told = told(&config);
        let own: Vec<&str> = told[told.len() - 4..].iter().map(|(t, _)| &**t).collect();
        let entry = "ENTRYPOINT [\"/bin/sh\" \"-ec\" \"e\"]";
        assert_eq!(own, ["ENV T=2", "ENV A=x", "LABEL m=c", entry]);
    }
    // A CMD of the stage's own stays, one from above goes with a new ENTRYPOINT.
    let config = built(c, "FROM parent\nCMD [\"own\"]\nENTRYPOINT [\"e\"]\n", &[]);
    assert_eq!(config["config"]["Cmd"], json!(["own"]));
    // An ARG is handed on to a stage, but is in no image's environment.
    let text = format!("{parent}FROM parent\nUSER 0\nRUN true\n");
    let config = built(c, &text, &[]);
    let (last, _) = told(&config).pop().unwrap();
    assert_eq!(last, "RUN |1 C=3 /bin/sh -ec true # buildkit");
    assert!(!config["config"]["Env"].to_string().contains("C=3"));
    Outcome::Passed
}

/// Rewrites an image of the store by way of a Docker archive: its configuration through `change`.
fn rewrite(c: &Context, image: &str, change: impl Fn(&mut Value)) {
    let dir = c.path("rewritten");
    fs::create_dir_all(&dir).unwrap();
    c.run(&["save", "-o", "saved.tar", image]).ok();
    let mut archive = tar::Archive::new(fs::File::open(c.path("saved.tar")).unwrap());
    archive.unpack(&dir).unwrap();
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let mut entry = manifest[0].clone();
    let path = dir.join(entry["Config"].as_str().unwrap());
    let mut config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut config);
    entry["Config"] = json!("config.json");
    let mut out = tar::Builder::new(fs::File::create(c.path("rewritten.tar")).unwrap());
    for layer in entry["Layers"].as_array().unwrap() {
        let name = layer.as_str().unwrap();
        out.append_path_with_name(dir.join(name), name).unwrap();
    }
    for (name, value) in [("config.json", &config), ("manifest.json", &json!([entry]))] {
        let bytes = serde_json::to_vec(value).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    out.into_inner().unwrap();
    c.run(&["load", "-i", "rewritten.tar"]).ok();
}

fn bare_base(c: &Context) -> Outcome {
    let two = "FROM base\nRUN echo >/two\nENV A=b\n";
    c.build(two, &["-t", "bare:1"]).ok();
    rewrite(c, "bare:1", |config| {
        config.as_object_mut().unwrap().remove("history");
        config["created"] = json!("2001-01-01T00:00:00Z");
    });
    let config = built(c, "FROM bare:1\nENV C=d\nRUN true\n", &[]);
    let entries = config["history"].as_array().unwrap();
    let comments: Vec<&str> = entries
        .iter()
        .map(|e| e["comment"].as_str().unwrap())
        .collect();
    let (exporter, ours) = ("buildkit.exporter.image.v0", "buildkit.dockerfile.v0");
    assert_eq!(comments, [exporter, exporter, ours, ours]);
    let empty: Vec<bool> = entries.iter().map(|e| e["empty_layer"] == true).collect();
    assert_eq!(empty, [false, false, true, false]);
    assert_ne!(config["created"], "2001-01-01T00:00:00Z");
    assert_eq!(config["config"]["Env"], json!([PATH, "A=b", "C=d"]));

    // A history that tells of more layers than there are.
    c.build(two, &["-t", "bare:1"]).ok();
    rewrite(c, "bare:1", |config| {
        let entry = json!({"created": "2001-01-01T00:00:00Z", "created_by": "x"});
        config["history"] = Value::Array(vec![entry; 3]);
    });
    let config = built(c, "FROM bare:1\nRUN true\n", &[]);
    let entries = config["history"].as_array().unwrap();
    let empty: Vec<bool> = entries.iter().map(|e| e["empty_layer"] == true).collect();
    assert_eq!(empty, [false, false, true, false], "{config:#}");
    Outcome::Passed
}

fn unknown_fields(c: &Context) -> Outcome {
    c.build("FROM base\nENV A=b\n", &["-t", "odd:1"]).ok();
    rewrite(c, "odd:1", |config| {
        config["created"] = json!("2001-01-01T00:00:00Z");
        config["os.version"] = json!("7");
        config["x-of-somebody"] = json!({"k": [1]});
        config["config"]["Domainname"] = json!("d");
        config["config"]["Env"] = json!(["A=b", "NOVALUE"]);
    });
    let config = built(c, "FROM odd:1\nLABEL l=1\n", &[]);
    assert_eq!(config["os.version"], "7");
    assert_eq!(config["x-of-somebody"], json!({"k": [1]}));
    assert_eq!(config["config"]["Domainname"], "d");
    assert_eq!(config["config"]["Env"], json!(["A=b", "NOVALUE", PATH]));
    // The base's own time is not this image's: that is its last entry's.
    assert_ne!(config["created"], "2001-01-01T00:00:00Z");
    Outcome::Passed
}

fn epoch(c: &Context) -> Outcome {
    let text = "FROM base\nENV A=b\nRUN true\nLABEL c=d\n";
    let layout = ["-o", "type=oci,tar=false,dest=layout"];
    let given = ["--build-arg", "SOURCE_DATE_EPOCH=1500000000"];
    let time = "2017-07-14T02:40:00Z";
    c.build(text, &[&layout[..], &given].concat()).ok();
    let index: Value =
        serde_json::from_slice(&fs::read(c.path("layout/index.json")).unwrap()).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.created"],
        time
    );
    let config = built(c, text, &given);
    assert_eq!(config["created"], time);
    let entries = config["history"].as_array().unwrap();
    assert_eq!(entries[0]["created"], "2001-09-09T01:46:40Z", "the base's");
    assert!(entries[1..].iter().all(|entry| entry["created"] == time));
    // From the environment of the caller as well, and the argument goes before it.
    for (args, expected) in [(&[][..], "2001-09-09T01:46:40Z"), (&given, time)] {
        let mut command = c.command(&["build", "-t", "img"]);
        command.args(args).arg("context");
        crate::support::ran(command.env("SOURCE_DATE_EPOCH", "1000000000")).ok();
        assert_eq!(self::config(c, "img")["created"], expected);
    }
    c.build(text, &["--build-arg", "SOURCE_DATE_EPOCH=now"])
        .fails(2, &["SOURCE_DATE_EPOCH", "now"]);
    Outcome::Passed
}

fn predefined(c: &Context) -> Outcome {
    let text = "FROM base\nARG USED\nRUN hostname >/name; cat /etc/hosts >>/name\n";
    let host = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=my-host"];
    let to_tar = ["-o", "type=tar,dest=out.tar"];
    c.build(text, &[&host[..], &to_tar].concat()).ok();
    let tree = crate::support::read_tar(&c.path("out.tar"));
    assert!(tree["name"].text().starts_with("my-host\n"));
    assert!(tree["name"].text().contains("localhost my-host\n"));
    assert_eq!(
        c.build(text, &[]).ok().cached(),
        0,
        "the name is in the key"
    );
    assert_eq!(c.build(text, &host).ok().cached(), 1);
    c.build(text, &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=a b"])
        .fails(2, &["BUILDKIT_SANDBOX_HOSTNAME", "a host name"]);
    let warned = |args: &[&str]| {
        let told = c.build(text, args).ok();
        told.err.contains("--build-arg")
    };
    for (arg, expected) in [
        ("USED=1", false),
        ("UNUSED=1", true),
        ("BUILDKIT_SANBOX_HOSTNAME=x", true),
        ("BUILDKIT_INLINE_CACHE=1", false),
        ("BUILDKIT_SYNTAX=x", true),
        ("https_proxy=p", false),
        ("SOURCE_DATE_EPOCH=1", false),
        ("TARGETARCH=x", false),
    ] {
        assert_eq!(warned(&["--build-arg", arg]), expected, "{arg}");
    }
    c.build(text, &["--build-arg", "UNUSED=1"]).ok().fails(
        0,
        &["--build-arg UNUSED: no ARG declares it; did you mean USED?"],
    );
    // Without a value it is the caller's; one that the caller does not have is as not given.
    let text = "FROM base\nARG V=default\nRUN echo $V >/v\n";
    for (value, expected) in [(Some("own"), "own\n"), (None, "default\n")] {
        c.file("Dockerfile", text);
        let mut command = c.command(&["build", "--build-arg", "V", to_tar[0], to_tar[1]]);
        if let Some(value) = value {
            command.env("V", value);
        }
        crate::support::ran(command.arg("context")).ok();
        let tree = crate::support::read_tar(&c.path("out.tar"));
        assert_eq!(tree["v"].text(), expected);
    }
    Outcome::Passed
}

fn annotations(c: &Context) -> Outcome {
    let text = "FROM base\nENV A=b\n";
    let args = [
        "--annotation",
        "org.example.a=1 2",
        "--annotation",
        "manifest,manifest-descriptor:b=c=d",
    ];
    c.build(text, &[&args[..], &["-t", "img"]].concat()).ok();
    let told = c.inspect("img");
    assert_eq!(
        told["Manifest"]["annotations"],
        json!({"org.example.a": "1 2", "b": "c=d"})
    );
    assert!(told["Config"]["Labels"].is_null());
    let layout = ["-o", "type=oci,tar=false,dest=layout"];
    c.build(text, &[&args[..], &layout].concat()).ok();
    let index: Value =
        serde_json::from_slice(&fs::read(c.path("layout/index.json")).unwrap()).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["b"], "c=d");
    assert!(entry["annotations"]["org.example.a"].is_null());
    assert_eq!(entry["digest"], told["Digest"]);
    // They are this image's own: what is built on it has none.
    c.build("FROM img\nENV C=d\n", &["-t", "child"]).ok();
    assert!(c.inspect("child")["Manifest"]["annotations"].is_null());
    for (args, said) in [
        (&["--annotation", "index:a=b"][..], "no index"),
        (&["--annotation", "a"], "[TYPE:]NAME=VALUE"),
        (
            &["--annotation", "a=b", "-o", "out"],
            "no output has a place",
        ),
    ] {
        c.build(text, args).fails(2, &["--annotation", said]);
    }
    Outcome::Passed
}
