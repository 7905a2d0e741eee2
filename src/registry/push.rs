//! Pushing: blobs that are not there yet, then the manifest. Only to the registry itself.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::unfold;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::time::sleep;

use super::endpoint::Endpoint;
use super::pull::{CONTENT_DIGEST, head_blob};
use super::request::{ANSWER, Ask};
use super::token::Access;
use super::{Registries, RegistryError, RegistryErrorKind, lock};
use crate::image::manifest::Descriptor;
use crate::image::{Digest, Reference};

/// How much of a blob is in memory at once.
const CHUNK: usize = 256 << 10;

/// How a blob came to be in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

/// What has become of a body so far.
#[derive(Default)]
struct Sent {
    bytes: AtomicU64,
    failure: Mutex<Option<io::Error>>,
}

/// What became of a wish to mount a blob.
enum Mounting {
    Mounted,
    /// With the upload that has begun instead, if one has.
    Refused(Option<Url>),
}

struct Upload<'a> {
    endpoint: &'a Endpoint,
    access: Access,
    reference: &'a Reference,
    descriptor: &'a Descriptor,
    open: &'a dyn Fn() -> io::Result<File>,
}

impl Registries {
    /// Whether the blob is in the reference's repository, or is there now because the registry took it
    /// from one of the repositories `mount_from`. Nothing is sent.
    ///
    /// # Errors
    /// What the registry said, unless it was that it does not have the blob.
    pub fn has_or_mounts_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        mount_from: &[Reference],
    ) -> Result<bool, RegistryError> {
        // An upload that cannot be sent: of a blob that is to be mounted there are no bytes.
        let nothing = || Err(io::ErrorKind::NotFound.into());
        self.uploading(
            reference,
            descriptor,
            mount_from,
            &nothing,
            async |upload, sources| upload.exists_or_mounts(sources).await,
        )
    }

    /// Makes sure that the blob is in the reference's repository: `open` gives it anew each time it
    /// has to be sent; `mount_from` are repositories that may have it.
    ///
    /// # Errors
    /// `Local` if `open` or reading fails, else what the registry said.
    pub fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
    ) -> Result<Pushed, RegistryError> {
        self.uploading(
            reference,
            descriptor,
            mount_from,
            open,
            async |upload, sources| upload.run(sources).await,
        )
    }

    /// Has `work` done, with the repositories of this registry that the blob may be mounted from.
    fn uploading<T>(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        mount_from: &[Reference],
        open: &dyn Fn() -> io::Result<File>,
        mut work: impl AsyncFnMut(&Upload<'_>, &[String]) -> Result<T, RegistryErrorKind>,
    ) -> Result<T, RegistryError> {
        let host = reference.registry();
        let elsewhere = |from: &&Reference| {
            from.registry() == host && from.repository() != reference.repository()
        };
        let sources: Vec<String> = mount_from
            .iter()
            .filter(elsewhere)
            .map(|from| from.repository().to_owned())
            .collect();
        let push = async {
            let endpoint = self.endpoint(&self.address(host)).await?;
            let upload = Upload {
                endpoint: &endpoint,
                access: push_access(reference, sources.clone()),
                reference,
                descriptor,
                open,
            };
            let attempts = self.settings.attempts;
            self.retrying(attempts, host, async || work(&upload, &sources).await)
                .await
        };
        let subject = format!("{} to {}", descriptor.digest, reference.familiar());
        self.block_on(push)
            .map_err(|kind| kind.at("push", subject, host))
    }

    /// Puts the manifest under the reference's tag, or else under its digest.
    ///
    /// # Errors
    /// `DigestMismatch` if the reference pins another digest, or the registry stored other bytes.
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let host = reference.registry();
        let push = async {
            let endpoint = self.endpoint(&self.address(host)).await?;
            self.retrying(self.settings.attempts, host, async || {
                put_manifest(&endpoint, reference, media_type, bytes).await
            })
            .await
        };
        self.block_on(push)
            .map_err(|kind| kind.at("push", reference.familiar(), host))
    }
}

fn push_access(reference: &Reference, mount_from: Vec<String>) -> Access {
    Access {
        repository: reference.repository().to_owned(),
        push: true,
        mount_from,
    }
}

impl Upload<'_> {
    async fn run(&self, sources: &[String]) -> Result<Pushed, RegistryErrorKind> {
        let digest = &self.descriptor.digest;
        if head_blob(self.endpoint, self.reference, digest, &self.access).await? {
            return Ok(Pushed::Existed);
        }
        let session = match self.mount(sources).await? {
            Mounting::Mounted => return Ok(Pushed::Mounted),
            Mounting::Refused(session) => session,
        };
        let session = match session {
            Some(session) => Some(session),
            None => self.begin(None).await?,
        };
        let Some(session) = session else {
            return Err(RegistryErrorKind::bad_answer(
                "it took a blob that was not sent",
            ));
        };
        let session = self.send_content(session).await?;
        self.commit(session).await?;
        Ok(Pushed::Sent)
    }

    /// Looks for the blob, and tries to have it mounted.
    async fn exists_or_mounts(&self, sources: &[String]) -> Result<bool, RegistryErrorKind> {
        let digest = &self.descriptor.digest;
        if head_blob(self.endpoint, self.reference, digest, &self.access).await? {
            return Ok(true);
        }
        match self.mount(sources).await? {
            Mounting::Mounted => Ok(true),
            Mounting::Refused(session) => {
                if let Some(session) = session {
                    // A registry forgets by itself what nobody goes on with.
                    let ask = Ask::new(Method::DELETE, session);
                    drop(self.endpoint.send(&ask, &self.access).await);
                }
                Ok(false)
            }
        }
    }

    /// Has the registry take the blob from one of its other repositories, if one has it.
    async fn mount(&self, sources: &[String]) -> Result<Mounting, RegistryErrorKind> {
        for source in sources {
            match self.begin(Some(source)).await {
                Ok(None) => return Ok(Mounting::Mounted),
                Ok(session) => return Ok(Mounting::Refused(session)),
                Err(error) if error.is_retryable() => return Err(error),
                // Some registries refuse to mount what this account cannot see: it is sent then.
                Err(_) => {}
            }
        }
        Ok(Mounting::Refused(None))
    }

    /// Begins an upload, or mounts the blob: then there is nothing to upload.
    async fn begin(&self, mount_from: Option<&str>) -> Result<Option<Url>, RegistryErrorKind> {
        let mut url = self
            .endpoint
            .url(self.reference.repository(), "blobs/uploads/")?;
        if let Some(source) = mount_from {
            url.query_pairs_mut()
                .append_pair("mount", self.descriptor.digest.as_str())
                .append_pair("from", source);
        }
        let mut ask = Ask::new(Method::POST, url);
        ask.headers
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let response = self.endpoint.send(&ask, &self.access).await?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            _ => self.location(&response).map(Some),
        }
    }

    async fn send_content(&self, session: Url) -> Result<Url, RegistryErrorKind> {
        let sent = Arc::new(Sent::default());
        let body = || {
            let file = (self.open)().map_err(unreadable)?;
            Ok(stream(file, self.descriptor.size, sent.clone()))
        };
        let mut ask = Ask::new(Method::PATCH, session);
        let octets = HeaderValue::from_static("application/octet-stream");
        ask.headers.insert(CONTENT_TYPE, octets);
        ask.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(self.descriptor.size));
        ask.body = Some(&body);
        ask.patience = None;
        let response = tokio::select! {
            response = self.endpoint.send(&ask, &self.access) => response,
            () = stalled(&sent.bytes) => Err(RegistryErrorKind::Interrupted {
                cause: format!("nothing moved for {} s", ANSWER.as_secs()),
            }),
        };
        // To the network, a file that cannot be read looks like a broken connection.
        if let Some(source) = lock(&sent.failure).take() {
            return Err(unreadable(source));
        }
        let response = response?;
        self.location(&response)
    }

    async fn commit(&self, mut session: Url) -> Result<(), RegistryErrorKind> {
        let digest = self.descriptor.digest.as_str();
        session.query_pairs_mut().append_pair("digest", digest);
        let mut ask = Ask::new(Method::PUT, session);
        ask.headers
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        self.endpoint.send(&ask, &self.access).await.map(drop)
    }

    /// Where the upload goes on. Another host gets no credentials; nothing goes from https to http.
    fn location(&self, response: &Response) -> Result<Url, RegistryErrorKind> {
        let header = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let url = header
            .and_then(|text| response.url().join(text).ok())
            .ok_or_else(|| {
                RegistryErrorKind::bad_answer("it does not say where the upload goes on")
            })?;
        match (self.endpoint.base.scheme(), url.scheme()) {
            ("https", "http") => Err(RegistryErrorKind::bad_answer(
                "it is spoken to over https and directs the upload to plain http",
            )),
            _ => Ok(url),
        }
    }
}

/// Ends when nothing was sent for too long.
async fn stalled(sent: &AtomicU64) {
    let mut before = u64::MAX;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
        sleep(ANSWER).await;
    }
}

fn unreadable(source: io::Error) -> RegistryErrorKind {
    RegistryErrorKind::Local {
        action: "read",
        source,
    }
}

/// The file as a body that is read as it is sent. Reads block for as long as a disk does, so they
/// happen where blocking is allowed. After an error there is nothing more.
fn stream(file: File, size: u64, sent: Arc<Sent>) -> Body {
    Body::wrap_stream(unfold((Some(file), size), move |(file, left)| {
        let sent = sent.clone();
        async move {
            let file = file.filter(|_| left > 0)?;
            let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let read = tokio::task::spawn_blocking(move || read_part(file, wanted)).await;
            match read.map_err(io::Error::other).flatten() {
                Ok((file, bytes)) => {
                    let count = bytes.len() as u64;
                    sent.bytes.fetch_add(count, Ordering::Relaxed);
                    Some((Ok(bytes), (Some(file), left - count)))
                }
                Err(error) => {
                    let told = io::Error::from(error.kind());
                    *lock(&sent.failure) = Some(error);
                    Some((Err(told), (None, 0)))
                }
            }
        }
    }))
}

fn read_part(mut file: File, wanted: usize) -> io::Result<(File, Bytes)> {
    let mut buffer = vec![0; wanted];
    file.read_exact(&mut buffer)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "it is shorter than it was")
            }
            _ => error,
        })?;
    Ok((file, buffer.into()))
}

async fn put_manifest(
    endpoint: &Endpoint,
    reference: &Reference,
    media_type: &str,
    bytes: &[u8],
) -> Result<Digest, RegistryErrorKind> {
    let digest = Digest::of(bytes);
    let mismatch =
        |expected: Digest, got: Digest| Err(RegistryErrorKind::DigestMismatch { expected, got });
    if let Some(pinned) = reference.digest().filter(|pinned| **pinned != digest) {
        return mismatch(pinned.clone(), digest);
    }
    let name = reference.tag().unwrap_or(digest.as_str());
    let url = endpoint.url(reference.repository(), &format!("manifests/{name}"))?;
    let mut ask = Ask::new(Method::PUT, url);
    let media_type = HeaderValue::from_str(media_type)
        .map_err(|_| RegistryErrorKind::bad_answer(format!("{media_type:?} is no media type")))?;
    ask.headers.insert(CONTENT_TYPE, media_type);
    let body = || Ok(Body::from(bytes.to_vec()));
    ask.body = Some(&body);
    let response = endpoint
        .send(&ask, &push_access(reference, Vec::new()))
        .await?;
    let stored = response.headers().get(CONTENT_DIGEST);
    let stored = stored.and_then(|value| value.to_str().ok()?.parse().ok());
    match stored {
        Some(stored) if stored != digest => mismatch(digest, stored),
        _ => Ok(digest),
    }
}
