//! Which user and group ids exist in the user namespace of this process.

use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// One line of `/proc/self/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    /// First id as seen from inside.
    pub inside: u32,
    /// First id as seen from the parent namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl Range {
    fn holds(&self, id: u32) -> bool {
        id >= self.inside && id - self.inside < self.count
    }
}

/// The ids that a file on disk can be owned by, as seen from inside the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    uids: Vec<Range>,
    gids: Vec<Range>,
}

impl IdMap {
    /// The map of this process.
    pub fn current() -> io::Result<Self> {
        Self::read(Path::new("/proc/self"))
    }

    /// The map of the process whose `/proc` directory is `proc`.
    pub(crate) fn read(proc: &Path) -> io::Result<Self> {
        Ok(Self {
            uids: parse(&fs::read_to_string(proc.join("uid_map"))?)?,
            gids: parse(&fs::read_to_string(proc.join("gid_map"))?)?,
        })
    }

    /// Every id: what real root outside of any user namespace has.
    pub fn full() -> Self {
        let all = vec![Range {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        }];
        Self {
            uids: all.clone(),
            gids: all,
        }
    }

    /// Id 0 alone.
    pub fn single() -> Self {
        let one = vec![Range {
            inside: 0,
            outside: 0,
            count: 1,
        }];
        Self {
            uids: one.clone(),
            gids: one,
        }
    }

    /// Whether a file can belong to this user.
    pub fn holds_uid(&self, uid: u32) -> bool {
        self.uids.iter().any(|r| r.holds(uid))
    }

    /// Whether a file can belong to this group.
    pub fn holds_gid(&self, gid: u32) -> bool {
        self.gids.iter().any(|r| r.holds(gid))
    }

    /// Whether there is one user id, or one group id, and no more.
    pub fn is_single(&self) -> bool {
        total(&self.uids) <= 1 || total(&self.gids) <= 1
    }

    /// A fingerprint of the map as the parent namespace sees it, 16 hex digits.
    ///
    /// A layer that was unpacked under one map shows other owners under another, so whoever keeps
    /// unpacked layers keeps them by this key.
    pub fn key(&self) -> String {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for (kind, ranges) in [(1_u32, &self.uids), (2, &self.gids)] {
            for range in ranges {
                for word in [kind, range.inside, range.outside, range.count] {
                    for byte in word.to_le_bytes() {
                        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                    }
                }
            }
        }
        format!("{hash:016x}")
    }

    pub(crate) fn uids(&self) -> &[Range] {
        &self.uids
    }

    pub(crate) fn gids(&self) -> &[Range] {
        &self.gids
    }

    /// How many users there are.
    pub(crate) fn count(&self) -> u64 {
        total(&self.uids)
    }
}

fn total(ranges: &[Range]) -> u64 {
    ranges.iter().map(|r| u64::from(r.count)).sum()
}

fn parse(text: &str) -> io::Result<Vec<Range>> {
    text.lines()
        .map(|line| {
            let mut words = line.split_whitespace().map(str::parse::<u32>);
            match (words.next(), words.next(), words.next()) {
                (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count))) => Ok(Range {
                    inside,
                    outside,
                    count,
                }),
                _ => Err(io::Error::other(format!(
                    "not a line of an id map: {line:?}"
                ))),
            }
        })
        .collect()
}

/// The subordinate ids that `text` (`/etc/subuid` or `/etc/subgid`) gives to a user, as
/// (first, count), in file order.
pub(crate) fn subordinate(text: &str, user: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            if who.is_empty() || (Some(who) != user && who != number) {
                return None;
            }
            let first: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            (count > 0 && first.checked_add(count).is_some()).then_some((first, count))
        })
        .collect()
}

/// The map `0 → own id, 1.. → subordinate ids`, the shape that every rootless tool uses.
pub(crate) fn with_subordinate(own: u32, subordinate: &[(u32, u32)]) -> Vec<Range> {
    let mut ranges = vec![Range {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut next: u32 = 1;
    for &(outside, count) in subordinate {
        let count = count.min(u32::MAX - next);
        if count > 0 {
            ranges.push(Range {
                inside: next,
                outside,
                count,
            });
            next += count;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_by_name_and_by_number() {
        let text = "# c\nann:100000:65536\n1000:300000:10\nbob:5:5\nann:400000:2\nann:x:y\n:1:1\n";
        assert_eq!(
            subordinate(text, Some("ann"), 1000),
            [(100_000, 65_536), (300_000, 10), (400_000, 2)]
        );
        assert_eq!(subordinate(text, None, 1000), [(300_000, 10)]);
        assert!(subordinate(text, Some("eve"), 7).is_empty());
    }

    #[test]
    fn several_ranges_follow_each_other_inside() {
        let got = with_subordinate(1000, &[(100_000, 65_536), (300_000, 10)]);
        let uids: Vec<_> = got.iter().map(|r| (r.inside, r.outside, r.count)).collect();
        assert_eq!(
            uids,
            [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 300_000, 10)]
        );
        let map = IdMap {
            uids: got.clone(),
            gids: got,
        };
        for (id, held) in [
            (0, true),
            (65_546, true),
            (65_547, false),
            (u32::MAX, false),
        ] {
            assert_eq!(map.holds_uid(id), held, "{id}");
        }
        assert!(!map.is_single());
    }

    #[test]
    fn keys_tell_maps_apart() {
        assert_ne!(IdMap::full().key(), IdMap::single().key());
        assert_eq!(IdMap::single().key(), IdMap::single().key());
        assert!(IdMap::single().is_single() && !IdMap::full().holds_uid(u32::MAX));
        let parsed = parse("         0       1000          1\n 1 100000 65536\n").unwrap();
        assert_eq!(parsed.len(), 2);
        assert!(parse("0 x 1").is_err());
    }
}
