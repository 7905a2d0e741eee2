//! Opening a context and reading its Dockerfile and ignore file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{IgnoreError, IgnoreFile, Inputs};
use crate::layer::LayerError;
use crate::rootfs::{RootDir, RootPath};
use crate::store::Staging;

/// The largest Dockerfile or ignore file that is read.
const MAX_TEXT: u64 = 4 << 20;

/// Why a context, its Dockerfile or its ignore file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The directory.
    #[error("cannot open the build context {}: {source}", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A Dockerfile that is not there.
    #[error(
        "there is no Dockerfile at {}; name another one, or write one there",
        path.display()
    )]
    NoDockerfile {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A text file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An ignore file with a mistake.
    #[error("{}: {source}", path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// The mistake.
        source: IgnoreError,
    },
    /// An archive that cannot be unpacked.
    #[error("cannot unpack {what}: {source}")]
    Unpack {
        /// What messages call it.
        what: String,
        /// Why.
        source: LayerError,
    },
}

/// The text of a Dockerfile and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// Path on this host, for messages and for the ignore file beside it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// An open build context.
#[derive(Debug)]
pub struct Context {
    root: RootDir,
    ignore: IgnoreFile,
    ignore_path: Option<PathBuf>,
    place: String,
    /// The directory on this host that somebody named.
    dir: Option<PathBuf>,
    inputs: Option<Inputs>,
    /// What it was unpacked into, deleted with it.
    _staging: Option<Staging>,
}

impl Context {
    /// Opens the directory `path` with the ignore file that belongs to `dockerfile`:
    /// `<dockerfile>.dockerignore`, else `.dockerignore` of the context.
    ///
    /// # Errors
    /// A directory that cannot be opened, an ignore file that cannot be read or understood.
    pub fn open_dir(path: &Path, dockerfile: Option<&Path>) -> Result<Self, ContextError> {
        let mut context = Self::open_unfiltered(path)?;
        context.dir = Some(path.to_owned());
        let beside = dockerfile.map(|file| {
            let mut name = file.as_os_str().to_os_string();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        let own = match &beside {
            Some(file) => read_beside(file)?.map(|text| (file.clone(), text)),
            None => None,
        };
        let found = match own {
            Some(found) => Some(found),
            None => {
                let file = path.join(".dockerignore");
                read_inside(&context.root, ".dockerignore".as_ref(), &file)?
                    .map(|text| (file, text))
            }
        };
        if let Some((file, text)) = found {
            context.ignore = match IgnoreFile::parse(&text) {
                Ok(ignore) => ignore,
                Err(source) => return Err(ContextError::Ignore { path: file, source }),
            };
            context.ignore_path = Some(file);
        }
        Ok(context)
    }

    /// Opens the directory `path` without an ignore file.
    ///
    /// # Errors
    /// A directory that cannot be opened.
    pub fn open_unfiltered(path: &Path) -> Result<Self, ContextError> {
        let root = RootDir::open(path).map_err(|source| ContextError::Open {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            root,
            ignore: IgnoreFile::default(),
            ignore_path: None,
            place: "the build context".to_owned(),
            dir: None,
            inputs: None,
            _staging: None,
        })
    }

    /// Opens `dir`, a directory of `staging` or that itself, without an ignore file. The staging
    /// directory is deleted with the context.
    ///
    /// # Errors
    /// A directory that cannot be opened.
    pub fn open_staged(dir: &Path, staging: Staging) -> Result<Self, ContextError> {
        let mut context = Self::open_unfiltered(dir)?;
        context._staging = Some(staging);
        Ok(context)
    }

    /// Takes `root`, a directory of `staging`, without an ignore file: a git checkout. The staging
    /// directory is deleted with the context.
    pub fn staged(root: RootDir, staging: Staging) -> Self {
        Self {
            root,
            ignore: IgnoreFile::default(),
            ignore_path: None,
            place: "the build context".to_owned(),
            dir: None,
            inputs: None,
            _staging: Some(staging),
        }
    }

    /// Has it record what is looked at; a no-op for what is no directory that somebody named.
    #[must_use]
    pub fn recording(mut self, records: bool) -> Self {
        self.inputs = (records && self.dir.is_some()).then(Inputs::default);
        self
    }

    /// What was looked at, and the directory on this host that it is in, as it was named.
    pub fn recorded(&self) -> Option<(&Path, &Inputs)> {
        Some((self.dir.as_deref()?, self.inputs.as_ref()?))
    }

    /// Has messages call it `place` rather than «the build context».
    #[must_use]
    pub fn called(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// What messages call it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The Dockerfile in it: the one at the path `name`, else `Dockerfile`, else `dockerfile`.
    /// Its path is the one inside the context.
    ///
    /// # Errors
    /// As [`read_dockerfile`].
    pub fn dockerfile(&self, name: Option<&Path>) -> Result<Dockerfile, ContextError> {
        let names: &[&Path] = match &name {
            Some(name) => &[*name],
            None => &["Dockerfile".as_ref(), "dockerfile".as_ref()],
        };
        for path in names {
            if let Some(text) = read_inside(&self.root, path, path)? {
                let path = path.to_path_buf();
                return Ok(Dockerfile { path, text });
            }
        }
        Err(ContextError::NoDockerfile {
            path: names[0].to_owned(),
        })
    }

    /// The directory.
    pub fn root(&self) -> &RootDir {
        &self.root
    }

    /// What `COPY` and `ADD` do not see.
    pub fn ignore(&self) -> &IgnoreFile {
        &self.ignore
    }

    /// The ignore file that is in force.
    pub fn ignore_path(&self) -> Option<&Path> {
        self.ignore_path.as_deref()
    }
}

/// Reads the Dockerfile: the one named, else `Dockerfile`, else `dockerfile` of the context.
///
/// The one named is the user's word and may lie anywhere; the other two are the context's and are
/// resolved inside it.
///
/// # Errors
/// None there, not a regular file, larger than 4 MiB, not UTF-8.
pub fn read_dockerfile(
    context: &Path,
    dockerfile: Option<&Path>,
) -> Result<Dockerfile, ContextError> {
    if let Some(path) = dockerfile {
        return match read_beside(path)? {
            Some(text) => Ok(Dockerfile {
                path: path.to_owned(),
                text,
            }),
            None => Err(ContextError::NoDockerfile {
                path: path.to_owned(),
            }),
        };
    }
    let root = Context::open_unfiltered(context)?.root;
    for name in ["Dockerfile", "dockerfile"] {
        let path = context.join(name);
        if let Some(text) = read_inside(&root, name.as_ref(), &path)? {
            return Ok(Dockerfile { path, text });
        }
    }
    Err(ContextError::NoDockerfile {
        path: context.join("Dockerfile"),
    })
}

/// Reads a file that the user named on this host; none when it does not exist.
fn read_beside(path: &Path) -> Result<Option<String>, ContextError> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty())
        .map(File::from)
        .map_err(io::Error::from);
    text_of(file, path)
}

fn read_inside(root: &RootDir, name: &Path, shown: &Path) -> Result<Option<String>, ContextError> {
    let path = RootPath::new(name.as_os_str());
    let file = root.open_file(&path);
    let missing = file
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if missing && root.resolve(&path, crate::rootfs::Follow::No).is_ok() {
        return Err(ContextError::Read {
            path: shown.to_owned(),
            source: io::Error::new(
                io::ErrorKind::NotFound,
                "it is a symbolic link to something that is not in the build context",
            ),
        });
    }
    text_of(file, shown)
}

fn text_of(file: io::Result<File>, path: &Path) -> Result<Option<String>, ContextError> {
    let read = || -> io::Result<String> {
        let file = file?;
        if !file.metadata()?.is_file() {
            return Err(invalid("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_TEXT {
            return Err(invalid("it is larger than 4 MiB"));
        }
        decode(bytes).map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason))
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ContextError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The text of a file that is written in UTF-8.
///
/// # Errors
/// What to tell if it is not: the line, as far as it can be shown, and the byte.
pub fn decode(bytes: Vec<u8>) -> Result<String, String> {
    const MOST: usize = 60;
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let at = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let number = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n');
    let line = bytes[start.map_or(0, |newline| newline + 1)..].split(|byte| *byte == b'\n');
    let line = String::from_utf8_lossy(line.into_iter().next().unwrap_or_default()).into_owned();
    let shown: String = line.trim_end().chars().take(MOST).collect();
    let byte = bytes[at];
    Err(
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            "it is written in UTF-16: save it as UTF-8".to_owned()
        } else {
            format!(
                "it is not UTF-8 text: line {number} holds the byte 0x{byte:02x}, {shown:?}; save it as UTF-8"
            )
        },
    )
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// What came in on standard input in place of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// A tar archive, perhaps compressed: the context.
    Archive,
    /// Text: a Dockerfile without a context.
    Dockerfile,
}

impl Stdin {
    /// Tells the two apart by the first bytes; 512 of them are enough.
    pub fn guess(head: &[u8]) -> Self {
        const MAGICS: [&[u8]; 4] = [
            &[0x1f, 0x8b],
            b"BZh",
            &[0xfd, b'7', b'z', b'X', b'Z', 0],
            &[0x28, 0xb5, 0x2f, 0xfd],
        ];
        let compressed = MAGICS.iter().any(|magic| head.starts_with(magic));
        let tar = head.get(257..262) == Some(b"ustar") || head.contains(&0);
        if compressed || tar {
            Self::Archive
        } else {
            Self::Dockerfile
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn s8_which_ignore_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".dockerignore"), "shared").unwrap();
        fs::write(dir.path().join("prod.Dockerfile"), "FROM scratch").unwrap();
        fs::write(dir.path().join("prod.Dockerfile.dockerignore"), "own").unwrap();
        for (dockerfile, path, excluded) in [
            (Some("prod.Dockerfile"), "own", true),
            (Some("prod.Dockerfile"), "shared", false),
            (Some("Dockerfile"), "shared", true),
            (None, "shared", true),
        ] {
            let file = dockerfile.map(|name| dir.path().join(name));
            let context = Context::open_dir(dir.path(), file.as_deref()).unwrap();
            let found = context.ignore().matches(&RootPath::new(path));
            assert_eq!(found, excluded, "{dockerfile:?} {path}");
        }
        let context = Context::open_unfiltered(dir.path()).unwrap();
        assert!(context.ignore().is_empty() && context.ignore_path().is_none());
    }

    #[test]
    fn s8_dockerfile_falls_back_to_lower_case() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_dockerfile(dir.path(), None).unwrap_err();
        assert!(matches!(error, ContextError::NoDockerfile { .. }));
        fs::write(dir.path().join("dockerfile"), "lower").unwrap();
        assert_eq!(read_dockerfile(dir.path(), None).unwrap().text, "lower");
        fs::write(dir.path().join("Dockerfile"), "upper").unwrap();
        assert_eq!(read_dockerfile(dir.path(), None).unwrap().text, "upper");
        let named = dir.path().join("dockerfile");
        assert_eq!(
            read_dockerfile(dir.path(), Some(&named)).unwrap().text,
            "lower"
        );
    }

    #[test]
    fn demand_37_hostile_files_neither_hang_nor_escape() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "FROM secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        for name in ["Dockerfile", ".dockerignore"] {
            let file = dir.path().join(name);
            let open = || match name {
                "Dockerfile" => read_dockerfile(dir.path(), None).map(drop),
                _ => Context::open_dir(dir.path(), None).map(drop),
            };
            symlink(outside.path().join("secret"), &file).unwrap();
            let error = open().unwrap_err().to_string();
            assert!(error.contains("not in the build context"), "{error}");
            fs::remove_file(&file).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
            let error = open().unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
            fs::remove_file(&file).unwrap();
            File::create(&file).unwrap().set_len(MAX_TEXT + 1).unwrap();
            let error = open().unwrap_err().to_string();
            assert!(error.contains("4 MiB"), "{error}");
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn text_that_is_no_utf8_is_named_with_its_line() {
        assert_eq!(decode(b"FROM a\n".to_vec()).as_deref(), Ok("FROM a\n"));
        let error = decode(b"FROM a\r\n# caf\xe9 \x1b\r\nRUN x".to_vec()).unwrap_err();
        assert!(error.contains("line 2 holds the byte 0xe9"), "{error}");
        assert!(!error.contains(char::is_control), "{error}");
        let utf16 = decode(b"\xff\xfeF\0R\0".to_vec()).unwrap_err();
        assert!(utf16.contains("UTF-16"), "{utf16}");
    }

    #[test]
    fn standard_input_is_an_archive_or_a_dockerfile() {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(Stdin::guess(&tar), Stdin::Archive);
        assert_eq!(Stdin::guess(&[0x1f, 0x8b, 8]), Stdin::Archive);
        assert_eq!(Stdin::guess(b"FROM scratch\n"), Stdin::Dockerfile);
    }
}
