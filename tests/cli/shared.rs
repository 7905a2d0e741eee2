//! Results of steps that go from machine to machine: registries, directories, images.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::Case;
use crate::registry::Registry;
use crate::support::{Context, Outcome, Ran, ran};

pub const CASES: &[Case] = &[
    ("a_fresh_machine_finds_every_step_in_a_registry", fresh),
    ("only_layers_that_are_needed_are_fetched", needed),
    ("times_are_set_back_in_what_is_found", times),
    ("builders_at_the_same_time_lose_nothing", together),
    ("a_directory_keeps_results", directory),
    ("an_image_keeps_the_keys_of_its_layers", inline),
    ("keys_are_the_same_on_every_machine", machines),
    (
        "a_stage_of_files_stays_one_when_its_layers_are_replaced",
        files,
    ),
];

/// Two stages: a COPY from the first one, a mount of it, and a name that its files resolve.
fn dockerfile(base: &str) -> String {
    format!(
        "FROM {base} AS build\nRUN echo tool >/tool\nCOPY a /a\nRUN cat /a >/out\n\
         FROM {base}\nCOPY --from=build --chown=app /tool /tool\n\
         RUN --mount=type=bind,from=build,source=/out,target=/m cat /m >/b\nCOPY c /c\nWORKDIR /w\nCMD [\"x\"]\n"
    )
}

const STEPS: usize = 7;
const TIME: &str = "1600000000";

/// The registry with the base image, which the store does not keep.
pub fn with_base(c: &Context) -> (Registry, String) {
    let registry = Registry::start();
    let base = registry.push_base(c, "base");
    another_machine(c);
    c.file("a", "a");
    c.file("c", "c");
    (registry, base)
}

/// What comes from now on is on a machine that has nothing.
pub fn another_machine(c: &Context) {
    let old = c.path("store");
    for number in 0.. {
        let name = c.path(&format!("store-{number}"));
        if !name.exists() {
            fs::rename(old, name).unwrap();
            return;
        }
    }
}

pub fn build(c: &Context, text: &str, args: &[&str]) -> Ran {
    c.file("Dockerfile", text);
    let mut all = vec!["build"];
    all.extend(args);
    all.push("context");
    c.run(&all)
}

/// The same with a time for everything.
fn build_at(c: &Context, text: &str, args: &[&str]) -> Ran {
    c.file("Dockerfile", text);
    let mut all = vec!["build"];
    all.extend(args);
    all.push("context");
    ran(c.command(&all).env("SOURCE_DATE_EPOCH", TIME))
}

pub fn to(name: &str) -> String {
    format!("--cache-to=type=registry,ref={name},mode=max")
}

pub fn from(name: &str) -> String {
    format!("--cache-from=type=registry,ref={name}")
}

/// The blobs that requests have fetched.
fn blobs_of(asked: &[String]) -> BTreeSet<String> {
    let gets = asked.iter().filter(|line| line.starts_with("GET "));
    let blobs = gets.filter_map(|line| line.split_once("/blobs/"));
    blobs.map(|(_, digest)| digest.to_owned()).collect()
}

/// Every layer that an entry of the cache has.
pub fn cached_layers(registry: &Registry, repository: &str) -> BTreeSet<String> {
    let tags = registry.tags(repository);
    tags.iter()
        .flat_map(|tag| registry.layers(repository, tag))
        .collect()
}

fn fresh(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let (text, mut since) = (dockerfile(&base), 0);
    for (number, with_time) in [(1, false), (2, true)] {
        let cache = registry.name(&format!("cache{number}"));
        let (first, second) = (format!("app:{number}"), format!("app:{number}b"));
        let run = |args: &[&str]| match with_time {
            true => build_at(c, &text, args),
            false => build(c, &text, args),
        };
        let app = registry.name(&first);
        let ran = run(&["-t", &app, "--push", &to(&cache), &from(&cache)]).ok();
        assert_eq!(ran.executed().len(), STEPS, "{}", ran.err);
        assert!(ran.err.contains("nothing was found there"), "{}", ran.err);
        another_machine(c);
        registry.asked(&mut since);
        let again = registry.name(&second);
        let ran = run(&["-t", &again, "--push", &to(&cache), &from(&cache)]).ok();
        assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
        assert!(!ran.err.contains("warning"), "{}", ran.err);
        assert_eq!(
            registry.manifest("app", &first.replace("app:", "")),
            registry.manifest("app", &second.replace("app:", ""))
        );
        let log = registry.asked(&mut since);
        let is_config = |blob: &String| registry.held().blobs[blob][0] == b'{';
        let fetched = blobs_of(&log);
        assert!(fetched.iter().all(is_config), "{fetched:?} of {log:#?}");
        let written = log.iter().filter(|line| !line.starts_with("GET"));
        let to_cache = written.filter(|line| line.contains(&format!("/v2/cache{number}/")));
        assert_eq!(to_cache.count(), 0, "{log:#?}");
        assert!(
            !log.iter().any(|line| line.starts_with("PATCH")),
            "{log:#?}"
        );
        another_machine(c);
    }
    Outcome::Passed
}

fn needed(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let (cache, mut since) = (registry.name("cache"), 0);
    build(c, &dockerfile(&base), &[&to(&cache)]).ok();
    another_machine(c);
    registry.asked(&mut since);
    // The last step is another one: it is executed on what is below, and nothing else is.
    let text = dockerfile(&base).replace("WORKDIR /w", "RUN cat /b /c /tool >/d");
    let ran = build(c, &text, &[&from(&cache), "-o", "type=tar,dest=t.tar"]).ok();
    assert_eq!(ran.executed(), ["RUN cat /b /c /tool >/d"], "{}", ran.err);
    let tree = crate::support::read_tar(&c.path("t.tar"));
    assert_eq!(tree["d"].text(), "actool\n");
    assert_eq!(tree["tool"].owner, (1000, 1000));
    let fetched = blobs_of(&registry.asked(&mut since));
    let cached = cached_layers(&registry, "cache");
    let of_cache: Vec<_> = fetched.intersection(&cached).collect();
    assert_eq!(
        of_cache.len(),
        3,
        "those of COPY, RUN and COPY: {of_cache:?}"
    );
    // The store has them now, and needs the registry no more.
    registry.asked(&mut since);
    let ran = build(c, &text, &["-o", "type=tar,dest=t.tar"]).ok();
    assert_eq!(ran.cached(), STEPS, "{}", ran.err);
    assert_eq!(blobs_of(&registry.asked(&mut since)).len(), 0);
    Outcome::Passed
}

/// Results are shared by builds with and without a time for everything, and none has a later one.
fn times(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let (cache, app) = (registry.name("cache"), registry.name("app"));
    let text = format!("FROM {base}\nRUN echo one >/1\nRUN cat /1 >/2\n");
    let push = ["-t", &app, "--push"];
    build_at(c, &text, &push).ok();
    let expected = registry.manifest("app", "latest");
    another_machine(c);
    build(c, &text, &[&to(&cache)]).ok();
    another_machine(c);
    let ran = build_at(c, &text, &[&from(&cache), push[0], push[1], push[2]]).ok();
    assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
    assert_eq!(
        registry.manifest("app", "latest"),
        expected,
        "found without a time"
    );
    another_machine(c);
    registry.forget_repository("cache");
    build_at(c, &text, &[&to(&cache)]).ok();
    another_machine(c);
    let ran = build(c, &text, &[&from(&cache), "-o", "type=tar,dest=t.tar"]).ok();
    assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
    let mut archive = tar::Archive::new(fs::File::open(c.path("t.tar")).unwrap());
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        if ["1", "2"]
            .iter()
            .any(|name| entry.path().unwrap().ends_with(name))
        {
            assert_eq!(entry.header().mtime().unwrap().to_string(), TIME);
        }
    }
    Outcome::Passed
}

fn together(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let cache = registry.name("cache");
    let dockerfiles: Vec<String> = (0..4)
        .map(|number| {
            format!("FROM {base}\nRUN echo shared >/s\nRUN echo {number} >/n\nCOPY a /a\n")
        })
        .collect();
    let children: Vec<_> = dockerfiles
        .iter()
        .enumerate()
        .map(|(number, text)| {
            c.file(&format!("Dockerfile.{number}"), text);
            let (store, file) = (
                format!("many-{number}"),
                format!("context/Dockerfile.{number}"),
            );
            let to = to(&cache);
            let mut command = c.command(&["build", &to, "-f", &file, "context"]);
            command.arg("--root").arg(c.path(&store));
            std::thread::spawn(move || ran(&mut command))
        })
        .collect();
    for child in children {
        child.join().unwrap().ok();
    }
    for text in &dockerfiles {
        let ran = build(c, text, &[&from(&cache)]).ok();
        assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
    }
    Outcome::Passed
}

fn directory(c: &Context) -> Outcome {
    let (_registry, base) = with_base(c);
    let text = dockerfile(&base);
    let args = [
        "--cache-to=type=local,dest=kept/cache,mode=max,compression=zstd",
        "--cache-from=type=local,src=kept/cache",
        "-t",
        "x",
        "-q",
    ];
    let first = build(c, &text, &args).ok();
    let index = fs::read(c.path("kept/cache/index.json")).unwrap();
    another_machine(c);
    let ran = build(c, &text, &args[..4]).ok();
    assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
    assert!(ran.err.contains(first.out.trim_end()), "{}", ran.err);
    assert_eq!(fs::read(c.path("kept/cache/index.json")).unwrap(), index);
    // The image is whole although its layers were elsewhere.
    c.run(&["save", "--format", "oci-archive", "-o", "x.tar", "x"])
        .ok();
    another_machine(c);
    let min = "--cache-to=type=local,dest=min";
    build(c, &text, &[min]).ok();
    let index: Value =
        serde_json::from_slice(&fs::read(c.path("min/index.json")).unwrap()).unwrap();
    let kind = |entry: &Value| {
        let blob = |digest: &Value| {
            let name = digest
                .as_str()
                .unwrap()
                .replace("sha256:", "min/blobs/sha256/");
            let bytes = fs::read(c.path(&name)).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let config = blob(&blob(&entry["digest"])["config"]["digest"]);
        config["lapstrake.cache.v1"]["kind"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut kinds: Vec<String> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(kind)
        .collect();
    kinds.sort();
    // The layers of the image, and whose `app` is in the base.
    assert_eq!(kinds, ["record", "step", "step", "step", "step"]);
    Outcome::Passed
}

fn inline(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let text = format!("FROM {base}\nRUN echo one >/1\nCOPY a /a\nRUN cat /a >/2\n");
    let (app, mut since) = (registry.name("app"), 0);
    let args = ["--cache-to=type=inline", "-t", &app, "--push"];
    build_at(c, &text, &args).ok();
    let first = registry.manifest("app", "latest");
    let own = registry.layers("app", "latest").split_off(1);
    another_machine(c);
    build_at(c, &text, &args).ok();
    assert_eq!(
        registry.manifest("app", "latest"),
        first,
        "the same image from nothing"
    );
    another_machine(c);
    registry.asked(&mut since);
    let changed = format!("{text}RUN cat /2 >/3\n");
    let cached = [
        &*from(&app),
        "--build-arg=BUILDKIT_INLINE_CACHE=1",
        "-t",
        &app,
        "--push",
    ];
    let ran = build_at(c, &changed, &cached).ok();
    assert_eq!(ran.executed(), ["RUN cat /2 >/3"], "{}", ran.err);
    assert!(!ran.err.contains("warning"), "{}", ran.err);
    let fetched = blobs_of(&registry.asked(&mut since));
    assert!(
        own.iter().all(|layer| fetched.contains(layer)),
        "{fetched:?}"
    );
    another_machine(c);
    registry.asked(&mut since);
    let ran = build_at(c, &changed, &cached).ok();
    assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
    let fetched = blobs_of(&registry.asked(&mut since));
    assert!(
        !own.iter().any(|layer| fetched.contains(layer)),
        "{fetched:?}"
    );
    // Without the flag there is nothing of it, not even on a base that has it.
    build_at(c, &format!("FROM {app}\nRUN true\n"), &["-t", "derived"]).ok();
    assert!(!c.inspect("derived").to_string().contains("lapstrake.cache"));
    Outcome::Passed
}

/// Root, a user with subordinate ids and one without: who comes later finds what the first one left.
fn machines(c: &Context) -> Outcome {
    c.file("a", "a");
    c.file("c", "c");
    let mut import = c.command(&["import", "../base.tar", "base"]);
    ran(import.env("SOURCE_DATE_EPOCH", "1")).ok();
    let common = c.base.parent().unwrap().join("shared-cache");
    let place = common.to_str().unwrap();
    let text = "FROM base AS build\nRUN echo tool >/tool; chmod 2755 /etc\nCOPY --chown=app:wheel a /a\n\
                FROM base\nCOPY --from=build --chown=app /tool /etc /d/\nUSER app\nWORKDIR /w\nUSER 0\n\
                RUN --mount=type=bind,from=build,target=/m cat /m/tool >/tmp/b\nADD c /c\n";
    if common.exists() {
        let ran = build(c, text, &[&format!("--cache-from=type=local,src={place}")]).ok();
        assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
    } else if nix::unistd::access(c.base.parent().unwrap(), nix::unistd::AccessFlags::W_OK).is_ok()
    {
        build(
            c,
            text,
            &[&format!("--cache-to=type=local,dest={place},mode=max")],
        )
        .ok();
    } else {
        return Outcome::Skipped(
            "it looks for what the case leaves as root, which did not run".into(),
        );
    }
    Outcome::Passed
}

/// The base of a stage is a directory, whose times differ from machine to machine: what was found is
/// made on the other machine's layer of it, which takes the place of our own.
fn files(c: &Context) -> Outcome {
    let (registry, _) = with_base(c);
    let cache = registry.name("files");
    let fill = |time: i64| {
        let file = c.file("tree/file", "x");
        let time = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec {
                tv_sec: time,
                tv_nsec: 0,
            },
            last_modification: rustix::fs::Timespec {
                tv_sec: time,
                tv_nsec: 0,
            },
        };
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::utimensat(rustix::fs::CWD, file, &time, flags).unwrap();
    };
    let tree = format!("--build-context=tree={}", c.path("context/tree").display());
    let (short, long) = ("FROM tree\n", "FROM tree\nWORKDIR /w\n");
    fill(1_000);
    build(c, long, &[&tree, &to(&cache)]).ok();
    another_machine(c);
    fill(2_000);
    build(c, short, &[&tree]).ok();
    let ran = build(c, long, &[&tree, &from(&cache), "-t", "found"]).ok();
    assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
    let found = c.inspect("found");
    let history = found["History"].as_array().unwrap();
    let layers = found["RootFS"]["Layers"].as_array().unwrap();
    let made = history
        .iter()
        .filter(|entry| entry["empty_layer"] != Value::Bool(true));
    assert_eq!((made.count(), layers.len()), (2, 2), "{found:#}");
    assert!(
        history.iter().all(|entry| entry["created"].is_string()),
        "{found:#}"
    );
    Outcome::Passed
}
