//! `--build-context NAME=VALUE`: what the value says, and the contexts that a build opens.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;

use super::exit::UsageError;
use super::remote::{self, Opened};
use crate::build::{Fetching, NamedFiles};
use crate::context::Context;
use crate::dockerfile::nearest;
use crate::fetch::RemoteContext;
use crate::image::{Platform, Reference};
use crate::layer::Ids;
use crate::plan::{ContextKind, FIXED_NAMES, NamedContext, context_name};
use crate::transfer::{LAYOUT_SCHEME, LayoutRef};

const IMAGE_SCHEME: &str = "docker-image://";
/// What stands before `://`, for hints.
const SCHEMES: [&str; 6] = ["docker-image", "oci-layout", "https", "http", "git", "ssh"];

/// One `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSpec {
    /// As it was written, for messages.
    text: String,
    name: String,
    platform: Option<Platform>,
    location: Location,
}

/// Where a context is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Location {
    /// An image, by its reference.
    Image(String),
    /// An image in a layout.
    Layout(LayoutRef),
    /// A repository, or a tar to be fetched.
    Remote(RemoteContext),
    Directory(PathBuf),
}

impl FromStr for NamedSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once('=') else {
            return Err("expected NAME=VALUE, as in NAME=DIR or NAME=docker-image://IMAGE".into());
        };
        let (name, platform) = match name.split_once("::") {
            Some((name, platform)) => (name, Some(platform.parse().map_err(text_of)?)),
            None => (name, None),
        };
        if FIXED_NAMES.contains(&name) {
            return Err(format!("{name:?} cannot be replaced by another context"));
        }
        name.parse::<Reference>().map_err(text_of)?;
        if value.is_empty() {
            return Err(format!(
                "{name:?} has no value: expected a directory or a URL"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            name: context_name(name),
            platform,
            location: value.parse()?,
        })
    }
}

fn text_of(error: impl ToString) -> String {
    error.to_string()
}

impl FromStr for Location {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        if let Some(image) = value.strip_prefix(IMAGE_SCHEME) {
            image.parse::<Reference>().map_err(text_of)?;
            return Ok(Self::Image(image.to_owned()));
        }
        if let Some(layout) = value.strip_prefix(LAYOUT_SCHEME) {
            return Ok(Self::Layout(layout.parse()?));
        }
        if let Some(remote) = RemoteContext::parse(value).map_err(text_of)? {
            return Ok(Self::Remote(remote));
        }
        if let Some(target) = value.strip_prefix("target:") {
            return Err(format!(
                "target:{target} is another target of a bake file, which is not read here: \
                 build that one first and name its image as docker-image://IMAGE"
            ));
        }
        match value.split_once("://") {
            None => Ok(Self::Directory(value.into())),
            Some((scheme, rest)) => Err(match nearest(scheme, SCHEMES) {
                Some(known) => {
                    format!("unknown scheme {scheme:?}: did you mean {known}://{rest}?")
                }
                None => format!(
                    "unknown scheme {scheme:?}; known are {}",
                    SCHEMES.join(", ")
                ),
            }),
        }
    }
}

/// A context that is files.
pub(super) enum Files {
    /// A directory, and what messages call it.
    Directory(PathBuf, String),
    /// One to be fetched, and what messages call it.
    Remote(RemoteContext, String),
}

/// The contexts, as the plan knows them and as the build opens them. Directories are opened here
/// once: one that is not there is told of even if no step uses it.
///
/// # Errors
/// Directories that are not there, ignore files that cannot be understood, what is not supported.
pub(super) fn contexts(specs: &[NamedSpec]) -> Result<(Vec<NamedContext>, Vec<Files>)> {
    let mut planned = Vec::new();
    let mut files = Vec::new();
    for spec in specs {
        let kind = match &spec.location {
            Location::Image(reference) => ContextKind::Image(reference.clone()),
            Location::Layout(layout) => {
                check_dir(spec, &layout.dir)?;
                ContextKind::Image(layout.to_string())
            }
            Location::Directory(dir) => {
                check_dir(spec, dir)?;
                Context::open_dir(dir, None)?;
                let place = format!("the build context {:?}", spec.name);
                files.push(Files::Directory(dir.clone(), place));
                ContextKind::Files(files.len() - 1)
            }
            Location::Remote(remote) => {
                let place = format!("the build context {:?}", spec.name);
                files.push(Files::Remote(remote.clone(), place));
                ContextKind::Files(files.len() - 1)
            }
        };
        planned.push(NamedContext {
            name: spec.name.clone(),
            platform: spec.platform.clone(),
            kind,
        });
    }
    Ok((planned, files))
}

/// The files by which images in layouts are found.
pub(super) fn layout_files(specs: &[NamedSpec]) -> Vec<PathBuf> {
    let file = |spec: &NamedSpec| match &spec.location {
        Location::Layout(layout) => Some(layout.dir.join("index.json")),
        _ => None,
    };
    specs.iter().filter_map(file).collect()
}

fn check_dir(spec: &NamedSpec, dir: &std::path::Path) -> Result<(), UsageError> {
    let wrong = |reason: String| {
        let text = &spec.text;
        UsageError(format!(
            "--build-context {text:?}: {} {reason}",
            dir.display()
        ))
    };
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(wrong(
            "is no directory: unpack it, or load it as an image".into(),
        )),
        Err(error) => Err(wrong(format!("cannot be used: {error}"))),
    }
}

/// The contexts as the build opens them, with a record of what is looked at if it `records`: what is fetched is fetched when a step asks for it, and
/// directories are opened in the sandbox, since it can mount nothing of other mount namespaces.
pub(super) fn opened<'a>(
    files: Vec<Files>,
    fetching: &'a Fetching<'a>,
    ids: &'a (dyn Ids + Sync),
    records: bool,
) -> Vec<NamedFiles<'a>> {
    let opened = |files| match files {
        Files::Directory(dir, place) => NamedFiles::new(move || {
            let context = Context::open_dir(&dir, None)?;
            Ok(context.called(place.clone()).recording(records))
        }),
        Files::Remote(remote, place) => {
            NamedFiles::new(move || match remote::open(&remote, fetching, ids)? {
                Opened::Context(context) => Ok(context.called(place.clone())),
                Opened::Text(_) => Err(UsageError(format!("{place}: what came is no tar")).into()),
            })
        }
    };
    files.into_iter().map(opened).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_value_says() {
        let layout = || Location::Layout("dir:v1".parse().unwrap());
        let remote = |text| Location::Remote(RemoteContext::parse(text).unwrap().unwrap());
        for (text, name, location) in [
            ("a=dir", "a", Location::Directory("dir".into())),
            ("a=b=c", "a", Location::Directory("b=c".into())),
            ("alpine:latest=.", "alpine", Location::Directory(".".into())),
            ("g.io/a:1=.", "g.io/a:1", Location::Directory(".".into())),
            (
                "a=docker-image://alpine:3",
                "a",
                Location::Image("alpine:3".into()),
            ),
            ("a=oci-layout://dir:v1", "a", layout()),
            (
                "a=https://h/r.git#main:sub",
                "a",
                remote("https://h/r.git#main:sub"),
            ),
            ("a=git@h:r", "a", remote("git@h:r")),
            ("a=ssh://h/r", "a", remote("ssh://h/r")),
            ("a=http://h/x.tgz", "a", remote("http://h/x.tgz")),
        ] {
            let spec: NamedSpec = text.parse().unwrap();
            assert_eq!(
                (spec.name.as_str(), &spec.location),
                (name, &location),
                "{text}"
            );
            assert_eq!(spec.platform, None);
        }
        let spec: NamedSpec = "a::linux/arm64/v8=dir".parse().unwrap();
        assert_eq!(spec.platform.unwrap().to_string(), "linux/arm64");
        for (text, said) in [
            ("a", "NAME=VALUE"),
            ("=dir", ""),
            ("a=", "no value"),
            ("A=dir", "A"),
            ("scratch=dir", "cannot be replaced"),
            ("context=dir", "cannot be replaced"),
            ("a::x=dir", "OS/ARCH"),
            ("a=docker-image://", ""),
            ("a=docker-images://x", "did you mean docker-image://x?"),
            ("a=docker-image://A", "A"),
            ("a=s3://bucket", "known are docker-image, oci-layout"),
            ("a=oci-layout://", "DIR[:TAG|@DIGEST]"),
        ] {
            let error = text.parse::<NamedSpec>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
