//! A registry on loopback, in memory: the distribution protocol as far as pulling, pushing and
//! mounting go. Every request is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::Context;
use crate::web::{Reply, Request, Web};

/// What it holds. Blobs are shared by its repositories, each of which knows those that it has.
#[derive(Default)]
pub struct Held {
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Repository and digest.
    pub has: BTreeSet<(String, String)>,
    /// Repository and tag or digest; media type and bytes.
    pub manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<usize, Vec<u8>>,
    /// Nothing is found any more.
    is_empty: bool,
    /// Takes nothing.
    pub is_read_only: bool,
    /// Only so many bytes of a blob are sent, and the connection stays.
    stalls: bool,
}

pub struct Registry {
    web: Web,
    held: Arc<Mutex<Held>>,
}

impl Registry {
    pub fn start() -> Self {
        let held = Arc::new(Mutex::new(Held::default()));
        let shared = Arc::clone(&held);
        let web = Web::start(move |request, number| {
            let mut held = shared.lock().unwrap();
            held.answer(request, number)
                .unwrap_or_else(|| Reply::new(404, ""))
        });
        Self { web, held }
    }

    /// The name of an image in it.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.web.host())
    }

    /// Forgets everything, so that whatever is asked of it cannot be had.
    pub fn forget(&self) {
        self.held.lock().unwrap().is_empty = true;
    }

    /// From now on blobs do not arrive, nor does the end of the connection.
    pub fn stall(&self) {
        self.held.lock().unwrap().stalls = true;
    }

    /// Method and path of each request since the last time, without the version check.
    pub fn asked(&self, since: &mut usize) -> Vec<String> {
        let seen = self.web.seen();
        let new = seen[*since..]
            .iter()
            .filter(|request| request.path != "/v2/");
        *since = seen.len();
        new.map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    /// What it holds, to be looked at or spoilt.
    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    /// The tags of a repository, in order.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let held = self.held();
        let own = held.manifests.keys().filter(|key| key.0 == repository);
        let tags = own.map(|(_, tag)| tag.clone());
        tags.filter(|tag| !tag.starts_with("sha256:")).collect()
    }

    /// The manifest behind a tag.
    pub fn manifest(&self, repository: &str, tag: &str) -> Value {
        let key = (repository.to_owned(), tag.to_owned());
        serde_json::from_slice(&self.held().manifests[&key].1).unwrap()
    }

    /// The layers of an image.
    pub fn layers(&self, repository: &str, tag: &str) -> Vec<String> {
        let manifest = self.manifest(repository, tag);
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers
            .map(|layer| layer["digest"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Forgets a repository.
    pub fn forget_repository(&self, repository: &str) {
        let mut held = self.held();
        held.manifests.retain(|key, _| key.0 != repository);
        held.has.retain(|key| key.0 != repository);
    }

    /// Pushes the case's base image and forgets it here.
    pub fn push_base(&self, c: &Context, image: &str) -> String {
        let name = self.name(image);
        c.import();
        c.run(&["tag", "base", &name]).ok();
        c.run(&["push", "-q", &name]).ok();
        c.run(&["rmi", &name, "base"]).ok();
        c.run(&["prune", "-a", "-f"]).ok();
        name
    }
}

impl Held {
    fn answer(&mut self, request: &Request, number: usize) -> Option<Reply> {
        let rest = request.path.strip_prefix("/v2/")?;
        if rest.is_empty() {
            return Some(Reply::new(200, ""));
        }
        if self.is_empty {
            return None;
        }
        if self.is_read_only && !["GET", "HEAD"].contains(&request.method.as_str()) {
            return Some(Reply::new(405, ""));
        }
        if let Some((repository, digest)) = rest.split_once("/blobs/sha256:") {
            return self.blob(&request.method, repository, &format!("sha256:{digest}"));
        }
        if let Some((repository, tag)) = rest.split_once("/manifests/") {
            return self.manifest(request, repository, tag);
        }
        let (repository, session) = rest.split_once("/blobs/uploads/")?;
        self.upload(request, repository, session, number)
    }

    fn blob(&self, method: &str, repository: &str, digest: &str) -> Option<Reply> {
        let is_there = self.has.contains(&(repository.into(), digest.into()));
        let bytes = self.blobs.get(digest).filter(|_| is_there)?;
        Some(match method {
            "HEAD" => Reply::new(200, ""),
            _ if self.stalls => Reply::new(200, bytes.clone()).stall(1),
            _ => Reply::new(200, bytes.clone()),
        })
    }

    fn manifest(&mut self, request: &Request, repository: &str, tag: &str) -> Option<Reply> {
        let key = |tag: &str| (repository.to_owned(), tag.to_owned());
        if request.method == "PUT" {
            let value: Value = serde_json::from_slice(&request.body).unwrap();
            let layers = value["layers"].as_array().into_iter().flatten();
            for blob in layers.chain(value.get("config")) {
                let digest = blob["digest"].as_str().unwrap().to_owned();
                if !self.has.contains(&(repository.to_owned(), digest)) {
                    return Some(Reply::new(400, "a blob is missing"));
                }
            }
            let kind = request.header("content-type")?.to_owned();
            let value = (kind, request.body.clone());
            self.manifests
                .insert(key(&digest(&request.body)), value.clone());
            self.manifests.insert(key(tag), value);
            return Some(Reply::new(201, ""));
        }
        let (kind, bytes) = self.manifests.get(&key(tag))?;
        Some(Reply::new(200, bytes.clone()).with("Content-Type", kind))
    }

    fn upload(
        &mut self,
        request: &Request,
        repository: &str,
        session: &str,
        number: usize,
    ) -> Option<Reply> {
        let field = |name: &str| {
            let mut pairs = request
                .query
                .split('&')
                .filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(key, _)| *key == name)?;
            Some(found.1.replace("%3A", ":").replace("%2F", "/"))
        };
        let go_on = |status, session: usize| {
            let to = format!("/v2/{repository}/blobs/uploads/{session}");
            Reply::new(status, "").with("Location", to)
        };
        match request.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from)) = (field("mount"), field("from"))
                    && self.has.contains(&(from, digest.clone()))
                {
                    self.has.insert((repository.into(), digest));
                    return Some(Reply::new(201, ""));
                }
                self.uploads.insert(number, Vec::new());
                Some(go_on(202, number))
            }
            "PATCH" => {
                let session = session.parse().ok()?;
                self.uploads.get_mut(&session)?.extend(&request.body);
                Some(go_on(202, session))
            }
            "PUT" => {
                let bytes = self.uploads.remove(&session.parse().ok()?)?;
                let found = digest(&bytes);
                assert_eq!(Some(&found), field("digest").as_ref());
                self.has.insert((repository.into(), found.clone()));
                self.blobs.insert(found, bytes);
                Some(Reply::new(201, ""))
            }
            "DELETE" => self
                .uploads
                .remove(&session.parse().ok()?)
                .map(|_| Reply::new(204, "")),
            _ => None,
        }
    }
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
