use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn target<'a>(&self, ids: &'a dyn Ids) -> Target<'a> {
        Target::new(RootDir::open(self.dir.path()).unwrap(), ids)
    }

    fn lstat(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.dir.path().join(path)).unwrap()
    }
}

fn may_give_away(test: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let may = std::os::unix::fs::chown(file.path(), Some(1234), Some(5678)).is_ok();
    if !may {
        eprintln!("{test}: skipped, this process may not give files away");
    }
    may
}

fn path(path: &str) -> RootPath {
    RootPath::new(path)
}

fn me() -> SingleId {
    SingleId {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

fn mine(mode: u32) -> Meta {
    Meta {
        uid: me().uid,
        gid: me().gid,
        mode,
        mtime: Some((1_000_000_000, 5)),
        ..Meta::default()
    }
}

fn bytes(mut content: &[u8]) -> Vec<u8> {
    let mut copy = Vec::new();
    std::io::Read::read_to_end(&mut content, &mut copy).unwrap();
    copy
}

#[test]
fn every_kind_of_entry_is_made_with_its_metadata() {
    let fixture = Fixture::new();
    let ids = me();
    let mut target = fixture.target(&ids);
    target.create_dir(&path("/d"), &mine(0o1750)).unwrap();
    target
        .create_file(
            &path("/d/f"),
            Content::Reader(&mut &b"data"[..]),
            &mine(0o4711),
        )
        .unwrap();
    target
        .create_symlink(&path("/d/l"), OsStr::new("../../x"), &mine(0o777))
        .unwrap();
    target.create_fifo(&path("/d/p"), &mine(0o640)).unwrap();
    target.hardlink(&path("/h"), &path("/d/f")).unwrap();
    target.set_times(&path("/d"), (1_000_000_000, 5)).unwrap();
    assert!(target.attributes().is_empty());
    for (name, mode) in [("d", 0o1750), ("d/f", 0o4711), ("d/p", 0o640)] {
        assert_eq!(fixture.lstat(name).mode() & 0o7777, mode, "{name}");
    }
    for name in ["d", "d/f", "d/l", "d/p"] {
        let stat = fixture.lstat(name);
        assert_eq!(
            (stat.mtime(), stat.mtime_nsec()),
            (1_000_000_000, 5),
            "{name}"
        );
    }
    assert_eq!(fixture.lstat("h").ino(), fixture.lstat("d/f").ino());
    assert_eq!(
        fs::read(fixture.dir.path().join("h")).unwrap(),
        bytes(b"data")
    );
}

#[test]
fn what_the_disk_cannot_hold_is_recorded_and_forgotten() {
    let fixture = Fixture::new();
    let ids = me();
    let mut target = fixture.target(&ids);
    let foreign = Meta {
        uid: 4_000_000,
        gid: 7,
        mode: 0o6755,
        ..Meta::default()
    };
    let file = path("/f");
    target
        .create_file(&file, Content::Reader(&mut &b""[..]), &foreign)
        .unwrap();
    let attr = target.attributes().get(&file).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode), (4_000_000, 7, 0o106_755));
    assert_eq!(
        fixture.lstat("f").mode() & 0o7777,
        0o755,
        "no power on disk"
    );
    let truth = target.metadata(&file).unwrap().unwrap();
    assert_eq!(truth.to_meta().mode, 0o6755);
    target.hardlink(&path("/g"), &file).unwrap();
    assert!(target.attributes().get(&path("/g")).is_some());
    target.set_metadata(&file, &mine(0o600)).unwrap();
    assert!(target.attributes().get(&file).is_none());
    target.remove_file(&path("/g")).unwrap();
    assert!(target.into_attributes().is_empty());
}

#[test]
fn a_device_is_a_placeholder_in_every_mode() {
    let fixture = Fixture::new();
    let mut target = fixture.target(&AllIds);
    let meta = Meta::root_owned(0o4666);
    let null = path("/null");
    target
        .create_device(&null, FileType::CharacterDevice, (1, 3), &meta)
        .unwrap();
    let stat = fixture.lstat("null");
    assert!(stat.is_file() && stat.len() == 0 && stat.mode() & 0o7777 == 0o666);
    let truth = target.metadata(&null).unwrap().unwrap();
    assert_eq!(
        (truth.file_type(), truth.rdev),
        (FileType::CharacterDevice, (1, 3))
    );
    target
        .set_metadata(&null, &Meta::root_owned(0o600))
        .unwrap();
    let truth = target.metadata(&null).unwrap().unwrap();
    assert_eq!((truth.mode, truth.rdev), (0o020_600, (1, 3)));
    for (kind, rdev) in [
        (FileType::CharacterDevice, (0, 0)),
        (FileType::RegularFile, (1, 3)),
    ] {
        let refused = target.create_device(&path("/w"), kind, rdev, &meta);
        assert!(refused.is_err(), "{kind:?} {rdev:?}");
    }
}

#[test]
fn no_link_is_followed_unasked() {
    let fixture = Fixture::new();
    let outside = tempfile::tempdir().unwrap();
    let ids = me();
    let mut target = fixture.target(&ids);
    symlink(outside.path(), fixture.dir.path().join("out")).unwrap();
    fs::create_dir(fixture.dir.path().join("real")).unwrap();
    symlink("real", fixture.dir.path().join("in")).unwrap();
    for name in ["/out/x", "/in/x"] {
        let made = target.create_file(&path(name), Content::Reader(&mut &b""[..]), &mine(0o644));
        assert!(made.is_err(), "{name}");
    }
    let resolved = target.resolve(&path("/in/x")).unwrap();
    assert_eq!(resolved, path("/real/x"));
    target
        .set_metadata(&path("/out"), &mine(0o777))
        .expect("the link itself");
    target.remove_tree(&path("/out")).unwrap();
    assert!(outside.path().exists());
    assert!(!target.remove_tree(&path("/out")).unwrap());
    assert!(target.remove_tree(&RootPath::root()).is_err());
}

#[test]
fn a_replaced_directory_is_not_written_through_a_stale_handle() {
    let fixture = Fixture::new();
    let ids = me();
    let mut target = fixture.target(&ids);
    for round in 0..2 {
        target.create_dir(&path("/d"), &mine(0o755)).unwrap();
        target.create_dir(&path("/d/e"), &mine(0o755)).unwrap();
        target
            .create_file(
                &path("/d/e/f"),
                Content::Reader(&mut &b"1"[..]),
                &mine(0o644),
            )
            .unwrap();
        assert!(target.stat(&path("/d/e/f")).unwrap().is_some(), "{round}");
        assert!(target.remove_tree(&path("/d")).unwrap());
        assert!(target.stat(&path("/d/e/f")).unwrap().is_none());
    }
}

#[test]
fn holes_stay_holes() {
    let fixture = Fixture::new();
    let source = tempfile::tempfile().unwrap();
    source.write_all_at(b"begin", 0).unwrap();
    source.write_all_at(b"end", 8 << 20).unwrap();
    source.set_len(16 << 20).unwrap();
    let ids = me();
    let mut target = fixture.target(&ids);
    let size = target
        .create_file(&path("/sparse"), Content::File(&source), &mine(0o644))
        .unwrap();
    let stat = fixture.lstat("sparse");
    assert_eq!((size, stat.len()), (16 << 20, 16 << 20));
    if source.metadata().unwrap().blocks() * 512 < 16 << 20 {
        assert!(stat.blocks() * 512 < 1 << 20, "{} blocks", stat.blocks());
    }
    let copy = File::open(fixture.dir.path().join("sparse")).unwrap();
    let mut end = [0; 3];
    copy.read_exact_at(&mut end, 8 << 20).unwrap();
    assert_eq!(&end, b"end");
}

#[test]
fn large_and_small_contents_arrive_whole() {
    let fixture = Fixture::new();
    let ids = me();
    let mut target = fixture.target(&ids);
    for size in [0, 1, 32 * 1024, 32 * 1024 + 1, 3 << 20] {
        let data: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(&data, 0).unwrap();
        let name = path(&format!("/{size}"));
        target
            .create_file(&name, Content::File(&source), &mine(0o644))
            .unwrap();
        let copy = fs::read(fixture.dir.path().join(size.to_string())).unwrap();
        assert!(copy == data, "{size}");
    }
}

#[test]
fn modes_that_lock_the_writer_out_are_recorded() {
    struct Ordinary(SingleId);
    impl Ids for Ordinary {
        fn holds_uid(&self, uid: u32) -> bool {
            self.0.holds_uid(uid)
        }
        fn holds_gid(&self, gid: u32) -> bool {
            self.0.holds_gid(gid)
        }
        fn bypasses_modes(&self) -> bool {
            false
        }
    }
    let fixture = Fixture::new();
    let ids = Ordinary(me());
    let mut target = fixture.target(&ids);
    target.create_dir(&path("/d"), &mine(0o555)).unwrap();
    target
        .create_file(&path("/d/f"), Content::Reader(&mut &b""[..]), &mine(0))
        .unwrap();
    assert_eq!(fixture.lstat("d").mode() & 0o7777, 0o755);
    assert_eq!(fixture.lstat("d/f").mode() & 0o7777, 0o600);
    let modes: Vec<u32> = target
        .attributes()
        .iter()
        .map(|(_, attr)| attr.mode)
        .collect();
    assert_eq!(modes, [0o040_555, 0o100_000]);
}

#[test]
fn records_of_lower_layers_come_along_until_replaced() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.dir.path().join("home/user")).unwrap();
    fs::write(fixture.dir.path().join("home/user/old"), "").unwrap();
    let attr = |mode| Attr {
        uid: 70_000,
        gid: 70_000,
        mode,
        rdev: (0, 0),
        xattrs: std::collections::BTreeMap::new(),
    };
    let below: std::collections::BTreeMap<RootPath, Attr> = [
        (path("/home/user"), attr(0o040_700)),
        (path("/home/user/old"), attr(0o100_600)),
    ]
    .into();
    let lower = |path: &RootPath| Ok(below.get(path).cloned());
    let ids = me();
    let mut target = fixture.target(&ids).with_lower(&lower);
    let old = target.metadata(&path("/home/user/old")).unwrap().unwrap();
    assert_eq!(old.uid, 70_000);
    target
        .create_file(
            &path("/home/user/new"),
            Content::Reader(&mut &b""[..]),
            &mine(0o644),
        )
        .unwrap();
    assert_eq!(
        target.attributes().get(&path("/home/user")),
        Some(&attr(0o040_700))
    );
    target.remove_file(&path("/home/user/old")).unwrap();
    target
        .create_file(
            &path("/home/user/old"),
            Content::Reader(&mut &b""[..]),
            &mine(0o644),
        )
        .unwrap();
    let old = target.metadata(&path("/home/user/old")).unwrap().unwrap();
    assert_eq!(old.uid, me().uid);
    target.remove_tree(&path("/home/user")).unwrap();
    target
        .create_dir(&path("/home/user"), &mine(0o755))
        .unwrap();
    assert!(target.attributes().is_empty(), "{:?}", target.attributes());
}

#[test]
fn capabilities_are_held_or_recorded_and_nothing_else_is() {
    let fixture = Fixture::new();
    let ids = me();
    let mut target = fixture.target(&ids);
    let mut value = vec![0, 0, 0, 2, 0, 4, 0, 0];
    value.resize(20, 0);
    let mut meta = mine(0o755);
    meta.xattrs = [
        (CAPABILITY.as_bytes().to_vec(), value.clone()),
        (b"user.note".to_vec(), b"x".to_vec()),
    ]
    .into();
    let file = path("/ping");
    target
        .create_file(&file, Content::Reader(&mut &b""[..]), &meta)
        .unwrap();
    let truth = target.metadata(&file).unwrap().unwrap();
    let expected = std::collections::BTreeMap::from([(CAPABILITY.as_bytes().to_vec(), value)]);
    assert_eq!(truth.xattrs, expected);
    target.set_metadata(&file, &mine(0o755)).unwrap();
    assert!(target.metadata(&file).unwrap().unwrap().xattrs.is_empty());
}

#[test]
fn owners_are_set_on_disk_where_it_holds_them() {
    if !may_give_away("owners_are_set_on_disk_where_it_holds_them") {
        return;
    }
    let fixture = Fixture::new();
    let mut target = fixture.target(&AllIds);
    let meta = Meta {
        uid: 1234,
        gid: 5678,
        mode: 0o6755,
        ..Meta::default()
    };
    target
        .create_file(&path("/f"), Content::Reader(&mut &b""[..]), &meta)
        .unwrap();
    target
        .create_symlink(&path("/l"), OsStr::new("nowhere"), &meta)
        .unwrap();
    for name in ["f", "l"] {
        let stat = fixture.lstat(name);
        assert_eq!((stat.uid(), stat.gid()), (1234, 5678), "{name}");
    }
    assert_eq!(fixture.lstat("f").mode() & 0o7777, 0o6755);
    assert!(target.into_attributes().is_empty());
}

#[test]
fn errors_name_the_operation_and_the_path() {
    let fixture = Fixture::new();
    let mut target = fixture.target(&AllIds);
    let error = target
        .create_dir(&path("/missing/dir"), &Meta::root_owned(0o755))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot create the directory /missing/dir in"),
        "{text}"
    );
}
