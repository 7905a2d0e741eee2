//! Exit codes, and which error ends with which.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | success |
//! | 1 | internal error: a fault of lapstrake |
//! | 2 | usage: a flag, an argument or the configuration file |
//! | 3 | the Dockerfile or what it names is wrong: syntax, missing stage, missing source file |
//! | 4 | a RUN failed; its own status is in the message and in the metadata file |
//! | 5 | registry or network: worth trying again |
//! | 6 | this environment cannot build: no sandbox, no space, no writable store |
//! | 130, 143 | cancelled by SIGINT, by SIGTERM |
//!
//! `lapstrake check` and `build --check` end with 1 when they found warnings and nothing worse.
//!
//! `lapstrake run` ends with the status of the process it ran; 127 when the image has no such program,
//! 126 when it cannot be executed, 125 for every other error.

use std::process::ExitCode;

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A fault of lapstrake.
    Internal,
    /// A flag, an argument, the configuration file.
    Usage,
    /// The Dockerfile, or what it names.
    Dockerfile,
    /// A RUN failed.
    Run,
    /// Registry or network.
    Network,
    /// The environment cannot build.
    Environment,
    /// A signal of this number.
    Cancelled(i32),
}

impl Class {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Dockerfile => 3,
            Self::Run => 4,
            Self::Network => 5,
            Self::Environment => 6,
            Self::Cancelled(signal) => 128u8.saturating_add(u8::try_from(signal).unwrap_or(0)),
        }
    }

    /// The class's name in the metadata file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::Dockerfile => "dockerfile",
            Self::Run => "run",
            Self::Network => "network",
            Self::Environment => "environment",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

impl From<Class> for ExitCode {
    fn from(class: Class) -> Self {
        Self::from(class.code())
    }
}

/// Something the user has to mend in flags, arguments or the configuration file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
