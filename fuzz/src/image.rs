//! Of images the configuration and what it is made of.

#[path = "../../src/image/config.rs"]
mod config;
#[path = "../../src/image/digest.rs"]
mod digest;
#[path = "../../src/image/platform.rs"]
mod platform;

pub use config::{Empty, Healthcheck, History, ImageConfig};
pub use digest::{Digest, DigestError, Hashing};
pub use platform::{Platform, PlatformError};
