//! Trees that are turned from some layers to others, in one process and from one to the next, against
//! trees that were put together layer by layer.

use std::collections::HashSet;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::*;

/// Locks by a list, and remembers what stays.
#[derive(Debug, Default)]
struct Guard {
    taken: Mutex<HashSet<String>>,
    named: Mutex<u32>,
    boot: String,
}

impl Keeper for Guard {
    fn name(&self) -> io::Result<String> {
        let mut named = self.named.lock().unwrap();
        *named += 1;
        Ok(format!("tree{named}"))
    }

    fn take(&self, name: &str) -> io::Result<bool> {
        Ok(self.taken.lock().unwrap().insert(name.to_owned()))
    }

    fn give_back(&self, name: &str) {
        assert!(self.taken.lock().unwrap().remove(name), "{name}");
    }

    fn boot(&self) -> &str {
        &self.boot
    }

    fn stays(&self, dir: &Path) {
        assert!(Trees::is_clean(dir));
    }
}

/// A store of layers and trees, and the processes that use it one after the other.
struct Store {
    dir: tempfile::TempDir,
    keeper: Arc<Guard>,
    trees: Trees,
    /// Chains of layers, each topmost first.
    chains: Vec<Vec<Diff>>,
    layers: u32,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["trees", "layers"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let keeper = Arc::new(Guard::default());
        Self {
            trees: Self::process(&dir, &keeper),
            keeper,
            dir,
            chains: vec![Vec::new()],
            layers: 0,
        }
    }

    fn process(dir: &tempfile::TempDir, keeper: &Arc<Guard>) -> Trees {
        let keeper = Arc::clone(keeper);
        Trees::kept(dir.path().join("trees"), dir.path().to_owned(), keeper)
    }

    /// The process ends, and another one begins.
    fn next_process(&mut self) {
        let (none, next) = (
            Trees::at(PathBuf::new(), None),
            Self::process(&self.dir, &self.keeper),
        );
        drop(std::mem::replace(&mut self.trees, none));
        assert!(self.keeper.taken.lock().unwrap().is_empty());
        self.trees = next;
    }

    fn kept(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("trees")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn new_layer(&mut self) -> PathBuf {
        self.layers += 1;
        let dir = self.dir.path().join(format!("layers/{}", self.layers));
        fs::create_dir(&dir).unwrap();
        dir
    }

    /// A step on `chain`: checks what it is given, and gives its tree.
    #[track_caller]
    fn begin(&self, chain: &[Diff]) -> Changing {
        let changing = self.trees.change(chain).unwrap();
        assert_eq!(
            apart(model(changing.root().path())),
            apart(self.anew(chain))
        );
        assert_known(changing.root());
        changing
    }

    /// What the layers show, put on top of each other one by one.
    fn anew(&self, chain: &[Diff]) -> Model {
        let dir = self.dir.path().join("anew");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let root = open(&dir).unwrap();
        for lower in chain.iter().rev() {
            for path in lower.deleted.iter().chain(&lower.opaque) {
                if let Ok((dir, name)) = entry::open_parent(root.as_fd(), path) {
                    entry::remove(dir.as_fd(), &name).unwrap();
                }
            }
            let from = open(&lower.dir).unwrap();
            fill::fill(from.as_fd(), root.as_fd(), &dir).unwrap();
        }
        let shown = model(&dir);
        entry::remove(CWD, &entry::c_name(dir.as_os_str()).unwrap()).unwrap();
        let mut shown = shown;
        if chain.is_empty() {
            // It is made when it is asked for.
            shown.get_mut(Path::new("")).unwrap().modified = (0, 0);
        }
        shown
    }

    /// What who reads the layers sees, and what a tree shows that was made for it.
    fn read(&self, chain: &[Diff]) -> (Model, Model) {
        let shown = |trees: &Trees| {
            let reading = trees.read(chain).unwrap();
            model(&reading.tree.as_ref().unwrap().shared().place.clone())
        };
        let new = Trees::new(self.dir.path().join("new")).unwrap();
        let both = (shown(&self.trees), shown(&new));
        drop(new);
        fs::remove_dir_all(self.dir.path().join("new")).unwrap();
        both
    }

    /// The step is over; its layer is published on top of `chain`.
    fn commit(&mut self, changing: Changing, chain: &[Diff]) {
        let left = model(changing.root().path());
        self.commit_as(changing, chain, left);
    }

    /// The same, where the layer has to show `left`.
    fn commit_as(&mut self, changing: Changing, chain: &[Diff], left: Model) {
        let dir = self.new_layer();
        let mut diff = changing.finish(&dir.join("upper")).unwrap();
        fs::rename(&diff.dir, dir.join("diff")).unwrap();
        diff.dir = dir.join("diff");
        self.trees.published(&diff).unwrap();
        let chain: Vec<Diff> = [diff].into_iter().chain(chain.iter().cloned()).collect();
        assert_eq!(apart(self.anew(&chain)), apart(left));
        self.chains.push(chain);
    }
}

/// The snapshot is what the tree is.
#[track_caller]
fn assert_known(tree: &TreeRoot) {
    let state = tree.shared.lock();
    let found = difference::compare(tree.root(), tree.path(), &state.before).unwrap();
    assert!(found.0.is_empty(), "{:?}", found.0);
}

fn changes(random: &mut Random, root: &Path) {
    for _ in 0..random.below(40) {
        change(random, root);
        more(random, root);
    }
}

/// What layers of steps hold beside names and content.
fn more(random: &mut Random, root: &Path) {
    let path = root.join(random.path());
    let is_there = fs::symlink_metadata(&path).is_ok();
    match random.below(8) {
        0 if is_there && !path.is_symlink() => {
            let value = random.below(100).to_string();
            setxattr(&path, "user.test", value.as_bytes(), XattrFlags::empty()).unwrap_or_default();
        }
        1 if is_there && !path.is_symlink() => {
            rustix::fs::removexattr(&path, "user.test").unwrap_or_default();
        }
        2 => {
            mknodat(CWD, &path, FileType::Socket, Mode::from_raw_mode(0o640), 0).unwrap_or_default()
        }
        // The mark of an overlay, which is in no layer.
        3 => mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, 0).unwrap_or_default(),
        4 if is_there => {
            let owner = u32::try_from(random.below(3)).unwrap();
            drop(std::os::unix::fs::lchown(&path, Some(owner), Some(7)));
        }
        5 => drop(fs::remove_file(&path).and_then(|()| fs::create_dir(&path))),
        _ => {}
    }
}

/// A layer that no step here has made: type may follow on type without any mark.
fn foreign(random: &mut Random, store: &mut Store) -> Diff {
    let mut diff = Diff::from(store.new_layer());
    for _ in 0..random.below(30) {
        change(random, &diff.dir);
    }
    for _ in 0..random.below(6) {
        let path = random.path();
        let full = diff.dir.join(&path);
        let leads = full
            .parent()
            .is_some_and(|dir| fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir()));
        match fs::symlink_metadata(&full) {
            Ok(found) if found.is_dir() => diff.opaque.push(path),
            Err(_) if leads => diff.deleted.push(path),
            _ => {}
        }
    }
    diff
}

#[test]
fn a_tree_that_is_turned_is_what_one_is_that_is_made() {
    for seed in 1..16 {
        let mut random = Random(0xd1b5_4a32_d192_ed03_u64.wrapping_mul(seed));
        let mut store = Store::new();
        for _ in 0..14 {
            let at = usize::try_from(random.below(store.chains.len() as u64)).unwrap();
            let mut chain = store.chains[at].clone();
            if random.below(3) == 0 {
                // As a base of several layers, or as another stage goes on.
                let below = usize::try_from(random.below(chain.len() as u64 + 1)).unwrap();
                chain.drain(..below);
                chain.insert(0, foreign(&mut random, &mut store));
                store.chains.push(chain.clone());
            }
            if chain.is_empty() {
                chain.push(foreign(&mut random, &mut store));
            }
            let changing = store.begin(&chain);
            changes(&mut random, changing.root().path());
            match random.below(5) {
                0 => drop(changing),
                1 => changing.revert().unwrap(),
                _ => {
                    // An overlay has no such marks, and what is left of a step neither.
                    store.commit_without_marks(changing, &chain);
                }
            }
            if random.below(3) == 0 {
                let (kept, new) = store.read(&chain);
                assert_eq!(kept, new, "seed {seed}");
            }
            assert_eq!(store.trees.lock().doubts, [""; 0], "seed {seed}");
            if random.below(4) == 0 {
                store.next_process();
                // Whoever opens them finds them to be what they were.
                for name in store.kept() {
                    let name = name.file_name().unwrap().to_str().unwrap().to_owned();
                    let home = &store.trees.0.home;
                    assert!(Trees::is_clean(&home.dir.join(&name)), "seed {seed}");
                    assert!(store.keeper.take(&name).unwrap());
                    let tree = Tree::open(home, &name).unwrap();
                    tree.expect("it is what it was").leave().unwrap();
                }
            }
        }
    }
}

impl Store {
    /// As [`Self::commit`], where the step may have made what is in no layer.
    fn commit_without_marks(&mut self, changing: Changing, chain: &[Diff]) {
        let mut left = model(changing.root().path());
        left.retain(|_, node| node.mode & 0o170_000 != 0o020_000);
        self.commit_as(changing, chain, left);
    }
}

/// A store with a tree of one layer that is kept, and an inode of it.
fn one_kept() -> (Store, Vec<Diff>, u64) {
    let mut store = Store::new();
    let base = store.new_layer();
    fs::create_dir(base.join("d")).unwrap();
    fs::write(base.join("d/file"), "base").unwrap();
    fs::hard_link(base.join("d/file"), base.join("link")).unwrap();
    let chain = vec![Diff::from(base)];
    let inode = inode(&store.begin(&chain));
    let changing = store.begin(&chain);
    changing.revert().unwrap();
    let inode = inode_of(&store, &chain).max(inode);
    store.next_process();
    assert_eq!(store.kept().len(), 1);
    (store, chain, inode)
}

fn inode(changing: &Changing) -> u64 {
    let file = changing.root().path().join("d/file");
    fs::metadata(file).unwrap().ino()
}

fn inode_of(store: &Store, chain: &[Diff]) -> u64 {
    let changing = store.begin(chain);
    let found = inode(&changing);
    changing.revert().unwrap();
    found
}

#[test]
fn the_next_process_goes_on_with_what_is_kept() {
    let (mut store, chain, _) = one_kept();
    let first = inode_of(&store, &chain);
    store.next_process();
    assert_eq!(inode_of(&store, &chain), first);
    // Something on top, and back.
    let changing = store.begin(&chain);
    fs::write(changing.root().path().join("d/new"), "").unwrap();
    store.commit(changing, &chain);
    store.next_process();
    let longer = store.chains.last().unwrap().clone();
    assert_eq!(inode_of(&store, &longer), first);
    assert_eq!(inode_of(&store, &chain), first);
    store.next_process();
    assert_eq!(inode_of(&store, &longer), first);
}

#[test]
fn what_is_only_read_stays_clean() {
    let (mut store, chain, _) = one_kept();
    drop(store.read(&chain));
    store.next_process();
    let tree = store.kept().remove(0);
    let reading = store.trees.read(&chain).unwrap();
    assert!(Trees::is_clean(&tree));
    let again = store.trees.read(&chain).unwrap();
    assert!(Arc::ptr_eq(&reading, &again));
    // Somebody else cannot have it, and makes another one.
    let other = Store::process(&store.dir, &store.keeper);
    let theirs = other.read(&chain).unwrap();
    assert_ne!(
        fs::metadata(format!("/proc/self/fd/{}", fd(&theirs)))
            .unwrap()
            .ino(),
        fs::metadata(format!("/proc/self/fd/{}", fd(&reading)))
            .unwrap()
            .ino(),
    );
}

fn fd(reading: &Reading) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(&reading.root())
}

#[test]
fn a_tree_that_is_doubtful_is_not_used() {
    type Harm = fn(&mut Store, &Path, &[Diff]);
    let harms: &[(&str, Harm)] = &[
        ("content", |_, tree, _| {
            fs::write(tree.join("root/d/file"), "evil").unwrap();
        }),
        (
            "content of the same size, and the time set back",
            |_, tree, _| {
                let path = tree.join("root/d/file");
                let time = fs::metadata(&path).unwrap().modified().unwrap();
                fs::write(&path, "EVIL").unwrap();
                let file = File::options().write(true).open(&path).unwrap();
                file.set_modified(time).unwrap();
            },
        ),
        ("a new file", |_, tree, _| {
            fs::write(tree.join("root/new"), "").unwrap();
        }),
        ("a file that is gone", |_, tree, _| {
            fs::remove_file(tree.join("root/link")).unwrap();
        }),
        ("an attribute", |_, tree, _| {
            let path = tree.join("root/d/file");
            setxattr(path, "user.test", b"x", XattrFlags::empty()).unwrap();
        }),
        ("another name", |_, tree, _| {
            fs::hard_link(tree.join("root/d/file"), tree.join("outside")).unwrap();
        }),
        ("something aside", |_, tree, _| {
            fs::write(tree.join("aside/1"), "").unwrap();
        }),
        ("no snapshot", |_, tree, _| {
            fs::remove_file(tree.join("snapshot")).unwrap();
        }),
        ("half a snapshot", |_, tree, _| {
            let bytes = fs::read(tree.join("snapshot")).unwrap();
            fs::write(tree.join("snapshot"), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("half a record", |_, tree, _| {
            let bytes = fs::read(tree.join("record")).unwrap();
            fs::write(tree.join("record"), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("no record", |_, tree, _| {
            fs::remove_file(tree.join("record")).unwrap();
        }),
        ("another boot", |store, _, _| {
            let keeper = Guard {
                boot: "another".into(),
                named: Mutex::new(10),
                ..Guard::default()
            };
            store.keeper = Arc::new(keeper);
            store.trees = Store::process(&store.dir, &store.keeper);
        }),
        ("a process that was killed", |store, _, chain| {
            let changing = store.trees.change(chain).unwrap();
            fs::write(changing.root().path().join("half"), "").unwrap();
            std::mem::forget(changing);
            store.keeper.taken.lock().unwrap().clear();
            store.trees = Store::process(&store.dir, &store.keeper);
        }),
        ("a step that failed", |store, _, chain| {
            drop(store.trees.change(chain).unwrap());
        }),
        ("a layer that is another one", |_, _, chain| {
            let dir = &chain[0].dir;
            let moved = dir.with_extension("old");
            fs::rename(dir, &moved).unwrap();
            fs::create_dir_all(dir.join("d")).unwrap();
            fs::write(dir.join("d/file"), "other").unwrap();
        }),
    ];
    for (what, harm) in harms {
        let (mut store, chain, _) = one_kept();
        let tree = store.kept().remove(0);
        let was = fs::metadata(tree.join("root")).unwrap().ino();
        let kept = File::open(tree.join("root")).unwrap();
        harm(&mut store, &tree, &chain);
        let changing = store.begin(&chain);
        let now = fs::metadata(changing.root().path()).unwrap().ino();
        // The directory is open, so that its number is not given again.
        assert_ne!(now, was, "{what}");
        drop(kept);
    }
}

#[test]
fn a_layer_that_goes_takes_no_other_tree_with_it() {
    let (mut store, chain, _) = one_kept();
    let changing = store.begin(&chain);
    fs::write(changing.root().path().join("top"), "").unwrap();
    store.commit(changing, &chain);
    let first = inode_of(&store, &chain);
    let changing = store.begin(&store.chains[1].clone());
    changing.revert().unwrap();
    // The layer on top is deleted while the tree still shows it: it cannot be told what it has brought.
    fs::remove_dir_all(store.chains[1][0].dir.parent().unwrap()).unwrap();
    let changing = store.begin(&chain);
    assert_ne!(inode(&changing), first);
}

#[test]
fn few_are_kept_and_of_one_base_fewer() {
    let mut store = Store::new();
    let mut chains = Vec::new();
    for number in 0..4 {
        let base = store.new_layer();
        fs::write(base.join("file"), number.to_string()).unwrap();
        chains.push(vec![Diff::from(base)]);
    }
    let same = [0, 0, 0].map(|at| store.trees.change(&chains[at]).unwrap());
    for changing in same {
        changing.revert().unwrap();
    }
    store.next_process();
    assert_eq!(store.kept().len(), KEPT_ALIKE);
    for chain in &chains {
        store.begin(chain).revert().unwrap();
    }
    store.next_process();
    assert_eq!(store.kept().len(), KEPT);
}
