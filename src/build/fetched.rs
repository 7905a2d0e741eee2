//! Sources of an ADD that come from the network: what they are now, and how they are copied.

use std::path::PathBuf;

use anyhow::Result;

use super::Cancel;
use super::copy::Dest;
use super::stage::Stage;
use crate::cache::KeyBuilder;
use crate::copy::{CopyOptions, LooseFile, Source, SourceOwners, select};
use crate::fetch::{
    Checksum, Commit, FetchError, Fetched, FetchedFile, Fetcher, Network, RemoteContext,
};
use crate::layer::{Content, Target, extract_archive, sniff_archive};
use crate::plan::{GitUrl, masked};
use crate::progress::{Outcome, Progress};
use crate::store::Store;

/// The mode of a file that was fetched (S7).
const MODE: u32 = 0o600;

/// How a build reaches the network.
pub struct Fetching<'a> {
    /// Where what was fetched is kept.
    pub store: &'a Store,
    /// The connections.
    pub network: &'a Network,
    /// The build's secrets by name: `HTTP_AUTH_TOKEN_example.com`.
    pub secret: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The socket of the ssh agent that may speak for the user.
    pub ssh_agent: Option<PathBuf>,
    /// Who is told.
    pub progress: &'a Progress,
    /// Ends it.
    pub cancel: &'a Cancel,
}

impl Fetching<'_> {
    /// The context at `context`.
    ///
    /// # Errors
    /// As [`Fetcher::context`]; [`super::Cancelled`] when the build was ended.
    pub fn context(&self, context: &RemoteContext) -> Result<Fetched> {
        let subject = match context {
            RemoteContext::Git(url) => &url.remote,
            RemoteContext::File(url) => url,
        };
        self.run(subject, |fetcher| {
            Ok((fetcher.context(context)?, Outcome::Done))
        })
    }

    /// Has `work` fetch from `subject`, which progress shows without its credentials.
    fn run<T>(
        &self,
        subject: &str,
        work: impl FnOnce(&Fetcher<'_>) -> Result<(T, Outcome), FetchError>,
    ) -> Result<T> {
        self.cancel.check()?;
        let shown = self.progress.start(&format!("fetch {}", masked(subject)));
        let note = |text: &str| shown.output(text.as_bytes());
        let fetcher = Fetcher {
            store: self.store,
            network: self.network,
            secret: &|name| (self.secret)(name),
            ssh_agent: self.ssh_agent.clone(),
            stop: self.cancel,
            note: &note,
        };
        match work(&fetcher) {
            Ok((done, outcome)) => {
                shown.finish(outcome);
                Ok(done)
            }
            Err(error) => {
                let cancelled = self.cancel.why().is_some();
                shown.finish(match cancelled {
                    true => Outcome::Cancelled,
                    false => Outcome::Failed,
                });
                self.cancel.check()?;
                Err(error.into())
            }
        }
    }
}

/// The file at `url`.
pub(super) fn file(stage: &Stage<'_>, url: &str, checksum: Option<&str>) -> Result<FetchedFile> {
    let checksum = checksum.map(Checksum::new);
    stage.shared.env.fetching.run(url, |fetcher| {
        let file = fetcher.file(url, checksum.as_ref())?;
        let outcome = match file.is_known {
            true => Outcome::Cached,
            false => Outcome::Done,
        };
        Ok((file, outcome))
    })
}

/// The commit that `url` stands for.
pub(super) fn commit(stage: &Stage<'_>, url: &GitUrl) -> Result<Commit> {
    let name = url.reference.as_deref().unwrap_or("HEAD");
    let subject = format!("{}#{name}", url.remote);
    stage.shared.env.fetching.run(&subject, |fetcher| {
        Ok((fetcher.commit(url)?, Outcome::Done))
    })
}

/// Adds to a step's key what a file is: content, name, mode and time (S13).
pub(super) fn add_file(key: &mut KeyBuilder, file: &FetchedFile) {
    key.field("http", file.digest.as_str());
    key.field("name", &file.name);
    key.field("mtime", file.mtime.to_string());
}

/// Adds to a step's key what a repository's files are.
pub(super) fn add_commit(key: &mut KeyBuilder, url: &GitUrl, commit: &Commit) {
    key.field("git", &commit.id);
    key.field("subdir", url.subdir.as_deref().unwrap_or_default());
    let submodules = url.submodules != Some(false);
    let keep = url.keep_git_dir == Some(true);
    key.field("parts", format!("submodules={submodules} .git={keep}"));
    // Relative URLs of submodules start here, and a .git that is kept names it.
    if submodules || keep {
        key.field("remote", &url.remote);
    }
}

/// Copies a file, or unpacks it.
pub(super) fn write_file(
    stage: &Stage<'_>,
    target: &mut Target<'_>,
    file: &FetchedFile,
    unpack: bool,
    dest: &Dest<'_>,
    options: &CopyOptions,
) -> Result<()> {
    let mut content = stage.store().open_blob(&file.digest)?;
    if unpack && sniff_archive(&mut content)? {
        let dest = dest.workdir.join(dest.path);
        let reader = std::io::BufReader::with_capacity(1 << 18, content);
        return Ok(extract_archive(reader, target, &dest, options.chown)?);
    }
    if options.excludes(&file.name)? {
        return Ok(());
    }
    let loose = LooseFile {
        name: &file.name,
        content: Content::File(&content),
        mode: MODE,
        mtime: file.mtime,
    };
    loose.write(target, dest.path, &dest.workdir, options)?;
    Ok(())
}

/// Copies the files of a commit into the destination.
pub(super) fn write_commit(
    stage: &Stage<'_>,
    target: &mut Target<'_>,
    (url, commit): (&GitUrl, &Commit),
    dest: &Dest<'_>,
    options: &CopyOptions,
) -> Result<()> {
    let subject = format!("{}#{}", url.remote, commit.id);
    let checkout = stage.shared.env.fetching.run(&subject, |fetcher| {
        Ok((fetcher.checkout(url, commit)?, Outcome::Done))
    })?;
    let source = Source {
        root: checkout.root(),
        filter: None,
        filter_path: None,
        owners: SourceOwners::Context,
        place: "the repository",
        inputs: None,
    };
    let selection = select(&source, &["/".to_owned()], options)?;
    selection.apply(&source, target, dest.path, &dest.workdir, options)?;
    Ok(())
}
