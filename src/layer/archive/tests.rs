//! `ADD` of archives, compressed by whatever is installed.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use tar::EntryType;

use super::super::tar::{Member, TRAILER};
use super::super::{Compression, Compressor, SingleId};
use super::*;
use crate::rootfs::RootDir;

fn archive(members: &[(EntryType, &str, &str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, link, content) in members {
        let member = Member {
            name: name.as_bytes(),
            link: link.as_bytes(),
            kind: *kind,
            mode: 0o700,
            uid: 5,
            gid: 6,
            size: content.len() as u64,
            mtime: 1_000_000_000,
            rdev: (0, 0),
            xattrs: &BTreeMap::new(),
        };
        bytes.extend(member.encode());
        bytes.extend_from_slice(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.extend_from_slice(&TRAILER);
    bytes
}

fn pack(kind: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Compressor::new(kind, 1, Vec::new()).unwrap();
    io::Write::write_all(&mut out, bytes).unwrap();
    out.finish().unwrap()
}

/// The id of whoever runs the tests stands for root, every other owner is recorded.
fn ids() -> SingleId {
    SingleId { uid: 0, gid: 0 }
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn extract(&self, bytes: &[u8], dest: &str, chown: Option<(u32, u32)>) -> Extracted {
        let ids = ids();
        let root = RootDir::open(&self.path("")).unwrap();
        let mut target = Target::new(root, &ids);
        let result = extract_archive(bytes, &mut target, &RootPath::new(dest), chown);
        // Root's files have a record only where an ordinary user runs the tests.
        let owner = |path: &str| {
            let attr = target.attributes().get(&RootPath::new(path));
            attr.map_or((0, 0), |attr| (attr.uid, attr.gid))
        };
        Extracted {
            file: owner("/dest/file"),
            dest: owner("/dest"),
            implied: owner("/dest/made"),
            result,
        }
    }
}

/// How it ended, and the true owners.
struct Extracted {
    result: Result<(), LayerError>,
    file: (u32, u32),
    dest: (u32, u32),
    implied: (u32, u32),
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;

#[test]
fn content_tells_an_archive() {
    let tar = archive(&[(FILE, "a", "", "x")]);
    let gzip = pack(Compression::Gzip { level: 6 }, &tar);
    let zstd = pack(Compression::Zstd { level: 3 }, &tar);
    let text = b"hello, world\n".repeat(100);
    let cases = [
        ("tar", tar.clone(), true),
        ("gzip", gzip.clone(), true),
        ("zstd", zstd, true),
        ("text", text.clone(), false),
        (
            "gzip of text",
            pack(Compression::Gzip { level: 6 }, &text),
            false,
        ),
        ("cut gzip", gzip[..20].to_vec(), false),
        ("half a header", tar[..300].to_vec(), false),
        ("zeros", vec![0; 4096], false),
        ("nothing", Vec::new(), false),
        ("a damaged header", [&b"b"[..], &tar[1..]].concat(), false),
    ];
    for (name, bytes, expected) in cases {
        let mut file = Cursor::new(bytes);
        assert_eq!(sniff_archive(&mut file).unwrap(), expected, "{name}");
        assert_eq!(file.position(), 0, "{name}");
    }
}

#[test]
fn the_destination_is_a_directory_that_the_archive_does_not_change() {
    let tar = archive(&[
        (DIR, "./", "", ""),
        (FILE, "file", "", "text"),
        (FILE, "made/inner", "", ""),
    ]);
    let bench = Bench::new();
    let new = bench.extract(&tar, "/dest", None);
    new.result.unwrap();
    assert_eq!((new.file, new.dest, new.implied), ((5, 6), (0, 0), (0, 0)));
    assert_eq!(
        std::fs::read_to_string(bench.path("dest/file")).unwrap(),
        "text"
    );
    assert_eq!(bench.path("dest").metadata().unwrap().mode() & 0o777, 0o755);
    let file = bench.path("dest/file").metadata().unwrap();
    assert_eq!(file.mtime(), 1_000_000_000);

    let bench = Bench::new();
    let owned = bench.extract(&tar, "/dest", Some((7, 8)));
    owned.result.unwrap();
    let all = (7, 8);
    assert_eq!((owned.file, owned.dest, owned.implied), (all, all, all));
}

#[test]
fn what_is_there_is_merged_or_replaced() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("dest/dir")).unwrap();
    std::fs::write(bench.path("dest/dir/kept"), "").unwrap();
    std::fs::write(bench.path("dest/file"), "old").unwrap();
    std::fs::create_dir(bench.path("dest/becomes")).unwrap();
    std::fs::write(bench.path("dest/becomes/gone"), "").unwrap();
    symlink("dest", bench.path("way")).unwrap();
    let tar = archive(&[
        (DIR, "dir/", "", ""),
        (FILE, "file", "", "new"),
        (FILE, "becomes", "", "a file"),
        (EntryType::Link, "second", "file", ""),
    ]);
    let gzip = pack(Compression::Gzip { level: 1 }, &tar);
    bench.extract(&gzip, "/way", None).result.unwrap();
    assert!(bench.path("dest/dir/kept").exists());
    assert_eq!(
        bench.path("dest/dir").metadata().unwrap().mode() & 0o777,
        0o700
    );
    assert_eq!(
        std::fs::read_to_string(bench.path("dest/second")).unwrap(),
        "new"
    );
    assert!(bench.path("dest/becomes").is_file());
}

#[test]
fn links_stay_below_the_destination() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("etc")).unwrap();
    let tar = archive(&[
        (LINK, "up", "../../../../etc", ""),
        (FILE, "up/passwd", "", "evil"),
        (LINK, "absolute", "/etc", ""),
        (FILE, "absolute/shadow", "", "evil"),
    ]);
    bench.extract(&tar, "/dest", None).result.unwrap();
    assert_eq!(bench.path("etc").read_dir().unwrap().count(), 0);
    assert!(bench.path("dest/etc/passwd").is_file());
    assert!(bench.path("dest/etc/shadow").is_file());
}

#[test]
fn what_an_archive_must_not_hold() {
    let cases = [
        archive(&[(FILE, "../x", "", "")]),
        archive(&[(FILE, "d/.wh.x", "", "")]),
        archive(&[(FILE, ".wh..wh..opq", "", "")]),
        archive(&[(EntryType::Link, "x", "../root", "")]),
        archive(&[(EntryType::Char, "x", "", "")]),
        archive(&[(FILE, "x", "", "content")])[..600].to_vec(),
    ];
    for (index, bytes) in cases.iter().enumerate() {
        let result = Bench::new().extract(bytes, "/dest", None).result;
        assert!(result.is_err(), "case {index}");
    }
}
