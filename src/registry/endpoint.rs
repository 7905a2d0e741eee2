//! [`Endpoint`]: one host that speaks the distribution protocol, and the HTTP client for it.
//!
//! Scheme: `https`, unless the host is configured or written as plain http. A loopback host that is
//! not configured is tried with TLS first; only if what answers there speaks no TLS at all (a
//! certificate that is not trusted is an error, never a reason to go on in the clear), http is used.
//! Redirects from https to http are refused; `Authorization` is dropped by the HTTP client as soon
//! as scheme, host or port change.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

use super::RegistryErrorKind;
use super::token::Tokens;
use crate::http::{self, Failure, is_loopback};

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
        let plain = address.scheme == Some(Scheme::Http);
        let client = http::client(address.host(), ca_files, plain, || Policy::custom(redirect))?;
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
    match Failure::from(error) {
        failure @ Failure::Tls { .. } => Err(failure.into()),
        _ => Ok(Scheme::Http),
    }
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
}
