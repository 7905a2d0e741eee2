//! Repositories, served by git's own program.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::web::{Reply, Web, backend, git, has_git};
use super::*;

/// The time of every commit.
const TIME: i64 = 1_500_000_000;

/// A directory with repositories, and their server.
pub(super) struct Forge {
    pub(super) root: tempfile::TempDir,
    pub(super) web: Web,
}

impl Forge {
    /// None, with the reason printed, where there is no git.
    pub(super) fn new() -> Option<Self> {
        if !has_git() {
            println!("skipped: no git with http-backend; install git");
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let web = Web::git(root.path());
        Some(Self { root, web })
    }

    /// A repository `name` with a first commit of `files`.
    pub(super) fn repository(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.root.path().join(name);
        fs::create_dir(&dir).unwrap();
        git(&dir, &["init", "-q", "-b", "main"]);
        self.change(&dir, files);
        dir
    }

    pub(super) fn change(&self, dir: &Path, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        git(dir, &["add", "-A"]);
        git(dir, &["commit", "-q", "-m", "change"]);
        git(dir, &["rev-parse", "HEAD"])
    }

    /// The URL of a repository, which is no bare one.
    pub(super) fn url(&self, name: &str) -> String {
        self.web.url(&format!("/{name}/.git"))
    }
}

/// Path → mode and content of what is below a directory; links by their target.
pub(super) fn tree(checkout: &Checkout) -> BTreeMap<String, (u32, String)> {
    let mut found = BTreeMap::new();
    let base = format!("/proc/self/fd/{}", {
        use std::os::fd::AsRawFd;
        checkout.root().as_raw_fd()
    });
    let base = fs::canonicalize(base).unwrap();
    let mut pending = vec![base.clone()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(&base).unwrap().display().to_string();
            assert_eq!(metadata.mtime(), TIME, "{name}");
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                assert_eq!(mode, 0o755, "{name}");
                pending.push(path);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap().display().to_string();
                found.insert(name, (0, target));
            } else {
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                found.insert(name, (mode, text));
            }
        }
    }
    found
}

fn names(tree: &BTreeMap<String, (u32, String)>) -> Vec<&str> {
    tree.keys().map(String::as_str).collect()
}

fn read(checkout: &Checkout, path: &str) -> String {
    let mut text = String::new();
    let path = crate::rootfs::RootPath::new(path);
    let mut file = checkout.root().open_file(&path).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn s7_files_of_a_commit() {
    let Some(forge) = Forge::new() else { return };
    let dir = forge.repository("r", &[("a", "1"), ("run", "2"), ("d/e/f", "3")]);
    fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("/etc/passwd", dir.join("link")).unwrap();
    forge.change(
        &dir,
        &[(".gitattributes", "a export-ignore\nd/e/f ident\n")],
    );
    let bench = Bench::new();
    let checkout = bench.checkout(&forge.url("r")).unwrap();
    let found = tree(&checkout);
    assert_eq!(
        names(&found),
        [".gitattributes", "a", "d/e/f", "link", "run"]
    );
    assert_eq!(found["a"], (0o644, "1".into()));
    assert_eq!(found["run"], (0o755, "2".into()));
    assert_eq!(found["link"], (0, "/etc/passwd".into()));
    drop(checkout);
    let checkout = bench.checkout(&format!("{}#:d/e", forge.url("r"))).unwrap();
    assert_eq!(names(&tree(&checkout)), ["f"]);
    for subdir in ["none", "a"] {
        let error = bench
            .checkout(&format!("{}?subdir={subdir}", forge.url("r")))
            .unwrap_err();
        assert_eq!(error.fault(), Some(Fault::Request), "{error}");
        assert!(error.to_string().contains("has no directory"), "{error}");
    }
    drop(checkout);
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn s7_branches_tags_and_commits() {
    let Some(forge) = Forge::new() else { return };
    let dir = forge.repository("r", &[("f", "first")]);
    let first = git(&dir, &["rev-parse", "HEAD"]);
    git(&dir, &["tag", "light"]);
    git(&dir, &["tag", "-a", "-m", "t", "v1"]);
    let tag = git(&dir, &["rev-parse", "v1"]);
    git(&dir, &["checkout", "-q", "-b", "a/b"]);
    let branch = forge.change(&dir, &[("f", "branch")]);
    git(&dir, &["tag", "a/b", "light"]);
    git(&dir, &["update-ref", "refs/pull/1/head", &first]);
    git(&dir, &["checkout", "-q", "--orphan", "gone"]);
    let gone = forge.change(&dir, &[("f", "gone")]);
    git(&dir, &["checkout", "-q", "main"]);
    git(&dir, &["branch", "-D", "-q", "gone"]);
    let main = forge.change(&dir, &[("f", "main")]);
    let url = forge.url("r");
    let bench = Bench::new();
    for (text, commit) in [
        ("".to_owned(), &main),
        ("#main".to_owned(), &main),
        ("#a/b".to_owned(), &branch),
        ("#refs/tags/a/b".to_owned(), &first),
        ("?tag=a/b".to_owned(), &first),
        ("?branch=a/b".to_owned(), &branch),
        ("#light".to_owned(), &first),
        ("#v1".to_owned(), &first),
        ("#refs/pull/1/head".to_owned(), &first),
        (format!("#{first}"), &first),
        (format!("#{}", first.to_uppercase()), &first),
        (format!("#{}", &first[..9]), &first),
        (format!("?checksum={}", &branch[..9]), &branch),
        (format!("?ref=main&checksum={main}"), &main),
        (format!("?ref=v1&checksum={tag}"), &first),
        (format!("?ref=v1&commit={}", &first[..8]), &first),
    ] {
        let found = bench.commit(&format!("{url}{text}")).unwrap();
        assert_eq!(&found.id, commit, "{text}");
        let checkout = bench.checkout(&format!("{url}{text}")).unwrap();
        let expected = git(&dir, &["show", &format!("{commit}:f")]);
        assert_eq!(read(&checkout, "f"), expected, "{text}");
    }
    for (text, said) in [
        (
            "#nope".to_owned(),
            "there is no branch, tag or commit \"nope\"",
        ),
        (
            "#abcdef0123".to_owned(),
            "no branch or tag leads to one commit",
        ),
        (format!("?ref=main&checksum={first}"), "checksum mismatch"),
    ] {
        let error = bench.checkout(&format!("{url}{text}")).unwrap_err();
        assert!(error.to_string().contains(said), "{text}: {error}");
        assert_eq!(error.fault(), Some(Fault::Request), "{text}");
    }
    // git's own server gives what no name leads to, as the big forges do; others refuse.
    let found = bench.checkout(&format!("{url}#{gone}"));
    if let Ok(checkout) = found {
        assert_eq!(read(&checkout, "f"), "gone");
    }
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn s13_only_what_is_new_is_fetched() {
    let Some(forge) = Forge::new() else { return };
    let dir = forge.repository("r", &[("f", "1"), ("g", "x")]);
    let first = git(&dir, &["rev-parse", "HEAD"]);
    let packs = || {
        let seen = forge.web.seen();
        let posts = seen.iter().filter(|request| request.method == "POST");
        posts
            .filter(|request| request.body.windows(5).any(|w| w == b"want "))
            .count()
    };
    let url = forge.url("r");
    let bench = Bench::new();
    bench.checkout(&url).unwrap();
    assert_eq!(packs(), 1);
    bench.checkout(&url).unwrap();
    assert_eq!(packs(), 1, "the same commit");
    forge.change(&dir, &[("f", "2")]);
    let checkout = bench.checkout(&url).unwrap();
    assert_eq!(
        (read(&checkout, "f"), read(&checkout, "g")),
        ("2".into(), "x".into())
    );
    assert_eq!(packs(), 2, "a new commit");
    let asked = forge.web.seen().len();
    let checkout = bench.checkout(&format!("{url}#{first}")).unwrap();
    assert_eq!(read(&checkout, "f"), "1");
    assert_eq!(
        forge.web.seen().len(),
        asked,
        "a whole commit that is known asks nobody"
    );
}

#[test]
fn a_damaged_repository_of_the_store_is_made_anew() {
    let Some(forge) = Forge::new() else { return };
    let dir = forge.repository("r", &[("f", "0")]);
    let bench = Bench::new();
    bench.checkout(&forge.url("r")).unwrap();
    let all = bench.store.root().join("fetched/git");
    let entries = fs::read_dir(&all)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let kept = entries.into_iter().find(|path| path.is_dir()).unwrap();
    let damages: [&dyn Fn(); 4] = [
        &|| fs::write(kept.join("config"), "[core\n").unwrap(),
        &|| fs::write(kept.join("shallow.lock"), "").unwrap(),
        &|| fs::remove_dir_all(kept.join("objects/pack")).unwrap(),
        &|| fs::remove_file(kept.join("made")).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        let text = number.to_string() + "x";
        forge.change(&dir, &[("f", &text)]);
        let checkout = bench.checkout(&forge.url("r")).unwrap();
        assert_eq!(read(&checkout, "f"), text);
    }
    // What is not its fault costs nothing.
    let nowhere = format!("{}#{}", forge.url("r"), "a".repeat(40));
    bench.checkout(&nowhere).unwrap_err();
    assert!(kept.join("made").exists());
}

#[test]
fn l62_a_git_dir_that_is_kept_is_the_same_every_time() {
    let Some(forge) = Forge::new() else { return };
    let dir = forge.repository("r", &[("f", "1"), ("d/g", "2")]);
    git(&dir, &["tag", "-a", "-m", "t", "v1"]);
    let url = format!("{}?tag=v1&keep-git-dir=1", forge.url("r"));
    let kept = |bench: &Bench| {
        let checkout = bench.checkout(&url).unwrap();
        let found = tree(&checkout);
        let (_, staging) = checkout.into_parts();
        let path = staging.path().join("tree");
        assert_eq!(git(&path, &["describe"]), "v1");
        assert_eq!(git(&path, &["status", "--porcelain"]), "");
        let origin = git(&path, &["config", "remote.origin.url"]);
        assert_eq!(origin, forge.url("r"));
        found
    };
    let (one, other) = (Bench::new(), Bench::new());
    let found = kept(&one);
    assert!(
        found
            .keys()
            .any(|name| name.starts_with(".git/objects/pack/"))
    );
    assert!(
        !found
            .keys()
            .any(|name| name.contains("logs") || name.contains("hooks"))
    );
    assert_eq!(found, kept(&one));
    assert_eq!(found, kept(&other));
    let checkout = one.checkout(&format!("{url}&subdir=d")).unwrap();
    assert_eq!(names(&tree(&checkout)), ["g"]);
}

#[test]
fn l64_credentials_for_git() {
    if Forge::new().is_none() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let at = root.path().to_owned();
    let web = Web::start(move |request, _| match request.header("authorization") {
        Some("Basic eC1hY2Nlc3MtdG9rZW46Z2VoZWlt" | "Basic dTpnZWhlaW0=" | "Own geheim") => {
            backend(&at, request)
        }
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let forge = Forge { root, web };
    forge.repository("r", &[("f", "1")]);
    let url = forge.url("r");
    let error = Bench::new().checkout(&url).unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Network), "{error}");
    let host = forge.web.host();
    let other = Bench::new().secret("GIT_AUTH_TOKEN.example.com", "geheim");
    assert!(other.checkout(&url).is_err());
    for (bench, url) in [
        (
            Bench::new().secret(&format!("GIT_AUTH_TOKEN.{host}"), "geheim"),
            url.clone(),
        ),
        (
            Bench::new().secret("GIT_AUTH_TOKEN", "geheim\n"),
            url.clone(),
        ),
        (
            Bench::new().secret("GIT_AUTH_HEADER", "Own geheim"),
            url.clone(),
        ),
        (Bench::new(), url.replace("://", "://u:geheim@")),
    ] {
        let keep = format!("{url}?keep-git-dir=1");
        let checkout = bench.checkout(&keep).unwrap();
        assert_eq!(read(&checkout, "f"), "1");
        assert!(!bench.written().contains("geheim"), "{url}");
        let wrong = url.replace("geheim", "falsch");
        if wrong != url {
            let error = bench.checkout(&format!("{wrong}#nope")).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("falsch"), "{error}");
        }
    }
}

#[test]
fn a_server_that_knows_no_depth() {
    let Some(forge) = Forge::new() else { return };
    let dir = forge.repository("r", &[("f", "1")]);
    let first = git(&dir, &["rev-parse", "HEAD"]);
    forge.change(&dir, &[("f", "2")]);
    git(&dir, &["update-server-info"]);
    let root = forge.root.path().to_owned();
    let plain = Web::start(move |request, _| {
        match fs::read(root.join(request.path.trim_start_matches('/'))) {
            Ok(bytes) => Reply::new(200, bytes),
            Err(_) => Reply::new(404, ""),
        }
    });
    let bench = Bench::new();
    let url = plain.url("/r/.git");
    assert_eq!(read(&bench.checkout(&url).unwrap(), "f"), "2");
    let old = format!("{url}#{first}");
    assert_eq!(read(&bench.checkout(&old).unwrap(), "f"), "1");
}

#[test]
fn the_end_of_the_build_ends_git() {
    if Forge::new().is_none() {
        return;
    }
    let bench = Bench::new();
    let stop = bench.stop.clone();
    let web = Web::start(move |_, _| {
        stop.stop();
        Reply::new(200, "x").stall(0)
    });
    let error = bench.checkout(&web.url("/r.git")).unwrap_err();
    assert!(matches!(*error.kind, FetchErrorKind::Stopped), "{error}");
    assert_eq!(bench.leftovers(), 0);
}
