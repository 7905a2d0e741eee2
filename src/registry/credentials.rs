//! Credentials as docker and podman keep them, looked up for one registry and one repository.
//!
//! A file is asked only for the key that names the very host (and, with podman, the longest path
//! above the repository), so that nothing meant for one host is ever used for another. Helpers run
//! only when a registry has asked for credentials. Nothing here prints a secret.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::Value;

/// The key under which docker keeps Docker Hub's credentials.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What a user proves to be who they are with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for access tokens.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// The files that are asked for credentials, in this order: docker's, then podman's.
pub fn default_files() -> Vec<PathBuf> {
    let dir = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = dir("HOME");
    let docker = dir("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    let config = dir("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
    let files = [
        docker.map(|dir| dir.join("config.json")),
        dir("REGISTRY_AUTH_FILE"),
        dir("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
    ];
    files.into_iter().flatten().collect()
}

/// The credentials for `repository` at `host`, from the first of `files` that has some.
///
/// # Errors
/// The text says which file or helper failed, and how.
pub fn look_up(
    files: &[PathBuf],
    host: &str,
    repository: &str,
) -> Result<Option<Credential>, String> {
    for file in files {
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
        };
        if let Some(found) = look_up_in(file, &bytes, host, repository)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn look_up_in(
    file: &Path,
    bytes: &[u8],
    host: &str,
    repository: &str,
) -> Result<Option<Credential>, String> {
    let config: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("{} is not valid JSON: {error}", file.display()))?;
    let Some(key) = key_for(&config, host, repository) else {
        return Ok(None);
    };
    match docker_credential::get_credential_from_reader(bytes, &key) {
        Ok(DockerCredential::UsernamePassword(user, password)) if user == "<token>" => {
            Ok(Some(Credential::IdentityToken(password)))
        }
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credential::Basic { user, password }))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::IdentityToken(token))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(None)
        }
        // The helper's own output may hold anything, so it is not repeated.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => Err(format!(
            "the credential helper {helper} of {} failed",
            file.display()
        )),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// The key of `config` to ask for: a helper's, an entry's, or the plain one if there is a store.
fn key_for(config: &Value, host: &str, repository: &str) -> Option<String> {
    let names_host = |key: &&String| host_of(key) == host;
    let helper = config["credHelpers"].as_object();
    if let Some(key) = helper.and_then(|map| map.keys().find(names_host)) {
        return Some(key.clone());
    }
    let entries = config["auths"].as_object();
    let entry = entries.and_then(|map| {
        let covers = |key: &&String| host_of(key) == host && covers(path_of(key), repository);
        map.iter()
            .filter(|(key, entry)| covers(key) && entry.as_object().is_some_and(|e| !e.is_empty()))
            .map(|(key, _)| key)
            .max_by_key(|key| path_of(key).len())
    });
    if let Some(key) = entry {
        return Some(key.clone());
    }
    let store = config["credsStore"].as_str().unwrap_or_default();
    (!store.is_empty()).then(|| plain_key(host))
}

/// The key that docker would use for `host`.
pub fn plain_key(host: &str) -> String {
    match host {
        "docker.io" => DOCKER_HUB_KEY.to_owned(),
        other => other.to_owned(),
    }
}

/// The registry that a key names; Docker Hub's many names are one.
pub fn host_of(key: &str) -> &str {
    let bare = without_scheme(key);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn without_scheme(key: &str) -> &str {
    key.strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
}

/// The repository path that a key is limited to; empty for all of the host.
fn path_of(key: &str) -> &str {
    let path = without_scheme(key)
        .split_once('/')
        .map_or("", |(_, path)| path);
    match path.trim_end_matches('/') {
        "v1" | "v2" => "",
        path => path,
    }
}

fn covers(path: &str, repository: &str) -> bool {
    path.is_empty()
        || repository == path
        || repository
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn basic(user: &str) -> Option<Credential> {
        Some(Credential::Basic {
            user: user.to_owned(),
            password: "p:w".to_owned(),
        })
    }

    #[test]
    fn finds_the_key_of_the_very_host() {
        let auth = |user: &str| {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:p:w"));
            json!({ "auth": text })
        };
        let config = json!({"auths": {
            "https://index.docker.io/v1/": auth("hub"),
            "quay.io": auth("quay"),
            "https://old.example/v2/": auth("old"),
            "ghcr.io/team": auth("team"),
            "ghcr.io/team/app": auth("app"),
            "empty.example": {},
            "127.0.0.1:5000": auth("port"),
        }});
        let bytes = config.to_string();
        for (host, repository, expected) in [
            ("docker.io", "library/alpine", basic("hub")),
            ("quay.io", "x", basic("quay")),
            ("old.example", "x", basic("old")),
            ("ghcr.io", "team/other", basic("team")),
            ("ghcr.io", "team/app", basic("app")),
            ("ghcr.io", "teammate/app", None),
            ("empty.example", "x", None),
            ("127.0.0.1:5000", "x", basic("port")),
            ("127.0.0.1:5001", "x", None),
            ("127.0.0.1", "x", None),
            ("io", "x", None),
            ("quay.io.evil.example", "x", None),
            ("evil-quay.io", "x", None),
        ] {
            let found = look_up_in(Path::new("c"), bytes.as_bytes(), host, repository).unwrap();
            assert_eq!(found, expected, "{host}/{repository}");
        }
    }

    #[test]
    fn errors_name_the_file_and_no_secret() {
        let bytes = json!({"auths": {"h": {"auth": "c2VjcmV0"}}}).to_string();
        for bytes in [bytes.as_bytes(), b"{".as_slice()] {
            let error = look_up_in(Path::new("/x/config.json"), bytes, "h", "r").unwrap_err();
            assert!(
                error.contains("/x/config.json") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
