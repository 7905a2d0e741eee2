//! PAX records: `LENGTH KEY=VALUE\n`, framed by their length and by nothing else.

use std::collections::BTreeMap;

use super::XATTR_PREFIX;
use super::number;

/// The records of one extended header that matter here.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse: SparseRecords,
}

/// What makes an entry a sparse file in GNU's format 1.0.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
}

impl Records {
    /// Reads the content of an extended header.
    ///
    /// # Errors
    /// What is wrong with it, or which record is not supported.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, String> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = split(bytes)?;
            records.take(key, value)?;
            bytes = rest;
        }
        Ok(records)
    }

    /// What these records do not say, `globals` says.
    pub(super) fn over(mut self, globals: &Self) -> Self {
        self.uid = self.uid.or(globals.uid);
        self.gid = self.gid.or(globals.gid);
        self.mtime = self.mtime.or(globals.mtime);
        self
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        // An empty value takes an earlier record back.
        let text = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = text.map(|text| plain(key, text)).transpose()?,
            b"linkpath" => self.linkpath = text.map(|text| plain(key, text)).transpose()?,
            b"size" => self.size = text.map(|text| whole(key, text)).transpose()?,
            b"uid" => self.uid = text.map(|text| whole(key, text)).transpose()?,
            b"gid" => self.gid = text.map(|text| whole(key, text)).transpose()?,
            b"mtime" => {
                let time = |text| number::time(text).ok_or_else(|| bad(key, text));
                self.mtime = text.map(time).transpose()?;
            }
            b"GNU.sparse.major" => self.sparse.major = Some(whole(key, value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(whole(key, value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(plain(key, value)?),
            b"GNU.sparse.realsize" => self.sparse.size = Some(whole(key, value)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err("it has a sparse file in a format before 1.0, \
                            which is not supported: pack it again"
                    .to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Key and value of the first record, and what follows it.
type Split<'b> = (&'b [u8], &'b [u8], &'b [u8]);

fn split(bytes: &[u8]) -> Result<Split<'_>, String> {
    let broken = || {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        format!("its extended header has no record at {shown:?}")
    };
    let blank = bytes
        .iter()
        .position(|byte| *byte == b' ')
        .ok_or_else(broken)?;
    let length: usize = std::str::from_utf8(&bytes[..blank])
        .ok()
        .filter(|digits| !digits.starts_with('-'))
        .and_then(number::decimal)
        .ok_or_else(broken)?;
    if length <= blank || length > bytes.len() {
        return Err(broken());
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[blank + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
    let equals = record
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or_else(broken)?;
    if equals == 0 || record[..equals].contains(&0) {
        return Err(broken());
    }
    Ok((&record[..equals], &record[equals + 1..], rest))
}

fn plain(key: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
    if value.contains(&0) {
        return Err(bad(key, value));
    }
    Ok(value.to_vec())
}

fn whole<T: std::str::FromStr>(key: &[u8], value: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(value).map_err(|_| bad(key, value))?;
    number::decimal(text).ok_or_else(|| bad(key, value))
}

fn bad(key: &[u8], value: &[u8]) -> String {
    let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
    format!("its extended header has {value:?} as {key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_by_their_length() {
        let smuggled = b"a\n21 linkpath=/etc/x\n";
        let mut bytes = format!("{} SCHILY.xattr.user.n=", 24 + smuggled.len()).into_bytes();
        bytes.extend_from_slice(smuggled);
        bytes.push(b'\n');
        bytes.extend_from_slice(b"14 path=a=\xffb\n\n");
        let records = Records::parse(&bytes).unwrap();
        assert_eq!(records.linkpath, None);
        assert_eq!(records.xattrs[&b"user.n"[..]], smuggled);
        assert_eq!(records.path.unwrap(), b"a=\xffb\n");
    }

    #[test]
    fn damage_is_told() {
        for bytes in [
            &b"11 path=abc"[..],
            b"12 path=abcd",
            b"99 path=abc\n",
            b"2 path=abc\n",
            b"0 path=abc\n",
            b"-9 path=a\n",
            b"+10 path=a\n",
            b"path=abc\n",
            b"6 abc\n",
            b"6 =ab\n",
            b"12 path=a\0b\n",
            b"11 size=-1\n",
            b"12 uid=4e9\n\n",
            b"18 uid=4294967296\n",
            b"11 mtime=x\n",
            b"26 GNU.sparse.map=0,1,2,3\n",
            b"99999999999999999999 path=a\n",
        ] {
            let shown = String::from_utf8_lossy(bytes);
            assert!(Records::parse(bytes).is_err(), "{shown:?}");
        }
    }
}
