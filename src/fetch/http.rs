//! A file by `GET`.
//!
//! A URL that was fetched before is asked for with what its server gave to tell changes by. A body
//! that breaks off is continued where it broke if the server can tell that it is still the same,
//! else begun anew. Credentials are sent to the origin they were given for and not to where it
//! redirects.

use std::io::Write as _;
use std::sync::Arc;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use reqwest::{Response, StatusCode, Url};

use super::checksum::Hasher;
use super::network::host_of;
use super::{Checksum, FetchError, FetchErrorKind, Fetcher};
use crate::http::{self, Failure, Retry, patiently};
use crate::image::Digest;
use crate::store::{BlobWriter, FetchedRecord, StoreError};

const REDIRECTS: usize = 10;
/// A connection that brought this much before it broke was no failure.
const PROGRESS: u64 = 4 << 20;
/// The name of a file whose URL has none (S7).
const UNNAMED: &str = "__unnamed__";

/// A file that was fetched; its content is a blob of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedFile {
    /// The content.
    pub digest: Digest,
    /// Bytes of it.
    pub size: u64,
    /// `Last-Modified`, seconds since 1970; 0 if the server knows none.
    pub mtime: i64,
    /// The last segment of the URL's path, or `__unnamed__`.
    pub name: String,
    /// Whether no body had to be fetched.
    pub is_known: bool,
}

impl Fetcher<'_> {
    /// The file at `url`, as it is now. With a checksum that an earlier answer of the URL has,
    /// nothing is asked.
    ///
    /// # Errors
    /// What the network and the server say; [`FetchErrorKind::Checksum`] for other content than
    /// `checksum` says.
    pub fn file(&self, url: &str, checksum: Option<&Checksum>) -> Result<FetchedFile, FetchError> {
        self.file_at(url, checksum).map_err(|kind| kind.of(url))
    }

    fn file_at(
        &self,
        text: &str,
        checksum: Option<&Checksum>,
    ) -> Result<FetchedFile, FetchErrorKind> {
        let target = Target::parse(text, self.secret)?;
        let known = self.store.fetched(&target.key)?;
        if let (Some(Checksum::Sha256(digest)), Some(known)) = (checksum, &known)
            && known.digest == *digest
        {
            return Ok(known_file(known, target.name));
        }
        let runtime = self.network.threads()?;
        let stopped = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&stopped);
        let guard = self.stop.on_stop(Box::new(move || notify.notify_one()));
        let download = Download {
            fetcher: self,
            target: &target,
            checksum,
            known: known.as_ref().filter(|_| checksum.is_none()),
        };
        let fetched = runtime.block_on(async {
            tokio::select! {
                fetched = download.run() => fetched,
                () = stopped.notified() => Err(FetchErrorKind::Stopped),
            }
        });
        drop(guard);
        match fetched? {
            Some(record) => {
                self.store.put_fetched(&target.key, &record)?;
                Ok(FetchedFile {
                    is_known: false,
                    ..known_file(&record, target.name)
                })
            }
            None => match known {
                Some(known) => Ok(known_file(&known, target.name)),
                None => Err(bad("it says that nothing has changed since never")),
            },
        }
    }
}

fn known_file(record: &FetchedRecord, name: String) -> FetchedFile {
    FetchedFile {
        digest: record.digest.clone(),
        size: record.size,
        mtime: record.mtime,
        name,
        is_known: true,
    }
}

/// A URL taken apart.
struct Target {
    url: Url,
    /// The URL without credentials and fragment: what the store knows it by.
    key: String,
    name: String,
    authorization: Option<HeaderValue>,
}

impl Target {
    fn parse(text: &str, secret: &dyn Fn(&str) -> Option<String>) -> Result<Self, FetchErrorKind> {
        let mut url = Url::parse(text)
            .map_err(|error| FetchErrorKind::Refused(format!("it is no URL: {error}")))?;
        let login = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let text = |part: &str| decoded(part);
            let pair = [
                text(url.username()),
                text(url.password().unwrap_or_default()),
            ];
            base64_of(&pair.join(&b':'))
        });
        let strip = |()| FetchErrorKind::Refused("it names no host".into());
        url.set_username("").map_err(strip)?;
        url.set_password(None).map_err(strip)?;
        url.set_fragment(None);
        let host = host_of(&url);
        let token = |name: &str| secret(&format!("{name}_{host}"));
        let authorization = match login {
            Some(basic) => Some(format!("Basic {basic}")),
            None => token("HTTP_AUTH_HEADER")
                .or_else(|| token("HTTP_AUTH_TOKEN").map(|token| format!("Bearer {token}"))),
        };
        Ok(Self {
            key: url.to_string(),
            name: name_of(&url)?,
            authorization: authorization.map(|text| sensitive(&text)).transpose()?,
            url,
        })
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, FetchErrorKind> {
    let mut value = HeaderValue::from_str(text.trim())
        .map_err(|_| FetchErrorKind::Refused("its credentials do not fit a header".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Percent-decoded bytes; a lone `%` stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// The last segment of the path (S7).
fn name_of(url: &Url) -> Result<String, FetchErrorKind> {
    let path = decoded(url.path());
    let last = path
        .split(|byte| *byte == b'/')
        .rfind(|segment| !segment.is_empty())
        .unwrap_or_default();
    let name = String::from_utf8_lossy(last).into_owned();
    match name.as_str() {
        "" | "." | ".." => Ok(UNNAMED.to_owned()),
        name if name.contains('\0') => Err(FetchErrorKind::Refused("its name holds a NUL".into())),
        _ => Ok(name),
    }
}

/// One URL being fetched.
struct Download<'a> {
    fetcher: &'a Fetcher<'a>,
    target: &'a Target,
    checksum: Option<&'a Checksum>,
    known: Option<&'a FetchedRecord>,
}

/// What has come of a body.
struct Body {
    writer: BlobWriter,
    hasher: Option<Hasher>,
    /// What the server calls this content, if it promises the same bytes by it.
    etag: Option<HeaderValue>,
}

impl Download<'_> {
    /// The record of what came; none when nothing has changed.
    async fn run(&self) -> Result<Option<FetchedRecord>, FetchErrorKind> {
        let settings = &self.fetcher.network.settings;
        let mut retry = Retry::new(settings.attempts, settings.pause);
        let mut body = Body {
            writer: self.fetcher.store.blob_writer()?,
            hasher: self.checksum.and_then(Checksum::hasher),
            etag: None,
        };
        let headers = loop {
            let before = body.writer.bytes_written();
            let error = match self.attempt(&mut body).await {
                Ok(None) => return Ok(None),
                Ok(Some(headers)) => break headers,
                Err(error) => error,
            };
            if body.writer.bytes_written().saturating_sub(before) >= PROGRESS {
                retry.reset();
            }
            let pause = retry.after(error)?;
            let seconds = pause.length.as_secs_f64();
            let host = host_of(&self.target.url);
            let cause = pause.cause;
            (self.fetcher.note)(&format!("{host}: {cause}; retrying in {seconds:.1} s"));
            tokio::time::sleep(pause.length).await;
        };
        self.finish(body, &headers).map(Some)
    }

    /// Asks once; gives the headers when the body is whole, none when nothing has changed.
    async fn attempt(&self, body: &mut Body) -> Result<Option<HeaderMap>, FetchErrorKind> {
        let response = self.ask(body).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return match self.known {
                Some(_) => Ok(None),
                None => Err(bad("it says 304 to a first question")),
            };
        }
        let continues = response.status() == StatusCode::PARTIAL_CONTENT
            && starts_at(&response) == Some(body.writer.bytes_written());
        if !continues {
            if response.status() != StatusCode::OK {
                return Err(status(&response));
            }
            body.writer.restart()?;
            body.hasher = self.checksum.and_then(Checksum::hasher);
        }
        let headers = response.headers().clone();
        body.etag = headers.get(ETAG).filter(|tag| is_strong(tag)).cloned();
        self.receive(response, body).await?;
        Ok(Some(headers))
    }

    async fn receive(&self, mut response: Response, body: &mut Body) -> Result<(), FetchErrorKind> {
        let settings = &self.fetcher.network.settings;
        let limit = settings.max_bytes;
        let too_large = |more: u64, body: &Body| body.writer.bytes_written() + more > limit;
        if too_large(response.content_length().unwrap_or(0), body) {
            return Err(FetchErrorKind::TooLarge { limit });
        }
        while let Some(part) = patiently(settings.patience, response.chunk())
            .await?
            .map_err(Failure::from)?
        {
            if too_large(part.len() as u64, body) {
                return Err(FetchErrorKind::TooLarge { limit });
            }
            if let Err(error) = body.writer.write_all(&part) {
                return Err(body.writer.failure().map_or_else(
                    || FetchErrorKind::local("write what came")(error),
                    FetchErrorKind::Store,
                ));
            }
            if let Some(hasher) = &mut body.hasher {
                hasher.update(&part);
            }
        }
        Ok(())
    }

    /// Follows redirects to an answer.
    async fn ask(&self, body: &Body) -> Result<Response, FetchErrorKind> {
        let mut url = self.target.url.clone();
        for _ in 0..=REDIRECTS {
            let client = self.fetcher.network.client(&url)?;
            let request = client.get(url.clone()).headers(self.headers(&url, body)?);
            let response = patiently(self.fetcher.network.settings.patience, request.send())
                .await?
                .map_err(Failure::from)?;
            let leads = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.headers().get(LOCATION).filter(|_| leads) else {
                return Ok(response);
            };
            url = redirected(&url, location, self.checksum.is_some())?;
        }
        Err(bad("it redirects too many times"))
    }

    fn headers(&self, url: &Url, body: &Body) -> Result<HeaderMap, FetchErrorKind> {
        let mut headers = HeaderMap::new();
        // What is compressed on the way only would not be the file.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let ours = url.origin() == self.target.url.origin();
        if let Some(value) = self.target.authorization.as_ref().filter(|_| ours) {
            headers.insert(AUTHORIZATION, value.clone());
        }
        let offset = body.writer.bytes_written();
        if let (Some(etag), true) = (&body.etag, offset > 0) {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            headers.insert(RANGE, range.map_err(|_| bad("no range"))?);
            headers.insert(IF_RANGE, etag.clone());
            return Ok(headers);
        }
        let validators = self.known.map(|known| {
            [
                (IF_NONE_MATCH, &known.etag),
                (IF_MODIFIED_SINCE, &known.last_modified),
            ]
        });
        for (name, value) in validators.into_iter().flatten() {
            let value = value.as_deref().map(HeaderValue::from_str);
            // A validator that cannot be sent is as good as none.
            if let Some(Ok(value)) = value {
                headers.insert(name, value);
            }
        }
        Ok(headers)
    }

    /// Puts the body into the store if it is the right one.
    fn finish(&self, body: Body, headers: &HeaderMap) -> Result<FetchedRecord, FetchErrorKind> {
        let mut expected = None;
        if let Some(checksum) = self.checksum {
            if let Some(got) = body.hasher.map(Hasher::finish)
                && got != checksum.as_str()
            {
                return Err(mismatch(checksum, got));
            }
            if let Checksum::Sha256(digest) = checksum {
                expected = Some(digest);
            }
        }
        let (digest, size) = match (body.writer.finish(expected), self.checksum) {
            (Err(StoreError::DigestMismatch { found, .. }), Some(checksum)) => {
                return Err(mismatch(checksum, found.to_string()));
            }
            (finished, _) => finished?,
        };
        let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
        let last_modified: Option<String> = text(LAST_MODIFIED);
        let time = last_modified.as_deref().and_then(http::date);
        Ok(FetchedRecord {
            etag: text(ETAG),
            mtime: time.map_or(0, time::OffsetDateTime::unix_timestamp),
            last_modified,
            digest,
            size,
            name: self.target.name.clone(),
        })
    }
}

/// Where a redirect leads. In the clear only what a checksum vouches for is fetched.
fn redirected(from: &Url, location: &HeaderValue, is_vouched: bool) -> Result<Url, FetchErrorKind> {
    let text = location.to_str().map_err(|_| bad("it redirects nowhere"))?;
    let mut url = from.join(text).map_err(|_| bad("it redirects nowhere"))?;
    url.set_fragment(None);
    match (from.scheme(), url.scheme()) {
        ("https", "http") if !is_vouched => Err(bad(
            "it redirects from https to plain http, which is refused without --checksum",
        )),
        (_, "http" | "https") => Ok(url),
        (_, scheme) => Err(bad(&format!("it redirects to {scheme}:"))),
    }
}

fn mismatch(expected: &Checksum, got: String) -> FetchErrorKind {
    FetchErrorKind::Checksum {
        expected: expected.as_str().to_owned(),
        got,
    }
}

fn bad(reason: &str) -> FetchErrorKind {
    FetchErrorKind::BadAnswer(reason.to_owned())
}

fn status(response: &Response) -> FetchErrorKind {
    FetchErrorKind::Status {
        status: response.status(),
        retry_after: http::retry_after(response.headers()),
    }
}

fn is_strong(etag: &HeaderValue) -> bool {
    etag.as_bytes().starts_with(b"\"")
}

/// The first byte of a partial answer.
fn starts_at(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        for (from, location, is_vouched, expected) in [
            ("http://h/a/b", "c", false, Some("http://h/a/c")),
            ("http://h/a", "https://g/x#y", false, Some("https://g/x")),
            ("https://h/a", "//g/x", false, Some("https://g/x")),
            ("https://h/a", "http://h/a", false, None),
            ("https://h/a", "http://h/a", true, Some("http://h/a")),
            ("https://h/a", "ftp://h/a", true, None),
            ("https://h/a", "data:,x", true, None),
        ] {
            let from = Url::parse(from).unwrap();
            let made = redirected(&from, &HeaderValue::from_static(location), is_vouched);
            let made = made.ok().map(|url| url.to_string());
            assert_eq!(made.as_deref(), expected, "{from} {location}");
        }
    }
}
