//! Tests of the subcommands that need no network.

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::store::Store;

#[derive(Parser)]
struct Line<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

fn args<A: clap::Args>(line: &[&str]) -> A {
    let line = ["lapstrake"].iter().chain(line);
    Line::<A>::try_parse_from(line)
        .unwrap_or_else(|error| panic!("{error}"))
        .args
}

/// Registries that nobody asks.
fn offline() -> Registries {
    Registries::new(Settings::default())
}

struct Bench {
    dir: TempDir,
    store: Store,
}

impl Bench {
    /// A store with one image, `example/app:1`, imported from a directory.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), "test").unwrap();
        let bench = Self { dir, store };
        let rootfs = bench.path("rootfs");
        fs::create_dir(&rootfs).unwrap();
        fs::write(rootfs.join("hello"), "hello\n").unwrap();
        bench.run(|out| {
            let line = [rootfs.to_str().unwrap(), "example/app:1"];
            import::run(&args(&line), &bench.store, Some(0), out)
        });
        bench
    }

    /// Opens the store as another process would.
    fn reopen(&mut self) {
        self.store = Store::open(&self.path("store"), "test").unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, command: impl FnOnce(&mut dyn std::io::Write) -> anyhow::Result<()>) -> String {
        let mut out = Vec::new();
        command(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn images(&self, line: &[&str]) -> String {
        self.run(|out| images::run(&args(line), &self.store, out))
    }

    fn rmi(&self, line: &[&str]) -> anyhow::Result<String> {
        let mut out = Vec::new();
        rmi::run(&args(line), &self.store, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    fn tag(&self, source: &str, target: &str) {
        tag::run(&args(&[source, target]), &self.store).unwrap();
    }
}

#[test]
fn images_are_listed_as_docker_lists_them() {
    let bench = Bench::new();
    let table = bench.images(&[]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0].join(" "), "REPOSITORY TAG IMAGE ID CREATED SIZE");
    assert_eq!(lines[1][..2], ["example/app", "1"]);
    let id = bench.images(&["-q"]);
    assert_eq!(lines[1][2], id.trim());
    assert_eq!(id.trim().len(), 12);
    assert!(bench.images(&["-q", "--no-trunc"]).starts_with("sha256:"));
    assert!(bench.images(&["--digests"]).contains("DIGEST"));
    let json: serde_json::Value =
        serde_json::from_str(&bench.images(&["--format", "json"])).unwrap();
    assert_eq!(
        (&json["Repository"], &json["Tag"]),
        (&"example/app".into(), &"1".into())
    );
    for (wanted, count) in [
        ("example/app", 1),
        ("example/app:1", 1),
        ("example/app:2", 0),
        ("app", 0),
    ] {
        let listed = bench.images(&["-q", wanted]).lines().count();
        assert_eq!(listed, count, "{wanted}");
    }
    bench.tag("example/app:1", "127.0.0.1:5000/x/y:tag");
    let table = bench.images(&["127.0.0.1:5000/x/y"]);
    assert!(table.contains("127.0.0.1:5000/x/y   tag"), "{table}");
}

#[test]
fn names_go_before_the_image_does() {
    let bench = Bench::new();
    let id = bench.images(&["-q", "--no-trunc"]).trim().to_owned();
    bench.tag("example/app:1", "other");
    let error = bench.rmi(&[&id]).unwrap_err().to_string();
    assert!(error.contains("--force"), "{error}");
    assert_eq!(
        bench.rmi(&["example/app:1"]).unwrap(),
        "Untagged: example/app:1\n"
    );
    let expected = format!("Untagged: other:latest\nDeleted: {id}\n");
    assert_eq!(bench.rmi(&[&id]).unwrap(), expected);
    assert_eq!(bench.images(&["-q"]), "");
    assert!(
        bench
            .rmi(&["other"])
            .unwrap_err()
            .to_string()
            .contains("no such image: other")
    );
}

#[test]
fn a_damaged_image_can_be_removed() {
    let bench = Bench::new();
    for entry in fs::read_dir(bench.store.layout().join("blobs/sha256")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(
        bench.rmi(&["example/app:1"]).unwrap(),
        "Untagged: example/app:1\n"
    );
}

#[test]
fn inspection_shows_what_is_known() {
    let bench = Bench::new();
    let id = bench.images(&["-q", "--no-trunc"]).trim().to_owned();
    let text = bench.run(|out| inspect::run(&args(&["example/app:1"]), &bench.store, out));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json[0]["Id"], id.as_str());
    assert_eq!(json[0]["RepoTags"][0], "example/app:1");
    assert_eq!(json[0]["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(json[0]["Manifest"]["schemaVersion"], 2);
    assert!(
        json[0]["History"][0]["comment"]
            .as_str()
            .unwrap()
            .starts_with("Imported from")
    );
    assert_eq!(json[0]["Created"], "1970-01-01T00:00:00Z");
}

#[test]
fn what_is_saved_can_be_loaded() {
    let bench = Bench::new();
    bench.tag("example/app:1", "other");
    let file = bench.path("image.tar");
    let file = file.to_str().unwrap();
    for format in ["docker-archive", "oci-archive"] {
        let line = ["-o", file, "--format", format, "example/app:1", "other"];
        bench.run(|out| save::run(&args(&line), &bench.store, &offline(), out));
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), "test").unwrap();
        let said = bench.run(|out| load::run(&args(&["-i", file]), &store, out));
        assert_eq!(
            said, "Loaded image: example/app:1\nLoaded image: other:latest\n",
            "{format}"
        );
    }
    let id = bench.images(&["-q"]);
    let id = id.trim();
    let out = bench.run(|out| save::run(&args(&["-o", file, id]), &bench.store, &offline(), out));
    assert_eq!(out, "");
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), "test").unwrap();
    let said = bench.run(|out| load::run(&args(&["-i", file]), &store, out));
    assert!(
        said.starts_with(&format!("Loaded image ID: sha256:{id}")),
        "{said}"
    );
}

#[test]
fn a_failed_save_leaves_nothing() {
    let bench = Bench::new();
    let image = bench.store.find_image("example/app:1").unwrap();
    let layer = image.manifest.layers[0].digest.clone();
    let path = bench.store.blob_path(&layer);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let size = fs::metadata(&path).unwrap().len();
    fs::write(&path, vec![0; size as usize]).unwrap();
    let file = bench.path("image.tar");
    let line = ["-o", file.to_str().unwrap(), "example/app:1"];
    let fresh = Store::open(&bench.path("store"), "test").unwrap();
    let error = save::run(&args(&line), &fresh, &offline(), &mut Vec::new()).unwrap_err();
    assert!(format!("{error:#}").contains(layer.as_str()), "{error:#}");
    assert!(!file.exists());
}

#[test]
fn pruning_keeps_named_images() {
    let mut bench = Bench::new();
    bench.store.put_blob(&vec![7; 5000]).unwrap();
    // What a process has made itself is in use as long as it has the store open.
    bench.reopen();
    let store = || Ok(Store::open(&bench.path("store"), "test")?);
    let prune = |line: &[&str]| bench.run(|out| prune::run(&args(line), &store, out));
    let size = |text: &str| text.lines().last()?.rsplit(": ").next().map(str::to_owned);
    // A process that another test is just starting has every lock of this one, for a moment.
    let mut foretold = prune(&["--dry-run"]);
    for _ in 0..200 {
        if size(&foretold).unwrap() != "0B" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        foretold = prune(&["--dry-run"]);
    }
    let report = prune(&["-f"]);
    assert_eq!(size(&report), size(&foretold));
    assert_ne!(size(&report).unwrap(), "0B");
    assert!(report.contains("Deleted: 0 layers, 1 blobs, "), "{report}");
    assert_eq!(bench.images(&["-q"]).lines().count(), 1);
    let report = prune(&["-a", "-f"]);
    assert!(
        report.contains("untagged: docker.io/example/app:1"),
        "{report}"
    );
    assert_eq!(bench.images(&["-q"]), "");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let bench = Bench::new();
    let rootfs = bench.path("rootfs");
    let line = ["--change", "ENV A=b", rootfs.to_str().unwrap()];
    let error = import::run(&args(&line), &bench.store, None, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("--change"), "{error}");
    let pinned = format!("x@{}", crate::image::Digest::of(b""));
    assert!(tag::run(&args(&["example/app:1", &pinned]), &bench.store).is_err());
}
