//! A commit of a repository, by the `git` program of this machine.
//!
//! * `command`: how git is called: with none of the user's configuration, hooks or helpers
//! * `resolve`: branch, tag or digits → commit
//! * `objects`: the commit's objects into the bare repository that the store has for the remote
//! * `checkout`: files of a commit in a directory, submodules among them
//!
//! A commit that is named in full and was fetched before is not asked for again. What was fetched
//! stands in the bare repository under `refs/lapstrake/`, and only whole commits do.
//!
//! git itself keeps a checkout inside its directory: it writes nothing through a symbolic link,
//! and refuses names like `..` and `.git`. Submodules are not left to it: their URLs are parsed as
//! those of a Dockerfile are, each is checked out in a directory of its own and then moved to
//! where the commit (not `.gitmodules`) says, and no command of `.gitmodules` is ever read.

mod checkout;
mod command;
mod objects;
mod resolve;
mod submodules;

pub use checkout::Checkout;
pub use resolve::Commit;

use super::{FetchError, FetchErrorKind, Fetcher};
use crate::plan::GitUrl;

impl Fetcher<'_> {
    /// The commit that `url` stands for now.
    ///
    /// # Errors
    /// No git, what the remote says, no such branch, tag or commit, or another than the URL's
    /// checksum demands.
    pub fn commit(&self, url: &GitUrl) -> Result<Commit, FetchError> {
        let git = command::Git::new(self, url, true);
        resolve::resolve(&git).map_err(|kind| kind.of(&url.remote))
    }

    /// The files of `commit`, which `url` stands for, below a directory that goes with the
    /// [`Checkout`].
    ///
    /// # Errors
    /// As [`Fetcher::commit`]; a directory or a submodule that the commit does not have.
    pub fn checkout(&self, url: &GitUrl, commit: &Commit) -> Result<Checkout, FetchError> {
        let git = command::Git::new(self, url, true);
        checkout::checkout(&git, commit).map_err(|kind| kind.of(&url.remote))
    }
}

/// Text of a program for people: masked, on one line, without what could steer a terminal.
fn words(text: &[u8]) -> String {
    const SHOWN: usize = 600;
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let text = crate::plan::masked(&lines.join("; "));
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = clean.take(SHOWN).collect();
    match text.is_empty() {
        true => "it said nothing".to_owned(),
        false => text,
    }
}

fn reference_error(text: impl Into<String>) -> FetchErrorKind {
    FetchErrorKind::Reference(text.into())
}
