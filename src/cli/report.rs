//! Errors as people read them, and the class each belongs to.

use std::ffi::OsStr;
use std::fmt;
use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::exit::{Class, UsageError};
use super::sandbox::{CannotTry, NoSandbox};
use super::stdout::StdoutError;
use crate::build::{
    Cancelled, Ended, MountError, NoDirectory, RunFailed, StepFailed, Unsupported, Why,
};
use crate::config::ConfigError;
use crate::context::ContextError;
use crate::copy::{ChmodError, CopyError};

use crate::dockerfile::{Diagnostic, DiagnosticKind, render};
use crate::fetch::{Fault, FetchError, FetchErrorKind};
use crate::image::{PlatformError, ReferenceError};
use crate::layer::LayerError;
use crate::output::OutputError;
use crate::registry::{RegistryError, RegistryErrorKind};
use crate::remote_cache::PlaceError;
use crate::rootfs::UserError;
use crate::store::StoreError;
use crate::transfer::TransferError;

/// A Dockerfile as it was read, for diagnostics that show its lines.
pub(super) struct SourceText {
    /// What it is called in diagnostics.
    pub(super) name: String,
    pub(super) text: String,
}

/// How many errors of one file are shown: what is no Dockerfile has one in every line.
const MOST_SHOWN: usize = 20;

/// Errors shown at the lines of the Dockerfile that they concern.
#[derive(Debug)]
pub(super) struct Diagnostics {
    rendered: String,
    cause: Option<anyhow::Error>,
}

impl Diagnostics {
    /// Errors of the Dockerfile itself.
    pub(super) fn new(source: &SourceText, found: Vec<Diagnostic>) -> Self {
        let color = is_coloured();
        // The spans stay right: nothing changes its length.
        let text = crate::plan::masked_in_place(&source.text);
        let mut rendered: Vec<String> = found
            .iter()
            .take(MOST_SHOWN)
            .map(|diagnostic| render(diagnostic, &source.name, &text, color))
            .collect();
        if found.len() > MOST_SHOWN {
            rendered.push(format!(
                "error: {} more like these",
                found.len() - MOST_SHOWN
            ));
        }
        Self {
            rendered: rendered.join("\n\n"),
            cause: None,
        }
    }

    /// A failed step, shown at its instruction; any other error stays as it is.
    /// `help` is what the user can do next.
    pub(super) fn at_step(
        source: &SourceText,
        error: anyhow::Error,
        help: Option<&str>,
    ) -> anyhow::Error {
        // The innermost: a stage that only a trigger names is built within another's step.
        let mut steps = error.chain().filter_map(|cause| cause.downcast_ref());
        let Some(failed): Option<&StepFailed> = steps.next_back() else {
            return error;
        };
        let text = in_one(&failed.source);
        let (message, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let diagnostic = match failed.source.downcast_ref::<Diagnostic>() {
            Some(diagnostic) => diagnostic.clone(),
            None => Diagnostic::error(DiagnosticKind::Step, failed.span, message)
                .label(printable(&failed.name)),
        };
        let mut rendered = Self::new(source, vec![diagnostic]).rendered;
        if !rest.is_empty() {
            rendered = format!("{rendered}\n{}", printable(rest));
        }
        if let Some(help) = help {
            rendered = format!("{rendered}\n{help}");
        }
        Self {
            rendered,
            cause: Some(error),
        }
        .into()
    }
}

/// Colours are for terminals whose user does not mind (<https://no-color.org>).
fn is_coloured() -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    wants_colour(&variable("NO_COLOR"), &variable("TERM")) && std::io::stderr().is_terminal()
}

fn wants_colour(no_color: &OsStr, term: &OsStr) -> bool {
    no_color.is_empty() && term != "dumb"
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

impl std::error::Error for Diagnostics {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause.as_ref() as _)
    }
}

/// Without what could steer a terminal: names of files and images, and a step's output, are shown as
/// they were written otherwise.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
        .collect()
}

/// Marks an error that stderr has been told of in another form.
#[derive(Debug)]
pub(super) struct AlreadyTold;

impl fmt::Display for AlreadyTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the build failed")
    }
}

/// The error for programs: `class`, `exitCode`, `message`, and of a RUN that failed its `command`
/// with `status` or `signal`.
pub(super) fn value(error: &anyhow::Error) -> Value {
    let class = classify(error);
    let mut told = json!({
        "class": class.name(),
        "exitCode": class.code(),
        "message": in_one(error),
    });
    let mut causes = error.chain();
    if let Some(failed) = causes.find_map(|cause| cause.downcast_ref::<RunFailed>()) {
        told["command"] = json!(failed.command);
        match failed.ended {
            Ended::Status(status) => told["status"] = json!(status),
            Ended::Signal(signal) => told["signal"] = json!(signal),
        }
    }
    told
}

/// Writes the error to stderr as people read it.
pub(super) fn tell(error: &anyhow::Error) {
    if error.is::<AlreadyTold>() {
        return;
    }
    match error.downcast_ref::<Diagnostics>() {
        Some(diagnostics) => eprintln!("{diagnostics}"),
        None => eprintln!("error: {}", printable(&in_one(error))),
    }
    if classify(error) == Class::Environment
        && let Some(help) = super::limits::help(&in_one(error))
    {
        eprintln!("help: {help}");
    }
}

/// The error and its causes in one text. A cause that was told already is not told again.
pub(super) fn in_one(error: &anyhow::Error) -> String {
    let skip = usize::from(error.is::<Diagnostics>() && error.chain().len() > 1);
    let mut text = String::new();
    for cause in error.chain().skip(skip) {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// The class of an error: that of the innermost cause that has one, but for what wraps it on
/// purpose.
pub(super) fn classify(error: &anyhow::Error) -> Class {
    let classes: Vec<Class> = error.chain().filter_map(class_of).collect();
    classes.last().copied().unwrap_or_else(|| {
        let is_dockerfile = error.chain().any(|cause| cause.is::<Diagnostics>());
        if is_dockerfile && !error.chain().any(|cause| cause.is::<StepFailed>()) {
            Class::Dockerfile
        } else {
            Class::Internal
        }
    })
}

fn class_of(cause: &(dyn std::error::Error + 'static)) -> Option<Class> {
    if let Some(Cancelled(why)) = cause.downcast_ref() {
        return Some(match why {
            Why::Signal(signal) => Class::Cancelled(*signal),
            Why::Failure => Class::Internal,
        });
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some(store_class(error));
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        return io_class(error);
    }
    // Errors that only pass another on are not followed by it in the chain of causes.
    match cause.downcast_ref::<TransferError>() {
        Some(TransferError::Store(error)) => return Some(store_class(error)),
        Some(error) => return transfer_class(error),
        None => {}
    }
    if let Some(error) = cause.downcast_ref::<MountError>() {
        return Some(mount_class(error));
    }
    if let Some(error) = cause.downcast_ref::<FetchError>() {
        return error.fault().map(|fault| match fault {
            Fault::Network => Class::Network,
            Fault::Request => Class::Dockerfile,
            Fault::Environment => Class::Environment,
        });
    }
    if let Some(FetchErrorKind::Store(error)) = cause.downcast_ref::<FetchErrorKind>() {
        return Some(store_class(error));
    }
    if let Some(error) = cause.downcast_ref::<runtime::Error>() {
        return Some(sandbox_class(error));
    }
    if let Some(OutputError::NoLayout { .. }) = cause.downcast_ref() {
        return Some(Class::Usage);
    }
    match cause.downcast_ref::<PlaceError>() {
        Some(PlaceError::Disk { .. }) => return Some(Class::Environment),
        Some(PlaceError::Damaged { .. }) => return Some(Class::Usage),
        Some(PlaceError::Registry(_)) | None => {}
    }
    if let Some(error) = cause.downcast_ref::<RegistryError>() {
        return Some(registry_class(error));
    }
    if let Some(LayerError::NoAttributes { .. }) = cause.downcast_ref() {
        return Some(Class::Environment);
    }
    let usage = cause.is::<UsageError>() || cause.is::<ConfigError>();
    let environment = cause.is::<runtime::EnterError>()
        || cause.is::<NoSandbox>()
        || cause.is::<CannotTry>()
        || cause.is::<runtime::MissingCall>();
    let dockerfile = cause.is::<Diagnostic>()
        || cause.is::<Unsupported>()
        || cause.is::<NoDirectory>()
        || cause.is::<CopyError>()
        || cause.is::<ContextError>()
        || cause.is::<UserError>()
        || cause.is::<ChmodError>()
        || cause.is::<ReferenceError>()
        || cause.is::<PlatformError>();
    let dockerfile = dockerfile
        || cause
            .downcast_ref::<LayerError>()
            .is_some_and(is_bad_archive);
    [
        (usage, Class::Usage),
        (cause.is::<RunFailed>(), Class::Run),
        (environment, Class::Environment),
        (dockerfile, Class::Dockerfile),
    ]
    .into_iter()
    .find_map(|(is, class)| is.then_some(class))
}

/// Where a step wants to stand or to mount is the Dockerfile's matter.
fn sandbox_class(error: &runtime::Error) -> Class {
    match error {
        runtime::Error::MountPoint { .. } | runtime::Error::WorkingDirectory { .. } => {
            Class::Dockerfile
        }
        runtime::Error::UnknownLimit(_) => Class::Usage,
        _ => Class::Environment,
    }
}

/// Without threads there is no network, and that is not the network's matter.
fn registry_class(error: &RegistryError) -> Class {
    match error.kind() {
        RegistryErrorKind::Threads { .. } => Class::Environment,
        _ => Class::Network,
    }
}

/// What was not given is the command line's matter, what is not there the Dockerfile's.
fn mount_class(error: &MountError) -> Class {
    match error {
        MountError::NoSecret(_) | MountError::NoAgent(_) | MountError::BinarySecret(_) => {
            Class::Usage
        }
        MountError::Source { .. } | MountError::NoDirectory { .. } => Class::Dockerfile,
    }
}

fn transfer_class(error: &TransferError) -> Option<Class> {
    match error {
        TransferError::Remote(error) => {
            let is_store = error.downcast_ref::<StoreError>();
            let registry = error.downcast_ref().map(registry_class);
            is_store.map(store_class).or(registry)
        }
        TransferError::Platform { .. } => Some(Class::Dockerfile),
        TransferError::NotHere { .. } | TransferError::Archive { .. } => Some(Class::Usage),
        TransferError::Import { .. } | TransferError::Read { .. } => Some(Class::Usage),
        TransferError::Manifest { .. } | TransferError::DiffId { .. } => Some(Class::Network),
        TransferError::OnlyFor { source, .. } => class_of(source.as_ref()),
        TransferError::Layer { .. } | TransferError::Store(_) | TransferError::Stopped => None,
    }
}

/// What an archive holds is the Dockerfile's matter, what the disk says the environment's.
fn is_bad_archive(error: &LayerError) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let LayerError::Target(target) = error else {
        return matches!(
            error,
            LayerError::Damaged { .. }
                | LayerError::Refused { .. }
                | LayerError::Stream { .. }
                | LayerError::Depth { .. }
        );
    };
    // An archive that breaks off shows where its content is written.
    let cause = std::error::Error::source(target).and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|error: &std::io::Error| matches!(error.kind(), UnexpectedEof | InvalidData))
}

fn store_class(error: &StoreError) -> Class {
    match error {
        StoreError::NoImage { .. } | StoreError::Ambiguous { .. } => Class::Usage,
        error if error.is_environment() => Class::Environment,
        StoreError::Io { source, .. } if is_in_the_way(source) => Class::Environment,
        _ => Class::Internal,
    }
}

/// The store's place is not one that can be written, or somebody took it away.
fn is_in_the_way(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotADirectory | NotFound | PermissionDenied)
}

/// A full disk or a read-only one is the environment's, wherever it shows, and so are a limit that is
/// reached and a call that the kernel lacks.
fn io_class(error: &std::io::Error) -> Option<Class> {
    use std::io::ErrorKind::{
        FileTooLarge, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull, Unsupported,
    };
    let of_kind = matches!(
        error.kind(),
        StorageFull | QuotaExceeded | ReadOnlyFilesystem | FileTooLarge | OutOfMemory | Unsupported
    );
    let limits = [libc::EMFILE, libc::ENFILE, libc::EAGAIN];
    let of_limit = error
        .raw_os_error()
        .is_some_and(|errno| limits.contains(&errno));
    (of_kind || of_limit || StdoutError::is_in(error)).then_some(Class::Environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;

    #[test]
    fn colours_can_be_refused() {
        for (no_color, term, expected) in [
            ("", "xterm", true),
            ("", "", true),
            ("1", "xterm", false),
            ("", "dumb", false),
        ] {
            assert_eq!(wants_colour(no_color.as_ref(), term.as_ref()), expected);
        }
    }

    #[test]
    fn what_is_no_dockerfile_is_not_told_line_by_line() {
        let text = "nonsense\n".repeat(1000);
        let found = crate::dockerfile::parse(&text).unwrap_err();
        let source = SourceText {
            name: "Dockerfile".into(),
            text,
        };
        let told = Diagnostics::new(&source, found).to_string();
        assert_eq!(told.matches("unknown instruction").count(), MOST_SHOWN);
        assert!(told.ends_with("error: 980 more like these"), "{told}");
    }

    #[test]
    fn the_name_of_a_file_does_not_steer_a_terminal() {
        let source = SourceText {
            name: "\u{1b}[2J\u{9b}2Jf".into(),
            text: "x".into(),
        };
        let found = Diagnostic::error(DiagnosticKind::Syntax, Span::new(0, 1), "wrong");
        let told = Diagnostics::new(&source, vec![found]).to_string();
        assert!(
            !told.contains(|c: char| c.is_control() && c != '\n'),
            "{told:?}"
        );
    }
}
