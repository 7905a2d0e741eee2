//! Goldens for the canonical form, and GNU tar and Python as readers we did not write.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat};

use super::super::Attributes;
use super::*;

/// Layers under construction in a directory that goes away.
struct Bench {
    dir: tempfile::TempDir,
    stack: LayerStack,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            stack: LayerStack::default(),
        }
    }

    /// A new `diff/` directory for [`Bench::layer`].
    fn diff(&self, id: &str) -> PathBuf {
        let diff = self.dir.path().join(id).join("diff");
        std::fs::create_dir_all(&diff).unwrap();
        diff
    }

    /// Closes the layer: every entry gets one time.
    fn layer(&self, id: &str, table: &Attributes) -> Layer {
        let dir = self.dir.path().join(id);
        table.save(&dir).unwrap();
        age(&dir.join("diff"), 1_000_000_000);
        Layer::open(id, &dir).unwrap()
    }

    fn tar(&self, layer: &Layer) -> (Vec<u8>, TarSummary) {
        let mut out = Vec::new();
        let summary = write_tar(&self.stack, layer, &TarOptions::default(), &mut out).unwrap();
        assert_eq!(summary.bytes, out.len() as u64);
        (out, summary)
    }
}

fn age(path: &Path, seconds: i64) {
    let metadata = path.symlink_metadata().unwrap();
    if metadata.is_dir() {
        for entry in path.read_dir().unwrap() {
            age(&entry.unwrap().path(), seconds);
        }
    }
    set_time(path, seconds, 999_999_999);
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn make_whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// Whether `user.*` attributes can be set here.
fn make_opaque(path: &Path) -> bool {
    let dir = std::fs::File::open(path).unwrap();
    rustix::fs::fsetxattr(&dir, disk::OPAQUE, b"y", XattrFlags::empty()).is_ok()
}

fn owned_by(uid: u32, mode: u32) -> Attr {
    Attr {
        uid,
        gid: uid,
        mode,
        rdev: (0, 0),
        xattrs: BTreeMap::new(),
    }
}

/// Every entry of `tar` as the `tar` crate reads it: name, type, mode, owner, time, link.
fn listing(tar: &[u8]) -> Vec<String> {
    let mut archive = ::tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let link = entry.link_name_bytes().map(|link| link.into_owned());
        let header = entry.header();
        let kind = char::from(header.entry_type().as_byte());
        let (mode, uid) = (header.mode().unwrap(), header.uid().unwrap());
        let mtime = header.mtime().unwrap();
        let link = String::from_utf8_lossy(&link.unwrap_or_default()).into_owned();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        format!("{name} {kind} {mode:o} {uid} {mtime} {link}{content}")
    });
    entries.collect()
}

fn names(tar: &[u8]) -> Vec<String> {
    let first = |line: String| line.split(' ').next().unwrap().to_owned();
    listing(tar).into_iter().map(first).collect()
}

/// Owners differ with who runs the tests, so the table tells them.
fn own_everything(diff: &Path) -> Attributes {
    let mut table = Attributes::default();
    fn walk(dir: &Path, path: &RootPath, table: &mut Attributes) {
        for entry in dir.read_dir().unwrap() {
            let entry = entry.unwrap();
            let path = path.join(entry.file_name());
            let mode = {
                use std::os::unix::fs::MetadataExt;
                entry.path().symlink_metadata().unwrap().mode()
            };
            table.insert(path.clone(), owned_by(0, mode));
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &path, table);
            }
        }
    }
    walk(diff, &RootPath::root(), &mut table);
    table
}

#[test]
fn the_canonical_form() {
    let bench = Bench::new();
    let diff = bench.diff("one");
    for dir in ["a", "a.d", "empty"] {
        std::fs::create_dir(diff.join(dir)).unwrap();
        std::fs::set_permissions(diff.join(dir), PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::write(diff.join("a/file"), "text").unwrap();
    std::fs::set_permissions(diff.join("a/file"), PermissionsExt::from_mode(0o4750)).unwrap();
    std::fs::hard_link(diff.join("a/file"), diff.join("a0")).unwrap();
    symlink("/etc/../x", diff.join("a.d/link")).unwrap();
    std::fs::write(diff.join("a.d/.wh.x"), "").unwrap();
    std::fs::write(diff.join("null"), "").unwrap();
    let mut table = own_everything(&diff);
    let mut device = owned_by(0, libc::S_IFCHR | 0o666);
    device.rdev = (1, 3);
    table.insert(RootPath::new("/null"), device);
    table.insert(
        RootPath::new("/empty"),
        owned_by(3_000_000, libc::S_IFDIR | 0o1777),
    );
    let (tar, summary) = bench.tar(&bench.layer("one", &table));
    assert_eq!(
        listing(&tar),
        [
            "a.d/ 5 755 0 1000000000 ",
            "a.d/link 2 777 0 1000000000 /etc/../x",
            "a/ 5 755 0 1000000000 ",
            "a/file 0 4750 0 1000000000 text",
            "a0 1 4750 0 1000000000 a/file",
            "empty/ 5 1777 3000000 1000000000 ",
            "null 3 666 0 1000000000 ",
        ]
    );
    assert_eq!(summary.entries, 7);
    assert_eq!(
        summary.warnings,
        ["/a.d/.wh.x is left out: in a layer its name would mean a deletion"]
    );
}

#[test]
fn an_empty_layer_is_the_one_everyone_knows() {
    let bench = Bench::new();
    bench.diff("empty");
    let (tar, _) = bench.tar(&bench.layer("empty", &Attributes::default()));
    assert_eq!(
        crate::image::Digest::of(&tar).as_str(),
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    );
}

#[test]
fn deletions_are_whiteouts_of_what_was_there() {
    let mut bench = Bench::new();
    let lower = bench.diff("lower");
    std::fs::create_dir_all(lower.join("dir/sub")).unwrap();
    for file in ["gone", "dir/old", "dir/kept", "dir/sub/old"] {
        std::fs::write(lower.join(file), "").unwrap();
    }
    bench
        .stack
        .push(bench.layer("lower", &Attributes::default()));
    let middle = bench.diff("middle");
    std::fs::create_dir(middle.join("dir")).unwrap();
    std::fs::write(middle.join("dir/new"), "").unwrap();
    make_whiteout(&middle.join("dir/old"));
    bench
        .stack
        .push(bench.layer("middle", &Attributes::default()));

    let upper = bench.diff("upper");
    make_whiteout(&upper.join("gone"));
    make_whiteout(&upper.join("never"));
    std::fs::create_dir_all(upper.join("dir/sub")).unwrap();
    std::fs::write(upper.join("dir/kept"), "").unwrap();
    if !make_opaque(&upper.join("dir")) {
        println!("skipped: the temporary directory holds no user.* attributes");
        return;
    }
    let (tar, _) = bench.tar(&bench.layer("upper", &Attributes::default()));
    assert_eq!(
        names(&tar),
        [
            ".wh.gone",
            "dir/",
            "dir/.wh.new",
            "dir/kept",
            "dir/sub/",
            "dir/sub/.wh.old"
        ]
    );
    assert!(listing(&tar).contains(&".wh.gone 0 0 0 0 ".to_owned()));
}

#[test]
fn times_are_floored_and_clamped() {
    let bench = Bench::new();
    let diff = bench.diff("times");
    let layer = {
        for (name, seconds) in [("early", -2), ("late", 2_000_000_000)] {
            std::fs::write(diff.join(name), "").unwrap();
            set_time(&diff.join(name), seconds, 500_000_000);
        }
        Layer::open("times", &bench.dir.path().join("times")).unwrap()
    };
    let options = TarOptions {
        clamp_mtime: Some(1_500_000_000),
    };
    let mut tar = Vec::new();
    write_tar(&bench.stack, &layer, &options, &mut tar).unwrap();
    let mut archive = ::tar::Archive::new(&tar[..]);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().mtime().unwrap();
        let records = entry.pax_extensions().unwrap();
        let pax = records.map(|records| {
            let mut records = records.map(|record| record.unwrap());
            let record = records.find(|record| record.key() == Ok("mtime")).unwrap();
            record.value().unwrap().to_owned()
        });
        found.push((header, pax));
    }
    assert_eq!(found, [(0, Some("-2".to_owned())), (1_500_000_000, None)]);
}

/// A layer with everything that is hard to say in a tar, and what it holds.
fn hard_layer(bench: &Bench) -> Layer {
    let diff = bench.diff("hard");
    let long = "n".repeat(200);
    std::fs::create_dir_all(diff.join("deep").join(&long)).unwrap();
    std::fs::write(diff.join("deep").join(&long).join("leaf"), "leaf").unwrap();
    symlink("t".repeat(150), diff.join("link")).unwrap();
    std::fs::write(diff.join("ä"), "utf-8").unwrap();
    std::fs::write(diff.join(OsStr::from_bytes(b"raw\xff")), "raw").unwrap();
    std::fs::write(diff.join("hundred".repeat(15)), "h").unwrap();
    std::fs::hard_link(diff.join("hundred".repeat(15)), diff.join("second")).unwrap();
    mknodat(CWD, diff.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let mut table = own_everything(&diff);
    let mut capable = owned_by(4_000_000_000, libc::S_IFREG | 0o755);
    let value = [&[1, 0, 0, 2][..], b"\n=\n\0\0\0\0\0\0\0\0\0\0\0\0\0"].concat();
    capable
        .xattrs
        .insert(b"security.capability".to_vec(), value);
    table.insert(RootPath::new("/ä"), capable);
    bench.layer("hard", &table)
}

#[test]
fn gnu_tar_reads_it_back() {
    let bench = Bench::new();
    let (tar, _) = bench.tar(&hard_layer(&bench));
    let file = bench.dir.path().join("hard.tar");
    std::fs::write(&file, tar).unwrap();
    let out = bench.dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let run = Command::new("tar")
        .env("LC_ALL", "C.UTF-8")
        .args(["--no-same-owner", "-xf"])
        .arg(&file)
        .arg("-C")
        .arg(&out)
        .output();
    let Ok(run) = run else {
        println!("skipped: there is no tar here");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
    assert!(run.status.success());
    let long = "n".repeat(200);
    let read = |path: &Path| std::fs::read_to_string(out.join(path)).unwrap();
    assert_eq!(read(&Path::new("deep").join(long).join("leaf")), "leaf");
    assert_eq!(read(Path::new("ä")), "utf-8");
    assert_eq!(read(Path::new(OsStr::from_bytes(b"raw\xff"))), "raw");
    assert_eq!(read(Path::new("second")), "h");
    let link = std::fs::read_link(out.join("link")).unwrap();
    assert_eq!(link, PathBuf::from("t".repeat(150)));
}

#[test]
fn python_reads_it_back() {
    let bench = Bench::new();
    let (tar, summary) = bench.tar(&hard_layer(&bench));
    let file = bench.dir.path().join("hard.tar");
    std::fs::write(&file, tar).unwrap();
    let script = r"
import sys, tarfile
for m in tarfile.open(sys.argv[1]):
    cap = m.pax_headers.get('SCHILY.xattr.security.capability', '')
    print(ascii(m.name), m.type.decode(), m.uid, m.size, int(m.mtime), m.linkname[:3], len(cap))
";
    let run = Command::new("python3")
        .args(["-c", script])
        .arg(&file)
        .output();
    let Ok(run) = run else {
        println!("skipped: there is no python3 here");
        return;
    };
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!(text.lines().count() as u64, summary.entries);
    let long = "n".repeat(200);
    let hundred = "hundred".repeat(15);
    for line in [
        format!("'deep/{long}' 5 0 0 1000000000  0"),
        format!("'deep/{long}/leaf' 0 0 4 1000000000  0"),
        format!("'{hundred}' 0 0 1 1000000000  0"),
        "'second' 1 0 0 1000000000 hun 0".to_owned(),
        "'link' 2 0 0 1000000000 ttt 0".to_owned(),
        "'pipe' 6 0 0 1000000000  0".to_owned(),
        r"'raw\udcff' 0 0 3 1000000000  0".to_owned(),
        r"'\xe4' 0 4000000000 5 1000000000  20".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn a_table_that_contradicts_the_disk_is_an_error() {
    let bench = Bench::new();
    let diff = bench.diff("bad");
    std::fs::create_dir(diff.join("d")).unwrap();
    let mut table = Attributes::default();
    table.insert(RootPath::new("/d"), owned_by(0, libc::S_IFREG | 0o644));
    let layer = bench.layer("bad", &table);
    let error = write_tar(&bench.stack, &layer, &TarOptions::default(), Vec::new()).unwrap_err();
    assert!(matches!(error, LayerError::Disagreement { .. }), "{error}");
}

#[test]
fn a_whole_tree_has_no_whiteouts() {
    let bench = Bench::new();
    let diff = bench.diff("tree");
    std::fs::create_dir(diff.join("d")).unwrap();
    std::fs::set_permissions(diff.join("d"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(diff.join("d/f"), "x").unwrap();
    let mut stack = LayerStack::default();
    let mut table = own_everything(&diff);
    table.insert(RootPath::new("/d/f"), owned_by(42, libc::S_IFREG | 0o600));
    stack.push(bench.layer("tree", &table));
    let root = RootDir::open(&diff).unwrap();
    let mut tar = Vec::new();
    write_tree_tar(&root, &stack, &TarOptions::default(), &mut tar).unwrap();
    assert_eq!(
        listing(&tar),
        ["d/ 5 755 0 1000000000 ", "d/f 0 600 42 1000000000 x"]
    );
}

/// Changes made through a real overlay, mounted in a user namespace.
const CHANGES: &str = r#"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3,userxattr" "$4" || exit 77
cd "$4"
rm -rf dir; mkdir dir dir/sub; echo new > dir/sub/new
mv a/b/f2 a/moved
rm a/f1
rm keep/l; mkdir keep/l; echo z > keep/l/z
rm -rf keep/x; echo file > keep/x
echo x > n; ln n o
echo gone > p; rm p
cd /; umount "$4"
"#;

#[test]
fn what_overlayfs_leaves_behind_is_told_in_whiteouts() {
    let mut bench = Bench::new();
    let lower = bench.diff("lower");
    for dir in ["a/b", "dir/sub", "keep/x"] {
        std::fs::create_dir_all(lower.join(dir)).unwrap();
    }
    for file in ["a/f1", "a/b/f2", "dir/old", "dir/sub/deep", "keep/x/y"] {
        std::fs::write(lower.join(file), "").unwrap();
    }
    symlink("../a", lower.join("keep/l")).unwrap();
    bench
        .stack
        .push(bench.layer("lower", &Attributes::default()));
    let upper = bench.diff("upper");
    let [work, merged] = ["work", "merged"].map(|name| bench.dir.path().join(name));
    std::fs::create_dir(&work).unwrap();
    std::fs::create_dir(&merged).unwrap();
    let run = Command::new("unshare")
        .args(["-Urm", "sh", "-ec", CHANGES, "sh"])
        .args([&lower, &upper, &work, &merged])
        .output();
    if !run.as_ref().is_ok_and(|run| run.status.success()) {
        println!("skipped: no overlay can be mounted in a user namespace here: {run:?}");
        return;
    }
    let (tar, _) = bench.tar(&bench.layer("upper", &Attributes::default()));
    assert_eq!(
        names(&tar),
        [
            "a/",
            "a/.wh.f1",
            "a/b/",
            "a/b/.wh.f2",
            "a/moved",
            "dir/",
            "dir/.wh.old",
            "dir/sub/",
            "dir/sub/.wh.deep",
            "dir/sub/new",
            "keep/",
            "keep/l/",
            "keep/l/z",
            "keep/x",
            "n",
            "o"
        ]
    );
}

#[test]
fn a_tree_too_deep_to_walk_is_refused() {
    let bench = Bench::new();
    let mut dir = bench.diff("deep");
    for _ in 0..=MAX_DEPTH {
        dir.push("d");
    }
    std::fs::create_dir_all(&dir).unwrap();
    let layer = bench.layer("deep", &Attributes::default());
    let error = write_tar(&bench.stack, &layer, &TarOptions::default(), Vec::new()).unwrap_err();
    assert!(matches!(error, LayerError::Depth { .. }), "{error}");
}
