//! [`Reason`]: why a step was executed although there had been builds before.
//!
//! It is the first input of the step that differs from the nearest earlier run of that step. As
//! JSON it is an object whose keys are the fields' names; what is not known is left out. People
//! read its `Display`.

use std::fmt;

use serde::Serialize;

/// What kind of input it is that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonKind {
    /// The flags say that nothing is taken from the cache; `name` is the flag.
    NoCache,
    /// No earlier run of this step is known.
    NeverBuilt,
    /// The step is as it was, and it did not succeed.
    FailedBefore,
    /// The step is as it was, and its layer is no longer in the store.
    LayerGone,
    /// A step before this one changed; `name` is the first that did.
    StepBefore,
    /// A step that stood before this one, `name`, is no longer in the Dockerfile.
    StepRemoved,
    /// The image, `name`, that the stage begins with.
    Base,
    /// A file, `name`, was added.
    FileAdded,
    /// A file, `name`, was deleted.
    FileDeleted,
    /// A file, `name`, has another content.
    FileContent,
    /// A file, `name`, has another mode.
    FileMode,
    /// A file, `name`, has another owner.
    FileOwner,
    /// What `name` is became something else: a file a directory, say.
    FileType,
    /// Which of the files differs is not known.
    Files,
    /// A build argument, `name`.
    Arg,
    /// A variable of the environment, `name`.
    Env,
    /// The words of the command.
    Command,
    /// The sources, as the instruction names them.
    Sources,
    /// A mount; `name` is its place.
    Mount,
    /// What was fetched from the network.
    Fetched,
    /// Another property of the step, called `name`.
    Option,
}

/// Why a step was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What kind of input differs.
    pub kind: ReasonKind,
    /// Which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is from: `stage build`, `the mount at /src`; the build context if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What it was; left out where it may be a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it is; left out where it may be a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// How many more files differ.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
}

// The form that serde asks for.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Reason {
    /// A reason without details.
    pub fn new(kind: ReasonKind) -> Self {
        Self {
            kind,
            name: None,
            place: None,
            old: None,
            new: None,
            more: 0,
        }
    }

    /// The same with a name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same with what it was and what it is.
    #[must_use]
    pub fn changed(mut self, old: impl Into<String>, new: impl Into<String>) -> Self {
        (self.old, self.new) = (Some(old.into()), Some(new.into()));
        self
    }

    fn happened(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, Some(_)) => "is new",
            (Some(_), None) => "is gone",
            _ => "changed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ReasonKind as Kind;
        let name = self.name.as_deref().unwrap_or("it");
        match self.kind {
            Kind::NoCache => write!(f, "{name}")?,
            Kind::NeverBuilt => f.write_str("it was never built here")?,
            Kind::FailedBefore => f.write_str("it did not succeed the last time")?,
            Kind::LayerGone => f.write_str("its layer is no longer in the store")?,
            Kind::StepBefore => write!(f, "a step before it changed: {name}")?,
            Kind::StepRemoved => write!(f, "a step before it is gone: {name}")?,
            Kind::Base => write!(f, "the base image {name} changed")?,
            Kind::FileAdded => write!(f, "{name} was added")?,
            Kind::FileDeleted => write!(f, "{name} was deleted")?,
            Kind::FileContent => write!(f, "the content of {name} changed")?,
            Kind::FileMode => write!(f, "the mode of {name} changed")?,
            Kind::FileOwner => write!(f, "the owner of {name} changed")?,
            Kind::FileType => write!(f, "{name} became something else")?,
            Kind::Files => f.write_str("the files changed")?,
            Kind::Arg => write!(f, "ARG {name} {}", self.happened())?,
            Kind::Env => write!(f, "ENV {name} {}", self.happened())?,
            Kind::Command => f.write_str("the command changed")?,
            Kind::Sources => f.write_str("it copies other sources")?,
            Kind::Mount => write!(f, "the mount at {name} {}", self.happened())?,
            Kind::Fetched => write!(f, "what is fetched changed, {name}")?,
            Kind::Option => write!(f, "{name} {}", self.happened())?,
        }
        if let Some(place) = &self.place {
            write!(f, " in {place}")?;
        }
        if let (Some(old), Some(new)) = (&self.old, &self.new) {
            write!(f, ": {} → {}", shown(old), shown(new))?;
        }
        if self.more > 0 {
            write!(f, ", and {} more", self.more)?;
        }
        Ok(())
    }
}

/// A digest in the short form in which people compare them.
fn shown(value: &str) -> &str {
    const LENGTH: usize = "sha256:".len() + 12;
    let is_digest = value.len() == LENGTH + 52 && value.starts_with("sha256:");
    if is_digest { &value[..LENGTH] } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_sentence_and_an_object() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        for (reason, text, json) in [
            (
                Reason::new(ReasonKind::NeverBuilt),
                "it was never built here",
                r#"{"kind":"never-built"}"#.to_owned(),
            ),
            (
                Reason::new(ReasonKind::Base)
                    .named("debian")
                    .changed(digest("a"), digest("b")),
                "the base image debian changed: sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb",
                format!(
                    r#"{{"kind":"base","name":"debian","old":"{}","new":"{}"}}"#,
                    digest("a"),
                    digest("b")
                ),
            ),
            (
                Reason {
                    place: Some("stage build".into()),
                    more: 2,
                    ..Reason::new(ReasonKind::FileMode)
                        .named("bin/x")
                        .changed("0644", "0755")
                },
                "the mode of bin/x changed in stage build: 0644 → 0755, and 2 more",
                r#"{"kind":"file-mode","name":"bin/x","place":"stage build","old":"0644","new":"0755","more":2}"#.into(),
            ),
            (
                Reason {
                    new: Some("1".into()),
                    ..Reason::new(ReasonKind::Arg).named("A")
                },
                "ARG A is new",
                r#"{"kind":"arg","name":"A","new":"1"}"#.into(),
            ),
        ] {
            assert_eq!(reason.to_string(), text);
            assert_eq!(serde_json::to_string(&reason).unwrap(), json);
        }
    }
}
