//! Manifests and indexes, OCI's and Docker's schema 2, as a registry or a layout hands them out.
//!
//! The parsed form is for reading: the bytes are kept by whoever fetched them and are what a digest
//! is computed over and what is pushed again. Digests are [`Digest`] from the first moment, so that
//! text which is none never gets further than the parser. A document that is an image and an index
//! at once is refused: two readers would see two images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Digest, Platform};

/// `application/vnd.oci.image.manifest.v1+json`.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.index.v1+json`.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.oci.image.config.v1+json`.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// `application/vnd.oci.image.layer.v1.tar`.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// `application/vnd.oci.image.layer.v1.tar+gzip`.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// `application/vnd.oci.image.layer.v1.tar+zstd`.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// `application/vnd.docker.distribution.manifest.v2+json`.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// `application/vnd.docker.distribution.manifest.list.v2+json`.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// `application/vnd.docker.container.image.v1+json`.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// `application/vnd.docker.image.rootfs.diff.tar`.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// `application/vnd.docker.image.rootfs.diff.tar.gzip`.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// `application/vnd.docker.image.rootfs.diff.tar.zstd`.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// What a registry may answer a request for a manifest with.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST];

/// The annotation by which an index marks what is no image to run but a statement about one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// A pointer to content: its type, digest and size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// Where else the content might be had. Never followed: see [`Manifest::check_layers`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Notes on the content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: what the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Describes content without notes or platform.
    pub fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

/// A single image: its configuration and its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own idea of its media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes on the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Several manifests of one name, one for each platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own idea of its media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What there is.
    pub manifests: Vec<Descriptor>,
    /// Notes on the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a name or a digest may stand for.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// One image.
    Image(Manifest),
    /// A choice of images.
    Index(Index),
}

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// The document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the expected shape, or a digest in it is none.
    #[error("the {media_type} document cannot be read: {source}")]
    Malformed {
        /// What it was taken for.
        media_type: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A kind of document that is no image.
    #[error(
        "the document is of type {media_type:?}, which is no image: expected an OCI or Docker \
         schema 2 manifest or index"
    )]
    Unsupported {
        /// Its media type.
        media_type: String,
    },
    /// Layers and manifests in one document, or a label that contradicts the content.
    #[error("the document is ambiguous: {reason}; refusing to guess what it is")]
    Ambiguous {
        /// Which two things disagree.
        reason: String,
    },
    /// The index has nothing for the platform.
    #[error("no image for {asked}: there is {}", list(.available))]
    NoMatchingPlatform {
        /// The platform asked for.
        asked: Platform,
        /// The platforms there are.
        available: Vec<String>,
    },
    /// A layer that a registry is not meant to hold.
    #[error(
        "layer {digest} is of type {media_type}: layers that are not to be distributed are not \
         supported (their content lives outside of the registry)"
    )]
    ForeignLayer {
        /// The layer.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// A layer whose type says nothing about how to unpack it.
    #[error("layer {digest} is of type {media_type:?}, which is no known layer type")]
    UnknownLayer {
        /// The layer.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
}

fn list(available: &[String]) -> String {
    match available {
        [] => "none at all".to_owned(),
        some => format!("only {}", some.join(", ")),
    }
}

impl Document {
    /// Reads a document; `content_type` is what the server called it. Also gives its media type.
    pub fn parse(
        bytes: &[u8],
        content_type: Option<&str>,
    ) -> Result<(Self, String), ManifestError> {
        let value: Value = read(bytes, "manifest")?;
        let media_type = media_type_of(&value, content_type)?;
        let document = match media_type.as_str() {
            OCI_INDEX | DOCKER_INDEX => Self::Index(read(bytes, &media_type)?),
            OCI_MANIFEST | DOCKER_MANIFEST => Self::Image(read(bytes, &media_type)?),
            _ => return Err(ManifestError::Unsupported { media_type }),
        };
        Ok((document, media_type))
    }
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8], media_type: &str) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|source| ManifestError::Malformed {
        media_type: media_type.to_owned(),
        source,
    })
}

/// The document's own `mediaType`, else what the server said, else what its shape says.
fn media_type_of(value: &Value, content_type: Option<&str>) -> Result<String, ManifestError> {
    let has = |key| value.get(key).is_some_and(|field| !field.is_null());
    let (image, index) = (has("layers") || has("config"), has("manifests"));
    if image && index {
        let reason = "it has layers and manifests".to_owned();
        return Err(ManifestError::Ambiguous { reason });
    }
    let served = content_type.and_then(|text| text.split(';').next());
    let served = served.map(str::trim).filter(|text| ACCEPTED.contains(text));
    let own = value.get("mediaType").and_then(Value::as_str);
    let shape = match (image, index) {
        (true, _) => OCI_MANIFEST,
        (_, true) => OCI_INDEX,
        _ => "",
    };
    let schema_1 = value.get("schemaVersion").and_then(Value::as_u64) == Some(1);
    if schema_1 && shape.is_empty() {
        return Err(ManifestError::Unsupported {
            media_type: "Docker schema 1".to_owned(),
        });
    }
    let chosen = own
        .filter(|own| !own.is_empty())
        .or(served)
        .unwrap_or(shape);
    let is_index = |text| matches!(text, OCI_INDEX | DOCKER_INDEX);
    if ACCEPTED.contains(&chosen) && !shape.is_empty() && is_index(chosen) != is_index(shape) {
        return Err(ManifestError::Ambiguous {
            reason: format!("it calls itself {chosen} and has the shape of {shape}"),
        });
    }
    Ok(chosen.to_owned())
}

impl Index {
    /// The manifest for `platform`: its own variant first, then the older ones it can run.
    ///
    /// Attestations (`unknown/unknown`) are no candidates. An entry that names no platform is taken
    /// only if it is the only candidate.
    pub fn pick(&self, platform: &Platform) -> Result<&Descriptor, ManifestError> {
        let images: Vec<&Descriptor> = self.manifests.iter().filter(|d| is_image(d)).collect();
        for wanted in acceptable(platform) {
            let fits = |d: &&&Descriptor| d.platform.as_ref().is_some_and(|p| wanted.accepts(p));
            if let Some(found) = images.iter().find(fits) {
                return Ok(found);
            }
        }
        if let [only] = images[..]
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let name = |d: &&Descriptor| match &d.platform {
            Some(platform) => platform.to_string(),
            None => "one without a platform".to_owned(),
        };
        Err(ManifestError::NoMatchingPlatform {
            asked: platform.clone(),
            available: images.iter().map(name).collect(),
        })
    }
}

fn is_image(descriptor: &Descriptor) -> bool {
    let unknown = |p: &Platform| p.os == "unknown" || p.arch == "unknown";
    !descriptor.platform.as_ref().is_some_and(unknown)
        && !descriptor.annotations.contains_key(REFERENCE_TYPE)
}

/// What can run on `platform`, the best first.
fn acceptable(platform: &Platform) -> Vec<Platform> {
    let variants: &[&str] = match (platform.arch.as_str(), platform.variant.as_str()) {
        ("arm", "" | "v7") => &["v7", "v6", "v5"],
        ("arm", "v6") => &["v6", "v5"],
        ("amd64", "v4") => &["v4", "v3", "v2", ""],
        ("amd64", "v3") => &["v3", "v2", ""],
        ("amd64", "v2") => &["v2", ""],
        (_, own) => return vec![with_variant(platform, own)],
    };
    variants.iter().map(|v| with_variant(platform, v)).collect()
}

fn with_variant(platform: &Platform, variant: &str) -> Platform {
    Platform {
        variant: variant.to_owned(),
        ..platform.clone()
    }
}

impl Manifest {
    /// Refuses layers that cannot be had from a registry or that nobody knows how to unpack.
    pub fn check_layers(&self) -> Result<(), ManifestError> {
        self.layers
            .iter()
            .try_for_each(|layer| layer_compression(layer).map(drop))
    }
}

/// How the layer is compressed, from its media type.
pub fn layer_compression(layer: &Descriptor) -> Result<LayerCompression, ManifestError> {
    let (digest, media_type) = (layer.digest.clone(), layer.media_type.clone());
    match media_type.as_str() {
        OCI_LAYER | DOCKER_LAYER => Ok(LayerCompression::None),
        OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => Ok(LayerCompression::Gzip),
        OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => Ok(LayerCompression::Zstd),
        other if other.contains("nondistributable") || other.contains(".foreign.") => {
            Err(ManifestError::ForeignLayer { digest, media_type })
        }
        _ => Err(ManifestError::UnknownLayer { digest, media_type }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(platform: Value) -> Value {
        let digest = Digest::of(platform.to_string().as_bytes());
        json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "platform": platform})
    }

    fn index(platforms: &[(&str, &str, &str)]) -> Index {
        let entries: Vec<Value> = platforms
            .iter()
            .map(|(os, arch, v)| entry(json!({"os": os, "architecture": arch, "variant": v})))
            .collect();
        serde_json::from_value(json!({"schemaVersion": 2, "manifests": entries})).unwrap()
    }

    #[test]
    fn picks_the_platform() {
        let all = index(&[
            ("unknown", "unknown", ""),
            ("linux", "arm", "v5"),
            ("linux", "arm", "v6"),
            ("linux", "arm64", "v8"),
            ("linux", "amd64", ""),
            ("windows", "amd64", ""),
        ]);
        for (asked, position) in [
            ("linux/amd64", 4),
            ("linux/amd64/v3", 4),
            ("linux/arm64", 3),
            ("linux/arm/v7", 2),
            ("linux/arm/v5", 1),
            ("windows/amd64", 5),
        ] {
            let picked = all.pick(&asked.parse().unwrap()).unwrap();
            assert_eq!(picked, &all.manifests[position], "{asked}");
        }
        let error = all.pick(&"linux/s390x".parse().unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("linux/s390x") && text.contains("linux/arm64/v8"),
            "{text}"
        );
        assert!(!text.contains("unknown"), "{text}");
    }

    #[test]
    fn an_entry_without_a_platform_counts_only_alone() {
        let digest = Digest::of(b"x");
        let bare = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1});
        let amd64: Platform = "linux/amd64".parse().unwrap();
        for (count, fits) in [(1, true), (2, false), (0, false)] {
            let entries = vec![bare.clone(); count];
            let index: Index =
                serde_json::from_value(json!({"schemaVersion": 2, "manifests": entries})).unwrap();
            assert_eq!(index.pick(&amd64).is_ok(), fits, "{count}");
        }
    }

    #[test]
    fn tells_documents_apart() {
        let d = json!({"mediaType": "x", "digest": Digest::of(b""), "size": 0});
        let image = json!({"schemaVersion": 2, "config": d, "layers": []});
        let index = json!({"schemaVersion": 2, "manifests": []});
        let with = |mut value: Value, key: &str, field: Value| {
            value[key] = field;
            value.to_string()
        };
        for (text, content_type, expected) in [
            (image.to_string(), None, Some(OCI_MANIFEST)),
            (index.to_string(), None, Some(OCI_INDEX)),
            (
                image.to_string(),
                Some("application/json"),
                Some(OCI_MANIFEST),
            ),
            (
                image.to_string(),
                Some(&format!("{DOCKER_MANIFEST}; charset=utf-8")[..]),
                Some(DOCKER_MANIFEST),
            ),
            (
                with(index.clone(), "mediaType", json!(DOCKER_INDEX)),
                None,
                Some(DOCKER_INDEX),
            ),
            (image.to_string(), Some(OCI_INDEX), None),
            (with(image.clone(), "manifests", json!([])), None, None),
            (
                with(image.clone(), "mediaType", json!(OCI_INDEX)),
                None,
                None,
            ),
            (
                with(image.clone(), "mediaType", json!("text/plain")),
                None,
                None,
            ),
            (
                r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
                None,
                None,
            ),
            ("{}".to_owned(), None, None),
            ("<html>".to_owned(), None, None),
        ] {
            let parsed = Document::parse(text.as_bytes(), content_type);
            assert_eq!(parsed.ok().map(|p| p.1).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_digest_that_is_none_goes_no_further() {
        for digest in ["sha256:../../etc/passwd", "sha512:00", "", "/x"] {
            let d = json!({"mediaType": "x", "digest": digest, "size": 0});
            let text = json!({"schemaVersion": 2, "config": d, "layers": []}).to_string();
            let error = Document::parse(text.as_bytes(), None)
                .unwrap_err()
                .to_string();
            assert!(error.contains("is no digest"), "{error}");
        }
    }

    #[test]
    fn layer_types() {
        let layer = |media_type: &str| Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(b""),
            size: 0,
            urls: vec!["https://elsewhere/".to_owned()],
            annotations: BTreeMap::new(),
            platform: None,
        };
        for (media_type, expected) in [
            (OCI_LAYER, Some(LayerCompression::None)),
            (DOCKER_LAYER_GZIP, Some(LayerCompression::Gzip)),
            (OCI_LAYER_ZSTD, Some(LayerCompression::Zstd)),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                None,
            ),
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                None,
            ),
            ("application/octet-stream", None),
        ] {
            assert_eq!(
                layer_compression(&layer(media_type)).ok(),
                expected,
                "{media_type}"
            );
        }
    }
}
