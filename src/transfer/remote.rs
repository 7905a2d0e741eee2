//! [`Remote`]: the registry as pulling and pushing see it.

use std::fs::File;
use std::io::{self, Write};

use crate::image::manifest::Descriptor;
use crate::image::{Digest, Platform, Reference};

/// A failure on the registry's side, with everything it has to say.
pub type RemoteError = Box<dyn std::error::Error + Send + Sync>;

/// What a name stands for at the registry.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The media type of the manifest.
    pub media_type: String,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest, byte for byte.
    pub manifest: Vec<u8>,
}

/// Where images come from and go to.
pub trait Remote: Sync {
    /// The manifest that `name` stands for on `platform`.
    ///
    /// # Errors
    /// When there is none, or the registry cannot be asked.
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<Resolved, RemoteError>;

    /// Writes a blob to `sink`, each byte once and in order.
    ///
    /// # Errors
    /// When it cannot be had whole; those of `sink` too.
    fn fetch_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        sink: &mut dyn Write,
    ) -> Result<(), RemoteError>;

    /// Whether the repository has the blob, or has it now, mounted from one of `mount_from`, which are
    /// repositories of the same registry. Nothing is sent.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    fn has_or_mounts_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        mount_from: &[Reference],
    ) -> Result<bool, RemoteError>;

    /// Sends a blob unless the registry has it; says whether it was sent.
    ///
    /// `mount_from` are repositories of the same registry that may have it; `open` gives the blob
    /// from its beginning, as often as it has to be sent.
    ///
    /// # Errors
    /// When the registry refuses it or it cannot be read.
    fn push_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<bool, RemoteError>;

    /// Sends a manifest, whose blobs are there, under the name's tag or its own digest.
    ///
    /// # Errors
    /// When the registry refuses it.
    fn push_manifest(
        &self,
        name: &Reference,
        manifest: &[u8],
        media_type: &str,
    ) -> Result<(), RemoteError>;
}
