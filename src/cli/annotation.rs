//! `--annotation [TYPE[PLATFORM]:]NAME=VALUE`: notes on the manifest, as `docker buildx` takes them.
//!
//! A type names the object that is annotated; several may stand side by side, with commas. A build
//! makes one manifest and no index of platforms, so what belongs on an index is refused.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::exit::UsageError;
use super::output_spec::{OutputKind, OutputSpec};
use crate::image::Platform;

const TYPES: [&str; 4] = [
    "manifest",
    "index",
    "manifest-descriptor",
    "index-descriptor",
];

/// One `--annotation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationSpec {
    targets: Vec<Target>,
    name: String,
    value: String,
}

/// What is annotated, and for which platform if not for every one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    kind: &'static str,
    platform: Option<Platform>,
}

/// The annotations of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    pub(super) manifest: BTreeMap<String, String>,
    pub(super) descriptor: BTreeMap<String, String>,
}

impl FromStr for AnnotationSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected [TYPE:]NAME=VALUE".to_owned();
        let (left, value) = text.split_once('=').ok_or_else(expected)?;
        // A platform has no colon, and a name that has one must say its type.
        let (targets, name) = match left.split_once(':') {
            Some((types, name)) => (
                types.split(',').map(target).collect::<Result<_, _>>()?,
                name,
            ),
            None => {
                let manifest = Target {
                    kind: TYPES[0],
                    platform: None,
                };
                (vec![manifest], left)
            }
        };
        if name.is_empty() {
            return Err(expected());
        }
        Ok(Self {
            targets,
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

fn target(text: &str) -> Result<Target, String> {
    let (word, platform) = match text.split_once('[') {
        Some((word, rest)) => {
            let platform = rest
                .strip_suffix(']')
                .ok_or_else(|| format!("{text:?}: the bracket is not closed"))?;
            let platform: Platform = platform.parse().map_err(|e| format!("{text:?}: {e}"))?;
            (word, Some(platform))
        }
        None => (text, None),
    };
    let known = TYPES.iter().find(|known| **known == word);
    let kind =
        known.ok_or_else(|| format!("unknown type {word:?}; known are {}", TYPES.join(", ")))?;
    Ok(Target { kind, platform })
}

/// Sorts the annotations of a build for `platform` by their places.
///
/// # Errors
/// For those that would get no place in any of the outputs.
pub(super) fn collect(
    specs: &[AnnotationSpec],
    platform: &Platform,
    outputs: &[OutputSpec],
) -> Result<Annotations, UsageError> {
    let mut all = Annotations::default();
    for spec in specs {
        for target in &spec.targets {
            let refused = |why: &str| {
                UsageError(format!("--annotation {}:{}: {why}", target.kind, spec.name))
            };
            if target
                .platform
                .as_ref()
                .is_some_and(|own| !platform.accepts(own))
            {
                return Err(refused(&format!("the build is for {platform} only")));
            }
            let (place, fits): (_, fn(&OutputSpec) -> bool) = match target.kind {
                "manifest" => (&mut all.manifest, has_manifest),
                "manifest-descriptor" => (&mut all.descriptor, has_descriptor),
                _ => {
                    return Err(refused(
                        "a build for one platform has no index; annotate its manifest",
                    ));
                }
            };
            if !outputs.iter().any(fits) {
                return Err(refused("no output has a place for it"));
            }
            place.insert(spec.name.clone(), spec.value.clone());
        }
    }
    Ok(all)
}

fn has_manifest(output: &OutputSpec) -> bool {
    matches!(
        output.kind,
        OutputKind::Image | OutputKind::Oci | OutputKind::Docker
    )
}

/// A registry keeps no descriptor beside the manifest.
fn has_descriptor(output: &OutputSpec) -> bool {
    has_manifest(output) && !output.push
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(text: &str, output: &str) -> Result<Annotations, String> {
        let platform = "linux/amd64".parse().unwrap();
        let spec = text.parse::<AnnotationSpec>()?;
        collect(&[spec], &platform, &[output.parse().unwrap()]).map_err(|e| e.to_string())
    }

    #[test]
    fn where_an_annotation_goes() {
        for (text, name, value, places) in [
            ("a=b", "a", "b", "m"),
            ("manifest:a=b=c", "a", "b=c", "m"),
            ("manifest:a:b=", "a:b", "", "m"),
            ("a=b:c", "a", "b:c", "m"),
            ("manifest-descriptor:a=b", "a", "b", "d"),
            ("manifest,manifest-descriptor:a=b", "a", "b", "md"),
            ("manifest[linux/amd64]:a=b", "a", "b", "m"),
        ] {
            let all = collected(text, "type=oci,dest=x").unwrap();
            for (map, mark) in [(&all.manifest, 'm'), (&all.descriptor, 'd')] {
                let expected = places.contains(mark).then_some(value);
                assert_eq!(map.get(name).map(String::as_str), expected, "{text}");
            }
        }
    }

    #[test]
    fn what_has_no_place_is_refused() {
        for (text, output, said) in [
            ("a", "x", "[TYPE:]NAME=VALUE"),
            ("=b", "x", "[TYPE:]NAME=VALUE"),
            ("manifest:=b", "x", "[TYPE:]NAME=VALUE"),
            ("manifests:a=b", "x", "unknown type \"manifests\""),
            ("manifest[linux/amd64:a=b", "x", "not closed"),
            ("manifest[x]:a=b", "x", "OS/ARCH"),
            ("index:a=b", "type=image", "no index"),
            ("index-descriptor:a=b", "type=image", "no index"),
            (
                "manifest[linux/arm64]:a=b",
                "type=image",
                "for linux/amd64 only",
            ),
            ("a=b", "type=local,dest=x", "no output has a place"),
            (
                "manifest-descriptor:a=b",
                "type=image,push=true",
                "no output has a place",
            ),
        ] {
            let error = collected(text, output).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
