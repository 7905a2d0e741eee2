//! Which words of an instruction are expanded, and which variables they use (S3).

use std::cell::RefCell;

use crate::dockerfile::expand::{ExpandError, expand_heredoc, expand_word};
use crate::dockerfile::{Add, Instruction, InstructionKind, KeyValue, Span, Spanned, Transfer};
use crate::plan::Environment;

/// What the expansion of a word did.
pub(super) struct Expanded {
    /// The result.
    pub text: Result<String, ExpandError>,
    /// Variables that were set, each once.
    pub set: Vec<String>,
    /// Variables that were not, each once.
    pub unset: Vec<String>,
}

/// Expands `word` and notes what it asks for. Every form asks, `${x:-default}` too.
pub(super) fn expand(word: &str, escape: char, env: &Environment) -> Expanded {
    noting(env, |lookup| expand_word(word, escape, lookup))
}

fn noting(
    env: &Environment,
    run: impl FnOnce(&dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError>,
) -> Expanded {
    let set = RefCell::new(Vec::new());
    let unset = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        let value = env.get(name);
        let names = if value.is_some() { &set } else { &unset };
        let mut names = names.borrow_mut();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        value.map(str::to_owned)
    };
    let text = run(&lookup);
    Expanded {
        text,
        set: set.into_inner(),
        unset: unset.into_inner(),
    }
}

/// A word that is expanded, or the body of a heredoc.
pub(super) struct Word<'a> {
    text: &'a str,
    pub span: Span,
    is_body: bool,
}

impl<'a> Word<'a> {
    fn new(word: &'a Spanned<String>) -> Self {
        Self {
            text: &word.value,
            span: word.span,
            is_body: false,
        }
    }

    pub fn expand(&self, escape: char, env: &Environment) -> Expanded {
        match self.is_body {
            true => noting(env, |lookup| expand_heredoc(self.text, lookup)),
            false => expand(self.text, escape, env),
        }
    }
}

/// The words of `instruction` that are expanded with the stage's environment.
pub(super) fn words(instruction: &Instruction) -> Vec<Word<'_>> {
    match &instruction.kind {
        InstructionKind::Arg(items) => items
            .iter()
            .flat_map(|item| std::iter::once(&item.name).chain(&item.default))
            .map(Word::new)
            .collect(),
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => of_pairs(pairs),
        InstructionKind::Copy(copy) => of_transfer(copy),
        InstructionKind::Add(add) => of_add(add),
        InstructionKind::Workdir(word)
        | InstructionKind::User(word)
        | InstructionKind::StopSignal(word) => vec![Word::new(word)],
        InstructionKind::Expose(words) | InstructionKind::Volume(words) => {
            words.iter().map(Word::new).collect()
        }
        InstructionKind::Run(run) => run
            .mounts
            .iter()
            .flat_map(|mount| mount.fields.iter().map(move |field| (field, mount.span)))
            .filter(|((key, _), _)| key != "from")
            .filter_map(|((_, value), span)| {
                Some(Word {
                    text: value.as_deref()?,
                    span,
                    is_body: false,
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn of_pairs(pairs: &[KeyValue]) -> Vec<Word<'_>> {
    let words = pairs.iter().flat_map(|pair| [&pair.key, &pair.value]);
    words.map(Word::new).collect()
}

fn of_transfer(transfer: &Transfer) -> Vec<Word<'_>> {
    let flags = [&transfer.chown, &transfer.chmod].into_iter().flatten();
    let words = flags.chain(&transfer.sources);
    let words = words.chain(std::iter::once(&transfer.dest));
    let bodies = transfer.inline.iter().filter(|file| file.expand);
    words
        .map(Word::new)
        .chain(bodies.map(|file| Word {
            text: &file.body,
            span: file.name.span,
            is_body: true,
        }))
        .collect()
}

fn of_add(add: &Add) -> Vec<Word<'_>> {
    let mut words = of_transfer(&add.transfer);
    words.extend(add.checksum.as_ref().map(Word::new));
    words
}
