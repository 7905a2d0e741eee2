//! Objects of a remote, in the bare repository that the store has for it.

use std::path::Path;

use super::command::{Git, Place};
use super::reference_error;
use super::resolve::Commit;
use crate::fetch::FetchErrorKind;
use crate::store::RepositoryDir;

/// Under which a commit stands that is there with all its files.
const OURS: &str = "refs/lapstrake";

/// The repository with all of `commit`'s files.
pub(super) fn with_commit(git: &Git<'_>, commit: &Commit) -> Result<RepositoryDir, FetchErrorKind> {
    let repository = open(git, commit.id.len())?;
    let had = repository.path.join("HEAD").exists();
    match fetch(git, &repository, commit) {
        Err(FetchErrorKind::Git { passing: false, .. })
            if had && is_damaged(git, &repository.path)? =>
        {
            repository.clear()?;
            fetch(git, &repository, commit)?;
        }
        result => result?,
    }
    Ok(repository)
}

/// Whether the repository is at fault when git fails: a disk lost power, or git was killed.
fn is_damaged(git: &Git<'_>, dir: &Path) -> Result<bool, FetchErrorKind> {
    let mut entries = std::fs::read_dir(dir).map_err(FetchErrorKind::local(format!(
        "list the directory {}",
        dir.display()
    )))?;
    let is_lock = |entry: std::fs::DirEntry| entry.path().extension() == Some("lock".as_ref());
    if entries.any(|entry| entry.is_ok_and(is_lock)) {
        return Ok(true);
    }
    let check = ["fsck", "--connectivity-only", "--no-dangling"];
    Ok(!git.test(at(dir), &check)?)
}

/// The commit that begins with `digits`, which no remote can be asked for.
pub(super) fn by_digits(git: &Git<'_>, digits: &str) -> Result<Commit, FetchErrorKind> {
    let repository = open(git, 40)?;
    make(git, &repository.path, 40)?;
    fetch_all(git, &repository.path, None)?;
    let commit = format!("{digits}^{{commit}}");
    let found = git.run(at(&repository.path), &["rev-parse", "--verify", &commit]);
    match found {
        Ok(id) => Ok(Commit::by_id(String::from_utf8_lossy(&id).trim())),
        Err(FetchErrorKind::Git { words, .. }) => Err(reference_error(format!(
            "no branch or tag leads to one commit that begins with {digits}: {words}"
        ))),
        Err(error) => Err(error),
    }
}

/// The commands that work on a bare repository.
pub(super) fn at(dir: &Path) -> Place<'_> {
    Place {
        dir: Some(dir),
        ..Place::default()
    }
}

fn open(git: &Git<'_>, digits: usize) -> Result<RepositoryDir, FetchErrorKind> {
    let name = format!("{} {digits}", git.url.remote);
    let give_up = || git.fetcher.stop.is_stopped();
    let store = git.fetcher.store;
    let repository = store.repository(&name, &give_up)?;
    repository.ok_or(FetchErrorKind::Stopped)
}

/// Makes the repository if it is not there; what was begun is finished.
fn make(git: &Git<'_>, dir: &Path, digits: usize) -> Result<(), FetchErrorKind> {
    if dir.join("made").exists() {
        return Ok(());
    }
    let text = dir.display().to_string();
    let mut args = vec!["init", "--quiet", "--bare", "--template="];
    if digits == 64 {
        args.push("--object-format=sha256");
    }
    args.extend(["--", &text]);
    git.run(Place::default(), &args)?;
    // Packs that are handed on to a kept .git are the same every time.
    git.run(at(dir), &["config", "pack.threads", "1"])?;
    std::fs::write(dir.join("made"), "").map_err(FetchErrorKind::local(format!("write {text}")))
}

fn fetch(git: &Git<'_>, repository: &RepositoryDir, commit: &Commit) -> Result<(), FetchErrorKind> {
    let dir = &repository.path;
    make(git, dir, commit.id.len())?;
    let object = commit.object();
    let ours = format!("{OURS}/{object}");
    if git.test(at(dir), &["show-ref", "--verify", "--quiet", &ours])? {
        return Ok(());
    }
    let spec = format!("+{object}:{ours}");
    let shallow = git.ask(
        at(dir),
        &[
            "fetch",
            "--quiet",
            "--no-tags",
            "--depth=1",
            "--",
            &git.url.remote,
            &spec,
        ],
    );
    match shallow {
        Ok(_) => return Ok(()),
        Err(FetchErrorKind::Git { passing: false, .. }) => {}
        Err(error) => return Err(error),
    }
    // A server may refuse a commit that no name leads to, or know nothing of depth.
    fetch_all(git, dir, commit.name.as_deref())?;
    let there = format!("{object}^{{commit}}");
    if !git.test(at(dir), &["cat-file", "-e", &there])? {
        return Err(reference_error(format!(
            "no branch or tag leads to the commit {}",
            commit.id
        )));
    }
    git.run(at(dir), &["update-ref", &ours, object]).map(drop)
}

/// Everything that branches and tags lead to.
fn fetch_all(git: &Git<'_>, dir: &Path, name: Option<&str>) -> Result<(), FetchErrorKind> {
    let mut args = vec!["fetch", "--quiet", "--no-tags", "--prune"];
    let is_shallow = git.run(at(dir), &["rev-parse", "--is-shallow-repository"])?;
    if is_shallow.starts_with(b"true") {
        args.push("--unshallow");
    }
    let named = name.map(|name| format!("+{name}:refs/remote/named"));
    args.extend([
        "--",
        &git.url.remote,
        "+refs/heads/*:refs/remote/heads/*",
        "+refs/tags/*:refs/remote/tags/*",
    ]);
    args.extend(named.as_deref());
    git.ask(at(dir), &args).map(drop)
}
