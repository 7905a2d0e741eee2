//! Findings as SARIF 2.1.0, which annotators of code reviews read.

use serde_json::{Value, json};

use super::json::Checked;
use super::rule::Rule;
use crate::dockerfile::{Positions, Span};

/// The rule under which files that cannot be built are told.
const ERROR_RULE: &str = "BuildError";

/// One run over all `files`, by the program `version`.
pub fn sarif(files: &[Checked], version: &str) -> Value {
    let mut rules: Vec<Value> = Rule::all().map(rule_json).collect();
    let error_index = rules.len();
    rules.push(json!({
        "id": ERROR_RULE,
        "shortDescription": { "text": "the file cannot be built" },
        "defaultConfiguration": { "level": "error" },
    }));
    let mut results = Vec::new();
    for file in files {
        let positions = Positions::new(&file.text);
        let place = |span| place(file, &positions, span);
        for finding in &file.findings {
            results.push(json!({
                "ruleId": finding.rule.name(),
                "ruleIndex": finding.rule as usize,
                "level": "warning",
                "message": { "text": finding.detail },
                "locations": [place(Some(finding.span))],
            }));
        }
        for error in &file.errors {
            let span = error.span().filter(|_| error.trigger.is_none());
            results.push(json!({
                "ruleId": ERROR_RULE,
                "ruleIndex": error_index,
                "level": "error",
                "message": { "text": error.to_string() },
                "locations": [place(span)],
            }));
        }
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": { "name": "lapstrake", "version": version, "rules": rules },
            },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule_json(rule: Rule) -> Value {
    json!({
        "id": rule.name(),
        "shortDescription": { "text": rule.description() },
        "helpUri": rule.url(),
        "defaultConfiguration": { "level": "warning" },
    })
}

fn place(file: &Checked, positions: &Positions<'_>, span: Option<Span>) -> Value {
    let mut physical = json!({ "artifactLocation": { "uri": uri(&file.name) } });
    if let Some(span) = span {
        let (line, column) = positions.at(span.start);
        let (end_line, end_column) = positions.at(span.end.max(span.start));
        physical["region"] = json!({
            "startLine": line,
            "startColumn": column,
            "endLine": end_line,
            "endColumn": end_column,
        });
    }
    json!({ "physicalLocation": physical })
}

/// A path as a URI reference: what has a meaning there, or is no character of one, is escaped.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                uri.push(char::from(byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_uris() {
        for (path, expected) in [
            ("./a/Dockerfile", "a/Dockerfile"),
            ("a b/100%.Dockerfile", "a%20b/100%25.Dockerfile"),
            ("\u{e9}", "%C3%A9"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }
}
