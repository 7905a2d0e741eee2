//! What the store holds, in one table: making, measuring and collecting go by it.
//!
//! A kind whose entries stand for themselves (one file each that may go at any time, and whose loss
//! costs work and no more) needs one line here and nothing in `upkeep`.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One directory of the store.
pub(super) struct Kind {
    /// What `du` counts it under.
    pub(super) name: &'static str,
    /// Where it is, below the store's root.
    pub(super) dir: &'static str,
    /// Whether there is a directory in it for every id map.
    pub(super) by_map: bool,
    /// What BuildKit calls such things in `--filter type=`.
    pub(super) filter: &'static str,
    pub(super) how: How,
}

/// How a kind is collected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Content by digest: as long as something that stays needs it.
    Blobs,
    /// A file for each of some blobs, which need not be there: as long as something needs the blob.
    OfBlobs,
    /// Layers, and what is recorded of them: together.
    Layers,
    /// Links from diff ids to layers.
    Diffs,
    /// What became of layers that left.
    Exports,
    /// Step records.
    Steps,
    /// A directory each; unless told otherwise `prune` leaves those used within this time.
    Directories {
        /// How long.
        stays: Duration,
    },
    /// Root file systems: each as long as all of its layers are there.
    Trees,
    /// A repository each beside a lock, which stays.
    Repositories,
    /// A file each; unless told otherwise `prune` leaves those used within this time.
    Files {
        /// How long.
        stays: Duration,
    },
    /// Whatever is unfinished: swept when nobody else has the store open.
    Temporary,
}

/// BuildKit's word for what belongs to layers.
const REGULAR: &str = "regular";

/// Everything but the locks and the image layout's own two files.
pub(super) static KINDS: [Kind; 14] = [
    kind("image blobs", "oci/blobs/sha256", REGULAR, How::Blobs),
    LAYERS,
    mapped("layer records", "diffs", REGULAR, How::Diffs),
    mapped("layer records", "exports", REGULAR, How::Exports),
    mapped("step records", "steps", REGULAR, How::Steps),
    kind("cache mounts", "cache-mounts", "exec.cachemount", CACHES),
    mapped("trees", "trees", REGULAR, How::Trees),
    kind("fetched files", "fetched/http", "source.http", AT_ONCE),
    kind(
        "fetched repositories",
        "fetched/git",
        "source.git.checkout",
        How::Repositories,
    ),
    kind("context tables", "files", "source.local", A_MONTH),
    kind("run records", "runs", "source.local", A_MONTH),
    kind("run records", "listings", "source.local", A_MONTH),
    kind("blob sources", "sources", REGULAR, How::OfBlobs),
    kind("temporary files", "tmp", "internal", How::Temporary),
];

/// The directories of layers.
pub(super) const LAYERS: Kind = mapped("layers", "layers", REGULAR, How::Layers);

const CACHES: How = How::Directories {
    stays: DAY.saturating_mul(7),
};
const AT_ONCE: How = How::Files {
    stays: Duration::ZERO,
};
const A_MONTH: How = How::Files {
    stays: DAY.saturating_mul(30),
};

const fn kind(name: &'static str, dir: &'static str, filter: &'static str, how: How) -> Kind {
    Kind {
        name,
        dir,
        by_map: matches!(how, How::Directories { .. }),
        filter,
        how,
    }
}

const fn mapped(name: &'static str, dir: &'static str, filter: &'static str, how: How) -> Kind {
    Kind {
        by_map: true,
        ..kind(name, dir, filter, how)
    }
}

impl Kind {
    /// Whether its directory is made when the store is opened, for every id map where there is one
    /// for each. The others are made by whoever needs them first.
    pub(super) fn is_made_early(&self) -> bool {
        !matches!(
            self.how,
            How::Repositories
                | How::Trees
                | How::OfBlobs
                | How::Directories { .. }
                | How::Files {
                    stays: Duration::ZERO
                }
        )
    }
}
