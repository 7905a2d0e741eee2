//! `--metadata-file` and `--iidfile`: what was built, for programs.
//!
//! Both are written to a temporary file beside their place and renamed, so that nobody ever reads
//! half of one.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::files::write_whole;
use super::report;

/// Writes the id of an image to `path`, unless it holds it already: its time then stays.
///
/// # Errors
/// When the file cannot be written.
pub fn write_id(path: &Path, id: &str) -> Result<()> {
    match fs::read(path) {
        Ok(held) if held == id.as_bytes() => Ok(()),
        _ => replace(path, id.as_bytes()),
    }
}

/// Writes the metadata of a finished build.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    replace(path, &text)
}

/// What is known of a build, whether it succeeds or not.
#[derive(Debug, Default)]
pub struct Told {
    /// What the checks found, in the shape of `--call=check,format=json`.
    pub warnings: Vec<Value>,
    /// The steps: which came from the cache, and why the others did not.
    pub steps: Vec<Value>,
    /// What was built, where that is done and only something after it failed.
    pub result: Option<Value>,
}

impl Told {
    /// Adds what there is.
    pub fn add_to(&self, value: &mut Value) {
        for (name, list) in [
            ("lapstrake.warnings", &self.warnings),
            ("lapstrake.steps", &self.steps),
        ] {
            if !list.is_empty() {
                value[name] = json!(list);
            }
        }
    }
}

/// Writes why a build failed, and what is known of it.
///
/// # Errors
/// When the file cannot be written.
pub fn write_failure(path: &Path, error: &anyhow::Error, told: &Told) -> Result<()> {
    let mut value = told.result.clone().unwrap_or_else(|| json!({}));
    value["lapstrake.error"] = report::value(error);
    told.add_to(&mut value);
    write(path, &value)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, |out| Ok(out.write_all(bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Ended, RunFailed};

    #[test]
    fn the_ids_time_stays_when_the_id_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        let inode = || {
            use std::os::unix::fs::MetadataExt as _;
            fs::metadata(&path).unwrap().ino()
        };
        write_id(&path, "sha256:1").unwrap();
        let first = inode();
        write_id(&path, "sha256:1").unwrap();
        assert_eq!(inode(), first);
        write_id(&path, "sha256:2").unwrap();
        assert_ne!(inode(), first);
        assert_eq!(fs::read_to_string(&path).unwrap(), "sha256:2");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
        assert!(write_id(&dir.path().join("none/id"), "x").is_err());
    }

    #[test]
    fn a_failed_runs_status_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.json");
        let failed = RunFailed {
            command: "false".into(),
            ended: Ended::Status(7),
            output: vec![],
            kept: None,
        };
        write_failure(&path, &anyhow::Error::new(failed), &Told::default()).unwrap();
        let told: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(told["lapstrake.error"]["class"], "run");
        assert_eq!(told["lapstrake.error"]["status"], 7);
    }
}
