//! `--cache-to` and `--cache-from`: where results of steps are kept besides the store, as
//! `docker buildx build` spells it.

use std::path::PathBuf;
use std::str::FromStr;

use super::output_spec::{boolean, compression, split_fields, with_level};
use crate::image::Reference;
use crate::layer::Compression;
use crate::remote_cache::tag_prefix;

/// The kinds that there are elsewhere, each with what to use in its place.
const OTHERS: [&str; 3] = ["gha", "s3", "azblob"];

/// Where results are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// In a repository of a registry.
    Registry(Reference),
    /// In a directory, as an OCI image layout.
    Local(PathBuf),
    /// In the image that is built.
    Inline,
}

/// Which results are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those whose layers are in the image.
    #[default]
    Min,
    /// Those of every stage.
    Max,
}

/// One `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTo {
    /// Where to.
    pub place: CachePlace,
    /// What.
    pub mode: CacheMode,
    /// How layers are compressed that have never left this machine.
    pub compression: Compression,
    /// Whether the build succeeds although this failed.
    pub ignore_error: bool,
}

/// One `--cache-from`: the places that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheFrom(pub Vec<CachePlace>);

/// The fields of one flag; `type` is taken out.
struct Fields {
    kind: String,
    rest: Vec<(String, String)>,
}

impl Fields {
    fn of(text: &str) -> Result<Self, String> {
        let mut rest = split_fields(text)?;
        let types = rest.extract_if(.., |(key, _)| key == "type");
        let kind = types.map(|(_, value)| value).last();
        let kind = kind.ok_or("type=… is missing")?;
        if OTHERS.contains(&kind.as_str()) {
            return Err(format!(
                "type={kind} is not supported: keep the cache in a registry (type=registry,ref=NAME), \
                 or in a directory that is carried from build to build (type=local)"
            ));
        }
        Ok(Self { kind, rest })
    }

    /// Takes out the value of `key`, the last if there are several.
    fn take(&mut self, key: &str) -> Option<String> {
        let taken = self.rest.extract_if(.., |(known, _)| known == key);
        taken.map(|(_, value)| value).last()
    }

    fn needed(&mut self, key: &str, shown: &str) -> Result<String, String> {
        let value = self.take(key).filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("{shown} is missing for type={}", self.kind))
    }

    /// Refuses what nobody has taken.
    fn end(self, known: &str) -> Result<(), String> {
        match self.rest.first() {
            None => Ok(()),
            Some((key, _)) => Err(format!(
                "{key:?} is not supported for type={}; known are {known}",
                self.kind
            )),
        }
    }
}

/// References alone, as `--cache-from` has always taken them.
fn bare(text: &str) -> Result<Option<Vec<Reference>>, String> {
    if text.is_empty() {
        return Err("a cache needs a type or a reference".into());
    }
    if text.contains('=') {
        return Ok(None);
    }
    text.split(',')
        .map(reference)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn reference(text: &str) -> Result<Reference, String> {
    text.parse()
        .map_err(|error: crate::image::ReferenceError| error.to_string())
}

impl FromStr for CacheFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(references) = bare(text)? {
            return Ok(Self(
                references.into_iter().map(CachePlace::Registry).collect(),
            ));
        }
        let mut fields = Fields::of(text)?;
        let (place, known) = match fields.kind.as_str() {
            "registry" => {
                let name = fields.needed("ref", "ref=NAME")?;
                (CachePlace::Registry(reference(&name)?), "ref")
            }
            "local" => {
                let dir = fields.needed("src", "src=DIR")?;
                (CachePlace::Local(dir.into()), "src")
            }
            "inline" => {
                return Err(
                    "type=inline is for --cache-to; an image that has its cache inline is named \
                     with type=registry,ref=IMAGE"
                        .into(),
                );
            }
            other => return Err(unknown(other, "registry, local")),
        };
        fields.end(known)?;
        Ok(Self(vec![place]))
    }
}

impl FromStr for CacheTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut to = Self {
            place: CachePlace::Inline,
            mode: CacheMode::default(),
            compression: Compression::Gzip { level: 6 },
            ignore_error: false,
        };
        if let Some(references) = bare(text)? {
            let [name] = <[Reference; 1]>::try_from(references)
                .map_err(|all| format!("{} references in one --cache-to", all.len()))?;
            to.place = CachePlace::Registry(name);
            return to.checked();
        }
        let mut fields = Fields::of(text)?;
        let known = match fields.kind.as_str() {
            "registry" => {
                let name = fields.needed("ref", "ref=NAME")?;
                to.place = CachePlace::Registry(reference(&name)?);
                // What entries are anyway; others cannot be had.
                for key in ["oci-mediatypes", "image-manifest"] {
                    if let Some(value) = fields.take(key)
                        && !boolean(key, &value)?
                    {
                        return Err(format!(
                            "{key}=false is not supported: entries are OCI images"
                        ));
                    }
                }
                "ref, mode, compression, compression-level, ignore-error, oci-mediatypes, \
                 image-manifest"
            }
            "local" => {
                let dir = fields.needed("dest", "dest=DIR")?;
                to.place = CachePlace::Local(dir.into());
                "dest, mode, compression, compression-level, ignore-error"
            }
            "inline" => {
                fields.end("none")?;
                return Ok(to);
            }
            other => return Err(unknown(other, "registry, local, inline")),
        };
        to.set(&mut fields)?;
        fields.end(known)?;
        to.checked()
    }
}

impl CacheTo {
    fn set(&mut self, fields: &mut Fields) -> Result<(), String> {
        match fields.take("mode").as_deref() {
            None | Some("min") => {}
            Some("max") => self.mode = CacheMode::Max,
            Some(other) => return Err(format!("mode={other} is neither min nor max")),
        }
        if let Some(value) = fields.take("ignore-error") {
            self.ignore_error = boolean("ignore-error", &value)?;
        }
        let named = fields.take("compression");
        let named = named.map(|name| compression(&name)).transpose()?;
        self.compression = match fields.take("compression-level") {
            Some(level) => with_level(named, &level)?,
            None => named.unwrap_or(self.compression),
        };
        Ok(())
    }

    fn checked(self) -> Result<Self, String> {
        if let CachePlace::Registry(reference) = &self.place {
            tag_prefix(reference)?;
        }
        Ok(self)
    }
}

fn unknown(kind: &str, known: &str) -> String {
    format!("type={kind} is not supported; known are {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str) -> CachePlace {
        CachePlace::Registry(name.parse().unwrap())
    }

    fn to(place: CachePlace) -> CacheTo {
        CacheTo {
            place,
            mode: CacheMode::Min,
            compression: Compression::Gzip { level: 6 },
            ignore_error: false,
        }
    }

    #[test]
    fn parses_what_docker_parses() {
        let cases = [
            ("type=registry,ref=h/r", to(registry("h/r"))),
            ("h/r:c", to(registry("h/r:c"))),
            ("type=inline", to(CachePlace::Inline)),
            (
                "type=registry,ref=h/r,mode=max,ignore-error=true,image-manifest=true,oci-mediatypes=true",
                CacheTo {
                    mode: CacheMode::Max,
                    ignore_error: true,
                    ..to(registry("h/r"))
                },
            ),
            (
                "type=local,dest=a/b,mode=min,compression=zstd,compression-level=9",
                CacheTo {
                    compression: Compression::Zstd { level: 9 },
                    ..to(CachePlace::Local("a/b".into()))
                },
            ),
            (
                "compression-level=1,type=local,\"dest=a,b\",ignore-error=false",
                CacheTo {
                    compression: Compression::Gzip { level: 1 },
                    ..to(CachePlace::Local("a,b".into()))
                },
            ),
            (
                "type=local,dest=x,compression=uncompressed",
                CacheTo {
                    compression: Compression::Uncompressed,
                    ..to(CachePlace::Local("x".into()))
                },
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<CacheTo>().unwrap(), expected, "{text}");
        }
        for (text, expected) in [
            ("type=registry,ref=h/r", vec![registry("h/r")]),
            ("h/r", vec![registry("h/r")]),
            ("h/r:a,app", vec![registry("h/r:a"), registry("app")]),
            ("type=local,src=d", vec![CachePlace::Local("d".into())]),
        ] {
            assert_eq!(text.parse::<CacheFrom>().unwrap().0, expected, "{text}");
        }
    }

    #[test]
    fn refuses_by_name() {
        let long = format!("type=registry,ref=h/r:{}", "a".repeat(64));
        let pinned = format!("type=registry,ref=h/r@sha256:{}", "0".repeat(64));
        for (text, part) in [
            ("", "a type or a reference"),
            ("ref=x", "type=… is missing"),
            ("type=gha", "type=gha is not supported: keep"),
            ("type=s3,bucket=x", "type=s3"),
            ("type=azblob", "type=azblob"),
            (
                "type=other",
                "type=other is not supported; known are registry, local, inline",
            ),
            ("type=registry", "ref=NAME is missing"),
            ("type=registry,ref=", "ref=NAME is missing"),
            ("type=registry,ref=UPPER", "UPPER"),
            ("type=registry,ref=h/r,mode=middle", "mode=middle"),
            ("type=registry,ref=h/r,color=red", "\"color\""),
            (
                "type=registry,ref=h/r,image-manifest=false",
                "image-manifest=false",
            ),
            (
                "type=registry,ref=h/r,ignore-error=maybe",
                "ignore-error=maybe",
            ),
            (
                "type=registry,ref=h/r,compression=estargz",
                "compression=estargz",
            ),
            (
                "type=registry,ref=h/r,compression-level=10",
                "compression-level=10",
            ),
            ("type=local", "dest=DIR is missing"),
            ("type=local,dest=x,ref=y", "\"ref\""),
            ("type=inline,mode=max", "\"mode\""),
            ("h/r,h/s", "2 references"),
            (&long, "too long"),
            (&pinned, "pinned by a digest"),
        ] {
            let error = text.parse::<CacheTo>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        for (text, part) in [
            ("", "a type or a reference"),
            ("type=inline", "type=registry,ref=IMAGE"),
            ("type=gha", "type=gha"),
            ("type=local,dest=x", "src=DIR is missing"),
            ("type=local,src=x,tag=y", "\"tag\""),
            ("type=registry,ref=h/r,mode=max", "\"mode\""),
            ("UPPER", "UPPER"),
        ] {
            let error = text.parse::<CacheFrom>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
