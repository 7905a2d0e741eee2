//! [`Finding`], and [`Findings`], which keeps those that are not skipped.

use super::options::CheckOptions;
use super::rule::Rule;
use crate::dockerfile::{Diagnostic, Instruction, Lines, Span};

/// One thing that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// What it found here, lower case, no full stop.
    pub detail: String,
    /// Where exactly.
    pub span: Span,
    /// The lines of the instruction.
    pub lines: Lines,
}

impl Finding {
    /// The finding as it is shown with its line.
    pub fn diagnostic(&self) -> Diagnostic {
        let message = format!("{}: {}", self.rule.name(), self.detail);
        Diagnostic::warning(self.span, message).hint(self.rule.url())
    }

    /// The finding on one line.
    pub fn summary(&self) -> String {
        format!(
            "{}: {} (line {})",
            self.rule.name(),
            self.detail,
            self.lines.first
        )
    }
}

/// The findings so far.
pub(super) struct Findings {
    pub options: CheckOptions,
    found: Vec<Finding>,
}

impl Findings {
    pub fn new(options: CheckOptions) -> Self {
        Self {
            options,
            found: Vec::new(),
        }
    }

    /// Adds what `rule` found at `span`, a part of `instruction`, unless it is skipped there. What
    /// an image's trigger holds is not the file's fault.
    pub fn add(&mut self, rule: Rule, instruction: &Instruction, span: Span, detail: String) {
        if instruction.trigger.is_some() || !self.options.above(instruction).checks(rule) {
            return;
        }
        self.found.push(Finding {
            rule,
            detail,
            span,
            lines: instruction.lines,
        });
    }

    /// All, in the order of the file, each once.
    pub fn sorted(mut self) -> Vec<Finding> {
        self.found
            .sort_by_key(|finding| (finding.lines.first, finding.rule, finding.span.start));
        self.found.dedup();
        self.found
    }
}
