//! Submodules: which a commit has, and their files in their places.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, futimens, openat, renameat, unlinkat};

use super::checkout::{Work, times, write_tree};
use super::command::Git;
use super::objects;
use super::resolve::{Commit, is_full};
use crate::fetch::FetchErrorKind;
use crate::plan::GitUrl;
use crate::rootfs::RootPath;

/// A repository in a repository in … is nobody's.
const DEPTH: usize = 16;
/// The mode of a submodule in a tree.
const GITLINK: &str = "160000";

/// A submodule of a commit.
pub(super) struct Module {
    path: RootPath,
    commit: String,
    url: GitUrl,
}

/// The submodules of `commit`: paths and commits are those of its tree, URLs of `.gitmodules`.
pub(super) fn list(
    git: &Git<'_>,
    commit: &Commit,
    repository: &Path,
) -> Result<Vec<Module>, FetchErrorKind> {
    let args = ["ls-tree", "-r", "-z", "--full-tree", &commit.id];
    let tree = git.run(objects::at(repository), &args)?;
    let links = links(&tree);
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let declared = declared(git, commit, repository, &tree)?;
    let mut modules = Vec::new();
    for (path, id) in links {
        let shown = String::from_utf8_lossy(&path).into_owned();
        let Some(module) = declared.get(&path) else {
            return Err(refused(&shown, ".gitmodules does not say where it is"));
        };
        if module.update.as_deref() == Some("none") {
            continue;
        }
        let Some(url) = module.url.as_deref() else {
            return Err(refused(&shown, ".gitmodules has no URL for it"));
        };
        modules.push(Module {
            path: RootPath::new(OsStr::from_bytes(&path)),
            commit: id,
            url: resolve_url(git.url, url)
                .map_err(|reason| refused(&shown, &crate::plan::masked(&reason)))?,
        });
    }
    Ok(modules)
}

fn refused(path: &str, reason: &str) -> FetchErrorKind {
    FetchErrorKind::Refused(format!(
        "the submodule {path:?}: {reason} (hint: ?submodules=false leaves submodules out)"
    ))
}

/// Path and commit of each submodule of a tree.
fn links(tree: &[u8]) -> Vec<(Vec<u8>, String)> {
    let entries = tree.split(|byte| *byte == 0);
    let links = entries.filter_map(|entry| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let (head, path) = (std::str::from_utf8(&entry[..tab]).ok()?, &entry[tab + 1..]);
        let mut words = head.split(' ');
        let (mode, _, id) = (words.next()?, words.next()?, words.next()?);
        (mode == GITLINK && is_full(id)).then(|| (path.to_vec(), id.to_owned()))
    });
    links.collect()
}

/// What `.gitmodules` says of one submodule.
#[derive(Default)]
struct Declared {
    path: Option<Vec<u8>>,
    url: Option<String>,
    update: Option<String>,
}

fn declared(
    git: &Git<'_>,
    commit: &Commit,
    repository: &Path,
    tree: &[u8],
) -> Result<BTreeMap<Vec<u8>, Declared>, FetchErrorKind> {
    let mut by_name: BTreeMap<Vec<u8>, Declared> = BTreeMap::new();
    let is_file = tree
        .split(|byte| *byte == 0)
        .any(|entry| entry.starts_with(b"100") && entry.ends_with(b"\t.gitmodules"));
    if !is_file {
        return Ok(BTreeMap::new());
    }
    let blob = format!("{}:.gitmodules", commit.id);
    let args = [
        "config",
        "--no-includes",
        "--null",
        "--blob",
        &blob,
        "--list",
    ];
    let text = git.run(objects::at(repository), &args)?;
    for entry in text.split(|byte| *byte == 0) {
        let Some(end) = entry.iter().position(|byte| *byte == b'\n') else {
            continue;
        };
        let (key, value) = (&entry[..end], &entry[end + 1..]);
        let Some(rest) = key.strip_prefix(b"submodule.") else {
            continue;
        };
        let Some(dot) = rest.iter().rposition(|byte| *byte == b'.') else {
            continue;
        };
        let module = by_name.entry(rest[..dot].to_vec()).or_default();
        let value_text = || String::from_utf8_lossy(value).into_owned();
        match &rest[dot + 1..] {
            b"path" => module.path = Some(value.to_vec()),
            b"url" => module.url = Some(value_text()),
            b"update" => module.update = Some(value_text()),
            _ => {}
        }
    }
    let by_path = by_name.into_values().filter_map(|module| {
        let path = module.path.clone()?;
        let end = path.iter().rposition(|byte| *byte != b'/')?;
        Some((path[..=end].to_vec(), module))
    });
    Ok(by_path.collect())
}

/// A submodule's URL, which may be relative to its parent's. A login goes along within a host.
fn resolve_url(parent: &GitUrl, text: &str) -> Result<GitUrl, String> {
    // What a fragment or a query means here is git's to say: it knows neither.
    if text.contains(['#', '?']) {
        return Err(format!("{text:?} is no URL of a repository"));
    }
    let relative = text.starts_with("./") || text.starts_with("../");
    let full = match relative {
        true => join(&parent.remote, text)?,
        false => text.to_owned(),
    };
    let lower = full.to_ascii_lowercase();
    let schemes = ["http://", "https://", "ssh://", "git://"];
    let is_known = schemes.iter().any(|scheme| lower.starts_with(scheme));
    if !is_known && (full.contains("://") || !full.contains('@') || !full.contains(':')) {
        return Err(format!("{full:?} is no URL that is fetched from"));
    }
    let mut url = GitUrl::parse(&full).map_err(|error| error.to_string())?;
    if url.login.is_none() && url.is_web() && origin(&url) == origin(parent) {
        url.login.clone_from(&parent.login);
    }
    Ok(url)
}

fn origin(url: &GitUrl) -> (&str, &str) {
    let scheme = url.remote.split("://").next().unwrap_or_default();
    (scheme, url.host())
}

/// `remote`, a directory, and from there `../x`, as git itself has it.
fn join(remote: &str, relative: &str) -> Result<String, String> {
    let (mut base, mut rest) = (remote.trim_end_matches('/'), relative);
    let start = base.find("://").map_or(0, |at| at + 3);
    let mut separator = '/';
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            let path = &base[start..];
            let cut = match (path.rfind('/'), path.rfind(':')) {
                (Some(slash), _) => slash,
                (None, Some(colon)) if start == 0 && separator == '/' => {
                    separator = ':';
                    colon
                }
                _ => return Err(format!("{relative:?} leads out of its host")),
            };
            base = &base[..start + cut];
            rest = after;
        } else {
            return Ok(format!("{base}{separator}{rest}"));
        }
    }
}

/// Writes the files of `module` to its place in `tree`.
pub(super) fn write(
    git: &Git<'_>,
    module: &Module,
    tree: &Path,
    work: &Work<'_>,
    depth: usize,
) -> Result<(), FetchErrorKind> {
    let shown = module.path.to_string();
    if depth >= DEPTH {
        return Err(refused(&shown, "submodules lie too deep in each other"));
    }
    let own = work.staging.join(format!("module-{depth}"));
    let own_git = git.with(&module.url);
    let commit = Commit::by_id(&module.commit);
    write_tree(&own_git, &commit, &own, work, depth + 1)
        .map_err(|error| within(error, &shown, &module.url))?;
    put(&own, tree, &module.path).map_err(|error| refused(&shown, &error.to_string()))
}

/// Names the submodule in what went wrong with it.
fn within(error: FetchErrorKind, path: &str, url: &GitUrl) -> FetchErrorKind {
    let prefix = format!("the submodule {path} from {}", url.remote);
    match error {
        FetchErrorKind::Git {
            what,
            words,
            passing,
        } => FetchErrorKind::Git {
            what,
            words: format!("{words} ({prefix})"),
            passing,
        },
        FetchErrorKind::Reference(text) => FetchErrorKind::Reference(format!("{prefix}: {text}")),
        FetchErrorKind::Refused(text) => FetchErrorKind::Refused(format!("{prefix}: {text}")),
        other => other,
    }
}

/// Moves the directory `own` into the place of an empty directory of `tree`. The way there is
/// walked without following a link: a tree can be made that has one where another entry needs a
/// directory.
fn put(own: &Path, tree: &Path, path: &RootPath) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = openat(rustix::fs::CWD, tree, flags, Mode::empty())?;
    let names: Vec<&OsStr> = path.components().collect();
    let [parents @ .., last] = names.as_slice() else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    for name in parents {
        dir = openat(&dir, *name, flags, Mode::empty())?;
    }
    let dir = File::from(dir);
    let time = dir.metadata()?.mtime();
    unlinkat(&dir, *last, AtFlags::REMOVEDIR)?;
    renameat(rustix::fs::CWD, own, &dir, *last)?;
    // What was done in it has changed its time.
    Ok(futimens(&dir, &times(time))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn s7_relative_urls() {
        for (parent, relative, expected) in [
            ("https://h/a/b.git", "../c.git", Some("https://h/a/c.git")),
            ("https://h/a/b.git/", "../c.git", Some("https://h/a/c.git")),
            (
                "https://h/a/b.git",
                "./c.git",
                Some("https://h/a/b.git/c.git"),
            ),
            ("https://h/a/b.git", "../../c.git", Some("https://h/c.git")),
            ("https://h/a/b.git", "../../../g/c.git", None),
            ("ssh://git@h:22/a", "../c", Some("ssh://git@h:22/c")),
            ("git@h:a/b", "../c", Some("git@h:a/c")),
            ("git@h:a/b", "../../c", Some("git@h:c")),
            ("git@h:a/b", "../../../c", None),
            ("git://h/a", "../../c", None),
        ] {
            let joined = join(parent, relative).ok();
            assert_eq!(joined.as_deref(), expected, "{parent} {relative}");
        }
    }

    #[test]
    fn a_login_stays_with_its_origin() {
        let parent = GitUrl::parse("https://u:p@h/a/b.git").unwrap();
        for (text, has_login) in [
            ("../c.git", true),
            ("https://h/c", true),
            ("http://h/c", false),
            ("https://h:8443/c", false),
            ("https://g/c", false),
            ("git@h:c", false),
        ] {
            let url = resolve_url(&parent, text).unwrap();
            assert_eq!(url.login.is_some(), has_login, "{text}");
        }
    }

    #[test]
    fn a_submodule_is_not_moved_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, own) = (dir.path().join("tree"), dir.path().join("own"));
        let outside = dir.path().join("outside");
        for path in [&tree, &own, &outside, &outside.join("m"), &tree.join("d")] {
            fs::create_dir(path).unwrap();
        }
        fs::create_dir(tree.join("d/m")).unwrap();
        fs::write(own.join("f"), "x").unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        symlink(&outside, tree.join("m")).unwrap();
        for path in ["link/m", "m", "none/m", "none", "/"] {
            put(&own, &tree, &RootPath::new(path)).unwrap_err();
            assert!(own.join("f").exists(), "{path}");
        }
        assert_eq!(fs::read_dir(outside.join("m")).unwrap().count(), 0);
        put(&own, &tree, &RootPath::new("d/m")).unwrap();
        assert!(tree.join("d/m/f").exists());
    }
}
