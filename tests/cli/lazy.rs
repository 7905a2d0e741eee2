//! Layers that nobody needs are not brought, and those that somebody needs are.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::registry::Registry;
use crate::support::{Context, Outcome, read_tar};

pub const CASES: &[Case] = &[
    ("a_cached_build_needs_no_layer_of_its_base", cached),
    ("a_changed_step_brings_what_it_needs", changed),
    ("a_base_arrives_while_other_stages_run", meanwhile),
    ("a_pinned_base_asks_nobody", pinned),
    ("an_image_on_a_base_that_is_elsewhere", elsewhere),
    ("a_push_moves_no_blob_of_a_base_from_there", pushed),
    ("a_signal_while_a_layer_arrives", signal),
    ("a_layout_gives_the_layers_that_are_needed", layout),
];

/// Blobs of layers and layers in the store, which are larger than any manifest or configuration.
fn layers(c: &Context) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(c.path("store/v1/oci/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if bytes.first() != Some(&b'{') {
            found.push(path);
        }
    }
    for map in fs::read_dir(c.path("store/v1/layers")).unwrap() {
        for layer in fs::read_dir(map.unwrap().path()).unwrap() {
            found.push(layer.unwrap().path());
        }
    }
    found
}

/// Deletes the base's layer and its blob, which are those that hold a busybox.
fn lose_base(c: &Context) -> usize {
    let mut lost = 0;
    for path in layers(c) {
        if path.join("diff/bin/busybox").exists() {
            // It may belong to ids of the builder's; out of the way is as good as deleted.
            let aside = c.path(&format!("lost-{}", path.file_name().unwrap().display()));
            fs::rename(&path, &aside).unwrap();
            lost += 1;
        } else if path.is_file() && fs::metadata(&path).unwrap().len() > 100_000 {
            fs::remove_file(&path).unwrap();
            lost += 1;
        }
    }
    lost
}

const STEPS: &str = "RUN echo 1 >/one\nCOPY --chown=app:wheel a /a\nUSER app\nWORKDIR /w\nUSER 0\n\
    RUN --mount=from=tools,source=/tool,target=/t cat /t >/two\nCOPY --from=tools --chown=app /tool /tool\n";

fn text(base: &str) -> String {
    format!("FROM {base} AS tools\nRUN echo t >/tool\nFROM {base}\n{STEPS}")
}

/// Whether the builder can make files for the users of the base.
fn steps(c: &Context, base: &str) -> String {
    match c.one_id() {
        true => text(base).replace("USER app\n", ""),
        false => text(base),
    }
}

fn cached(c: &Context) -> Outcome {
    let registry = Registry::start();
    let base = registry.push_base(c, "team/base:1");
    let mut since = 0;
    c.file("a", "a");
    let text = steps(c, &base);
    let first = c.build(&text, &["-t", "x", "--iidfile", "id"]).ok();
    let id = fs::read_to_string(c.path("id")).unwrap();
    assert_eq!(first.executed().len(), 6, "{}", first.err);
    assert_eq!(lose_base(c), 2);
    registry.asked(&mut since);
    registry.forget();
    let left = layers(c).len();
    let again = c.build(&text, &["-t", "x", "--iidfile", "id"]).ok();
    assert_eq!(again.executed(), [""; 0], "{}", again.err);
    assert_eq!(again.cached(), 6);
    assert_eq!(fs::read_to_string(c.path("id")).unwrap(), id);
    assert_eq!(registry.asked(&mut since), [""; 0]);
    assert_eq!(
        layers(c).len(),
        left,
        "nothing came and nothing was unpacked"
    );
    // What the rest of a build on it needs cannot be had now, and is told by name.
    c.build(&format!("{text}RUN true\n"), &[]).fails(
        5,
        &["not found", "team/base", "Dockerfile:11"].map(|t| match (t, c.one_id()) {
            ("Dockerfile:11", true) => "Dockerfile:10",
            (t, _) => t,
        }),
    );
    assert!(c.leftovers().is_empty());
    Outcome::Passed
}

fn changed(c: &Context) -> Outcome {
    let registry = Registry::start();
    let base = registry.push_base(c, "team/base:1");
    let mut since = 0;
    let text = |last: &str| {
        format!(
            "FROM {base} AS unused\nRUN echo u >/u\nFROM {base}\nRUN echo 1 >/one\nRUN {last}\nCOPY --from=unused /u /u\n"
        )
    };
    registry.asked(&mut since);
    c.build(&text("true"), &["-t", "x"]).ok();
    let blobs = |asked: &[String]| {
        asked
            .iter()
            .filter(|line| line.contains("GET") && line.contains("/blobs/"))
            .count()
    };
    assert_eq!(
        blobs(&registry.asked(&mut since)),
        2,
        "configuration and layer, once for both stages"
    );
    assert_eq!(lose_base(c), 2);
    let ran = c
        .build(&text("cat /one >/two"), &["-o", "type=tar,dest=t.tar"])
        .ok();
    assert_eq!(
        ran.executed(),
        ["RUN cat /one >/two", "COPY --from=unused /u /u"],
        "{}",
        ran.err
    );
    assert_eq!(blobs(&registry.asked(&mut since)), 1, "the layer");
    let tree = read_tar(&c.path("t.tar"));
    assert_eq!((tree["two"].text(), tree["u"].text()), ("1\n", "u\n"));
    // A layer of a step that is gone is made again, and so is what was made on it.
    let mut lost = 0;
    for path in layers(c) {
        if path.join("diff/one").exists() {
            fs::rename(&path, c.path("lost-step")).unwrap();
            lost += 1;
        }
    }
    assert_eq!(lost, 1);
    let ran = c.build(&text("cat /one >/two"), &[]).ok();
    assert_eq!(
        ran.executed(),
        [
            "RUN echo 1 >/one",
            "RUN cat /one >/two",
            "COPY --from=unused /u /u"
        ]
    );
    assert!(c.leftovers().is_empty());
    Outcome::Passed
}

/// The step of one stage ends only when the base of the stage that waits for it was asked for.
fn meanwhile(c: &Context) -> Outcome {
    if c.in_trees() {
        let why = "a step that waits for a file of its context would wait for a copy of it";
        return Outcome::Skipped(why.to_owned());
    }
    let registry = Registry::start();
    // Another one than the base that is here.
    let base = registry.name("team/base:1");
    c.build(
        "FROM base\nRUN echo more >/more\n",
        &["-t", &base, "--push"],
    )
    .ok();
    c.run(&["prune", "-a", "-f"]).ok();
    c.import();
    let until =
        "i=0; while [ ! -e /ctx/go ]; do i=$((i+1)); [ $i -lt 300 ] || exit 9; sleep 0.1; done";
    c.file(
        "Dockerfile",
        format!(
            "FROM base AS one\nRUN --mount=target=/ctx {until}; echo 1 >/one\n\
             FROM {base}\nCOPY --from=one /one /one\n"
        ),
    );
    let mut since = 0;
    registry.asked(&mut since);
    let mut command = c.command(&["build", "-o", "type=tar,dest=t.tar", "context"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut blobs = 0;
    // The configuration, and the layer.
    while blobs < 2 && child.try_wait().unwrap().is_none() {
        let asked = registry.asked(&mut since);
        blobs += asked.iter().filter(|line| line.contains("/blobs/")).count();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    c.file("go", "");
    let out = child.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(read_tar(&c.path("t.tar")).contains_key("one"));
    Outcome::Passed
}

fn pinned(c: &Context) -> Outcome {
    let registry = Registry::start();
    let base = registry.push_base(c, "team/base:1");
    let mut since = 0;
    c.build(&format!("FROM {base}\n"), &["--metadata-file", "m"])
        .ok();
    let asked = registry.asked(&mut since);
    let manifests = |asked: &[String]| {
        asked
            .iter()
            .filter(|line| line.contains("/manifests/"))
            .count()
    };
    c.run(&["pull", "-q", &base]).ok();
    let digest = c.inspect(&base)["RepoDigests"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(digest.contains("@sha256:"), "{digest}");
    let text = format!("FROM {digest}\nRUN echo 1 >/one\n");
    registry.asked(&mut since);
    c.build(&text, &["--pull"]).ok();
    assert!(manifests(&registry.asked(&mut since)) <= 1, "{asked:?}");
    registry.forget();
    lose_base(c);
    for args in [&[][..], &["--pull"], &["-o", "type=image,name=y"]] {
        let ran = c.build(&text, args).ok();
        assert_eq!(ran.executed(), [""; 0], "{args:?} {}", ran.err);
        assert_eq!(registry.asked(&mut since), [""; 0], "{args:?}");
    }
    // A tag is another matter: with --pull the registry is asked what it is now.
    c.build(&text.replace(&digest, &base), &["--pull"])
        .fails(5, &["not found"]);
    c.build(&text.replace(&digest, &base), &[]).ok();
    Outcome::Passed
}

/// An image in the store whose base is not there is no worse than one whose base is.
fn elsewhere(c: &Context) -> Outcome {
    let registry = Registry::start();
    let base = registry.push_base(c, "team/base:1");
    let text = format!("FROM {base}\nCMD [\"cat\", \"/etc/group\"]\n");
    let build = || {
        c.build(&text, &["-t", "lazy"]).ok();
        assert!(layers(c).is_empty(), "no file was needed");
    };
    let fresh = || {
        c.run(&["prune", "-a", "-f"]).ok();
        build();
    };
    build();
    assert!(c.run(&["images"]).ok().out.contains("lazy"));
    assert!(c.run(&["run", "lazy"]).ok().out.contains("wheel"));
    fresh();
    // Under another name, when the base has none any more and garbage was collected.
    c.run(&["tag", "lazy", "other"]).ok();
    c.run(&["rmi", &base, "lazy"]).ok();
    c.run(&["prune", "-f"]).ok();
    c.run(&["save", "-o", "saved.tar", "other"]).ok();
    fresh();
    c.run(&["load", "-i", "saved.tar"]).ok();
    assert!(c.run(&["run", "other"]).ok().out.contains("wheel"));
    fresh();
    let tree = c.build(
        "FROM lazy\nRUN echo 1 >/one\n",
        &["-o", "type=tar,dest=t.tar"],
    );
    tree.ok();
    assert!(read_tar(&c.path("t.tar")).contains_key("bin/busybox"));
    for spec in [
        "type=oci,dest=o.tar",
        "type=docker,dest=o.tar",
        "type=local,dest=o",
    ] {
        fresh();
        c.build(&text, &["-o", spec]).ok();
        if spec.ends_with(".tar") {
            c.run(&["prune", "-a", "-f"]).ok();
            c.run(&["load", "-i", "o.tar"]).ok();
            let id = c.run(&["images", "-q"]).ok().out;
            assert!(
                c.run(&["run", id.trim()]).ok().out.contains("wheel"),
                "{spec}"
            );
        } else {
            assert!(c.path("o/bin/busybox").exists());
        }
    }
    // To another registry it goes by way of this machine.
    let second = Registry::start();
    for build_and_push in [true, false] {
        fresh();
        let name = second.name(&format!("app:{build_and_push}"));
        if build_and_push {
            c.build(&text, &["-t", &name, "--push"]).ok();
        } else {
            c.run(&["tag", "lazy", &name]).ok();
            c.run(&["push", "-q", &name]).ok();
        }
        c.run(&["prune", "-a", "-f"]).ok();
        assert!(c.run(&["run", &name]).ok().out.contains("wheel"));
    }
    assert!(c.leftovers().is_empty());
    Outcome::Passed
}

fn pushed(c: &Context) -> Outcome {
    let registry = Registry::start();
    let base = registry.push_base(c, "team/base:1");
    c.file("a", "a");
    let mut since = 0;
    let text = format!("FROM {base}\nCOPY --link a /a\nCMD [\"cat\", \"/a\"]\n");
    for (app, way) in [("one", "build"), ("two", "push")] {
        let name = registry.name(&format!("apps/{app}:1"));
        registry.asked(&mut since);
        if way == "build" {
            c.build(&text, &["-t", &name, "--push"]).ok();
        } else {
            c.build(&text, &["-t", &name]).ok();
            c.run(&["push", "-q", &name]).ok();
        }
        let asked = registry.asked(&mut since);
        let count = |what: &str| asked.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!(
            count("GET /v2/team/base/blobs"),
            1,
            "{way}: the configuration: {asked:#?}"
        );
        assert_eq!(
            count("PATCH"),
            2,
            "{way}: the new layer and the configuration: {asked:#?}"
        );
        let moved: u64 = layers(c)
            .iter()
            .filter(|path| path.is_file())
            .map(|path| fs::metadata(path).unwrap().len())
            .max()
            .unwrap_or(0);
        assert!(moved < 100_000, "{way}: no blob of the base is here");
        c.run(&["prune", "-a", "-f"]).ok();
        assert_eq!(c.run(&["run", &name]).ok().out, "a");
        c.run(&["prune", "-a", "-f"]).ok();
    }
    Outcome::Passed
}

fn signal(c: &Context) -> Outcome {
    let registry = Registry::start();
    let base = registry.push_base(c, "team/base:1");
    let mut since = 0;
    registry.asked(&mut since);
    c.build(&format!("FROM {base}\n"), &[]).ok();
    registry.stall();
    c.file("Dockerfile", format!("FROM {base}\nRUN true\n"));
    let mut command = c.command(&["build", "context"]);
    registry.asked(&mut since);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    while registry.asked(&mut since).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(c.leftovers().is_empty());
    Outcome::Passed
}

fn layout(c: &Context) -> Outcome {
    c.build(
        "FROM base\nRUN echo l >/l\n",
        &["-o", "type=oci,tar=false,dest=layout"],
    )
    .ok();
    c.run(&["prune", "-a", "-f"]).ok();
    let build = |text: &str, args: &[&str]| {
        let mut all = vec!["--build-context", "b=oci-layout://layout"];
        all.extend(args);
        c.build(text, &all)
    };
    c.file("a", "a");
    build("FROM b\nCOPY --link a /a\n", &["-o", "type=oci,dest=o.tar"]).ok();
    c.run(&["prune", "-a", "-f"]).ok();
    // In the store it is whole, whatever becomes of the directory.
    build("FROM b\nCOPY --link a /a\n", &["-t", "x"]).ok();
    fs::rename(c.path("layout"), c.path("gone")).unwrap();
    assert_eq!(c.run(&["run", "x", "cat", "/a", "/l"]).ok().out, "al\n");
    build("FROM b\n", &[]).fails(2, &["layout"]);
    Outcome::Passed
}
