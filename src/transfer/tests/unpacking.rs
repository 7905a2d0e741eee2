//! Layers from blobs.

use super::*;

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
