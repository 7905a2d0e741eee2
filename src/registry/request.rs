//! One request to an endpoint: authorization, the answer to a challenge, and what a status means.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Body, Method, Response, StatusCode, Url};
use serde_json::Value;

use super::RegistryErrorKind;
use super::endpoint::Endpoint;
use super::token::{Access, Authorization};
use crate::http::{self, Failure, patiently};

pub(super) use crate::http::ANSWER;
/// How much of an error's text is read.
const ERROR_LIMIT: u64 = 16 << 10;
/// How much of an error's text is shown.
const SHOWN: usize = 300;

/// A request; `body` makes a fresh body each time it is sent.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<&'a dyn Fn() -> Result<Body, RegistryErrorKind>>,
    /// How long until the answer begins; none if whoever makes the body watches over it.
    pub(super) patience: Option<Duration>,
}

impl Ask<'_> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            patience: Some(ANSWER),
        }
    }
}

impl Endpoint {
    /// Sends `ask`, answering at most one challenge. Any status but success is an error.
    pub(super) async fn send(
        &self,
        ask: &Ask<'_>,
        access: &Access,
    ) -> Result<Response, RegistryErrorKind> {
        let ours = self.is_origin_of(&ask.url);
        let known = self.tokens.known(access).filter(|_| ours);
        let response = self.once(ask, known.as_ref()).await?;
        let challenged = response.status() == StatusCode::UNAUTHORIZED;
        if !challenged || !ours || !self.is_origin_of(response.url()) {
            return accept(response, known.is_some_and(|k| k.with_credentials)).await;
        }
        self.tokens.forget(access);
        let answer = self
            .tokens
            .answer(&self.client, &self.base, response.headers(), access)
            .await?;
        let Some(answer) = answer else {
            return Err(classify(response, false).await);
        };
        drop(response);
        let response = self.once(ask, Some(&answer)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.tokens.forget(access);
        }
        let accepted = accept(response, answer.with_credentials).await;
        accepted.map_err(|refused| answer.explain(refused))
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response, RegistryErrorKind> {
        let mut request = self
            .client
            .request(ask.method.clone(), ask.url.clone())
            .headers(ask.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.header.clone());
        }
        if let Some(body) = ask.body {
            request = request.body(body()?);
        }
        match ask.patience {
            Some(patience) => patiently(patience, request.send()).await?,
            None => request.send().await,
        }
        .map_err(|error| Failure::from(error).into())
    }
}

async fn accept(response: Response, credentials: bool) -> Result<Response, RegistryErrorKind> {
    match response.status().is_success() {
        true => Ok(response),
        false => Err(classify(response, credentials).await),
    }
}

/// The next part of the body; none at its end.
pub(super) async fn next_part(
    response: &mut Response,
) -> Result<Option<bytes::Bytes>, RegistryErrorKind> {
    patiently(ANSWER, response.chunk())
        .await?
        .map_err(|error| Failure::from(error).into())
}

/// All of the body, if it is no longer than `limit`.
pub(super) async fn read_all(
    mut response: Response,
    limit: u64,
) -> Result<Vec<u8>, RegistryErrorKind> {
    let mut all = Vec::new();
    while let Some(part) = next_part(&mut response).await? {
        if (all.len() + part.len()) as u64 > limit {
            return Err(RegistryErrorKind::TooLarge { limit });
        }
        all.extend_from_slice(&part);
    }
    Ok(all)
}

/// What a status that is no success means.
pub(super) async fn classify(response: Response, had_credentials: bool) -> RegistryErrorKind {
    let status = response.status();
    let retry_after = http::retry_after(response.headers());
    // The status is the news; a text that cannot be read adds nothing to it.
    let (detail, limited) = match read_all(response, ERROR_LIMIT).await {
        Ok(body) => words(&body),
        Err(_) => (String::new(), false),
    };
    match status.as_u16() {
        404 => RegistryErrorKind::NotFound { detail },
        401 => RegistryErrorKind::Unauthorized {
            detail,
            had_credentials,
        },
        429 => RegistryErrorKind::RateLimited {
            retry_after,
            detail,
        },
        _ if limited => RegistryErrorKind::RateLimited {
            retry_after,
            detail,
        },
        403 => RegistryErrorKind::Denied { detail },
        408 | 500..=599 => RegistryErrorKind::Unavailable {
            status: status.as_u16(),
            retry_after,
            detail,
        },
        code => RegistryErrorKind::bad_answer(match detail.as_str() {
            "" => format!("status {code}"),
            detail => format!("status {code}: {detail}"),
        }),
    }
}

/// What the registry has to say, fit for a terminal, and whether it says `TOOMANYREQUESTS`.
fn words(body: &[u8]) -> (String, bool) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), false);
    };
    let mut all = Vec::new();
    let mut limited = false;
    for error in value["errors"].as_array().into_iter().flatten() {
        let code = error["code"].as_str().unwrap_or_default();
        limited |= code == "TOOMANYREQUESTS";
        let message = error["message"].as_str().unwrap_or_default();
        all.push(if message.is_empty() { code } else { message });
    }
    all.extend(value["details"].as_str());
    let text = all.join(", ");
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    (clean.take(SHOWN).collect(), limited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_words() {
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"a\u001b[31mb"}]}"#;
        assert_eq!(words(body), ("a [31mb".to_owned(), true));
        assert_eq!(words(b"<html>"), (String::new(), false));
    }
}
