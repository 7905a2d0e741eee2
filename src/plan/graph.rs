//! The graph's own rules: no circles, nothing from below, only what the target needs (S5).

use std::collections::BTreeSet;

use super::reference::{Names, Numbers, Source};
use super::stages::{Base, Stage};
use crate::dockerfile::{Diagnostic, DiagnosticKind, InstructionKind, Span};

pub(super) fn check_cycles(stages: &[Stage], names: &Names) -> Result<(), Vec<Diagnostic>> {
    let mut settled = vec![false; stages.len()];
    // Most stages need what is above them only, so that the first round settles them.
    let mut grows = true;
    while grows {
        grows = false;
        for stage in stages {
            let ready = stage.depends_on.iter().all(|index| settled[*index]);
            if ready && !settled[stage.index] {
                settled[stage.index] = true;
                grows = true;
            }
        }
    }
    // Of the stages left some only lead into a cycle; a reference that goes down the file is in it.
    let culprit = stages.iter().filter(|stage| !settled[stage.index]).find_map(|stage| {
        let late = |(source, _): &&(Source, Span)| {
            matches!(source, Source::Stage(index) if *index >= stage.index && !settled[*index])
        };
        let (_, span) = stage.references.iter().find(late)?;
        Some((stage, *span))
    });
    let Some((stage, span)) = culprit else {
        return Ok(());
    };
    let message = format!("{} depends on itself", names.title(stage.index));
    Err(vec![
        Diagnostic::error(DiagnosticKind::Stage, span, message)
            .label("this reference closes the circle")
            .context(stage.from.span, "the stage begins here"),
    ])
}

/// The target and everything it needs, in the order of the file.
pub(super) fn prune(stages: &[Stage], target: usize) -> Vec<Stage> {
    let mut wanted = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if wanted.insert(index) {
            open.extend(stages.get(index).iter().flat_map(|stage| &stage.depends_on));
        }
    }
    let mut needed = Vec::new();
    for index in wanted {
        needed.extend(stages.get(index).cloned());
    }
    needed
}

/// What is wrong only in a stage that is built: references down the file, names with capitals.
pub(super) fn check_needed(needed: &[Stage], names: &Names) -> Result<(), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    for stage in needed {
        for (source, span) in &stage.references {
            if let Source::Stage(index) = source
                && *index >= stage.index
            {
                let text = index.to_string();
                let late = names.earlier_source(&text, Numbers::AreStages, *span, stage.index);
                errors.extend(late.err());
            }
        }
        errors.extend(capital_name(stage, names));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

fn capital_name(stage: &Stage, names: &Names) -> Option<Diagnostic> {
    let (Base::Image { reference, .. }, InstructionKind::From(from)) =
        (&stage.base, &stage.from.kind)
    else {
        return None;
    };
    let lower = reference.to_lowercase();
    if *reference == lower || names.find(&lower, stage.index).is_none() {
        return None;
    }
    let message = format!("{reference:?} is no image: repository names are lower case");
    Some(
        Diagnostic::error(DiagnosticKind::Stage, from.image.span, message)
            .hint(format!("to build on the stage, write FROM {lower}")),
    )
}
