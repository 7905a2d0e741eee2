//! Secrets: given on the command line, seen by the steps that mount them, kept nowhere.
//!
//! A secret is in this process's memory, and while a step runs in a file in memory or in the
//! step's environment. It is in no layer, key, record, configuration, history or message, and on
//! no disk, unless nothing can be mounted: then the file is in the step's tree, and is overwritten
//! afterwards. Its `Debug` form is its length.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use anyhow::Result;
use runtime::{Mount, RunSpec};

use super::{MountError, is_supervised, possible_owner, set};
use crate::build::stage::Stage;
use crate::plan::{RunMount, RunMountKind};

/// The bytes of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// The secret where it is text, without the end of its line: a token for a server.
    pub fn text(&self) -> Option<String> {
        let text = std::str::from_utf8(&self.0).ok()?;
        Some(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// All secrets of a build, by id.
pub type Secrets = BTreeMap<String, Secret>;

/// Adds the secret as a file, a variable or both; nothing if it was not given and need not be.
pub(super) fn add(stage: &Stage<'_>, mount: &RunMount, spec: &mut RunSpec) -> Result<()> {
    let RunMountKind::Secret {
        id,
        env,
        required,
        mode,
        uid,
        gid,
    } = &mount.kind
    else {
        return Ok(());
    };
    let Some(Secret(bytes)) = stage.settings().secrets.get(id) else {
        return match required {
            true => Err(MountError::NoSecret(id.clone()).into()),
            false => Ok(()),
        };
    };
    if let Some(name) = env {
        if bytes.contains(&0) {
            return Err(MountError::BinarySecret(id.clone()).into());
        }
        set(spec, name, OsString::from_vec(bytes.to_vec()));
    }
    if let Some(target) = &mount.target {
        let (uid, gid) = match is_supervised(stage) {
            true => (*uid, *gid),
            false => possible_owner(stage, *uid, *gid),
        };
        spec.mounts.push(Mount::Content {
            content: bytes.to_vec(),
            target: target.into(),
            mode: *mode,
            uid,
            gid,
        });
    }
    Ok(())
}
