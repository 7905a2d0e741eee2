//! What can be said of a Dockerfile without building it: the checks that BuildKit knows (S15), the
//! parameters of a target, the list of targets.
//!
//! Pure: a parsed file, its plan, an ignore file and what is known of base images go in, findings
//! come out. The conditions are BuildKit's; names and addresses too, so that `# check=skip=…` and
//! whatever reads the findings work unchanged.
//!
//! * `rule`: the rules' names; `options`: `# check=`; `finding`: one finding, and which are kept
//! * `syntax`: what the text alone shows, in every stage
//! * `from`: `FROM` lines and global arguments, in every stage
//! * `stage`, `config`, `variables`: instructions in order, of the stages that the target needs, or
//!   of all: BuildKit takes all where it only checks and no target is named
//! * `outline`, `targets`: the other questions; `json`, `sarif`: findings for programs
//!
//! What a base image sets is known only to a build. Without it, a variable that no instruction sets
//! may still come from the base, so [`Rule::UndefinedVar`] is told only of stages whose base is
//! `scratch`, and [`Rule::WorkdirRelativePath`] only where the path needs no such variable. Of a
//! base's `SHELL` nothing is presumed. A comment above an instruction holds for that instruction.

mod config;
mod finding;
mod from;
mod json;
mod options;
mod outline;
mod rule;
mod sarif;
mod stage;
mod syntax;
mod targets;
#[cfg(test)]
mod tests;
mod variables;

use crate::context::IgnoreFile;
use crate::dockerfile::{Diagnostic, DiagnosticKind, Dockerfile};
use crate::image::{ImageConfig, Platform};
use crate::plan::{Plan, PlanOptions};

pub use finding::Finding;
pub use json::{Checked, findings_json, warnings_json};
pub use options::{CheckOptions, OPTIONS_ARG};
pub use outline::{CacheMount, Outline, OutlineArg, Parameter, outline};
pub use rule::Rule;
pub use sarif::sarif;
pub use targets::{Target, targets, targets_json};

use finding::Findings;

/// What is known of a base image: its configuration, by reference and platform.
pub type KnownBases<'a> = &'a dyn Fn(&str, &Platform) -> Option<ImageConfig>;

/// What is to be checked.
pub struct Request<'a> {
    /// The parsed file.
    pub dockerfile: &'a Dockerfile,
    /// What the plan was made from.
    pub options: &'a PlanOptions,
    /// The plan; none if the file cannot be planned, then only its text and `FROM`s are checked.
    pub plan: Option<&'a Plan>,
    /// Look at every stage, not only at those that the target needs.
    pub all_stages: bool,
    /// The context's ignore file.
    pub ignore: Option<&'a IgnoreFile>,
    /// What is known of base images.
    pub bases: KnownBases<'a>,
}

/// What the checks found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The findings that are not skipped, in the order of the file.
    pub findings: Vec<Finding>,
    /// Instructions that are certain to fail, of the stages that were looked at.
    pub mistakes: Vec<Diagnostic>,
    /// Whether findings are to fail the build.
    pub fatal: bool,
}

impl Report {
    /// The error that findings are if `error=true` was asked for.
    pub fn violation(&self) -> Option<Diagnostic> {
        if !self.fatal || self.findings.is_empty() {
            return None;
        }
        let mut names: Vec<&str> = Vec::new();
        for finding in &self.findings {
            if !names.contains(&finding.rule.name()) {
                names.push(finding.rule.name());
            }
        }
        let message = format!("the checks found something: {}", names.join(", "));
        let error = Diagnostic::without_place(DiagnosticKind::Lint, message);
        Some(error.hint("error=true of the check options makes this an error"))
    }
}

/// Checks a file.
///
/// # Errors
/// Check options that are malformed.
pub fn check(request: &Request<'_>) -> Result<Report, Diagnostic> {
    let options = CheckOptions::of(request.dockerfile, request.options)?;
    let mut findings = Findings::new(options);
    syntax::check(request.dockerfile, &mut findings);
    from::check(request, &mut findings);
    let mistakes = match request.plan {
        Some(plan) => stage::check(request, plan, &mut findings),
        None => Vec::new(),
    };
    Ok(Report {
        fatal: findings.options.error,
        findings: findings.sorted(),
        mistakes,
    })
}
