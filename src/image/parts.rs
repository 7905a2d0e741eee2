//! [`ImageParts`]: an image that is to leave, whoever made it.

use super::Reference;
use super::manifest::Descriptor;

/// An image ready to leave.
#[derive(Clone, Debug)]
pub struct ImageParts {
    /// Its names.
    pub names: Vec<Reference>,
    /// Media type, digest, size and platform of its manifest.
    pub descriptor: Descriptor,
    /// Its manifest, byte for byte.
    pub manifest: Vec<u8>,
    /// Its configuration, byte for byte.
    pub config: Vec<u8>,
}
