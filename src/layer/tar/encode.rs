//! One form for every entry, so that equal entries are equal bytes.
//!
//! ustar headers with numeric owners and no names; a PAX header before them only when something
//! does not fit: a name or link target that is not ASCII or longer than 100 bytes, an owner above
//! 2097151, a size of 8 GiB or more, a time before 1970 or after 2242, an extended attribute.
//! Records stand in bytewise order of their keys. A value that stands in a record is zero (numbers)
//! or cut and made ASCII (names) in the ustar header.

use std::collections::BTreeMap;

use tar::{EntryType, Header};

use super::{BLOCK, XATTR_PREFIX};

/// The two zero blocks that end an archive.
pub(crate) const TRAILER: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Largest number in a ustar field of seven octal digits.
const MAX_SMALL: u64 = 0o7_777_777;
/// Largest number in a ustar field of eleven octal digits.
const MAX_LARGE: u64 = 0o77_777_777_777;
/// Bytes of a name in a ustar header.
const NAME_LEN: usize = 100;

/// One entry as it is to stand in the archive.
pub(crate) struct Member<'a> {
    /// The name relative to the root, directories with a slash at their end.
    pub name: &'a [u8],
    /// Target of a symbolic or hard link, else empty.
    pub link: &'a [u8],
    pub kind: EntryType,
    /// The twelve permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Length of the content that follows.
    pub size: u64,
    /// Whole seconds since 1970.
    pub mtime: i64,
    /// Major and minor number of a device.
    pub rdev: (u32, u32),
    pub xattrs: &'a BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Member<'_> {
    /// The header blocks, to be followed by the content and its padding.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let records = self.records();
        let mut blocks = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            let pax = records.iter().flat_map(|(key, value)| record(key, value));
            let pax: Vec<u8> = pax.collect();
            blocks.extend_from_slice(pax_header(self.name, pax.len()).as_bytes());
            blocks.extend_from_slice(&pax);
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
        blocks.extend_from_slice(self.ustar().as_bytes());
        blocks
    }

    fn records(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut records = BTreeMap::new();
        let mut number = |key: &str, value: i128, fits: bool| {
            if !fits {
                records.insert(key.into(), value.to_string().into_bytes());
            }
        };
        number("uid", self.uid.into(), fits(self.uid, MAX_SMALL));
        number("gid", self.gid.into(), fits(self.gid, MAX_SMALL));
        number("size", self.size.into(), fits(self.size, MAX_LARGE));
        let mtime_fits = u64::try_from(self.mtime).is_ok_and(|mtime| mtime <= MAX_LARGE);
        number("mtime", self.mtime.into(), mtime_fits);
        for (key, value) in [("path", self.name), ("linkpath", self.link)] {
            if !fits_name(value) {
                records.insert(key.into(), value.to_vec());
            }
        }
        for (name, value) in self.xattrs {
            records.insert([XATTR_PREFIX, name].concat(), value.clone());
        }
        records
    }

    fn ustar(&self) -> Header {
        let mut header = empty_header(self.kind);
        write_name(&mut header, self.name);
        if let Some(ustar) = header.as_ustar_mut() {
            copy_name(&mut ustar.linkname, self.link);
            octal(&mut ustar.mode, self.mode.into());
            octal(&mut ustar.uid, or_zero(self.uid.into(), MAX_SMALL));
            octal(&mut ustar.gid, or_zero(self.gid.into(), MAX_SMALL));
            octal(&mut ustar.size, or_zero(self.size, MAX_LARGE));
            let mtime = u64::try_from(self.mtime).unwrap_or(0);
            octal(&mut ustar.mtime, or_zero(mtime, MAX_LARGE));
            octal(&mut ustar.dev_major, self.rdev.0.into());
            octal(&mut ustar.dev_minor, self.rdev.1.into());
        }
        header.set_cksum();
        header
    }
}

/// The header before the records that belong to the entry `name`.
fn pax_header(name: &[u8], size: usize) -> Header {
    let mut header = empty_header(EntryType::XHeader);
    let base = name
        .split(|byte| *byte == b'/')
        .rfind(|part| !part.is_empty())
        .unwrap_or_default();
    write_name(&mut header, &[b"PaxHeaders.0/", base].concat());
    if let Some(ustar) = header.as_ustar_mut() {
        octal(&mut ustar.mode, 0o644);
        octal(&mut ustar.size, size as u64);
        for field in [&mut ustar.uid, &mut ustar.gid] {
            octal(field, 0);
        }
        octal(&mut ustar.mtime, 0);
        octal(&mut ustar.dev_major, 0);
        octal(&mut ustar.dev_minor, 0);
    }
    header.set_cksum();
    header
}

fn empty_header(kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header
}

fn write_name(header: &mut Header, name: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        copy_name(&mut ustar.name, name);
    }
}

/// Fills a name field: as it is where it fits, else cut and with every odd byte as `_`.
fn copy_name(field: &mut [u8; NAME_LEN], name: &[u8]) {
    for (slot, byte) in field.iter_mut().zip(name) {
        *slot = if byte.is_ascii() { *byte } else { b'_' };
    }
}

fn fits_name(name: &[u8]) -> bool {
    name.len() <= NAME_LEN && name.is_ascii()
}

fn fits(value: impl Into<u64>, max: u64) -> bool {
    value.into() <= max
}

fn or_zero(value: u64, max: u64) -> u64 {
    if value <= max { value } else { 0 }
}

/// Octal digits filling the field but for the NUL at its end.
fn octal(field: &mut [u8], mut value: u64) {
    let Some((last, digits)) = field.split_last_mut() else {
        return;
    };
    *last = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length += 1;
    }
    let mut line = format!("{length} ").into_bytes();
    line.extend_from_slice(key);
    line.push(b'=');
    line.extend_from_slice(value);
    line.push(b'\n');
    line
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_count_themselves() {
        for value_len in [
            0, 1, 3, 4, 5, 6, 89, 90, 91, 92, 93, 94, 95, 990, 991, 992, 993,
        ] {
            let line = record(b"k", &vec![b'v'; value_len]);
            let text = String::from_utf8(line.clone()).unwrap();
            let stated: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, line.len(), "value of {value_len} bytes");
        }
    }

    #[test]
    fn records_stand_only_where_ustar_ends() {
        let none = BTreeMap::new();
        let plain = || Member {
            name: b"a",
            link: b"",
            kind: EntryType::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            rdev: (0, 0),
            xattrs: &none,
        };
        let long = [b'n'; 101];
        let keys = |member: Member<'_>| {
            let keys = member.records().into_keys();
            keys.map(|key| String::from_utf8(key).unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let cases = [
            (keys(plain()), ""),
            (
                keys(Member {
                    uid: 2_097_151,
                    ..plain()
                }),
                "",
            ),
            (
                keys(Member {
                    uid: 2_097_152,
                    ..plain()
                }),
                "uid",
            ),
            (
                keys(Member {
                    gid: u32::MAX - 1,
                    ..plain()
                }),
                "gid",
            ),
            (
                keys(Member {
                    size: (8 << 30) - 1,
                    ..plain()
                }),
                "",
            ),
            (
                keys(Member {
                    size: 8 << 30,
                    ..plain()
                }),
                "size",
            ),
            (
                keys(Member {
                    mtime: -1,
                    ..plain()
                }),
                "mtime",
            ),
            (
                keys(Member {
                    mtime: 1 << 33,
                    ..plain()
                }),
                "mtime",
            ),
            (
                keys(Member {
                    name: &long[..100],
                    ..plain()
                }),
                "",
            ),
            (
                keys(Member {
                    name: &long,
                    link: b"\xff",
                    ..plain()
                }),
                "linkpath path",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
        assert_eq!(plain().encode().len(), BLOCK);
    }
}
