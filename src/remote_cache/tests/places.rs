//! Places: where a build looks, and what it leaves.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use super::super::*;
use super::{digest, platform, step};
use crate::image::manifest::{Descriptor, OCI_MANIFEST};
use crate::image::{Digest, Reference};
use crate::transfer::BlobSource;

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
        let entry = step(key, None);
        writer.put_blob(&entry.own.blob, &[], &blob).unwrap();
        writer.put_step(entry).unwrap();
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
    assert!(sources.refused().contains(&digest("diff")));
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
    let entry = Entry::Step(Box::new(step("a", None))).documents(&platform());
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
