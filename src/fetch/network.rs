//! [`Network`]: how hosts are reached, for all that one process fetches.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::runtime::Runtime;

use crate::http::{self, Failure, Threads};

/// Larger files than this are nobody's: 64 GiB.
const MAX_BYTES: u64 = 64 << 30;

/// How the network is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Host, with its port → PEM files with CAs to trust besides the system's.
    pub ca_files: BTreeMap<String, Vec<PathBuf>>,
    /// How often a request is sent at most.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles after that.
    pub pause: Duration,
    /// How long an answer, or the next part of one, may take.
    pub patience: Duration,
    /// Bytes of a body that are accepted.
    pub max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ca_files: BTreeMap::new(),
            attempts: 5,
            pause: Duration::from_millis(500),
            patience: http::ANSWER,
            max_bytes: MAX_BYTES,
        }
    }
}

/// The threads and the connections behind every fetch of a process. Nothing starts before it is
/// needed.
#[derive(Default)]
pub struct Network {
    pub(super) settings: Settings,
    threads: Threads,
    clients: Mutex<HashMap<String, Client>>,
}

impl Network {
    /// No thread is started and nothing is asked yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    pub(super) fn threads(&self) -> Result<Arc<Runtime>, Failure> {
        self.threads.get()
    }

    /// The client for the host of `url`. It follows no redirects: where they lead decides about
    /// credentials, proxies and authorities.
    pub(super) fn client(&self, url: &Url) -> Result<Client, Failure> {
        let host = host_of(url);
        let key = format!("{}://{host}", url.scheme());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let files = self.settings.ca_files.get(&host);
        let files = files.map(Vec::as_slice).unwrap_or_default();
        let client = http::client(&host, files, url.scheme() == "http", Policy::none)?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// The host, with its port if one is given.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
