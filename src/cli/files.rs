//! Files that appear when they are whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::exit::UsageError;

const BUFFER: usize = 1 << 20;

/// Has `write` fill the file at `path`, which gets its name when everything is written: nobody ever
/// reads half of it, and a failure leaves what was there. A device or a pipe is written to directly.
///
/// # Errors
/// Those of `write`, and when the file cannot be made; all name the path.
pub(super) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let writing = || format!("cannot write {}", path.display());
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let file = File::options().write(true).open(path);
        return fill(file.map_err(|e| not_opened(&writing(), e))?, write).with_context(writing);
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(
        path.file_name()
            .context("it names no file")
            .with_context(writing)?,
    );
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let file = File::create(&partial).map_err(|e| not_opened(&writing(), e))?;
    let written = fill(file, write).and_then(|()| Ok(fs::rename(&partial, path)?));
    if written.is_err() {
        // The first error is the one to report.
        drop(fs::remove_file(&partial));
    }
    written.with_context(writing)
}

/// Opens a file that an argument names.
///
/// # Errors
/// When it cannot be opened.
pub(super) fn open_named(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| not_opened(&format!("cannot open {}", path.display()), e))
}

/// The error of a file that an argument names: where that is no place for it, another one helps.
fn not_opened(doing: &str, error: io::Error) -> anyhow::Error {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound | NotADirectory | IsADirectory | PermissionDenied => {
            UsageError(format!("{doing}: {error}")).into()
        }
        _ => anyhow::Error::new(error).context(doing.to_owned()),
    }
}

fn fill(file: File, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, file);
    write(&mut out)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        write_whole(&path, |out| Ok(out.write_all(b"first")?)).unwrap();
        let failed = write_whole(&path, |out| {
            out.write_all(b"half of")?;
            anyhow::bail!("no more")
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("no more"));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_the_buffer_cannot_hand_on_is_an_error() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            println!("skipped: there is no /dev/full here");
            return;
        }
        let error = write_whole(full, |out| Ok(out.write_all(b"x")?)).unwrap_err();
        assert!(format!("{error:#}").contains("/dev/full"));
    }
}
