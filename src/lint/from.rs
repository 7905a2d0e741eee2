//! `FROM` lines and the global arguments they see, in every stage.

use super::Request;
use super::finding::Findings;
use super::rule::Rule;
use super::variables::{Expanded, expand};
use crate::dockerfile::{From, Instruction, InstructionKind, Spanned, nearest};
use crate::image::{Platform, Reference};
use crate::plan::{Environment, Plan, PlanOptions};

pub(super) fn check(request: &Request<'_>, findings: &mut Findings) {
    // Defaults that cannot be expanded are an error of the plan.
    if let Ok(globals) = Plan::global_args(request.dockerfile, request.options) {
        let lines = Lines {
            escape: request.dockerfile.directives.escape,
            declared: declared(request, &globals),
            globals,
        };
        for (instruction, from) in froms(request) {
            lines.image(instruction, from, findings);
            if let Some(platform) = &from.platform {
                lines.platform(instruction, from, platform, findings);
            }
        }
    }
    let options = PlanOptions {
        build_args: (request.options.build_args.iter())
            .filter(|(name, _)| PlanOptions::is_platform_arg(name))
            .cloned()
            .collect(),
        ..request.options.clone()
    };
    if let Ok(defaults) = Plan::global_args(request.dockerfile, &options) {
        default_names(request, &defaults, findings);
    }
}

fn froms<'a>(request: &Request<'a>) -> impl Iterator<Item = (&'a Instruction, &'a From)> {
    let all = request.dockerfile.instructions.iter();
    all.filter_map(|instruction| match &instruction.kind {
        InstructionKind::From(from) => Some((instruction, from)),
        _ => None,
    })
}

/// Every global name: those with a value, and those that an `ARG` only declares.
fn declared(request: &Request<'_>, globals: &Environment) -> Vec<String> {
    let mut names: Vec<String> = globals
        .pairs()
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    for instruction in &request.dockerfile.instructions {
        match &instruction.kind {
            InstructionKind::Arg(items) => {
                names.extend(items.iter().map(|item| item.name.value.clone()));
            }
            _ => break,
        }
    }
    names
}

/// What `FROM` lines are seen with.
struct Lines {
    escape: char,
    globals: Environment,
    declared: Vec<String>,
}

impl Lines {
    fn image(&self, instruction: &Instruction, from: &From, findings: &mut Findings) {
        self.undeclared(instruction, &from.image, findings);
    }

    /// Tells of variables that no global `ARG` declares.
    fn undeclared(
        &self,
        instruction: &Instruction,
        word: &Spanned<String>,
        findings: &mut Findings,
    ) -> Expanded {
        let expanded = expand(&word.value, self.escape, &self.globals);
        for name in &expanded.unset {
            if self.declared.contains(name) {
                continue;
            }
            let mut detail =
                format!("FROM uses ${name}, which no ARG before the first FROM declares");
            if let Some(near) = nearest(name, self.declared.iter().map(String::as_str)) {
                detail.push_str(&format!(" (did you mean {near}?)"));
            }
            findings.add(Rule::UndefinedArgInFrom, instruction, word.span, detail);
        }
        expanded
    }

    fn platform(
        &self,
        instruction: &Instruction,
        from: &From,
        word: &Spanned<String>,
        findings: &mut Findings,
    ) {
        const TARGET: &str = "TARGETPLATFORM";
        let expanded = self.undeclared(instruction, word, findings);
        let Ok(text) = &expanded.text else {
            return;
        };
        if expanded.unset.is_empty()
            && expanded.set == [TARGET]
            && self.globals.get(TARGET) == Some(text)
        {
            let detail = format!(
                "--platform={} is what FROM does without the flag",
                word.value
            );
            findings.add(
                Rule::RedundantTargetPlatform,
                instruction,
                word.span,
                detail,
            );
        }
        let is_constant = expanded.unset.is_empty() && expanded.set.is_empty();
        if let (true, Ok(platform)) = (is_constant, text.parse::<Platform>())
            && !is_named_after(from, &platform)
        {
            let detail = format!("the platform of FROM is the constant {text:?}");
            let rule = Rule::FromPlatformFlagConstDisallowed;
            findings.add(rule, instruction, word.span, detail);
        }
    }
}

/// Whether the stage's name shows that it is meant for the platform.
fn is_named_after(from: &From, platform: &Platform) -> bool {
    let name = from.name.as_ref().map_or("", |name| name.value.as_str());
    name.contains(&platform.os) || name.contains(&platform.arch)
}

/// Tells of images that have no valid name unless a build argument is given.
fn default_names(request: &Request<'_>, defaults: &Environment, findings: &mut Findings) {
    let escape = request.dockerfile.directives.escape;
    for (instruction, from) in froms(request) {
        let Ok(name) = expand(&from.image.value, escape, defaults).text else {
            return;
        };
        if name.parse::<Reference>().is_err() {
            let detail = format!(
                "without build arguments {} is {name:?}, no valid name of an image",
                from.image.value
            );
            findings.add(
                Rule::InvalidDefaultArgInFrom,
                instruction,
                from.image.span,
                detail,
            );
        }
    }
}
