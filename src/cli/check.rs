//! `lapstrake check`: the checks on any number of Dockerfiles, without contexts and base images.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::call::{self, Format};
use super::exit::UsageError;
use super::report::SourceText;
use super::{build, values};
use crate::context;
use crate::dockerfile::{Diagnostic, DiagnosticKind};
use crate::lint::Checked;
use crate::plan::PlanOptions;

/// Directories that hold no Dockerfiles of the project.
const SKIPPED: &str = ".git";

/// Check Dockerfiles without building anything
///
/// Status: 0 nothing found, 1 warnings, 3 a file that cannot be built. Below a directory, files of
/// these names are checked: Dockerfile, dockerfile, Dockerfile.*, *.Dockerfile, *.dockerfile,
/// Containerfile. What depends on a context or on base images is not checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How findings are shown
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,

    /// Value of an ARG, for every file; BUILDKIT_DOCKERFILE_CHECK=skip=RULE,…;error=true replaces
    /// what the files say of checks; may be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,

    /// Dockerfiles, and directories that hold some
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// Runs the command; gives the exit status.
///
/// # Errors
/// A path that is not there, or that holds no Dockerfile.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<u8> {
    let mut options = PlanOptions::default();
    for text in &args.build_args {
        let pair = values::inherited_pair("--build-arg", text, values::variable)?;
        options.build_args.extend(pair);
    }
    build::check_options(&options.build_args)?;
    let mut paths = Vec::new();
    for path in &args.paths {
        collect(path, &mut paths)?;
    }
    let files: Vec<Checked> = paths.iter().map(|path| check(path, &options)).collect();
    call::show(&files, args.format, out)
}

fn check(path: &Path, options: &PlanOptions) -> Checked {
    let name = path.display().to_string();
    match context::read_dockerfile(Path::new("."), Some(path)) {
        Ok(read) => {
            let text = read.text;
            call::check_file(SourceText { name, text }, options, None)
        }
        Err(error) => {
            let error = Diagnostic::without_place(DiagnosticKind::Syntax, error.to_string());
            Checked {
                name,
                text: String::new(),
                findings: Vec::new(),
                errors: vec![error],
            }
        }
    }
}

/// Adds the file `path`, or the Dockerfiles below the directory `path`, each once.
fn collect(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let before = found.len();
    let unreadable = |error| UsageError(format!("cannot read {}: {error}", path.display()));
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        let wrong = |error| UsageError(format!("cannot list {}: {error}", dir.display()));
        for entry in std::fs::read_dir(&dir).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let name = entry.file_name();
            let kind = entry.file_type().map_err(wrong)?;
            if kind.is_dir() && name != SKIPPED {
                open.push(entry.path());
            } else if !kind.is_dir() && name.to_str().is_some_and(is_dockerfile) {
                found.push(entry.path());
            }
        }
    }
    if found.len() == before {
        let message = format!("{} holds no Dockerfile", path.display());
        return Err(UsageError(message).into());
    }
    found[before..].sort();
    Ok(())
}

/// Whether a file is called as Dockerfiles are; their ignore files are not.
fn is_dockerfile(name: &str) -> bool {
    let is_named = matches!(name, "Dockerfile" | "dockerfile" | "Containerfile")
        || name.starts_with("Dockerfile.")
        || name.ends_with(".Dockerfile")
        || name.ends_with(".dockerfile");
    is_named && !name.ends_with(".dockerignore")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_dockerfiles() {
        for (name, expected) in [
            ("Dockerfile", true),
            ("Dockerfile.dev", true),
            ("app.Dockerfile", true),
            ("app.dockerfile", true),
            ("Containerfile", true),
            ("Dockerfile.dockerignore", false),
            ("Dockerfiles", false),
            ("docker-compose.yml", false),
        ] {
            assert_eq!(is_dockerfile(name), expected, "{name}");
        }
    }
}
