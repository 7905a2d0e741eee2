//! [`Ids`]: which owners the disk can hold.

use std::ops::Deref;

/// What the disk under a root file system can hold, seen from this process.
pub trait Ids {
    /// Whether a file can belong to `uid`.
    fn holds_uid(&self, uid: u32) -> bool;
    /// Whether a file can belong to group `gid`.
    fn holds_gid(&self, gid: u32) -> bool;
    /// Whether this process reads and writes what it owns whatever the mode says.
    ///
    /// Where it does not, files stay readable and writable and directories searchable for their
    /// owner on disk, and the true mode is recorded.
    fn bypasses_modes(&self) -> bool {
        true
    }
    /// Whether a supervisor shows programs the owners that the disk cannot hold: it wants them in an
    /// attribute of the file, too, and set-id bits where `exec` finds them.
    fn are_supervised(&self) -> bool {
        false
    }
    /// Whether deletions are marked on the disk, as overlayfs does; else in the layer's table.
    fn holds_marks(&self) -> bool {
        true
    }
}

/// Every id can be held: real root, or a full id map.
#[derive(Clone, Copy, Debug)]
pub struct AllIds;

impl Ids for AllIds {
    fn holds_uid(&self, _uid: u32) -> bool {
        true
    }

    fn holds_gid(&self, _gid: u32) -> bool {
        true
    }
}

/// One user and one group can be held.
#[derive(Clone, Copy, Debug)]
pub struct SingleId {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Ids for SingleId {
    fn holds_uid(&self, uid: u32) -> bool {
        uid == self.uid
    }

    fn holds_gid(&self, gid: u32) -> bool {
        gid == self.gid
    }
}

/// The id map of the sandbox that this process has entered.
impl Ids for runtime::IdMap {
    fn holds_uid(&self, uid: u32) -> bool {
        Self::holds_uid(self, uid)
    }

    fn holds_gid(&self, gid: u32) -> bool {
        Self::holds_gid(self, gid)
    }

    fn are_supervised(&self) -> bool {
        self.is_single()
    }
}

/// The disk under a store's layers.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The id map of the sandbox that this process has entered.
    pub ids: runtime::IdMap,
    /// Whether overlays are mounted of the layers, which then hold overlayfs' marks.
    pub overlays: bool,
}

impl Deref for Disk {
    type Target = runtime::IdMap;

    fn deref(&self) -> &runtime::IdMap {
        &self.ids
    }
}

impl Ids for Disk {
    fn holds_uid(&self, uid: u32) -> bool {
        self.ids.holds_uid(uid)
    }

    fn holds_gid(&self, gid: u32) -> bool {
        self.ids.holds_gid(gid)
    }

    fn are_supervised(&self) -> bool {
        self.ids.is_single()
    }

    fn holds_marks(&self) -> bool {
        self.overlays
    }
}
