//! What a build shows on stderr: `--progress`, `--explain`, `--quiet`.

use std::ffi::OsString;

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::build_args::{BuildArgs, ProgressArg};
use super::exit::UsageError;
use super::report::{self, AlreadyTold};
use crate::image::Digest;
use crate::progress::{Json, Plain, Progress, Quiet};

/// The variable with the usual kind.
const VARIABLE: &str = "BUILDKIT_PROGRESS";

/// Who draws a build.
pub(super) struct Shown {
    kind: ProgressArg,
    progress: Progress,
}

impl Shown {
    /// As the flags have it, else the variable, which `env` looks up.
    ///
    /// # Errors
    /// A kind that there is not.
    pub(super) fn new(
        args: &BuildArgs,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, UsageError> {
        let kind = match args.progress {
            _ if args.quiet => ProgressArg::Quiet,
            Some(ProgressArg::Tty) => return Err(no_tty("--progress tty")),
            Some(kind) => kind,
            None => of_variable(env(VARIABLE))?,
        };
        if args.explain && matches!(kind, ProgressArg::Quiet | ProgressArg::None) {
            return Err(UsageError(
                "--explain and a quiet build exclude each other; --metadata-file has the reasons in any \
                 case"
                    .into(),
            ));
        }
        let stderr = std::io::stderr();
        let progress = match kind {
            ProgressArg::Quiet | ProgressArg::None => Progress::new(Quiet),
            ProgressArg::RawJson => Progress::new(Json::new(stderr)),
            _ => Progress::new(Plain::new(stderr).explaining(args.explain)),
        };
        Ok(Self { kind, progress })
    }

    /// Where events go.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether nothing but errors is shown.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.kind, ProgressArg::Quiet | ProgressArg::None)
    }

    /// Whether stderr is for programs.
    pub(super) fn is_json(&self) -> bool {
        self.kind == ProgressArg::RawJson
    }

    /// Tells the id of what was built.
    pub(super) fn built(&self, id: &Digest) {
        if !self.is_json() {
            eprintln!("built {id}");
        }
    }

    /// Tells programs what was built: the object of the metadata file.
    pub(super) fn succeeded(&self, result: &Value) {
        let value = json!({"ok": true, "result": result});
        self.progress.data("result", &value);
    }

    /// Tells programs why the build failed; the error then is not told again.
    pub(super) fn failed(&self, error: anyhow::Error) -> anyhow::Error {
        if !self.is_json() {
            return error;
        }
        let value = json!({"ok": false, "error": report::value(&error)});
        self.progress.data("result", &value);
        error.context(AlreadyTold)
    }
}

fn of_variable(value: Option<OsString>) -> Result<ProgressArg, UsageError> {
    let Some(text) = value.filter(|value| !value.is_empty()) else {
        return Ok(ProgressArg::Auto);
    };
    let text = text.to_string_lossy();
    match ProgressArg::from_str(&text, false) {
        Ok(ProgressArg::Tty) => Err(no_tty(&format!("{VARIABLE}=tty"))),
        Ok(kind) => Ok(kind),
        Err(_) => Err(UsageError(format!(
            "{VARIABLE}={text}: expected auto, plain, rawjson, quiet or none"
        ))),
    }
}

fn no_tty(what: &str) -> UsageError {
    UsageError(format!(
        "{what} is not supported: no lines are redrawn; use auto or plain"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_has_the_usual_kind() {
        for (value, expected) in [
            (None, Ok(ProgressArg::Auto)),
            (Some(""), Ok(ProgressArg::Auto)),
            (Some("plain"), Ok(ProgressArg::Plain)),
            (Some("rawjson"), Ok(ProgressArg::RawJson)),
            (Some("none"), Ok(ProgressArg::None)),
            (Some("tty"), Err("BUILDKIT_PROGRESS=tty is not supported")),
            (Some("x"), Err("BUILDKIT_PROGRESS=x: expected auto")),
        ] {
            match (of_variable(value.map(Into::into)), expected) {
                (Ok(kind), Ok(expected)) => assert_eq!(kind, expected),
                (Err(error), Err(text)) => assert!(error.0.contains(text), "{error}"),
                (found, _) => panic!("{value:?}: {found:?}"),
            }
        }
    }
}
