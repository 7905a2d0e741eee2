use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, OFlags, fgetxattr, openat, utimensat};

use super::super::Attr;
use super::*;

/// Makes a tree: a letter, a path, and what the letter needs; `@5` sets the time, `%700` the mode. Everything else is of
/// time 3 and of modes 755 and 644. `d` directory, `D` opaque one, `f` file with content, `l` link to, `h` another name of, `p` pipe,
/// `w` deletion.
fn make(root: &Path, entries: &[&str]) {
    fs::create_dir_all(root).unwrap();
    let mut times = Vec::new();
    for entry in entries {
        let mut words = entry.split(' ');
        let (kind, path) = (words.next().unwrap(), root.join(words.next().unwrap()));
        let (mut time, mut mode, mut rest) = (3, None, "");
        for word in words {
            match word.split_at(1) {
                ("@", value) => time = value.parse().unwrap(),
                ("%", value) => mode = Some(u32::from_str_radix(value, 8).unwrap()),
                _ => rest = word,
            }
        }
        let usual = if kind.eq_ignore_ascii_case("d") {
            0o755
        } else {
            0o644
        };
        match kind {
            "d" => fs::create_dir(&path).unwrap(),
            "D" => {
                fs::create_dir(&path).unwrap();
                let dir = fs::File::open(&path).unwrap();
                fsetxattr(&dir, disk::OPAQUE, b"y", XattrFlags::empty()).unwrap();
            }
            "f" => fs::write(&path, rest).unwrap(),
            "l" => symlink(rest, &path).unwrap(),
            "h" => fs::hard_link(root.join(rest), &path).unwrap(),
            "p" => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            "w" => mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap(),
            other => panic!("{other} makes nothing"),
        }
        if !matches!(kind, "l" | "w") {
            let mode = fs::Permissions::from_mode(mode.unwrap_or(usual));
            fs::set_permissions(&path, mode).unwrap();
        }
        times.push((path, time));
    }
    for (path, time) in times.iter().rev() {
        set_time(path, *time);
    }
    set_time(root, 1);
}

fn set_time(path: &Path, time: i64) {
    let at = |tv_nsec| Timespec {
        tv_sec: time,
        tv_nsec,
    };
    let times = Timestamps {
        last_access: at(0),
        last_modification: at(7),
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// What is in a tree, in order: the letter and the path, and the time of everything that is no deletion.
fn show(root: &Path) -> Vec<String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let letter = match FileType::from_raw_mode(meta.mode()) {
                FileType::Directory => {
                    let open = fs::File::open(&path).unwrap();
                    let marked = fgetxattr(&open, disk::OPAQUE, &mut [0; 8][..]).is_ok();
                    pending.push(path.clone());
                    if marked { "D" } else { "d" }
                }
                FileType::RegularFile => "f",
                FileType::Symlink => "l",
                FileType::Fifo => "p",
                _ => "w",
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let time = match letter {
                "w" => String::new(),
                _ => format!(" @{}", meta.mtime()),
            };
            found.insert(name.clone(), format!("{letter} {name}{time}"));
        }
    }
    found.into_values().collect()
}

fn holds_marks(dir: &Path) -> bool {
    let file = fs::File::open(dir).unwrap();
    let done = fsetxattr(&file, c"user.probe", b"y", XattrFlags::empty()).is_ok();
    if !done {
        println!("skipped: the temporary directory holds no user.* attributes");
    }
    done
}

fn open(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

/// Layers of these entries, lowest first.
fn stack(dir: &Path, layers: &[&[&str]]) -> LayerStack {
    let mut stack = LayerStack::default();
    for (number, entries) in layers.iter().enumerate() {
        let place = dir.join(number.to_string());
        make(&place.join("diff"), entries);
        stack.push(Layer::open(&number.to_string(), &place).unwrap());
    }
    stack
}

/// What is left of an upper directory over layers.
fn left(layers: &[&[&str]], upper: &[&str]) -> Option<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    if !holds_marks(dir.path()) {
        return None;
    }
    let below = stack(dir.path(), layers);
    let root = dir.path().join("upper");
    make(&root, upper);
    drop_unchanged(&open(&root), &below, &mut Attributes::default()).unwrap();
    assert_eq!(fs::metadata(&root).unwrap().mtime(), 1, "the root's time");
    Some(show(&root))
}

/// What it is about, the layer below, the upper directory, and what is left of that.
type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

fn check(rows: &[Row<'_>]) {
    for (about, below, upper, expected) in rows {
        let Some(left) = left(&[below], upper) else {
            return;
        };
        assert_eq!(left, *expected, "{about}");
    }
}

#[test]
fn what_was_copied_up_and_is_the_same_goes() {
    check(&[
        ("a file", &["f x one"], &["f x one"], &[]),
        ("a link", &["l x to"], &["l x to"], &[]),
        ("a pipe", &["p x"], &["p x"], &[]),
        ("a directory", &["d a", "f a/x 1"], &["d a"], &[]),
        (
            "with its directories",
            &["d a", "d a/b", "f a/b/x 1"],
            &["d a", "d a/b", "f a/b/x 1"],
            &[],
        ),
        (
            "beside a change",
            &["d a", "f a/x 1", "f a/y 1"],
            &["d a @9", "f a/x 1", "f a/y 2"],
            &["d a @9", "f a/y @3"],
        ),
        (
            "time of its directory",
            &["d a", "f a/x 1"],
            &["d a @9", "f a/x 1"],
            &["d a @9"],
        ),
        (
            "nothing below",
            &["d a"],
            &["d a", "f a/x 1"],
            &["d a @3", "f a/x @3"],
        ),
    ]);
}

#[test]
fn what_differs_stays() {
    check(&[
        ("content", &["f x one"], &["f x two"], &["f x @3"]),
        ("size", &["f x one"], &["f x four"], &["f x @3"]),
        ("time", &["f x one"], &["f x one @4"], &["f x @4"]),
        ("mode", &["f x one"], &["f x one %600"], &["f x @3"]),
        ("mode of a directory", &["d a"], &["d a %700"], &["d a @3"]),
        ("target", &["l x one"], &["l x two"], &["l x @3"]),
        ("type", &["l x one"], &["f x one"], &["f x @3"]),
        (
            "a file for a directory",
            &["d x", "f x/y 1"],
            &["f x 1"],
            &["f x @3"],
        ),
        (
            "a directory for a file",
            &["f x 1"],
            &["D x", "f x/y 1"],
            &["D x @3", "f x/y @3"],
        ),
        (
            "two names of one file",
            &["f x 1", "f y 1"],
            &["f x 1", "h z x"],
            &["f x @3", "f z @3"],
        ),
    ]);
}

#[test]
fn deletions_of_nothing_go() {
    check(&[
        ("of a file", &["f x 1"], &["w x"], &["w x"]),
        ("of a directory", &["d x"], &["w x"], &["w x"]),
        ("of nothing", &["d a"], &["d a", "w a/x"], &[]),
        (
            "the time stays",
            &["d a"],
            &["d a @8", "w a/x"],
            &["d a @8"],
        ),
    ]);
    let layers: [&[&str]; 2] = [&["f x 1", "d a"], &["w x"]];
    if let Some(left) = left(&layers, &["w x", "w a"]) {
        assert_eq!(left, ["w a"], "of what was deleted before");
    }
}

#[test]
fn a_directory_made_again_is_what_it_differs_in() {
    check(&[
        (
            "all the same",
            &["d a", "f a/x 1", "d a/b"],
            &["D a", "f a/x 1", "d a/b"],
            &[],
        ),
        ("empty", &["d a"], &["D a"], &[]),
        ("emptied", &["d a", "f a/x 1"], &["D a"], &["D a @3"]),
        (
            "nothing the same",
            &["d a", "f a/x 1"],
            &["D a", "f a/x 2"],
            &["D a @3", "f a/x @3"],
        ),
        (
            "one the same, one gone, one new",
            &["d a", "f a/x 1", "f a/y 1"],
            &["D a @6", "f a/x 1", "f a/z 1"],
            &["d a @6", "w a/y", "f a/z @3"],
        ),
        (
            "the same far below",
            &[
                "d a",
                "d a/b",
                "f a/b/x 1",
                "f a/b/y 1",
                "d a/c",
                "f a/c/x 1",
            ],
            &[
                "D a @6",
                "d a/b @6",
                "f a/b/x 1",
                "d a/c @6",
                "f a/c/x 2",
                "d a/n",
                "f a/n/x 1",
            ],
            &[
                "d a @6",
                "d a/b @6",
                "w a/b/y",
                "D a/c @6",
                "f a/c/x @3",
                "d a/n @3",
                "f a/n/x @3",
            ],
        ),
        (
            "something else instead",
            &["d a", "f a/x 1", "f a/b 1", "d a/c", "f a/c/x 1"],
            &["D a @6", "f a/x 1", "d a/b", "f a/b/y 1", "l a/c x"],
            &["d a @6", "d a/b @3", "f a/b/y @3", "l a/c @3"],
        ),
    ]);
}

#[test]
fn the_topmost_layer_that_has_a_name_counts() {
    type Row<'a> = (&'a [&'a [&'a str]], &'a [&'a str], &'a [&'a str]);
    let cases: [Row<'_>; 6] = [
        (&[&["f x 1"], &["f x 2"]], &["f x 1"], &["f x @3"]),
        (&[&["f x 1"], &["f x 2"]], &["f x 2"], &[]),
        (
            &[&["d a", "f a/x 1"], &["d a @5"]],
            &["d a @5", "f a/x 1"],
            &[],
        ),
        (
            &[&["d a", "f a/x 1"], &["d a @5"]],
            &["d a @3", "f a/x 1"],
            &["d a @3"],
        ),
        (
            &[&["d a", "f a/x 1"], &["D a"]],
            &["d a", "f a/x 1"],
            &["d a @3", "f a/x @3"],
        ),
        (
            &[&["d a", "f a/x 1"], &["f a 1"], &["D a"]],
            &["D a", "f a/x 1"],
            &["D a @3", "f a/x @3"],
        ),
    ];
    for (layers, upper, expected) in cases {
        let Some(left) = left(layers, upper) else {
            return;
        };
        assert_eq!(left, expected, "{upper:?} over {layers:?}");
    }
}

#[test]
fn content_is_compared_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let long = vec![7; 3 * (64 << 10) + 5];
    for (changed, expected) in [(None, 0), (Some(0), 1), (Some(long.len() - 1), 1)] {
        let place = dir.path().join(format!("{changed:?}"));
        make(&place.join("lower/diff"), &["f x"]);
        make(&place.join("upper"), &["f x"]);
        let mut other = long.clone();
        if let Some(at) = changed {
            other[at] = 8;
        }
        for (path, content) in [("lower/diff/x", &long), ("upper/x", &other)] {
            fs::write(place.join(path), content).unwrap();
            set_time(&place.join(path), 3);
        }
        let mut below = LayerStack::default();
        below.push(Layer::open("lower", &place.join("lower")).unwrap());
        let mut table = Attributes::default();
        drop_unchanged(&open(&place.join("upper")), &below, &mut table).unwrap();
        assert_eq!(show(&place.join("upper")).len(), expected, "{changed:?}");
    }
}

#[test]
fn extended_attributes_of_the_entry_count_and_marks_do_not() {
    for (name, value, stays) in [
        ("user.overlay.origin", "x", false),
        ("user.lapstrake.owner", "5:5", false),
        ("user.mine", "x", true),
    ] {
        for kind in ["f x 1", "d x"] {
            let dir = tempfile::tempdir().unwrap();
            if !holds_marks(dir.path()) {
                return;
            }
            let below = stack(dir.path(), &[&[kind]]);
            let upper = dir.path().join("upper");
            make(&upper, &[kind]);
            let file = fs::File::open(upper.join("x")).unwrap();
            fsetxattr(&file, name, value.as_bytes(), XattrFlags::empty()).unwrap();
            drop_unchanged(&open(&upper), &below, &mut Attributes::default()).unwrap();
            assert_eq!(upper.join("x").exists(), stays, "{name} of {kind}");
        }
    }
}

#[test]
fn tables_have_the_last_word() {
    let owned = |uid, mode| Attr {
        uid,
        gid: 0,
        mode,
        rdev: (0, 0),
        xattrs: BTreeMap::new(),
    };
    let capable = Attr {
        xattrs: BTreeMap::from([(b"security.capability".to_vec(), vec![1])]),
        ..owned(5, 0o100_644)
    };
    let device = Attr {
        rdev: (1, 3),
        ..owned(5, 0o020_644)
    };
    let other_device = Attr {
        rdev: (1, 5),
        ..device.clone()
    };
    let plain = owned(5, 0o100_644);
    for (above, below, stays) in [
        (Some(&plain), Some(&plain), false),
        (Some(&owned(6, 0o100_644)), Some(&plain), true),
        (None, Some(&plain), true),
        (Some(&plain), None, true),
        (Some(&capable), Some(&plain), true),
        (Some(&capable), Some(&capable), false),
        (Some(&device), Some(&device), false),
        (Some(&device), Some(&other_device), true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = RootPath::new("/x");
        let lower = dir.path().join("lower");
        make(&lower.join("diff"), &["f x"]);
        let mut table = Attributes::default();
        if let Some(attr) = below {
            table.insert(path.clone(), attr.clone());
        }
        table.save(&lower).unwrap();
        let mut stack = LayerStack::default();
        stack.push(Layer::open("lower", &lower).unwrap());
        make(&dir.path().join("upper"), &["f x"]);
        let mut table = Attributes::default();
        if let Some(attr) = above {
            table.insert(path.clone(), attr.clone());
        }
        drop_unchanged(&open(&dir.path().join("upper")), &stack, &mut table).unwrap();
        assert_eq!(
            dir.path().join("upper/x").exists(),
            stays,
            "{above:?} {below:?}"
        );
        assert_eq!(table.get(&path).is_some(), stays && above.is_some());
    }
}
