//! What is collected, what is not, and in which order.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::tests::{entries, image, layer, name, named};
use super::super::{
    CacheAttempt, CacheSharing, ExportRecord, ExportedBlob, LayerMeta, PruneOptions, PruneReport,
    StepRecord, Store,
};
use crate::image::Digest;
use crate::image::manifest::OCI_LAYER_GZIP;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn open(dir: &Path) -> Store {
    Store::open(dir, "test").unwrap()
}

/// Collects as another process would, with so many things in use.
fn collect_beside(dir: &Path, options: &PruneOptions, in_use: usize) -> PruneReport {
    let dry = PruneOptions {
        dry_run: true,
        ..options.clone()
    };
    // A process that another test is just starting has every lock of this one, for a moment.
    for _ in 0..200 {
        let foretold = open(dir).collect(&dry, &|| false).unwrap();
        let is_locked = open(dir).is_shared();
        if foretold.in_use == in_use && (in_use > 0 || !is_locked) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    open(dir).collect(options, &|| false).unwrap()
}

fn collect(dir: &Path, options: &PruneOptions) -> PruneReport {
    collect_beside(dir, options, 0)
}

impl Store {
    /// Whether somebody else has the store open.
    fn is_shared(&self) -> bool {
        !self.alone(|| Ok(())).unwrap()
    }
}

fn step(store: &Store, key: &str, id: &str, below: &[&str]) {
    let record = StepRecord {
        layer: Some(id.into()),
        fields: Vec::new(),
        below: Some(below.iter().map(|id| (*id).to_owned()).collect()),
        ..StepRecord::default()
    };
    let key = Digest::of(key.as_bytes());
    store.put_step(&key, &record).unwrap();
}

/// Sets the time of everything in a directory of the store, to be called used then.
fn used(path: &Path, hours: u32) {
    let time = SystemTime::now() - hours * HOUR;
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Layers of a few steps, used so many hours ago, with a record for each.
fn layers(dir: &Path, all: &[(&str, &[&str], u32)]) {
    let store = open(dir);
    for (id, below, hours) in all {
        layer(&store, &named(id), &"x".repeat(40_000));
        step(&store, id, id, below);
        let record = store.by_map("steps").join(Digest::of(id.as_bytes()).hex());
        used(&record, *hours);
        used(&store.by_map("layers").join(id).join("meta.json"), *hours);
    }
}

fn layers_left(dir: &Path) -> Vec<String> {
    let root = open(dir).by_map("layers");
    let names = fs::read_dir(root).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn garbage_is_what_no_tag_reaches() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (kept, gone) = (Digest::of(b"kept"), Digest::of(b"gone"));
    let keeper = image(&store, &kept);
    let goner = image(&store, &gone);
    store.tag(&name("app"), &goner).unwrap();
    store.tag(&name("app"), &keeper).unwrap();
    layer(&store, &named("ours"), "a step made this");
    let blob = ExportedBlob {
        compression: "gzip".into(),
        media_type: OCI_LAYER_GZIP.into(),
        digest: store.put_blob(b"compressed").unwrap(),
        size: 10,
    };
    let export = ExportRecord {
        diff_id: kept.clone(),
        size: 1,
        blobs: vec![blob.clone()],
    };
    store.put_export_record("ours", "", &export).unwrap();
    layer(&store, &LayerMeta::for_diff_id(&gone), "unreached");
    step(&store, "hit", "ours", &[]);
    step(&store, "old", &gone.hex()[..32], &[]);
    let stray = store.put_blob(b"stray").unwrap();
    drop(store);

    let dry = PruneOptions {
        dry_run: true,
        ..PruneOptions::default()
    };
    let foretold = collect(dir.path(), &dry);
    assert!(open(dir.path()).has_blob(&stray));
    let report = collect(dir.path(), &PruneOptions::default());
    assert_eq!(report, foretold);
    assert_eq!((report.layers, report.images.len()), (1, 1));
    assert_eq!(report.kept, Vec::<String>::new());
    let store = open(dir.path());
    assert!(!store.has_blob(&stray) && store.has_blob(&blob.digest));
    assert!(store.layer_by_diff_id(&kept).unwrap().is_some());
    assert_eq!(store.export_record("ours", "").unwrap(), Some(export));
    assert!(store.step(&Digest::of(b"hit")).unwrap().is_some());
    assert!(store.step(&Digest::of(b"old")).unwrap().is_none());
    assert_eq!(store.images().unwrap().0.len(), 1);
    drop(store);

    let all = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    let report = collect(dir.path(), &all);
    assert_eq!(report.untagged, ["docker.io/library/app:latest"]);
    let store = open(dir.path());
    assert_eq!(entries(&store.path("oci/blobs/sha256")), 0);
    assert_eq!(entries(&store.by_map("layers")), 0);
    assert_eq!(store.images().unwrap().0, []);
    assert_eq!(entries(&store.tmp()), 0);
}

#[test]
fn what_another_process_has_in_use_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Digest::of(b"cache");
    {
        let store = open(dir.path());
        layer(&store, &named("wanted"), "a");
        layer(&store, &named("unwanted"), "b");
        store.put_blob(b"wanted").unwrap();
        store.put_blob(b"unwanted").unwrap();
        let attempt = store.try_cache(&cache, "c", CacheSharing::Shared).unwrap();
        let CacheAttempt::New(new) = attempt else {
            panic!("{attempt:?}");
        };
        let staging = store.staging().unwrap();
        fs::create_dir(staging.path().join("new")).unwrap();
        new.publish(&staging, &staging.path().join("new")).unwrap();
    }
    let other = open(dir.path());
    assert!(other.layer("wanted").unwrap().is_some());
    assert!(other.has_blob(&Digest::of(b"wanted")));
    let taken = other.try_cache(&cache, "c", CacheSharing::Shared).unwrap();
    let all = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    let unfinished = other.staging().unwrap();
    let report = collect_beside(dir.path(), &all, 3);
    assert_eq!((report.layers, report.blobs, report.caches), (1, 1, 0));
    assert!(report.others && report.in_use == 3, "{report:?}");
    assert!(unfinished.path().exists());
    assert!(other.layer("wanted").unwrap().is_some());
    assert!(other.layer("unwanted").unwrap().is_none());
    drop((taken, unfinished, other));
    let report = collect(dir.path(), &all);
    assert_eq!((report.layers, report.blobs, report.caches), (1, 1, 1));
    assert!(!report.others && report.in_use == 0, "{report:?}");
}

#[test]
fn what_the_manifest_of_a_base_in_use_names_stays() {
    let dir = tempfile::tempdir().unwrap();
    let target = {
        let store = open(dir.path());
        let target = image(&store, &Digest::of(b"one"));
        store.tag(&name("base"), &target).unwrap();
        target
    };
    let builder = open(dir.path());
    let base = builder.image(&name("base")).unwrap().unwrap();
    open(dir.path()).untag(&name("base")).unwrap();
    let report = open(dir.path())
        .collect(&PruneOptions::default(), &|| false)
        .unwrap();
    assert_eq!(report.blobs, 0, "{report:?}");
    builder.tag(&name("ours"), &target).unwrap();
    assert_eq!(base.id, builder.image(&name("ours")).unwrap().unwrap().id);
}

#[test]
fn the_least_recently_used_goes_first_and_nothing_below_what_stays() {
    let all: &[(&str, &[&str], u32)] = &[
        ("a1", &[], 50),
        ("a2", &["a1"], 40),
        ("b1", &[], 30),
        ("b2", &["b1"], 20),
        ("b3", &["b1", "b2"], 2),
    ];
    let options = |unused_for: Option<u32>, layers: Option<u64>| PruneOptions {
        unused_for: unused_for.map(|hours| hours * HOUR),
        max_used: layers,
        ..PruneOptions::default()
    };
    let size = {
        let dir = tempfile::tempdir().unwrap();
        layers(dir.path(), all);
        open(dir.path()).usage().unwrap().total
    };
    const LAYER: u64 = 40_000;
    for (options, left) in [
        (options(Some(60), None), vec!["a1", "a2", "b1", "b2", "b3"]),
        // a1 was used 40 hours ago, for a2 was; and b1 and b2 two, for b3 was.
        (options(Some(41), None), vec!["a1", "a2", "b1", "b2", "b3"]),
        (options(Some(40), None), vec!["b1", "b2", "b3"]),
        (options(Some(3), None), vec!["b1", "b2", "b3"]),
        (
            options(None, Some(size)),
            vec!["a1", "a2", "b1", "b2", "b3"],
        ),
        // What is above goes before what is below.
        (
            options(None, Some(size - LAYER)),
            vec!["a1", "b1", "b2", "b3"],
        ),
        (options(None, Some(size - 3 * LAYER)), vec!["b1", "b2"]),
        (options(Some(3), Some(0)), vec!["b1", "b2", "b3"]),
        (options(None, Some(0)), vec![]),
        (
            PruneOptions {
                reserved: Some(size - LAYER),
                ..options(None, Some(0))
            },
            vec!["a1", "b1", "b2", "b3"],
        ),
        (
            PruneOptions {
                min_free: Some(1),
                ..PruneOptions::default()
            },
            vec!["a1", "a2", "b1", "b2", "b3"],
        ),
        (
            PruneOptions {
                only: Some("exec.cachemount".into()),
                ..PruneOptions::default()
            },
            vec!["a1", "a2", "b1", "b2", "b3"],
        ),
        (PruneOptions::default(), vec![]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        layers(dir.path(), all);
        let report = collect(dir.path(), &options);
        assert_eq!(layers_left(dir.path()), left, "{options:?}");
        assert_eq!(report.layers, all.len() - left.len(), "{options:?}");
        let records = open(dir.path()).by_map("steps");
        assert_eq!(entries(&records), left.len(), "{options:?}");
    }
}

#[test]
fn an_image_without_a_name_goes_when_its_turn_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let old = image(&store, &Digest::of(b"old"));
    store.tag(&name("app"), &old).unwrap();
    let new = image(&store, &Digest::of(b"new"));
    store.tag(&name("app"), &new).unwrap();
    for target in [&old, &new] {
        used(&store.blob_path(&target.digest), 10);
    }
    drop(store);
    let unused_for = |hours| PruneOptions {
        unused_for: Some(hours * HOUR),
        ..PruneOptions::default()
    };
    assert_eq!(collect(dir.path(), &unused_for(11)).images.len(), 0);
    assert_eq!(collect(dir.path(), &unused_for(9)).images.len(), 1);
    let to_nothing = PruneOptions {
        max_used: Some(0),
        ..PruneOptions::default()
    };
    collect(dir.path(), &to_nothing);
    let store = open(dir.path());
    assert!(store.has_blob(&new.digest) && !store.has_blob(&old.digest));
}

#[test]
fn a_use_is_noted_once_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    layers(dir.path(), &[("a", &[], 5)]);
    let store = open(dir.path());
    let meta = store.by_map("layers").join("a/meta.json");
    let age = || {
        let time = fs::metadata(&meta).unwrap().modified().unwrap();
        time.elapsed().unwrap()
    };
    assert!(age() > 4 * HOUR);
    store.step(&Digest::of(b"a")).unwrap().unwrap();
    assert!(age() < HOUR);
    let half = SystemTime::now() - HOUR / 2;
    let file = fs::File::open(&meta).unwrap();
    file.set_modified(half).unwrap();
    store.step(&Digest::of(b"a")).unwrap().unwrap();
    assert!(age() > HOUR / 3);
}

#[test]
fn usage_is_what_the_disk_says() {
    let dir = tempfile::tempdir().unwrap();
    layers(dir.path(), &[("a", &[], 5), ("b", &["a"], 3)]);
    let store = open(dir.path());
    let diff = store.by_map("layers").join("a/diff");
    fs::write(diff.join("large"), vec![1; 300_000]).unwrap();
    fs::hard_link(diff.join("large"), diff.join("again")).unwrap();
    let target = image(&store, &Digest::of(b"one"));
    store.tag(&name("app"), &target).unwrap();
    drop(store);
    let store = open(dir.path());
    let usage = store.usage().unwrap();
    let du = std::process::Command::new("du")
        .args(["-s", "-B1"])
        .arg(store.root())
        .output()
        .unwrap();
    let du = String::from_utf8(du.stdout).unwrap();
    let du: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(usage.total, du);
    let row = |kind: &str| {
        let found = usage.rows.iter().find(|row| row.kind == kind);
        found.unwrap_or_else(|| panic!("no {kind}"))
    };
    assert_eq!(row("step layers").count, 2);
    assert_eq!(row("step layers").reclaimable, row("step layers").bytes);
    assert!(row("step layers").bytes < 700_000);
    assert_eq!(row("step records").count, 2);
    assert_eq!((row("images").count, row("images").reclaimable), (1, 0));
    let sum: u64 = usage.rows.iter().map(|row| row.bytes).sum();
    assert_eq!(sum, usage.total);
}

#[test]
fn a_limit_is_kept_without_measuring_each_time() {
    let dir = tempfile::tempdir().unwrap();
    layers(dir.path(), &[("a", &[], 5), ("b", &[], 3)]);
    let noted = || -> serde_json::Value {
        let path = open(dir.path()).path("usage");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let total = open(dir.path()).usage().unwrap().total;
    let keep = |store: &Store, limit| store.keep_within(limit, &|| false).unwrap();
    assert_eq!(keep(&open(dir.path()), total + 200_000), None);
    let before = noted();
    let store = open(dir.path());
    layer(&store, &named("new"), &"y".repeat(50_000));
    assert_eq!(keep(&store, total + 200_000), None);
    let after = noted();
    assert_eq!(after["bytes"], before["bytes"], "not measured");
    let added = after["added"].as_u64().unwrap();
    assert!((50_000..100_000).contains(&added), "{added}");
    // What this process has made itself stays, and the least recently used goes.
    let report = keep(&store, total).unwrap();
    assert!(report.layers >= 1, "{report:?}");
    assert_eq!(layers_left(dir.path()).last().unwrap(), "new");
    assert!(!layers_left(dir.path()).contains(&"a".to_owned()));
    assert!(open(dir.path()).usage().unwrap().total <= total);
    assert_eq!(noted()["added"], 0);
}

#[test]
fn collecting_under_builds_leaves_every_image_whole() {
    let dir = tempfile::tempdir().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
    let root = dir.path();
    let collected = std::thread::scope(|scope| {
        let builders: Vec<_> = (0..2)
            .map(|builder| scope.spawn(move || builds(root, builder)))
            .collect();
        let pruner = scope.spawn(|| {
            let mut collected = 0;
            while !is_done() {
                let store = open(root);
                let report = store.collect(&PruneOptions::default(), &|| false).unwrap();
                assert_eq!(report.kept, Vec::<String>::new());
                collected += report.layers + report.blobs;
            }
            collected
        });
        for builder in builders {
            builder.join().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        pruner.join().unwrap()
    });
    assert!(collected > 0);
    collect(dir.path(), &PruneOptions::default());
    let store = open(dir.path());
    let (images, damaged) = store.images().unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    assert_eq!(images.len(), 2 * 40);
    for image in images {
        let diff_id = image.config.rootfs.diff_ids[0].parse().unwrap();
        assert!(store.layer_by_diff_id(&diff_id).unwrap().is_some());
    }
    assert_eq!(entries(&store.tmp()), 0);
}

/// Makes images one after the other, each by a process of its own as far as the store can tell.
fn builds(dir: &Path, builder: u32) {
    for count in 0..40 {
        let store = open(dir);
        let text = format!("{builder}-{count}");
        let diff_id = Digest::of(text.as_bytes());
        layer(&store, &LayerMeta::for_diff_id(&diff_id), &text);
        layer(&store, &named(&format!("stray-{text}")), &text);
        store.put_blob(format!("stray {text}").as_bytes()).unwrap();
        let target = image(&store, &diff_id);
        let tag = name(&format!("app:{text}"));
        store.tag(&tag, &target).unwrap();
    }
}
