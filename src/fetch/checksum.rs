//! [`Checksum`]: what a body has to be.

use sha2::{Digest as _, Sha384, Sha512};

use crate::image::Digest;

/// `sha256:…`, `sha384:…` or `sha512:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The digest under which the store knows the body.
    Sha256(Digest),
    /// Another one.
    Other(String),
}

impl Checksum {
    /// Takes what the plan has checked.
    pub fn new(text: &str) -> Self {
        match text.parse() {
            Ok(digest) => Self::Sha256(digest),
            Err(_) => Self::Other(text.to_owned()),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(digest) => digest.as_str(),
            Self::Other(text) => text,
        }
    }

    /// What computes it, unless the store does anyway.
    pub(super) fn hasher(&self) -> Option<Hasher> {
        match self {
            Self::Other(text) if text.starts_with("sha384:") => Some(Hasher::Sha384(Sha384::new())),
            Self::Other(_) => Some(Hasher::Sha512(Sha512::new())),
            Self::Sha256(_) => None,
        }
    }
}

/// Computes a checksum that the store does not.
pub(super) enum Hasher {
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> String {
        match self {
            Self::Sha384(hasher) => format!("sha384:{}", hex::encode(hasher.finalize())),
            Self::Sha512(hasher) => format!("sha512:{}", hex::encode(hasher.finalize())),
        }
    }
}
