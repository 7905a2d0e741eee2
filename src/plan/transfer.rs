//! `COPY` and `ADD` (S6, S7).

use super::git_url::GitUrl;
use super::mask::masked;
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
            if is_fetched(source) {
                let message = format!("COPY cannot fetch {:?}", masked(source));
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
        let mut sources = Vec::new();
        for (source, written) in expanded.sources.iter().zip(&add.transfer.sources) {
            sources.push(classify(source, written)?);
        }
        let mut checksum = self.expand_optional(add.checksum.as_ref(), escape)?;
        if let (Some(flag), Some(text)) = (&add.checksum, &checksum)
            && check_checksum(flag, text, &mut sources, expanded.heredocs.len())?
        {
            checksum = None;
        }
        keep_git_dir(add.keep_git_dir.as_ref(), &mut sources)?;
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

/// Looks at an `ADD` before its variables are known: whatever has none is checked.
pub fn check_add(add: &Add) -> Result<(), Diagnostic> {
    let is_plain = |word: &Spanned<String>| !word.value.contains(['$', '"', '\'', '\\', '`']);
    let mut sources = Vec::new();
    for written in &add.transfer.sources {
        match is_plain(written) {
            true => sources.push(classify(&written.value, written)?),
            false => return Ok(()),
        }
    }
    if let Some(flag) = add.checksum.as_ref().filter(|flag| is_plain(flag)) {
        check_checksum(flag, &flag.value, &mut sources, add.transfer.inline.len())?;
    }
    keep_git_dir(add.keep_git_dir.as_ref(), &mut sources)
}

/// Checks `--checksum`; a repository's is kept with it, which is told by `true`.
fn check_checksum(
    flag: &Spanned<String>,
    checksum: &str,
    sources: &mut [AddSource],
    heredocs: usize,
) -> Result<bool, Diagnostic> {
    let message = match sources {
        [AddSource::Http(_)] if heredocs == 0 => match is_checksum(checksum) {
            true => return Ok(false),
            false => format!(
                "--checksum is sha256:, sha384: or sha512: and hexadecimal digits, not {checksum:?}"
            ),
        },
        [AddSource::Git(url)] if heredocs == 0 => match url.require(checksum) {
            Ok(()) => return Ok(true),
            Err(reason) => reason,
        },
        [_] if heredocs == 0 => {
            "--checksum needs a source that is fetched, not a local one".to_owned()
        }
        _ => "--checksum can stand with one source only".to_owned(),
    };
    Err(Diagnostic::error(DiagnosticKind::Flag, flag.span, message))
}

fn is_checksum(text: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let (algorithm, digits) = text.split_once(':').unwrap_or_default();
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    digits.len() == length && digits.bytes().all(is_hex)
}

/// Gives `--keep-git-dir` to the repositories, which may say the same in their URLs.
fn keep_git_dir(flag: Option<&Spanned<bool>>, sources: &mut [AddSource]) -> Result<(), Diagnostic> {
    let Some(flag) = flag else { return Ok(()) };
    for source in sources {
        let AddSource::Git(url) = source else {
            continue;
        };
        if url.keep_git_dir.is_some_and(|own| own != flag.value) {
            let message = "--keep-git-dir says one thing and the URL another";
            return Err(Diagnostic::error(DiagnosticKind::Flag, flag.span, message));
        }
        url.keep_git_dir = Some(flag.value);
    }
    Ok(())
}

fn is_http(source: &str) -> bool {
    let lower = source.to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

fn is_fetched(source: &str) -> bool {
    is_http(source) || GitUrl::matches(source)
}

/// A git repository, something to fetch, or a local path.
fn classify(source: &str, written: &Spanned<String>) -> Result<AddSource, Diagnostic> {
    if GitUrl::matches(source) {
        let url = GitUrl::parse(source).map_err(|error| {
            Diagnostic::error(DiagnosticKind::Value, written.span, error.to_string())
        })?;
        return Ok(AddSource::Git(Box::new(url)));
    }
    let text = source.to_owned();
    Ok(match is_http(source) {
        true => AddSource::Http(text),
        false => AddSource::Local(text),
    })
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
    let sources = expanded.sources.iter();
    sources.for_each(|source| word(&masked(source)));
    for file in &expanded.heredocs {
        word(&format!("<<{}", file.name));
    }
    word(&expanded.dest);
    word("# buildkit");
    text
}
