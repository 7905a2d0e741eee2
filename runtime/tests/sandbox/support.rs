//! What every case needs: a tiny root file system, a run in it, what it printed and changed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use runtime::{Child, Entered, Error, Exit, RunSpec, Workspace, spawn};

pub use crate::harness::Outcome;

/// The surroundings of a case: a private directory, and the namespace it has entered.
pub struct Context {
    pub base: PathBuf,
    pub entered: Option<Entered>,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub exit: Exit,
    pub out: String,
    pub upper: PathBuf,
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Context {
    /// A fresh directory with this name and a number.
    pub fn dir(&self, name: &str) -> PathBuf {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = self.base.join(format!("{name}{n}"));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A layer with busybox and nothing else but `/bin`.
    pub fn busybox(&self) -> PathBuf {
        let root = self.dir("busybox");
        let bin = root.join("bin");
        fs::create_dir(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in [
            "sh", "cat", "echo", "ls", "id", "mkdir", "rm", "touch", "true", "sleep", "stat",
            "hostname", "grep", "ps", "kill", "mount", "unshare", "pwd", "env", "ln", "chown",
            "chmod", "ip", "umask", "find", "readlink", "wc", "head", "su", "test", "dd", "setsid",
            "tr", "mv", "df", "od",
        ] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        root
    }

    /// Starts `spec` over `lowers` with output to a pipe; the text comes from the returned reader.
    pub fn start(
        &self,
        lowers: &[PathBuf],
        spec: RunSpec,
    ) -> Result<(Child, Workspace, std::io::PipeReader), Error> {
        let workspace = Workspace::for_run(lowers, &self.dir("ws"), &spec)?;
        let (read, write) = std::io::pipe().unwrap();
        let err = write.try_clone().unwrap();
        let child = spawn(&workspace, spec, write.into(), err.into())?;
        Ok((child, workspace, read))
    }

    /// Runs `spec` to its end.
    pub fn run_spec(&self, lowers: &[PathBuf], spec: RunSpec) -> Result<Ran, Error> {
        let (child, workspace, mut read) = self.start(lowers, spec)?;
        let mut out = String::new();
        read.read_to_string(&mut out).unwrap();
        let exit = child.wait()?;
        let upper = workspace.finish()?.dir;
        Ok(Ran { exit, out, upper })
    }

    /// Runs a shell script over busybox, changing the specification first.
    pub fn sh_with(&self, script: &str, change: impl FnOnce(&mut RunSpec)) -> Ran {
        let mut spec = shell(script);
        change(&mut spec);
        self.run_spec(&[self.busybox()], spec).unwrap()
    }

    /// Runs a shell script over busybox.
    pub fn sh(&self, script: &str) -> Ran {
        self.sh_with(script, |_| {})
    }

    /// Whether this namespace has one id only.
    pub fn one_id(&self) -> bool {
        self.entered.as_ref().is_some_and(|e| e.ids.is_single())
    }
}

/// A specification for a shell script.
pub fn shell(script: &str) -> RunSpec {
    RunSpec::new(["/bin/sh", "-c", script])
}

/// Every path below `dir`, sorted, with the kind of what is not a plain file or directory.
pub fn tree(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) {
        let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(|e| e.file_name());
        for entry in entries {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let meta = entry.metadata().unwrap();
            let kind = if meta.file_type().is_char_device() && meta.rdev() == 0 {
                " whiteout"
            } else {
                ""
            };
            found.push(format!("{name}{kind}"));
            if meta.is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, "", &mut found);
    found
}

/// Writes a file with its parents.
pub fn write(root: &Path, path: &str, text: &str, mode: u32) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}

/// Every process whose command line contains `mark`, seen from here.
pub fn processes_with(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let mut line = String::new();
        let read = File::open(path.join("cmdline")).and_then(|mut f| f.read_to_string(&mut line));
        if read.is_ok() && line.contains(mark) {
            found.push(line.replace('\0', " "));
        }
    }
    found
}

/// A name and value for an environment.
pub fn pair(key: &str, value: &str) -> (OsString, OsString) {
    (key.into(), value.into())
}
