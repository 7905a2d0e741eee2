//! Instructions + arguments → graph of stages, and the pure evaluator of one stage.
//!
//! Planning has two phases, since expansion inside a stage needs the base image's environment:
//! [`Plan::new`] resolves stages and their references; [`StageState`] then walks the instructions
//! of one stage once its base is known and yields typed [`Step`]s. Neither does any I/O.

mod config;
mod contexts;
mod environment;
mod git_url;
mod globals;
mod graph;
mod history;
mod mask;
mod options;
mod ports;
mod reference;
mod run;
mod signal;
mod stages;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod transfer;
mod words;

pub use contexts::{ContextKind, FIXED_NAMES, NamedContext, context_name};
pub use environment::Environment;
pub use git_url::{GitUrl, GitUrlError, Login};
pub use mask::{is_secret_name, masked, masked_in_place};
pub use options::PlanOptions;
pub use reference::Source;
pub use stages::{Base, Plan, Stage};
pub use state::StageState;
pub use step::{
    AddSource, AddStep, CopyStep, InlineFile, RunMount, RunMountKind, RunStep, Step, StepKind,
};

pub use transfer::check_add;

/// The `comment` of every history entry.
pub const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// The search path of a base that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
