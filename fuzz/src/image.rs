//! Of images the configuration and what it is made of.

use std::str::FromStr;

#[path = "../../src/image/config.rs"]
mod config;
#[path = "../../src/image/digest.rs"]
mod digest;
#[path = "../../src/image/platform.rs"]
mod platform;

pub use config::{Empty, Healthcheck, History, ImageConfig};
pub use digest::{Digest, DigestError, Hashing};
pub use platform::{Platform, PlatformError};

/// In the place of the real one, whose parser would make the build thrice as long: a plan reads only the
/// names of `--build-context` with it, and no target gives any.
pub struct Reference(String);

impl FromStr for Reference {
    type Err = ();

    fn from_str(_: &str) -> Result<Self, ()> {
        Err(())
    }
}

impl Reference {
    /// As it is shown.
    pub fn familiar(&self) -> String {
        self.0.clone()
    }
}
