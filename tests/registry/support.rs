//! What the tests share: settings that touch nothing of the user's, and an image to send.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use lapstrake::image::manifest::{Descriptor, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use lapstrake::image::{Digest, Platform, Reference};
use lapstrake::registry::{Pushed, Registries, RegistryError, Settings};
use serde_json::json;

pub static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(text: &str) {
    NOTES.lock().unwrap().push(text.to_owned());
}

/// Quick, hermetic settings.
pub fn settings() -> Settings {
    Settings {
        credential_files: Vec::new(),
        pause: Duration::from_millis(5),
        note,
        ..Settings::default()
    }
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
    }
}

/// Bytes that no compressor and no cache makes shorter.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

pub struct Image {
    pub config: Vec<u8>,
    pub layer: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl Image {
    pub fn new(layer: Vec<u8>) -> Self {
        let diff_id = Digest::of(&layer);
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
        let config = config.to_string().into_bytes();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, &config),
            "layers": [descriptor(OCI_LAYER, &layer)]});
        Self {
            config,
            manifest: manifest.to_string().into_bytes(),
            layer,
        }
    }

    pub fn layer_descriptor(&self) -> Descriptor {
        descriptor(OCI_LAYER, &self.layer)
    }

    /// Pushes all of it; tells how the layer got there.
    pub fn push(&self, registries: &Registries, to: &Reference) -> Result<Pushed, RegistryError> {
        let dir = tempfile::tempdir().unwrap();
        let mut pushed = Pushed::Existed;
        for (name, bytes) in [("config", &self.config), ("layer", &self.layer)] {
            let path = write(dir.path(), name, bytes);
            let open = || File::open(&path);
            pushed = registries.push_blob(to, &descriptor("", bytes), &[], &open)?;
        }
        let digest = registries.push_manifest(to, OCI_MANIFEST, &self.manifest)?;
        assert_eq!(digest, Digest::of(&self.manifest));
        Ok(pushed)
    }

    /// Pulls all of it and compares.
    pub fn check(&self, registries: &Registries, from: &Reference) {
        let resolved = registries.resolve(from, &amd64()).unwrap();
        assert_eq!(resolved.manifest_bytes, self.manifest);
        assert_eq!(resolved.digest, Digest::of(&self.manifest));
        let config = registries
            .fetch_small(from, &resolved.manifest.config, 1 << 20)
            .unwrap();
        assert_eq!(config, self.config);
        let mut layer = Vec::new();
        registries
            .fetch_blob(from, &resolved.manifest.layers[0], &mut layer)
            .unwrap();
        assert!(layer == self.layer);
    }
}

pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    let written: io::Result<()> = File::create(&path).and_then(|mut file| file.write_all(bytes));
    written.unwrap();
    path
}
