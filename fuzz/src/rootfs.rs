//! Of the root file system only paths.

#[path = "../../src/rootfs/path.rs"]
mod path;

pub use path::RootPath;
