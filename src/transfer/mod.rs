//! Images on their way in and out of the store: pulled and pushed, loaded and saved, imported,
//! unpacked into layers.
//!
//! What comes in is stored byte for byte, so that it can leave again unchanged, and only under a
//! digest that was computed here. A tag is set last: an image that broke off on the way is not
//! there, and what has arrived of it is not fetched a second time.
//!
//! Of an image that a build begins with only manifest and configuration are there at first; the store
//! remembers who has its layers, and whoever needs one brings it (`bring`).

mod bring;
mod error;
mod import;
mod layout;
mod load;
mod make;
mod parts;
mod pull;
mod push;
mod registry;
mod remote;
mod unpack;
mod workers;

pub use bring::{BlobSource, Bringer, Bringing, Compute, SourcedLayer};
pub use error::TransferError;
pub use import::{ImportOptions, import_dir, import_tar};
pub use layout::{LAYOUT_SCHEME, LayoutRef, layout_image};
pub use load::{Loaded, load};
pub use parts::{complete, layers_of, open_blob, parts};
pub use pull::{PullLayers, PullOptions, PullPolicy, pull};
pub use push::push;
pub use remote::{Remote, RemoteError, Resolved};
pub use unpack::LayerIds;
pub use workers::each;

use crate::image::Digest;

/// What happens to one blob or layer, for whoever draws it. Called from several threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The blob need not be moved.
    Exists {
        /// Which.
        blob: Digest,
    },
    /// The blob begins to move.
    Started {
        /// Which.
        blob: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// The blob has arrived and is what it should be.
    Done {
        /// Which.
        blob: Digest,
    },
    /// The blob's layer begins to be unpacked.
    Unpacking {
        /// Which.
        blob: Digest,
    },
    /// The blob's layer is in the store.
    Unpacked {
        /// Which.
        blob: Digest,
    },
}

/// Who is told.
pub type Progress<'a> = dyn Fn(Event) + Sync + 'a;

#[cfg(test)]
mod tests;
