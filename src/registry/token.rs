//! Answers to `WWW-Authenticate`: basic credentials, or a bearer token from the server that the
//! registry names, kept until it expires.
//!
//! Credentials belong to one host. Basic ones go to that host alone; a token server gets them
//! because that host, over the same connection, named it; never over plain http, unless the registry
//! itself is spoken to over plain http.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;

use super::RegistryErrorKind;
use super::credentials::{self, Credential};
use super::request::{ANSWER, classify, read_all};
use crate::http::Failure;

/// A token is no longer used this long before it expires.
const MARGIN: Duration = Duration::from_secs(10);
/// What the protocol says a token lives if its server does not say.
const DEFAULT_LIFE: u64 = 60;
const TOKEN_LIMIT: u64 = 1 << 20;

/// What a request is about to do, as tokens are scoped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Access {
    /// The repository at the endpoint; empty for the registry as such.
    pub(super) repository: String,
    pub(super) push: bool,
    /// Other repositories that blobs are mounted from.
    pub(super) mount_from: Vec<String>,
}

impl Access {
    fn scopes(&self) -> Vec<String> {
        if self.repository.is_empty() {
            return Vec::new();
        }
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let others = self
            .mount_from
            .iter()
            .map(|name| format!("repository:{name}:pull"));
        std::iter::once(own).chain(others).collect()
    }
}

/// The value of an `Authorization` header and whether there were credentials behind it.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    pub(super) with_credentials: bool,
    expires: Option<Instant>,
    /// Why there are no credentials behind it, if there should have been some.
    trouble: Option<String>,
}

impl Authorization {
    /// A refusal that comes from credentials which could not be read says so.
    pub(super) fn explain(&self, refused: RegistryErrorKind) -> RegistryErrorKind {
        explain(self.trouble.as_deref(), refused)
    }
}

fn explain(trouble: Option<&str>, refused: RegistryErrorKind) -> RegistryErrorKind {
    let refusal = matches!(
        refused,
        RegistryErrorKind::Unauthorized { .. } | RegistryErrorKind::Denied { .. }
    );
    match trouble.filter(|_| refusal) {
        Some(trouble) => RegistryErrorKind::Unauthorized {
            detail: trouble.to_owned(),
            had_credentials: true,
        },
        None => refused,
    }
}

/// The tokens of one endpoint.
pub(super) struct Tokens {
    host: String,
    files: Vec<PathBuf>,
    /// Set at login, instead of what the files say.
    given: Option<Credential>,
    known: Mutex<HashMap<Access, Authorization>>,
}

enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn new(host: &str, files: &[PathBuf]) -> Self {
        Self {
            host: credentials::host_of(host).to_owned(),
            files: files.to_vec(),
            given: None,
            known: Mutex::default(),
        }
    }

    pub(super) fn give(&mut self, credential: Credential) {
        self.given = Some(credential);
    }

    /// What worked before, if it still does.
    pub(super) fn known(&self, access: &Access) -> Option<Authorization> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |a: &&Authorization| a.expires.is_none_or(|end| Instant::now() < end);
        known.get(access).filter(fresh).cloned()
    }

    pub(super) fn forget(&self, access: &Access) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(access);
    }

    /// Gets what the registry at `base` asks for in `headers`; none if we have nothing to give.
    pub(super) async fn answer(
        &self,
        client: &Client,
        base: &Url,
        headers: &HeaderMap,
        access: &Access,
    ) -> Result<Option<Authorization>, RegistryErrorKind> {
        // A helper that is missing, as desktop settings copied elsewhere name one, must not stand in
        // the way of what anyone may pull.
        let (credential, trouble) = match self.credential(access) {
            Ok(credential) => (credential, None),
            Err(trouble) => (None, Some(trouble)),
        };
        let authorization = match (challenge(headers, base)?, credential, &trouble) {
            (Challenge::Basic, Some(Credential::Basic { user, password }), _) => Authorization {
                header: basic(&user, &password)?,
                with_credentials: true,
                expires: None,
                trouble: None,
            },
            (Challenge::Basic, _, Some(trouble)) => {
                return Err(RegistryErrorKind::Unauthorized {
                    detail: trouble.clone(),
                    had_credentials: true,
                });
            }
            (Challenge::Basic, _, None) => return Ok(None),
            (Challenge::Bearer { realm, service }, credential, _) => {
                let service = service.as_deref();
                let fetched = fetch(client, realm, service, access, credential.as_ref()).await;
                let fetched = fetched.map_err(|refused| explain(trouble.as_deref(), refused))?;
                Authorization { trouble, ..fetched }
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(access.clone(), authorization.clone());
        Ok(Some(authorization))
    }

    fn credential(&self, access: &Access) -> Result<Option<Credential>, String> {
        match &self.given {
            Some(given) => Ok(Some(given.clone())),
            None => credentials::look_up(&self.files, &self.host, &access.repository),
        }
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, RegistryErrorKind> {
    let engine = base64::engine::general_purpose::STANDARD;
    secret(format!(
        "Basic {}",
        engine.encode(format!("{user}:{password}"))
    ))
}

fn secret(text: String) -> Result<HeaderValue, RegistryErrorKind> {
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        RegistryErrorKind::bad_answer("the token holds characters that no header can carry")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The challenge we can answer; bearer before basic, as docker does.
fn challenge(headers: &HeaderMap, base: &Url) -> Result<Challenge, RegistryErrorKind> {
    let mut basic = false;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        let Ok(challenges) = http_auth::parse_challenges(text) else {
            continue;
        };
        for challenge in challenges {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                return bearer(&challenge, base);
            }
            basic |= challenge.scheme.eq_ignore_ascii_case("basic");
        }
    }
    match basic {
        true => Ok(Challenge::Basic),
        false => Err(RegistryErrorKind::bad_answer(
            "it wants credentials of a kind that is neither basic nor bearer",
        )),
    }
}

fn bearer(
    challenge: &http_auth::ChallengeRef<'_>,
    base: &Url,
) -> Result<Challenge, RegistryErrorKind> {
    let parameter = |name: &str| {
        let mut all = challenge.params.iter();
        let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    let realm = parameter("realm").unwrap_or_default();
    let realm = base.join(&realm).map_err(|error| {
        RegistryErrorKind::bad_answer(format!("it names a token server without address: {error}"))
    })?;
    if realm.scheme() != "https" && (base.scheme() == "https" || realm.scheme() != "http") {
        return Err(RegistryErrorKind::bad_answer(
            "it names a token server without TLS, which credentials are not sent to",
        ));
    }
    Ok(Challenge::Bearer {
        realm,
        service: parameter("service"),
    })
}

async fn fetch(
    client: &Client,
    realm: Url,
    service: Option<&str>,
    access: &Access,
    credential: Option<&Credential>,
) -> Result<Authorization, RegistryErrorKind> {
    let request = token_request(client, realm, service, access, credential)?;
    let response = request
        .timeout(ANSWER)
        .send()
        .await
        .map_err(Failure::from)?;
    if !response.status().is_success() {
        return Err(classify(response, credential.is_some()).await);
    }
    let bytes = read_all(response, TOKEN_LIMIT).await?;
    // The text of a parser's error could repeat a part of the token.
    let answer: Answer = serde_json::from_slice(&bytes)
        .map_err(|_| RegistryErrorKind::bad_answer("the token server's answer is no token"))?;
    let token = answer
        .token
        .or(answer.access_token)
        .ok_or_else(|| RegistryErrorKind::bad_answer("the token server's answer holds no token"))?;
    let life = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_LIFE).min(86_400));
    Ok(Authorization {
        header: secret(format!("Bearer {token}"))?,
        with_credentials: credential.is_some(),
        expires: Some(Instant::now() + life.saturating_sub(MARGIN.min(life / 2))),
        trouble: None,
    })
}

fn token_request(
    client: &Client,
    mut realm: Url,
    service: Option<&str>,
    access: &Access,
    credential: Option<&Credential>,
) -> Result<RequestBuilder, RegistryErrorKind> {
    let scopes = access.scopes();
    if let Some(Credential::IdentityToken(token)) = credential {
        let mut form = realm.clone();
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "lapstrake")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token);
        let body = form.query().unwrap_or_default().to_owned();
        let kind = "application/x-www-form-urlencoded";
        return Ok(client.post(realm).header(CONTENT_TYPE, kind).body(body));
    }
    let mut query = realm.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    for scope in &scopes {
        query.append_pair("scope", scope);
    }
    if let Some(Credential::Basic { user, .. }) = credential {
        query.append_pair("account", user);
    }
    drop(query);
    let request = client.get(realm);
    Ok(match credential {
        Some(Credential::Basic { user, password }) => {
            request.header(AUTHORIZATION, basic(user, password)?)
        }
        _ => request,
    })
}
