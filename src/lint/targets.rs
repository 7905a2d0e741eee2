//! The stages of a file as targets of builds, with what the comments above them say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::json::location;
use crate::dockerfile::{Dockerfile, InstructionKind, Lines};

/// A stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name; none if it has none, then only its place makes it a target.
    pub name: Option<String>,
    /// Whether it is built when none is named.
    pub default: bool,
    /// What the comment above says of it.
    pub description: Option<String>,
    /// What it is built on, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// The lines of its `FROM`.
    pub lines: Lines,
}

/// The targets of a file, in order.
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for instruction in &dockerfile.instructions {
        let InstructionKind::From(from) = &instruction.kind else {
            continue;
        };
        let name = from.name.as_ref().map(|name| name.value.clone());
        let description = name
            .as_deref()
            .and_then(|name| instruction.description(name));
        targets.push(Target {
            default: false,
            description: description.map(str::to_owned),
            base: from.image.value.clone(),
            platform: from.platform.as_ref().map(|flag| flag.value.clone()),
            lines: instruction.lines,
            name,
        });
    }
    if let Some(last) = targets.last_mut() {
        last.default = true;
    }
    targets
}

/// `{"targets": […], "sources": […]}`; members without a value are left out, as docker does.
pub fn targets_json(targets: &[Target], text: &str) -> Value {
    let one = |target: &Target| {
        let mut told = Map::new();
        let mut put = |key: &str, value: Option<&String>| {
            if let Some(value) = value {
                told.insert(key.to_owned(), json!(value));
            }
        };
        put("name", target.name.as_ref());
        put("description", target.description.as_ref());
        put("base", Some(&target.base));
        put("platform", target.platform.as_ref());
        if target.default {
            told.insert("default".into(), json!(true));
        }
        told.insert("location".into(), location(0, target.lines));
        Value::Object(told)
    };
    let targets: Vec<Value> = targets.iter().map(one).collect();
    json!({ "targets": targets, "sources": [STANDARD.encode(text)] })
}
