//! [`Unpacking`]: unpacks layers whose blobs are in the store.
//!
//! A layer is unpacked once, under its diff id, and shared by every image that has it. What it
//! looks like may depend on the layers below in one respect: directories that its tar leads through
//! without describing them keep, in a merged view, what the layers below say of them. Such a layer
//! is unpacked once more, under an id of its chain, if the layers below do say something.

use rustix::fs::{FileType, fstat};

use super::{Event, Progress, SourcedLayer, TransferError};
use crate::image::Digest;
use crate::layer::{
    Attributes, Ids, Layer, LayerError, LayerStack, Meta, Target, Truth, Unpacked, unpack,
};
use crate::rootfs::{Follow, RootDir, RootPath};
use crate::store::{
    ExportRecord, ExportedBlob, LayerMeta, LayerRecord, Staging, Store, StoreError,
};

/// The note that lists directories a layer does not describe, in hexadecimal.
const IMPLIED: &str = "implied";
/// The export record's word for «as the registry had it».
const AS_RECEIVED: &str = "registry";

/// Which owners the disk can hold, for several threads.
pub type LayerIds<'a> = dyn Ids + Sync + 'a;

/// Unpacks layers of one image.
pub(super) struct Unpacking<'a> {
    pub store: &'a Store,
    pub image: &'a str,
    pub ids: &'a LayerIds<'a>,
    pub progress: &'a Progress<'a>,
}

impl Unpacking<'_> {
    /// Unpacks a layer unless the store has it.
    pub fn ensure(&self, part: &SourcedLayer) -> Result<(), TransferError> {
        if self.store.layer_by_diff_id(&part.diff_id)?.is_some() {
            return Ok(());
        }
        let (staging, unpacked) = self.unpack(part)?;
        let mut meta = LayerMeta {
            size: unpacked.diff_size,
            origin: self.image.to_owned(),
            ..LayerMeta::for_diff_id(&part.diff_id)
        };
        if !unpacked.implied.is_empty() {
            let paths = unpacked
                .implied
                .iter()
                .map(|path| hex::encode(path.as_bytes()));
            meta.notes
                .insert(IMPLIED.into(), paths.collect::<Vec<_>>().join(" "));
        }
        self.publish(part, staging, &meta)?;
        Ok(())
    }

    fn unpack(&self, part: &SourcedLayer) -> Result<(Staging, Unpacked), TransferError> {
        let blob = || part.blob.digest.clone();
        (self.progress)(Event::Unpacking { blob: blob() });
        let reader = self.store.open_blob(&part.blob.digest)?;
        let staging = self.store.staging()?;
        let unpacked =
            unpack(reader, staging.path(), self.ids).map_err(|source| self.failed(part, source))?;
        if unpacked.diff_id != part.diff_id {
            return Err(TransferError::DiffId {
                image: self.image.to_owned(),
                blob: blob(),
                expected: part.diff_id.clone(),
                found: unpacked.diff_id,
            });
        }
        Ok((staging, unpacked))
    }

    fn publish(
        &self,
        part: &SourcedLayer,
        staging: Staging,
        meta: &LayerMeta,
    ) -> Result<LayerRecord, TransferError> {
        let record = self.store.publish_layer(staging, meta)?;
        let export = ExportRecord {
            diff_id: part.diff_id.clone(),
            size: meta.size,
            blobs: vec![ExportedBlob {
                compression: AS_RECEIVED.into(),
                media_type: part.blob.media_type.clone(),
                digest: part.blob.digest.clone(),
                size: part.blob.size,
            }],
        };
        self.store.put_export_record(&record.meta.id, "", &export)?;
        (self.progress)(Event::Unpacked {
            blob: part.blob.digest.clone(),
        });
        Ok(record)
    }

    /// The layer, which has been unpacked, as it has to be on top of `below`. `chain` stands for both;
    /// `have_blob` is called if the layer has to be unpacked once more.
    pub fn over(
        &self,
        part: &SourcedLayer,
        below: &LayerStack,
        chain: &str,
        have_blob: &dyn Fn() -> Result<(), TransferError>,
    ) -> Result<Layer, TransferError> {
        let missing = || StoreError::Corrupt {
            path: self.store.root().join("diffs"),
            reason: format!("the layer {} has vanished", part.diff_id),
        };
        let shared = self.store.layer_by_diff_id(&part.diff_id)?;
        let shared = shared.ok_or_else(missing)?;
        let fixes = self.fixes(part, &shared, below)?;
        let record = if fixes.is_empty() {
            shared
        } else {
            self.fixed(part, &shared, chain, &fixes, have_blob)?
        };
        let layer = Layer::open(&record.meta.id, &record.dir);
        layer.map_err(|source| self.failed(part, source))
    }

    /// What the layers below say of directories that this one does not describe.
    fn fixes(
        &self,
        part: &SourcedLayer,
        shared: &LayerRecord,
        below: &LayerStack,
    ) -> Result<Vec<(RootPath, Meta)>, TransferError> {
        let Some(list) = shared.meta.notes.get(IMPLIED).filter(|_| !below.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut fixes = Vec::new();
        for text in list.split(' ') {
            use std::os::unix::ffi::OsStrExt;
            let bytes = hex::decode(text).map_err(|error| StoreError::Corrupt {
                path: shared.dir.join("meta.json"),
                reason: error.to_string(),
            })?;
            let path = RootPath::new(std::ffi::OsStr::from_bytes(&bytes));
            let found = directory_in(below, &path).map_err(|source| self.failed(part, source))?;
            fixes.extend(found.map(|meta| (path, meta)));
        }
        Ok(fixes)
    }

    /// The layer as it has to be on top of exactly these layers.
    fn fixed(
        &self,
        part: &SourcedLayer,
        shared: &LayerRecord,
        chain: &str,
        fixes: &[(RootPath, Meta)],
        have_blob: &dyn Fn() -> Result<(), TransferError>,
    ) -> Result<LayerRecord, TransferError> {
        let id = Digest::of(format!("chain {chain}").as_bytes()).hex()[..32].to_owned();
        if let Some(record) = self.store.layer(&id)? {
            return Ok(record);
        }
        have_blob()?;
        let (staging, unpacked) = self.unpack(part)?;
        self.fix(&staging, fixes)
            .map_err(|source| self.failed(part, source))?;
        let meta = LayerMeta {
            id,
            diff_id: None,
            size: unpacked.diff_size,
            ..shared.meta.clone()
        };
        self.publish(part, staging, &meta)
    }

    fn fix(&self, staging: &Staging, fixes: &[(RootPath, Meta)]) -> Result<(), LayerError> {
        let diff = staging.diff();
        let root = RootDir::open(&diff).map_err(disk("open", &diff.to_string_lossy()))?;
        let attributes = Attributes::load(staging.path())?;
        let mut target = Target::new(root, self.ids).with_attributes(attributes);
        for (path, meta) in fixes {
            target.set_metadata(path, meta)?;
        }
        target.into_attributes().save(staging.path())
    }

    fn failed(&self, part: &SourcedLayer, source: LayerError) -> TransferError {
        TransferError::Layer {
            image: self.image.to_owned(),
            blob: part.blob.digest.clone(),
            source,
        }
    }
}

/// The metadata of `path` in the merged view, if it is a directory there.
fn directory_in(stack: &LayerStack, path: &RootPath) -> Result<Option<Meta>, LayerError> {
    if !stack.contains(path)? {
        return Ok(None);
    }
    for layer in stack.layers().iter().rev() {
        let diff = layer.diff();
        let root = RootDir::open(&diff).map_err(disk("open", &diff.to_string_lossy()))?;
        let found = root
            .resolve(path, Follow::No)
            .and_then(|fd| Ok(fstat(&fd)?));
        match found {
            Ok(stat) => {
                let truth = Truth::new(&stat, layer.attributes().get(path));
                let is_dir = truth.file_type() == FileType::Directory;
                return Ok(is_dir.then(|| truth.to_meta()));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(disk("examine", &path.to_string())(error)),
        }
    }
    Ok(None)
}

fn disk(action: &'static str, path: &str) -> impl FnOnce(std::io::Error) -> LayerError {
    let path = path.to_owned();
    move |source| LayerError::Disk {
        action,
        path,
        source,
    }
}
