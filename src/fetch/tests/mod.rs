//! Tests of fetching, against servers of our own on loopback.

mod files;
mod hostile;
mod repositories;
#[path = "../../../tests/cli/web.rs"]
mod web;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::plan::GitUrl;

type End = Box<dyn Fn() + Send>;

/// Ends when it is told to.
#[derive(Clone, Default)]
struct Switch {
    off: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<End>>>,
}

impl Switch {
    fn stop(&self) {
        self.off.store(true, Ordering::SeqCst);
        self.ends.lock().unwrap().iter().for_each(|end| end());
    }
}

impl Stop for Switch {
    fn is_stopped(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }

    fn on_stop(&self, end: End) -> Box<dyn Any> {
        if self.is_stopped() {
            end();
        }
        self.ends.lock().unwrap().push(end);
        Box::new(())
    }
}

/// A store and what a build has besides.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    network: Network,
    secrets: BTreeMap<String, String>,
    stop: Switch,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            pause: Duration::from_millis(1),
            ..Settings::default()
        };
        change(&mut settings);
        Self {
            store: Store::open(&dir.path().join("store"), "test").unwrap(),
            network: Network::new(settings),
            secrets: BTreeMap::new(),
            stop: Switch::default(),
            dir,
        }
    }

    fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    fn run<T>(
        &self,
        work: impl FnOnce(&Fetcher<'_>) -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        work(&Fetcher {
            store: &self.store,
            network: &self.network,
            secret: &|name| self.secrets.get(name).cloned(),
            ssh_agent: None,
            stop: &self.stop,
            note: &|_| {},
        })
    }

    fn file(&self, url: &str, checksum: Option<&str>) -> Result<FetchedFile, FetchError> {
        let checksum = checksum.map(Checksum::new);
        self.run(|fetcher| fetcher.file(url, checksum.as_ref()))
    }

    /// The content of what was fetched.
    fn content(&self, file: &FetchedFile) -> Vec<u8> {
        let mut content = Vec::new();
        let mut blob = self.store.open_blob(&file.digest).unwrap();
        std::io::Read::read_to_end(&mut blob, &mut content).unwrap();
        content
    }

    fn commit(&self, url: &str) -> Result<Commit, FetchError> {
        self.run(|fetcher| fetcher.commit(&GitUrl::parse(url).unwrap()))
    }

    fn checkout(&self, url: &str) -> Result<Checkout, FetchError> {
        let url = GitUrl::parse(url).unwrap();
        self.run(|fetcher| fetcher.checkout(&url, &fetcher.commit(&url)?))
    }

    /// Everything that was written down, as one text.
    fn written(&self) -> String {
        let mut all = String::new();
        let mut pending = vec![self.dir.path().to_owned()];
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => pending.push(entry.path()),
                    kind if kind.is_file() => {
                        let bytes = std::fs::read(entry.path()).unwrap();
                        all.push_str(&String::from_utf8_lossy(&bytes));
                    }
                    _ => {}
                }
                all.push_str(&entry.file_name().to_string_lossy());
            }
        }
        all
    }

    /// What is left of unfinished work.
    fn leftovers(&self) -> usize {
        std::fs::read_dir(self.store.root().join("tmp"))
            .unwrap()
            .count()
    }
}
