//! [`DockerConfig`]: docker's `config.json`, as `login` and `logout` change it.
//!
//! Fields that are not ours are kept as they are. The file is replaced by rename, with mode 0600, so
//! that nobody ever sees half of it. Where a credential helper is configured for the registry, the
//! secret goes to it over its standard input and not into the file.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::credentials::{Credential, default_files, host_of, plain_key};

/// Where the credentials went to or came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the file itself, readable by whoever can read the file.
    InFile(PathBuf),
    /// With a credential helper.
    WithHelper(String),
}

/// The file, or a helper that it names, could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// Neither `DOCKER_CONFIG` nor `HOME` says where it is.
    #[error("there is no place for credentials: set DOCKER_CONFIG or HOME")]
    NoPlace,
    /// It could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It is not a JSON object.
    #[error("{} is not what docker writes: {reason}; it is left as it is", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The helper is missing or failed.
    #[error("the credential helper {helper}, which {} names, failed to {action}: {reason}", .path.display())]
    Helper {
        /// The program.
        helper: String,
        /// The file that names it.
        path: PathBuf,
        /// `store` or `erase`.
        action: &'static str,
        /// How.
        reason: String,
    },
}

/// Docker's `config.json`.
pub struct DockerConfig {
    path: PathBuf,
    content: Map<String, Value>,
}

impl DockerConfig {
    /// Reads `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`. A missing file is empty.
    pub fn load() -> Result<Self, DockerConfigError> {
        let docker = |path: &PathBuf| path.ends_with("config.json");
        let path = default_files().into_iter().find(docker);
        Self::load_from(&path.ok_or(DockerConfigError::NoPlace)?)
    }

    /// Reads `path`. A missing file is empty.
    pub fn load_from(path: &Path) -> Result<Self, DockerConfigError> {
        let malformed = |reason: String| DockerConfigError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let content = match fs::read(path) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Map::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(source) => {
                return Err(DockerConfigError::File {
                    action: "read",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        for key in ["auths", "credHelpers"] {
            if !matches!(
                content.get(key),
                None | Some(Value::Null | Value::Object(_))
            ) {
                return Err(malformed(format!("{key} is no object")));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    /// Keeps `user` and `password` for `host`.
    pub fn store(
        &mut self,
        host: &str,
        user: &str,
        password: &str,
    ) -> Result<Kept, DockerConfigError> {
        let key = plain_key(host_of(host));
        if let Some(helper) = self.helper(&key) {
            let request = json!({"ServerURL": key, "Username": user, "Secret": password});
            self.run_helper(&helper, "store", &request.to_string())?;
            self.set_auth(&key, json!({}));
            self.save()?;
            return Ok(Kept::WithHelper(helper));
        }
        let engine = base64::engine::general_purpose::STANDARD;
        let auth = engine.encode(format!("{user}:{password}"));
        self.set_auth(&key, json!({ "auth": auth }));
        self.save()?;
        Ok(Kept::InFile(self.path.clone()))
    }

    /// Forgets what is kept for `host`, under any of its keys; false if there was nothing.
    pub fn erase(&mut self, host: &str) -> Result<bool, DockerConfigError> {
        let host = host_of(host);
        let key = plain_key(host);
        let helper = self.helper(&key);
        let mut removed = false;
        if let Some(Value::Object(auths)) = self.content.get_mut("auths") {
            let before = auths.len();
            auths.retain(|key, _| host_of(key) != host);
            removed = auths.len() < before;
        }
        if let Some(helper) = helper {
            self.run_helper(&helper, "erase", &key)?;
            removed = true;
        }
        if removed {
            self.save()?;
        }
        Ok(removed)
    }

    /// The user's name that is kept in the file for `host`.
    pub fn user(&self, host: &str) -> Option<String> {
        let files = [self.path.clone()];
        match super::credentials::look_up(&files, host_of(host), "") {
            Ok(Some(Credential::Basic { user, .. })) => Some(user),
            _ => None,
        }
    }

    fn helper(&self, key: &str) -> Option<String> {
        let own = self
            .content
            .get("credHelpers")
            .and_then(|map| map[key].as_str());
        let store = self.content.get("credsStore").and_then(Value::as_str);
        let name = own.or(store).filter(|name| !name.is_empty())?;
        Some(format!("docker-credential-{name}"))
    }

    fn set_auth(&mut self, key: &str, entry: Value) {
        let auths = self.content.entry("auths").or_insert(Value::Null);
        if auths.is_null() {
            *auths = json!({});
        }
        auths[key] = entry;
    }

    fn run_helper(
        &self,
        helper: &str,
        action: &'static str,
        input: &str,
    ) -> Result<(), DockerConfigError> {
        let failed = |reason: String| DockerConfigError::Helper {
            helper: helper.to_owned(),
            path: self.path.clone(),
            action,
            reason,
        };
        let mut child = Command::new(helper)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(format!("it cannot be started: {error}")))?;
        let written = match child.stdin.take() {
            Some(mut stdin) => stdin.write_all(input.as_bytes()),
            None => Ok(()),
        };
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        match (status.success(), written) {
            (true, Ok(())) => Ok(()),
            (true, Err(error)) => Err(failed(format!("it does not read its input: {error}"))),
            (false, _) => Err(failed(status.to_string())),
        }
    }

    fn save(&self) -> Result<(), DockerConfigError> {
        self.write().map_err(|source| DockerConfigError::File {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }

    fn write(&self) -> io::Result<()> {
        // A link to the real file, as dotfile managers make, stays a link.
        let target = match fs::canonicalize(&self.path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.path.clone(),
            Err(error) => return Err(error),
        };
        let dir = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let name = format!(".config.json.{}", std::process::id());
        let temporary = dir.join(name);
        let mut text = serde_json::to_vec_pretty(&self.content)?;
        text.push(b'\n');
        let written =
            write_private(&temporary, &text).and_then(|()| fs::rename(&temporary, &target));
        if written.is_err() {
            // The error that matters is the first one.
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_and_erases_and_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.json");
        let mut config = DockerConfig::load_from(&path).unwrap();
        assert_eq!(
            config.store("docker.io", "me", "a:b").unwrap(),
            Kept::InFile(path.clone())
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = fs::read_to_string(&path).unwrap();
        let with_more = text.replacen('{', r#"{"proxies":{"x":1},"#, 1);
        fs::write(&path, with_more).unwrap();

        let mut config = DockerConfig::load_from(&path).unwrap();
        assert_eq!(config.user("index.docker.io").as_deref(), Some("me"));
        config.store("127.0.0.1:5000", "you", "pw").unwrap();
        assert!(config.erase("docker.io").unwrap());
        assert!(!config.erase("docker.io").unwrap());
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(value["proxies"]["x"], 1);
        assert_eq!(value["auths"]["127.0.0.1:5000"]["auth"], "eW91OnB3");
        assert_eq!(value["auths"].as_object().unwrap().len(), 1);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_docker_would_not_write_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for text in ["[]", "{", r#"{"auths":[]}"#] {
            fs::write(&path, text).unwrap();
            let error = DockerConfig::load_from(&path).err().unwrap().to_string();
            assert!(error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn a_missing_helper_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, r#"{"credsStore":"not-there"}"#).unwrap();
        let mut config = DockerConfig::load_from(&path).unwrap();
        let error = config.store("h", "u", "geheim").unwrap_err().to_string();
        assert!(error.contains("docker-credential-not-there"), "{error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}
