//! How a build fails.

use std::fmt;

use super::image::BuiltImage;
use crate::dockerfile::Span;

/// How a RUN's process ended, when it did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A RUN's command failed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the command failed with {ended}: {}{}",
    on_one_line(command),
    tail_of(output)
)]
pub struct RunFailed {
    /// The arguments, joined by spaces.
    pub command: String,
    /// How it ended.
    pub ended: Ended,
    /// The last lines it wrote.
    pub output: Vec<String>,
    /// What it left behind, if that was to be kept.
    pub kept: Option<Box<BuiltImage>>,
}

/// The command as a title: a script is longer, and is shown where it stands.
fn on_one_line(command: &str) -> String {
    match command.trim_end().split_once('\n') {
        Some((first, _)) => format!("{first} \u{2026}"),
        None => command.to_owned(),
    }
}

fn tail_of(output: &[String]) -> String {
    if output.is_empty() {
        return String::new();
    }
    format!("\nits last output was:\n  {}", output.join("\n  "))
}

/// A step could not be done.
#[derive(Debug, thiserror::Error)]
#[error("{name}")]
pub struct StepFailed {
    /// The step as progress shows it: `[builder 2/4] RUN make`.
    pub name: String,
    /// Where the instruction stands in the Dockerfile; for a trigger, the `FROM` that brings it.
    pub span: Span,
    /// What went wrong.
    #[source]
    pub source: anyhow::Error,
}

/// Something the Dockerfile asks for that this version does not do.
#[derive(Debug, thiserror::Error)]
#[error("{what} is not supported{}", hint_of(hint))]
pub struct Unsupported {
    /// The feature, by the name it has in the Dockerfile.
    pub what: String,
    /// What the user can do instead.
    pub hint: Option<String>,
}

fn hint_of(hint: &Option<String>) -> String {
    hint.as_ref()
        .map_or_else(String::new, |hint| format!(": {hint}"))
}

/// A WORKDIR that the image has as something else.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} exists in the image and is no directory: name another one, or remove it in an earlier RUN"
)]
pub struct NoDirectory(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_told_by_its_first_line() {
        for (command, shown) in [
            ("/bin/sh -c false", "/bin/sh -c false"),
            ("/bin/sh -c a\nb\n", "/bin/sh -c a \u{2026}"),
            ("/bin/sh -c a\n", "/bin/sh -c a\n"),
        ] {
            let failed = RunFailed {
                command: command.into(),
                ended: Ended::Status(1),
                output: vec!["last".into()],
                kept: None,
            };
            let text = failed.to_string();
            let (title, rest) = text.split_once(" was:").unwrap_or((&text, ""));
            assert!(title.contains(shown.trim_end()), "{title}");
            assert!(!title.trim_end().contains("\nb"), "{title}");
            assert!(rest.contains("last"), "{text}");
        }
    }
}
