//! [`Reference`]: the name of an image, in full.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::Reference as Parsed;

use super::Digest;

/// `registry/repository[:tag][@digest]`, with Docker's defaults filled in: `docker.io`, `library/`
/// and, where neither tag nor digest is given, `latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The text is no image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
}

impl Reference {
    /// The registry's host, with its port if one is given; Docker Hub is `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none for a reference by digest alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins the manifest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository at another registry: how a mirror is asked.
    pub fn at_registry(&self, registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            ..self.clone()
        }
    }

    /// The same repository with `digest` in place of tag and digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository with `tag` in place of tag and digest; `tag` has to be one.
    pub fn with_tag(&self, tag: &str) -> Self {
        Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        }
    }

    /// The short form that people write: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => full,
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |reason: String| ReferenceError {
            text: text.to_owned(),
            reason,
        };
        let parsed: Parsed = text.parse().map_err(|reason| error(format!("{reason}")))?;
        let digest = parsed
            .digest()
            .map(str::parse::<Digest>)
            .transpose()
            .map_err(|reason| error(reason.to_string()))?;
        let tag = match (parsed.tag(), &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self {
            registry: parsed.registry().to_owned(),
            repository: parsed.repository().to_owned(),
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_the_defaults() {
        let pinned = format!("alpine@{}", Digest::of(b""));
        for (text, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            (
                "golang:1.20",
                "docker.io/library/golang:1.20",
                "golang:1.20",
            ),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            (
                "docker.io/alpine",
                "docker.io/library/alpine:latest",
                "alpine:latest",
            ),
            (
                "127.0.0.1:5000/a/b:c",
                "127.0.0.1:5000/a/b:c",
                "127.0.0.1:5000/a/b:c",
            ),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                pinned.as_str(),
                &format!("docker.io/library/{pinned}"),
                &pinned,
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
        }
        for text in ["", "UPPER", "a b", "x:", "a@sha256:12", "-x"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
