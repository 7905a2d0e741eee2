//! [`Reference`]: the name of an image, in full.
//!
//! The grammar is the one that registries share, `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, read by hand:
//! every command and every step parses one, and a regular expression takes longer to compile than a
//! cached build takes.

use std::fmt;
use std::str::FromStr;

use super::Digest;

/// Where names without a host lie, and its old name.
const HUB: &str = "docker.io";
const OLD_HUB: &str = "index.docker.io";
/// What is put before a name of the hub that has no folder.
const OFFICIAL: &str = "library";
/// How long a repository's name may be, and a tag.
const REPOSITORY_MAX: usize = 255;
const TAG_MAX: usize = 128;

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
        parse(text).map_err(|reason| ReferenceError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest.parse::<Digest>())),
        None => (text, None),
    };
    let digest = digest.transpose().map_err(|error| error.to_string())?;
    // A colon before the last slash belongs to a port.
    let last = named.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match named[last..].find(':') {
        Some(colon) => (&named[..last + colon], Some(&named[last + colon + 1..])),
        None => (named, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if is_meant_as_host(host) => (checked_host(host)?, path),
        _ => (HUB, name),
    };
    check_repository(path)?;
    let repository = match registry == HUB && !path.contains('/') {
        true => format!("{OFFICIAL}/{path}"),
        false => path.to_owned(),
    };
    if repository.len() > REPOSITORY_MAX {
        return Err(format!(
            "its repository has more than {REPOSITORY_MAX} characters"
        ));
    }
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag: match (tag, &digest) {
            (Some(tag), _) => Some(checked_tag(tag)?.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        },
        digest,
    })
}

/// Whether the first part of a path is a host rather than a folder of the hub.
fn is_meant_as_host(part: &str) -> bool {
    let marks = |byte: u8| byte == b'.' || byte == b':' || byte.is_ascii_uppercase();
    part == "localhost" || part.bytes().any(marks)
}

fn checked_host(host: &str) -> Result<&str, String> {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !name.split('.').all(is_label) || !port.is_none_or(is_port) {
        return Err(format!("{host:?} is no registry, HOST or HOST:PORT"));
    }
    Ok(if host == OLD_HUB { HUB } else { host })
}

/// Parts of lower-case letters and digits, with separators only between these: a dot, one or two
/// underscores, or any number of dashes.
fn check_repository(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("it names no repository".to_owned());
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("a repository is written in lower case".to_owned());
    }
    match path.split('/').all(is_component) {
        true => Ok(()),
        false => Err(
            "a repository has lower-case letters and digits, and between these . _ __ or -"
                .to_owned(),
        ),
    }
}

fn is_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.into_iter()
        .all(|byte| byte.is_some_and(|byte| is_word(*byte)))
        && bytes
            .split(|byte| is_word(*byte))
            .all(|between| match between {
                b"" | b"." | b"_" | b"__" => true,
                dashes => dashes.iter().all(|byte| *byte == b'-'),
            })
}

fn checked_tag(tag: &str) -> Result<&str, String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = tag.bytes().next().is_some_and(is_word);
    let inner = |byte: u8| is_word(byte) || byte == b'.' || byte == b'-';
    match begins && tag.len() <= TAG_MAX && tag.bytes().all(inner) {
        true => Ok(tag),
        false => Err(format!(
            "{tag:?} is no tag: expected up to {TAG_MAX} letters, digits and _ . -, the first no . or -"
        )),
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
    }

    #[test]
    fn a_host_is_told_from_a_folder_and_a_port_from_a_tag() {
        let digest = Digest::of(b"");
        for (text, registry, repository, tag) in [
            ("test.com:5000", HUB, "library/test.com", Some("5000")),
            ("test:5000/repo", "test:5000", "repo", Some("latest")),
            ("test:5000/repo:tag", "test:5000", "repo", Some("tag")),
            ("sub-1.foo.com/a/b:c", "sub-1.foo.com", "a/b", Some("c")),
            ("Registry/x", "Registry", "x", Some("latest")),
            ("index.docker.io/x", HUB, "library/x", Some("latest")),
            ("foo_bar.com:8080", HUB, "library/foo_bar.com", Some("8080")),
            ("a__b/c-d--e.f_g:_", HUB, "a__b/c-d--e.f_g", Some("_")),
            ("xn--n3h.com/m:Up-1.2", "xn--n3h.com", "m", Some("Up-1.2")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (
                    reference.registry(),
                    reference.repository(),
                    reference.tag()
                ),
                (registry, repository, tag),
                "{text}"
            );
            let pinned: Reference = format!("{text}@{digest}").parse().unwrap();
            assert_eq!(pinned.digest(), Some(&digest));
            assert_eq!(
                pinned.tag().is_some(),
                text[1..].contains(':') && tag != Some("latest")
            );
        }
    }

    #[test]
    fn what_is_no_reference_says_why() {
        let long = "a".repeat(256);
        let tag = format!("x:{}", "t".repeat(129));
        for (text, why) in [
            ("", "names no repository"),
            (":tag", "names no repository"),
            ("host.io/", "names no repository"),
            ("UPPER", "lower case"),
            ("host.io/Upper", "lower case"),
            ("a b", "lower-case letters"),
            ("-x", "lower-case letters"),
            ("x-", "lower-case letters"),
            ("a..b", "lower-case letters"),
            ("a___b", "lower-case letters"),
            ("a._b", "lower-case letters"),
            ("a//b", "lower-case letters"),
            ("\u{e9}", "lower-case letters"),
            (long.as_str(), "255 characters"),
            ("x:", "no tag"),
            ("x:.y", "no tag"),
            ("x:a b", "no tag"),
            ("x:\u{e9}", "no tag"),
            (tag.as_str(), "no tag"),
            ("a:b/c", "no registry"),
            ("-a.com/c", "no registry"),
            ("a..com/c", "no registry"),
            ("a_b.com/c", "no registry"),
            ("a.com:/c", "no registry"),
            ("a@sha256:12", "no digest"),
            ("a@b@c", "no digest"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
