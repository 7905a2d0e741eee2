//! Entries, what is refused of them, and places.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::entry::{Documents, Read};
use super::registry::is_buildkit_cache;
use super::*;
use crate::image::manifest::{Descriptor, Manifest, OCI_LAYER_GZIP, OCI_MANIFEST};
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::transfer::BlobSource;

const TIME: &str = "2024-05-06T07:08:09Z";

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn step(key: &str, until: Option<i64>) -> StepEntry {
    let blob = digest("blob");
    StepEntry {
        key: digest(key),
        diff_id: digest("diff"),
        blob: Descriptor::new(OCI_LAYER_GZIP, &blob, 4),
        created: TIME.into(),
        until,
    }
}

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn read(documents: &Documents, key: &Digest) -> Result<Entry, EntryError> {
    let read = Read::manifest(&documents.manifest)?;
    assert_eq!(read.data.as_deref(), Some(&documents.config[..]));
    read.entry(&documents.config, key)
}

#[test]
fn entries_are_read_back_as_they_were_written() {
    let record = RecordEntry {
        key: digest("r"),
        value: "sha256:…".into(),
    };
    for entry in [
        Entry::Step(step("a", None)),
        Entry::Step(step("a", Some(-5))),
        Entry::Record(record),
    ] {
        let documents = entry.documents(&platform());
        assert_eq!(read(&documents, entry.key()), Ok(entry.clone()));
        assert_eq!(entry.documents(&platform()).manifest, documents.manifest);
        // What every tool needs to take it for an image.
        let manifest: Manifest = serde_json::from_slice(&documents.manifest).unwrap();
        let config: ImageConfig = serde_json::from_slice(&documents.config).unwrap();
        assert_eq!(manifest.layers.len(), config.rootfs.diff_ids.len());
        assert_eq!(manifest.config.digest, Digest::of(&documents.config));
    }
}

#[test]
fn an_entry_of_another_key_is_refused() {
    let documents = Entry::Step(step("a", None)).documents(&platform());
    let error = read(&documents, &digest("b")).unwrap_err();
    assert_eq!(error, EntryError::Key { found: digest("a") });
}

/// What a change does to the configuration: the manifest is made to fit unless told otherwise.
#[test]
fn tampered_entries_are_refused() {
    let key = digest("a");
    let entry = Entry::Step(step("a", None));
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Value), &'a str);
    let other = json!(digest("x"));
    let configs: [Change<'_>; 8] = [
        (
            "no field",
            &|c| _ = c.as_object_mut().unwrap().remove(FIELD),
            FIELD,
        ),
        ("a kind", &|c| c[FIELD]["kind"] = json!("other"), "other"),
        (
            "a key",
            &|c| c[FIELD]["key"] = other.clone(),
            "is the entry of",
        ),
        ("no key", &|c| c[FIELD]["key"] = json!("sha256:1"), FIELD),
        (
            "no diff id",
            &|c| c["rootfs"]["diff_ids"] = json!([]),
            "one diff id",
        ),
        (
            "two diff ids",
            &|c| c["rootfs"]["diff_ids"] = json!([key, key]),
            "one diff id",
        ),
        (
            "a time",
            &|c| c["created"] = json!("yesterday\n"),
            "no time",
        ),
        (
            "a record",
            &|c| c[FIELD] = json!({"kind": "record", "key": key, "value": "x".repeat(5000)}),
            "5000 bytes",
        ),
    ];
    for (what, change, said) in configs {
        let documents = entry.documents(&platform());
        let mut config: Value = serde_json::from_slice(&documents.config).unwrap();
        change(&mut config);
        let config = config.to_string().into_bytes();
        let found = Read::manifest(&documents.manifest)
            .unwrap()
            .entry(&config, &key);
        assert!(
            matches!(&found, Err(EntryError::Config(text)) if text.contains("its digest")),
            "{what}: {found:?}"
        );
        let mut manifest: Value = serde_json::from_slice(&documents.manifest).unwrap();
        manifest["config"]["digest"] = json!(Digest::of(&config));
        manifest["config"]["size"] = json!(config.len());
        let read = Read::manifest(manifest.to_string().as_bytes()).unwrap();
        assert_eq!(
            read.data, None,
            "{what}: data that the digest does not cover"
        );
        let error = read.entry(&config, &key).unwrap_err().to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
    let manifests: [Change<'_>; 7] = [
        (
            "a type",
            &|m| m["mediaType"] = json!("application/x"),
            "its type",
        ),
        ("no layer", &|m| m["layers"] = json!([]), "0 layers"),
        (
            "two layers",
            &|m| {
                let layer = m["layers"][0].clone();
                m["layers"] = json!([layer, layer]);
            },
            "2 layers",
        ),
        (
            "a foreign layer",
            &|m| m["layers"][0]["mediaType"] = json!("application/zip"),
            "zip",
        ),
        (
            "a digest",
            &|m| m["layers"][0]["digest"] = json!("sha256:../../x"),
            "digest",
        ),
        (
            "a huge configuration",
            &|m| m["config"]["size"] = json!(1u64 << 40),
            "1099511627776",
        ),
        (
            "BuildKit's",
            &|m| m["config"]["mediaType"] = json!("application/vnd.buildkit.cacheconfig.v0"),
            "buildkit",
        ),
    ];
    for (what, change, said) in manifests {
        let documents = entry.documents(&platform());
        let mut manifest: Value = serde_json::from_slice(&documents.manifest).unwrap();
        change(&mut manifest);
        let error = Read::manifest(manifest.to_string().as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{what}: {error}");
    }
    let whole = entry.documents(&platform()).manifest;
    for end in 0..whole.len() {
        assert!(Read::manifest(&whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn buildkits_caches_are_recognised() {
    let config = json!({"mediaType": "application/vnd.buildkit.cacheconfig.v0"});
    for (manifest, expected) in [
        (json!({"manifests": [{"mediaType": "x"}, config]}), true),
        (json!({"config": config, "layers": []}), true),
        (json!({"config": {"mediaType": "x"}, "layers": []}), false),
        (json!({"manifests": []}), false),
        (json!(null), false),
    ] {
        assert_eq!(
            is_buildkit_cache(manifest.to_string().as_bytes()),
            expected,
            "{manifest}"
        );
    }
}

#[test]
fn an_image_carries_the_keys_of_its_layers() {
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = vec![digest("base").to_string(), digest("diff").to_string()];
    let blob = |text: &str| Descriptor::new(OCI_LAYER_GZIP, &digest(text), 4);
    let manifest: Manifest = serde_json::from_value(json!({
        "schemaVersion": 2, "config": blob("config"), "layers": [blob("base"), blob("blob")],
    }))
    .unwrap();
    let inline = |layer, created: &str| Inline {
        steps: vec![InlineStep {
            key: digest("a"),
            layer,
            created: created.into(),
            until: Some(7),
        }],
    };
    inline(1, TIME).put(&mut config).unwrap();
    let bytes = serde_json::to_vec(&config).unwrap();
    let mut config: ImageConfig = serde_json::from_slice(&bytes).unwrap();
    let entries = Inline::of(&config).unwrap().entries(&config, &manifest);
    assert_eq!(entries, [step("a", Some(7))]);
    for (layer, created) in [(2, TIME), (1, "yesterday")] {
        assert_eq!(inline(layer, created).entries(&config, &manifest), []);
    }
    Inline::default().put(&mut config).unwrap();
    assert_eq!(Inline::of(&config), None);
    config.other.insert(FIELD.into(), json!({"steps": 1}));
    assert_eq!(Inline::of(&config), None);
}

#[test]
fn tags_of_references() {
    let long = "a".repeat(63);
    for (reference, expected) in [
        ("h:1/r", Some("lapstrake")),
        ("h:1/r:latest", Some("lapstrake")),
        ("h:1/r:buildcache", Some("buildcache")),
        (&format!("h:1/r:{long}"), Some(long.as_str())),
        (&format!("h:1/r:{long}a"), None),
        (&format!("h:1/r@{}", digest("x")), None),
    ] {
        let reference: Reference = reference.parse().unwrap();
        assert_eq!(tag_prefix(&reference).ok(), expected, "{reference}");
    }
}

/// A place in memory that counts what it is asked.
#[derive(Default)]
struct Memory {
    tags: Mutex<BTreeMap<String, Vec<u8>>>,
    blobs: Mutex<BTreeMap<Digest, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    besides: Option<Besides>,
    is_down: bool,
}

impl fmt::Display for &Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

impl Place for &Memory {
    fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        self.asked.lock().unwrap().push(tag.to_owned());
        if self.is_down {
            return Err(PlaceError::Disk {
                doing: "read",
                path: "/x/index.json".into(),
                source: io::Error::other("down"),
            });
        }
        Ok(self.tags.lock().unwrap().get(tag).cloned())
    }

    fn besides(&self) -> Result<Besides, PlaceError> {
        Ok(self.besides.clone().unwrap_or(Besides::Nothing))
    }

    fn small_blob(&self, blob: &Descriptor) -> Result<Vec<u8>, PlaceError> {
        let blobs = self.blobs.lock().unwrap();
        blobs.get(&blob.digest).cloned().ok_or(PlaceError::Damaged {
            what: "memory".into(),
            reason: "gone".into(),
        })
    }

    fn takes_blob(&self, blob: &Descriptor, _mount_from: &[Reference]) -> Result<bool, PlaceError> {
        Ok(self.blobs.lock().unwrap().contains_key(&blob.digest))
    }

    fn put_blob(
        &self,
        blob: &Descriptor,
        _mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<bool, PlaceError> {
        let mut blobs = self.blobs.lock().unwrap();
        if blobs.contains_key(&blob.digest) {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        open().unwrap().read_to_end(&mut bytes).unwrap();
        blobs.insert(blob.digest.clone(), bytes);
        Ok(true)
    }

    fn put_manifest(&self, tag: &str, manifest: &[u8]) -> Result<(), PlaceError> {
        let value: Value = serde_json::from_slice(manifest).unwrap();
        for blob in value["layers"]
            .as_array()
            .unwrap()
            .iter()
            .chain([&value["config"]])
        {
            let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
            assert!(
                self.blobs.lock().unwrap().contains_key(&digest),
                "blobs come first"
            );
        }
        self.tags
            .lock()
            .unwrap()
            .insert(tag.to_owned(), manifest.to_vec());
        Ok(())
    }

    fn finish(&self) -> Result<(), PlaceError> {
        Ok(())
    }
}

fn origin() -> BlobSource {
    BlobSource::Repository("h:1/r".parse().unwrap())
}

fn blob() -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::Write::write_all(&mut file, b"blob")?;
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

fn fill(place: impl Place + Send, keys: &[&str]) {
    let writer = CacheWriter::new(place, "lapstrake", &platform(), HashSet::new());
    for key in keys {
        writer.put_step(step(key, None), &[], &blob).unwrap();
    }
    let record = RecordEntry {
        key: digest("record"),
        value: "7:8".into(),
    };
    writer.put_record(record).unwrap();
    assert_eq!(writer.finish().unwrap().new, keys.len() + 1);
}

#[test]
fn what_was_written_is_found_and_not_written_again() {
    let memory = Memory::default();
    fill(&memory, &["a", "b"]);
    let warnings = Mutex::new(Vec::new());
    let warn = |text: &str| warnings.lock().unwrap().push(text.to_owned());
    let mut sources = CacheSources::new(&warn);
    sources.add(&memory, origin());
    assert_eq!(sources.step(&digest("a")).unwrap().step, step("a", None));
    assert_eq!(sources.step(&digest("c")), None);
    assert_eq!(sources.record(&digest("record")).as_deref(), Some("7:8"));
    assert_eq!(sources.record(&digest("a")), None, "a step is no record");
    assert_eq!(sources.step(&digest("record")), None);
    sources.close();
    assert_eq!(*warnings.lock().unwrap(), [""; 0]);
    let spoilt = HashSet::from([digest("b")]);
    let writer = CacheWriter::new(&memory, "lapstrake", &platform(), spoilt);
    assert!(writer.has(&digest("a")).unwrap());
    assert!(!writer.has(&digest("b")).unwrap());
    assert!(!writer.has(&digest("c")).unwrap());
    let elsewhere = CacheWriter::new(&memory, "other", &platform(), HashSet::new());
    assert!(!elsewhere.has(&digest("a")).unwrap());
}

#[test]
fn a_place_that_is_down_is_asked_once() {
    let down = Memory {
        is_down: true,
        ..Memory::default()
    };
    let good = Memory::default();
    fill(&good, &["a"]);
    let warnings = Mutex::new(Vec::new());
    let warn = |text: &str| warnings.lock().unwrap().push(text.to_owned());
    let mut sources = CacheSources::new(&warn);
    sources.add(&down, origin());
    sources.add(&good, origin());
    std::thread::scope(|scope| {
        for key in ["a", "b", "c", "d"] {
            let sources = &sources;
            scope.spawn(move || sources.step(&digest(key)));
        }
    });
    assert!(sources.step(&digest("a")).is_some());
    sources.close();
    assert_eq!(down.asked.lock().unwrap().len(), 1);
    let warnings = warnings.lock().unwrap().clone();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("--cache-from memory") && warnings[0].contains("down"));
}

#[test]
fn a_tampered_entry_is_a_warning_and_a_miss() {
    let memory = Memory::default();
    fill(&memory, &["a", "b"]);
    {
        let mut tags = memory.tags.lock().unwrap();
        let name = |key: &str| format!("lapstrake-{}", digest(key).hex());
        let b = tags[&name("b")].clone();
        tags.insert(name("a"), b);
        tags.get_mut(&name("b")).unwrap().truncate(100);
    }
    let warnings = Mutex::new(Vec::new());
    let warn = |text: &str| warnings.lock().unwrap().push(text.to_owned());
    let mut sources = CacheSources::new(&warn);
    sources.add(&memory, origin());
    assert_eq!(sources.step(&digest("a")), None);
    assert_eq!(sources.step(&digest("b")), None);
    assert_eq!(sources.refused(), HashSet::from([digest("a"), digest("b")]));
    assert!(
        sources.record(&digest("record")).is_some(),
        "the place is still asked"
    );
    assert!(!sources.refuse(&digest("diff"), "nothing was given"));
    sources.gave(&digest("c"), &digest("diff"));
    assert!(sources.refuse(&digest("diff"), "its blob is gone"));
    assert!(sources.is_refused(&digest("c")));
    let warnings = warnings.lock().unwrap().clone();
    assert!(
        warnings[0].contains(&format!("is the entry of {}", digest("b"))),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("its manifest is none"), "{warnings:?}");
    assert!(warnings[2].contains("its blob is gone"), "{warnings:?}");
    assert_eq!(warnings.len(), 3);
}

#[test]
fn places_of_no_use_are_told_at_the_end() {
    for (besides, said) in [
        (Besides::Nothing, "nothing was found there (2 looked for)"),
        (Besides::Unusable("a hat".into()), "it is a hat"),
    ] {
        let memory = Memory {
            besides: Some(besides),
            ..Memory::default()
        };
        let warnings = Mutex::new(Vec::new());
        let warn = |text: &str| warnings.lock().unwrap().push(text.to_owned());
        let mut sources = CacheSources::new(&warn);
        sources.add(&memory, origin());
        assert_eq!(sources.step(&digest("a")), None);
        assert_eq!(sources.step(&digest("b")), None);
        assert_eq!(*warnings.lock().unwrap(), [""; 0]);
        sources.close();
        assert_eq!(
            *warnings.lock().unwrap(),
            [format!("--cache-from memory: {said}")]
        );
    }
    let image = Memory {
        besides: Some(Besides::Image(vec![step("a", None)])),
        ..Memory::default()
    };
    let warn = |text: &str| panic!("{text}");
    let mut sources = CacheSources::new(&warn);
    sources.add(&image, origin());
    assert_eq!(sources.step(&digest("a")).unwrap().step, step("a", None));
    assert_eq!(sources.step(&digest("b")), None);
    sources.close();
}

fn found(dir: &Path, key: &str) -> Option<CacheHit> {
    let warn = |text: &str| panic!("{text}");
    let mut sources = CacheSources::new(&warn);
    sources.add(Directory::new(dir), BlobSource::Layout(dir.to_owned()));
    sources.step(&digest(key))
}

#[test]
fn a_directory_keeps_what_several_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/cache");
    std::thread::scope(|scope| {
        for key in ["a", "b", "c", "d", "e", "f"] {
            let path = &path;
            scope.spawn(move || fill(Directory::new(path), &[key]));
        }
    });
    for key in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(found(&path, key).unwrap().step, step(key, None), "{key}");
    }
    assert_eq!(found(&path, "g"), None);
    let index: Value =
        serde_json::from_slice(&std::fs::read(path.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 7);
    assert_eq!(index["manifests"][0]["mediaType"], OCI_MANIFEST);
    assert!(path.join("oci-layout").exists());
    let blobs = std::fs::read_dir(path.join("blobs/sha256")).unwrap();
    for blob in blobs {
        let blob = blob.unwrap();
        let bytes = std::fs::read(blob.path()).unwrap();
        assert_eq!(Digest::of(&bytes).hex(), blob.file_name().to_str().unwrap());
    }
}

#[test]
fn a_damaged_directory_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    fill(Directory::new(dir.path()), &["a"]);
    let entry = Entry::Step(step("a", None)).documents(&platform());
    let manifest = dir
        .path()
        .join("blobs/sha256")
        .join(Digest::of(&entry.manifest).hex());
    std::fs::write(&manifest, "{}").unwrap();
    let warnings = Mutex::new(Vec::new());
    let warn = |text: &str| warnings.lock().unwrap().push(text.to_owned());
    let mut sources = CacheSources::new(&warn);
    sources.add(
        Directory::new(dir.path()),
        BlobSource::Layout(dir.path().to_owned()),
    );
    assert_eq!(sources.step(&digest("a")), None);
    let none = dir.path().join("none");
    sources.add(Directory::new(&none), BlobSource::Layout(none.clone()));
    assert_eq!(sources.step(&digest("b")), None);
    sources.close();
    let warnings = warnings.lock().unwrap().clone();
    assert!(warnings[0].contains("its digest is"), "{warnings:?}");
    assert!(warnings[1].contains("none/index.json"), "{warnings:?}");
}
