//! Where builds are made: a home, stores with the same base image, and the program.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the base image is made of.
const BUSYBOX: &str = "/bin/busybox";
/// Everything is as old as that.
const EPOCH: &str = "1000000000";

/// A directory with a home, contexts and stores.
pub struct Bench {
    pub dir: tempfile::TempDir,
}

/// What a build came to.
#[derive(Debug)]
pub struct Built {
    pub code: Option<i32>,
    /// The digest of the manifest.
    pub digest: String,
    /// The numbers of the steps that were executed.
    pub executed: BTreeSet<u32>,
    /// The numbers of the steps that came from the cache.
    pub cached: BTreeSet<u32>,
    pub err: String,
}

impl Bench {
    /// None where there is nothing to make a base image of, which it says.
    pub fn new() -> Option<Self> {
        if !Path::new(BUSYBOX).exists() {
            eprintln!("skipped: no {BUSYBOX}; install busybox-static");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        for dir in ["bin", "tmp", "proc", "dev", "sys", "w"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for name in [
            "sh", "cat", "echo", "find", "sort", "stat", "test", "readlink", "mkdir", "rm", "mv",
            "ln", "cp", "chmod", "true", "sleep", "seq", "head",
        ] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::create_dir(dir.path().join("home")).unwrap();
        Some(Self { dir })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program on one of the stores.
    pub fn command(&self, store: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lapstrake"));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .arg("--root")
            .arg(self.path(store))
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Makes a store that has the base image.
    pub fn store(&self, name: &str) {
        let done = self.command(name, &["import", "rootfs", "base"]).output();
        let done = done.unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{err}");
    }

    /// The command of a build that writes what it made to `META`.
    pub fn build_command(&self, store: &str, context: &str, meta: &str, flags: &[&str]) -> Command {
        let mut args = vec!["build", "--metadata-file", meta];
        args.extend(flags);
        args.push(context);
        self.command(store, &args)
    }

    /// Builds, and says what became of every step.
    pub fn build(&self, store: &str, context: &str, flags: &[&str]) -> Built {
        let meta = format!("{store}-{context}.json");
        let mut command = self.build_command(store, context, &meta, flags);
        let done = command.output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        let (executed, cached) = steps(&err);
        Built {
            code: done.status.code(),
            digest: self.digest(&meta),
            executed,
            cached,
            err,
        }
    }

    /// The digest of the manifest that a build has told.
    pub fn digest(&self, meta: &str) -> String {
        let told: serde_json::Value =
            serde_json::from_slice(&fs::read(self.path(meta)).unwrap()).unwrap();
        told["containerimage.digest"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// What is left in a store for unfinished work.
    pub fn leftovers(&self, store: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(store).join("v1/tmp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// A context of a Dockerfile alone.
    pub fn context(&self, name: &str, dockerfile: &str) {
        let dir = self.path(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// The numbers of the steps that were executed, and of those that came from the cache.
fn steps(err: &str) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let mut names = std::collections::HashMap::new();
    let (mut executed, mut cached) = (BTreeSet::new(), BTreeSet::new());
    for line in err.lines() {
        let Some((number, text)) = line.strip_prefix('#').and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        if let Some(step) = number_of(text).filter(|_| text.starts_with('[')) {
            names.insert(number.to_owned(), step);
        }
        let Some(step) = names.get(number) else {
            continue;
        };
        if text == "CACHED" {
            cached.insert(*step);
        } else if text.starts_with("DONE") || text.starts_with("ERROR") {
            executed.insert(*step);
        }
    }
    (executed, cached)
}

/// `… T17_…` → 17.
fn number_of(text: &str) -> Option<u32> {
    for (at, _) in text.match_indices('T') {
        let rest = &text[at + 1..];
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        if rest[digits..].starts_with('_')
            && let Ok(number) = rest[..digits].parse()
        {
            return Some(number);
        }
    }
    None
}
