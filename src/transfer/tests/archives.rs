//! Images to and from archives and layouts; file systems from archives.

use super::*;

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
