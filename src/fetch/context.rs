//! A build context that is not on this machine.

use super::{Checkout, FetchError, FetchedFile, Fetcher};
use crate::plan::{GitUrl, GitUrlError};

/// Where a context is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteContext {
    /// A git repository, a commit of it or a directory of that.
    Git(Box<GitUrl>),
    /// A file: an archive, or a Dockerfile that has no context.
    File(String),
}

/// What has come.
#[derive(Debug)]
pub enum Fetched {
    /// A directory.
    Directory(Box<Checkout>),
    /// A file of the store, to be looked at.
    File(FetchedFile),
}

impl RemoteContext {
    /// What `text`, a context as it was written, names; `None` for what is on this machine.
    ///
    /// # Errors
    /// The URL of a repository that cannot be used.
    pub fn parse(text: &str) -> Result<Option<Self>, GitUrlError> {
        if let Some(url) = GitUrl::context(text) {
            return Ok(Some(Self::Git(Box::new(url?))));
        }
        let lower = text.to_ascii_lowercase();
        let is_web = lower.starts_with("http://") || lower.starts_with("https://");
        Ok(is_web.then(|| Self::File(text.to_owned())))
    }
}

impl Fetcher<'_> {
    /// Fetches a context.
    ///
    /// # Errors
    /// As [`Fetcher::file`] and [`Fetcher::checkout`].
    pub fn context(&self, context: &RemoteContext) -> Result<Fetched, FetchError> {
        match context {
            RemoteContext::File(url) => Ok(Fetched::File(self.file(url, None)?)),
            RemoteContext::Git(url) => {
                let commit = self.commit(url)?;
                let checkout = self.checkout(url, &commit)?;
                Ok(Fetched::Directory(Box::new(checkout)))
            }
        }
    }
}
