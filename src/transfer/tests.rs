//! Tests of transfers between a store and a registry made of a table, and with peers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::image::manifest::{Descriptor, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use crate::image::{Digest, Platform, Reference};
use crate::layer::LayerStack;
use crate::output::{ArchiveKind, write_archive, write_layout};
use crate::store::{Store, StoredImage};

/// A registry in memory: blobs by digest, manifests by name.
#[derive(Default)]
struct Table {
    blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    manifests: Mutex<BTreeMap<String, (Vec<u8>, String)>>,
    asked: Mutex<usize>,
}

impl Remote for Table {
    fn resolve(&self, name: &Reference, _: &Platform) -> Result<Resolved, RemoteError> {
        *self.asked.lock().unwrap() += 1;
        let manifests = self.manifests.lock().unwrap();
        let (manifest, media_type) = manifests.get(&name.to_string()).ok_or("no such name")?;
        Ok(Resolved {
            media_type: media_type.clone(),
            digest: Digest::of(manifest),
            manifest: manifest.clone(),
        })
    }

    fn fetch_blob(
        &self,
        _: &Reference,
        blob: &Descriptor,
        sink: &mut dyn Write,
    ) -> Result<(), RemoteError> {
        *self.asked.lock().unwrap() += 1;
        let blobs = self.blobs.lock().unwrap();
        let bytes = blobs.get(blob.digest.as_str()).ok_or("no such blob")?;
        for half in bytes.chunks(bytes.len().div_ceil(2)) {
            sink.write_all(half)?;
        }
        Ok(())
    }

    fn has_or_mounts_blob(
        &self,
        _: &Reference,
        blob: &Descriptor,
        _: &[Reference],
    ) -> Result<bool, RemoteError> {
        let blobs = self.blobs.lock().unwrap();
        Ok(blobs.contains_key(blob.digest.as_str()))
    }

    fn push_blob(
        &self,
        _: &Reference,
        blob: &Descriptor,
        _: &[Reference],
        open: &dyn Fn() -> io::Result<fs::File>,
    ) -> Result<bool, RemoteError> {
        let mut bytes = Vec::new();
        open()?.read_to_end(&mut bytes)?;
        let mut blobs = self.blobs.lock().unwrap();
        Ok(blobs.insert(blob.digest.to_string(), bytes).is_none())
    }

    fn push_manifest(
        &self,
        name: &Reference,
        manifest: &[u8],
        media_type: &str,
    ) -> Result<(), RemoteError> {
        let value = (manifest.to_vec(), media_type.to_owned());
        self.manifests
            .lock()
            .unwrap()
            .insert(name.to_string(), value);
        Ok(())
    }
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
    (dir, store)
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn quiet(_: Event) {}

/// Does something with a bringer that nobody stops.
fn bringing<T>(
    store: &Store,
    remote: &dyn Remote,
    progress: &Progress<'_>,
    work: impl FnOnce(&Bringer<'_>) -> T,
) -> T {
    work(&Bringer {
        store,
        remote,
        bringing: &Bringing::default(),
        compute: &|work| work(),
        stopped: &|| false,
        progress,
    })
}

fn send(store: &Store, registry: &Table, image: &StoredImage, at: &Reference) {
    let parts = parts(store, image).unwrap();
    bringing(store, registry, &quiet, |bringer| {
        push(bringer, &parts, at, &[]).unwrap();
    });
}

/// The image's layers, unpacked, from a store that has all of its blobs.
fn ensure_layers(
    store: &Store,
    image: &StoredImage,
    ids: &LayerIds<'_>,
    progress: &Progress<'_>,
) -> Result<LayerStack, TransferError> {
    bringing(store, &Table::default(), progress, |bringer| {
        bringer.stack(&layers_of(image)?, ids)
    })
}

fn here(policy: PullPolicy) -> PullOptions {
    PullOptions {
        platform: Platform::host(),
        exact: true,
        policy,
    }
}

fn options() -> ImportOptions {
    ImportOptions {
        platform: Platform::host(),
        created: "1970-01-01T00:00:00Z".into(),
        message: "test".into(),
    }
}

/// A small root file system as a tar.
fn rootfs_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in [("etc/os-release", "ID=test\n"), ("hello", "hello\n")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Imports the small root file system and tags it.
fn imported(store: &Store, tag: &str) -> StoredImage {
    let target = import_tar(store, Cursor::new(gzip(&rootfs_tar())), "test", &options()).unwrap();
    store.tag(&name(tag), &target).unwrap();
    store.image(&name(tag)).unwrap().unwrap()
}

fn archive(store: &Store, kind: ArchiveKind, image: &StoredImage) -> Vec<u8> {
    let mut out = Vec::new();
    let parts = parts(store, image).unwrap();
    write_archive(&mut out, kind, &[parts], &open_blob(store)).unwrap();
    out
}

/// Runs a peer; `None` with a printed reason when it is not installed.
fn peer(program: &str, args: &[&str]) -> Option<Vec<u8>> {
    match Command::new(program).args(args).output() {
        Err(error) => {
            eprintln!("skipped: {program} cannot be run: {error}");
            None
        }
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {args:?}: {error}");
            Some(output.stdout)
        }
    }
}

#[test]
fn what_is_pushed_can_be_pulled_byte_for_byte() {
    let (_one, sender) = store();
    let (_two, receiver) = store();
    let registry = Table::default();
    let image = imported(&sender, "registry.test/app:1");
    let at = name("registry.test/app:1");
    send(&sender, &registry, &image, &at);

    let never = pull(&receiver, &registry, &at, &here(PullPolicy::Never), &quiet);
    assert!(matches!(never, Err(TransferError::NotHere { .. })));
    let events = Mutex::new(Vec::new());
    let tell = |event| events.lock().unwrap().push(event);
    let pulled = pull(
        &receiver,
        &registry,
        &at,
        &here(PullPolicy::IfMissing),
        &tell,
    )
    .unwrap();
    assert_eq!(
        (&pulled.id, &pulled.manifest_digest),
        (&image.id, &image.manifest_digest)
    );
    assert!(
        events
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event, Event::Done { .. }))
    );
    for layer in pulled.manifest.layers {
        assert!(receiver.has_blob(&layer.digest.clone()));
    }

    let asked = *registry.asked.lock().unwrap();
    for policy in [PullPolicy::IfMissing, PullPolicy::Never] {
        pull(&receiver, &registry, &at, &here(policy), &quiet).unwrap();
    }
    assert_eq!(*registry.asked.lock().unwrap(), asked, "nothing to ask");
    pull(&receiver, &registry, &at, &here(PullPolicy::Always), &quiet).unwrap();
    assert_eq!(
        *registry.asked.lock().unwrap(),
        asked + 1,
        "the manifest only"
    );
}

#[test]
fn what_is_tampered_with_does_not_arrive() {
    let (_one, sender) = store();
    let registry = Table::default();
    let at = name("registry.test/app:1");
    let image = imported(&sender, "registry.test/app:1");
    send(&sender, &registry, &image, &at);
    let digests: Vec<String> = registry.blobs.lock().unwrap().keys().cloned().collect();
    for digest in digests {
        let (_two, receiver) = store();
        let good = registry.blobs.lock().unwrap().get(&digest).unwrap().clone();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        registry.blobs.lock().unwrap().insert(digest.clone(), bad);
        let error = pull(
            &receiver,
            &registry,
            &at,
            &here(PullPolicy::IfMissing),
            &quiet,
        );
        let error = error.unwrap_err();
        assert!(error.to_string().contains(&digest), "{error}");
        assert_eq!(receiver.image(&at).unwrap(), None);
        registry.blobs.lock().unwrap().insert(digest, good);
    }
}

#[test]
fn another_platform_is_refused() {
    let (_one, sender) = store();
    let (_two, receiver) = store();
    let registry = Table::default();
    let at = name("registry.test/app:1");
    send(&sender, &registry, &imported(&sender, "x"), &at);
    let wanted = |exact| PullOptions {
        platform: "linux/s390x".parse().unwrap(),
        exact,
        policy: PullPolicy::IfMissing,
    };
    let error = pull(&receiver, &registry, &at, &wanted(true), &quiet).unwrap_err();
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    assert_eq!(receiver.image(&at).unwrap(), None);
    let taken = pull(&receiver, &registry, &at, &wanted(false), &quiet).unwrap();
    assert_eq!(taken.platform(), Platform::host());
}

#[test]
fn archives_come_back_as_they_left() {
    let (_one, sender) = store();
    let image = imported(&sender, "example/app:1");
    for kind in [ArchiveKind::Oci, ArchiveKind::Docker] {
        let bytes = archive(&sender, kind, &image);
        assert_eq!(
            bytes,
            archive(&sender, kind, &image),
            "equal images, equal bytes"
        );
        for bytes in [gzip(&bytes), bytes] {
            let (_two, receiver) = store();
            let loaded = load(&receiver, Cursor::new(bytes), "test").unwrap();
            let expected = Loaded {
                id: image.id.clone(),
                names: vec![name("example/app:1")],
            };
            assert_eq!(loaded, [expected], "{kind:?}");
            let found = receiver.image(&name("example/app:1")).unwrap().unwrap();
            assert_eq!(found.manifest_digest, image.manifest_digest, "{kind:?}");
        }
    }
}

/// The archive that Docker wrote before it knew of OCI layouts, with a layer behind a link.
fn legacy(layer: &[u8], diff_id: &str, link: &str) -> Vec<u8> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest = r#"[{"Config":"c.json","RepoTags":["old:1"],"Layers":["b/layer.tar"]}]"#;
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    add("a/layer.tar", layer);
    add("c.json", config.as_bytes());
    add("manifest.json", manifest.as_bytes());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "b/layer.tar", link).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn old_docker_archives_load() {
    let layer = rootfs_tar();
    let diff_id = Digest::of(&layer);
    let link = "../a/layer.tar";
    let bzip2 = |bytes: &[u8]| {
        let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    for (bytes, media_type) in [
        (layer.clone(), OCI_LAYER),
        (gzip(&layer), OCI_LAYER_GZIP),
        (bzip2(&layer), OCI_LAYER),
    ] {
        let (_dir, store) = store();
        load(
            &store,
            Cursor::new(legacy(&bytes, diff_id.as_str(), link)),
            "test",
        )
        .unwrap();
        let image = store.image(&name("old:1")).unwrap().unwrap();
        assert_eq!(image.manifest.layers[0].media_type, media_type);
    }
}

#[test]
fn hostile_archives_are_refused() {
    let layer = rootfs_tar();
    let diff_id = Digest::of(&layer);
    let (_dir, sender) = store();
    let mut tampered = archive(&sender, ArchiveKind::Oci, &imported(&sender, "x"));
    let at = tampered.len() - 2048;
    tampered[at] ^= 1;
    let cases: [(&str, Vec<u8>, &str); 7] = [
        (
            "link out",
            legacy(&layer, diff_id.as_str(), "../../etc/passwd"),
            "leads out",
        ),
        (
            "absolute link",
            legacy(&layer, diff_id.as_str(), "/etc/passwd"),
            "leads out",
        ),
        (
            "no target",
            legacy(&layer, diff_id.as_str(), "nothing"),
            "missing",
        ),
        (
            "link loop",
            legacy(&layer, diff_id.as_str(), "layer.tar"),
            "missing",
        ),
        (
            "wrong layer",
            legacy(b"other", diff_id.as_str(), "../a/layer.tar"),
            diff_id.as_str(),
        ),
        ("a rootfs", layer.clone(), "lapstrake import"),
        ("tampered", tampered, "test"),
    ];
    for (case, bytes, expected) in cases {
        let (_dir, store) = store();
        let error = load(&store, Cursor::new(bytes), "test").unwrap_err();
        assert!(error.to_string().contains(expected), "{case}: {error}");
        assert_eq!(store.images().unwrap().0, [], "{case}");
    }
    let (_dir, store) = store();
    let whole = archive(&sender, ArchiveKind::Docker, &imported(&sender, "x"));
    for cut in [0, 100, 600, 1500, whole.len() / 2] {
        let error = load(&store, Cursor::new(&whole[..cut]), "test").unwrap_err();
        assert!(error.to_string().contains("test"), "{cut}: {error}");
    }
}

#[test]
fn imports_know_their_content() {
    let tar = rootfs_tar();
    let zstd = zstd::encode_all(Cursor::new(&tar), 1).unwrap();
    for (bytes, media_type) in [
        (tar.clone(), OCI_LAYER),
        (gzip(&tar), OCI_LAYER_GZIP),
        (zstd, OCI_LAYER_ZSTD),
    ] {
        let (_dir, store) = store();
        let target = import_tar(&store, Cursor::new(&bytes), "test", &options()).unwrap();
        store.tag(&name("x"), &target).unwrap();
        let image = store.image(&name("x")).unwrap().unwrap();
        assert_eq!(image.config.rootfs.diff_ids, [Digest::of(&tar).to_string()]);
        let layer = &image.manifest.layers[0];
        assert_eq!(layer.media_type, media_type);
        assert_eq!(layer.digest, Digest::of(&bytes));
    }
    for bytes in [&b""[..], b"no tar", &[0; 2048]] {
        let (_dir, store) = store();
        let error = import_tar(&store, Cursor::new(bytes), "test", &options()).unwrap_err();
        assert!(error.to_string().contains("test"), "{error}");
        assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    }
    let (_dir, store) = store();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let target = import_dir(&store, dir.path(), &options()).unwrap();
    store.tag(&name("dir"), &target).unwrap();
    let image = store.image(&name("dir")).unwrap().unwrap();
    let digest = image.manifest.layers[0].digest.clone();
    let mut archive = tar::Archive::new(store.open_blob(&digest).unwrap());
    let paths: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert!(
        paths.contains(&Path::new("file").to_path_buf()),
        "{paths:?}"
    );
}

#[test]
fn a_layout_is_added_to() {
    let (_dir, store) = store();
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("layout");
    let open = open_blob(&store);
    for tag in ["app:1", "app:2", "app:1"] {
        let parts = parts(&store, &imported(&store, tag)).unwrap();
        let parts = crate::image::ImageParts {
            names: vec![name(tag)],
            ..parts
        };
        write_layout(&dir, &[parts], &open).unwrap();
    }
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let used = out.path().join("used");
    fs::create_dir(&used).unwrap();
    fs::write(used.join("file"), "").unwrap();
    assert!(write_layout(&used, &[], &open).is_err());
}

#[test]
fn a_missing_blob_is_no_archive() {
    let (_dir, store) = store();
    let image = imported(&store, "x");
    let layer = image.manifest.layers[0].digest.clone();
    fs::remove_file(store.blob_path(&layer)).unwrap();
    let error = complete(&store, &Table::default(), &image, &quiet).unwrap_err();
    assert!(error.to_string().contains(layer.as_str()), "{error}");
}

#[test]
fn skopeo_and_umoci_read_what_is_written() {
    let (_dir, store) = store();
    let image = imported(&store, "example/app:1");
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name).to_str().unwrap().to_owned();
    for (file, kind) in [
        ("oci.tar", ArchiveKind::Oci),
        ("docker.tar", ArchiveKind::Docker),
    ] {
        fs::write(at(file), archive(&store, kind, &image)).unwrap();
    }
    let parts = parts(&store, &image).unwrap();
    let parts = crate::image::ImageParts {
        names: vec![name("app:1")],
        ..parts
    };
    write_layout(Path::new(&at("layout")), &[parts], &open_blob(&store)).unwrap();
    let sources = [
        format!("oci-archive:{}", at("oci.tar")),
        format!("docker-archive:{}", at("docker.tar")),
        format!("oci:{}", at("layout")),
        format!("oci:{}:docker.io/example/app:1", store.layout().display()),
    ];
    for source in &sources {
        let Some(config) = peer("skopeo", &["inspect", "--config", "--raw", source]) else {
            return;
        };
        assert_eq!(Digest::of(&config), image.id, "{source}");
        let copy = format!("dir:{}", at("copy"));
        peer("skopeo", &["--insecure-policy", "copy", source, &copy]);
    }
    let layout = format!("{}:docker.io/library/app:1", at("layout"));
    peer("umoci", &["stat", "--image", &layout, "--json"]);
}

#[test]
fn archives_of_skopeo_load() {
    let (_dir, sender) = store();
    let image = imported(&sender, "example/app:1");
    let out = tempfile::tempdir().unwrap();
    let source = format!("oci:{}:docker.io/example/app:1", sender.layout().display());
    for (transport, file, tag) in [
        ("docker-archive", "docker.tar", "docker.io/example/app:1"),
        ("oci-archive", "oci.tar", "docker.io/example/app:1"),
    ] {
        let path = out.path().join(file);
        let target = format!("{transport}:{}:{tag}", path.display());
        if peer("skopeo", &["--insecure-policy", "copy", &source, &target]).is_none() {
            return;
        }
        let (_dir, receiver) = store();
        let loaded = load(&receiver, fs::File::open(&path).unwrap(), "test").unwrap();
        assert_eq!(loaded[0].names, [name("example/app:1")], "{transport}");
        let found = receiver.image(&name("example/app:1")).unwrap().unwrap();
        assert_eq!(found.config.rootfs, image.config.rootfs, "{transport}");
    }
}

/// A tar of directories (mode in the text) and files.
fn tar_of(entries: &[(&str, Option<u32>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_mode(mode.unwrap_or(0o644));
        header.set_entry_type(match mode {
            Some(_) => tar::EntryType::Directory,
            None => tar::EntryType::Regular,
        });
        tar.append_data(&mut header, path, io::empty()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Stores an image of these layers.
fn image_of(store: &Store, tag: &str, layers: &[&[u8]], diff_ids: &[Digest]) -> StoredImage {
    let layer = |tar: &&[u8]| {
        let digest = store.put_blob(tar).unwrap();
        Descriptor::new(OCI_LAYER, &digest, tar.len() as u64)
    };
    let config = serde_json::json!({
        "architecture": Platform::host().arch, "os": "linux", "tag": tag,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let layers: Vec<_> = layers.iter().map(layer).collect();
    let config = config.to_string();
    let target = super::make::store_image(store, config.as_bytes(), &layers).unwrap();
    store.tag(&name(tag), &target).unwrap();
    store.image(&name(tag)).unwrap().unwrap()
}

fn one_id() -> crate::layer::SingleId {
    crate::layer::SingleId {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

#[test]
fn a_layer_is_unpacked_once_and_shared() {
    let (_dir, store) = store();
    let (low, high) = (
        tar_of(&[("etc", Some(0o755)), ("etc/a", None)]),
        tar_of(&[("b", None)]),
    );
    let ids: Vec<Digest> = [&low, &high].map(|tar| Digest::of(tar)).into();
    let one = image_of(&store, "one", &[&low], &ids[..1]);
    let two = image_of(&store, "two", &[&low, &high], &ids);
    let unpacked = Mutex::new(0);
    let tell = |event| {
        if matches!(event, Event::Unpacked { .. }) {
            *unpacked.lock().unwrap() += 1;
        }
    };
    let first = ensure_layers(&store, &one, &one_id(), &tell).unwrap();
    let second = ensure_layers(&store, &two, &one_id(), &tell).unwrap();
    ensure_layers(&store, &two, &one_id(), &tell).unwrap();
    assert_eq!(*unpacked.lock().unwrap(), 2);
    assert_eq!(first.layers()[0].id(), second.layers()[0].id());
    assert!(second.layers()[0].diff().join("etc/a").is_file());
    assert!(second.layers()[1].diff().join("b").is_file());
    let export = store
        .export_record(second.layers()[1].id(), "")
        .unwrap()
        .unwrap();
    assert_eq!(export.made_as("registry").unwrap().digest, ids[1]);
}

#[test]
fn a_layer_must_be_what_the_configuration_says() {
    let (_dir, store) = store();
    let tar = tar_of(&[("a", None)]);
    let other = Digest::of(b"other");
    let image = image_of(&store, "x", &[&tar], std::slice::from_ref(&other));
    let error = ensure_layers(&store, &image, &one_id(), &quiet)
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains(other.as_str()) && text.contains(Digest::of(&tar).as_str()),
        "{text}"
    );
    let image = image_of(&store, "y", &[&tar[..700]], &[Digest::of(&tar[..700])]);
    assert!(ensure_layers(&store, &image, &one_id(), &quiet).is_err());
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_directory_that_is_not_described_stays_as_it_is_below() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = store();
    let low = tar_of(&[("tmp", Some(0o1777)), ("home", Some(0o700))]);
    let high = tar_of(&[("tmp/file", None), ("new/file", None)]);
    let ids: Vec<Digest> = [&low, &high].map(|tar| Digest::of(tar)).into();
    let stacked = image_of(&store, "stacked", &[&low, &high], &ids);
    let alone = image_of(&store, "alone", &[&high], &ids[1..]);
    for (image, expected) in [(&stacked, 0o1777), (&alone, 0o755), (&stacked, 0o1777)] {
        let layers = ensure_layers(&store, image, &one_id(), &quiet).unwrap();
        let diff = layers.layers().last().unwrap().diff();
        let mode = |path: &str| fs::metadata(diff.join(path)).unwrap().permissions().mode();
        assert_eq!(mode("tmp") & 0o7777, expected);
        assert_eq!(mode("new") & 0o7777, 0o755);
    }
    drop(store);
    let report = Store::open(dir.path(), "test")
        .unwrap()
        .collect(&crate::store::PruneOptions::default(), &|| false)
        .unwrap();
    assert_eq!(report.layers, 0, "both forms are in use");
}

#[test]
fn layers_come_when_they_are_needed() {
    let (_one, sender) = store();
    let (_two, receiver) = store();
    let registry = Table::default();
    let at = name("registry.test/app:1");
    let image = imported(&sender, "registry.test/app:1");
    send(&sender, &registry, &image, &at);
    let resolved = |policy| resolve(&receiver, &registry, &at, &here(policy), &quiet).unwrap();
    let asked = || *registry.asked.lock().unwrap();
    let found = resolved(PullPolicy::IfMissing);
    assert_eq!(found.id, image.id);
    let blob = found.manifest.layers[0].digest.clone();
    assert!(!receiver.has_blob(&blob), "nobody needs it yet");
    let before = asked();
    resolved(PullPolicy::IfMissing);
    resolved(PullPolicy::Never);
    assert_eq!(asked(), before, "what it is, is known");
    resolved(PullPolicy::Always);
    assert_eq!(asked(), before + 1, "the manifest only");

    // By another name: the store knows where the blob is.
    receiver.tag(&name("other:1"), &found.target).unwrap();
    receiver.untag(&at).unwrap();
    let other = receiver.image(&name("other:1")).unwrap().unwrap();
    let unpacked = || {
        let layers = layers_of(&other).unwrap();
        bringing(&receiver, &registry, &quiet, |bringer| {
            bringer.stack(&layers, &one_id()).unwrap()
        })
    };
    let layers = unpacked();
    assert_eq!(
        fs::read_to_string(layers.layers()[0].diff().join("hello")).unwrap(),
        "hello\n"
    );
    assert_eq!(layers.layers()[0].id(), layers_of(&other).unwrap()[0].id());
    // A layer that is unpacked does for building, even when its blob has gone.
    fs::remove_file(receiver.blob_path(&blob)).unwrap();
    let before = asked();
    unpacked();
    assert_eq!(asked(), before);
    complete(&receiver, &registry, &other, &quiet).unwrap();
    assert!(receiver.has_blob(&blob));
}

#[test]
fn a_source_that_fails_is_followed_by_the_next() {
    let (_one, sender) = store();
    let image = imported(&sender, "x");
    let layout = tempfile::tempdir().unwrap();
    let parts = parts(&sender, &image).unwrap();
    write_layout(layout.path(), &[parts], &open_blob(&sender)).unwrap();
    let registry = Table::default();
    let (there, nowhere) = (
        BlobSource::Layout(layout.path().to_owned()),
        BlobSource::Repository(name("registry.test/none")),
    );
    let blob = &image.manifest.layers[0];
    for (sources, comes) in [
        (vec![nowhere.clone(), there.clone()], true),
        (vec![there.clone()], true),
        (vec![nowhere.clone(), nowhere], false),
        (vec![], false),
    ] {
        let (_two, receiver) = store();
        let brought = bringing(&receiver, &registry, &quiet, |bringer| {
            bringer.blob(blob, &sources)
        });
        assert_eq!(brought.is_ok(), comes, "{sources:?}");
        assert_eq!(receiver.has_blob(&blob.digest), comes, "{sources:?}");
        let left = fs::read_dir(receiver.root().join("tmp")).unwrap().count();
        assert_eq!(left, 0, "{sources:?}");
    }
    assert_eq!(
        *registry.asked.lock().unwrap(),
        2,
        "the same one is asked once"
    );
    // Stopped, nothing is begun.
    let (_three, receiver) = store();
    let bringer = Bringer {
        store: &receiver,
        remote: &registry,
        bringing: &Bringing::default(),
        compute: &|work| work(),
        stopped: &|| true,
        progress: &quiet,
    };
    let stopped = bringer.blob(blob, &[there]);
    assert!(matches!(stopped, Err(TransferError::Stopped)));
}

#[test]
fn what_is_pushed_need_not_be_here() {
    let (_one, sender) = store();
    let (_two, middle) = store();
    let (first, second) = (Table::default(), Table::default());
    let at = name("registry.test/app:1");
    send(&sender, &first, &imported(&sender, "x"), &at);
    let here = here(PullPolicy::IfMissing);
    let found = resolve(&middle, &first, &at, &here, &quiet).unwrap();
    let parts = parts(&middle, &found).unwrap();
    let blob = found.manifest.layers[0].digest.clone();
    // A registry that has it: nothing comes, nothing goes.
    bringing(&middle, &first, &quiet, |bringer| {
        push(bringer, &parts, &name("registry.test/b:1"), &[]).unwrap();
    });
    assert!(!middle.has_blob(&blob));
    // One that has not, and nobody who has.
    bringing(&middle, &second, &quiet, |bringer| {
        push(bringer, &parts, &at, &[]).unwrap_err();
    });
    // From a layout.
    let layout = tempfile::tempdir().unwrap();
    let whole = super::parts(&sender, &sender.image(&name("x")).unwrap().unwrap()).unwrap();
    write_layout(layout.path(), &[whole], &open_blob(&sender)).unwrap();
    let sources = [BlobSource::Layout(layout.path().to_owned())];
    let sourced = SourcedLayer::of_image(&found, "x", &sources).unwrap();
    bringing(&middle, &second, &quiet, |bringer| {
        push(bringer, &parts, &at, &sourced).unwrap();
    });
    assert!(second.blobs.lock().unwrap().contains_key(blob.as_str()));
}
