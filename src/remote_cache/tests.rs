//! Entries, what is refused of them, and what an image carries.

mod places;

use serde_json::{Value, json};

use super::entry::{Documents, Read};
use super::registry::is_buildkit_cache;
use super::*;
use crate::image::manifest::{Descriptor, Manifest, OCI_LAYER_GZIP};
use crate::image::{Digest, ImageConfig, Platform, Reference};

const TIME: &str = "2024-05-06T07:08:09Z";

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn step(key: &str, until: Option<i64>) -> StepEntry {
    let blob = digest("blob");
    StepEntry {
        key: digest(key),
        own: StepLayer {
            diff_id: digest("diff"),
            blob: Descriptor::new(OCI_LAYER_GZIP, &blob, 4),
            created: TIME.into(),
            until,
        },
        below: Vec::new(),
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
        Entry::Step(Box::new(step("a", None))),
        Entry::Step(Box::new(step("a", Some(-5)))),
        Entry::Step(Box::new(StepEntry {
            below: vec![step("b", Some(1)).own, step("c", None).own],
            ..step("a", None)
        })),
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
    let documents = Entry::Step(Box::new(step("a", None))).documents(&platform());
    let error = read(&documents, &digest("b")).unwrap_err();
    assert_eq!(error, EntryError::Key { found: digest("a") });
}

/// What a change does to the configuration: the manifest is made to fit unless told otherwise.
#[test]
fn tampered_entries_are_refused() {
    let key = digest("a");
    let entry = Entry::Step(Box::new(step("a", None)));
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
            "fit together",
        ),
        (
            "two diff ids",
            &|c| c["rootfs"]["diff_ids"] = json!([key, key]),
            "fit together",
        ),
        (
            "a time",
            &|c| c[FIELD]["layers"][0]["created"] = json!("yesterday\n"),
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
    let manifests: [Change<'_>; 6] = [
        (
            "a type",
            &|m| m["mediaType"] = json!("application/x"),
            "its type",
        ),
        ("no layer", &|m| m["layers"] = json!([]), "0 layers"),
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
