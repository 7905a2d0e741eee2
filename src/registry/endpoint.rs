//! [`Endpoint`]: one host that speaks the distribution protocol, and the HTTP client for it.
//!
//! Scheme: `https`, unless the host is configured or written as plain http. A loopback host that is
//! not configured is tried with TLS first; only if what answers there speaks no TLS at all (a
//! certificate that is not trusted is an error, never a reason to go on in the clear), http is used.
//! Redirects from https to http are refused; `Authorization` is dropped by the HTTP client as soon
//! as scheme, host or port change.

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, Url};

use super::RegistryErrorKind;
use super::token::Tokens;

/// A connection is made within this time or not at all.
const CONNECT: Duration = Duration::from_secs(20);
/// What does not answer on loopback in this time speaks no TLS.
const PROBE: Duration = Duration::from_secs(5);
const REDIRECTS: usize = 8;

/// Where a registry or a mirror is: `[http://|https://]HOST[:PORT][/PREFIX]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    scheme: Option<Scheme>,
    host: String,
    prefix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Scheme {
    Http,
    Https,
}

/// The text is no address of a registry.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is no address of a registry: expected HOST, http://HOST or https://HOST, with an \
     optional :PORT and /PREFIX, without credentials"
)]
pub struct AddressError {
    text: String,
}

impl Address {
    pub(super) fn of_registry(host: &str, plain_http: bool) -> Self {
        Self {
            scheme: plain_http.then_some(Scheme::Http),
            host: host.to_owned(),
            prefix: String::new(),
        }
    }

    /// The host, with its port if one is given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name of `repository` there.
    pub(super) fn repository(&self, repository: &str) -> String {
        match self.prefix.as_str() {
            "" => repository.to_owned(),
            prefix => format!("{prefix}/{repository}"),
        }
    }

    pub(super) fn plain_if(mut self, plain_http: bool) -> Self {
        if plain_http && self.scheme.is_none() {
            self.scheme = Some(Scheme::Http);
        }
        self
    }

    fn url(&self, scheme: Scheme) -> Result<Url, RegistryErrorKind> {
        let host = match self.host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        let name = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        Url::parse(&format!("{name}://{host}/v2/")).map_err(|error| RegistryErrorKind::Settings {
            detail: format!("{host:?} is no host name: {error}"),
        })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return Err(error(text)),
            None => (None, text),
        };
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let parsed = Url::parse(&format!("https://{rest}")).map_err(|_| error(text))?;
        let extra = parsed.query().is_some() || parsed.fragment().is_some();
        if host.is_empty() || host.contains(['@', ' ']) || extra {
            return Err(error(text));
        }
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            prefix: prefix.trim_matches('/').to_owned(),
        })
    }
}

/// Credentials that someone wrote into the address are not repeated.
fn error(text: &str) -> AddressError {
    let text = match text.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => text.to_owned(),
    };
    AddressError { text }
}

/// A host that is asked, with its connections and its tokens.
pub(super) struct Endpoint {
    pub(super) address: Address,
    /// `…/v2/`.
    pub(super) base: Url,
    pub(super) client: Client,
    pub(super) tokens: Tokens,
}

impl Endpoint {
    pub(super) async fn open(
        address: &Address,
        ca_files: &[PathBuf],
        credential_files: &[PathBuf],
    ) -> Result<Self, RegistryErrorKind> {
        let client = client(
            address.host(),
            ca_files,
            address.scheme == Some(Scheme::Http),
        )?;
        let scheme = match address.scheme {
            Some(scheme) => scheme,
            None if is_loopback(address.host()) => probe(address, &client).await?,
            None => Scheme::Https,
        };
        Ok(Self {
            base: address.url(scheme)?,
            address: address.clone(),
            client,
            tokens: Tokens::new(address.host(), credential_files),
        })
    }

    /// Whether `url` is at this very scheme, host and port: where credentials may go.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// `/v2/REPOSITORY/TAIL`.
    pub(super) fn url(&self, repository: &str, tail: &str) -> Result<Url, RegistryErrorKind> {
        let path = format!("{}/{tail}", self.address.repository(repository));
        self.base
            .join(&path)
            .map_err(|error| RegistryErrorKind::bad_answer(format!("no address: {error}")))
    }
}

async fn probe(address: &Address, client: &Client) -> Result<Scheme, RegistryErrorKind> {
    let asked = client
        .get(address.url(Scheme::Https)?)
        .timeout(PROBE)
        .send()
        .await;
    let Err(error) = asked else {
        return Ok(Scheme::Https);
    };
    match transport(error) {
        failure @ RegistryErrorKind::TlsFailure { .. } => Err(failure),
        _ => Ok(Scheme::Http),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn client(host: &str, ca_files: &[PathBuf], plain: bool) -> Result<Client, RegistryErrorKind> {
    // Installing fails only when another provider is there already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut extra = Vec::new();
    for file in ca_files.iter().cloned().chain(certs_d(host)) {
        extra.extend(certificates(&file)?);
    }
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("lapstrake/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(Policy::custom(redirect));
        // As everywhere: what is on this machine is never asked for through a proxy.
        if is_loopback(host) {
            builder.no_proxy()
        } else {
            builder
        }
    };
    let client = builder().tls_certs_merge(extra.clone()).build();
    match client {
        // A machine without any root certificates can still use plain http.
        Err(_) if plain || is_loopback(host) => builder().tls_certs_only(extra).build(),
        client => client,
    }
    .map_err(|error| RegistryErrorKind::TlsFailure {
        cause: format!("cannot set up TLS: {}", chain(&error)),
    })
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from = attempt.previous().last().map(|url| url.scheme().to_owned());
    if from.as_deref() == Some("https") && attempt.url().scheme() != "https" {
        return attempt.error("it redirects from https to plain http, which is refused");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("it redirects too many times");
    }
    attempt.follow()
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, RegistryErrorKind> {
    let settings = |reason: String| RegistryErrorKind::Settings {
        detail: format!("cannot use the CA file {}: {reason}", file.display()),
    };
    let pem = fs::read(file).map_err(|error| settings(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| settings(chain(&error)))?;
    match found.is_empty() {
        true => Err(settings("there is no PEM certificate in it".to_owned())),
        false => Ok(found),
    }
}

/// Docker's place for the CAs of one registry. What cannot be listed is not there.
fn certs_d(host: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(Path::new("/etc/docker/certs.d").join(host)) else {
        return Vec::new();
    };
    let files = entries.filter_map(Result::ok).map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "crt"))
        .collect()
}

/// What a failed request means. Addresses are left out: after a redirect they may hold secrets.
pub(super) fn transport(error: reqwest::Error) -> RegistryErrorKind {
    let error = error.without_url();
    let cause = chain(&error);
    if let Some(tls) = find_tls(&error) {
        let no_tls = matches!(tls, rustls::Error::InvalidMessage(_));
        return match no_tls {
            true => RegistryErrorKind::Unreachable {
                cause: "it speaks no TLS".to_owned(),
            },
            false => RegistryErrorKind::TlsFailure { cause },
        };
    }
    match () {
        () if error.is_connect() => RegistryErrorKind::Unreachable { cause },
        () if error.is_redirect() => RegistryErrorKind::bad_answer(cause),
        () => RegistryErrorKind::Interrupted { cause },
    }
}

fn find_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The last cause is what people need; those above it only say that a request failed.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, url, repository) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/v2/", "a/b"),
            ("https://m.example/hub/", "https://m.example/v2/", "hub/a/b"),
            ("M.example:8443", "https://m.example:8443/v2/", "a/b"),
            ("docker.io", "https://registry-1.docker.io/v2/", "a/b"),
            ("[::1]:5000", "https://[::1]:5000/v2/", "a/b"),
        ] {
            let address: Address = text.parse().unwrap();
            let scheme = address.scheme.unwrap_or(Scheme::Https);
            assert_eq!(address.url(scheme).unwrap().as_str(), url);
            assert_eq!(address.repository("a/b"), repository);
        }
        for text in [
            "",
            "ftp://x",
            "http://",
            "https://u:geheim@h",
            "h?x",
            "h#x",
            "a b",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn loopback_hosts() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.1.2.3:1", true),
            ("[::1]:5000", true),
            ("10.0.0.1:5000", false),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
