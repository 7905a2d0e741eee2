//! Files of a commit in a directory: 0644 or 0755, with the commit's time.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::command::{Git, Place};
use super::resolve::Commit;
use super::{objects, submodules};
use crate::fetch::FetchErrorKind;
use crate::rootfs::{RootDir, RootPath};
use crate::store::Staging;

/// The files of a commit, as long as this lives.
#[derive(Debug)]
pub struct Checkout {
    staging: Staging,
    root: RootDir,
}

impl Checkout {
    /// What was asked for: the repository's files or those of one directory of it.
    pub fn root(&self) -> &RootDir {
        &self.root
    }

    /// The same, and the directory that holds it and goes when it is dropped.
    pub fn into_parts(self) -> (RootDir, Staging) {
        (self.root, self.staging)
    }
}

pub(super) fn checkout(git: &Git<'_>, commit: &Commit) -> Result<Checkout, FetchErrorKind> {
    let staging = git.fetcher.store.staging()?;
    let tree = staging.path().join("tree");
    let keep = git.url.keep_git_dir == Some(true) && git.url.subdir.is_none();
    let with_submodules = git.url.submodules != Some(false);
    let work = Work {
        staging: staging.path(),
        keep,
        with_submodules,
    };
    write_tree(git, commit, &tree, &work, 0)?;
    let all = RootDir::open(&tree).map_err(local("open", &tree))?;
    let root = match &git.url.subdir {
        None => all,
        Some(subdir) => directory(&all, subdir, commit)?,
    };
    Ok(Checkout { staging, root })
}

/// What all parts of a checkout have in common.
pub(super) struct Work<'w> {
    /// The directory in which they are made.
    pub(super) staging: &'w Path,
    /// Whether `.git` stays.
    pub(super) keep: bool,
    pub(super) with_submodules: bool,
}

/// Writes the files of `commit` into `tree`, a new directory of ours. `depth` counts the
/// repositories that it is a submodule of.
pub(super) fn write_tree(
    git: &Git<'_>,
    commit: &Commit,
    tree: &Path,
    work: &Work<'_>,
    depth: usize,
) -> Result<(), FetchErrorKind> {
    fs::create_dir(tree).map_err(local("make", tree))?;
    let modules = {
        let repository = objects::with_commit(git, commit)?;
        if work.keep {
            keep_git_dir(git, commit, &repository.path, tree)?;
        } else {
            let index = work.staging.join("index");
            let place = Place {
                dir: Some(&repository.path),
                tree: Some(tree),
                index: Some(&index),
                local: false,
            };
            git.run(place, &["read-tree", "--reset", "-u", &commit.id])?;
            fs::remove_file(&index).map_err(local("delete", &index))?;
        }
        settle(tree, time_of(git, commit, &repository.path)?).map_err(local("settle", tree))?;
        match work.with_submodules {
            true => submodules::list(git, commit, &repository.path)?,
            false => Vec::new(),
        }
    };
    // The lock of the repository is gone by now: a submodule may be of the same one.
    for module in modules {
        submodules::write(git, &module, tree, work, depth)?;
    }
    Ok(())
}

/// The time of the commit, seconds since 1970.
fn time_of(git: &Git<'_>, commit: &Commit, repository: &Path) -> Result<i64, FetchErrorKind> {
    let args = ["show", "--no-patch", "--format=%ct", &commit.id];
    let time = git.run(objects::at(repository), &args)?;
    let time = String::from_utf8_lossy(&time).trim().parse().unwrap_or(0);
    Ok(time)
}

/// Makes a repository with `commit` and its files, and nothing in it that depends on when or where.
fn keep_git_dir(
    git: &Git<'_>,
    commit: &Commit,
    from: &Path,
    tree: &Path,
) -> Result<(), FetchErrorKind> {
    let dir = tree.join(".git");
    let index = dir.join("index");
    let place = Place {
        dir: Some(&dir),
        tree: Some(tree),
        index: Some(&index),
        local: true,
    };
    let mut init = vec!["init", "--quiet", "--template="];
    if commit.id.len() == 64 {
        init.push("--object-format=sha256");
    }
    git.run(place, &init)?;
    let object = commit.object();
    let name = commit.name.as_deref().unwrap_or("refs/lapstrake/commit");
    let spec = format!("+{object}:{name}");
    let from = from.display().to_string();
    git.run(
        place,
        &[
            "fetch",
            "--quiet",
            "--no-tags",
            "--depth=1",
            "--update-head-ok",
            "--",
            &from,
            &spec,
        ],
    )?;
    git.run(place, &["update-ref", "--no-deref", "HEAD", &commit.id])?;
    git.run(place, &["read-tree", "--reset", "-u", &commit.id])?;
    // The index remembers inodes and times; a fresh one does not.
    for name in ["index", "FETCH_HEAD", "ORIG_HEAD"] {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(local("delete", &path)(error));
            }
            _ => {}
        }
    }
    git.run(place, &["read-tree", &commit.id])?;
    git.run(place, &["config", "remote.origin.url", &git.url.remote])?;
    let spec = "+refs/heads/*:refs/remotes/origin/*";
    git.run(place, &["config", "remote.origin.fetch", spec])?;
    Ok(())
}

/// Gives everything below `tree` the modes that git knows, whatever the caller's umask is, and
/// one time. The paths are joined by name: the directory is ours alone, and links are not followed.
fn settle(tree: &Path, time: i64) -> io::Result<()> {
    let mut pending = vec![tree.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                pending.push(entry.path());
                continue;
            }
            if kind.is_file() {
                let is_program = entry.metadata()?.permissions().mode() & 0o100 != 0;
                let mode = if is_program { 0o755 } else { 0o644 };
                fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
            }
            set_time(&entry.path(), time)?;
        }
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        set_time(&dir, time)?;
    }
    Ok(())
}

fn set_time(path: &Path, time: i64) -> io::Result<()> {
    Ok(utimensat(
        CWD,
        path,
        &times(time),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

pub(super) fn times(seconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn directory(all: &RootDir, subdir: &str, commit: &Commit) -> Result<RootDir, FetchErrorKind> {
    let path = RootPath::new(subdir);
    let opened = all.open_dir(&path).map_err(|error| {
        FetchErrorKind::Refused(format!(
            "commit {} has no directory {subdir:?}: {error}",
            commit.id
        ))
    })?;
    let fd = opened
        .as_fd()
        .try_clone_to_owned()
        .map_err(FetchErrorKind::local("open a directory"))?;
    Ok(RootDir::from_fd(fd))
}

fn local(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> FetchErrorKind {
    FetchErrorKind::local(format!("{doing} {}", path.display()))
}
