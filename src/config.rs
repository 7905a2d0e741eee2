//! The user's configuration file: `$XDG_CONFIG_HOME/lapstrake/config.toml`, or
//! `~/.config/lapstrake/config.toml`. A missing file is an empty one.
//!
//! ```toml
//! store-limit = "20g"
//! [registry."docker.io"]
//! mirrors = ["http://127.0.0.1:5000"]
//! [registry."127.0.0.1:5000"]
//! plain-http = true
//! ca = "/path/ca.pem"
//! ```

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::registry::{Address, AddressError, Settings, host_of};

/// The file, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// By host, with its port if it has one.
    #[serde(default)]
    pub registry: BTreeMap<String, RegistryConfig>,
    /// How large builds may let the store become, as `build --store-limit` takes it.
    #[serde(default)]
    pub store_limit: Option<String>,
}

/// What is set for one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistryConfig {
    /// Where to ask first, in this order.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Whether the registry is spoken to without TLS.
    #[serde(default)]
    pub plain_http: bool,
    /// A PEM file with CAs to trust besides the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}: {source}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file says something that is not understood.
    #[error("{}:{line}: {reason}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A mirror in the file is no address.
    #[error("{}: mirrors of registry {registry:?}: {source}", .path.display())]
    Mirror {
        /// Which file.
        path: PathBuf,
        /// Which registry.
        registry: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// `--registry-mirror` is no `HOST=URL`.
    #[error("--registry-mirror {text:?}: expected HOST=URL, as in docker.io=http://127.0.0.1:5000")]
    Flag {
        /// What was given.
        text: String,
    },
    /// The URL of `--registry-mirror` is no address.
    #[error("--registry-mirror for {registry:?}: {source}")]
    FlagAddress {
        /// The part before `=`.
        registry: String,
        /// What is wrong with the part after it.
        source: AddressError,
    },
}

impl Config {
    /// Where the file is looked for; none if neither `XDG_CONFIG_HOME` nor `HOME` is set.
    pub fn path() -> Option<PathBuf> {
        let dir = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let config = dir("XDG_CONFIG_HOME").or_else(|| Some(dir("HOME")?.join(".config")))?;
        Some(config.join("lapstrake/config.toml"))
    }

    /// Reads the user's file into the settings for registries; `mirror_flags` (`HOST=URL`) come
    /// before the file's mirrors.
    pub fn settings(mirror_flags: &[String]) -> Result<Settings, ConfigError> {
        let path = Self::path().unwrap_or_default();
        Self::load(&path)?.into_settings(&path, mirror_flags)
    }

    /// The user's file, read.
    pub fn user() -> Result<Self, ConfigError> {
        Self::load(&Self::path().unwrap_or_default())
    }

    /// Reads `path`. A missing file is an empty one.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if is_absent(&error) => Ok(Self::default()),
            Err(source) => Err(ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Parses `text`, which stands in `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            ConfigError::Malformed {
                path: path.to_owned(),
                line: text[..start].matches('\n').count() + 1,
                reason: error.message().to_owned(),
            }
        })
    }

    /// The settings that the file and the flags make; relative `ca` paths start at the file.
    pub fn into_settings(
        self,
        path: &Path,
        mirror_flags: &[String],
    ) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        for flag in mirror_flags {
            let (host, mirror) = parse_flag(flag)?;
            settings.mirrors.entry(host).or_default().push(mirror);
        }
        for (registry, set) in self.registry {
            let host = host_of(&registry).to_owned();
            for mirror in &set.mirrors {
                let mirror = mirror.parse().map_err(|source| ConfigError::Mirror {
                    path: path.to_owned(),
                    registry: registry.clone(),
                    source,
                })?;
                settings
                    .mirrors
                    .entry(host.clone())
                    .or_default()
                    .push(mirror);
            }
            if let Some(ca) = set.ca {
                let ca = path.parent().unwrap_or(Path::new("")).join(ca);
                settings.ca_files.entry(host.clone()).or_default().push(ca);
            }
            if set.plain_http {
                settings.plain_http.insert(host);
            }
        }
        Ok(settings)
    }
}

/// A file that a HOME without a directory, or a file in its place, cannot have is missing too.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn parse_flag(text: &str) -> Result<(String, Address), ConfigError> {
    let bad = || ConfigError::Flag {
        text: text.to_owned(),
    };
    let (host, mirror) = text.split_once('=').ok_or_else(bad)?;
    if host.is_empty() || host.contains('/') || mirror.is_empty() {
        return Err(bad());
    }
    let mirror = mirror.parse().map_err(|source| ConfigError::FlagAddress {
        registry: host.to_owned(),
        source,
    })?;
    Ok((host_of(host).to_owned(), mirror))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[registry."docker.io"]
mirrors = ["http://127.0.0.1:5000", "https://m.example/hub"]
[registry."127.0.0.1:5000"]
plain-http = true
ca = "ca.pem"
"#;

    #[test]
    fn flags_come_first() {
        let path = Path::new("/etc/x/config.toml");
        let config = Config::parse(FILE, path).unwrap();
        let flags = ["docker.io=http://flag:1".to_owned()];
        let settings = config.into_settings(path, &flags).unwrap();
        let hosts: Vec<&str> = settings.mirrors["docker.io"]
            .iter()
            .map(Address::host)
            .collect();
        assert_eq!(hosts, ["flag:1", "127.0.0.1:5000", "m.example"]);
        assert!(settings.plain_http.contains("127.0.0.1:5000"));
        assert_eq!(
            settings.ca_files["127.0.0.1:5000"],
            [Path::new("/etc/x/ca.pem")]
        );
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, expected) in [
            (
                "[registry.\"x\"]\nmirror = []\n",
                "c.toml:2: unknown field `mirror`",
            ),
            ("[registri]\n", "c.toml:1: unknown field `registri`"),
            (
                "[registry.\"x\"]\nplain-http = 1\n",
                "c.toml:2: invalid type",
            ),
            ("a = \n", "c.toml:1: "),
        ] {
            let error = Config::parse(text, Path::new("c.toml"))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for flag in [
            "docker.io",
            "=http://x",
            "a/b=http://x",
            "docker.io=ftp://x",
            "x=",
        ] {
            let made = Config::default().into_settings(Path::new("c"), &[flag.to_owned()]);
            let error = made.err().unwrap().to_string();
            assert!(error.starts_with("--registry-mirror"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            Config::load(&dir.path().join("a/b")).unwrap(),
            Config::default()
        );
        assert!(Config::load(dir.path()).is_err());
    }
}
