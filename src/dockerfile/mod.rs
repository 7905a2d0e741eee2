//! Dockerfile text → typed instructions, each with the place it stands at; expansion; diagnostics.
//!
//! Pure: `&str` in, values out. The grammar is SEMANTICS S1 and S2, expansion S3. Instructions hold
//! what was written; [`expand`] is applied by the plan, which knows the environment.

mod arguments;
mod diagnostic;
mod directive;
mod dump;
mod duration;
mod excerpt;
pub mod expand;
mod flags;
mod heredoc;
mod instruction;
mod mount;
mod parse;
mod pattern;
mod position;
mod render;
mod span;
mod split;
#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, DiagnosticKind, Label, Severity, nearest};
pub use directive::Directives;
pub use dump::{dump, normalised};
pub use duration::parse_duration;
pub use heredoc::Heredoc;
pub use instruction::{
    Add, ArgItem, CommandLine, From, Healthcheck, HealthcheckOptions, InlineSource, Instruction,
    InstructionKind, KEYWORDS, KeyValue, NetworkMode, OnBuild, Run, SecurityMode, Transfer,
};
pub use mount::{Mount, MountFlag, MountKind, Sharing, csv_fields};
pub use parse::{Dockerfile, parse, parse_onbuild_trigger};
pub use position::Positions;
pub use render::render;
pub use span::{Lines, Span, Spanned};
