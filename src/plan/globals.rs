//! Global arguments: the platforms', those before the first `FROM`, and those nobody declares (S4).

use super::environment::Environment;
use super::options::PlanOptions;
use super::reference::Names;
use super::words::expand_error;
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::{ArgItem, Diagnostic, Instruction, InstructionKind, Spanned};

pub(super) fn global_args(
    head: &[&Instruction],
    options: &PlanOptions,
    names: &Names,
    target: usize,
    escape: char,
) -> Result<Environment, Vec<Diagnostic>> {
    let asked = options.target.as_deref().filter(|name| !name.is_empty());
    let name = asked.or_else(|| names.names.get(target).and_then(Option::as_deref));
    let mut globals = options.platform_args(name.unwrap_or("default"));
    let mut errors = Vec::new();
    for instruction in head {
        let InstructionKind::Arg(items) = &instruction.kind else {
            continue;
        };
        for item in items {
            if let Err(error) = global_arg(item, options, &mut globals, escape) {
                errors.push(error);
            }
        }
    }
    if errors.is_empty() {
        Ok(globals)
    } else {
        Err(errors)
    }
}

fn global_arg(
    item: &ArgItem,
    options: &PlanOptions,
    globals: &mut Environment,
    escape: char,
) -> Result<(), Diagnostic> {
    let name = expand_global(&item.name, globals, escape)?;
    let value = match (options.build_arg(&name), &item.default) {
        (Some(value), _) => Some(value.to_owned()),
        (None, Some(default)) => Some(expand_global(default, globals, escape)?),
        (None, None) => None,
    };
    if let Some(value) = value {
        globals.set(&name, value);
    }
    Ok(())
}

pub(super) fn expand_global(
    word: &Spanned<String>,
    globals: &Environment,
    escape: char,
) -> Result<String, Diagnostic> {
    let env = |name: &str| globals.get(name).map(str::to_owned);
    expand_word(&word.value, escape, &env).map_err(|error| expand_error(word, &error))
}

pub(super) fn unused_build_args(
    instructions: &[Instruction],
    options: &PlanOptions,
) -> Vec<String> {
    let declared = |name: &str| {
        instructions.iter().any(|instruction| {
            matches!(&instruction.kind, InstructionKind::Arg(items)
                if items.iter().any(|item| item.name.value == name))
        })
    };
    let mut unused: Vec<String> = Vec::new();
    for (name, _) in &options.build_args {
        let known = PlanOptions::is_predefined(name) || PlanOptions::is_platform_arg(name);
        if !known && !declared(name) && !unused.contains(name) {
            unused.push(name.clone());
        }
    }
    unused
}
