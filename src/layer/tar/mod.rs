//! The tar format: the canonical headers that lapstrake writes, and a reader that trusts nothing.

mod decode;
mod encode;
mod number;
mod pax;
mod sparse;

pub(super) use decode::{Entry, Kind, TarReader, is_header};
pub(super) use encode::{Member, TRAILER};

/// Size of a header and unit of the content.
pub(super) const BLOCK: usize = 512;

/// Where PAX keeps an extended attribute that Go's archive/tar, GNU tar and bsdtar understand.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
