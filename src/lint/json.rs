//! Findings as JSON, in the shape that `docker build --call=check,format=json` prints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::finding::Finding;
use crate::dockerfile::{Diagnostic, Lines, Positions};

/// A file that was checked.
pub struct Checked {
    /// What it is called.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// Why it cannot be built, if that is known.
    pub errors: Vec<Diagnostic>,
}

/// `{"warnings": […], "sources": […]}`. Errors are `buildError`, the first of one file, or
/// `buildErrors`, those of all files, where `files` may be any number.
pub fn findings_json(files: &[Checked]) -> Value {
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    for (index, file) in files.iter().enumerate() {
        warnings.extend(warnings_json(&file.findings, index));
        errors.extend(
            file.errors
                .iter()
                .map(|error| build_error(file, index, error)),
        );
    }
    let sources: Vec<Value> = files.iter().map(source_json).collect();
    let mut told = json!({ "warnings": warnings, "sources": sources });
    if let [_] = files {
        if let Some(first) = errors.into_iter().next() {
            told["buildError"] = first;
        }
    } else if !errors.is_empty() {
        told["buildErrors"] = json!(errors);
    }
    told
}

/// The findings of one file, the one at `source` of the list of sources.
pub fn warnings_json(findings: &[Finding], source: usize) -> Vec<Value> {
    let one = |finding: &Finding| {
        json!({
            "ruleName": finding.rule.name(),
            "description": finding.rule.description(),
            "url": finding.rule.url(),
            "detail": finding.detail,
            "location": location(source, finding.lines),
        })
    };
    findings.iter().map(one).collect()
}

fn build_error(file: &Checked, source: usize, error: &Diagnostic) -> Value {
    let mut told = json!({ "message": error.to_string() });
    if let Some(lines) = lines_of(error, &file.text) {
        told["location"] = location(source, lines);
    }
    told
}

/// The lines that an error is about, if it is about the file's text.
fn lines_of(error: &Diagnostic, text: &str) -> Option<Lines> {
    let span = error.span().filter(|_| error.trigger.is_none())?;
    let positions = Positions::new(text);
    let (first, _) = positions.at(span.start);
    let (last, _) = positions.at(span.end.saturating_sub(1).max(span.start));
    Some(Lines { first, last })
}

fn source_json(file: &Checked) -> Value {
    json!({
        "filename": file.name,
        "language": "Dockerfile",
        "data": STANDARD.encode(&file.text),
    })
}

/// A range for each line, as BuildKit gives them.
pub(super) fn location(source: usize, lines: Lines) -> Value {
    let ranges = (lines.first..=lines.last.max(lines.first))
        .map(|line| json!({ "start": { "line": line }, "end": { "line": line } }));
    json!({ "sourceIndex": source, "ranges": ranges.collect::<Vec<_>>() })
}
