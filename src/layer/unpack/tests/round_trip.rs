//! Random layers, written and unpacked and written again.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Node {
    File { size: usize, mode: u32 },
    Dir { mode: u32 },
    Link(String),
    Hard,
    Fifo,
    Device(u32),
    Deleted,
    Opaque,
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => (0_usize..3000, 0_u32..0o10000).prop_map(|(size, mode)| Node::File { size, mode }),
        3 => (0_u32..0o10000).prop_map(|mode| Node::Dir { mode }),
        1 => "[a-z/.]{1,120}".prop_map(Node::Link),
        1 => Just(Node::Hard),
        1 => Just(Node::Fifo),
        1 => (0_u32..1000).prop_map(Node::Device),
        1 => Just(Node::Deleted),
        1 => Just(Node::Opaque),
    ]
}

/// Few and colliding names, odd bytes, some long.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => proptest::sample::select(vec![b"a".to_vec(), b"b".to_vec(), b"a.b".to_vec(), b"a0".to_vec()]),
        1 => proptest::collection::vec(1_u8..=255, 1..120)
            .prop_map(|bytes| bytes.into_iter().map(|b| if b == b'/' { b'_' } else { b }).collect()),
    ]
}

fn entry() -> impl Strategy<Value = (Vec<Vec<u8>>, Node, u32, i64)> {
    (
        proptest::collection::vec(name(), 1..4),
        node(),
        prop_oneof![Just(0_u32), 1_u32..70_000, 2_000_000_u32..u32::MAX],
        -3_i64..3_000_000_000,
    )
}

/// Writes the tree as an archive would have it, through the unpacker of a made-up tar.
fn archive(entries: &[(Vec<Vec<u8>>, Node, u32, i64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut files: Vec<Vec<u8>> = Vec::new();
    let none = BTreeMap::new();
    for (parts, node, uid, mtime) in entries {
        let mut name = parts.join(&b'/');
        let parts_bad = parts
            .iter()
            .any(|part| part.starts_with(b".wh.") || part == b".." || part == b".");
        if parts_bad {
            continue;
        }
        let mut link = Vec::new();
        let mut content = Vec::new();
        let mut rdev = (0, 0);
        let mut permissions = 0o755;
        let kind = match node {
            Node::File { size, mode } => {
                content = vec![b'c'; *size];
                permissions = *mode;
                files.push(name.clone());
                EntryType::Regular
            }
            Node::Dir { mode } => {
                permissions = *mode;
                name.push(b'/');
                EntryType::Directory
            }
            Node::Link(target) => {
                link = target.clone().into_bytes();
                EntryType::Symlink
            }
            Node::Hard => match files.last() {
                Some(file) => {
                    link = file.clone();
                    EntryType::Link
                }
                None => continue,
            },
            Node::Fifo => EntryType::Fifo,
            Node::Device(minor) => {
                rdev = (7, *minor);
                EntryType::Block
            }
            Node::Deleted => {
                let last = name.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
                name.splice(last..last, b".wh.".iter().copied());
                EntryType::Regular
            }
            Node::Opaque => {
                name.extend_from_slice(b"/.wh..wh..opq");
                EntryType::Regular
            }
        };
        let member = Member {
            name: &name,
            link: &link,
            kind,
            mode: permissions,
            uid: *uid,
            gid: *uid,
            size: content.len() as u64,
            mtime: *mtime,
            rdev,
            xattrs: &none,
        };
        out.extend(member.encode());
        out.extend_from_slice(&content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend_from_slice(&TRAILER);
    out
}

fn tar_of(below: &LayerStack, dir: &Path) -> Vec<u8> {
    let layer = Layer::open("layer", dir).unwrap();
    let mut out = Vec::new();
    write_tar(below, &layer, &TarOptions::default(), &mut out).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Unpacking what was written, and writing it again, gives the same bytes; with owners on
    /// the disk and with owners in the table.
    #[test]
    fn the_canonical_form_is_a_fixed_point(
        lower in proptest::collection::vec(entry(), 0..8),
        upper in proptest::collection::vec(entry(), 0..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let stage = |name: &str, tar: &[u8], ids: &dyn Ids| {
            let staging = dir.path().join(name);
            std::fs::create_dir(&staging).unwrap();
            unpack(tar, &staging, ids).map(|_| staging)
        };
        // Random archives may well be refused (a file as a parent); those say nothing here.
        let lower_entries = lower;
        let (Ok(lower), Ok(first)) = (
            stage("lower", &archive(&lower_entries), &TestIds),
            stage("first", &archive(&upper), &TestIds),
        ) else {
            return Ok(());
        };
        let mut below = LayerStack::default();
        below.push(Layer::open("lower", &lower).unwrap());
        let tar = tar_of(&below, &first);
        let table = archive(&upper);
        let marked = stage("marked", &table, &TableIds).unwrap();
        prop_assert!(tar_of(&below, &marked) == tar, "by marks in the table");
        let mut on_marked = below.clone();
        let mut on_disk = below.clone();
        on_marked.push(Layer::open("marked", &marked).unwrap());
        on_disk.push(Layer::open("first", &first).unwrap());
        let again = archive(&lower_entries);
        if let (Ok(one), Ok(other)) = (
            stage("top", &again, &TestIds),
            stage("top-marked", &again, &TableIds),
        ) {
            let on_disk = tar_of(&on_disk, &one);
            prop_assert!(tar_of(&on_marked, &other) == on_disk, "over marks in the table");
        }
        let second = stage("second", &tar, &TestIds).unwrap();
        prop_assert!(tar_of(&below, &second) == tar, "by owners on disk");
        // Nobody else can hold root's files while modes keep him out.
        if is_root() {
            let single = SingleId { uid: 0, gid: 0 };
            let third = stage("third", &tar, &single).unwrap();
            prop_assert!(tar_of(&below, &third) == tar, "by owners in the table");
        }
    }
}
