//! A little registry on loopback, in memory: it takes what is pushed, mounts blobs across its
//! repositories, refuses a manifest whose blobs are missing, and keeps every request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::web::{Reply, Request, Web};

pub struct Registry {
    web: Web,
    state: Arc<Mutex<State>>,
}

/// What the registry holds, by repository.
#[derive(Default)]
pub struct State {
    pub blobs: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Media type and bytes, by tag and by digest.
    pub manifests: BTreeMap<String, BTreeMap<String, (String, Vec<u8>)>>,
    uploads: BTreeMap<String, Vec<u8>>,
    /// Refuses to be written to.
    pub is_read_only: bool,
}

impl Registry {
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let held = Arc::clone(&state);
        let web = Web::start(move |request, before| {
            held.lock().unwrap().answer(request, &before.to_string())
        });
        Self { web, state }
    }

    /// The name of an image or a repository there.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.web.host())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The tags of a repository, in order.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let state = self.state();
        let all = state.manifests.get(repository).into_iter().flatten();
        let names = all.map(|(name, _)| name.clone());
        names.filter(|name| !name.starts_with("sha256:")).collect()
    }

    /// A manifest by its tag.
    pub fn manifest(&self, repository: &str, tag: &str) -> Value {
        serde_json::from_slice(&self.state().manifests[repository][tag].1).unwrap()
    }

    /// How many requests there were so far.
    pub fn asked(&self) -> usize {
        self.web.seen().len()
    }

    /// Method, path and query of the requests after the first `skip`.
    pub fn log(&self, skip: usize) -> Vec<String> {
        let seen = self.web.seen();
        let lines = seen[skip..].iter().map(|request| match &*request.query {
            "" => format!("{} {}", request.method, request.path),
            query => format!("{} {}?{query}", request.method, request.path),
        });
        lines.collect()
    }

    /// The blobs that were fetched after the first `skip` requests.
    pub fn fetched(&self, skip: usize) -> BTreeSet<String> {
        let seen = self.web.seen();
        let blobs = seen[skip..]
            .iter()
            .filter(|request| request.method == "GET")
            .filter_map(|request| request.path.split_once("/blobs/"));
        blobs.map(|(_, digest)| digest.to_owned()).collect()
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn none(code: &str) -> Reply {
    Reply::new(
        404,
        format!(r#"{{"errors":[{{"code":"{code}","message":"there is none"}}]}}"#),
    )
}

/// The value of a parameter.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(known, _)| *known == name);
    let (_, value) = found.next()?;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}

impl State {
    fn answer(&mut self, request: &Request, number: &str) -> Reply {
        let Some(rest) = request.path.strip_prefix("/v2/") else {
            return none("UNKNOWN");
        };
        if rest.is_empty() {
            return Reply::new(200, "{}");
        }
        if self.is_read_only && !["GET", "HEAD"].contains(&&*request.method) {
            return Reply::new(405, "");
        }
        if let Some((repository, name)) = rest.split_once("/manifests/") {
            return self.manifest(request, repository, name);
        }
        if let Some((repository, upload)) = rest.split_once("/blobs/uploads/") {
            return self.upload(request, repository, upload, number);
        }
        let Some((repository, blob)) = rest.split_once("/blobs/") else {
            return none("UNKNOWN");
        };
        match self.blobs.get(repository).and_then(|all| all.get(blob)) {
            Some(bytes) => Reply::new(200, bytes.clone()),
            None => none("BLOB_UNKNOWN"),
        }
    }

    fn manifest(&mut self, request: &Request, repository: &str, name: &str) -> Reply {
        if request.method != "PUT" {
            let all = self.manifests.get(repository);
            return match all.and_then(|all| all.get(name)) {
                Some((media_type, bytes)) => {
                    Reply::new(200, bytes.clone()).with("Content-Type", media_type)
                }
                None => none("MANIFEST_UNKNOWN"),
            };
        }
        let manifest: Value = serde_json::from_slice(&request.body).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let config = manifest.get("config");
        for blob in layers.chain(config) {
            let blob = blob["digest"].as_str().unwrap();
            let known = self.blobs.get(repository);
            if !known.is_some_and(|known| known.contains_key(blob)) {
                return Reply::new(400, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#);
            }
        }
        let media_type = request.header("content-type").unwrap_or_default();
        let all = self.manifests.entry(repository.to_owned()).or_default();
        for name in [name, &digest(&request.body)] {
            let entry = (media_type.to_owned(), request.body.clone());
            all.insert(name.to_owned(), entry);
        }
        Reply::new(201, "").with("Docker-Content-Digest", digest(&request.body))
    }

    fn upload(&mut self, request: &Request, repository: &str, id: &str, number: &str) -> Reply {
        if request.method == "POST" {
            let mount = parameter(&request.query, "mount");
            let from = parameter(&request.query, "from");
            if let (Some(mount), Some(from)) = (mount, from)
                && let Some(bytes) = self.blobs.get(&from).and_then(|all| all.get(&mount))
            {
                let bytes = bytes.clone();
                let all = self.blobs.entry(repository.to_owned()).or_default();
                all.insert(mount, bytes);
                return Reply::new(201, "");
            }
            self.uploads.insert(number.to_owned(), Vec::new());
            let location = format!("/v2/{repository}/blobs/uploads/{number}");
            return Reply::new(202, "").with("Location", location);
        }
        let Some(so_far) = self.uploads.get_mut(id) else {
            return none("BLOB_UPLOAD_UNKNOWN");
        };
        so_far.extend(&request.body);
        if request.method != "PUT" {
            let location = format!("/v2/{repository}/blobs/uploads/{id}");
            return Reply::new(202, "").with("Location", location);
        }
        let bytes = self.uploads.remove(id).unwrap();
        let wanted = parameter(&request.query, "digest").unwrap();
        if wanted != digest(&bytes) {
            return Reply::new(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
        }
        let all = self.blobs.entry(repository.to_owned()).or_default();
        all.insert(wanted, bytes);
        Reply::new(201, "")
    }
}
