//! [`unpack_context`]: a tar stream becomes an open context.
//!
//! Nothing of the archive reaches beyond the staging directory, and no more of it than a buffer is
//! ever in memory. Owners in it do not count, for files of a context are root's; modes and times
//! do. No ignore file is applied: S8 has none for a context that does not come as a directory.

use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::fs::PermissionsExt;

use rustix::fs::FileType;

use super::{Context, ContextError};
use crate::layer::{Attr, Ids, LayerError, Target, extract_archive};
use crate::rootfs::{RootDir, RootPath};
use crate::store::Staging;

/// Mode of the context's own directory, whatever the caller's umask.
const ROOT_MODE: u32 = 0o755;
/// Bytes of the archive read at once.
const BUFFER: usize = 1 << 18;

/// Unpacks a tar, in any compression that [`crate::layer::Decoder`] knows, into `staging`, and
/// opens it. `what` is what messages call the archive: `the tar on stdin`.
///
/// The files are deleted when the context is dropped, or at once on failure.
///
/// # Errors
/// A stream that fails or is no tar, an entry that leads out or is a device, a full disk.
pub fn unpack_context(
    archive: impl Read,
    what: &str,
    staging: Staging,
    ids: &dyn Ids,
) -> Result<Context, ContextError> {
    let dir = staging.diff();
    let failed = |source| ContextError::Unpack {
        what: what.to_owned(),
        source,
    };
    let open = || {
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(ROOT_MODE))?;
        RootDir::open(&dir)
    };
    let root = open().map_err(|source| {
        failed(LayerError::Disk {
            action: "make",
            path: dir.display().to_string(),
            source,
        })
    })?;
    let mut target = Target::new(root, ids);
    let archive = BufReader::with_capacity(BUFFER, archive);
    extract_archive(archive, &mut target, &RootPath::root(), Some((0, 0))).map_err(failed)?;
    if let Some((path, _)) = target.attributes().iter().find(|(_, attr)| is_device(attr)) {
        return Err(failed(LayerError::Refused {
            name: path.to_string(),
            reason: "it is a device, which a build context cannot hold".into(),
        }));
    }
    Context::open_staged(&dir, staging)
}

fn is_device(attr: &Attr) -> bool {
    let kind = FileType::from_raw_mode(attr.mode);
    matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::SingleId;
    use crate::store::Store;
    use std::path::Path;

    fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4751);
            header.set_uid(1234);
            header.set_gid(4321);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if *kind == tar::EntryType::Symlink {
                header.set_link_name(content).unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, &[][..]).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    fn unpack(bytes: &[u8]) -> (tempfile::TempDir, Result<Context, ContextError>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), "test").unwrap();
        let staging = store.staging().unwrap();
        let ids = SingleId {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let made = unpack_context(bytes, "the tar", staging, &ids);
        (dir, made)
    }

    fn left(dir: &Path) -> usize {
        fs::read_dir(dir.join("store/v1/tmp")).unwrap().count()
    }

    #[test]
    fn an_archive_lives_as_long_as_its_context() {
        use tar::EntryType::{Directory, Regular};
        let bytes = tar(&[
            ("./", Directory, ""),
            ("./dockerfile", Regular, "FROM scratch"),
            (".dockerignore", Regular, "*"),
            ("sub/other", Regular, "FROM other"),
        ]);
        let compressed = zstd::encode_all(&bytes[..], 1).unwrap();
        for bytes in [bytes, compressed] {
            let (dir, context) = unpack(&bytes);
            let context = context.unwrap();
            assert_eq!(context.dockerfile(None).unwrap().text, "FROM scratch");
            let named = |name: &str| context.dockerfile(Some(Path::new(name)));
            for name in ["sub/other", "/sub/other", "../sub/other"] {
                assert_eq!(named(name).unwrap().text, "FROM other", "{name}");
            }
            let error = named("none").unwrap_err().to_string();
            assert!(error.contains("no Dockerfile at none"), "{error}");
            assert!(context.ignore().is_empty());
            let file = context.root().open_file(&RootPath::new("sub/other"));
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o751);
            assert_eq!(left(dir.path()), 1);
            drop(context);
            assert_eq!(left(dir.path()), 0);
        }
    }

    #[test]
    fn what_cannot_be_a_context_is_refused_and_leaves_nothing() {
        use tar::EntryType::{Char, Regular, Symlink};
        let whole = tar(&[("a", Regular, &"x".repeat(5000))]);
        for (bytes, said) in [
            (tar(&[("../out", Regular, "x")]), ".."),
            (tar(&[("null", Char, "")]), "device"),
            (tar(&[("a/.wh.b", Regular, "")]), ".wh.b"),
            (whole[..2000].to_vec(), "the tar"),
            (vec![0xff; 2000], "the tar"),
        ] {
            let (dir, context) = unpack(&bytes);
            let error = context.unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
            assert_eq!(left(dir.path()), 0, "{said}");
        }
        // A link out of the archive is followed inside of it.
        let (dir, context) = unpack(&tar(&[
            ("up", Symlink, "../../.."),
            ("up/evil", Regular, "x"),
        ]));
        let context = context.unwrap();
        assert!(context.root().open_file(&RootPath::new("evil")).is_ok());
        assert!(!dir.path().join("evil").exists());
    }
}
