//! Layers: the diff a step made, on disk and as a tar.

mod archive;
mod attributes;
mod compress;
mod decompress;
mod disk;
mod error;
mod export;
mod extract;
mod marks;
mod same;
mod seal;
mod stack;
mod supervised;
mod tar;
mod target;
mod unchanged;
mod unpack;
mod write;

pub use archive::{extract_archive, sniff_archive};
pub use attributes::{Attr, Attributes};
pub use compress::{Compression, Compressor};
pub use decompress::Decoder;
pub use error::LayerError;
pub use export::{Exported, export};
pub use marks::{Mark, Marks};
pub use seal::{Inherit, seal};
pub use stack::{Layer, LayerStack};
pub use supervised::{owners, record_owner};
pub use target::{
    AllIds, CAPABILITY, Content, Disk, Ids, Lower, Meta, SingleId, Target, TargetError, Truth,
    read_xattrs,
};
pub use unpack::{Unpacked, adopt_implied, unpack};
pub use write::{Below, TarOptions, TarSummary, write_tar, write_tree_tar};

/// How many directories may lie inside each other: each costs a descriptor while it is walked.
const MAX_DEPTH: usize = 256;
