//! The checks of a build: before its first step with what is known then, after it with what the base
//! images turned out to be.

use std::io::IsTerminal as _;

use anyhow::Result;
use serde_json::Value;

use super::call::{count, findings_text};
use super::report::{Diagnostics, SourceText};
use super::shown::Shown;
use crate::build::SeenBases;
use crate::context::IgnoreFile;
use crate::dockerfile::{Dockerfile, InstructionKind, nearest};
use crate::lint::{self, Report, Request};
use crate::plan::{Plan, PlanOptions};
use crate::progress::Progress;

/// What the checks of a build look at.
pub(super) struct Checks<'a> {
    pub(super) source: &'a SourceText,
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) options: &'a PlanOptions,
    pub(super) plan: &'a Plan,
    pub(super) ignore: &'a IgnoreFile,
    pub(super) seen: &'a SeenBases,
    pub(super) shown: &'a Shown,
}

impl Checks<'_> {
    fn report(&self) -> Result<Report> {
        let request = Request {
            dockerfile: self.dockerfile,
            options: self.options,
            plan: Some(self.plan),
            all_stages: false,
            ignore: Some(self.ignore),
            bases: &|reference, platform| self.seen.get(reference, platform),
        };
        let wrong = |error| Diagnostics::new(self.source, vec![error]);
        Ok(lint::check(&request).map_err(wrong)?)
    }

    /// Puts what is found so far into `warnings`; gives whether more of it would be an error.
    ///
    /// # Errors
    /// Malformed check options, and findings where these make them errors.
    pub(super) fn agree(&self, warnings: &mut Vec<Value>) -> Result<bool> {
        let report = self.report()?;
        *warnings = lint::warnings_json(&report.findings, 0);
        match report.violation() {
            None => Ok(report.fatal),
            Some(violation) => {
                self.show(&report);
                Err(Diagnostics::new(self.source, vec![violation]).into())
            }
        }
    }

    /// Tells what was found, unless nothing is shown, and puts it into `warnings`.
    pub(super) fn tell(&self, warnings: &mut Vec<Value>) -> Result<()> {
        let report = self.report()?;
        *warnings = lint::warnings_json(&report.findings, 0);
        // Findings that are errors were shown where they ended the build.
        if !self.shown.is_quiet() && !report.fatal {
            self.show(&report);
        }
        Ok(())
    }

    fn show(&self, report: &Report) {
        if report.findings.is_empty() {
            return;
        }
        if self.shown.is_json() {
            for finding in lint::warnings_json(&report.findings, 0) {
                self.shown.progress().data("check", &finding);
            }
            return;
        }
        let color = std::io::stderr().is_terminal();
        eprintln!("{} found:", count(report.findings.len(), "warning"));
        let (name, text) = (&self.source.name, &self.source.text);
        for shown in findings_text(&report.findings, name, text, color) {
            eprintln!("{shown}");
        }
    }
}

/// Tells that a frontend which the file or a build argument asks for is not used.
pub(super) fn note_frontend(dockerfile: &Dockerfile, options: &PlanOptions, progress: &Progress) {
    let given = options.build_arg("BUILDKIT_SYNTAX");
    let given = given.and_then(|text| text.split_whitespace().next());
    let Some(frontend) = given.or_else(|| dockerfile.directives.frontend()) else {
        return;
    };
    let name = frontend.strip_prefix("docker.io/").unwrap_or(frontend);
    let repository = name.split([':', '@']).next().unwrap_or(name);
    if !matches!(
        repository,
        "docker/dockerfile" | "docker/dockerfile-upstream"
    ) {
        progress.note(&format!(
            "syntax {frontend}: frontends are not executed, the file is read as a Dockerfile"
        ));
    }
}

/// Tells of build arguments that nothing takes.
pub(super) fn warn_unused(dockerfile: &Dockerfile, plan: &Plan, progress: &Progress) {
    let declared = || {
        let items = dockerfile
            .instructions
            .iter()
            .filter_map(|one| match &one.kind {
                InstructionKind::Arg(items) => Some(items),
                _ => None,
            });
        items.flatten().map(|item| item.name.value.as_str())
    };
    for name in plan.unused_build_args() {
        let mut text = format!("--build-arg {name}: no ARG declares it");
        if let Some(near) = nearest(name, declared()) {
            text.push_str(&format!("; did you mean {near}?"));
        }
        progress.warn(&text);
    }
}
