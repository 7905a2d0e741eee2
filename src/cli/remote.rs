//! Contexts that are fetched: what comes of a URL.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};

use super::exit::UsageError;
use crate::build::Fetching;
use crate::context::{Context, Stdin, unpack_context};
use crate::fetch::{Fetched, RemoteContext};
use crate::layer::Ids;
use crate::plan::masked;

/// The build argument that keeps `.git` in a context that is a repository.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
/// Bytes by which a tar is told from a Dockerfile.
const HEAD: u64 = 512;

/// What a URL has turned out to be.
pub(super) enum Opened {
    /// A directory or an archive.
    Context(Context),
    /// A text: a Dockerfile without a context.
    Text(File),
}

/// What the context argument names, unless that is a directory on this machine.
///
/// # Errors
/// The URL of a repository that cannot be used.
pub(super) fn parse(
    text: &Path,
    build_args: &[(String, String)],
) -> Result<Option<RemoteContext>, UsageError> {
    if text.is_dir() {
        return Ok(None);
    }
    let Some(text) = text.to_str() else {
        return Ok(None);
    };
    let wrong = |reason: String| UsageError(format!("the context {reason}"));
    let mut remote = RemoteContext::parse(text).map_err(|error| wrong(error.to_string()))?;
    if let Some(RemoteContext::Git(url)) = &mut remote {
        let keep = build_args
            .iter()
            .rev()
            .find(|(name, _)| name == KEEP_GIT_DIR);
        let keep = match keep.map(|(_, value)| value.as_str()) {
            None => None,
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Some(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Some(false),
            Some(other) => {
                return Err(UsageError(format!(
                    "--build-arg {KEEP_GIT_DIR}: expected true or false, not {other:?}"
                )));
            }
        };
        url.keep_git_dir = url.keep_git_dir.or(keep);
    }
    Ok(remote)
}

/// The URL that `path` is, if a file can be fetched from it.
pub(super) fn web_url(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let (scheme, _) = text.split_once("://")?;
    let is_web = ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    is_web.then_some(text)
}

/// Fetches one file.
///
/// # Errors
/// Those of fetching it.
pub(super) fn file(url: &str, fetching: &Fetching<'_>) -> Result<File> {
    match fetching.context(&RemoteContext::File(url.to_owned()))? {
        Fetched::File(file) => Ok(fetching.store.open_blob(&file.digest)?),
        Fetched::Directory(_) => Err(anyhow!("a file was asked for, and a directory came")),
    }
}

/// Fetches the context.
///
/// # Errors
/// Those of fetching and unpacking it.
pub(super) fn open(
    context: &RemoteContext,
    fetching: &Fetching<'_>,
    ids: &dyn Ids,
) -> Result<Opened> {
    let file = match fetching.context(context)? {
        Fetched::Directory(checkout) => {
            let (root, staging) = checkout.into_parts();
            return Ok(Opened::Context(Context::staged(root, staging)));
        }
        Fetched::File(file) => file,
    };
    let name = match context {
        RemoteContext::File(url) => masked(url),
        RemoteContext::Git(url) => url.remote.clone(),
    };
    let mut file = fetching.store.open_blob(&file.digest)?;
    let mut head = Vec::new();
    let reading = || format!("cannot read what came from {name}");
    (&mut file)
        .take(HEAD)
        .read_to_end(&mut head)
        .with_context(reading)?;
    file.rewind().with_context(reading)?;
    if Stdin::guess(&head) == Stdin::Dockerfile {
        return Ok(Opened::Text(file));
    }
    let unpacked = unpack_context(file, &name, fetching.store.staging()?, ids)?;
    Ok(Opened::Context(unpacked))
}
