//! Images to and from registries.

use super::*;

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
        layers: PullLayers::All,
    };
    let error = pull(&receiver, &registry, &at, &wanted(true), &quiet).unwrap_err();
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    assert_eq!(receiver.image(&at).unwrap(), None);
    let taken = pull(&receiver, &registry, &at, &wanted(false), &quiet).unwrap();
    assert_eq!(taken.platform(), Platform::host());
}

#[test]
fn layers_come_when_they_are_needed() {
    let (_one, sender) = store();
    let (_two, receiver) = store();
    let registry = Table::default();
    let at = name("registry.test/app:1");
    let image = imported(&sender, "registry.test/app:1");
    send(&sender, &registry, &image, &at);
    let resolved = |policy| pull(&receiver, &registry, &at, &known(policy), &quiet).unwrap();
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
    let bringing = Bringing::default();
    let bringer = Bringer {
        stopped: &|| true,
        ..Bringer::alone(&receiver, &registry, &bringing, &quiet)
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
    let known = known(PullPolicy::IfMissing);
    let found = pull(&middle, &first, &at, &known, &quiet).unwrap();
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
