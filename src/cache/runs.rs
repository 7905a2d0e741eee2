//! [`Runs`]: the last runs of every step of a Dockerfile, and what a step is compared with.
//!
//! On disk: a line `lapstrake.runs.1 DIGEST`, where DIGEST stands for the steps of the build that wrote it,
//! so that the next one knows without reading on that nothing changed; then JSON. It explains, and
//! nothing is built by it: a damaged record is an empty one.

use serde::{Deserialize, Serialize};

use super::StepKey;

const MAGIC: &str = "lapstrake.runs.1 ";
/// How many runs of one step are kept, the last one first: as many branches as people go to and fro
/// between.
pub const VARIANTS: usize = 3;
/// How many stages are kept that the last build did not have.
const OTHER_STAGES: usize = 32;
/// Longer lists of steps are compared by position only.
const MOST_ALIGNED: usize = 600;

/// The last runs of the steps of a Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// Its stages; those of the last build first.
    pub stages: Vec<StageRuns>,
}

/// The last runs of the steps of a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRuns {
    /// Its name, or what stands for it.
    pub label: String,
    /// Its number in the Dockerfile.
    pub index: usize,
    /// The names of its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its steps, what it begins with first.
    pub steps: Vec<StepRuns>,
}

/// The last runs of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRuns {
    /// The instruction, by which the step is found again.
    pub text: String,
    /// The last one first.
    pub runs: Vec<StepRun>,
}

/// One run of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRun {
    /// The step's key.
    pub key: String,
    /// Whether it succeeded, or was found in the cache.
    pub ended: bool,
    /// The fields of the key.
    pub fields: Vec<(String, String)>,
}

impl StepRun {
    /// A run of the step with this key.
    pub fn new(key: &StepKey, ended: bool) -> Self {
        Self {
            key: key.digest.to_string(),
            ended,
            fields: key.fields.clone(),
        }
    }
}

impl Runs {
    /// Reads a record; a damaged one is empty.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let json = bytes.strip_prefix(MAGIC.as_bytes()).and_then(|rest| {
            rest.iter()
                .position(|byte| *byte == b'\n')
                .map(|at| &rest[at..])
        });
        json.and_then(|json| serde_json::from_slice(json).ok())
            .unwrap_or_default()
    }

    /// Whether the record in `bytes` was written by a build with these steps.
    pub fn is_of(bytes: &[u8], steps: &str) -> bool {
        bytes.starts_with(format!("{MAGIC}{steps}\n").as_bytes())
    }

    /// The record as it goes to the disk; `steps` stands for the steps of the last build.
    pub fn to_bytes(&self, steps: &str) -> Vec<u8> {
        let mut bytes = format!("{MAGIC}{steps}\n").into_bytes();
        serde_json::to_writer(&mut bytes, self)
            .expect("texts and lists of them have a form in JSON");
        bytes
    }

    /// The stage of this name. Of one that has none, or a new one, that which has most of these texts,
    /// else the one at this place.
    pub fn stage(&self, label: &str, index: usize, texts: &[String]) -> Option<&StageRuns> {
        let named = self.stages.iter().find(|stage| stage.label == label);
        if named.is_some() && !is_by_place(label) {
            return named;
        }
        let is_candidate = |stage: &&StageRuns| named.is_none() || is_by_place(&stage.label);
        let likeness = |stage: &&StageRuns| {
            let same = stage.steps.iter().filter(|step| texts.contains(&step.text));
            (same.count(), stage.label == label, stage.index == index)
        };
        let candidates = self.stages.iter().filter(is_candidate);
        // Of equals the first, that of the last build.
        let best = candidates.rev().max_by_key(likeness)?;
        (likeness(&best) > (0, false, false)).then_some(best)
    }

    /// Puts the stages of a build before those that are known; what it built anew is dropped, and a
    /// stage that nobody has built for long.
    pub fn put(&mut self, built: Vec<StageRuns>) {
        let is_other = |old: &StageRuns| built.iter().all(|new| new.label != old.label);
        let others: Vec<StageRuns> = self.stages.drain(..).filter(is_other).collect();
        self.stages = built;
        self.stages.extend(others.into_iter().take(OTHER_STAGES));
    }
}

/// Whether the name only tells where a stage stands.
fn is_by_place(label: &str) -> bool {
    let number = label.strip_prefix("stage-");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// For each text of `new` the place in `old` of the step that it was: the same text in the longest
/// common order, else a step of the same instruction between the same neighbours.
pub fn align(old: &[&str], new: &[&str]) -> Vec<Option<usize>> {
    if old.len().max(new.len()) > MOST_ALIGNED {
        return (0..new.len())
            .map(|at| {
                old.get(at)
                    .filter(|text| is_alike(text, new[at]))
                    .map(|_| at)
            })
            .collect();
    }
    let mut found = common(old, new, |one, other| one == other);
    let (mut old_at, mut new_at) = (0, 0);
    for at in 0..=new.len() {
        let anchor = match found.get(at) {
            Some(None) => continue,
            Some(Some(anchor)) => *anchor,
            None => old.len(),
        };
        let gap = common(&old[old_at..anchor], &new[new_at..at], is_alike);
        for (offset, paired) in gap.into_iter().enumerate() {
            found[new_at + offset] = paired.map(|place| old_at + place);
        }
        (old_at, new_at) = (anchor + 1, at + 1);
        if old_at > old.len() {
            break;
        }
    }
    found
}

/// Whether both are the same instruction, whatever it is to do.
fn is_alike(one: &str, other: &str) -> bool {
    fn word(text: &str) -> Option<&str> {
        text.split(' ').find(|word| *word != "ONBUILD")
    }
    word(one).map(str::to_uppercase) == word(other).map(str::to_uppercase)
}

/// The longest common subsequence: for each of `new` its partner in `old`.
fn common(old: &[&str], new: &[&str], same: fn(&str, &str) -> bool) -> Vec<Option<usize>> {
    let width = new.len() + 1;
    let mut lengths = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i * width + j] = if same(old[i], new[j]) {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let mut found = vec![None; new.len()];
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        if same(old[i], new[j]) {
            found[j] = Some(i);
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

/// The first field of a key that differs; a list is one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange<'f> {
    /// The field's name.
    pub name: &'f str,
    /// Its values in the earlier run.
    pub old: Vec<&'f str>,
    /// Its values now.
    pub new: Vec<&'f str>,
}

/// The first field, in the order of `new`, that differs, and how much was the same until there: how
/// many fields before it, and how many of its values.
pub fn first_change<'f>(
    old: &'f [(String, String)],
    new: &'f [(String, String)],
) -> Option<((usize, usize), FieldChange<'f>)> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in new.iter().chain(old) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let values = |fields: &'f [(String, String)], name: &str| -> Vec<&'f str> {
        let named = fields.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    };
    names.into_iter().enumerate().find_map(|(same, name)| {
        let (old, new) = (values(old, name), values(new, name));
        let values = new.iter().filter(|value| old.contains(value)).count();
        (old != new).then_some(((same, values), FieldChange { name, old, new }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_again() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [Option<usize>]);
        let cases: [Case<'_>; 9] = [
            (
                &["F", "RUN a", "COPY b"],
                &["F", "RUN a", "COPY b"],
                &[Some(0), Some(1), Some(2)],
            ),
            // A step that was inserted, at any place.
            (
                &["F", "RUN a", "RUN b"],
                &["F", "RUN x", "RUN a", "RUN b"],
                &[Some(0), None, Some(1), Some(2)],
            ),
            (
                &["F", "RUN a"],
                &["F", "RUN a", "RUN b"],
                &[Some(0), Some(1), None],
            ),
            // One that is gone.
            (
                &["F", "RUN a", "RUN b", "RUN c"],
                &["F", "RUN b", "RUN c"],
                &[Some(0), Some(2), Some(3)],
            ),
            // Ones that were edited.
            (
                &["F", "RUN a", "COPY b /", "RUN c"],
                &["F", "run A", "COPY d /", "RUN c"],
                &[Some(0), Some(1), Some(2), Some(3)],
            ),
            // Edited, with another one beside it.
            (
                &["F", "COPY b /", "RUN c"],
                &["F", "WORKDIR /w", "COPY d /", "RUN c"],
                &[Some(0), None, Some(1), Some(2)],
            ),
            (&["F 1", "RUN a"], &["F 2", "RUN a"], &[Some(0), Some(1)]),
            (&[], &["F", "RUN a"], &[None, None]),
            (&["F", "RUN a"], &[], &[]),
        ];
        for (old, new, expected) in cases {
            assert_eq!(align(old, new), expected, "{old:?} {new:?}");
        }
        let many: Vec<String> = (0..1000).map(|n| format!("RUN {n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(align(&many, &many)[999], Some(999));
    }

    #[test]
    fn a_record_is_read_back_and_knows_its_steps() {
        let mut runs = Runs::default();
        let stage = |label: &str, index| StageRuns {
            label: label.into(),
            index,
            args: Vec::new(),
            steps: vec![StepRuns {
                text: "RUN x".into(),
                runs: Vec::new(),
            }],
        };
        runs.put(vec![stage("a", 0), stage("b", 1)]);
        runs.put(vec![stage("a", 0), stage("c", 1)]);
        let labels: Vec<&str> = runs.stages.iter().map(|stage| &*stage.label).collect();
        assert_eq!(labels, ["a", "c", "b"]);
        assert_eq!(runs.stage("b", 0, &[]).unwrap().label, "b");
        assert_eq!(runs.stage("new", 1, &[]).unwrap().label, "c");
        assert_eq!(runs.stage("new", 7, &[]), None);
        let bytes = runs.to_bytes("abc");
        assert_eq!(Runs::from_bytes(&bytes), runs);
        assert!(Runs::is_of(&bytes, "abc"));
        assert!(!Runs::is_of(&bytes, "ab") && !Runs::is_of(b"", "abc"));
        for damaged in [
            &b""[..],
            b"lapstrake.runs.1 ",
            b"lapstrake.runs.1 x\n{",
            b"{}",
        ] {
            assert_eq!(Runs::from_bytes(damaged), Runs::default());
        }
    }

    #[test]
    fn a_stage_is_found_by_its_name_or_else_by_its_steps() {
        let stage = |label: &str, index, text: &str| StageRuns {
            label: label.into(),
            index,
            args: Vec::new(),
            steps: vec![StepRuns {
                text: text.into(),
                runs: Vec::new(),
            }],
        };
        let mut runs = Runs::default();
        runs.put(vec![
            stage("stage-0", 0, "RUN a"),
            stage("named", 1, "RUN b"),
            stage("stage-2", 2, "RUN c"),
        ]);
        for (label, index, text, expected) in [
            ("named", 0, "RUN a", Some("named")),
            // Another stage was put before it, or taken away.
            ("stage-3", 3, "RUN c", Some("stage-2")),
            ("stage-0", 0, "RUN c", Some("stage-2")),
            ("stage-0", 0, "RUN x", Some("stage-0")),
            // It has got another name, or one at all.
            ("new", 7, "RUN b", Some("named")),
            ("new", 2, "RUN a", Some("stage-0")),
            ("new", 2, "RUN x", Some("stage-2")),
            ("new", 7, "RUN x", None),
        ] {
            let found = runs.stage(label, index, &[text.to_owned()]);
            let found = found.map(|stage| stage.label.as_str());
            assert_eq!(found, expected, "{label} {index} {text}");
        }
    }

    #[test]
    fn the_first_field_that_differs() {
        let fields = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            owned.collect()
        };
        let old = fields(&[
            ("kind", "run"),
            ("base", "1"),
            ("env", "A=1"),
            ("env", "B=1"),
        ]);
        for (new, expected) in [
            (old.clone(), None),
            (
                fields(&[("kind", "run"), ("base", "2"), ("env", "A=2")]),
                Some((1, "base")),
            ),
            (
                fields(&[("kind", "run"), ("base", "1"), ("env", "A=1")]),
                Some((2, "env")),
            ),
            (
                fields(&[
                    ("kind", "run"),
                    ("base", "1"),
                    ("host", "x"),
                    ("env", "A=1"),
                    ("env", "B=1"),
                ]),
                Some((2, "host")),
            ),
            (
                fields(&[("kind", "run"), ("env", "A=1"), ("env", "B=1")]),
                Some((2, "base")),
            ),
        ] {
            let found = first_change(&old, &new).map(|(same, change)| (same.0, change.name));
            assert_eq!(found, expected, "{new:?}");
        }
    }
}
