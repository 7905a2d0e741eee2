//! Exporters: how a finished image leaves.
//!
//! Layers are archived and compressed here only, only those that leave, and each once: what was
//! made of a layer is remembered in the store.
//!
//! * `assemble`: a built image's layers → blobs, configuration, manifest
//! * `repack`: an image of the store, compressed for a registry
//! * `layout`, `archive`: OCI layouts, OCI and Docker archives
//! * `tree`: the root file system as a directory or a tar

mod archive;
mod assemble;
mod error;
mod layout;
mod parts;
mod repack;
mod tree;

pub use archive::{ArchiveKind, write_archive};
pub use assemble::{Assembled, assemble, layer_blob};
pub use error::OutputError;
pub use layout::write_layout;
pub use parts::OpenBlob;
pub use repack::compressed;
pub use tree::{write_directory, write_tar};
