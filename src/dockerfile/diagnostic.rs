//! [`Diagnostic`]: what is wrong with a Dockerfile, where, and what to do about it.

use std::fmt;

use super::span::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The build cannot go on.
    Error,
    /// The build goes on.
    Warning,
}

/// What sort of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiagnosticKind {
    /// The text is no instruction, or an argument has the wrong shape.
    Syntax,
    /// There is no instruction of that name.
    UnknownInstruction,
    /// The instruction has no such flag, or the flag's value is wrong.
    Flag,
    /// A value is outside what it may be.
    Value,
    /// A heredoc without end.
    Heredoc,
    /// A `$` form is wrong, or a required variable is missing.
    Expansion,
    /// A stage is missing, comes too late, depends on itself, or has a wrong name.
    Stage,
    /// The instruction is right, but what it asks for failed.
    Step,
    /// Advice only.
    Lint,
}

/// A place and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What; may be empty.
    pub text: String,
}

/// One thing that is wrong with a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What sort of thing it is.
    pub kind: DiagnosticKind,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// Where; the first is the place of the mistake, the others explain it.
    pub labels: Vec<Label>,
    /// What to do.
    pub hints: Vec<String>,
    /// The text the labels point into, if it is not the Dockerfile: an `ONBUILD` trigger.
    pub trigger: Option<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(kind: DiagnosticKind, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            kind,
            message: message.into(),
            labels: vec![Label {
                span,
                text: String::new(),
            }],
            hints: Vec::new(),
            trigger: None,
        }
    }

    /// An error that concerns no place in the text, as an unknown `--target`.
    pub fn without_place(kind: DiagnosticKind, message: impl Into<String>) -> Self {
        let mut diagnostic = Self::error(kind, Span::default(), message);
        diagnostic.labels.clear();
        diagnostic
    }

    /// Advice about `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        let mut diagnostic = Self::error(DiagnosticKind::Lint, span, message);
        diagnostic.severity = Severity::Warning;
        diagnostic
    }

    /// With `text` said about the place of the mistake.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(label) = self.labels.first_mut() {
            label.text = text.into();
        }
        self
    }

    /// With another place that explains the mistake.
    #[must_use]
    pub fn context(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }

    /// With "did you mean" if one of `known` is near `word`.
    #[must_use]
    pub fn nearest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(word, known) {
            Some(name) => self.hint(format!("did you mean {name}?")),
            None => self,
        }
    }

    /// Pointing into the trigger's text and not into the Dockerfile's.
    #[must_use]
    pub(crate) fn in_trigger(mut self, trigger: Option<&str>) -> Self {
        self.trigger = trigger.map(str::to_owned);
        self
    }

    /// The place of the mistake.
    pub fn span(&self) -> Option<Span> {
        self.labels.first().map(|label| label.span)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for hint in &self.hints {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The one of `known` that is so near to `word` that it was probably meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let limit = lower.chars().count().div_ceil(3).min(3);
    known
        .into_iter()
        .map(|name| (distance(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `left` into `right`.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).collect();
    let right: Vec<char> = right.chars().take(64).collect();
    let mut older: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let replace = previous[column] + usize::from(letter != other);
            let mut best = replace
                .min(previous[column + 1] + 1)
                .min(current[column] + 1);
            let swapped =
                row > 0 && column > 0 && *letter == right[column - 1] && left[row - 1] == *other;
            if swapped {
                best = best.min(older[column - 1] + 1);
            }
            current.push(best);
        }
        older = previous;
        previous = current;
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_known_word() {
        let known = ["FROM", "RUN", "COPY", "ENTRYPOINT", "ENV"];
        for (word, expected) in [
            ("RNU", Some("RUN")),
            ("copyy", Some("COPY")),
            ("ENTRYPONT", Some("ENTRYPOINT")),
            ("FORM", Some("FROM")),
            ("BUILD", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
