//! What every case needs: a home, a store, a base image, a build and a look at its result.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Root whose steps run without namespaces and mounts, as the list of users calls him.
pub const IN_TREES: &str = "root, chroot";
/// What base images are made of.
pub const BUSYBOX: &str = "/bin/busybox";

pub use crate::harness::Outcome;

/// The surroundings of a case: a private directory with a home, a store and a context.
pub struct Context {
    pub base: PathBuf,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }

    /// The command ended with `code`, and said each of `texts` on stderr.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, code, "stderr:\n{}", self.err);
        for text in texts {
            assert!(
                self.err.contains(text),
                "{text:?} is missing in:\n{}",
                self.err
            );
        }
        self
    }

    /// What steps wrote behind a star, without the names of the steps.
    pub fn said(&self) -> Vec<String> {
        let mut said = Vec::new();
        for line in self.err.lines().filter(|line| line.starts_with('#')) {
            if let Some((before, text)) = line.split_once(" * ")
                && !before.contains('[')
            {
                said.push(text.trim_end().to_owned());
            }
        }
        said
    }

    /// How many steps came from the cache.
    pub fn cached(&self) -> usize {
        self.err
            .lines()
            .filter(|line| line.ends_with(" CACHED"))
            .count()
    }

    /// Names of the steps that were executed.
    pub fn executed(&self) -> Vec<String> {
        let mut names = BTreeMap::new();
        for line in self.err.lines() {
            let Some((number, text)) = line.strip_prefix('#').and_then(|l| l.split_once(' '))
            else {
                continue;
            };
            names.entry(number).or_insert_with(|| text.to_owned());
            if text == "CACHED" {
                names.remove(number);
            }
        }
        let steps = names.into_values().filter(|name| name.starts_with('['));
        steps
            .map(|name| {
                name.split_once("] ")
                    .map_or(name.clone(), |(_, n)| n.to_owned())
            })
            .filter(|name| !name.starts_with("FROM"))
            .collect()
    }
}

impl Context {
    pub fn new(base: &Path) -> Self {
        let context = Self {
            base: base.to_owned(),
        };
        fs::create_dir(context.path("home")).unwrap();
        fs::create_dir(context.path("context")).unwrap();
        context
    }

    /// A path in the case's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// The program with nothing of the caller's environment but a secret.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.tool(&self.program());
        command.arg("--root").arg(self.path("store")).args(args);
        command
    }

    /// Where the program is.
    pub fn program(&self) -> PathBuf {
        self.base.parent().unwrap().join("lapstrake")
    }

    /// Another program, in the same surroundings.
    pub fn tool(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.path("home"))
            .env("CI_SECRET", crate::SECRET)
            .envs(self.in_trees().then_some(("LAPSTRAKE_SANDBOX", "chroot")))
            .current_dir(&self.base)
            .stdin(Stdio::null());
        command
    }

    /// Runs the program.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    /// Runs the program with `input` on its stdin.
    pub fn fed(&self, args: &[&str], input: &[u8]) -> Ran {
        fs::write(self.path("stdin"), input).unwrap();
        let stdin = fs::File::open(self.path("stdin")).unwrap();
        ran(self.command(args).stdin(stdin))
    }

    /// Imports the base image `base`: busybox, a passwd and a group file.
    pub fn import(&self) {
        let root = self.path("rootfs");
        if !root.exists() {
            busybox(&root);
        }
        let mut command = self.command(&["import", "rootfs", "base"]);
        ran(command.env("SOURCE_DATE_EPOCH", "1000000000")).ok();
    }

    /// Writes a file of the build context.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.path("context").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        file
    }

    /// Imports the base, writes the Dockerfile, and builds it.
    pub fn build(&self, dockerfile: &str, args: &[&str]) -> Ran {
        if !self.path("rootfs").exists() {
            self.import();
        }
        self.file("Dockerfile", dockerfile);
        let mut all = vec!["build"];
        all.extend(args);
        all.push("context");
        self.run(&all)
    }

    /// Builds and gives what the steps wrote behind a star.
    #[track_caller]
    pub fn output(&self, dockerfile: &str, args: &[&str]) -> Vec<String> {
        self.build(dockerfile, args).ok().said()
    }

    /// Builds and gives the entries of the root file system.
    #[track_caller]
    pub fn tree(&self, dockerfile: &str) -> BTreeMap<String, Node> {
        self.build(dockerfile, &["-o", "type=tar,dest=tree.tar"])
            .ok();
        read_tar(&self.path("tree.tar"))
    }

    /// What `lapstrake inspect` tells of an image.
    #[track_caller]
    pub fn inspect(&self, image: &str) -> Value {
        let told: Value = serde_json::from_str(&self.run(&["inspect", image]).ok().out).unwrap();
        match told {
            Value::Array(mut all) => all.remove(0),
            one => one,
        }
    }

    /// Whether the builder has one id only.
    pub fn one_id(&self) -> bool {
        nix::unistd::getuid().as_raw() == crate::NOBODY_ELSE
    }

    /// Whether steps run in trees, because nothing is mounted.
    pub fn in_trees(&self) -> bool {
        let name = self.base.file_name().unwrap().to_string_lossy();
        name.ends_with(&format!("-{}", IN_TREES.replace([' ', ','], "")))
    }

    /// What is left in the store's directory for unfinished work.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("store/v1/tmp"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    let out = command.output().unwrap();
    Ran {
        code: out.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&out.stdout).into_owned(),
        err: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// One entry of a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: char,
    pub mode: u32,
    pub owner: (u64, u64),
    pub link: String,
    pub content: Vec<u8>,
}

impl Node {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }
}

/// The entries of a tar; names without a slash at the end, other bytes than UTF-8 as `\xNN`.
pub fn read_tar(path: &Path) -> BTreeMap<String, Node> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let mut nodes = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = escaped(&entry.path_bytes());
        let name = name
            .trim_start_matches("./")
            .trim_end_matches('/')
            .to_owned();
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Regular => 'f',
            tar::EntryType::Directory => 'd',
            tar::EntryType::Symlink => 'l',
            tar::EntryType::Link => 'h',
            tar::EntryType::Fifo => 'p',
            _ => '?',
        };
        let node = Node {
            kind,
            mode: header.mode().unwrap(),
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            link: entry
                .link_name_bytes()
                .map_or_else(String::new, |link| escaped(&link)),
            content: Vec::new(),
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        nodes.insert(name, Node { content, ..node });
    }
    nodes
}

fn escaped(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// A base image's tar that is the same for everyone.
pub fn write_base(root: &Path, tar: &Path) {
    busybox(root);
    let mut builder = tar::Builder::new(fs::File::create(tar).unwrap());
    builder.mode(tar::HeaderMode::Deterministic);
    builder.follow_symlinks(false);
    builder.append_dir_all(".", root).unwrap();
    builder.into_inner().unwrap().sync_all().unwrap();
}

fn busybox(root: &Path) {
    for dir in ["bin", "etc", "tmp", "proc", "dev", "sys", "root"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "cat", "echo", "ls", "id", "mkdir", "rm", "touch", "true", "false", "sleep", "stat",
        "hostname", "grep", "ps", "kill", "pwd", "env", "ln", "chown", "chmod", "find", "readlink",
        "wc", "head", "seq", "test", "dd", "mkfifo", "mv", "cp", "printf", "rmdir", "ip", "df",
        "tr", "sort",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\napp:x:1000:\nwheel:x:10:app\n",
    )
    .unwrap();
}
