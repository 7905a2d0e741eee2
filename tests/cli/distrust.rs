//! Shared results that are not there, not to be had, damaged or not wanted.

use std::fs;

use serde_json::{Value, json};

use crate::Case;
use crate::shared::{another_machine, build, cached_layers, from, to, with_base};
use crate::support::{Context, Outcome, read_tar};

pub const CASES: &[Case] = &[
    ("a_registry_that_is_down_is_a_warning", down),
    ("caches_of_no_use_are_told", useless),
    ("tampered_results_are_not_used", tampered),
    ("what_cannot_be_kept_fails_the_build_at_its_end", not_kept),
    ("nothing_is_looked_up_with_no_cache", no_cache),
    ("nothing_secret_is_in_a_result", secrets),
];

fn down(c: &Context) -> Outcome {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("{}/cache", closed.local_addr().unwrap());
    drop(closed);
    c.file("a", "a");
    let text = "FROM base\nRUN true\nRUN false || true\nCOPY a /a\n";
    let ran = c.build(text, &[&from(&nowhere), "-t", "x"]).ok();
    let warnings = ran.err.matches("--cache-from").count();
    assert_eq!(warnings, 1, "{}", ran.err);
    for said in [&*nowhere, "cannot be reached", "going on without it"] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    assert_eq!(ran.executed().len(), 3);
    Outcome::Passed
}

fn useless(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let text = format!("FROM {base}\nRUN true\n");
    let buildkits = |media_type: &str, manifest: Value| {
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let key = ("other".to_owned(), "cache".to_owned());
        let mut held = registry.held();
        held.manifests.insert(key, (media_type.into(), bytes));
    };
    let config = json!({
        "mediaType": "application/vnd.buildkit.cacheconfig.v0",
        "digest": format!("sha256:{}", "0".repeat(64)),
        "size": 5,
    });
    let index = "application/vnd.oci.image.index.v1+json";
    let image = "application/vnd.oci.image.manifest.v1+json";
    for (media_type, manifest) in [
        (
            index,
            json!({"schemaVersion": 2, "mediaType": index, "manifests": [config]}),
        ),
        (
            image,
            json!({"schemaVersion": 2, "mediaType": image, "config": config, "layers": []}),
        ),
    ] {
        buildkits(media_type, manifest);
        let name = registry.name("other:cache");
        let ran = build(c, &text, &[&from(&name), "--no-cache-filter=x", "-t", "x"]).ok();
        let said = format!("--cache-from {name}: it is BuildKit's cache manifest");
        assert!(ran.err.contains(&said), "{}", ran.err);
        another_machine(c);
    }
    let app = registry.name("app");
    for (name, said) in [
        (base.clone(), "it is an image without a cache"),
        (registry.name("none"), "nothing was found there"),
    ] {
        let ran = build(c, &text, &[&format!("--cache-from={name}"), "-t", &app]).ok();
        assert_eq!(ran.executed().len(), 1);
        assert!(
            ran.err.contains(&format!("--cache-from {name}")),
            "{}",
            ran.err
        );
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
        another_machine(c);
    }
    let ran = build(c, &text, &["--cache-from=type=local,src=nowhere"]).ok();
    assert!(ran.err.contains("nowhere/index.json"), "{}", ran.err);
    for (flag, said) in [
        ("--cache-from=type=gha", "type=gha is not supported"),
        ("--cache-to=type=s3,bucket=x", "type=s3 is not supported"),
        ("--cache-to=type=registry,ref=x,color=red", "\"color\""),
        ("--cache-to=type=registry", "ref=NAME is missing"),
    ] {
        build(c, &text, &[flag]).fails(2, &[said]);
    }
    Outcome::Passed
}

fn tampered(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let cache = registry.name("cache");
    let text = format!("FROM {base}\nRUN echo good >/f\nRUN cat /f >/g\n");
    let key = |name: &str| ("cache".to_owned(), name.to_owned());
    let fill = || {
        registry.forget_repository("cache");
        build(c, &text, &[&to(&cache)]).ok();
        another_machine(c);
        let tags = registry.tags("cache");
        assert_eq!(tags.len(), 2);
        tags
    };
    let check = |what: &str, said: &str| {
        let out = ["-o", "type=tar,dest=t.tar"];
        let ran = build(c, &text, &[&from(&cache), &to(&cache), out[0], out[1]]).ok();
        assert!(ran.err.contains(said), "{what}: {}", ran.err);
        for step in ["RUN echo good >/f", "RUN cat /f >/g"] {
            assert!(
                ran.executed().iter().any(|name| name == step),
                "{what}: {}",
                ran.err
            );
        }
        let tree = read_tar(&c.path("t.tar"));
        assert_eq!(
            (tree["f"].text(), tree["g"].text()),
            ("good\n", "good\n"),
            "{what}"
        );
        another_machine(c);
        if what == "other bytes" {
            // Which a registry has that is broken, and which takes no others for the same digest.
            return;
        }
        // What was of no use has been replaced.
        let ran = build(c, &text, &[&from(&cache), out[0], out[1]]).ok();
        assert_eq!(ran.executed(), [""; 0], "{what}: {}", ran.err);
        another_machine(c);
    };
    let tags = fill();
    {
        let mut held = registry.held();
        let all = &mut held.manifests;
        let (one, other) = (all[&key(&tags[0])].clone(), all[&key(&tags[1])].clone());
        all.insert(key(&tags[0]), other);
        all.insert(key(&tags[1]), one);
    }
    check("each other's names", "is the entry of sha256:");
    let tags = fill();
    for tag in &tags {
        let mut held = registry.held();
        held.manifests.get_mut(&key(tag)).unwrap().1.truncate(80);
    }
    check("a cut manifest", "is damaged");
    let tags = fill();
    for tag in &tags {
        let mut manifest = registry.manifest("cache", tag);
        let mut held = registry.held();
        let config = manifest["config"]["digest"].as_str().unwrap();
        let mut config: Value = serde_json::from_slice(&held.blobs[config]).unwrap();
        config["rootfs"]["diff_ids"][0] = json!(format!("sha256:{}", "0".repeat(64)));
        let bytes = config.to_string().into_bytes();
        let digest = crate::registry::digest(&bytes);
        manifest["config"] = json!({
            "mediaType": manifest["config"]["mediaType"], "size": bytes.len(), "digest": digest,
        });
        held.has.insert(key(&digest));
        held.blobs.insert(digest, bytes);
        held.manifests.get_mut(&key(tag)).unwrap().1 = manifest.to_string().into_bytes();
    }
    check("another diff id", "unpacks to");
    let tags = fill();
    assert_eq!(tags.len(), 2);
    for blob in cached_layers(&registry, "cache") {
        registry.held().blobs.get_mut(&blob).unwrap().reverse();
    }
    check("other bytes", "is not used");
    let tags = fill();
    for tag in &tags {
        for blob in registry.layers("cache", tag) {
            registry.held().has.remove(&key(&blob));
        }
    }
    check("no blob", "is not used");
    // The same for a push, which finds out last.
    let tags = fill();
    for tag in &tags {
        for blob in registry.layers("cache", tag) {
            registry.held().has.remove(&key(&blob));
        }
    }
    let app = registry.name("app");
    let ran = build(c, &text, &[&from(&cache), "-t", &app, "--push"]).ok();
    assert!(ran.err.contains("is not used"), "{}", ran.err);
    assert_eq!(registry.layers("app", "latest").len(), 3);
    Outcome::Passed
}

fn not_kept(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let text = format!("FROM {base}\nRUN true\n");
    registry.held().is_read_only = true;
    let cache = registry.name("cache");
    let ran = build(
        c,
        &text,
        &[
            &to(&cache),
            "-t",
            "x",
            "--iidfile",
            "id",
            "--metadata-file",
            "meta.json",
        ],
    );
    let ran = ran.fails(5, &["--cache-to", &cache, "405"]);
    assert!(!ran.err.contains("panicked"));
    let id = fs::read_to_string(c.path("id")).unwrap();
    let told: serde_json::Value =
        serde_json::from_slice(&fs::read(c.path("meta.json")).unwrap()).unwrap();
    assert_eq!(told["containerimage.config.digest"], json!(id), "{told:#}");
    assert_eq!(
        told["lapstrake.error"]["class"],
        json!("network"),
        "{told:#}"
    );
    assert!(
        c.run(&["images"]).ok().out.contains("x"),
        "the image is there"
    );
    let ignored = format!("{},ignore-error=true", to(&cache));
    let ran = build(c, &text, &[&ignored, "-t", "x"]).ok();
    assert!(ran.err.contains("--cache-to"), "{}", ran.err);
    fs::write(c.path("file"), "").unwrap();
    let ran = build(c, &text, &["--cache-to=type=local,dest=file/x", "-t", "x"]);
    ran.fails(6, &["--cache-to", "file/x"]);
    Outcome::Passed
}

fn no_cache(c: &Context) -> Outcome {
    let (registry, base) = with_base(c);
    let cache = registry.name("cache");
    let text = format!(
        "FROM {base} AS one\nRUN echo 1\nFROM {base} AS two\nRUN echo 2\nCOPY --from=one /etc/passwd /p\n"
    );
    build(c, &text, &[&to(&cache)]).ok();
    another_machine(c);
    let ran = build(c, &text, &[&from(&cache), "--no-cache"]).ok();
    assert_eq!(ran.executed().len(), 3, "{}", ran.err);
    another_machine(c);
    let ran = build(c, &text, &[&from(&cache), "--no-cache-filter", "two"]).ok();
    assert_eq!(ran.executed().len(), 2, "{}", ran.err);
    another_machine(c);
    let other = registry.name("other");
    build(c, &text, &[&to(&other), "--no-cache"]).ok();
    another_machine(c);
    let ran = build(c, &text, &[&from(&other)]).ok();
    assert_eq!(ran.executed(), [""; 0], "{}", ran.err);
    Outcome::Passed
}

fn secrets(c: &Context) -> Outcome {
    c.import();
    fs::write(c.path("secret"), "geheim").unwrap();
    let text = "FROM base AS s\nARG PASSWORD\nRUN --mount=type=secret,id=x cat /run/secrets/x | wc -c >/n\n\
                FROM base\nCOPY --from=s /n /n\n";
    let args = [
        "--secret=id=x,src=secret",
        "--build-arg=PASSWORD=kennwort",
        "--cache-to=type=local,dest=kept,mode=max,compression=uncompressed",
    ];
    build(c, text, &args).ok();
    let mut files = vec![c.path("kept/index.json")];
    let blobs = fs::read_dir(c.path("kept/blobs/sha256")).unwrap();
    files.extend(blobs.map(|blob| blob.unwrap().path()));
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for word in [&b"geheim"[..], b"kennwort", crate::SECRET.as_bytes()] {
            let found = bytes.windows(word.len()).any(|window| window == word);
            assert!(!found, "{}", file.display());
        }
    }
    Outcome::Passed
}
