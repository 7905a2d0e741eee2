//! Handlers of binfmt_misc that belong to our user namespace (Linux 6.7).
//!
//! The kernel asks the binfmt_misc of the nearest user namespace that has one, so one of ours hides the
//! machine's for all that runs in the namespace, and does so until the namespace is gone. Its handlers live as
//! long as it is mounted; it is mounted nowhere, and held by a descriptor until this process ends.
//!
//! A handler is registered with the flags F, so that its interpreter is opened now and serves in every root
//! directory; C (and with it O), so that set-user-id programs run as their owners; and P, so that a program
//! sees the name by which it was called, unless the interpreter does not know how to take it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::MountAttrFlags;

use super::elf::TELLING;
use super::machine::{Machine, find};
use crate::enter;
use crate::mount::Filesystem;

/// Our binfmt_misc.
struct Ours {
    mount: OwnedFd,
    /// What it has handlers for, by the names that QEMU has for them.
    names: Vec<&'static str>,
}

static MOUNTED: Mutex<Option<Ours>> = Mutex::new(None);

/// A name longer than this does not fit into what the kernel reads.
const LONGEST_PATH: usize = 1024;

/// Why no handler could be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The architecture is not known, or QEMU has nothing for it.
    #[error("lapstrake knows no emulator for it")]
    Unknown,
    /// No program of that name is in the path.
    #[error("no {0} is in PATH")]
    NoProgram(String),
    /// Steps are not in a user namespace of ours.
    #[error("steps have no user namespace of their own here (sandbox chroot)")]
    NoNamespace,
    /// The user namespace cannot have handlers of its own.
    #[error("the kernel lets no user namespace have its own (Linux 6.7 does): {0}")]
    Mount(io::Error),
    /// The kernel does not take the handler.
    #[error("the kernel does not take {} as a handler: {error}", interpreter.display())]
    Refused {
        /// The program.
        interpreter: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// Has QEMU execute the programs of these architectures, each with its variant, in every sandbox of this
/// process from now on, and show them the name by which they were called. One that has a handler of ours
/// keeps it.
///
/// All that are needed have to be named at once: from then on no handler of the machine counts.
///
/// # Errors
/// When one of them cannot be had; what comes before the mount changes nothing.
pub fn register(architectures: &[(&str, &str)], path: Option<&OsStr>) -> Result<(), RegisterError> {
    let mut handlers = Vec::new();
    for (name, variant) in architectures {
        let machine = find(name, variant).ok_or(RegisterError::Unknown)?;
        handlers.push((machine, interpreter(machine, path)?));
    }
    if !enter::has_own_namespace() {
        return Err(RegisterError::NoNamespace);
    }
    let mut mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = match mounted.take() {
        Some(ours) => ours,
        None => Ours {
            mount: Filesystem::open("binfmt_misc")
                .and_then(|kind| kind.mount(MountAttrFlags::empty()))
                .map_err(RegisterError::Mount)?,
            names: Vec::new(),
        },
    };
    let ours = mounted.insert(ours);
    for (machine, interpreter) in handlers {
        if ours.names.contains(&machine.qemu) {
            continue;
        }
        let added = add(&ours.mount, machine, &interpreter, b"FCP");
        added.map_err(|error| RegisterError::Refused { interpreter, error })?;
        ours.names.push(machine.qemu);
    }
    Ok(())
}

/// Puts a handler without the name by which a program was called in the place of one that was registered: for
/// an interpreter that does not know how to take it.
///
/// # Errors
/// As [`register`].
pub fn register_without_name(
    (name, variant): (&str, &str),
    path: Option<&OsStr>,
) -> Result<(), RegisterError> {
    let machine = find(name, variant).ok_or(RegisterError::Unknown)?;
    let interpreter = interpreter(machine, path)?;
    let mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = mounted.as_ref().ok_or(RegisterError::NoNamespace)?;
    let replaced = write(&ours.mount, &file_name(machine), b"-1")
        .and_then(|()| add(&ours.mount, machine, &interpreter, b"FC"));
    replaced.map_err(|error| RegisterError::Refused { interpreter, error })
}

/// QEMU's program for the architecture. Only one that needs no loader can be executed in another root
/// directory, which those with this ending are; distributions that have no others leave it out.
fn interpreter(machine: &Machine, path: Option<&OsStr>) -> Result<PathBuf, RegisterError> {
    let usual = format!("qemu-{}-static", machine.qemu);
    let names = [usual.clone(), format!("qemu-{}", machine.qemu)];
    let dirs: Vec<PathBuf> = path
        .map(|p| std::env::split_paths(p).collect())
        .unwrap_or_default();
    names
        .iter()
        .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)))
        .find(|file| is_usable(file))
        .ok_or(RegisterError::NoProgram(usual))
}

fn is_usable(file: &Path) -> bool {
    use rustix::fs::{Access, access};
    let is_short = file.as_os_str().len() <= LONGEST_PATH;
    file.is_absolute() && is_short && file.is_file() && access(file, Access::EXEC_OK).is_ok()
}

fn file_name(machine: &Machine) -> String {
    format!("lapstrake-{}", machine.qemu)
}

fn add(mount: &OwnedFd, machine: &Machine, program: &Path, flags: &[u8]) -> io::Result<()> {
    let line = line(&file_name(machine), machine.telling(), program, flags);
    write(mount, "register", &line)
}

fn write(mount: &OwnedFd, name: &str, text: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(openat(mount, name, flags, Mode::empty())?);
    // The kernel takes a line in one piece.
    file.write_all(text)
}

/// `:name:M:offset:magic:mask:interpreter:flags`. No directory of a path has a colon in it.
fn line(
    name: &str,
    (magic, mask): ([u8; TELLING], [u8; TELLING]),
    program: &Path,
    flags: &[u8],
) -> Vec<u8> {
    let escaped = |bytes: [u8; TELLING]| -> String {
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
    };
    let start = format!(":{name}:M:0:{}:{}:", escaped(magic), escaped(mask));
    [
        start.as_bytes(),
        program.as_os_str().as_bytes(),
        b":",
        flags,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_written_as_the_kernel_reads_it() {
        let machine = find("s390x", "").unwrap();
        let line = line(
            "lapstrake-s390x",
            machine.telling(),
            Path::new("/b/q"),
            b"FC",
        );
        assert_eq!(
            String::from_utf8(line).unwrap(),
            ":lapstrake-s390x:M:0:\
             \\x7f\\x45\\x4c\\x46\\x02\\x02\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\x16:\
             \\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xff\\xfe\\xff\\xff:\
             /b/q:FC"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let path = Some(empty.path().as_os_str());
        for (name, text) in [
            ("arm64", "no qemu-aarch64-static is in PATH"),
            ("sparc64", "no emulator"),
        ] {
            let error = register(&[(name, "")], path).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        // Tests are in no namespace of ours: what is registered would be the machine's.
        std::fs::write(empty.path().join("qemu-aarch64"), "").unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(empty.path().join("qemu-aarch64"), executable).unwrap();
        let error = register(&[("arm64", "")], path).unwrap_err();
        assert!(matches!(error, RegisterError::NoNamespace), "{error}");
    }
}
