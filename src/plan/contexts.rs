//! [`NamedContext`]: what `--build-context` puts in the place of stages and images (S5).
//!
//! A name is compared as an image reference is shown: `docker.io/library/alpine:latest` and `alpine`
//! are the same. One that is given for a platform (`name::os/arch`) goes before one that is not.

use super::reference::Source;
use crate::image::{Platform, Reference};

/// Names that always mean what they mean.
pub const FIXED_NAMES: [&str; 2] = ["scratch", "context"];

/// One `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedContext {
    /// Its name, as [`context_name`] gives it.
    pub name: String,
    /// The platform it is for, if not for all.
    pub platform: Option<Platform>,
    /// What it is.
    pub kind: ContextKind,
}

/// What a named context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextKind {
    /// An image: what [`Base::Image`](super::Base::Image) and [`Source::Image`] hold.
    Image(String),
    /// Files that the caller has under this number.
    Files(usize),
}

/// The form in which names of contexts, stages and images are compared.
pub fn context_name(text: &str) -> String {
    let familiar = match text.parse::<Reference>() {
        Ok(reference) => reference.familiar(),
        Err(_) => text.to_owned(),
    };
    match familiar.strip_suffix(":latest") {
        Some(bare) => bare.to_owned(),
        None => familiar,
    }
}

/// All of them, and the platform that is built for.
#[derive(Clone, Debug, Default)]
pub(super) struct Contexts {
    pub list: Vec<NamedContext>,
    pub platform: Option<Platform>,
}

impl Contexts {
    /// What stands in the place of `name` on `platform`; of equal ones the last counts.
    pub fn find(&self, name: &str, platform: Option<&Platform>) -> Option<&ContextKind> {
        if self.list.is_empty() || FIXED_NAMES.contains(&name) {
            return None;
        }
        let name = context_name(name);
        let best = |context: &&NamedContext| match (&context.platform, platform) {
            (Some(own), Some(wanted)) => wanted.accepts(own),
            (own, _) => own.is_none(),
        };
        let named = self.list.iter().filter(|context| context.name == name);
        let found = named.filter(best).max_by_key(|c| c.platform.is_some());
        found.map(|context| &context.kind)
    }

    /// Where files come from that are asked of `image`.
    pub fn source(&self, image: &str) -> Source {
        match self.find(image, self.platform.as_ref()) {
            Some(ContextKind::Image(reference)) => Source::Image(reference.clone()),
            Some(ContextKind::Files(number)) => Source::Files(*number),
            None => Source::Image(image.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_names_and_platforms() {
        let context = |name: &str, platform: Option<&str>, number| NamedContext {
            name: context_name(name),
            platform: platform.map(|text| text.parse().unwrap()),
            kind: ContextKind::Files(number),
        };
        let contexts = Contexts {
            list: vec![
                context("alpine", None, 0),
                context("alpine", Some("linux/arm64"), 1),
                context("docker.io/library/golang:1.20", None, 2),
                context("Twice", None, 3),
                context("Twice", None, 4),
                context("scratch", None, 5),
                context("only", Some("linux/arm64"), 6),
            ],
            platform: None,
        };
        for (name, platform, expected) in [
            ("alpine", "linux/amd64", Some(0)),
            ("docker.io/library/alpine:latest", "linux/amd64", Some(0)),
            ("alpine:latest", "linux/arm64/v8", Some(1)),
            ("alpine:3", "linux/amd64", None),
            ("golang:1.20", "linux/amd64", Some(2)),
            ("golang", "linux/amd64", None),
            ("Twice", "linux/amd64", Some(4)),
            ("twice", "linux/amd64", None),
            ("scratch", "linux/amd64", None),
            ("only", "linux/amd64", None),
            ("only", "linux/arm64", Some(6)),
        ] {
            let platform = platform.parse().unwrap();
            let expected = expected.map(ContextKind::Files);
            let found = contexts.find(name, Some(&platform));
            assert_eq!(found, expected.as_ref(), "{name} on {platform}");
        }
    }
}
