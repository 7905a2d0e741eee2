//! Tests of transfers between a store and a registry made of a table, and with peers.

mod archives;
mod images;
mod unpacking;

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
    let bringing = Bringing::default();
    work(&Bringer::alone(store, remote, &bringing, progress))
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
        layers: PullLayers::All,
    }
}

fn known(policy: PullPolicy) -> PullOptions {
    PullOptions {
        layers: PullLayers::None,
        ..here(policy)
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

fn one_id() -> crate::layer::SingleId {
    crate::layer::SingleId {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}
