//! Names of users and groups, looked up in a root file system's own `passwd` and `group`.
//!
//! `USER` (spec S9) and `--chown` (spec S6) read the same files by different rules: an unknown name
//! ends a `RUN`, and is 0 in `--chown` and for the directories of `WORKDIR`. A number is an id, even
//! where somebody has it for a name. Both refuse a file that is not regular or is too large, and
//! an id beyond 2³¹-1, which some runtimes take for root.

use std::io::{self, Read};

use super::{RootDir, RootPath};

/// The largest `passwd` or `group` that is read.
const MAX_FILE: u64 = 10 << 20;
/// The largest id that every runtime understands.
const MAX_ID: u32 = i32::MAX as u32;

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserIds {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one always among them, ascending.
    pub groups: Vec<u32>,
    /// Home directory that `passwd` gives the user.
    pub home: Option<String>,
}

/// Why a user or group could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The user's name is in no `passwd`.
    #[error(
        "unknown user {name:?} in {spec:?}: /etc/passwd of the image does not list it; create it \
         in an earlier RUN or use a number"
    )]
    UnknownUser {
        /// The name.
        name: String,
        /// All that was asked for.
        spec: String,
    },
    /// The group's name is in no `group`.
    #[error(
        "unknown group {name:?} in {spec:?}: /etc/group of the image does not list it; create it \
         in an earlier RUN or use a number"
    )]
    UnknownGroup {
        /// The name.
        name: String,
        /// All that was asked for.
        spec: String,
    },
    /// A number that runtimes disagree about.
    #[error("id {id} in {spec:?} is out of range: the largest is 2147483647")]
    OutOfRange {
        /// The number as it is written.
        id: String,
        /// All that was asked for.
        spec: String,
    },
    /// A name where there are no files to look it up in.
    #[error(
        "cannot look up {name:?} of {spec:?}: there is no root file system here (scratch or \
         --link); use a number"
    )]
    NoRoot {
        /// The name.
        name: String,
        /// All that was asked for.
        spec: String,
    },
    /// The database cannot be read.
    #[error("cannot read {path} of the image to look up {spec:?}: {source}")]
    Read {
        /// The database.
        path: RootPath,
        /// What was to be looked up.
        spec: String,
        /// Why.
        source: io::Error,
    },
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Resolves the argument of `USER` (spec S9): `""`, `user`, `user:group`, `:group`, each a name
/// or a number.
///
/// # Errors
/// A name that is not listed, a number out of range, a database that cannot be read. A missing
/// database lists nobody.
pub fn resolve_user(root: &RootDir, spec: &str) -> Result<UserIds, UserError> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let users = users(root, spec)?;
    let wanted = number(user, spec)?;
    let found = users.iter().find(|entry| match wanted {
        // A number is never a name, even if somebody is called that.
        Some(uid) => entry.uid == uid,
        None if user.is_empty() => entry.uid == 0,
        None => entry.name == user,
    });
    let uid = match (found, wanted) {
        // With both numbers given nothing is looked up but the home.
        (_, Some(uid)) if group.is_some_and(is_number) => uid,
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) if user.is_empty() => 0,
        (None, None) => {
            return Err(UserError::UnknownUser {
                name: user.to_owned(),
                spec: spec.to_owned(),
            });
        }
    };
    let (gid, groups) = match group {
        Some(group) => {
            let gid = required_group(root, group, spec)?;
            (gid, vec![gid])
        }
        None => own_groups(root, found, spec)?,
    };
    in_range(uid, spec)?;
    in_range(gid, spec)?;
    Ok(UserIds {
        uid,
        gid,
        groups,
        home: found.map(|entry| entry.home.clone()),
    })
}

/// Resolves `--chown` (spec S6): `user`, `user:group` or `:group`, each a name or a number.
///
/// A name that is not listed is 0; `root` without a root file system is 0 as well.
///
/// # Errors
/// A name where `root` is none, a number out of range, a database that cannot be read.
pub fn resolve_chown(root: Option<&RootDir>, spec: &str) -> Result<(u32, u32), UserError> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let (uid, own_gid) = match fixed(user, spec)? {
        Some(uid) => (uid, uid),
        None => users(require(root, user, spec)?, spec)?
            .iter()
            .find(|entry| entry.name == user)
            .map_or((0, 0), |entry| (entry.uid, entry.gid)),
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match fixed(group, spec)? {
            Some(gid) => gid,
            None => groups(require(root, group, spec)?, spec)?
                .iter()
                .find(|entry| entry.name == group)
                .map_or(0, |entry| entry.gid),
        },
    };
    in_range(uid, spec)?;
    in_range(gid, spec)?;
    Ok((uid, gid))
}

/// A part of `--chown` that needs no lookup.
fn fixed(part: &str, spec: &str) -> Result<Option<u32>, UserError> {
    if part.is_empty() || part == "root" {
        return Ok(Some(0));
    }
    number(part, spec)
}

fn require<'r>(
    root: Option<&'r RootDir>,
    name: &str,
    spec: &str,
) -> Result<&'r RootDir, UserError> {
    root.ok_or_else(|| UserError::NoRoot {
        name: name.to_owned(),
        spec: spec.to_owned(),
    })
}

fn required_group(root: &RootDir, group: &str, spec: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(group, spec)? {
        return Ok(gid);
    }
    let groups = groups(root, spec)?;
    let found = groups.iter().find(|entry| entry.name == group);
    found
        .map(|entry| entry.gid)
        .ok_or_else(|| UserError::UnknownGroup {
            name: group.to_owned(),
            spec: spec.to_owned(),
        })
}

/// The primary group of a listed user and every group that names them.
fn own_groups(
    root: &RootDir,
    user: Option<&User>,
    spec: &str,
) -> Result<(u32, Vec<u32>), UserError> {
    let Some(user) = user else {
        return Ok((0, vec![0]));
    };
    let mut gids: Vec<u32> = groups(root, spec)?
        .iter()
        .filter(|group| group.members.contains(&user.name))
        .map(|group| group.gid)
        .chain([user.gid])
        .collect();
    gids.sort_unstable();
    gids.dedup();
    for gid in &gids {
        in_range(*gid, spec)?;
    }
    Ok((user.gid, gids))
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(part: &str, spec: &str) -> Result<Option<u32>, UserError> {
    if !is_number(part) {
        return Ok(None);
    }
    match part.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::OutOfRange {
            id: part.to_owned(),
            spec: spec.to_owned(),
        }),
    }
}

fn in_range(id: u32, spec: &str) -> Result<(), UserError> {
    if id <= MAX_ID {
        return Ok(());
    }
    Err(UserError::OutOfRange {
        id: id.to_string(),
        spec: spec.to_owned(),
    })
}

fn users(root: &RootDir, spec: &str) -> Result<Vec<User>, UserError> {
    let text = database(root, "/etc/passwd", spec)?;
    let parse = |line: &str| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        Some(User {
            name: (*fields.first()?).to_owned(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
            home: (*fields.get(5).unwrap_or(&"")).to_owned(),
        })
    };
    Ok(text.lines().filter_map(parse).collect())
}

fn groups(root: &RootDir, spec: &str) -> Result<Vec<Group>, UserError> {
    let text = database(root, "/etc/group", spec)?;
    let parse = |line: &str| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let members = fields.get(3).unwrap_or(&"").split(',');
        Some(Group {
            name: (*fields.first()?).to_owned(),
            gid: fields.get(2)?.parse().ok()?,
            members: members.map(|name| name.trim().to_owned()).collect(),
        })
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// The text of a database; a missing one is empty.
fn database(root: &RootDir, path: &str, spec: &str) -> Result<String, UserError> {
    let path = RootPath::new(path);
    match read(root, &path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(UserError::Read {
            path,
            spec: spec.to_owned(),
            source,
        }),
    }
}

fn read(root: &RootDir, path: &RootPath) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    root.open_file(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 10 MiB",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbad line\n+::::::\n\
        app:x:1000:1001:App:/home/app:/bin/sh\nhuge:x:3000000000:5::/:\n77:x:500:501::/seven:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\nvideo:x:44:app\nweb:x:1002:\n\
        big:x:2147483648:\n";

    fn root() -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
        fs::write(dir.path().join("etc/group"), GROUP).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn s9_users() {
        let (_dir, root) = root();
        type Case<'c> = (&'c str, Option<(u32, u32, &'c [u32])>);
        let cases: &[Case<'_>] = &[
            ("", Some((0, 0, &[0, 10]))),
            ("root", Some((0, 0, &[0, 10]))),
            ("app", Some((1000, 1001, &[10, 44, 1001]))),
            ("1000", Some((1000, 1001, &[10, 44, 1001]))),
            ("1000:1001", Some((1000, 1001, &[1001]))),
            ("4242", Some((4242, 0, &[0]))),
            ("77", Some((77, 0, &[0]))),
            ("4242:7", Some((4242, 7, &[7]))),
            ("app:web", Some((1000, 1002, &[1002]))),
            ("app:5", Some((1000, 5, &[5]))),
            ("4242:web", Some((4242, 1002, &[1002]))),
            (":web", Some((0, 1002, &[1002]))),
            ("nobody", None),
            ("app:nogroup", None),
            ("huge", None),
            ("app:big", None),
            ("2147483648", None),
            ("2147483648:0", None),
            ("0:4294967296", None),
            ("99999999999999999999", None),
            ("-1", None),
        ];
        for (spec, expected) in cases {
            let found = resolve_user(&root, spec);
            let found = found.map(|ids| (ids.uid, ids.gid, ids.groups)).ok();
            let expected = expected.map(|(uid, gid, groups)| (uid, gid, groups.to_vec()));
            assert_eq!(found, expected, "{spec:?}");
        }
        let home = |spec| resolve_user(&root, spec).unwrap().home;
        assert_eq!(home("app").as_deref(), Some("/home/app"));
        assert_eq!(home("1000:1").as_deref(), Some("/home/app"));
        assert_eq!(home("4242"), None);
    }

    #[test]
    fn s6_chown() {
        let (_dir, root) = root();
        let cases = [
            ("root", Some((0, 0))),
            ("55", Some((55, 55))),
            ("55:66", Some((55, 66))),
            ("app", Some((1000, 1001))),
            ("app:web", Some((1000, 1002))),
            ("app:root", Some((1000, 0))),
            (":web", Some((0, 1002))),
            (":9", Some((0, 9))),
            ("nobody", Some((0, 0))),
            ("app:nogroup", Some((1000, 0))),
            ("nobody:web", Some((0, 1002))),
            ("2147483647", Some((0x7fff_ffff, 0x7fff_ffff))),
            ("2147483648", None),
            ("huge", None),
        ];
        for (spec, expected) in cases {
            assert_eq!(resolve_chown(Some(&root), spec).ok(), expected, "{spec:?}");
        }
        for (spec, expected) in [
            ("root", Some((0, 0))),
            ("5:6", Some((5, 6))),
            ("app", None),
            ("5:web", None),
        ] {
            assert_eq!(
                resolve_chown(None, spec).ok(),
                expected,
                "{spec:?} in scratch"
            );
        }
    }

    #[test]
    fn missing_databases_list_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        assert_eq!(resolve_user(&root, "").unwrap().groups, [0]);
        assert_eq!(resolve_user(&root, "12").unwrap().gid, 0);
        assert!(resolve_user(&root, "app").is_err());
        assert_eq!(resolve_chown(Some(&root), "app:web").unwrap(), (0, 0));
    }

    #[test]
    fn demand_47_hostile_databases_neither_hang_nor_escape() {
        let (dir, root) = root();
        let passwd = dir.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, rustix::fs::Mode::RWXU).unwrap();
        assert!(resolve_user(&root, "app").is_err());
        assert!(resolve_chown(Some(&root), "app").is_err());
        fs::remove_file(&passwd).unwrap();
        symlink("/../../../../../../etc/passwd", &passwd).unwrap();
        assert!(
            resolve_user(&root, "app").is_err(),
            "a loop inside the root"
        );
        fs::remove_file(&passwd).unwrap();
        let large = fs::File::create(&passwd).unwrap();
        large.set_len(MAX_FILE + 1).unwrap();
        let error = resolve_user(&root, "app").unwrap_err().to_string();
        assert!(error.contains("10 MiB"), "{error}");
    }
}
