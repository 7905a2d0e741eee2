//! Pulling: a name becomes the manifest for a platform, a descriptor becomes bytes.

use std::io::{self, Write};

use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::endpoint::Endpoint;
use super::request::{Ask, next_part, read_all};
use super::token::Access;
use super::{Registries, RegistryError, RegistryErrorKind};
use crate::http::Retry;
use crate::image::manifest::{ACCEPTED, Descriptor, Document, Manifest};
use crate::image::{Digest, Hashing, Platform, Reference};

/// The distribution protocol's own bound on manifests.
const MANIFEST_LIMIT: u64 = 4 << 20;
/// An index in an index in an index is nobody's image.
const DEPTH: usize = 3;
/// How often something is asked for without which things go on, too.
const PASSING_ATTEMPTS: u32 = 2;
/// A connection that brought this much, or a sixteenth of the blob, before it broke was no failure:
/// a large blob arrives over a poor network, but not in crumbs for ever.
const PROGRESS: u64 = 4 << 20;
/// Tells registries' digests of manifests.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// What a name stands for on one platform.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The same repository, pinned to [`Resolved::digest`].
    pub reference: Reference,
    /// The digest of the manifest, computed over [`Resolved::manifest_bytes`].
    pub digest: Digest,
    /// The digest of the index that the manifest was picked from.
    pub index_digest: Option<Digest>,
    /// The manifest as it came.
    pub manifest_bytes: Vec<u8>,
    /// Its media type.
    pub media_type: String,
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// What the index says it is for; without an index only the configuration tells, and whether it
    /// fits what was asked for is the caller's to decide (spec S5).
    pub platform: Option<Platform>,
    /// The mirror or registry that answered.
    pub source: String,
}

/// A manifest as it came, of whatever kind.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest, which is the one that was asked for or that the registry told, if it did.
    pub digest: Digest,
    /// What the registry calls its type.
    pub content_type: Option<String>,
}

struct Fetched {
    bytes: Vec<u8>,
    digest: Digest,
    document: Document,
    media_type: String,
}

impl Registries {
    /// The manifest that `reference` stands for on `platform`, from the first source that has it.
    ///
    /// # Errors
    /// `Manifest(NoMatchingPlatform)` if an index has nothing for the platform; `DigestMismatch` if
    /// the bytes are not those of the reference's digest; else what the registry said.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Resolved, RegistryError> {
        let subject = reference.familiar();
        let ask = async |endpoint: &Endpoint, attempts| {
            let host = endpoint.address.host();
            self.retrying(attempts, host, async || {
                resolve_at(endpoint, reference, platform).await
            })
            .await
        };
        let asked = self.ask_sources(reference, &subject, |_| false, ask);
        self.pull_on(&subject, reference.registry(), asked)
    }

    /// What stands behind `reference` at the registry itself (not at a mirror), whatever it is; none
    /// if there is nothing. For things that are nice to have: a registry in trouble is asked twice.
    ///
    /// # Errors
    /// `DigestMismatch` if the bytes are not those of a digest that is known; else what the registry
    /// said, unless it was that there is no such thing.
    pub fn manifest(&self, reference: &Reference) -> Result<Option<RawManifest>, RegistryError> {
        let host = reference.registry();
        let look = async {
            let endpoint = self.endpoint(&self.address(host)).await?;
            let attempts = PASSING_ATTEMPTS.min(self.settings.attempts);
            self.retrying(attempts, host, async || {
                match raw_manifest_at(&endpoint, reference).await {
                    Err(RegistryErrorKind::NotFound { .. }) => Ok(None),
                    found => found.map(Some),
                }
            })
            .await
        };
        self.block_on(look)
            .map_err(|kind| kind.at("look for", reference.familiar(), host))
    }

    /// Writes the blob into `sink`, each byte once and in order, going on where a broken connection
    /// left off.
    ///
    /// # Errors
    /// `DigestMismatch` and `SizeMismatch` if it is not what `descriptor` says; what is in `sink`
    /// then, and after any other error, is worthless.
    pub fn fetch_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        sink: &mut dyn Write,
    ) -> Result<(), RegistryError> {
        let subject = format!("{} of {}", descriptor.digest, reference.familiar());
        let mut got = Hashing::new(sink);
        let ask = async |endpoint: &Endpoint, attempts| {
            self.blob_from(endpoint, reference, descriptor, attempts, &mut got)
                .await?;
            Ok(endpoint.address.host().to_owned())
        };
        let asked = self.ask_sources(reference, &subject, spoils_the_sink, ask);
        let host = self.pull_on(&subject, reference.registry(), asked)?;
        match got.finish() {
            (_, digest, _) if digest == descriptor.digest => Ok(()),
            (_, got, _) => {
                let expected = descriptor.digest.clone();
                let kind = RegistryErrorKind::DigestMismatch { expected, got };
                Err(kind.at("pull", subject, &host))
            }
        }
    }

    /// The whole blob, which must be no longer than `limit` bytes: configurations.
    ///
    /// # Errors
    /// As [`Registries::fetch_blob`], and `TooLarge`.
    pub fn fetch_small(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        if descriptor.size > limit {
            let subject = format!("{} of {}", descriptor.digest, reference.familiar());
            let kind = RegistryErrorKind::TooLarge { limit };
            return Err(kind.at("pull", subject, reference.registry()));
        }
        let mut bytes = Vec::new();
        self.fetch_blob(reference, descriptor, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether the registry itself (not a mirror) has the blob in the reference's repository.
    ///
    /// # Errors
    /// What the registry said, unless it was that the blob is not there.
    pub fn blob_exists(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let host = reference.registry();
        let look = async {
            let endpoint = self.endpoint(&self.address(host)).await?;
            let access = pull_access(&endpoint, reference);
            self.retrying(self.settings.attempts, host, async || {
                head_blob(&endpoint, reference, digest, &access).await
            })
            .await
        };
        self.block_on(look).map_err(|kind| {
            kind.at(
                "look for",
                format!("{digest} of {}", reference.familiar()),
                host,
            )
        })
    }

    async fn blob_from(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        descriptor: &Descriptor,
        attempts: u32,
        sink: &mut Hashing<&mut dyn Write>,
    ) -> Result<(), RegistryErrorKind> {
        let mut retry = Retry::new(attempts, self.settings.pause);
        loop {
            let before = sink.bytes();
            let Err(error) = part_of_blob(endpoint, reference, descriptor, sink).await else {
                return Ok(());
            };
            if sink.bytes() - before >= PROGRESS.min(descriptor.size / 16 + 1) {
                retry.reset();
            }
            self.pause(&mut retry, endpoint.address.host(), error)
                .await?;
        }
    }
}

/// Whether what is in the sink by now is of no use to another source.
fn spoils_the_sink(kind: &RegistryErrorKind) -> bool {
    matches!(kind, RegistryErrorKind::Local { .. })
}

pub(super) fn pull_access(endpoint: &Endpoint, reference: &Reference) -> Access {
    Access {
        repository: endpoint.address.repository(reference.repository()),
        push: false,
        mount_from: Vec::new(),
    }
}

pub(super) async fn head_blob(
    endpoint: &Endpoint,
    reference: &Reference,
    digest: &Digest,
    access: &Access,
) -> Result<bool, RegistryErrorKind> {
    let url = endpoint.url(reference.repository(), &format!("blobs/{digest}"))?;
    match endpoint.send(&Ask::new(Method::HEAD, url), access).await {
        Ok(_) => Ok(true),
        Err(RegistryErrorKind::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn resolve_at(
    endpoint: &Endpoint,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, RegistryErrorKind> {
    let mut pinned = reference.clone();
    let mut index_digest = None;
    let mut found_for = None;
    for _ in 0..DEPTH {
        let fetched = manifest_at(endpoint, &pinned).await?;
        match fetched.document {
            Document::Image(manifest) => {
                return Ok(Resolved {
                    reference: reference.with_digest(fetched.digest.clone()),
                    digest: fetched.digest,
                    index_digest,
                    manifest_bytes: fetched.bytes,
                    media_type: fetched.media_type,
                    manifest,
                    platform: found_for,
                    source: endpoint.address.host().to_owned(),
                });
            }
            Document::Index(index) => {
                let picked = index.pick(platform)?;
                found_for = picked.platform.clone();
                index_digest.get_or_insert(fetched.digest);
                pinned = reference.with_digest(picked.digest.clone());
            }
        }
    }
    Err(RegistryErrorKind::bad_answer(format!(
        "indexes are nested more than {DEPTH} deep"
    )))
}

async fn manifest_at(
    endpoint: &Endpoint,
    reference: &Reference,
) -> Result<Fetched, RegistryErrorKind> {
    let raw = raw_manifest_at(endpoint, reference).await?;
    let (document, media_type) = Document::parse(&raw.bytes, raw.content_type.as_deref())?;
    Ok(Fetched {
        bytes: raw.bytes,
        digest: raw.digest,
        document,
        media_type,
    })
}

async fn raw_manifest_at(
    endpoint: &Endpoint,
    reference: &Reference,
) -> Result<RawManifest, RegistryErrorKind> {
    let wanted = reference.digest();
    let name = wanted.map_or(reference.tag().unwrap_or("latest"), Digest::as_str);
    let url = endpoint.url(reference.repository(), &format!("manifests/{name}"))?;
    let mut ask = Ask::new(Method::GET, url);
    for kind in ACCEPTED {
        ask.headers.append(ACCEPT, HeaderValue::from_static(kind));
    }
    let response = endpoint
        .send(&ask, &pull_access(endpoint, reference))
        .await?;
    let text_of = |name: &str| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let content_type = text_of(CONTENT_TYPE.as_str());
    // A digest by another algorithm is nothing that can be compared.
    let served: Option<Digest> = text_of(CONTENT_DIGEST).and_then(|text| text.parse().ok());
    let bytes = read_all(response, MANIFEST_LIMIT).await?;
    let digest = Digest::of(&bytes);
    match wanted
        .cloned()
        .or(served)
        .filter(|expected| *expected != digest)
    {
        Some(expected) => Err(RegistryErrorKind::DigestMismatch {
            expected,
            got: digest,
        }),
        None => Ok(RawManifest {
            bytes,
            digest,
            content_type,
        }),
    }
}

/// Adds to `sink` what is missing of the blob, as far as one connection lasts.
async fn part_of_blob(
    endpoint: &Endpoint,
    reference: &Reference,
    descriptor: &Descriptor,
    sink: &mut Hashing<&mut dyn Write>,
) -> Result<(), RegistryErrorKind> {
    let (offset, size) = (sink.bytes(), descriptor.size);
    let tail = format!("blobs/{}", descriptor.digest);
    let mut ask = Ask::new(Method::GET, endpoint.url(reference.repository(), &tail)?);
    if offset > 0 {
        let range = format!("bytes={offset}-");
        let value = HeaderValue::from_str(&range)
            .map_err(|error| RegistryErrorKind::bad_answer(format!("no range {range}: {error}")))?;
        ask.headers.insert(RANGE, value);
    }
    let access = pull_access(endpoint, reference);
    let mut response = endpoint.send(&ask, &access).await?;
    let mut skip = surplus(&response, offset, size)?;
    while let Some(part) = next_part(&mut response).await? {
        let known = skip.min(part.len() as u64);
        skip -= known;
        let fresh = &part[usize::try_from(known).unwrap_or(part.len())..];
        if sink.bytes() + fresh.len() as u64 > size {
            return Err(RegistryErrorKind::TooLarge { limit: size });
        }
        io::Write::write_all(sink, fresh).map_err(|source| RegistryErrorKind::Local {
            action: "write",
            source,
        })?;
    }
    match sink.bytes() {
        got if got == size => Ok(()),
        got => Err(RegistryErrorKind::Interrupted {
            cause: format!("it ended after {got} of {size} bytes"),
        }),
    }
}

/// How many bytes of the answer are known already: none if the registry goes on where it was asked
/// to, all before `offset` if it starts from the beginning.
fn surplus(response: &Response, offset: u64, size: u64) -> Result<u64, RegistryErrorKind> {
    let skip = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|v| v.to_str().ok());
            let start = range.and_then(|text| text.strip_prefix("bytes ")?.split('-').next());
            if start.and_then(|text| text.parse().ok()) != Some(offset) {
                let range = range.unwrap_or("nothing");
                return Err(RegistryErrorKind::bad_answer(format!(
                    "asked for the bytes from {offset} on, it sends {range:?}"
                )));
            }
            0
        }
        _ => offset,
    };
    let offered = response
        .content_length()
        .map(|length| length + offset - skip);
    match offered {
        Some(got) if got != size => Err(RegistryErrorKind::SizeMismatch {
            expected: size,
            got,
        }),
        _ => Ok(skip),
    }
}
