//! Registries: pull and push over the distribution protocol, credentials, mirrors, retries.
//!
//! [`Registries`] is blocking; the threads and the event loop behind it start with the first request,
//! so that the program can enter its sandbox before there are any. The client itself is `http`'s.
//!
//! The protocol is spoken here, over the HTTP client `reqwest`, and not through `oci-client`, which
//! lacks in each kind of request something that is needed: its errors carry no headers (so no
//! `Retry-After`), manifests and errors are read without a limit, a token server's failure is
//! swallowed and shows up as a plain 401, tokens cannot cover the source of a mount, identity tokens
//! are not supported, a token server without TLS is given credentials, and a registry without
//! authentication is asked `/v2/` before every single request.
//!
//! Invariants: a digest is computed here over the bytes read before anything is handed out;
//! credentials go to the exact scheme, host and port they belong to (and to the token server that
//! host names, over TLS); a layer's `urls` are never followed; pushes never go to mirrors.

mod credentials;
mod docker_config;
mod endpoint;
mod error;
mod pull;
mod push;
mod request;
mod token;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::http::{Retry, Threads};
use crate::image::Reference;

pub use credentials::{Credential, default_files as default_credential_files, host_of};
pub use docker_config::{DockerConfig, DockerConfigError, Kept};
pub use endpoint::{Address, AddressError};
pub use error::{RegistryError, RegistryErrorKind};
pub use pull::{RawManifest, Resolved};
pub use push::Pushed;

use endpoint::Endpoint;
use request::Ask;
use token::Access;

/// How often a mirror is asked before the next source is: the user chose it for its nearness.
const MIRROR_ATTEMPTS: u32 = 4;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Registry host → where to ask first, in this order.
    pub mirrors: BTreeMap<String, Vec<Address>>,
    /// Hosts, with their ports, that are spoken to over plain http.
    pub plain_http: BTreeSet<String>,
    /// Host → PEM files with CAs to trust besides the system's.
    pub ca_files: BTreeMap<String, Vec<PathBuf>>,
    /// Files that hold credentials, asked in this order.
    pub credential_files: Vec<PathBuf>,
    /// How often a request is sent at most. Mirrors get four attempts.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles after that.
    pub pause: Duration,
    /// Told, in a line each, about retries and mirrors that failed.
    pub note: fn(&str),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            plain_http: BTreeSet::new(),
            ca_files: BTreeMap::new(),
            credential_files: default_credential_files(),
            attempts: 5,
            pause: Duration::from_millis(500),
            note: |_| {},
        }
    }
}

/// The registries of the world, and the mirrors in front of them.
pub struct Registries {
    settings: Settings,
    threads: Threads,
    endpoints: Mutex<HashMap<Address, Arc<Endpoint>>>,
    /// Mirrors that could not be reached: not asked again by this process.
    dead: Mutex<BTreeSet<Address>>,
    /// Whether every request is to end.
    ended: Arc<watch::Sender<bool>>,
}

impl Registries {
    /// No thread is started and nothing is asked yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            threads: Threads::default(),
            endpoints: Mutex::default(),
            dead: Mutex::default(),
            ended: Arc::new(watch::Sender::new(false)),
        }
    }

    /// What ends every request, those that are under way too; they fail with `Ended`.
    pub fn ender(&self) -> impl Fn() + Send + use<> {
        let ended = Arc::clone(&self.ended);
        move || {
            ended.send_replace(true);
        }
    }

    /// Finds out whether `credential` is good for `host`.
    ///
    /// # Errors
    /// `Unauthorized` if it is not.
    pub fn check_login(&self, host: &str, credential: &Credential) -> Result<(), RegistryError> {
        let host = host_of(host);
        let check = async {
            let mut endpoint = self.connect(&self.address(host)).await?;
            endpoint.tokens.give(credential.clone());
            let access = Access {
                repository: String::new(),
                push: false,
                mount_from: Vec::new(),
            };
            let ask = Ask::new(Method::GET, endpoint.base.clone());
            endpoint.send(&ask, &access).await.map(drop)
        };
        self.block_on(check)
            .map_err(|kind| kind.at("log in to", host.to_owned(), host))
    }

    fn block_on<T>(
        &self,
        work: impl Future<Output = Result<T, RegistryErrorKind>>,
    ) -> Result<T, RegistryErrorKind> {
        let runtime = self.runtime()?;
        let mut ended = self.ended.subscribe();
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => Err(RegistryErrorKind::Ended),
                done = work => done,
            }
        })
    }

    /// The same for work whose errors name what was asked: `subject` of `host`.
    fn pull_on<T>(
        &self,
        subject: &str,
        host: &str,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let done = self.block_on(async { Ok(work.await) });
        done.unwrap_or_else(|kind| Err(kind.at("pull", subject.to_owned(), host)))
    }

    fn runtime(&self) -> Result<Arc<Runtime>, RegistryErrorKind> {
        Ok(self.threads.get()?)
    }

    fn address(&self, host: &str) -> Address {
        Address::of_registry(host, self.settings.plain_http.contains(host))
    }

    /// Whom to ask for what is at `host`: its mirrors that live, then itself.
    fn sources(&self, host: &str) -> Vec<Address> {
        let dead = lock(&self.dead);
        let mirrors = self.settings.mirrors.get(host).into_iter().flatten();
        let plain = |mirror: &Address| self.settings.plain_http.contains(mirror.host());
        mirrors
            .map(|mirror| mirror.clone().plain_if(plain(mirror)))
            .filter(|mirror| !dead.contains(mirror))
            .chain([self.address(host)])
            .collect()
    }

    async fn connect(&self, address: &Address) -> Result<Endpoint, RegistryErrorKind> {
        let files = self.settings.ca_files.get(address.host());
        let files = files.map(Vec::as_slice).unwrap_or_default();
        Endpoint::open(address, files, &self.settings.credential_files).await
    }

    async fn endpoint(&self, address: &Address) -> Result<Arc<Endpoint>, RegistryErrorKind> {
        if let Some(endpoint) = lock(&self.endpoints).get(address) {
            return Ok(endpoint.clone());
        }
        // Two threads may get here at once; the second one's endpoint is dropped again.
        let endpoint = Arc::new(self.connect(address).await?);
        Ok(lock(&self.endpoints)
            .entry(address.clone())
            .or_insert(endpoint)
            .clone())
    }

    /// Repeats `work` until it succeeds, fails for good or was tried often enough.
    async fn retrying<T>(
        &self,
        attempts: u32,
        host: &str,
        mut work: impl AsyncFnMut() -> Result<T, RegistryErrorKind>,
    ) -> Result<T, RegistryErrorKind> {
        let mut retry = Retry::new(attempts, self.settings.pause);
        loop {
            match work().await {
                Ok(done) => return Ok(done),
                Err(error) => self.pause(&mut retry, host, error).await?,
            }
        }
    }

    async fn pause(
        &self,
        retry: &mut Retry,
        host: &str,
        error: RegistryErrorKind,
    ) -> Result<(), RegistryErrorKind> {
        let pause = retry.after(error)?;
        let seconds = pause.length.as_secs_f64();
        (self.settings.note)(&format!(
            "{host}: {}; retrying in {seconds:.1} s",
            pause.cause
        ));
        tokio::time::sleep(pause.length).await;
        Ok(())
    }

    /// Asks the sources in turn until one has an answer, or says what another cannot repair.
    async fn ask_sources<T>(
        &self,
        reference: &Reference,
        subject: &str,
        is_final: fn(&RegistryErrorKind) -> bool,
        mut ask: impl AsyncFnMut(&Endpoint, u32) -> Result<T, RegistryErrorKind>,
    ) -> Result<T, RegistryError> {
        let sources = self.sources(reference.registry());
        let mut notes = Vec::new();
        for (position, address) in sources.iter().enumerate() {
            let is_last = position + 1 == sources.len();
            let attempts = if is_last {
                self.settings.attempts
            } else {
                MIRROR_ATTEMPTS.min(self.settings.attempts)
            };
            let asked = async {
                let endpoint = self.endpoint(address).await?;
                ask(&endpoint, attempts).await
            };
            let kind = match asked.await {
                Ok(answer) => return Ok(answer),
                Err(kind) => kind,
            };
            if is_last || is_final(&kind) {
                let mut error = kind.at("pull", subject.to_owned(), address.host());
                error.notes = notes;
                return Err(error);
            }
            if let RegistryErrorKind::Unreachable { .. } = kind {
                lock(&self.dead).insert(address.clone());
            }
            let note = format!("the mirror {}: {kind}", address.host());
            (self.settings.note)(&format!("{note}; going on without it"));
            notes.push(note);
        }
        unreachable!("the registry itself is always the last source")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
