//! Values of flags that are small languages of their own: pairs, hosts, limits, sizes.

use std::net::IpAddr;
use std::time::Duration;

use runtime::Ulimit;

use super::exit::UsageError;
use crate::dockerfile::parse_duration;
use crate::image::{Platform, PlatformError};

/// This machine, as seen by itself.
const LOOPBACK: &str = "127.0.0.1";

fn error(flag: &str, value: &str, expected: &str) -> UsageError {
    UsageError(format!("{flag} {value:?}: expected {expected}"))
}

/// `OS/ARCH[/VARIANT]`, one of them.
///
/// # Errors
/// When it is none, or several.
pub fn platform(text: &str) -> Result<Platform, String> {
    if text.contains(',') {
        return Err(
            "an image for several platforms is not supported: build once for each, under names of their own"
                .into(),
        );
    }
    text.parse()
        .map_err(|error: PlatformError| error.to_string())
}

/// `NAME=VALUE`.
///
/// # Errors
/// Without a name or an equals sign.
pub fn pair(flag: &str, text: &str) -> Result<(String, String), UsageError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(error(flag, text, "NAME=VALUE")),
    }
}

/// `NAME=VALUE`, or `NAME` whose value `lookup` gives; nothing if it has none.
///
/// # Errors
/// Without a name, and those of `lookup`.
pub fn inherited_pair(
    flag: &str,
    text: &str,
    lookup: impl Fn(&str) -> Result<Option<String>, UsageError>,
) -> Result<Option<(String, String)>, UsageError> {
    if text.is_empty() || text.starts_with('=') {
        return Err(error(flag, text, "NAME or NAME=VALUE"));
    }
    if text.contains('=') {
        return pair(flag, text).map(Some);
    }
    Ok(lookup(text)?.map(|value| (text.to_owned(), value)))
}

/// A variable of the environment, if it is set.
///
/// # Errors
/// When its value is no UTF-8: it could not be passed on as it is.
pub fn variable(name: &str) -> Result<Option<String>, UsageError> {
    let wrong = |value| UsageError(format!("the variable {name} is not UTF-8: {value:?}"));
    std::env::var_os(name)
        .map(|value| value.into_string().map_err(wrong))
        .transpose()
}

/// The host name that RUN sees, the build argument `BUILDKIT_SANDBOX_HOSTNAME`.
///
/// # Errors
/// When it is no name that the kernel and `/etc/hosts` can hold.
pub fn hostname(build_args: &[(String, String)]) -> Result<Option<String>, UsageError> {
    const NAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
    /// The kernel's `__NEW_UTS_LEN`.
    const LONGEST: usize = 64;
    let given = build_args.iter().rev().find(|(name, _)| name == NAME);
    let Some((_, text)) = given.filter(|(_, text)| !text.is_empty()) else {
        return Ok(None);
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.len() > LONGEST || !text.chars().all(allowed) {
        return Err(error(
            "--build-arg",
            &format!("{NAME}={text}"),
            "a host name: letters, digits, - _ and ., 64 at most",
        ));
    }
    Ok(Some(text.clone()))
}

/// `HOST:IP` or `HOST=IP`; an IPv6 address may stand in brackets. `host-gateway` is this machine,
/// which a step on its network reaches by the loopback address.
///
/// # Errors
/// When the address is none.
pub fn host(text: &str) -> Result<(String, String), UsageError> {
    let wrong = || error("--add-host", text, "HOST:IP");
    let (name, address) = text.split_once(['=', ':']).ok_or_else(wrong)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let bare = if bare == "host-gateway" {
        LOOPBACK
    } else {
        bare
    };
    if name.is_empty() || name.contains(char::is_whitespace) || bare.parse::<IpAddr>().is_err() {
        return Err(wrong());
    }
    Ok((name.to_owned(), bare.to_owned()))
}

/// The mode that `--sandbox` asks for; none is the strongest that works.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox(pub Option<runtime::Mode>);

/// `auto` or the name of a mode.
///
/// # Errors
/// When there is no such mode.
pub fn sandbox(text: &str) -> Result<Sandbox, UsageError> {
    sandbox_of("--sandbox", text)
}

/// The same, named by `from`, a flag or a variable.
///
/// # Errors
/// When there is no such mode.
pub fn sandbox_of(from: &str, text: &str) -> Result<Sandbox, UsageError> {
    let mut modes = runtime::Mode::ALL.into_iter();
    match modes.find(|mode| mode.name() == text) {
        None if text == "auto" => Ok(Sandbox(None)),
        None => {
            let names = runtime::Mode::ALL.map(runtime::Mode::name).join(", ");
            Err(UsageError(format!(
                "{from} {text:?}: one of auto, {names} is needed"
            )))
        }
        mode => Ok(Sandbox(mode)),
    }
}

/// `NAME=SOFT[:HARD]`; -1 and `unlimited` mean no limit.
///
/// # Errors
/// When a number is none, or the soft limit is above the hard one.
pub fn ulimit(text: &str) -> Result<Ulimit, UsageError> {
    let wrong = || error("--ulimit", text, "NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    if !runtime::is_limit(name) {
        return Err(UsageError(format!(
            "--ulimit {text:?}: {name:?} is no resource limit"
        )));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "-1" | "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    let soft = number(soft).ok_or_else(wrong)?;
    let hard = number(hard).ok_or_else(wrong)?;
    if soft > hard {
        return Err(error(
            "--ulimit",
            text,
            "a soft limit that is not above the hard one",
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// A time span as Go writes it, `1h30m`, or a number of days, `7d`.
///
/// # Errors
/// When it is neither, or less than nothing.
pub fn age(flag: &str, text: &str) -> Result<Duration, UsageError> {
    const DAY: u64 = 24 * 60 * 60;
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    let seconds = days.and_then(|days: u64| days.checked_mul(DAY));
    let found = match seconds {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => parse_duration(text)
            .and_then(|nanoseconds| u64::try_from(nanoseconds).ok())
            .map(Duration::from_nanos),
    };
    found.ok_or_else(|| error(flag, text, "a time span such as 24h, 1h30m or 7d"))
}

/// Bytes, or a number with `b`, `k`, `m`, `g` or `t` (powers of 1024), as in 512, 64m, 1.5GB, 2GiB.
///
/// # Errors
/// When it is neither.
pub fn size(flag: &str, text: &str) -> Result<u64, UsageError> {
    let wrong = || error(flag, text, "a size such as 67108864, 64m or 1g");
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let is_number = !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
    let part: u128 = part.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
    let digits_of_part = digits.split_once('.').map_or(1, |(_, part)| part.len());
    let tenths = 10_u128.pow(u32::try_from(digits_of_part).map_err(|_| wrong())?);
    let part = u64::try_from(part * u128::from(factor) / tenths).map_err(|_| wrong())?;
    let bytes = whole.checked_mul(factor);
    bytes
        .and_then(|bytes| bytes.checked_add(part))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("db:10.0.0.1", Some(("db", "10.0.0.1"))),
            ("db=10.0.0.1", Some(("db", "10.0.0.1"))),
            ("db:::1", Some(("db", "::1"))),
            ("db:[::1]", Some(("db", "::1"))),
            ("db:host-gateway", Some(("db", "127.0.0.1"))),
            ("db:", None),
            (":1.2.3.4", None),
            ("db", None),
            ("d b:1.2.3.4", None),
        ] {
            let expected = expected.map(|(name, ip)| (name.to_owned(), ip.to_owned()));
            assert_eq!(host(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn host_names() {
        let found = |value: &str| hostname(&[("BUILDKIT_SANDBOX_HOSTNAME".into(), value.into())]);
        assert_eq!(found("my-host.x").unwrap().as_deref(), Some("my-host.x"));
        assert_eq!(found("").unwrap(), None);
        for wrong in ["a b", "a\n1.2.3.4 b", &"a".repeat(65)] {
            assert!(found(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_and_sizes() {
        assert_eq!(ulimit("nofile=1024").unwrap().hard, 1024);
        assert_eq!(ulimit("nofile=1:unlimited").unwrap().hard, u64::MAX);
        for text in ["nofile", "nofile=a", "nofile=2:1"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
        for (text, expected) in [
            ("64m", Some(64 << 20)),
            ("1G", Some(1 << 30)),
            ("12", Some(12)),
            ("1.5k", Some(1536)),
            ("2GiB", Some(2 << 30)),
            ("3t", Some(3 << 40)),
            ("1x", None),
            ("1.", None),
            (".5g", None),
            ("", None),
        ] {
            assert_eq!(size("--shm-size", text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("24h", Some(86_400)),
            ("1h30m", Some(5400)),
            ("7d", Some(604_800)),
            ("0", Some(0)),
            ("-1h", None),
            ("1", None),
            ("d", None),
        ] {
            let found = age("--filter", text).ok().map(|age| age.as_secs());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn pairs() {
        assert_eq!(
            pair("--label", "a=b=c").unwrap(),
            ("a".into(), "b=c".into())
        );
        assert!(pair("--label", "a").is_err());
        let env = |name: &str| Ok((name == "SET").then(|| "value".to_owned()));
        let found = |text| inherited_pair("--build-arg", text, env).unwrap();
        assert_eq!(found("SET"), Some(("SET".into(), "value".into())));
        assert_eq!(found("UNSET"), None);
        assert_eq!(found("SET="), Some(("SET".into(), String::new())));
        assert!(inherited_pair("--build-arg", "=x", env).is_err());
    }
}
