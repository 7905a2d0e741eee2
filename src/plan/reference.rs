//! What `--from` and a mount's `from` mean (S5).

use super::contexts::Contexts;
use crate::dockerfile::{Diagnostic, DiagnosticKind, Span};

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The build context.
    Context,
    /// Nothing: the empty image.
    Scratch,
    /// A stage, by its index in the file.
    Stage(usize),
    /// An image: a reference as written, or one in an image layout, `oci-layout://DIR[:TAG]`.
    Image(String),
    /// The files of a named context, by its number ([`ContextKind::Files`](super::ContextKind)).
    Files(usize),
}

/// Whether a number is a stage's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    AreStages,
    AreImages,
}

/// What a name can mean.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// The names of all stages, by index; `None` for a stage without.
    pub names: Vec<Option<String>>,
    /// What stands in the place of images.
    pub contexts: Contexts,
}

impl Names {
    /// The last of the first `limit` stages that has `name`.
    pub fn find(&self, name: &str, limit: usize) -> Option<usize> {
        let names = &self.names[..limit.min(self.names.len())];
        names
            .iter()
            .rposition(|known| known.as_deref() == Some(name))
    }

    /// Every name.
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(String::as_str)
    }

    /// What `text` names: a stage anywhere in the file, in any case, a named context, or an image.
    pub fn source(&self, text: &str, numbers: Numbers, span: Span) -> Result<Source, Diagnostic> {
        if let (Numbers::AreStages, Ok(index)) = (numbers, text.parse::<i64>()) {
            return usize::try_from(index)
                .ok()
                .filter(|index| *index < self.names.len())
                .map(Source::Stage)
                .ok_or_else(|| self.no_index(index, span));
        }
        if let Some(index) = self.find(&text.to_lowercase(), self.names.len()) {
            return Ok(Source::Stage(index));
        }
        match text {
            "scratch" => Ok(Source::Scratch),
            _ => Ok(self.contexts.source(text)),
        }
    }

    /// The same, and a stage must come before the stage `current`.
    pub fn earlier_source(
        &self,
        text: &str,
        numbers: Numbers,
        span: Span,
        current: usize,
    ) -> Result<Source, Diagnostic> {
        match self.source(text, numbers, span)? {
            Source::Stage(index) if index >= current => Err(self.too_late(index, current, span)),
            source => Ok(source),
        }
    }

    /// How a stage is called in a message.
    pub fn title(&self, index: usize) -> String {
        match self.names.get(index).and_then(Option::as_deref) {
            Some(name) => format!("stage {name:?}"),
            None => format!("stage {index}"),
        }
    }

    fn no_index(&self, index: i64, span: Span) -> Diagnostic {
        let message = format!("there is no stage {index}");
        let last = self.names.len().saturating_sub(1);
        Diagnostic::error(DiagnosticKind::Stage, span, message)
            .hint(format!("stages are counted from 0; the last is {last}"))
    }

    fn too_late(&self, index: usize, current: usize, span: Span) -> Diagnostic {
        let (wanted, here) = (self.title(index), self.title(current));
        let message = if index == current {
            format!("{here} cannot take files from itself")
        } else {
            format!("{wanted} is defined after {here}, which needs it")
        };
        Diagnostic::error(DiagnosticKind::Stage, span, message)
            .hint("a stage can use the stages above it only")
    }
}
