//! `COPY` and `ADD` (S6, S7).

use super::reference::{Numbers, Source};
use super::state::{Outcome, StageState};
use super::step::{AddSource, AddStep, CopyStep, InlineFile, StepKind};
use super::words::expand_error;
use crate::dockerfile::expand::expand_heredoc;
use crate::dockerfile::{Add, Diagnostic, DiagnosticKind, InlineSource, Spanned, Transfer};

/// The expanded parts that both instructions have.
struct Expanded {
    sources: Vec<String>,
    heredocs: Vec<InlineFile>,
    dest: String,
    chown: Option<String>,
    chmod: Option<String>,
    exclude: Vec<String>,
}

impl StageState {
    pub(super) fn copy(&mut self, copy: &Transfer, escape: char) -> Result<Outcome, Diagnostic> {
        let from = match &copy.from {
            None => Source::Context,
            Some(from) => {
                let names = &self.shared.names;
                names.earlier_source(&from.value, Numbers::AreStages, from.span, self.stage)?
            }
        };
        let expanded = self.expand_transfer(copy, escape)?;
        for (source, written) in expanded.sources.iter().zip(&copy.sources) {
            if !matches!(classify(source), AddSource::Local(_)) {
                let message = format!("COPY cannot fetch {source:?}");
                let error = Diagnostic::error(DiagnosticKind::Value, written.span, message);
                return Err(error.hint("ADD can"));
            }
        }
        let parents = is_set(copy.parents.as_ref());
        let created_by = created_by("COPY", parents, &expanded);
        let step = CopyStep {
            from,
            sources: expanded.sources,
            heredocs: expanded.heredocs,
            dest: expanded.dest,
            workdir: self.working_dir().to_owned(),
            chown: expanded.chown,
            chmod: expanded.chmod,
            link: is_set(copy.link.as_ref()),
            parents,
            exclude: expanded.exclude,
        };
        Ok(Outcome {
            created_by,
            empty_layer: false,
            kind: StepKind::Copy(Box::new(step)),
        })
    }

    pub(super) fn add(&mut self, add: &Add, escape: char) -> Result<Outcome, Diagnostic> {
        let expanded = self.expand_transfer(&add.transfer, escape)?;
        let created_by = created_by("ADD", false, &expanded);
        let sources: Vec<AddSource> = expanded.sources.iter().map(|text| classify(text)).collect();
        let checksum = self.expand_optional(add.checksum.as_ref(), escape)?;
        if let Some(flag) = &add.checksum {
            check_checksum(flag, &sources, &expanded.heredocs)?;
        }
        let step = AddStep {
            sources,
            heredocs: expanded.heredocs,
            dest: expanded.dest,
            workdir: self.working_dir().to_owned(),
            chown: expanded.chown,
            chmod: expanded.chmod,
            link: is_set(add.transfer.link.as_ref()),
            exclude: expanded.exclude,
            unpack: add.unpack.as_ref().map(|flag| flag.value),
            checksum,
            keep_git_dir: is_set(add.keep_git_dir.as_ref()),
        };
        Ok(Outcome {
            created_by,
            empty_layer: false,
            kind: StepKind::Add(Box::new(step)),
        })
    }

    fn expand_transfer(&self, transfer: &Transfer, escape: char) -> Result<Expanded, Diagnostic> {
        let sources = transfer
            .sources
            .iter()
            .map(|word| self.expand(word, escape));
        let heredocs = transfer.inline.iter().map(|file| self.inline_file(file));
        let chmod = self.expand_optional(transfer.chmod.as_ref(), escape)?;
        if let (Some(flag), Some(mode)) = (&transfer.chmod, &chmod) {
            check_mode(flag, mode)?;
        }
        Ok(Expanded {
            sources: sources.collect::<Result<_, _>>()?,
            heredocs: heredocs.collect::<Result<_, _>>()?,
            dest: self.expand(&transfer.dest, escape)?,
            chown: self
                .expand_optional(transfer.chown.as_ref(), escape)?
                .filter(|owner| !owner.is_empty()),
            chmod: chmod.filter(|mode| !mode.is_empty()),
            exclude: transfer
                .exclude
                .iter()
                .map(|flag| flag.value.clone())
                .collect(),
        })
    }

    fn inline_file(&self, file: &InlineSource) -> Result<InlineFile, Diagnostic> {
        let content = if file.expand {
            expand_heredoc(&file.body, &self.lookup()).map_err(|error| {
                expand_error(&Spanned::new(file.body.clone(), file.name.span), &error)
            })?
        } else {
            file.body.clone()
        };
        Ok(InlineFile {
            name: file.name.value.clone(),
            content,
        })
    }
}

fn is_set(flag: Option<&Spanned<bool>>) -> bool {
    flag.is_some_and(|flag| flag.value)
}

/// A number must be octal and at most 07777; anything else is symbolic and left to the copier.
fn check_mode(flag: &Spanned<String>, mode: &str) -> Result<(), Diagnostic> {
    if mode.is_empty() || !mode.chars().all(|c| c.is_ascii_digit()) {
        return Ok(());
    }
    match u32::from_str_radix(mode, 8) {
        Ok(bits) if bits <= 0o7777 => Ok(()),
        _ => {
            let message = format!("--chmod must be octal and at most 07777, not {mode:?}");
            Err(Diagnostic::error(DiagnosticKind::Flag, flag.span, message))
        }
    }
}

fn check_checksum(
    flag: &Spanned<String>,
    sources: &[AddSource],
    heredocs: &[InlineFile],
) -> Result<(), Diagnostic> {
    let message = match sources {
        [AddSource::Http(_) | AddSource::Git(_)] if heredocs.is_empty() => return Ok(()),
        [_] if heredocs.is_empty() => "--checksum needs a source that is fetched, not a local one",
        _ => "--checksum can stand with one source only",
    };
    Err(Diagnostic::error(DiagnosticKind::Flag, flag.span, message))
}

/// A git repository, something to fetch, or a local path.
fn classify(source: &str) -> AddSource {
    let lower = source.to_ascii_lowercase();
    let is_web = lower.starts_with("http://") || lower.starts_with("https://");
    let path = source.split(['#', '?']).next().unwrap_or(source);
    let is_git = (is_web && path.ends_with(".git"))
        || (lower.starts_with("git@") && source.contains(':'))
        || lower.starts_with("ssh://")
        || lower.starts_with("git://");
    let text = source.to_owned();
    match (is_git, is_web) {
        (true, _) => AddSource::Git(text),
        (false, true) => AddSource::Http(text),
        (false, false) => AddSource::Local(text),
    }
}

fn created_by(keyword: &str, parents: bool, expanded: &Expanded) -> String {
    let mut text = keyword.to_owned();
    let mut word = |word: &str| {
        text.push(' ');
        text.push_str(word);
    };
    if parents {
        word("--parents");
    }
    for (name, value) in [("chown", &expanded.chown), ("chmod", &expanded.chmod)] {
        if let Some(value) = value {
            word(&format!("--{name}={value}"));
        }
    }
    expanded.sources.iter().for_each(|source| word(source));
    for file in &expanded.heredocs {
        word(&format!("<<{}", file.name));
    }
    word(&expanded.dest);
    word("# buildkit");
    text
}
