//! What is wrong with the words of a stage whatever its base and its arguments are.
//!
//! A word is expanded when its stage is built, after bases were fetched and earlier steps were run.
//! Most mistakes need none of that to be seen: they are looked for in every needed stage beforehand, and
//! told together.

use std::ops::Range;

use super::stages::{Plan, Stage};
use super::state::StageState;
use crate::dockerfile::expand::{ExpandError, check_heredoc, check_word, wrong_part};
use crate::dockerfile::{
    ArgItem, Diagnostic, DiagnosticKind, Instruction, InstructionKind, Span, Spanned, Transfer,
};

/// Looks through every stage that the target needs.
pub(super) fn check_words(plan: &Plan) -> Vec<Diagnostic> {
    let stages = plan.stages().iter();
    stages.flat_map(|stage| check_stage(plan, stage)).collect()
}

fn check_stage(plan: &Plan, stage: &Stage) -> Vec<Diagnostic> {
    // No instruction without variables that is tried depends on what came before it.
    let mut state = StageState::from_image(plan, stage, None);
    let mut errors = Vec::new();
    for instruction in &stage.instructions {
        let found = check_syntax(plan, instruction);
        if found.is_empty() && is_constant(instruction) {
            errors.extend(state.apply(instruction).err());
        }
        errors.extend(found);
    }
    errors
}

fn check_syntax(plan: &Plan, instruction: &Instruction) -> Vec<Diagnostic> {
    let escape = plan.shared.escape;
    let mut errors: Vec<Diagnostic> = words(plan, &instruction.kind)
        .into_iter()
        .filter_map(|word| {
            let error = check_word(&word.value, escape).err()?;
            let part = wrong_part(&word.value, escape, true);
            let span = narrow(word.span, word.value.len(), part).unwrap_or(word.span);
            Some(expand_error(
                &Spanned::new(word.value.clone(), span),
                &error,
            ))
        })
        .collect();
    match &instruction.kind {
        InstructionKind::Copy(transfer) => errors.extend(check_bodies(transfer)),
        InstructionKind::Add(add) => errors.extend(check_bodies(&add.transfer)),
        InstructionKind::Run(run) => {
            for mount in &run.mounts {
                let values = mount.fields.iter().filter(|(key, _)| key != "from");
                errors.extend(values.filter_map(|(_, value)| {
                    let value = value.as_ref()?;
                    let error = check_word(value, escape).err()?;
                    Some(expand_error(
                        &Spanned::new(value.clone(), mount.span),
                        &error,
                    ))
                }));
            }
        }
        _ => {}
    }
    errors
}

fn check_bodies(transfer: &Transfer) -> impl Iterator<Item = Diagnostic> + '_ {
    transfer.inline.iter().filter_map(|file| {
        let error = check_heredoc(&file.body).err().filter(|_| file.expand)?;
        let part = wrong_part(&file.body, '\\', false)?;
        let text = file.body.get(part.clone()).unwrap_or(&file.body).to_owned();
        let place = narrow(file.place, file.body.len(), Some(part));
        Some(expand_error(
            &Spanned::new(text, place.unwrap_or(file.name.span)),
            &error,
        ))
    })
}

/// The `part` of a text of `length` bytes that stands at `span`, if it stands there in one piece.
fn narrow(span: Span, length: usize, part: Option<Range<usize>>) -> Option<Span> {
    let part = part.filter(|_| span.end - span.start == length)?;
    Some(Span::new(span.start + part.start, span.start + part.end))
}

/// The words of an instruction that are expanded, values of mounts and bodies of heredocs left out.
fn words<'a>(plan: &Plan, kind: &'a InstructionKind) -> Vec<&'a Spanned<String>> {
    match kind {
        InstructionKind::Arg(items) => items
            .iter()
            .flat_map(|item| [Some(&item.name), used_default(plan, item)])
            .flatten()
            .collect(),
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => pairs
            .iter()
            .flat_map(|pair| [&pair.key, &pair.value])
            .collect(),
        InstructionKind::Workdir(word)
        | InstructionKind::User(word)
        | InstructionKind::StopSignal(word) => vec![word],
        InstructionKind::Expose(words) | InstructionKind::Volume(words) => words.iter().collect(),
        InstructionKind::Copy(transfer) => transfer_words(transfer),
        InstructionKind::Add(add) => {
            let mut words = transfer_words(&add.transfer);
            words.extend(&add.checksum);
            words
        }
        _ => Vec::new(),
    }
}

/// A default in whose place a build argument stands is not looked at.
fn used_default<'a>(plan: &Plan, item: &'a ArgItem) -> Option<&'a Spanned<String>> {
    let given = plan.shared.options.build_arg(&item.name.value).is_some();
    item.default.as_ref().filter(|_| !given)
}

fn transfer_words(transfer: &Transfer) -> Vec<&Spanned<String>> {
    let flags = [&transfer.chown, &transfer.chmod];
    let words = transfer.sources.iter().chain([&transfer.dest]);
    words.chain(flags.into_iter().flatten()).collect()
}

/// Whether applying the instruction gives the same on every base: it holds no variable, and its
/// values are checked by what they are alone.
fn is_constant(instruction: &Instruction) -> bool {
    let checked = matches!(
        &instruction.kind,
        InstructionKind::Expose(_)
            | InstructionKind::Volume(_)
            | InstructionKind::StopSignal(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Add(_)
    );
    let bodies = instruction
        .heredocs
        .iter()
        .any(|heredoc| heredoc.body.contains('$'));
    checked && !bodies && !instruction.text.contains('$')
}

/// A word that cannot be expanded.
pub(super) fn expand_error(word: &Spanned<String>, error: &ExpandError) -> Diagnostic {
    let message = format!("cannot expand {:?}: {error}", shorten(&word.value));
    let diagnostic = Diagnostic::error(DiagnosticKind::Expansion, word.span, message);
    match hint(error) {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

fn hint(error: &ExpandError) -> Option<&'static str> {
    match error {
        ExpandError::OpenQuote(_) => {
            Some("close it, or write the escape character before a quote that is meant literally")
        }
        ExpandError::Missing('}') => {
            Some("close it with }; a form that holds white space must stand in double quotes")
        }
        ExpandError::Missing(_) => Some("both slashes are needed: ${name/pattern/replacement}"),
        ExpandError::BadSubstitution => {
            Some("${name}, or ${name:-text}; names are letters, digits and _")
        }
        ExpandError::Modifier(..) => Some(
            "known: ${x-text} ${x+text} ${x?text}, each also with : before the sign, ${x#p} ${x##p} ${x%p} ${x%%p} ${x/p/r} ${x//p/r}",
        ),
        ExpandError::TooLong => {
            Some("a value this long cannot be given to a process: keep it in a file")
        }
        ExpandError::Required { .. } | ExpandError::Pattern { .. } | ExpandError::TooDeep => None,
    }
}

fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
