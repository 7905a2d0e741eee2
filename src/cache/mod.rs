//! What a step is made of: the key under which its result is found again.
//!
//! A key is SHA-256 over length-framed fields, each with a name: no two lists of fields give the
//! same bytes. The fields are kept beside the result, so that a miss can be explained by the first
//! field that differs. What belongs in a key, and what never does, is SEMANTICS S13.

mod files;
mod listing;
mod runs;

use sha2::{Digest as _, Sha256};

pub use files::{FileDigests, FileState};
pub use listing::{Change, Changed, Listed, Listing};
pub use runs::{FieldChange, Runs, StageRuns, StepRun, StepRuns, VARIANTS, align, first_change};

use crate::image::Digest;

/// The version of the key's form: a change of it forgets every earlier result.
const FORM: &str = "lapstrake.step.v1";

/// The key of a step and the fields it was made of.
#[derive(Clone, Debug)]
pub struct StepKey {
    /// What the result is found under.
    pub digest: Digest,
    /// Name and value of each field, in order; long values stand as their digest.
    pub fields: Vec<(String, String)>,
}

/// Collects the fields of a key.
#[derive(Clone, Debug)]
pub struct KeyBuilder {
    hasher: Sha256,
    fields: Vec<(String, String)>,
}

/// A field's value that is longer than this is kept as its digest: the fields are read by people.
const READABLE: usize = 1024;

impl KeyBuilder {
    /// Begins the key of a step of the given kind (`run`, `copy`, …).
    pub fn new(kind: &str) -> Self {
        let mut key = Self {
            hasher: Sha256::new(),
            fields: Vec::new(),
        };
        key.frame(FORM.as_bytes());
        key.field("kind", kind);
        key
    }

    /// Adds a field.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.frame_field(name, value);
        let shown = if value.len() > READABLE {
            Digest::of(value).to_string()
        } else {
            String::from_utf8_lossy(value).into_owned()
        };
        self.fields.push((name.to_owned(), shown));
        self
    }

    /// Adds variables as [`Self::list`] adds `NAME=VALUE`. Of those whose name `hides` says so only the digest
    /// of the value is kept beside the result: that it differs can be told, and what it was cannot be read.
    pub fn variables<'v>(
        &mut self,
        name: &str,
        variables: impl IntoIterator<Item = &'v (String, String)>,
        hides: impl Fn(&str) -> bool,
    ) -> &mut Self {
        let mut count: u64 = 0;
        for (variable, value) in variables {
            let text = format!("{variable}={value}");
            if hides(variable) {
                self.frame_field(name, text.as_bytes());
                let kept = format!("{variable}={}", Digest::of(value.as_bytes()));
                self.fields.push((name.to_owned(), kept));
            } else {
                self.field(name, text);
            }
            count += 1;
        }
        self.frame(&count.to_be_bytes());
        self
    }

    /// Adds a field for each value, and their number, so that lists cannot run together.
    pub fn list<V: AsRef<[u8]>>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = V>,
    ) -> &mut Self {
        let mut count: u64 = 0;
        for value in values {
            self.field(name, value);
            count += 1;
        }
        self.frame(&count.to_be_bytes());
        self
    }

    /// The key.
    pub fn finish(self) -> StepKey {
        let digest = format!("sha256:{}", hex::encode(self.hasher.finalize()));
        StepKey {
            digest: digest
                .parse()
                .expect("a SHA-256 in hexadecimal is a digest"),
            fields: self.fields,
        }
    }

    fn frame_field(&mut self, name: &str, value: &[u8]) {
        self.frame(name.as_bytes());
        self.frame(value);
    }

    fn frame(&mut self, bytes: &[u8]) {
        self.hasher.update((bytes.len() as u64).to_be_bytes());
        self.hasher.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(build: impl Fn(&mut KeyBuilder)) -> Digest {
        let mut builder = KeyBuilder::new("run");
        build(&mut builder);
        builder.finish().digest
    }

    #[test]
    fn fields_never_run_together() {
        let keys = [
            key(|k| _ = k.field("a", "bc")),
            key(|k| _ = k.field("ab", "c")),
            key(|k| _ = k.list("a", ["b", "c"])),
            key(|k| _ = k.list("a", ["bc"])),
            key(|k| _ = k.list("a", ["b"]).list("a", ["c"])),
            key(|k| _ = k.list::<&str>("a", [])),
            KeyBuilder::new("copy").finish().digest,
        ];
        for (i, one) in keys.iter().enumerate() {
            for other in &keys[i + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn hidden_variables_are_in_the_key_and_not_beside_it() {
        let variables =
            |value: &str| [("A".into(), "1".into()), ("TOKEN".into(), value.to_owned())];
        let built = |value: &str| {
            let mut builder = KeyBuilder::new("run");
            builder.variables("env", &variables(value), |name| name == "TOKEN");
            builder.finish()
        };
        let (one, two) = (built("hunter2"), built("hunter3"));
        assert_eq!(
            one.digest,
            key(|k| _ = k.list("env", ["A=1", "TOKEN=hunter2"]))
        );
        assert_ne!(one.digest, two.digest);
        assert_ne!(one.fields, two.fields);
        assert_eq!(one.fields[1].1, "A=1");
        assert!(!one.fields[2].1.contains("hunter"), "{:?}", one.fields);
    }

    #[test]
    fn long_values_are_shown_as_digests() {
        let mut builder = KeyBuilder::new("copy");
        builder.field("content", "x".repeat(4096));
        let key = builder.finish();
        assert_eq!(key.fields[0], ("kind".into(), "copy".into()));
        assert!(key.fields[1].1.starts_with("sha256:"));
    }
}
