//! What an image is, apart from disk and network: references, platforms, configuration, manifests.

mod config;
mod digest;
pub mod manifest;
mod parts;
mod platform;
mod reference;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{Digest, DigestError, Hashing};
pub use parts::ImageParts;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
