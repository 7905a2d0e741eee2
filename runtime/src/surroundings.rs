//! What the kernel says about this process: read to explain what failed, and to tell one environment
//! from another. Nothing is decided by it; what is possible is found out by doing.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Capabilities in the kernel's numbering.
pub mod cap {
    pub const CHOWN: u32 = 0;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_ADMIN: u32 = 21;
    pub const SETFCAP: u32 = 31;
}

/// A process and the settings that it is under.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Whether programs cannot gain privilege.
    pub no_new_privs: bool,
    /// Whether a system call filter is in force.
    pub filtered: bool,
    /// Effective capabilities.
    pub capabilities: u64,
    /// Capabilities that a program can gain at most.
    pub bounding: u64,
    /// The security module's label, as AppArmor and SELinux show it.
    pub label: Option<String>,
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, where the kernel has it.
    pub userns_clone: Option<bool>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, where the kernel has it.
    pub apparmor_userns: Option<bool>,
    /// Whether `/` is no mount, as in a chroot.
    pub chrooted: bool,
    /// Whether `/` is an overlay, as in most containers.
    pub overlay_root: bool,
    /// The caller's login name, or its number.
    pub user: String,
    /// Whether it is a name.
    pub named: bool,
    /// The helpers that map subordinate ids.
    pub newuidmap: Option<Helper>,
    /// The same for groups.
    pub newgidmap: Option<Helper>,
}

impl Surroundings {
    /// Those of this process. What cannot be read is left out.
    pub fn read() -> Self {
        let status = read("/proc/self/status").unwrap_or_default();
        let field = |key: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
        };
        let name = user_name(nix::unistd::geteuid().as_raw());
        let set = |key| field(key).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            no_new_privs: field("NoNewPrivs") == Some("1"),
            filtered: field("Seccomp") == Some("2"),
            capabilities: set("CapEff").unwrap_or_default(),
            bounding: set("CapBnd").unwrap_or_default(),
            label: text("/proc/self/attr/current"),
            max_user_namespaces: sysctl("user/max_user_namespaces").and_then(|n| n.parse().ok()),
            userns_clone: sysctl("kernel/unprivileged_userns_clone").map(|n| n != "0"),
            apparmor_userns: sysctl("kernel/apparmor_restrict_unprivileged_userns")
                .map(|n| n != "0"),
            chrooted: is_chrooted(),
            overlay_root: is_overlay("/"),
            named: name.is_some(),
            user: name.unwrap_or_else(|| nix::unistd::geteuid().to_string()),
            newuidmap: Helper::find("newuidmap"),
            newgidmap: Helper::find("newgidmap"),
        }
    }

    /// Whether a capability is in effect.
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }

    /// Whether a program can gain a capability.
    pub fn can_gain(&self, capability: u32) -> bool {
        self.bounding & (1 << capability) != 0
    }
}

/// A program of the search path, as it bears on privilege.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helper {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is set-uid.
    pub set_uid: bool,
}

impl Helper {
    /// The first of this name.
    pub fn find(name: &str) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find_map(|dir| {
            let path = dir.join(name);
            let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            let set_uid = metadata.permissions().mode() & 0o4000 != 0;
            Some(Self { path, set_uid })
        })
    }
}

/// The login name of a user: from `/etc/passwd`, else what the environment says (the helpers check).
pub fn user_name(uid: u32) -> Option<String> {
    let number = uid.to_string();
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    known.or_else(|| {
        std::env::var("USER")
            .or_else(|_| std::env::var("LOGNAME"))
            .ok()
    })
}

/// Everything on which the outcome of a probe depends, as text to be compared: this boot, the
/// identity and the limits of this process, its namespaces, the helpers and what they are allowed,
/// and the file system of `place`. None where the kernel hides what it takes.
pub fn key(place: &Path) -> Option<String> {
    use std::fmt::Write as _;
    use std::os::unix::fs::MetadataExt as _;
    let mut key = format!("{} {}", env!("CARGO_PKG_VERSION"), boot()?);
    let status = read("/proc/self/status")?;
    for line in status.lines() {
        let name = line.split(':').next()?;
        let bears = matches!(
            name,
            "Uid" | "Gid" | "Groups" | "NoNewPrivs" | "Seccomp" | "Seccomp_filters"
        );
        if bears || name.starts_with("Cap") {
            write!(key, "\n{line}").ok()?;
        }
    }
    for name in ["user", "mnt", "pid", "net"] {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
        write!(key, "\n{}", link.display()).ok()?;
    }
    for name in [
        "user/max_user_namespaces",
        "user/max_mnt_namespaces",
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
    ] {
        write!(key, "\n{name} {}", sysctl(name).unwrap_or_default()).ok()?;
    }
    let label = text("/proc/self/attr/current").unwrap_or_default();
    write!(key, "\nlabel {label}").ok()?;
    // Root maps ids by itself.
    if !nix::unistd::geteuid().is_root() {
        key += &helpers_key()?;
    }
    let stat = rustix::fs::statfs(place).ok()?;
    let device = fs::metadata(place).ok()?.dev();
    write!(key, "\n{} {device} {:x}", place.display(), stat.f_type).ok()?;
    Some(key)
}

/// The part of a key that tells who may map which ids.
fn helpers_key() -> Option<String> {
    use std::fmt::Write as _;
    use std::os::unix::fs::MetadataExt as _;
    let mut key = String::new();
    for name in ["newuidmap", "newgidmap"] {
        let found = Helper::find(name).and_then(|helper| fs::metadata(helper.path).ok());
        if let Some(m) = found {
            let (changed, mode) = ((m.ctime(), m.ctime_nsec()), m.mode());
            write!(
                key,
                "\n{name} {} {} {changed:?} {mode:o} {}",
                m.dev(),
                m.ino(),
                m.uid()
            )
            .ok()?;
        }
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read(file).unwrap_or_default();
        write!(key, "\n{file} {} {:016x}", text.len(), fingerprint(&text)).ok()?;
    }
    Some(key)
}

fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn boot() -> Option<String> {
    sysctl("kernel/random/boot_id")
}

fn sysctl(name: &str) -> Option<String> {
    text(&format!("/proc/sys/{name}"))
}

/// A file of `/proc`, whose length nobody knows before: in few calls.
fn read(path: &str) -> Option<String> {
    let mut text = Vec::with_capacity(8192);
    fs::File::open(path).ok()?.read_to_end(&mut text).ok()?;
    String::from_utf8(text).ok()
}

fn text(path: &str) -> Option<String> {
    let text = read(path)?;
    let text = text.trim_end_matches(['\0', '\n']).trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether our root is not the root of the mount namespace, as far as mountinfo shows it.
fn is_chrooted() -> bool {
    read("/proc/self/mountinfo")
        .is_some_and(|text| !text.lines().any(|line| line.split(' ').nth(4) == Some("/")))
}

fn is_overlay(path: &str) -> bool {
    const OVERLAY: u32 = 0x794c_7630;
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u32 == OVERLAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_changes_with_its_place_and_nothing_else() {
        let dir = Path::new("/");
        assert_eq!(key(dir), key(dir));
        assert_ne!(key(dir), key(Path::new("/proc")));
        assert_eq!(key(Path::new("/does/not/exist")), None);
    }

    #[test]
    fn contents_are_told_apart() {
        assert_ne!(fingerprint(b"ann:1:2"), fingerprint(b"ann:1:3"));
    }
}
