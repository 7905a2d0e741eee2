//! [`Listing`]: what was selected for a copy or a mount, entry by entry, so that the first file that
//! changed can be named when the digest of the whole is another one.
//!
//! On disk: `lapstrake.listing.1` and a line feed, then per entry, numbers in LEB128: how many bytes of
//! its path are those of the entry before it, the length of the rest, the rest, the kind's byte, mode,
//! owner, group, and eight bytes that stand for the content. It is no proof of anything: a damaged
//! listing is none, and two contents that share their eight bytes look the same.

use std::collections::HashMap;

const MAGIC: &[u8] = b"lapstrake.listing.1\n";
/// More entries than this are not listed.
const MOST_ENTRIES: usize = 100_000;
/// A listing of more bytes than this is not kept.
const MOST_BYTES: usize = 4 << 20;

/// One entry that was selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it is in the source.
    pub path: Vec<u8>,
    /// A byte for each kind of entry.
    pub kind: u8,
    /// Permission bits of the copy.
    pub mode: u32,
    /// Owner and group of the copy.
    pub owner: (u32, u32),
    /// Stands for the content, or a link's target.
    pub content: [u8; 8],
}

/// What was selected, in the order of the walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    entries: Vec<Listed>,
}

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Added,
    /// It is no longer there.
    Deleted,
    /// Its content.
    Content,
    /// Its mode: what it was, what it is.
    Mode(u32, u32),
    /// Owner and group: what they were, what they are.
    Owner((u32, u32), (u32, u32)),
    /// It is something else.
    Kind,
}

/// The first entry that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Where it is in the source.
    pub path: Vec<u8>,
    /// How it differs.
    pub change: Change,
    /// How many more do.
    pub more: usize,
}

impl Listing {
    /// Adds an entry; gives whether the listing takes more.
    pub fn push(&mut self, entry: Listed) -> bool {
        self.entries.push(entry);
        self.entries.len() <= MOST_ENTRIES
    }

    /// The listing as it goes to the disk; none when it would be too large.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        if self.entries.len() > MOST_ENTRIES {
            return None;
        }
        let mut bytes = MAGIC.to_vec();
        let mut before: &[u8] = b"";
        for entry in &self.entries {
            let shared = shared_prefix(before, &entry.path);
            let rest = &entry.path[shared..];
            put_number(&mut bytes, shared as u64);
            put_number(&mut bytes, rest.len() as u64);
            bytes.extend_from_slice(rest);
            bytes.push(entry.kind);
            for number in [entry.mode, entry.owner.0, entry.owner.1] {
                put_number(&mut bytes, number.into());
            }
            bytes.extend_from_slice(&entry.content);
            before = &entry.path;
        }
        (bytes.len() <= MOST_BYTES).then_some(bytes)
    }

    /// Reads what [`Listing::to_bytes`] wrote; none if it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut bytes = bytes.strip_prefix(MAGIC)?;
        let mut listing = Self::default();
        let mut before: Vec<u8> = Vec::new();
        while !bytes.is_empty() {
            let shared = usize::try_from(number(&mut bytes)?).ok()?;
            let length = usize::try_from(number(&mut bytes)?).ok()?;
            let mut path = before.get(..shared)?.to_vec();
            path.extend_from_slice(take(&mut bytes, length)?);
            let kind = *take(&mut bytes, 1)?.first()?;
            let mut small = || u32::try_from(number(&mut bytes)?).ok();
            let (mode, uid, gid) = (small()?, small()?, small()?);
            let content = take(&mut bytes, 8)?.try_into().ok()?;
            before.clone_from(&path);
            let entry = Listed {
                path,
                kind,
                mode,
                owner: (uid, gid),
                content,
            };
            if !listing.push(entry) {
                return None;
            }
        }
        Some(listing)
    }

    /// The first entry that differs from `old`: in the order of this listing, then what is only in
    /// the old one.
    pub fn first_change(&self, old: &Self) -> Option<Changed> {
        let mut left: HashMap<&[u8], &Listed> = old.entries.iter().map(|e| (&*e.path, e)).collect();
        let mut found: Option<Changed> = None;
        let mut note = |path: &[u8], change: Change| match &mut found {
            Some(first) => first.more += 1,
            None => {
                found = Some(Changed {
                    path: path.to_vec(),
                    change,
                    more: 0,
                });
            }
        };
        for entry in &self.entries {
            match left.remove(&*entry.path) {
                None => note(&entry.path, Change::Added),
                Some(before) => {
                    if let Some(change) = change(before, entry) {
                        note(&entry.path, change);
                    }
                }
            }
        }
        for entry in &old.entries {
            if left.contains_key(&*entry.path) {
                note(&entry.path, Change::Deleted);
            }
        }
        found
    }
}

fn change(old: &Listed, new: &Listed) -> Option<Change> {
    if old.kind != new.kind {
        Some(Change::Kind)
    } else if old.content != new.content {
        Some(Change::Content)
    } else if old.mode != new.mode {
        Some(Change::Mode(old.mode, new.mode))
    } else if old.owner != new.owner {
        Some(Change::Owner(old.owner, new.owner))
    } else {
        None
    }
}

fn shared_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, content: u8) -> Listed {
        Listed {
            path: path.into(),
            kind: b'f',
            mode: 0o644,
            owner: (0, 4_000_000_000),
            content: [content; 8],
        }
    }

    fn listing(entries: &[Listed]) -> Listing {
        Listing {
            entries: entries.to_vec(),
        }
    }

    #[test]
    fn a_listing_is_read_back_as_it_was_written() {
        let long = "x".repeat(5000);
        let written = listing(&[
            entry("/a", 1),
            entry("/a/b", 2),
            entry("/a/bc", 3),
            entry(&long, 4),
            entry("", 5),
        ]);
        let bytes = written.to_bytes().unwrap();
        assert_eq!(Listing::from_bytes(&bytes), Some(written));
        for length in 1..bytes.len() {
            // A cut is seen, or only loses entries at the end: no panic, nothing made up.
            if let Some(read) = Listing::from_bytes(&bytes[..length]) {
                assert!(read.entries.len() < 5);
            }
        }
        assert_eq!(Listing::from_bytes(b"other"), None);
        assert_eq!(
            Listing::from_bytes(&[MAGIC, b"\x05\x00f\0\0\0aaaaaaaa"].concat()),
            None
        );
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let path = "p".repeat(MOST_BYTES);
        assert_eq!(listing(&[entry(&path, 1)]).to_bytes(), None);
        let mut many = Listing::default();
        for _ in 0..MOST_ENTRIES {
            assert!(many.push(entry("/a", 1)));
        }
        assert!(!many.push(entry("/a", 1)));
        assert_eq!(many.to_bytes(), None);
    }

    #[test]
    fn the_first_change_is_named() {
        let old = [entry("/a", 1), entry("/b", 2), entry("/c", 3)];
        let with = |at: usize, change: &dyn Fn(&mut Listed)| {
            let mut new = old.to_vec();
            change(&mut new[at]);
            new
        };
        for (new, expected) in [
            (old.to_vec(), None),
            (
                with(1, &|e| e.content[7] = 0),
                Some(("/b", Change::Content, 0)),
            ),
            (
                with(2, &|e| e.mode = 0o755),
                Some(("/c", Change::Mode(0o644, 0o755), 0)),
            ),
            (
                with(0, &|e| e.owner.0 = 7),
                Some((
                    "/a",
                    Change::Owner((0, 4_000_000_000), (7, 4_000_000_000)),
                    0,
                )),
            ),
            (with(0, &|e| e.kind = b'd'), Some(("/a", Change::Kind, 0))),
            (
                [&old[..], &[entry("/d", 4)]].concat(),
                Some(("/d", Change::Added, 0)),
            ),
            (old[..1].to_vec(), Some(("/b", Change::Deleted, 1))),
            (
                with(1, &|e| e.path = b"/z".to_vec()),
                Some(("/z", Change::Added, 1)),
            ),
        ] {
            let found = listing(&new).first_change(&listing(&old));
            let expected = expected.map(|(path, change, more)| Changed {
                path: path.into(),
                change,
                more,
            });
            assert_eq!(found, expected);
        }
    }
}
