//! Tests of the store as a whole: several users, crashes, garbage.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::image::manifest::{Descriptor, OCI_MANIFEST};
use crate::image::{Platform, Reference};

pub(super) fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
    (dir, store)
}

pub(super) fn described(media_type: &str, digest: Digest, size: usize) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest,
        size: size as u64,
        urls: Vec::new(),
        annotations: std::collections::BTreeMap::new(),
        platform: None,
    }
}

/// Puts an image of one layer with this diff id into the store.
pub(super) fn image(store: &Store, diff_id: &Digest) -> Descriptor {
    let layer = store
        .put_blob(format!("layer {diff_id}").as_bytes())
        .unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let config_digest = store.put_blob(config.as_bytes()).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":77}}]}}"#,
        config.len()
    );
    let digest = store.put_blob(manifest.as_bytes()).unwrap();
    described(OCI_MANIFEST, digest, manifest.len())
}

pub(super) fn layer(store: &Store, meta: &LayerMeta, content: &str) -> LayerRecord {
    let staging = store.staging().unwrap();
    fs::create_dir(staging.diff()).unwrap();
    fs::write(staging.diff().join("file"), content).unwrap();
    store.publish_layer(staging, meta).unwrap()
}

pub(super) fn named(id: &str) -> LayerMeta {
    LayerMeta {
        id: id.into(),
        ..LayerMeta::default()
    }
}

pub(super) fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

pub(super) fn entries(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

/// What the next boot finds: a store whose layers carry another boot's id.
fn after_power_cut(dir: &Path) -> Store {
    let mut store = Store::open(dir, "test").unwrap();
    Arc::get_mut(&mut store.inner).unwrap().boot = "another".into();
    store
}

#[test]
fn the_root_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    let at = |path: &str| dir.path().join(path).into_os_string();
    let cases = [
        (vec![("LAPSTRAKE_ROOT", at("named"))], "named"),
        (
            vec![("XDG_DATA_HOME", at("data")), ("HOME", at("home"))],
            "data/lapstrake",
        ),
        (
            vec![("XDG_DATA_HOME", "relative".into()), ("HOME", at("home"))],
            "home/.local/share/lapstrake",
        ),
        (
            vec![("HOME", at("missing")), ("TMPDIR", at(""))],
            "lapstrake-1234",
        ),
        (
            vec![("HOME", "".into()), ("TMPDIR", at(""))],
            "lapstrake-1234",
        ),
        (
            vec![("HOME", "/proc".into()), ("TMPDIR", at(""))],
            "lapstrake-1234",
        ),
    ];
    for (env, expected) in cases {
        let env: HashMap<&str, OsString> = env.into_iter().collect();
        let root = default_root(|name| env.get(name).cloned(), 1234).unwrap();
        assert_eq!(root, dir.path().join(expected), "{env:?}");
        let mode = fs::metadata(&root).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{env:?}");
    }
}

#[test]
fn a_shared_directory_must_be_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("lapstrake-7");
    let find = || {
        let tmp = dir.path().as_os_str().to_owned();
        default_root(|name| (name == "TMPDIR").then(|| tmp.clone()), 7)
    };
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &root).unwrap();
    assert!(matches!(find(), Err(StoreError::NotPrivate { .. })));
    fs::remove_file(&root).unwrap();
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(find(), Err(StoreError::NotPrivate { .. })));
    fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(find().unwrap(), root);
}

#[test]
fn blobs_are_what_they_are_called() {
    let (_dir, store) = store();
    let digest = store.put_blob(b"hello").unwrap();
    assert!(store.has_blob(&digest));
    assert_eq!(store.read_blob(&digest).unwrap(), b"hello");
    assert_eq!(store.blob_size(&digest).unwrap(), 5);

    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"wrong").unwrap();
    assert_eq!(writer.bytes_written(), 5);
    let error = writer.finish(Some(&Digest::of(b"right"))).unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }));
    assert!(!store.has_blob(&Digest::of(b"wrong")));

    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"half of some").unwrap();
    writer.restart().unwrap();
    writer.write_all(b"thing").unwrap();
    let (digest, size) = writer.finish(None).unwrap();
    assert_eq!((digest, size), (Digest::of(b"thing"), 5));

    drop(store.blob_writer().unwrap());
    assert_eq!(entries(&store.tmp()), 0);
    assert!(matches!(
        store.open_blob(&Digest::of(b"none")),
        Err(StoreError::NoBlob { .. })
    ));
}

#[test]
fn a_large_blob_is_believed_once_it_is_on_the_disk() {
    let (dir, store) = store();
    let bytes = vec![7_u8; (1 << 20) + 1];
    let digest = store.put_blob(&bytes).unwrap();
    let path = store.blob_path(&digest);
    // Lost by a power cut: the name is there, the bytes are not.
    let damage = || {
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(0)
            .unwrap()
    };
    damage();
    let next = Store::open(dir.path(), "test").unwrap();
    assert!(!next.has_blob(&digest));
    assert_eq!(next.put_blob(&bytes).unwrap(), digest);
    assert!(next.has_blob(&digest));
    next.settle().unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o222, 0);
    let mut content = Vec::new();
    next.open_blob(&digest)
        .unwrap()
        .read_to_end(&mut content)
        .unwrap();
    assert_eq!(content, bytes);
}

#[test]
fn the_first_of_two_equal_layers_stays() {
    let (_dir, store) = store();
    let diff_id = Digest::of(b"tar");
    let meta = LayerMeta::for_diff_id(&diff_id);
    let first = layer(&store, &meta, "first");
    let second = layer(&store, &meta, "second");
    assert_eq!(first, second);
    assert_eq!(
        fs::read_to_string(second.diff().join("file")).unwrap(),
        "first"
    );
    assert_eq!(
        store.layer_by_diff_id(&diff_id).unwrap(),
        Some(first.clone())
    );
    assert_eq!(store.layer_dir(&meta.id), Some(first.dir));
    assert_eq!(store.layer_by_diff_id(&Digest::of(b"other")).unwrap(), None);
    assert_eq!(entries(&store.tmp()), 0);
}

#[test]
fn an_id_is_no_path() {
    let (_dir, store) = store();
    for id in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "A",
        ".hidden",
        &"x".repeat(101),
    ] {
        let staging = store.staging().unwrap();
        let error = store.publish_layer(staging, &named(id)).unwrap_err();
        assert!(matches!(error, StoreError::LayerId { .. }), "{id}");
        assert!(store.layer(id).is_err(), "{id}");
        assert!(store.export_record(id, "").is_err(), "{id}");
    }
}

#[test]
fn another_id_map_sees_nothing() {
    let (dir, store) = store();
    let diff_id = Digest::of(b"tar");
    let meta = LayerMeta::for_diff_id(&diff_id);
    layer(&store, &meta, "mine");
    let key = Digest::of(b"key");
    let record = StepRecord {
        layer: Some(meta.id.clone()),
        ..StepRecord::default()
    };
    store.put_step(&key, &record).unwrap();
    let other = Store::open(dir.path(), "0 100000 65536").unwrap();
    assert_eq!(other.layer_by_diff_id(&diff_id).unwrap(), None);
    assert_eq!(other.layer(&meta.id).unwrap(), None);
    assert_eq!(other.step(&key).unwrap(), None);
    assert_eq!(store.step(&key).unwrap(), Some(record));
}

#[test]
fn a_power_cut_costs_what_was_not_settled() {
    let (dir, store) = store();
    let settled = layer(&store, &named("settled"), "a");
    store.settle().unwrap();
    let lost = layer(&store, &named("lost"), "b");
    let key = Digest::of(b"key");
    let record = StepRecord {
        layer: Some("lost".into()),
        fields: vec![("run".into(), "make".into())],
        ..StepRecord::default()
    };
    store.put_step(&key, &record).unwrap();
    assert_eq!(store.layer("lost").unwrap(), Some(lost));
    assert_eq!(store.step(&key).unwrap(), Some(record));
    drop(store);

    let store = after_power_cut(dir.path());
    assert_eq!(store.layer("settled").unwrap(), Some(settled));
    assert_eq!(store.layer("lost").unwrap(), None);
    assert_eq!(store.step(&key).unwrap(), None);
    let again = layer(&store, &named("lost"), "c");
    assert_eq!(fs::read_to_string(again.diff().join("file")).unwrap(), "c");
    assert_eq!(store.layer("lost").unwrap(), Some(again));
    assert_eq!(entries(&store.tmp()), 0);
}

#[test]
fn a_crash_loses_only_tmp() {
    let (dir, store) = store();
    let staging = store.staging().unwrap();
    let closed = staging.diff().join("closed/in");
    fs::create_dir_all(&closed).unwrap();
    fs::write(closed.join("file"), "x").unwrap();
    for path in [&closed, closed.parent().unwrap()] {
        fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    }
    std::mem::forget(staging);
    std::mem::forget(store.blob_writer().unwrap());
    assert_eq!(entries(&store.tmp()), 2);
    let beside = Store::open(dir.path(), "test").unwrap();
    assert_eq!(entries(&store.tmp()), 2, "another process is at work");
    drop((store, beside));
    // The forgotten values still hold clones of the store, and with them its lock.
    let root = tempfile::tempdir().unwrap();
    fs::rename(dir.path().join("v1"), root.path().join("v1")).unwrap();
    fs::remove_file(root.path().join("v1/lock")).unwrap();
    let store = Store::open(root.path(), "test").unwrap();
    assert_eq!(entries(&store.tmp()), 0);
}

#[test]
fn damaged_records_are_absent_and_damaged_tags_an_error() {
    let (_dir, store) = store();
    let key = Digest::of(b"key");
    layer(&store, &named("a"), "a");
    for text in ["", "{", "[]", "\0\0\0"] {
        fs::write(store.by_map("steps").join(key.hex()), text).unwrap();
        fs::write(store.by_map("exports").join("a"), text).unwrap();
        fs::write(store.by_map("layers").join("a/meta.json"), text).unwrap();
        assert_eq!(store.step(&key).unwrap(), None, "{text:?}");
        assert_eq!(store.export_record("a", "").unwrap(), None, "{text:?}");
        assert_eq!(store.layer("a").unwrap(), None, "{text:?}");
        fs::write(store.path("oci/index.json"), text).unwrap();
        let error = store.images().unwrap_err();
        assert!(
            error.to_string().contains("index.json is damaged"),
            "{error}"
        );
    }
}

#[test]
fn tags_move_and_leave_the_old_image_without_a_name() {
    let (_dir, store) = store();
    let one = image(&store, &Digest::of(b"one"));
    let two = image(&store, &Digest::of(b"two"));
    store.tag(&name("app"), &one).unwrap();
    store.tag(&name("app:1"), &one).unwrap();
    store.tag(&name("app"), &two).unwrap();
    let names = |text: &str| -> Vec<String> {
        let image = store.image(&name(text)).unwrap().unwrap();
        image.names.iter().map(Reference::familiar).collect()
    };
    assert_eq!(names("app:1"), ["app:1"]);
    assert_eq!(names("app"), ["app:latest"]);
    assert_eq!(store.images().unwrap().0.len(), 2);
    assert_eq!(store.untag(&name("app:1")).unwrap(), Some(false));
    assert_eq!(store.images().unwrap().0.len(), 1);
    store.tag(&name("app"), &one).unwrap();
    store.tag(&name("app"), &two).unwrap();
    assert_eq!(store.untag(&name("nothing")).unwrap(), None);

    let unnamed = store.images().unwrap().0;
    assert!(unnamed.iter().any(|image| image.names.is_empty()));
    let id = store.image(&name("app")).unwrap().unwrap().id;
    for text in [id.as_str(), id.hex(), &id.hex()[..12], "app:latest"] {
        assert_eq!(store.find_image(text).unwrap().id, id, "{text}");
    }
    for text in ["zz", "nothing", "UPPER", &Digest::of(b"").to_string()] {
        let error = store.find_image(text).unwrap_err();
        assert!(
            matches!(error, StoreError::NoImage { .. }),
            "{text}: {error}"
        );
    }
    assert_eq!(store.untag(&name("app")).unwrap(), Some(false));
}

#[test]
fn a_name_is_known_for_every_platform_it_was_pulled_for() {
    let (_dir, store) = store();
    let [amd, arm]: [Platform; 2] = ["linux/amd64", "linux/arm64"].map(|p| p.parse().unwrap());
    let pull = |platform: &Platform, content: &[u8]| {
        let target = image(&store, &Digest::of(content));
        store.tag(&name("app"), &target).unwrap();
        store.note_pulled(&name("app"), platform, &target).unwrap();
        target.digest
    };
    let known = |platform: &Platform| {
        let found = store.pulled(&name("app"), platform).unwrap();
        found.map(|image| (image.target.digest.clone(), image.target.annotations.len()))
    };
    let one = pull(&amd, b"one");
    let two = pull(&arm, b"two");
    // The two annotations are those of the name.
    assert_eq!(known(&amd), Some((one, 0)));
    assert_eq!(known(&arm), Some((two.clone(), 2)));
    let newer = pull(&amd, b"three");
    assert_eq!(known(&amd), Some((newer, 2)));
    assert_eq!(known(&arm), Some((two, 0)));
    // Other names know nothing of it, and whoever takes the name away means it for all.
    let target = store.image(&name("app")).unwrap().unwrap().target;
    store.tag(&name("other"), &target).unwrap();
    assert_eq!(store.pulled(&name("other"), &amd).unwrap(), None);
    store.untag(&name("app")).unwrap();
    assert_eq!((known(&amd), known(&arm)), (None, None));
}

#[test]
fn a_reference_by_digest_finds_the_tagged_image() {
    let (_dir, store) = store();
    let target = image(&store, &Digest::of(b"one"));
    store.tag(&name("repo/app:1"), &target).unwrap();
    let digest = target.digest.clone();
    let by_digest = |repository: &str| {
        let text = format!("{repository}@{digest}");
        store.image(&name(&text)).unwrap().is_some()
    };
    assert!(by_digest("repo/app"));
    assert!(!by_digest("repo/other"));
    let error = store.tag(
        &name("x"),
        &described(OCI_MANIFEST, Digest::of(b"absent"), 1),
    );
    assert!(matches!(error, Err(StoreError::NoBlob { .. })));
}

#[test]
fn no_tag_is_lost_by_many_hands() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let root = dir.path();
            scope.spawn(move || {
                let store = Store::open(root, "test").unwrap();
                for count in 0..8 {
                    let target = image(&store, &Digest::of(format!("{count}").as_bytes()));
                    store
                        .tag(&name(&format!("app{thread}:{count}")), &target)
                        .unwrap();
                    let meta = LayerMeta::for_diff_id(&Digest::of(b"shared"));
                    layer(&store, &meta, "shared");
                }
            });
        }
    });
    let store = Store::open(dir.path(), "test").unwrap();
    let images = store.images().unwrap().0;
    assert_eq!(images.len(), 8);
    assert_eq!(
        images.iter().map(|image| image.names.len()).sum::<usize>(),
        64
    );
    assert_eq!(entries(&store.tmp()), 0);
}

#[test]
fn failures_name_path_and_cure() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file, "test").unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    let full = std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
    let error = StoreError::at("write", &file, full);
    assert!(error.is_environment());
    assert!(error.to_string().contains("lapstrake prune"), "{error}");
    let again = StoreError::at("copy to", dir.path(), error.into_io());
    assert!(matches!(again, StoreError::NoSpace { doing: "write", .. }));
}

#[test]
fn skopeo_reads_the_layout() {
    let (_dir, store) = store();
    let target = image(&store, &Digest::of(b"one"));
    store.tag(&name("app"), &target).unwrap();
    let at = format!(
        "oci:{}:docker.io/library/app:latest",
        store.layout().display()
    );
    match std::process::Command::new("skopeo")
        .args(["inspect", "--raw", &at])
        .output()
    {
        Err(error) => eprintln!("skipped: skopeo cannot be run: {error}"),
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{error}");
            assert_eq!(Digest::of(&output.stdout), target.digest.clone());
        }
    }
}

/// Where the process that is to be killed works; without it, the test that it runs does nothing.
const VICTIM: &str = "LAPSTRAKE_TEST_VICTIM";

#[test]
fn works_until_it_is_killed() {
    let Some(root) = std::env::var_os(VICTIM) else {
        return;
    };
    for count in 0_u64.. {
        let store = Store::open(Path::new(&root), "test").unwrap();
        let text = format!("{}-{count}", std::process::id());
        let diff_id = Digest::of(text.as_bytes());
        layer(&store, &LayerMeta::for_diff_id(&diff_id), &text);
        store
            .tag(&name(&format!("app:{text}")), &image(&store, &diff_id))
            .unwrap();
    }
}

#[test]
fn killed_processes_leave_a_store_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
    let tagged = || store.index().unwrap().manifests.len();
    for _ in 0..5 {
        let enough = tagged() + 3;
        let mut victims: Vec<_> = (0..2)
            .map(|_| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "store::tests::works_until_it_is_killed"])
                    .env(VICTIM, dir.path())
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        while tagged() < enough {
            std::thread::yield_now();
            for victim in &mut victims {
                assert!(victim.try_wait().unwrap().is_none(), "it ended by itself");
            }
        }
        for mut victim in victims {
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
    }
    for image in store.images().unwrap().0 {
        let diff_id = image.config.rootfs.diff_ids[0].parse().unwrap();
        let layer = store.layer_by_diff_id(&diff_id).unwrap().unwrap();
        let text = fs::read_to_string(layer.diff().join("file")).unwrap();
        assert_eq!(Digest::of(text.as_bytes()), diff_id);
    }
    drop(store);
    let store = Store::open(dir.path(), "test").unwrap();
    assert_eq!(entries(&store.tmp()), 0);
    store.collect(&PruneOptions::default(), &|| false).unwrap();
}

/// The directory of a disk that is too small; without it, the test that fills it does nothing.
const SMALL_DISK: &str = "LAPSTRAKE_TEST_SMALL_DISK";

#[test]
fn fills_a_small_disk() {
    let Some(root) = std::env::var_os(SMALL_DISK) else {
        return;
    };
    let store = Store::open(Path::new(&root), "test").unwrap();
    let image = image(&store, &Digest::of(b"one"));
    store.tag(&name("app"), &image).unwrap();
    let mut writer = store.blob_writer().unwrap();
    let error = std::io::copy(&mut std::io::repeat(7), &mut writer).unwrap_err();
    let error = StoreError::at("copy to", Path::new(&root), error);
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("lapstrake prune"), "{error}");
    let failure = writer.failure();
    assert!(matches!(failure, Some(StoreError::NoSpace { .. })));
    let error = store.tag(&name("other"), &image).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    drop(writer);
    store.tag(&name("other"), &image).unwrap();
    assert_eq!(store.images().unwrap().0.len(), 1);
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k none \"$1\" || exit 77; exec \"$2\" --exact store::tests::fills_a_small_disk";
    let result = std::process::Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .env(SMALL_DISK, dir.path())
        .output();
    let output = match result {
        Err(error) => return eprintln!("skipped: unshare cannot be run: {error}"),
        Ok(output) => output,
    };
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (said(&output.stdout), said(&output.stderr));
    if output.status.code() == Some(77) || error.contains("unshare failed") {
        return eprintln!("skipped: no small disk can be had: {error}");
    }
    assert!(output.status.success(), "{out}{error}");
    assert!(out.contains("1 passed"), "{out}");
}
