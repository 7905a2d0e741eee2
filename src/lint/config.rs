//! The rules on single instructions: commands, keys and values, ports, sources.

use super::finding::Findings;
use super::rule::Rule;
use super::variables::expand;
use crate::context::IgnoreFile;
use crate::dockerfile::expand::expand_words;
use crate::dockerfile::{
    ArgItem, CommandLine, Instruction, InstructionKind, KeyValue, Span, Spanned,
};
use crate::plan::{AddSource, Source, StageState, StepKind, is_secret_name};
use crate::rootfs::RootPath;

/// The instructions of a stage of which only the last counts: the last seen of each kind.
#[derive(Default)]
pub(super) struct Once<'a> {
    cmd: Option<&'a Instruction>,
    entrypoint: Option<&'a Instruction>,
    healthcheck: Option<&'a Instruction>,
}

impl<'a> Once<'a> {
    /// Tells of the earlier one, which `instruction` makes useless.
    pub fn check(&mut self, instruction: &'a Instruction, findings: &mut Findings) {
        let seen = match &instruction.kind {
            InstructionKind::Cmd(_) => &mut self.cmd,
            InstructionKind::Entrypoint(_) => &mut self.entrypoint,
            InstructionKind::Healthcheck(_) => &mut self.healthcheck,
            _ => return,
        };
        if let Some(earlier) = seen.replace(instruction) {
            let keyword = earlier.keyword.value.to_uppercase();
            let detail = format!(
                "this {keyword} has no effect: the one in line {} replaces it",
                instruction.lines.first
            );
            let rule = Rule::MultipleInstructionsDisallowed;
            findings.add(rule, earlier, earlier.span, detail);
        }
    }
}

/// The rules that look at what `instruction` says; `state` is what precedes it. Unless
/// `is_settled`, it uses variables of which nothing is known.
pub(super) fn check(
    instruction: &Instruction,
    escape: char,
    state: &StageState,
    is_settled: bool,
    findings: &mut Findings,
) {
    match &instruction.kind {
        InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
            command_form(instruction, command, state, findings);
        }
        InstructionKind::Env(pairs) => {
            legacy(instruction, pairs, findings);
            let keys = pairs.iter().map(|pair| &pair.key);
            secrets(instruction, keys, escape, state, findings);
        }
        InstructionKind::Label(pairs) => legacy(instruction, pairs, findings),
        InstructionKind::Arg(items) => {
            let names = items.iter().map(|item: &ArgItem| &item.name);
            secrets(instruction, names, escape, state, findings);
        }
        InstructionKind::Expose(words) if is_settled => {
            for word in words {
                let env = |name: &str| state.environment().get(name).map(str::to_owned);
                // What cannot be expanded is an error of the instruction.
                for port in expand_words(&word.value, escape, &env).unwrap_or_default() {
                    expose(instruction, word.span, &port, findings);
                }
            }
        }
        _ => {}
    }
}

fn command_form(
    instruction: &Instruction,
    command: &CommandLine,
    state: &StageState,
    findings: &mut Findings,
) {
    let has_shell = state.config().config.shell.as_ref();
    let has_shell = has_shell.is_some_and(|shell| !shell.is_empty());
    if let (CommandLine::Shell(text), false) = (command, has_shell) {
        let keyword = instruction.keyword.value.to_uppercase();
        let detail = format!(
            "{keyword} in shell form keeps signals from the program: \
             write {keyword} [\"program\", \"argument\"]"
        );
        findings.add(Rule::JSONArgsRecommended, instruction, text.span, detail);
    }
}

fn legacy(instruction: &Instruction, pairs: &[KeyValue], findings: &mut Findings) {
    for pair in pairs.iter().filter(|pair| pair.legacy) {
        let keyword = instruction.keyword.value.to_uppercase();
        let key = &pair.key.value;
        let detail = format!("write {keyword} {key}=value for {keyword} {key} value");
        findings.add(
            Rule::LegacyKeyValueFormat,
            instruction,
            pair.key.span,
            detail,
        );
    }
}

fn secrets<'a>(
    instruction: &Instruction,
    names: impl Iterator<Item = &'a Spanned<String>>,
    escape: char,
    state: &StageState,
    findings: &mut Findings,
) {
    for name in names {
        let expanded = expand(&name.value, escape, state.environment()).text;
        let text = expanded.unwrap_or_else(|_| name.value.clone());
        if is_secret_name(&text) {
            let keyword = instruction.keyword.value.to_uppercase();
            let detail = format!(
                "{keyword} {text:?} looks like a secret, and everybody who has the image can read it"
            );
            findings.add(Rule::SecretsUsedInArgOrEnv, instruction, name.span, detail);
        }
    }
}

fn expose(instruction: &Instruction, span: Span, word: &str, findings: &mut Findings) {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, ""));
    if protocol != protocol.to_lowercase() {
        let detail = format!("the protocol of {word:?} is not in lower case");
        findings.add(Rule::ExposeProtoCasing, instruction, span, detail);
    }
    let mapped = ports.rsplit_once(':').map(|(host, _)| host);
    if mapped.is_some_and(|host| !host.is_empty()) {
        let detail = format!("{word:?} names an address or a host port, which EXPOSE cannot map");
        findings.add(Rule::ExposeInvalidFormat, instruction, span, detail);
    }
}

/// The first `WORKDIR` of a stage and what it is built on.
pub(super) fn workdir(
    instruction: &Instruction,
    path: &Spanned<String>,
    escape: char,
    state: &StageState,
    findings: &mut Findings,
) {
    let Ok(text) = expand(&path.value, escape, state.environment()).text else {
        return;
    };
    if !text.starts_with('/') {
        let detail = format!("{text:?} is relative to a directory that the base image sets");
        findings.add(Rule::WorkdirRelativePath, instruction, path.span, detail);
    }
}

/// Sources in the build context that the ignore file excludes; not if it has exceptions, for then
/// a directory may be excluded and what is wanted of it not.
pub(super) fn ignored(
    instruction: &Instruction,
    step: &StepKind,
    ignore: &IgnoreFile,
    findings: &mut Findings,
) {
    if ignore.has_exceptions() {
        return;
    }
    let sources: Vec<&String> = match step {
        StepKind::Copy(copy) if copy.from == Source::Context => copy.sources.iter().collect(),
        StepKind::Add(add) => add
            .sources
            .iter()
            .filter_map(|source| match source {
                AddSource::Local(path) => Some(path),
                _ => None,
            })
            .collect(),
        _ => return,
    };
    for source in sources {
        let path = RootPath::new(source);
        // The root itself matches no pattern; it is excluded if everything in it is.
        let everything = RootPath::new("\u{1}");
        let is_root = path == RootPath::root();
        if ignore.matches(if is_root { &everything } else { &path }) {
            let detail = format!("the ignore file excludes {source:?}");
            findings.add(Rule::CopyIgnoredFile, instruction, instruction.span, detail);
        }
    }
}
