//! Paths *inside* a root file system: an image's, a layer's, a context's.
//!
//! Owns the only way from such a path to a file: [`RootPath`] is the path as a type of its own and
//! [`RootDir`] the directory beneath which it is resolved. No other code joins a path that an
//! image, a Dockerfile or a context gave to a path of the host.

mod dir;
mod path;
mod users;

pub use dir::{Follow, RootDir};
pub use path::RootPath;
pub use users::{UserError, UserIds, resolve_chown, resolve_user};
