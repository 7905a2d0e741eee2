//! Sources of an ADD that come from the network: what they are now, and how they are copied.

use anyhow::Result;

use super::copy::Dest;
use super::stage::Stage;
use crate::cache::KeyBuilder;
use crate::copy::{CopyOptions, LooseFile, Source, SourceOwners, select};
use crate::fetch::{Checkout, Checksum, Commit, FetchError, FetchedFile, Fetcher};
use crate::layer::{Content, Target, extract_archive, sniff_archive};
use crate::plan::{GitUrl, masked};
use crate::progress::Outcome;

/// The mode of a file that was fetched (S7).
const MODE: u32 = 0o600;

/// Has `work` fetch from `subject`, which progress shows without its credentials.
fn fetching<T>(
    stage: &Stage<'_>,
    subject: &str,
    work: impl FnOnce(&Fetcher<'_>) -> Result<(T, Outcome), FetchError>,
) -> Result<T> {
    let env = stage.shared.env;
    env.cancel.check()?;
    let shown = env.progress.start(&format!("fetch {}", masked(subject)));
    let note = |text: &str| shown.output(text.as_bytes());
    let fetcher = Fetcher {
        store: env.store,
        network: env.network,
        secret: &|name| (env.secret)(name),
        ssh_agent: std::env::var_os("SSH_AUTH_SOCK").map(Into::into),
        stop: env.cancel,
        note: &note,
    };
    match work(&fetcher) {
        Ok((done, outcome)) => {
            shown.finish(outcome);
            Ok(done)
        }
        Err(error) => {
            let cancelled = env.cancel.why().is_some();
            shown.finish(match cancelled {
                true => Outcome::Cancelled,
                false => Outcome::Failed,
            });
            env.cancel.check()?;
            Err(error.into())
        }
    }
}

/// The file at `url`.
pub(super) fn file(stage: &Stage<'_>, url: &str, checksum: Option<&str>) -> Result<FetchedFile> {
    let checksum = checksum.map(Checksum::new);
    fetching(stage, url, |fetcher| {
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
    fetching(stage, &format!("{}#{name}", url.remote), |fetcher| {
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
    let checkout: Checkout =
        fetching(stage, &format!("{} {}", url.remote, commit.id), |fetcher| {
            Ok((fetcher.checkout(url, commit)?, Outcome::Done))
        })?;
    let source = Source {
        root: checkout.root(),
        filter: None,
        filter_path: None,
        owners: SourceOwners::Context,
        place: "the repository",
    };
    let selection = select(&source, &["/".to_owned()], options)?;
    selection.apply(&source, target, dest.path, &dest.workdir, options)?;
    Ok(())
}
