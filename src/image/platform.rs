//! [`Platform`]: operating system, architecture and variant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A platform as images name it, with Go's names: `linux/amd64`, `linux/arm64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system, `linux`.
    pub os: String,
    /// The architecture, `amd64`.
    #[serde(rename = "architecture")]
    pub arch: String,
    /// The architecture's variant, `v7`; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// The text is no platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no platform: expected OS/ARCH or OS/ARCH/VARIANT, as in linux/amd64")]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Self {
        let (arch, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".into(),
            arch: arch.into(),
            variant: variant.into(),
        }
    }

    /// Whether something made for `other` is what this platform asks for.
    ///
    /// `arm64` and `arm64/v8` are the same, and so are `arm` and `arm/v7`.
    pub fn accepts(&self, other: &Self) -> bool {
        self.os == other.os
            && self.arch == other.arch
            && self.full_variant() == other.full_variant()
    }

    fn full_variant(&self) -> &str {
        match (self.arch.as_str(), self.variant.as_str()) {
            ("arm64", "v8") => "",
            ("amd64", "v1") => "",
            ("arm", "") => "v7",
            (_, variant) => variant,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError {
            text: text.to_owned(),
        };
        let lower = text.to_ascii_lowercase();
        let is_plain = |part: &str| {
            part.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = lower.split('/').collect();
        if !parts.iter().all(|part| is_plain(part)) {
            return Err(error());
        }
        let (os, arch, variant) = match parts[..] {
            ["linux"] => return Ok(Self::host()),
            [arch] if ARCHITECTURES.contains(&arch) => ("linux", arch, ""),
            [os, arch] => (os, arch, ""),
            [os, arch, variant] => (os, arch, variant),
            _ => return Err(error()),
        };
        if os.is_empty() || arch.is_empty() {
            return Err(error());
        }
        let (arch, variant) = normal(arch, variant);
        Ok(Self {
            os: os.into(),
            arch: arch.into(),
            variant: variant.into(),
        })
    }
}

/// Architectures that may stand alone, for Linux.
const ARCHITECTURES: [&str; 17] = [
    "386", "aarch64", "amd64", "arm", "arm64", "armel", "armhf", "i386", "loong64", "mips64",
    "mips64le", "ppc64", "ppc64le", "riscv64", "s390x", "x86-64", "x86_64",
];

/// One name for what has several, as containerd has it.
fn normal<'t>(arch: &'t str, variant: &'t str) -> (&'t str, &'t str) {
    match (arch, variant) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", "") | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", "") | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        ("i386", _) => ("386", ""),
        other => other,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/x86_64/v3", "linux/amd64/v3"),
            ("linux/i386", "linux/386"),
            ("arm64", "linux/arm64"),
            ("X86_64", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
        assert_eq!("linux".parse(), Ok(Platform::host()));
        for text in [
            "",
            "arm65",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/amd64,linux/arm64",
            "linux/a b",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
