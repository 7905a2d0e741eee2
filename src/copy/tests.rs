use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::cache::FileDigests;
use crate::image::Digest;
use crate::layer::{AllIds, Ids, SingleId, Target};

const NOW: i64 = 1_700_000_000;

/// A directory to copy from and one to copy to.
struct Fixture {
    dir: tempfile::TempDir,
    /// Whether the process may give files away.
    gives_away: bool,
}

type Listing = BTreeMap<String, String>;
/// Sources, the argument under test, the paths or entries that result.
type Case<'c, R> = (&'c [&'c str], &'c str, R);
type Placed = (String, String);
type Pairs<'c> = &'c [(&'c str, &'c str)];

impl Fixture {
    /// `files`: `path`, or `path/`, or `path -> target`; a file contains its own path.
    fn new(files: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let probe = dir.path().join("probe");
        fs::write(&probe, "").unwrap();
        let fixture = Self {
            gives_away: std::os::unix::fs::chown(&probe, Some(12), Some(34)).is_ok(),
            dir,
        };
        fs::create_dir(fixture.dir.path().join("to")).unwrap();
        fs::create_dir(fixture.dir.path().join("from")).unwrap();
        make(&fixture.from(), files);
        fixture
    }

    fn with_target(self, files: &[&str]) -> Self {
        make(&self.to(), files);
        self
    }

    fn from(&self) -> std::path::PathBuf {
        self.dir.path().join("from")
    }

    fn to(&self) -> std::path::PathBuf {
        self.dir.path().join("to")
    }

    fn ids(&self) -> Box<dyn Ids> {
        if self.gives_away {
            Box::new(AllIds)
        } else {
            Box::new(SingleId {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
            })
        }
    }

    fn context(&self) -> Context {
        Context::open_dir(&self.from(), None).unwrap()
    }

    fn copy(
        &self,
        sources: &[&str],
        dest: &str,
        options: &CopyOptions,
    ) -> Result<CopyReport, CopyError> {
        let context = self.context();
        let source = Source::context(&context);
        self.copy_from(&source, sources, dest, options)
    }

    fn copy_from(
        &self,
        source: &Source<'_>,
        sources: &[&str],
        dest: &str,
        options: &CopyOptions,
    ) -> Result<CopyReport, CopyError> {
        let patterns: Vec<String> = sources.iter().map(ToString::to_string).collect();
        let selection = select(source, &patterns, options)?;
        let ids = self.ids();
        let mut target = Target::new(RootDir::open(&self.to()).unwrap(), &*ids);
        selection.apply(source, &mut target, dest, &RootPath::new("/work"), options)
    }

    fn digest(&self, sources: &[&str], options: &CopyOptions) -> Digest {
        let context = self.context();
        let source = Source::context(&context);
        let patterns: Vec<String> = sources.iter().map(ToString::to_string).collect();
        let selection = select(&source, &patterns, options).unwrap();
        let known = FileDigests::default();
        selection.digest(&source, options, &known).unwrap()
    }

    fn listing(&self) -> Listing {
        let mut listing = Listing::new();
        list(&self.to(), &self.to(), &mut listing);
        listing
    }

    fn stat(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.to().join(path)).unwrap()
    }
}

fn make(root: &Path, files: &[&str]) {
    for file in files {
        let (name, link) = match file.split_once(" -> ") {
            Some((name, link)) => (name, Some(link)),
            None => (*file, None),
        };
        let path = root.join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match link {
            Some(link) => symlink(link, path).unwrap(),
            None => fs::write(path, name).unwrap(),
        }
    }
}

/// Directories end in `/`, links give `-> target`, files their content.
fn list(root: &Path, dir: &Path, listing: &mut Listing) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            listing.insert(format!("{name}/"), String::new());
            list(root, &path, listing);
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            listing.insert(name, format!("-> {}", target.display()));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap();
            listing.insert(name, String::from_utf8(content).unwrap());
        } else {
            listing.insert(name, "special".to_owned());
        }
    }
}

fn expected(entries: &[(&str, &str)]) -> Listing {
    let own = |(name, content): &(&str, &str)| ((*name).to_owned(), (*content).to_owned());
    entries.iter().map(own).collect()
}

fn options() -> CopyOptions {
    CopyOptions {
        dir_mtime: NOW,
        ..CopyOptions::default()
    }
}

mod metadata;

#[test]
fn s6_path_rules() {
    let tree = [
        "a.txt",
        "b.txt",
        "d/x",
        "d/sub/y",
        "*.none/",
        "l -> d",
        "d/link -> ../a.txt",
    ];
    let d_at = |at: &str| {
        vec![
            (format!("{at}/"), String::new()),
            (format!("{at}/x"), "d/x".to_owned()),
            (format!("{at}/sub/"), String::new()),
            (format!("{at}/sub/y"), "d/sub/y".to_owned()),
            (format!("{at}/link"), "-> ../a.txt".to_owned()),
        ]
    };
    let file = |at: &str, content: &str| vec![(at.to_owned(), content.to_owned())];
    let dir = |at: &str| vec![(format!("{at}/"), String::new())];
    let cases: Vec<Case<'_, Vec<Vec<Placed>>>> = vec![
        (&["a.txt"], "/t", vec![file("t", "a.txt")]),
        (&["a.txt"], "/t/", vec![dir("t"), file("t/a.txt", "a.txt")]),
        (&["a.txt"], "/t/.", vec![dir("t"), file("t/a.txt", "a.txt")]),
        (
            &["a.txt"],
            ".",
            vec![dir("work"), file("work/a.txt", "a.txt")],
        ),
        (
            &["a.txt"],
            "",
            vec![dir("work"), file("work/a.txt", "a.txt")],
        ),
        (&["a.txt"], "t", vec![dir("work"), file("work/t", "a.txt")]),
        (&["a.txt"], "../t", vec![file("t", "a.txt")]),
        (&["../../a.txt"], "/t", vec![file("t", "a.txt")]),
        (&["a.txt/"], "/t", vec![file("t", "a.txt")]),
        (
            &["a.txt"],
            "/p/q/t",
            vec![dir("p"), dir("p/q"), file("p/q/t", "a.txt")],
        ),
        (&["d"], "/t", vec![d_at("t")]),
        (&["d/"], "/t/", vec![d_at("t")]),
        (&["l"], "/t/", vec![d_at("t")]),
        (&["d/link"], "/t/", vec![dir("t"), file("t/link", "a.txt")]),
        (&["a.txt", "b.txt"], "/t", vec![file("t", "b.txt")]),
        (
            &["d", "a.txt"],
            "/t",
            vec![d_at("t"), file("t/a.txt", "a.txt")],
        ),
        (
            &["?.txt"],
            "/t/",
            vec![dir("t"), file("t/a.txt", "a.txt"), file("t/b.txt", "b.txt")],
        ),
        (&["d*"], "/t/", vec![d_at("t")]),
        (&["d/*/y"], "/t/", vec![dir("t"), file("t/y", "d/sub/y")]),
        (&["*/sub"], "/t/", vec![dir("t"), file("t/y", "d/sub/y")]),
        (&["[^ab].txt"], "/t/", vec![]),
        (&["*.nope"], "/t/", vec![]),
        (&["**/y"], "/t/", vec![]),
        (&["l/x*"], "/t/", vec![dir("t"), file("t/x", "d/x")]),
        (&["\\*.none"], "/t/", vec![dir("t")]),
    ];
    for (sources, dest, result) in cases {
        let fixture = Fixture::new(&tree);
        fixture.copy(sources, dest, &options()).unwrap();
        let result: Listing = result.into_iter().flatten().collect();
        assert_eq!(fixture.listing(), result, "{sources:?} {dest:?}");
    }
}

#[test]
fn s6_destinations_that_exist() {
    type Case<'c> = (&'c str, &'c str, &'c [&'c str], Option<(&'c str, &'c str)>);
    let cases: &[Case<'_>] = &[
        ("f", "/t", &["t/"], Some(("t/f", "f"))),
        ("f", "/t", &["t"], Some(("t", "f"))),
        ("f", "/t", &["t -> real", "real"], Some(("real", "f"))),
        ("f", "/t", &["t -> deep/new"], Some(("deep/new", "f"))),
        ("f", "/t/x", &["t -> /real", "real/"], Some(("real/x", "f"))),
        ("f", "/t/", &["t -> /real", "real/"], Some(("real/f", "f"))),
        (
            "f",
            "/t/",
            &["t/f -> ../other", "other"],
            Some(("t/f", "f")),
        ),
        ("f", "/t/", &["t"], None),
        ("f", "/t/", &["t/f/"], None),
        ("f", "/t/x", &["t"], None),
        ("d", "/t", &["t"], None),
        (
            "d",
            "/t",
            &["t -> real", "real/"],
            Some(("real/sub/y", "d/sub/y")),
        ),
        ("d", "/t", &["t/sub"], None),
        ("d", "/t", &["t/sub -> ../real", "real/"], None),
        ("d", "/t", &["t/sub/y/"], None),
        (
            "d",
            "/t",
            &["t/sub/y -> ../../o", "o"],
            Some(("t/sub/y", "d/sub/y")),
        ),
        ("f", "/t", &["t -> t"], None),
    ];
    for (source, dest, existing, result) in cases {
        let fixture = Fixture::new(&["f", "d/sub/y"]).with_target(existing);
        let copied = fixture.copy(&[source], dest, &options());
        let Some((path, content)) = result else {
            assert!(copied.is_err(), "{source} {dest} {existing:?}");
            continue;
        };
        copied.unwrap();
        let listing = fixture.listing();
        let found = listing.get(*path).map(String::as_str);
        assert_eq!(
            found,
            Some(*content),
            "{source} {dest} {existing:?}: {listing:?}"
        );
        if existing.contains(&"other") {
            assert_eq!(
                listing["other"], "other",
                "links below the destination are replaced"
            );
        }
    }
}

#[test]
fn s6_parents() {
    let tree = ["a/b/c.txt", "a/b/d.md", "a/e.txt", "f.txt", "a/l -> b"];
    let cases: &[(&[&str], Pairs<'_>)] = &[
        (
            &["a/b/c.txt"],
            &[("t/a/", ""), ("t/a/b/", ""), ("t/a/b/c.txt", "a/b/c.txt")],
        ),
        (
            &["a/./b/c.txt"],
            &[("t/b/", ""), ("t/b/c.txt", "a/b/c.txt")],
        ),
        (
            &["./a/./b"],
            &[
                ("t/b/", ""),
                ("t/b/c.txt", "a/b/c.txt"),
                ("t/b/d.md", "a/b/d.md"),
            ],
        ),
        (
            &["**/*.txt"],
            &[
                ("t/a/", ""),
                ("t/a/b/", ""),
                ("t/a/b/c.txt", "a/b/c.txt"),
                ("t/a/e.txt", "a/e.txt"),
                ("t/f.txt", "f.txt"),
            ],
        ),
        (&["a/*.nope"], &[]),
        (&["a/l"], &[("t/a/", ""), ("t/a/l", "-> b")]),
        (
            &["./"],
            &[
                ("t/a/", ""),
                ("t/a/b/", ""),
                ("t/a/b/c.txt", "a/b/c.txt"),
                ("t/a/b/d.md", "a/b/d.md"),
                ("t/a/e.txt", "a/e.txt"),
                ("t/a/l", "-> b"),
                ("t/f.txt", "f.txt"),
            ],
        ),
    ];
    let parents = CopyOptions {
        parents: true,
        ..options()
    };
    for (sources, result) in cases {
        let fixture = Fixture::new(&tree);
        fixture.copy(sources, "/t", &parents).unwrap();
        let mut result = expected(result);
        result.insert("t/".to_owned(), String::new());
        assert_eq!(fixture.listing(), result, "{sources:?}");
    }
    let fixture = Fixture::new(&tree);
    let error = fixture.copy(&["a/nope"], "/t", &parents).unwrap_err();
    assert!(matches!(error, CopyError::NotFound { .. }), "{error}");
    let mode = fs::Permissions::from_mode(0o750);
    fs::set_permissions(fixture.from().join("a"), mode).unwrap();
    fixture.copy(&["a/e.txt"], "/t", &parents).unwrap();
    let stat = fixture.stat("t/a");
    assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o750, NOW));
}

#[test]
fn s6_exclude() {
    let tree = [
        "d/a.txt",
        "d/a.md",
        "d/s/b.txt",
        "d/s/b.md",
        "e.txt",
        "e.md",
    ];
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (
            &["d"],
            &["*.txt"],
            &["t/", "t/a.md", "t/s/", "t/s/b.md", "t/s/b.txt"],
        ),
        (&["d"], &["**/*.txt"], &["t/", "t/a.md", "t/s/", "t/s/b.md"]),
        (&["d"], &["s"], &["t/", "t/a.md", "t/a.txt"]),
        (
            &["d"],
            &["s", "!s/b.md"],
            &["t/", "t/a.md", "t/a.txt", "t/s/", "t/s/b.md"],
        ),
        (&["e.*"], &["*.txt"], &["t/", "t/e.md"]),
        (&["e.txt"], &["*.txt"], &[]),
        (&["d", "e.md"], &["a.*", "s"], &["t/", "t/e.md"]),
    ];
    for (sources, exclude, result) in cases {
        let fixture = Fixture::new(&tree);
        let excluding = CopyOptions {
            exclude: exclude.iter().map(ToString::to_string).collect(),
            ..options()
        };
        fixture.copy(sources, "/t/", &excluding).unwrap();
        let found: Vec<String> = fixture.listing().into_keys().collect();
        assert_eq!(found, *result, "{sources:?} without {exclude:?}");
    }
}

#[test]
fn s8_the_filter_hides_what_it_excludes() {
    let tree = [
        "a/b/2.txt",
        "a/b/3.txt",
        "a/c",
        "keep",
        "secret/key",
        "l -> secret/key",
    ];
    type Case<'c> = (&'c str, &'c [&'c str], Option<&'c [&'c str]>);
    let cases: &[Case<'_>] = &[
        ("a\n!a/b/2.txt", &["a"], Some(&["t/", "t/b/", "t/b/2.txt"])),
        ("a\n!a/b/2.txt", &["a/b/2.txt"], Some(&["t/", "t/2.txt"])),
        ("a\n!a/b/2.txt", &["a/b/3.txt"], None),
        ("a\n!a/nope", &["a"], None),
        ("a/**", &["a"], Some(&["t/"])),
        (
            "a\nsecret\nl",
            &["."],
            Some(&["t/", "t/.dockerignore", "t/keep"]),
        ),
        ("secret", &["secret"], None),
        ("secret", &["secret/key"], None),
        ("secret", &["l"], None),
        ("*\n!keep", &["*"], Some(&["t/", "t/keep"])),
        ("secret\n", &["s*"], Some(&[])),
    ];
    for (patterns, sources, result) in cases {
        let fixture = Fixture::new(&tree);
        fs::write(fixture.from().join(".dockerignore"), patterns).unwrap();
        let copied = fixture.copy(sources, "/t/", &options());
        let Some(result) = result else {
            let error = copied.unwrap_err();
            assert!(
                matches!(error, CopyError::Excluded { .. }),
                "{patterns:?}: {error}"
            );
            assert!(error.to_string().contains(".dockerignore"), "{error}");
            continue;
        };
        copied.unwrap();
        let found: Vec<String> = fixture.listing().into_keys().collect();
        assert_eq!(found, *result, "{sources:?} with {patterns:?}");
    }
}

#[test]
fn errors_name_the_source_and_the_nearest_name() {
    let fixture = Fixture::new(&["src/main.rs", "out -> /etc/passwd", ".wh.gone/"]);
    let cases = [
        (
            "src/mian.rs",
            "\"src/mian.rs\" does not exist in the build context; the nearest name is /src/main.rs",
        ),
        (
            "scr",
            "\"scr\" does not exist in the build context; the nearest name is /src",
        ),
        ("zzz", "\"zzz\" does not exist in the build context"),
        (
            "out",
            "\"out\" is a symbolic link to \"/etc/passwd\", which does not exist in the build context",
        ),
        (
            ".wh.gone",
            "cannot copy /.wh.gone of the build context: names that begin",
        ),
    ];
    for (source, message) in cases {
        let error = fixture.copy(&[source], "/t", &options()).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
    let root = RootDir::open(&fixture.from()).unwrap();
    let lookup = |_: &RootPath| Ok(None);
    let stage = Source::stage(&root, "stage \"build\"", &lookup);
    let error = fixture
        .copy_from(&stage, &["app"], "/", &options())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"app\" does not exist in stage \"build\""
    );
}

#[test]
fn s2_inline_files() {
    let cases = [
        ("/t", "t"),
        ("/t/", "t/name"),
        ("", "work/name"),
        ("/dir", "dir/name"),
        ("sub/x", "work/sub/x"),
    ];
    for (dest, path) in cases {
        let fixture = Fixture::new(&[]).with_target(&["dir/"]);
        let ids = fixture.ids();
        let mut target = Target::new(RootDir::open(&fixture.to()).unwrap(), &*ids);
        let workdir = RootPath::new("/work");
        let report = LooseFile {
            name: "name",
            content: crate::layer::Content::Reader(&mut &b"a\r\n"[..]),
            mode: 0o644,
            mtime: NOW,
        }
        .write(&mut target, dest, &workdir, &options())
        .unwrap();
        assert_eq!(report, CopyReport { files: 1, bytes: 3 });
        assert_eq!(fixture.listing()[path], "a\r\n", "{dest:?}");
        let stat = fixture.stat(path);
        assert_eq!(
            (stat.mode() & 0o7777, stat.mtime()),
            (0o644, NOW),
            "{dest:?}"
        );
    }
}
