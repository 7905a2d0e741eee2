//! The client for one host.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};

use super::{Failure, chain};

/// A connection is made within this time or not at all.
const CONNECT: Duration = Duration::from_secs(20);

/// A client for `host` (with its port, if it has one) that trusts `ca_files` besides the system's
/// authorities and those that docker has for the host. `plain` says that no TLS is needed.
///
/// # Errors
/// When a file with authorities cannot be used, or TLS cannot be set up.
pub fn client(
    host: &str,
    ca_files: &[PathBuf],
    plain: bool,
    redirect: fn() -> Policy,
) -> Result<Client, Failure> {
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
            .redirect(redirect());
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
    .map_err(|error| Failure::Tls {
        cause: format!("cannot set up TLS: {}", chain(&error)),
    })
}

/// Whether `host`, perhaps with a port, is this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, Failure> {
    let settings = |reason: String| Failure::Settings {
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

#[cfg(test)]
mod tests {
    use super::*;

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
