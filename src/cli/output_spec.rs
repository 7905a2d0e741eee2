//! `-o/--output`: where a build's result goes, as `docker buildx build` spells it.

use std::path::PathBuf;
use std::str::FromStr;

use crate::layer::Compression;

/// What kind of thing to make of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// A tag in lapstrake's own store, or a push.
    Image,
    /// An OCI image layout, a directory or a tar of one.
    Oci,
    /// A tar that `docker load` reads.
    Docker,
    /// The root file system as a directory.
    Local,
    /// The root file system as a tar.
    Tar,
}

/// One `-o`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// What to make.
    pub kind: OutputKind,
    /// Where to; `-` is stdout, none the store.
    pub dest: Option<PathBuf>,
    /// Names in place of the `-t` ones.
    pub names: Vec<String>,
    /// Whether to push the image.
    pub push: bool,
    /// For [`OutputKind::Oci`]: a tar rather than a directory.
    pub tar: bool,
    /// How new layers are compressed.
    pub compression: Option<Compression>,
}

impl OutputSpec {
    /// A new output of the given kind with nothing else said.
    pub fn new(kind: OutputKind) -> Self {
        Self {
            kind,
            dest: None,
            names: Vec::new(),
            push: false,
            tar: true,
            compression: None,
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "type" => {}
            "dest" => self.dest = Some(PathBuf::from(value)),
            "name" => self.names.extend(value.split(',').map(str::to_owned)),
            "push" => self.push = boolean(key, value)?,
            "tar" => self.tar = boolean(key, value)?,
            "compression" => self.compression = Some(compression(value)?),
            "compression-level" => {
                self.compression = Some(with_level(self.compression, value)?);
            }
            _ => {
                return Err(format!(
                    "{key:?} is not supported; known are type, dest, name, push, tar, compression, compression-level"
                ));
            }
        }
        Ok(())
    }

    fn check(self) -> Result<Self, String> {
        match self.kind {
            OutputKind::Image if self.dest.is_some() => {
                return Err(
                    "dest does not go with type=image; type=oci and type=docker write files".into(),
                );
            }
            OutputKind::Local | OutputKind::Oci | OutputKind::Tar if self.dest.is_none() => {
                return Err("dest=PATH is missing".into());
            }
            _ => {}
        }
        if self.push && self.kind != OutputKind::Image {
            return Err("push=true goes with type=image".into());
        }
        if !self.tar && self.kind != OutputKind::Oci {
            return Err("tar=false goes with type=oci".into());
        }
        if (!self.tar || self.kind == OutputKind::Local)
            && self
                .dest
                .as_deref()
                .is_some_and(|dest| dest.as_os_str() == "-")
        {
            return Err("a directory cannot be written to stdout".into());
        }
        Ok(self)
    }
}

/// The compression with the level that `value` names; gzip if none was named before.
pub(super) fn with_level(
    compression: Option<Compression>,
    value: &str,
) -> Result<Compression, String> {
    let wrong = || format!("compression-level={value} is out of range");
    let number: i32 = value.parse().map_err(|_| wrong())?;
    match compression {
        Some(Compression::Zstd { .. }) if (1..=22).contains(&number) => {
            Ok(Compression::Zstd { level: number })
        }
        Some(Compression::Gzip { .. }) | None if (0..=9).contains(&number) => {
            let level = number.unsigned_abs();
            Ok(Compression::Gzip { level })
        }
        Some(Compression::Uncompressed) => Err("compression-level goes with gzip or zstd".into()),
        _ => Err(wrong()),
    }
}

/// How layers are compressed, by name.
pub(super) fn compression(value: &str) -> Result<Compression, String> {
    match value {
        "gzip" => Ok(Compression::Gzip { level: 6 }),
        "zstd" => Ok(Compression::Zstd { level: 3 }),
        "uncompressed" => Ok(Compression::Uncompressed),
        _ => Err(format!(
            "compression={value} is not supported; known are gzip, zstd, uncompressed"
        )),
    }
}

pub(super) fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{key}={value} is neither true nor false")),
    }
}

impl FromStr for OutputSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an output needs a type or a path".into());
        }
        if !text.contains('=') {
            let kind = if text == "-" {
                OutputKind::Tar
            } else {
                OutputKind::Local
            };
            return Ok(Self {
                dest: Some(PathBuf::from(text)),
                ..Self::new(kind)
            });
        }
        let fields = split_fields(text)?;
        let kind = match fields
            .iter()
            .find(|(key, _)| key == "type")
            .map(|(_, value)| value.as_str())
        {
            Some("image" | "registry") => OutputKind::Image,
            Some("oci") => OutputKind::Oci,
            Some("docker") => OutputKind::Docker,
            Some("local") => OutputKind::Local,
            Some("tar") => OutputKind::Tar,
            Some(other) => {
                return Err(format!(
                    "type={other} is not supported; known are image, registry, oci, docker, local, tar"
                ));
            }
            None => return Err("type=… is missing".into()),
        };
        let mut spec = Self::new(kind);
        spec.push = fields
            .iter()
            .any(|(key, value)| key == "type" && value == "registry");
        for (key, value) in &fields {
            spec.set(key, value)?;
        }
        spec.check()
    }
}

/// Splits `key=value,"key=va,lue"` as CSV: a field in double quotes may hold commas.
pub(super) fn split_fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => {
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    if quoted {
        return Err("a double quote is not closed".into());
    }
    fields
        .iter()
        .map(|field| {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("{field:?} is no key=value pair"))?;
            Ok((key.trim().to_ascii_lowercase(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_docker_parses() {
        let oci = OutputSpec {
            dest: Some("x.tar".into()),
            ..OutputSpec::new(OutputKind::Oci)
        };
        let cases = [
            ("type=oci,dest=x.tar", oci.clone()),
            (
                "type=oci,dest=x.tar,tar=false",
                OutputSpec {
                    tar: false,
                    ..oci.clone()
                },
            ),
            (
                "\"type=oci\",\"dest=a,b\"",
                OutputSpec {
                    dest: Some("a,b".into()),
                    ..oci
                },
            ),
            (
                "out",
                OutputSpec {
                    dest: Some("out".into()),
                    ..OutputSpec::new(OutputKind::Local)
                },
            ),
            (
                "-",
                OutputSpec {
                    dest: Some("-".into()),
                    ..OutputSpec::new(OutputKind::Tar)
                },
            ),
            (
                "type=image,name=a/b,push=true,compression=zstd",
                OutputSpec {
                    names: vec!["a/b".into()],
                    push: true,
                    compression: Some(Compression::Zstd { level: 3 }),
                    ..OutputSpec::new(OutputKind::Image)
                },
            ),
            ("type=docker", OutputSpec::new(OutputKind::Docker)),
            (
                "type=registry",
                OutputSpec {
                    push: true,
                    ..OutputSpec::new(OutputKind::Image)
                },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<OutputSpec>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_by_name() {
        for (text, part) in [
            ("", "needs a type"),
            ("dest=x", "type=… is missing"),
            ("type=cacheonly", "type=cacheonly"),
            ("type=oci", "dest=PATH"),
            ("type=oci,dest=x,color=red", "\"color\""),
            ("type=tar,dest=x,push=true", "push=true"),
            ("type=local,dest=x,tar=false", "tar=false"),
            ("type=oci,dest=-,tar=false", "stdout"),
            ("type=oci,dest=x,compression=lz4", "compression=lz4"),
            ("type=oci,dest=x,tar=maybe", "tar=maybe"),
            ("type=image,\"name=a", "not closed"),
        ] {
            let error = text.parse::<OutputSpec>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
