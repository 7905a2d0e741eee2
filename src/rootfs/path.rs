//! [`RootPath`]: a path inside a root file system, as a type of its own.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// An absolute, lexically clean path inside a root file system.
///
/// It begins with `/`, has no empty, `.` or `..` component and no trailing slash; `..` above the
/// root stays at the root. Names are bytes: any byte but `/` and NUL may stand in them. It is not
/// a host path and cannot be opened: only [`RootDir`](super::RootDir) makes a file of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootPath(Vec<u8>);

impl RootPath {
    /// The root itself.
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Cleans `path` lexically, taking a relative one as standing at the root.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        Self::root().join(path)
    }

    /// This path followed by `relative`; an absolute `relative` replaces it.
    pub fn join(&self, relative: impl AsRef<OsStr>) -> Self {
        let relative = relative.as_ref().as_bytes();
        if !matches!(relative, b"" | b"." | b"..") && !relative.contains(&b'/') {
            return self.child(relative);
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        if !relative.starts_with(b"/") {
            parts.extend(
                self.0
                    .split(|byte| *byte == b'/')
                    .filter(|part| !part.is_empty()),
            );
        }
        for part in relative.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                name => parts.push(name),
            }
        }
        let mut joined = Vec::with_capacity(self.0.len() + relative.len() + 1);
        for part in parts {
            joined.push(b'/');
            joined.extend_from_slice(part);
        }
        if joined.is_empty() {
            joined.push(b'/');
        }
        Self(joined)
    }

    /// This path followed by one plain name.
    fn child(&self, name: &[u8]) -> Self {
        let own = match self.is_root() {
            true => &b""[..],
            false => self.0.as_slice(),
        };
        let mut joined = Vec::with_capacity(own.len() + 1 + name.len());
        joined.extend_from_slice(own);
        joined.push(b'/');
        joined.extend_from_slice(name);
        Self(joined)
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0 == b"/"
    }

    /// The directory that holds this path; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(if slash == 0 {
            Self::root()
        } else {
            Self(self.0[..slash].to_vec())
        })
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&OsStr> {
        self.components().next_back()
    }

    /// The components in order, none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &OsStr> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
            .map(OsStr::from_bytes)
    }

    /// The path without its leading slash, `.` for the root: the form that system calls taking a
    /// directory descriptor want.
    pub fn relative(&self) -> &Path {
        if self.is_root() {
            Path::new(".")
        } else {
            Path::new(OsStr::from_bytes(&self.0[1..]))
        }
    }

    /// Whether this path is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(ancestor.0.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The path with its leading slash.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The path's bytes with the leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path with its leading slash, as an owned string.
    pub fn into_os_string(self) -> OsString {
        OsString::from_vec(self.0)
    }
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_cleans() {
        let cases = [
            ("/", "", "/"),
            ("/", "a//b/./c/", "/a/b/c"),
            ("/a/b", "../c", "/a/c"),
            ("/a", "../../../x", "/x"),
            ("/a", "/b", "/b"),
            ("/a", "..", "/"),
            ("/a", "...", "/a/..."),
        ];
        for (base, relative, expected) in cases {
            assert_eq!(
                RootPath::new(base).join(relative),
                RootPath::new(expected),
                "{base} + {relative}"
            );
        }
    }

    #[test]
    fn knows_ancestors() {
        let path = RootPath::new("/usr/lib/x");
        assert!(path.starts_with(&RootPath::root()));
        assert!(path.starts_with(&RootPath::new("/usr/lib")));
        assert!(!path.starts_with(&RootPath::new("/usr/li")));
        assert_eq!(path.parent(), Some(RootPath::new("/usr/lib")));
        assert_eq!(RootPath::new("/usr").parent(), Some(RootPath::root()));
        assert_eq!(RootPath::root().parent(), None);
        assert_eq!(path.relative(), Path::new("usr/lib/x"));
    }
}
