//! [`Credentials`]: the ids that a process believes to have, and how calls change them. Pure.
//!
//! The rules are Linux's, with "effective user 0", or having kept capabilities as such a user became
//! another, in place of `CAP_SETUID` and `CAP_SETGID`.

use rustix::io::Errno;

/// "Leave it alone" in calls that set several ids.
const KEEP: u32 = u32::MAX;

/// Real, effective, saved and file-system id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ids {
    pub real: u32,
    pub effective: u32,
    pub saved: u32,
    pub file: u32,
}

impl Ids {
    const fn all(id: u32) -> Self {
        Self {
            real: id,
            effective: id,
            saved: id,
            file: id,
        }
    }

    /// `setuid` and `setgid`.
    pub fn set(self, id: u32, privileged: bool) -> Result<Self, Errno> {
        if id == KEEP {
            Err(Errno::INVAL)
        } else if privileged {
            Ok(Self::all(id))
        } else if id == self.real || id == self.saved {
            Ok(Self {
                effective: id,
                file: id,
                ..self
            })
        } else {
            Err(Errno::PERM)
        }
    }

    /// `setreuid` and `setregid`.
    pub fn set_two(self, real: u32, effective: u32, privileged: bool) -> Result<Self, Errno> {
        let may_be_real = [KEEP, self.real, self.effective];
        let may_be_effective = [KEEP, self.real, self.effective, self.saved];
        let may = may_be_real.contains(&real) && may_be_effective.contains(&effective);
        if !(privileged || may) {
            return Err(Errno::PERM);
        }
        let mut new = self;
        if real != KEEP {
            new.real = real;
        }
        if effective != KEEP {
            new.effective = effective;
        }
        if real != KEEP || (effective != KEEP && effective != self.real) {
            new.saved = new.effective;
        }
        new.file = new.effective;
        Ok(new)
    }

    /// `setresuid` and `setresgid`.
    pub fn set_three(self, wanted: [u32; 3], privileged: bool) -> Result<Self, Errno> {
        let may_be = [KEEP, self.real, self.effective, self.saved];
        if !privileged && !wanted.iter().all(|id| may_be.contains(id)) {
            return Err(Errno::PERM);
        }
        let pick = |wanted, old| if wanted == KEEP { old } else { wanted };
        let mut new = self;
        new.real = pick(wanted[0], self.real);
        new.effective = pick(wanted[1], self.effective);
        new.saved = pick(wanted[2], self.saved);
        new.file = new.effective;
        Ok(new)
    }

    /// `setfsuid` and `setfsgid`, which never fail and give the old id.
    pub fn set_file(self, id: u32, privileged: bool) -> Self {
        let may_be = [self.real, self.effective, self.saved, self.file];
        if id != KEEP && (privileged || may_be.contains(&id)) {
            return Self { file: id, ..self };
        }
        self
    }

    /// What an exec makes of them; `owner` of a set-id program.
    fn executed(self, owner: Option<u32>) -> Self {
        let effective = owner.unwrap_or(self.effective);
        Self {
            real: self.real,
            effective,
            saved: effective,
            file: effective,
        }
    }
}

/// Who a process believes to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Its user ids.
    pub(super) user: Ids,
    /// Its group ids.
    pub(super) group: Ids,
    /// Its supplementary groups.
    pub(super) groups: Vec<u32>,
    /// Whether capabilities survive a change to a user that is not root.
    pub(super) keeps: bool,
    /// Whether it kept those that change ids, not being root any more.
    pub(super) capable: bool,
}

impl Credentials {
    /// All ids the same.
    pub fn new(uid: u32, gid: u32, mut groups: Vec<u32>) -> Self {
        groups.sort_unstable();
        Self {
            user: Ids::all(uid),
            group: Ids::all(gid),
            groups,
            keeps: false,
            capable: false,
        }
    }

    /// Itself with other user ids.
    pub fn with_user(&self, user: Ids) -> Self {
        let is_root = |ids: Ids| [ids.real, ids.effective, ids.saved].contains(&0);
        let mut new = self.clone();
        new.user = user;
        if is_root(self.user) && !is_root(user) {
            new.capable = self.keeps;
        }
        new
    }

    /// Whether it may change ids at will.
    pub fn privileged(&self) -> bool {
        self.user.effective == 0 || self.capable
    }

    /// Whom files belong to that it makes.
    pub fn maker(&self) -> (u32, u32) {
        (self.user.file, self.group.file)
    }

    /// Whether it belongs to a group.
    pub fn in_group(&self, gid: u32) -> bool {
        self.group.file == gid || self.groups.contains(&gid)
    }

    /// Whether it may give a file of `old` to `new` (`None`: no change).
    pub fn may_chown(&self, old: (u32, u32), uid: Option<u32>, gid: Option<u32>) -> bool {
        if self.user.file == 0 {
            return true;
        }
        let owns = self.user.file == old.0;
        uid.is_none_or(|uid| owns && uid == old.0)
            && gid.is_none_or(|gid| owns && (gid == old.1 || self.in_group(gid)))
    }

    /// After an exec of a program that is set-id to the ids given.
    pub fn executed(&self, uid: Option<u32>, gid: Option<u32>) -> Self {
        Self {
            user: self.user.executed(uid),
            group: self.group.executed(gid),
            groups: self.groups.clone(),
            keeps: false,
            capable: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Ids = Ids::all(5);
    const DROPPED: Ids = Ids {
        real: 5,
        effective: 5,
        saved: 0,
        file: 5,
    };

    fn shown(result: Result<Ids, Errno>) -> Result<[u32; 4], Errno> {
        result.map(|ids| [ids.real, ids.effective, ids.saved, ids.file])
    }

    #[test]
    fn ids_change_as_on_linux() {
        let root = Ids::all(0);
        let denied = Err(Errno::PERM);
        for (got, expected) in [
            (root.set(7, true), Ok([7, 7, 7, 7])),
            (USER.set(0, false), denied),
            (USER.set(5, false), Ok([5, 5, 5, 5])),
            (DROPPED.set(0, false), Ok([5, 0, 0, 0])),
            (root.set(KEEP, true), Err(Errno::INVAL)),
            (root.set_two(KEEP, 7, true), Ok([0, 7, 7, 7])),
            (root.set_two(7, KEEP, true), Ok([7, 0, 0, 0])),
            (root.set_two(KEEP, 0, true), Ok([0, 0, 0, 0])),
            (DROPPED.set_two(KEEP, 0, false), Ok([5, 0, 0, 0])),
            (DROPPED.set_two(0, KEEP, false), denied),
            (USER.set_two(KEEP, 6, false), denied),
            (root.set_three([KEEP, 7, KEEP], true), Ok([0, 7, 0, 7])),
            (root.set_three([7, 7, 7], true), Ok([7, 7, 7, 7])),
            (DROPPED.set_three([0, 0, 0], false), Ok([0, 0, 0, 0])),
            (USER.set_three([KEEP, 0, KEEP], false), denied),
            (Ok(root.set_file(9, true)), Ok([0, 0, 0, 9])),
            (Ok(USER.set_file(9, false)), Ok([5, 5, 5, 5])),
            (Ok(DROPPED.set_file(0, false)), Ok([5, 5, 0, 0])),
            (Ok(DROPPED.executed(None)), Ok([5, 5, 5, 5])),
            (Ok(USER.executed(Some(0))), Ok([5, 0, 0, 0])),
        ] {
            assert_eq!(shown(got), expected);
        }
    }

    #[test]
    fn capabilities_are_kept_when_asked_for_and_until_an_exec() {
        for (keeps, after) in [(false, false), (true, true)] {
            let mut root = Credentials::new(0, 0, Vec::new());
            root.keeps = keeps;
            let user = root.with_user(USER);
            assert_eq!(user.privileged(), after);
            assert!(!user.executed(None, None).privileged());
            assert!(root.with_user(Ids::all(0)).privileged());
        }
    }

    #[test]
    fn files_are_given_away_by_root_and_to_groups_by_their_owner() {
        let root = Credentials::new(0, 0, Vec::new());
        let user = Credentials::new(5, 6, vec![7]);
        for (who, old, uid, gid, may) in [
            (&root, (1, 1), Some(2), Some(3), true),
            (&user, (5, 6), None, None, true),
            (&user, (5, 6), Some(5), Some(7), true),
            (&user, (5, 6), Some(5), Some(8), false),
            (&user, (5, 6), Some(0), None, false),
            (&user, (0, 0), Some(0), None, false),
            (&user, (0, 6), None, Some(7), false),
        ] {
            assert_eq!(who.may_chown(old, uid, gid), may, "{old:?} {uid:?} {gid:?}");
        }
    }
}
