//! [`Attributes`]: what the disk under a layer could not hold.
//!
//! A file system seen from a user namespace may be unable to hold an owner (the id is not mapped),
//! a device node or a privileged extended attribute. Such an entry is made as far as it goes (a
//! device becomes an empty regular file) and its true metadata stands in the layer's table. Readers
//! take the table's entry in place of what `stat` says, so every mode gives the same layer tar.
//!
//! The same table can tell what a layer deletes ([`super::marks`]), where the disk holds no marks of
//! an overlay, or nobody could mount one. Then it does so alone: there is nothing on the disk.
//!
//! On disk: the file `attributes` beside `diff/`, one JSON object a line, sorted by path; bytes of
//! a path outside printable ASCII, and `%`, are percent-encoded, values of extended attributes are
//! base64. Marks come after the entries. An empty table has no file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::LayerError;
use super::marks::{Mark, Marks};
use crate::rootfs::RootPath;

/// The table's file name in a layer's directory.
const FILE: &str = "attributes";

/// The true metadata of one entry: it replaces everything that the disk says of it but its
/// content, size and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_mode`: the type of the file and its permission bits.
    pub mode: u32,
    /// Major and minor number of a device, zeros for everything else.
    pub rdev: (u32, u32),
    /// Every extended attribute that belongs in the layer (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The table of one layer: path → true metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    entries: BTreeMap<RootPath, Attr>,
    /// What the layer deletes; none if the disk says that.
    marks: Option<Marks>,
}

impl Attributes {
    /// The entry of `path`, if the disk could not hold it.
    pub fn get(&self, path: &RootPath) -> Option<&Attr> {
        self.entries.get(path)
    }

    /// An empty table of a layer whose disk holds no marks of deletion.
    pub fn with_marks() -> Self {
        Self {
            marks: Some(Marks::default()),
            ..Self::default()
        }
    }

    /// What the layer deletes, if the table tells that and not the disk.
    pub fn marks(&self) -> Option<&Marks> {
        self.marks.as_ref()
    }

    /// The same, to be changed.
    pub fn marks_mut(&mut self) -> Option<&mut Marks> {
        self.marks.as_mut()
    }

    /// The same, from now on if not yet.
    pub fn marks_mut_or_new(&mut self) -> &mut Marks {
        self.marks.get_or_insert_default()
    }

    /// Records the truth about `path`.
    pub fn insert(&mut self, path: RootPath, attr: Attr) {
        self.entries.insert(path, attr);
    }

    /// Forgets `path`, whose truth is on the disk now.
    pub fn remove(&mut self, path: &RootPath) -> Option<Attr> {
        self.entries.remove(path)
    }

    /// Forgets `path` and everything below it: the entry was deleted or replaced.
    pub fn remove_tree(&mut self, path: &RootPath) {
        self.entries.retain(|entry, _| !entry.starts_with(path));
        if let Some(marks) = &mut self.marks {
            marks.remove_tree(path);
        }
    }

    /// Whether the disk holds everything there is to say of entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in bytewise order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&RootPath, &Attr)> {
        self.entries.iter()
    }

    /// Writes the table into the layer directory `dir`; an empty one leaves no file.
    ///
    /// # Errors
    /// [`LayerError::Disk`].
    pub fn save(&self, dir: &Path) -> Result<(), LayerError> {
        let path = dir.join(FILE);
        if self.is_empty() && self.marks.as_ref().is_none_or(Marks::is_empty) {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(LayerError::disk("remove", path.display())(error))
                }
                _ => Ok(()),
            };
        }
        self.write(&path)
            .map_err(LayerError::disk("write", path.display()))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for (path, attr) in &self.entries {
            serde_json::to_writer(&mut out, &Line::of(path, attr))?;
            out.write_all(b"\n")?;
        }
        for (path, mark) in self.marks.iter().flat_map(Marks::iter) {
            let path = escape(path.as_bytes());
            serde_json::to_writer(&mut out, &MarkLine { path, mark })?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Reads the table of the layer directory `dir`; no file is an empty table.
    ///
    /// # Errors
    /// [`LayerError::Disk`], and [`LayerError::Table`] for a line that is no entry.
    pub fn load(dir: &Path) -> Result<Self, LayerError> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(LayerError::disk("open", path.display())(error)),
        };
        let mut entries = BTreeMap::new();
        let mut marks: Option<Marks> = None;
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(LayerError::disk("read", path.display()))?;
            let refused = |reason| LayerError::Table {
                path: path.display().to_string(),
                line: index + 1,
                reason,
            };
            if let Ok(MarkLine { path, mark }) = serde_json::from_str(&line) {
                let path = parse_path(&path).map_err(refused)?;
                marks.get_or_insert_default().set(path, mark);
                continue;
            }
            let (entry, attr) = Line::parse(&line).map_err(refused)?;
            entries.insert(entry, attr);
        }
        Ok(Self { entries, marks })
    }
}

/// A line of the file that tells of a deletion.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkLine {
    path: String,
    mark: Mark,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: String,
    uid: u32,
    gid: u32,
    mode: u32,
    #[serde(default, skip_serializing_if = "is_no_device")]
    rdev: (u32, u32),
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
}

fn is_no_device(rdev: &(u32, u32)) -> bool {
    *rdev == (0, 0)
}

impl Line {
    fn of(path: &RootPath, attr: &Attr) -> Self {
        let xattrs = attr.xattrs.iter();
        Self {
            path: escape(path.as_bytes()),
            uid: attr.uid,
            gid: attr.gid,
            mode: attr.mode,
            rdev: attr.rdev,
            xattrs: xattrs
                .map(|(name, value)| (escape(name), BASE64.encode(value)))
                .collect(),
        }
    }

    fn parse(text: &str) -> Result<(RootPath, Attr), String> {
        let line: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let path = parse_path(&line.path)?;
        let mut xattrs = BTreeMap::new();
        for (name, value) in &line.xattrs {
            let value = BASE64.decode(value).map_err(|error| error.to_string())?;
            xattrs.insert(unescape(name)?, value);
        }
        let attr = Attr {
            uid: line.uid,
            gid: line.gid,
            mode: line.mode,
            rdev: line.rdev,
            xattrs,
        };
        Ok((path, attr))
    }
}

fn parse_path(text: &str) -> Result<RootPath, String> {
    let bytes = unescape(text)?;
    let path = RootPath::new(OsStr::from_bytes(&bytes));
    if path.as_bytes() != bytes {
        return Err(format!("{text:?} is no clean absolute path"));
    }
    Ok(path)
}

/// Percent-encodes every byte outside printable ASCII, and `%` itself.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let byte = tail
            .split_at_checked(2)
            .and_then(|(digits, _)| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or_else(|| format!("{text:?} has a % without two hexadecimal digits"))?;
        bytes.push(byte);
        rest = &tail[2..];
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    fn attr(uid: u32, mode: u32) -> Attr {
        Attr {
            uid,
            gid: 7,
            mode,
            rdev: (0, 0),
            xattrs: BTreeMap::new(),
        }
    }

    #[test]
    fn a_saved_table_reads_back_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = Attributes::default();
        table.insert(RootPath::new("/plain"), attr(4_294_967_294, 0o100_644));
        let odd = RootPath::new(OsStr::from_bytes(b"/100%/\xff\n\"\\/\xc3\xa4"));
        let mut device = attr(0, 0o20_666);
        device.rdev = (1, 3);
        device
            .xattrs
            .insert(b"security.capability".to_vec(), vec![0, 10, 255]);
        table.insert(odd, device);
        table.save(dir.path()).unwrap();
        assert_eq!(Attributes::load(dir.path()).unwrap(), table);
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(
            text.starts_with(r#"{"path":"/100%25/%FF%0A\"\\/%C3%A4","uid":0"#),
            "{text}"
        );

        let mut marked = Attributes::with_marks();
        marked.insert(RootPath::new("/d"), attr(1, 0o40_755));
        let marks = marked.marks_mut().unwrap();
        marks.set(RootPath::new("/d"), Mark::Opaque);
        marks.set(RootPath::new("/e/ö"), Mark::Deleted);
        marked.save(dir.path()).unwrap();
        assert_eq!(Attributes::load(dir.path()).unwrap(), marked);

        Attributes::with_marks().save(dir.path()).unwrap();
        assert!(!dir.path().join(FILE).exists());
        assert!(Attributes::load(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_table_is_refused_with_its_line() {
        let good = r#"{"path":"/a","uid":0,"gid":0,"mode":1}"#;
        for bad in [
            "",
            "{",
            r#"{"path":"/a/../b","uid":0,"gid":0,"mode":1}"#,
            r#"{"path":"a","uid":0,"gid":0,"mode":1}"#,
            r#"{"path":"/%f","uid":0,"gid":0,"mode":1}"#,
            r#"{"path":"/%+1","uid":0,"gid":0,"mode":1}"#,
            r#"{"path":"/a","uid":-1,"gid":0,"mode":1}"#,
            r#"{"path":"/a","uid":0,"gid":0,"mode":1,"more":1}"#,
            r#"{"path":"/a/","mark":"deleted"}"#,
            r#"{"path":"/a","mark":"gone"}"#,
            r#"{"path":"/a","uid":0,"gid":0,"mode":1,"xattrs":{"a":"!"}}"#,
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), format!("{good}\n{bad}\n")).unwrap();
            let error = Attributes::load(dir.path()).unwrap_err();
            expect_line(&error, 2, &bad);
        }
    }

    fn expect_line(error: &LayerError, expected: usize, case: &dyn Debug) {
        assert!(
            matches!(error, LayerError::Table { line, .. } if *line == expected),
            "{case:?}: {error}"
        );
    }
}
