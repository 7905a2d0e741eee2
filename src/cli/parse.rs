//! `lapstrake parse`: a Dockerfile as it is understood.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::call::write_json;
use super::exit::UsageError;
use super::input::read_stdin;
use super::report::{Diagnostics, SourceText};
use crate::{context, dockerfile};

/// Show how a Dockerfile is understood
///
/// Prints it with one instruction a line, without comments; with --json its instructions with the
/// place of everything in them, as docs/parse.md describes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Dockerfile; `-` reads it from stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be read or is no Dockerfile; without `--json`, one that has no such form.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let source = read(&args.file)?;
    let parsed = dockerfile::parse(&source.text);
    let parsed = parsed.map_err(|found| Diagnostics::new(&source, found))?;
    if args.json {
        return write_json(&dockerfile::dump(&parsed, &source.text), out);
    }
    let text = dockerfile::normalised(&parsed).ok_or_else(|| {
        UsageError(format!(
            "{} cannot be written with one instruction a line: use --json",
            source.name
        ))
    })?;
    write!(out, "{text}").context("cannot write to stdout")
}

fn read(file: &Path) -> Result<SourceText> {
    if file.as_os_str() == "-" {
        return Ok(SourceText {
            name: "stdin".into(),
            text: read_stdin()?,
        });
    }
    Ok(SourceText {
        name: file.display().to_string(),
        text: context::read_dockerfile(Path::new("."), Some(file))?.text,
    })
}
