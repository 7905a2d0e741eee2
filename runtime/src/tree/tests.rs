//! Trees, their differences and what is placed in them, against what the files then are.

mod turning;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::*;
use crate::spec::{BindSource, Mount};

/// What a tree shows: by path, all that layers know of an entry.
type Model = BTreeMap<PathBuf, Node>;

#[derive(Debug, PartialEq, Eq)]
struct Node {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    /// Content, or the target of a link.
    content: Vec<u8>,
    /// The first name of the same file.
    first: PathBuf,
    device: u64,
    attributes: Vec<(String, Vec<u8>)>,
}

fn model(root: &Path) -> Model {
    let mut model = Model::new();
    let mut inodes = HashMap::new();
    look(root, Path::new(""), &mut model);
    for (path, node) in &mut model {
        let metadata = fs::symlink_metadata(root.join(path)).unwrap();
        if !metadata.is_dir() {
            let first = inodes.entry(metadata.ino()).or_insert(path.clone());
            node.first.clone_from(first);
        }
    }
    model
}

fn look(root: &Path, path: &Path, model: &mut Model) {
    let full = root.join(path);
    let metadata = fs::symlink_metadata(&full).unwrap();
    let kind = metadata.file_type();
    let content = if kind.is_symlink() {
        fs::read_link(&full)
            .unwrap()
            .into_os_string()
            .into_encoded_bytes()
    } else if kind.is_file() {
        fs::read(&full).unwrap()
    } else {
        Vec::new()
    };
    let node = Node {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        first: PathBuf::new(),
        device: metadata.rdev(),
        attributes: attributes(&full, &metadata),
    };
    model.insert(path.to_owned(), node);
    if kind.is_dir() {
        for entry in fs::read_dir(&full).unwrap() {
            look(root, &path.join(entry.unwrap().file_name()), model);
        }
    }
}

fn attributes(path: &Path, metadata: &fs::Metadata) -> Vec<(String, Vec<u8>)> {
    if !metadata.is_file() && !metadata.is_dir() {
        return Vec::new();
    }
    let mut value = [0; 64];
    let found = rustix::fs::getxattr(path, "user.test", &mut value);
    found
        .map(|count| ("user.test".to_owned(), value[..count].to_vec()))
        .into_iter()
        .collect()
}

/// Names do not tell which files are one.
fn apart(mut model: Model) -> Model {
    for (path, node) in &mut model {
        node.first.clone_from(path);
    }
    model
}

/// Random numbers, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn path(&mut self) -> PathBuf {
        let depth = self.below(3) + 1;
        (0..depth)
            .map(|_| ["a", "b", "c", "d"][self.below(4) as usize])
            .collect()
    }
}

/// One random change; many are impossible, and then change nothing.
fn change(random: &mut Random, root: &Path) {
    let (one, other) = (root.join(random.path()), root.join(random.path()));
    let is_plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
    let done = match random.below(12) {
        0 | 1 => fs::create_dir_all(&one),
        2 if !one.is_symlink() => fs::write(&one, random.below(1000).to_string()),
        3 if is_plain(&one) => File::options()
            .write(true)
            .open(&one)
            .and_then(|file| file.write_at(b"x", random.below(200_000)).map(drop)),
        4 => fs::remove_file(&one),
        5 => fs::remove_dir_all(&one),
        6 => fs::rename(&one, &other),
        7 => symlink("some/where", &one),
        8 | 9 if is_plain(&one) => fs::hard_link(&one, &other),
        10 if !one.is_symlink() => {
            let mode = [0o755, 0o700, 0o4750][random.below(3) as usize];
            fs::set_permissions(&one, fs::Permissions::from_mode(mode))
        }
        11 if !one.is_symlink() => File::open(&one).and_then(|file| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::new(random.below(9), 7);
            file.set_times(fs::FileTimes::new().set_modified(time))
        }),
        _ => fs::remove_dir(&one).and_then(|()| fs::write(&one, "")),
    };
    drop(done);
}

struct Bench {
    dir: tempfile::TempDir,
    trees: Trees,
    lowers: Vec<Diff>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            trees: Trees::new(dir.path().join("trees")).unwrap(),
            lowers: Vec::new(),
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One step, whose difference becomes the topmost layer. Gives what it left.
    fn step(&mut self, act: impl FnOnce(&TreeRoot)) -> Model {
        let changing = self.trees.change(&self.lowers).unwrap();
        act(changing.root());
        let left = model(changing.root().path());
        let upper = self.path(&format!("layer{}", self.lowers.len()));
        self.lowers.insert(0, changing.finish(&upper).unwrap());
        left
    }

    /// What the layers are, put together anew.
    fn anew(&self) -> Model {
        let trees = Trees::new(self.path("anew")).unwrap();
        let reading = trees.read(&self.lowers).unwrap();
        let place = reading.tree.as_ref().unwrap().shared().place.clone();
        let shown = model(&place);
        drop(reading);
        fs::remove_dir_all(self.path("anew")).unwrap();
        shown
    }

    /// What the tree that is kept shows to who reads it.
    fn kept(&self) -> Model {
        let reading = self.trees.read(&self.lowers).unwrap();
        model(&reading.tree.as_ref().unwrap().shared().place.clone())
    }
}

#[test]
fn differences_on_top_of_each_other_are_what_the_steps_left() {
    for seed in 1..60 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut bench = Bench::new();
        for number in 0..4 {
            let count = random.below(40);
            let left = bench.step(|tree| {
                for _ in 0..count {
                    change(&mut random, tree.path());
                }
            });
            let anew = bench.anew();
            assert_eq!(apart(anew), apart(left), "seed {seed}, step {number}");
            // Links of earlier steps are links for readers, too, however the tree came about.
            assert_eq!(bench.kept(), bench.anew(), "seed {seed}, step {number}");
        }
    }
}

#[test]
fn a_step_that_changes_nothing_leaves_nothing() {
    let mut bench = Bench::new();
    bench.step(|tree| {
        fs::create_dir_all(tree.path().join("d/e")).unwrap();
        fs::write(tree.path().join("d/file"), "x").unwrap();
        fs::hard_link(tree.path().join("d/file"), tree.path().join("d/e/link")).unwrap();
    });
    for _ in 0..2 {
        bench.step(|_| {});
        let diff = &bench.lowers[0];
        assert_eq!(fs::read_dir(&diff.dir).unwrap().count(), 0, "{diff:?}");
        assert!(
            diff.deleted.is_empty() && diff.opaque.is_empty(),
            "{diff:?}"
        );
    }
    // A write to one name of a lower file leaves the other alone.
    bench.step(|tree| fs::write(tree.path().join("d/file"), "y").unwrap());
    let shown = bench.anew();
    let content = |path: &str| shown[Path::new(path)].content.clone();
    assert_eq!(
        (content("d/file"), content("d/e/link")),
        (b"y".to_vec(), b"x".to_vec())
    );
}

#[test]
fn what_replaces_something_hides_it() {
    let mut bench = Bench::new();
    bench.step(|tree| {
        for dir in ["again", "to-file", "moved/deep"] {
            fs::create_dir_all(tree.path().join(dir)).unwrap();
            fs::write(tree.path().join(dir).join("old"), "").unwrap();
        }
        fs::write(tree.path().join("to-dir"), "").unwrap();
    });
    let left = bench.step(|tree| {
        let path = |name: &str| tree.path().join(name);
        // So that the kernel gives the new directory another number.
        fs::create_dir(path("new")).unwrap();
        fs::write(path("new/own"), "").unwrap();
        fs::remove_dir_all(path("again")).unwrap();
        fs::rename(path("new"), path("again")).unwrap();
        fs::remove_dir_all(path("to-file")).unwrap();
        fs::write(path("to-file"), "").unwrap();
        fs::remove_file(path("to-dir")).unwrap();
        fs::create_dir(path("to-dir")).unwrap();
        fs::rename(path("moved"), path("here")).unwrap();
    });
    let diff = &bench.lowers[0];
    assert_eq!(diff.deleted, [Path::new("moved")]);
    assert_eq!(diff.opaque, [Path::new("again"), Path::new("to-dir")]);
    assert!(diff.dir.join("here/deep/old").exists());
    assert_eq!(bench.anew(), left);
}

#[test]
fn holes_stay_holes_and_what_is_not_changed_is_not_copied() {
    let mut bench = Bench::new();
    let size = 64 << 20;
    bench.step(|tree| {
        let file = File::create(tree.path().join("sparse")).unwrap();
        file.write_at(b"x", size - 1).unwrap();
    });
    bench.step(|tree| fs::write(tree.path().join("other"), "").unwrap());
    let sparse = fs::metadata(bench.lowers[1].dir.join("sparse")).unwrap();
    assert!(sparse.len() == size && sparse.blocks() < 1000, "{sparse:?}");
    assert!(!bench.lowers[0].dir.join("sparse").exists());
    assert_eq!(bench.kept(), bench.anew());
}

fn content(target: &str, bytes: &[u8]) -> Mount {
    Mount::Content {
        content: bytes.to_vec(),
        target: target.into(),
        mode: 0o640,
        uid: 0,
        gid: 0,
    }
}

fn bind(source: &Path, target: &str) -> Mount {
    Mount::Bind {
        source: BindSource::Path(source.to_owned()),
        target: target.into(),
        readonly: true,
    }
}

/// An image with something at the places of mounts.
fn image(tree: &TreeRoot) {
    for dir in ["etc", "cache/old", "var"] {
        fs::create_dir_all(tree.path().join(dir)).unwrap();
    }
    fs::write(tree.path().join("etc/hosts"), "the image's").unwrap();
    symlink("/var/run", tree.path().join("run")).unwrap();
}

#[test]
fn what_is_placed_is_seen_and_leaves_no_trace() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root gives files away");
        return;
    }
    let mut bench = Bench::new();
    bench.step(image);
    let (own, other) = (bench.path("own"), bench.path("other"));
    for dir in [&own, &other] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("file"), "here").unwrap();
    }
    let socket = bench.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let owned = |target: &str| Mount::Bind {
        source: BindSource::Owned(own.clone()),
        target: target.into(),
        readonly: false,
    };
    let before = bench.anew();
    let left = bench.step(|tree| {
        let placed = tree
            .place(vec![
                content("/etc/hosts", b"covered"),
                content("/etc/hosts", b"ours"),
                content("/run/secrets/a", b"secret"),
                owned("/cache"),
                owned("/second"),
                bind(&other, "/cache/in/side"),
                bind(&other.join("file"), "/a/b/file"),
                bind(&socket, "/var/run/agent"),
                Mount::Tmpfs {
                    target: "/t".into(),
                    size: None,
                    mode: 0o1777,
                    readonly: false,
                },
            ])
            .unwrap();
        let path = |name: &str| tree.path().join(name);
        assert_eq!(fs::read(path("etc/hosts")).unwrap(), b"ours");
        assert_eq!(fs::read(path("var/run/secrets/a")).unwrap(), b"secret");
        assert_eq!(fs::read(path("cache/in/side/file")).unwrap(), b"here");
        assert_eq!(fs::read_link(path("second")).unwrap(), Path::new("/cache"));
        assert!(!path("cache/old").exists() && !own.exists());
        assert_eq!(fs::metadata(path("t")).unwrap().mode() & 0o7777, 0o1777);
        assert!(
            fs::metadata(path("var/run/agent"))
                .unwrap()
                .file_type()
                .is_socket()
        );
        UnixStream::connect(path("var/run/agent")).unwrap();
        for name in [
            "t/x",
            "cache/kept",
            "cache/in/side/lost",
            "a/b/file",
            "etc/hosts",
        ] {
            fs::write(path(name), "written").unwrap();
        }
        placed.remove().unwrap();
    });
    assert_eq!(left, before);
    assert_eq!(bench.anew(), before);
    let diff = &bench.lowers[0];
    assert_eq!(fs::read_dir(&diff.dir).unwrap().count(), 0);
    assert!(
        diff.deleted.is_empty() && diff.opaque.is_empty(),
        "{diff:?}"
    );
    assert_eq!(fs::read(own.join("kept")).unwrap(), b"written");
    assert_eq!(fs::read(other.join("file")).unwrap(), b"here");
    assert!(!other.join("lost").exists() && !own.join("in").exists());
}

#[test]
fn what_a_step_does_beside_mounts_stays() {
    let mut bench = Bench::new();
    bench.step(image);
    let own = bench.path("own");
    fs::create_dir(&own).unwrap();
    bench.step(|tree| {
        let path = |name: &str| tree.path().join(name);
        let placed = tree
            .place(vec![
                content("/new/secret", b"secret"),
                content("/etc/hosts", b"ours"),
                Mount::Bind {
                    source: BindSource::Owned(own.clone()),
                    target: "/gone/cache".into(),
                    readonly: false,
                },
            ])
            .unwrap();
        fs::write(path("new/file"), "").unwrap();
        fs::remove_file(path("etc/hosts")).unwrap();
        symlink("/var", path("etc/hosts")).unwrap();
        // Whoever deletes a cache has it empty.
        fs::remove_dir_all(path("gone")).unwrap();
        placed.remove().unwrap();
    });
    let shown = bench.anew();
    assert!(shown.contains_key(Path::new("new/file")));
    for path in ["new/secret", "gone"] {
        assert!(!shown.contains_key(Path::new(path)), "{path}");
    }
    assert_eq!(shown[Path::new("etc/hosts")].content, b"the image's");
    assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
}

#[test]
fn places_that_cannot_be_are_refused_and_nothing_is_left() {
    let mut bench = Bench::new();
    bench.step(image);
    let before = bench.anew();
    let directory = bench.path("directory");
    fs::create_dir(&directory).unwrap();
    let changing = bench.trees.change(&bench.lowers).unwrap();
    for (mount, why) in [
        (bind(&directory, "/"), "root directory"),
        (bind(&directory, "/etc/hosts"), "no directory in the image"),
        (content("/etc", b""), "is a directory in the image"),
        (bind(&bench.path("none"), "/x"), "none"),
        (content("/etc/hosts/x", b""), "Not a directory"),
    ] {
        let first = content("/made/for/this", b"");
        let error = changing.root().place(vec![mount, first]).unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert_eq!(model(changing.root().path()), before, "{why}");
    }
}

#[test]
fn a_tree_in_which_something_is_left_is_not_used_again() {
    let mut bench = Bench::new();
    bench.step(image);
    let changing = bench.trees.change(&bench.lowers).unwrap();
    let placed = changing.root().place(vec![content("/x", b"")]).unwrap();
    assert!(changing.finish(&bench.path("upper")).is_err());
    drop(placed);
    assert!(bench.trees.lock().is_empty());
}

#[test]
fn what_can_be_taken_out_is_whatever_else_fails() {
    let bench = Bench::new();
    let cache = bench.path("caches/one");
    fs::create_dir_all(&cache).unwrap();
    let changing = bench.trees.change(&bench.lowers).unwrap();
    let cache_mount = Mount::Bind {
        source: BindSource::Owned(cache),
        target: "/cache".into(),
        readonly: false,
    };
    let mounts = vec![content("/secret", b"hidden"), cache_mount];
    let placed = changing.root().place(mounts).unwrap();
    let secret = File::open(changing.root().path().join("secret")).unwrap();
    fs::remove_dir(bench.path("caches")).unwrap();
    let error = placed.remove().unwrap_err().to_string();
    assert!(error.contains("take a mount out of"), "{error}");
    assert!(!changing.root().path().join("secret").exists());
    let mut bytes = [1; 6];
    secret.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [0; 6]);
    assert!(changing.finish(&bench.path("upper")).is_err());
}
