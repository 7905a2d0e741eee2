//! What the text alone shows, in every stage: the case of words, names of stages, old forms.

use super::finding::Findings;
use super::rule::Rule;
use crate::dockerfile::{Dockerfile, From, Instruction, InstructionKind, Span};

pub(super) fn check(dockerfile: &Dockerfile, findings: &mut Findings) {
    for instruction in &dockerfile.instructions {
        blank_lines(instruction, findings);
        description(instruction, findings);
        match &instruction.kind {
            InstructionKind::From(from) => from_casing(instruction, from, findings),
            InstructionKind::Maintainer(_) => {
                let detail = "MAINTAINER is deprecated: write LABEL \
                              org.opencontainers.image.authors=…";
                let span = instruction.keyword.span;
                findings.add(Rule::MaintainerDeprecated, instruction, span, detail.into());
            }
            _ => {}
        }
    }
    keyword_casing(&dockerfile.instructions, findings);
    stage_names(&dockerfile.instructions, findings);
}

fn blank_lines(instruction: &Instruction, findings: &mut Findings) {
    if let Some(first) = instruction.blank_lines.first() {
        let detail = "empty line inside a continued instruction: remove it, or put a comment there";
        findings.add(
            Rule::NoEmptyContinuation,
            instruction,
            *first,
            detail.into(),
        );
    }
}

/// The comment directly above a named stage or an `ARG` has to begin with a name it defines.
fn description(instruction: &Instruction, findings: &mut Findings) {
    let names: Vec<&str> = match &instruction.kind {
        InstructionKind::From(from) => {
            let name = from.name.as_ref();
            name.map(|name| name.value.as_str()).into_iter().collect()
        }
        InstructionKind::Arg(items) => items.iter().map(|item| item.name.value.as_str()).collect(),
        _ => return,
    };
    let (Some(comment), Some(first)) = (instruction.comments.last(), names.first()) else {
        return;
    };
    let word = comment.value.split(' ').next().unwrap_or_default();
    if names.contains(&word) || is_check_option(&comment.value) {
        return;
    }
    let example = if names.len() == 1 { first } else { "NAME" };
    let keyword = instruction.keyword.value.to_uppercase();
    let detail = format!(
        "the comment above {keyword} does not read \"# {example} DESCRIPTION\"; if it is none, \
         leave a blank line below it"
    );
    findings.add(
        Rule::InvalidDefinitionDescription,
        instruction,
        comment.span,
        detail,
    );
}

fn is_check_option(comment: &str) -> bool {
    comment
        .split_once('=')
        .is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("check"))
}

/// `(word AS, its place)` and `(name as written, its place)` of a `FROM` that has them.
fn from_casing(instruction: &Instruction, from: &From, findings: &mut Findings) {
    let Some(name) = &from.name else {
        return;
    };
    let words: Vec<&str> = instruction.text.split_whitespace().collect();
    let [.., as_word, written] = words.as_slice() else {
        return;
    };
    if *written != written.to_lowercase() {
        let detail = format!("stage name {written:?} is not in lower case");
        findings.add(Rule::StageNameCasing, instruction, name.span, detail);
    }
    let keyword = &instruction.keyword.value;
    let same = match case(keyword) {
        Some(Case::Lower) => *as_word == as_word.to_lowercase(),
        Some(Case::Upper) => *as_word == as_word.to_uppercase(),
        None => true,
    };
    if !same {
        let detail = format!("{as_word:?} is not in the case of {keyword:?}");
        findings.add(Rule::FromAsCasing, instruction, instruction.span, detail);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    Lower,
}

/// The case of a word; none if it mixes both.
fn case(word: &str) -> Option<Case> {
    match word {
        word if word == word.to_lowercase() => Some(Case::Lower),
        word if word == word.to_uppercase() => Some(Case::Upper),
        _ => None,
    }
}

/// The majority decides, upper case if there is none; arguments before the first stage do not count.
fn keyword_casing(instructions: &[Instruction], findings: &mut Findings) {
    let is_from = |instruction: &Instruction| matches!(instruction.kind, InstructionKind::From(_));
    let first = instructions.iter().position(is_from);
    let counted = &instructions[first.unwrap_or(instructions.len())..];
    let count = |wanted| {
        let cases = counted
            .iter()
            .map(|instruction| case(&instruction.keyword.value));
        cases.filter(|found| *found == Some(wanted)).count()
    };
    let (wanted, named) = match count(Case::Lower) > count(Case::Upper) {
        true => (Case::Lower, "lower case"),
        false => (Case::Upper, "upper case"),
    };
    for instruction in counted {
        let keyword = &instruction.keyword;
        if case(&keyword.value) != Some(wanted) {
            let detail = format!(
                "{} is not in {named}, as most keywords here are",
                keyword.value
            );
            findings.add(
                Rule::ConsistentInstructionCasing,
                instruction,
                keyword.span,
                detail,
            );
        }
    }
}

fn stage_names(instructions: &[Instruction], findings: &mut Findings) {
    let mut known: Vec<&str> = Vec::new();
    for instruction in instructions {
        let InstructionKind::From(From {
            name: Some(name), ..
        }) = &instruction.kind
        else {
            continue;
        };
        let (text, span): (&str, Span) = (&name.value, name.span);
        if matches!(text, "scratch" | "context") {
            let detail = format!("stage name {text:?} is reserved");
            findings.add(Rule::ReservedStageName, instruction, span, detail);
        }
        if known.contains(&text) {
            let detail = format!("stage name {text:?} is used twice; the last one counts");
            findings.add(Rule::DuplicateStageName, instruction, span, detail);
        }
        known.push(text);
    }
}
