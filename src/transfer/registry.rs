//! [`Registries`] as a [`Remote`].

use std::fs::File;
use std::io::{self, Write};

use super::{Remote, RemoteError, Resolved};
use crate::image::manifest::Descriptor;
use crate::image::{Platform, Reference};
use crate::registry::{Pushed, Registries};

impl Remote for Registries {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<Resolved, RemoteError> {
        let found = Registries::resolve(self, name, platform)?;
        Ok(Resolved {
            media_type: found.media_type,
            digest: found.digest,
            manifest: found.manifest_bytes,
        })
    }

    fn fetch_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        sink: &mut dyn Write,
    ) -> Result<(), RemoteError> {
        Ok(Registries::fetch_blob(self, name, blob, sink)?)
    }

    fn has_or_mounts_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        mount_from: &[Reference],
    ) -> Result<bool, RemoteError> {
        Ok(Registries::has_or_mounts_blob(
            self, name, blob, mount_from,
        )?)
    }

    fn push_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<bool, RemoteError> {
        let pushed = Registries::push_blob(self, name, blob, mount_from, open)?;
        Ok(pushed == Pushed::Sent)
    }

    fn push_manifest(
        &self,
        name: &Reference,
        manifest: &[u8],
        media_type: &str,
    ) -> Result<(), RemoteError> {
        Registries::push_manifest(self, name, media_type, manifest)?;
        Ok(())
    }
}
