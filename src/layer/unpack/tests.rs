//! Layers as they come, and layers made to do harm: a case for each known attack on unpackers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::XattrFlags;
use tar::EntryType;

use super::super::tar::{Member, TRAILER};
use super::super::{Attributes, Layer, LayerStack, SingleId, TarOptions, disk, write_tar};
use super::*;

mod gnu;
mod round_trip;

/// An archive in the making.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn member(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        self.push(kind, name, link, content, 0o644, &BTreeMap::new());
        self
    }

    fn push(
        &mut self,
        kind: EntryType,
        name: &str,
        link: &str,
        content: &[u8],
        mode: u32,
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) {
        let member = Member {
            name: name.as_bytes(),
            link: link.as_bytes(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: content.len() as u64,
            mtime: 1_000_000_000,
            rdev: if kind == EntryType::Char {
                (1, 3)
            } else {
                (0, 0)
            },
            xattrs,
        };
        self.0.extend(member.encode());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.member(EntryType::Regular, name, "", content.as_bytes())
    }

    fn dir(mut self, name: &str) -> Self {
        self.push(EntryType::Directory, name, "", b"", 0o755, &BTreeMap::new());
        self
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Symlink, name, target, b"")
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Link, name, target, b"")
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&TRAILER);
        self.0
    }
}

/// Owners as far as whoever runs the tests can set them; a user's own stands for root.
struct TestIds;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Ids for TestIds {
    fn holds_uid(&self, _uid: u32) -> bool {
        is_root()
    }

    fn holds_gid(&self, _gid: u32) -> bool {
        is_root()
    }

    fn bypasses_modes(&self) -> bool {
        is_root()
    }
}

/// The same where nobody mounts an overlay.
struct TableIds;

impl Ids for TableIds {
    fn holds_uid(&self, uid: u32) -> bool {
        TestIds.holds_uid(uid)
    }

    fn holds_gid(&self, gid: u32) -> bool {
        TestIds.holds_gid(gid)
    }

    fn bypasses_modes(&self) -> bool {
        TestIds.bypasses_modes()
    }

    fn holds_marks(&self) -> bool {
        false
    }
}

/// A staging directory with a place beside it that nothing may touch.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("staging")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/victim"), "untouched").unwrap();
        Self { dir }
    }

    fn staging(&self) -> PathBuf {
        self.dir.path().join("staging")
    }

    fn diff(&self, path: &str) -> PathBuf {
        self.staging().join("diff").join(path)
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").display().to_string()
    }

    fn unpack(&self, tar: &[u8]) -> Result<Unpacked, LayerError> {
        let result = unpack(tar, &self.staging(), &TestIds);
        let outside = self.dir.path().join("outside");
        let victim = std::fs::read_to_string(outside.join("victim"));
        assert_eq!(victim.unwrap(), "untouched");
        assert_eq!(
            outside.read_dir().unwrap().count(),
            1,
            "something was put outside"
        );
        let mode = outside.metadata().unwrap().mode();
        assert_eq!(mode & 0o077, 0o055, "its mode was changed");
        let around = self.dir.path().read_dir().unwrap().count();
        assert_eq!(around, 2, "something was put beside the staging directory");
        result
    }

    fn layer(&self) -> Layer {
        Layer::open("unpacked", &self.staging()).unwrap()
    }
}

fn is_opaque(path: PathBuf) -> bool {
    disk::is_opaque(std::fs::File::open(path).unwrap()).unwrap()
}

fn is_whiteout(path: PathBuf) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| {
        metadata.mode() & libc::S_IFMT == libc::S_IFCHR && metadata.rdev() == 0
    })
}

/// Whether the temporary directory holds the marks of overlayfs.
fn holds_marks(bench: &Bench) -> bool {
    let dir = std::fs::File::open(bench.dir.path()).unwrap();
    let set = rustix::fs::fsetxattr(&dir, disk::OPAQUE, b"n", XattrFlags::empty());
    if set.is_err() {
        println!("skipped: the temporary directory holds no user.* attributes");
    }
    set.is_ok()
}

#[test]
fn entries_become_files() {
    let bench = Bench::new();
    let mut archive = Archive::default().dir("./").dir("usr/").dir("usr/lib/");
    let capability = [&[1, 0, 0, 2][..], &[0; 16]].concat();
    let xattrs = BTreeMap::from([
        (b"security.capability".to_vec(), capability.clone()),
        (b"user.note".to_vec(), b"dropped".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
    ]);
    archive.push(
        EntryType::Regular,
        "usr/lib/file",
        "",
        b"content",
        0o4711,
        &xattrs,
    );
    let tar = archive
        .link("lib", "usr/lib")
        .file("/lib/through", "inside")
        .hard("second", "./lib/file")
        .member(EntryType::Fifo, "pipe", "", b"")
        .member(EntryType::Char, "dev/null", "", b"")
        .end();
    let unpacked = bench.unpack(&tar).unwrap();
    assert_eq!(unpacked.diff_id, Digest::of(&tar));
    assert_eq!(unpacked.diff_size, tar.len() as u64);
    assert_eq!(unpacked.implied, [RootPath::new("/dev")]);
    let file = bench.diff("usr/lib/file").metadata().unwrap();
    assert_eq!((file.mtime(), file.nlink()), (1_000_000_000, 2));
    assert_eq!(bench.diff("usr").metadata().unwrap().mtime(), 1_000_000_000);
    let through = std::fs::read_to_string(bench.diff("usr/lib/through"));
    assert_eq!(through.unwrap(), "inside");
    assert!(bench.diff("dev/null").metadata().unwrap().is_file());

    let layer = bench.layer();
    let device = layer.attributes().get(&RootPath::new("/dev/null")).unwrap();
    assert_eq!((device.mode, device.rdev), (libc::S_IFCHR | 0o644, (1, 3)));
    let mut out = Vec::new();
    write_tar(
        &LayerStack::default(),
        &layer,
        &TarOptions::default(),
        &mut out,
    )
    .unwrap();
    let mut reader = TarReader::new(&out[..]);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.shown() == "usr/lib/file" {
            assert_eq!(entry.link, b"second", "the first name in order is the file");
            assert_eq!(entry.mode, 0o4711);
        }
        if let Some(value) = entry.xattrs.get(&b"security.capability"[..]) {
            assert_eq!((entry.shown(), value), ("second".to_owned(), &capability));
        }
        assert_eq!((entry.uid, entry.gid), (0, 0), "{}", entry.shown());
        found.push(entry.shown());
    }
    found.sort();
    assert_eq!(
        found,
        [
            "dev/",
            "dev/null",
            "lib",
            "pipe",
            "second",
            "usr/",
            "usr/lib/",
            "usr/lib/file",
            "usr/lib/through"
        ]
    );
}

#[test]
fn whiteouts_and_entries_of_one_name_in_either_order() {
    let bench = Bench::new();
    if !holds_marks(&bench) {
        return;
    }
    let tar = Archive::default()
        .file("gone/.wh.file", "")
        .file(".wh.before", "")
        .file("before", "new")
        .file("after", "new")
        .file(".wh.after", "")
        .file(".wh.dir", "")
        .dir("dir/")
        .file("dir/own", "")
        .dir("late/")
        .file("late/own", "")
        .file(".wh.late", "")
        .file(".wh.parent", "")
        .file("parent/own", "")
        .dir("opaque/")
        .file("opaque/own", "")
        .file("opaque/.wh..wh..opq", "")
        .file(".wh..wh.plnk/1.2", "")
        .end();
    bench.unpack(&tar).unwrap();
    assert!(is_whiteout(bench.diff("gone/file")));
    for file in [
        "before",
        "after",
        "dir/own",
        "late/own",
        "parent/own",
        "opaque/own",
    ] {
        assert!(bench.diff(file).is_file(), "{file}");
    }
    for dir in ["dir", "late", "parent", "opaque"] {
        assert!(is_opaque(bench.diff(dir)), "{dir}");
    }
    assert!(!is_opaque(bench.diff("gone")));
    assert_eq!(bench.diff("").read_dir().unwrap().count(), 7);
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let bench = Bench::new();
    let tar = Archive::default()
        .file("a", "first")
        .hard("b", "a")
        .file("a", "second")
        .dir("d/")
        .file("d/inner", "")
        .file("d", "a file now")
        .link("l", "d")
        .dir("l/")
        .file("l/x", "")
        .end();
    bench.unpack(&tar).unwrap();
    let read = |path| std::fs::read_to_string(bench.diff(path)).unwrap();
    assert_eq!(
        (read("a"), read("b"), read("d")),
        ("second".into(), "first".into(), "a file now".into())
    );
    assert!(bench.diff("l").symlink_metadata().unwrap().is_dir());
}

#[test]
fn nothing_leads_outside() {
    // What every case may do is write below the root; Bench::unpack looks at the outside.
    let case = |name: &str, allowed: bool, make: &dyn Fn(&str, Archive) -> Archive| {
        let bench = Bench::new();
        let tar = make(&bench.outside(), Archive::default()).end();
        let result = bench.unpack(&tar);
        assert_eq!(result.is_ok(), allowed, "{name}: {result:?}");
    };
    case("1 dot dot in a name", false, &|_, a| {
        a.file("../outside/x", "")
    });
    case("1 dot dot inside", false, &|_, a| {
        a.dir("d/").file("d/../../x", "")
    });
    case("2 through a planted link", true, &|out, a| {
        a.link("x", out).file("x/tool", "evil")
    });
    case("2 more dots than depth", true, &|_, a| {
        a.link("a/b", "../../../../../../outside").file("a/b/x", "")
    });
    case("2 a loop that nobody enters", true, &|_, a| {
        a.link("dash", "dash")
    });
    case("2 a loop as parent", false, &|_, a| {
        a.link("l", "l").file("l/x", "")
    });
    case("4 a chain of links", true, &|out, a| {
        a.link("one", "two")
            .link("two", &format!("three/{out}"))
            .link("three", "/")
            .file("one/x", "")
    });
    case("4 hard link through a link", false, &|out, a| {
        a.link("x", out).hard("y", "x/victim")
    });
    case(
        "4 writing through a hard link to a link",
        true,
        &|out, a| {
            a.link("x", &format!("{out}/victim"))
                .hard("y", "x")
                .file("y", "evil")
        },
    );
    case("5 relative hard link", false, &|_, a| {
        a.hard("y", "Cargo.toml")
    });
    case("5 hard link upwards", false, &|_, a| {
        a.hard("y", "../outside/victim")
    });
    case("5 absolute hard link", false, &|out, a| {
        a.hard("y", &format!("{out}/victim"))
    });
    case("6 a file over a link", true, &|out, a| {
        a.link("x", &format!("{out}/victim")).file("x", "evil")
    });
    case("8 the root is a link", false, &|out, a| {
        a.link("./", out).file("x", "")
    });
    case("8 the root is a file", false, &|_, a| a.file(".", ""));
    case("9 whiteout through a link", true, &|out, a| {
        a.link("etc", out).file("etc/.wh.victim", "")
    });
    case("9 whiteout of dot dot", false, &|_, a| {
        a.file("d/.wh...", "")
    });
    case("9 whiteout of dot", false, &|_, a| a.file("d/.wh..", ""));
    case("9 whiteout of nothing", false, &|_, a| a.file("d/.wh.", ""));
    case("9 entry below a whiteout", false, &|_, a| {
        a.file(".wh.x/y", "")
    });
    case("9 hard link to a whiteout", false, &|_, a| {
        a.file(".wh.x", "").hard("y", "x")
    });
    case("10 directory over a link", true, &|out, mut a| {
        a = a.link("foo", out);
        a.push(
            EntryType::Directory,
            "foo/",
            "",
            b"",
            0o777,
            &BTreeMap::new(),
        );
        a
    });
    case("a parent that is a file", false, &|_, a| {
        a.file("f", "").file("f/x", "")
    });
    case("a hard link to a directory", false, &|_, a| {
        a.dir("d/").hard("x", "d")
    });
    case("a hard link to itself", false, &|_, a| {
        a.file("x", "").hard("x", "./x")
    });
    case("a name of nothing", false, &|_, a| a.file("", ""));
}

#[test]
fn an_opaque_mark_through_a_link_stays_inside() {
    let bench = Bench::new();
    if !holds_marks(&bench) {
        return;
    }
    let tar = Archive::default()
        .link("etc", &bench.outside())
        .file("etc/.wh..wh..opq", "")
        .end();
    bench.unpack(&tar).unwrap();
    assert!(!is_opaque(PathBuf::from(bench.outside())));
}

#[test]
fn a_pax_size_rules_over_the_header() {
    // The header says 0: a reader that believes it would find the smuggled entry in the content.
    let smuggled = Archive::default().file("smuggled", "").0;
    let mut bytes = Vec::new();
    let record = format!("13 size={:04}\n", smuggled.len());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_path("pax").unwrap();
    header.set_size(record.len() as u64);
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(record.as_bytes());
    bytes.resize(1024, 0);
    bytes.extend(Archive::default().file("outer", "").0);
    bytes.extend(smuggled);
    let bench = Bench::new();
    bench.unpack(&Archive(bytes).end()).unwrap();
    assert_eq!(bench.diff("outer").metadata().unwrap().len(), 512);
    assert!(!bench.diff("smuggled").exists());
}

#[test]
fn what_cannot_be_extracted_is_named() {
    let special = |flag: u8, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..3].copy_from_slice(b"odd");
        header.as_old_mut().linkflag = [flag];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let cases = [
        (special(b'S', 7), "sparse map has 0 bytes, 7 are stored"),
        (special(b'M', 0), "several volumes"),
        (special(b'Z', 0), "'Z'"),
        (special(b'x', 2 << 20), "2097152"),
        (special(b'L', u64::MAX >> 4), "more than 1048576"),
        (special(b'0', 4096), "archive ends"),
        (special(b'x', 3), "missing"),
        (vec![1; 512], "checksum"),
        (
            vec![0; 512].into_iter().chain(special(b'0', 0)).collect(),
            "zero block",
        ),
        (special(b'0', 0)[..100].to_vec(), "100 bytes into a header"),
    ];
    for (bytes, expected) in cases {
        let bench = Bench::new();
        let tar = Archive::default().file("fine", "").raw(&bytes);
        let error = bench.unpack(&tar.0).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn an_archive_that_breaks_off_names_the_entry() {
    let tar = Archive::default()
        .file("first", "x")
        .file("second", &"y".repeat(5000))
        .end();
    for kind in ["plain", "gzip"] {
        let bytes = match kind {
            "plain" => tar[..3000].to_vec(),
            _ => {
                let mut gzip = super::super::Compressor::new(
                    super::super::Compression::Gzip { level: 1 },
                    1,
                    Vec::new(),
                )
                .unwrap();
                std::io::Write::write_all(&mut gzip, &tar).unwrap();
                let mut bytes = gzip.finish().unwrap();
                bytes.truncate(bytes.len() - 9);
                bytes
            }
        };
        let bench = Bench::new();
        let error = bench.unpack(&bytes).unwrap_err().to_string();
        assert!(kind == "gzip" || error.contains("second"), "{error}");
        assert!(kind == "plain" || error.contains("gzip"), "{error}");
    }
}

#[test]
fn trailing_data_is_part_of_the_digest() {
    let bench = Bench::new();
    let mut tar = Archive::default().file("a", "").end();
    tar.extend_from_slice(&[0; 9000]);
    let unpacked = bench.unpack(&tar).unwrap();
    assert_eq!(
        (unpacked.diff_id, unpacked.diff_size),
        (Digest::of(&tar), 512 + 1024 + 9000)
    );
}

#[test]
fn owners_that_the_disk_cannot_hold_are_recorded() {
    let bench = Bench::new();
    let member = Member {
        name: b"setuid",
        link: b"",
        kind: EntryType::Regular,
        mode: 0o4755,
        uid: 4_000_000_000,
        gid: 12,
        size: 0,
        mtime: -5,
        rdev: (0, 0),
        xattrs: &BTreeMap::new(),
    };
    let tar = Archive(member.encode()).end();
    unpack(&tar[..], &bench.staging(), &SingleId { uid: 0, gid: 0 }).unwrap();
    let layer = bench.layer();
    let attr = layer.attributes().get(&RootPath::new("/setuid")).unwrap();
    assert_eq!(
        (attr.uid, attr.gid, attr.mode),
        (4_000_000_000, 12, libc::S_IFREG | 0o4755)
    );
    let disk = bench.diff("setuid").metadata().unwrap();
    assert_eq!(disk.mode() & 0o7000, 0, "not set-id for somebody else");
    let mut again = Vec::new();
    write_tar(
        &LayerStack::default(),
        &layer,
        &TarOptions::default(),
        &mut again,
    )
    .unwrap();
    assert!(again == tar);
}

#[test]
fn directories_that_no_entry_describes_come_from_below() {
    let lower = Bench::new();
    let mut archive = Archive::default();
    archive.push(
        EntryType::Directory,
        "tmp/",
        "",
        b"",
        0o1777,
        &BTreeMap::new(),
    );
    archive.push(
        EntryType::Directory,
        "tmp/sub/",
        "",
        b"",
        0o750,
        &BTreeMap::new(),
    );
    lower.unpack(&archive.end()).unwrap();
    let mut below = LayerStack::default();
    below.push(lower.layer());

    let bench = Bench::new();
    let tar = Archive::default().file("tmp/sub/new/file", "").end();
    let unpacked = bench.unpack(&tar).unwrap();
    let paths = ["/tmp", "/tmp/sub", "/tmp/sub/new"].map(RootPath::new);
    assert_eq!(unpacked.implied, paths);
    let look = |path: &str| {
        let metadata = bench.diff(path).metadata().unwrap();
        (metadata.mode() & 0o7777, metadata.mtime())
    };
    assert_eq!(look("tmp/sub"), (0o755, 0));
    adopt_implied(&bench.staging(), &below, &unpacked.implied, &TestIds).unwrap();
    assert_eq!(look("tmp"), (0o1777, 1_000_000_000));
    assert_eq!(look("tmp/sub"), (0o750, 1_000_000_000));
    assert_eq!(look("tmp/sub/new"), (0o755, 0));
}

#[test]
fn the_table_is_empty_where_the_disk_holds_everything() {
    if !is_root() {
        println!("skipped: only root can give files away");
        return;
    }
    let bench = Bench::new();
    let mut archive = Archive::default().dir("d/");
    archive.push(EntryType::Regular, "d/f", "", b"", 0o6755, &BTreeMap::new());
    bench.unpack(&archive.link("l", "d").end()).unwrap();
    assert_eq!(*bench.layer().attributes(), Attributes::default());
    let mode = bench.diff("d/f").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o6755);
    assert_eq!(
        OsStr::from_bytes(b"d"),
        std::fs::read_link(bench.diff("l")).unwrap()
    );
}
