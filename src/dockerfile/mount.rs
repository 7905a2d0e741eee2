//! `RUN --mount=…` (S9).

use super::diagnostic::{Diagnostic, DiagnosticKind};
use super::span::{Span, Spanned};

/// One `--mount` as written: its values may hold variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// Keys in lower case and their values, in order.
    pub fields: Vec<(String, Option<String>)>,
    /// Where the flag stands.
    pub span: Span,
}

/// A mount with its values read. Defaults that depend on the stage are not filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `type`.
    pub kind: MountKind,
    /// `from`: a stage or an image.
    pub from: Option<String>,
    /// `source`, as written.
    pub source: Option<String>,
    /// `target`, as written.
    pub target: Option<String>,
    /// `ro`, or what is usual for the type.
    pub readonly: bool,
    /// `id`.
    pub id: Option<String>,
    /// `sharing`.
    pub sharing: Sharing,
    /// `required`.
    pub required: bool,
    /// `size` in bytes.
    pub size: Option<u64>,
    /// `mode`, permission bits.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `env`: the variable a secret goes to.
    pub env: Option<String>,
    /// Where the flag stands.
    pub span: Span,
}

/// The type of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret as a file.
    Secret,
    /// The agent's socket.
    Ssh,
}

/// How builds share a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Another directory for who comes second.
    Private,
    /// One after the other.
    Locked,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "ro",
    "readonly",
    "rw",
    "readwrite",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

type ReadValue<'a> = &'a dyn Fn(&str) -> Result<String, Diagnostic>;

impl MountFlag {
    /// Reads the fields of a flag's value and checks everything that holds no variable.
    pub(super) fn read(flag: &Spanned<String>) -> Result<Self, Diagnostic> {
        let span = flag.span;
        let mut fields = Vec::new();
        for field in csv_fields(&flag.value)
            .ok_or_else(|| error(span, "a quote in this mount is misplaced or not closed"))?
        {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            let key = key.trim().to_ascii_lowercase();
            if !KEYS.contains(&key.as_str()) {
                return Err(error(span, format!("unknown mount option {key:?}"))
                    .nearest(&key, KEYS)
                    .hint(format!("known options: {}", KEYS.join(", "))));
            }
            fields.push((key, value));
        }
        let mount = Self { fields, span };
        mount.resolve_with(None)?;
        Ok(mount)
    }

    /// The mount, every value but `from` passed through `expand`.
    pub fn resolve(&self, expand: ReadValue<'_>) -> Result<Mount, Diagnostic> {
        self.resolve_with(Some(expand))
    }

    /// What `from` names, if anything; it is never expanded.
    pub fn from(&self) -> Option<&str> {
        let (_, value) = self.fields.iter().rfind(|(key, _)| key == "from")?;
        value.as_deref()
    }

    /// Without `expand`, values that hold variables are passed over.
    fn resolve_with(&self, expand: Option<ReadValue<'_>>) -> Result<Mount, Diagnostic> {
        let mut fields = Vec::with_capacity(self.fields.len());
        let mut complete = true;
        for (key, value) in &self.fields {
            let value = match (value, expand) {
                (None, _) => None,
                (Some(value), _) if key == "from" => {
                    if value.contains('$') {
                        return Err(self.error("variables are not allowed in a mount's from")
                            .hint("give the image to a stage of its own (FROM $IMAGE AS name) and name that stage"));
                    }
                    Some(value.clone())
                }
                (Some(value), Some(expand)) => Some(expand(value)?),
                (Some(value), None) if value.contains('$') => {
                    complete = false;
                    continue;
                }
                (Some(value), None) => Some(value.clone()),
            };
            fields.push((key.as_str(), value));
        }
        self.build(&fields, complete)
    }

    fn build(
        &self,
        fields: &[(&str, Option<String>)],
        complete: bool,
    ) -> Result<Mount, Diagnostic> {
        let kind = self.kind(fields)?;
        let mut mount = Mount {
            kind,
            from: None,
            source: None,
            target: None,
            readonly: !matches!(kind, MountKind::Cache | MountKind::Tmpfs),
            id: None,
            sharing: Sharing::default(),
            required: false,
            size: None,
            mode: None,
            uid: None,
            gid: None,
            env: None,
            span: self.span,
        };
        for (key, value) in fields {
            self.check_kind(kind, key, complete)?;
            self.set(&mut mount, key, value.as_deref())?;
        }
        if complete {
            self.check_target(&mount)?;
        }
        Ok(mount)
    }

    fn kind(&self, fields: &[(&str, Option<String>)]) -> Result<MountKind, Diagnostic> {
        const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
        let name = fields.iter().rfind(|(key, _)| *key == "type");
        let name = name.map_or("bind", |(_, value)| value.as_deref().unwrap_or_default());
        Ok(match name.to_ascii_lowercase().as_str() {
            "bind" => MountKind::Bind,
            "cache" => MountKind::Cache,
            "tmpfs" => MountKind::Tmpfs,
            "secret" => MountKind::Secret,
            "ssh" => MountKind::Ssh,
            _ => {
                return Err(self
                    .error(format!("unknown mount type {name:?}"))
                    .nearest(name, KINDS)
                    .hint(format!("known types: {}", KINDS.join(", "))));
            }
        })
    }

    /// Which options a type may have. Without a known type (`complete` is false) nothing is said.
    fn check_kind(&self, kind: MountKind, key: &str, complete: bool) -> Result<(), Diagnostic> {
        use MountKind::{Bind, Cache, Secret, Ssh, Tmpfs};
        let allowed: &[MountKind] = match key {
            "mode" | "uid" | "gid" => &[Cache, Secret, Ssh],
            "size" => &[Tmpfs],
            "sharing" => &[Cache],
            "required" => &[Secret, Ssh],
            "env" => &[Secret],
            "from" => &[Bind, Cache],
            _ => return Ok(()),
        };
        if !complete || allowed.contains(&kind) {
            return Ok(());
        }
        let kind = format!("{kind:?}").to_ascii_lowercase();
        Err(self.error(format!("mount option {key} is not allowed for type {kind}")))
    }

    fn set(&self, mount: &mut Mount, key: &str, value: Option<&str>) -> Result<(), Diagnostic> {
        match key {
            "ro" | "readonly" => mount.readonly = self.switch(key, value)?,
            "rw" | "readwrite" => mount.readonly = !self.switch(key, value)?,
            "required" => mount.required = self.switch(key, value)?,
            _ => {
                let value = value.ok_or_else(|| {
                    self.error(format!("mount option {key} needs a value: {key}=…"))
                })?;
                self.set_value(mount, key, value)?;
            }
        }
        Ok(())
    }

    fn set_value(&self, mount: &mut Mount, key: &str, value: &str) -> Result<(), Diagnostic> {
        let text = || Some(value.to_owned());
        match key {
            "from" => mount.from = text(),
            "source" | "src" => mount.source = text(),
            "target" | "dst" | "destination" => mount.target = text(),
            "id" => mount.id = text(),
            "env" => mount.env = text(),
            "uid" => mount.uid = Some(self.number(key, value, 10)?),
            "gid" => mount.gid = Some(self.number(key, value, 10)?),
            "mode" => mount.mode = Some(self.mode(value)?),
            "size" => mount.size = Some(self.size(value)?),
            "sharing" => {
                mount.sharing = match value.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => {
                        const KNOWN: [&str; 3] = ["shared", "private", "locked"];
                        let message =
                            format!("sharing must be shared, private or locked, not {value:?}");
                        return Err(self.error(message).nearest(value, KNOWN));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn switch(&self, key: &str, value: Option<&str>) -> Result<bool, Diagnostic> {
        match value.map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "1" | "t") => Ok(true),
            Some("false" | "0" | "f") => Ok(false),
            Some(other) => Err(self.error(format!(
                "mount option {key} is a switch: expected true or false, found {other:?}"
            ))),
        }
    }

    fn number(&self, key: &str, value: &str, radix: u32) -> Result<u32, Diagnostic> {
        let kind = if radix == 8 {
            "an octal number"
        } else {
            "a number"
        };
        u32::from_str_radix(value, radix)
            .map_err(|_| self.error(format!("mount option {key} must be {kind}, not {value:?}")))
    }

    fn mode(&self, value: &str) -> Result<u32, Diagnostic> {
        let mode = self.number("mode", value, 8)?;
        if mode > 0o7777 {
            let message = format!("mount option mode must be at most 7777, not {value:?}");
            return Err(self.error(message));
        }
        Ok(mode)
    }

    fn size(&self, value: &str) -> Result<u64, Diagnostic> {
        let size = parse_size(value).ok_or_else(|| {
            self.error(format!(
                "mount option size must be a number of bytes, not {value:?}"
            ))
            .hint("k, m, g and t may follow the number")
        })?;
        if i64::try_from(size).is_err() {
            let message = format!("mount option size must be below 8 exbibytes, not {value:?}");
            return Err(self.error(message));
        }
        Ok(size)
    }

    fn check_target(&self, mount: &Mount) -> Result<(), Diagnostic> {
        let optional = matches!(mount.kind, MountKind::Secret | MountKind::Ssh);
        match mount.target.as_deref() {
            None | Some("") if !optional => Err(self
                .error("this mount needs a target")
                .hint("add target=PATH")),
            Some(target) if !target.is_empty() && target.trim_matches('/').is_empty() => {
                Err(self.error("the target of a mount must not be /"))
            }
            None if mount.kind == MountKind::Secret
                && mount.id.is_none()
                && mount.source.is_none() =>
            {
                Err(self.error("a secret needs an id").hint("add id=NAME"))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, message: impl Into<String>) -> Diagnostic {
        error(self.span, message)
    }
}

fn error(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(DiagnosticKind::Flag, span, message)
}

/// Bytes: a number, perhaps with a fraction, and perhaps one of k, m, g, t (1024 each), b.
fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let lower = lower.strip_suffix('i').unwrap_or(lower);
    let (number, shift) = match lower.chars().last()? {
        'k' => (&lower[..lower.len() - 1], 10),
        'm' => (&lower[..lower.len() - 1], 20),
        'g' => (&lower[..lower.len() - 1], 30),
        't' => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number = number.trim();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a size with a fraction is approximate, not negative, and saturates"
    )]
    Some((number * (1_u64 << shift) as f64) as u64)
}

/// The fields of one line of comma-separated values; `None` if a quote is misplaced.
pub fn csv_fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut letters = text.chars().peekable();
    let mut fresh = true;
    while let Some(letter) = letters.next() {
        let field = fields.last_mut()?;
        match letter {
            '"' if fresh => {
                read_quoted(&mut letters, field)?;
                if !matches!(letters.peek(), None | Some(',')) {
                    return None;
                }
                fresh = false;
            }
            '"' => return None,
            ',' => {
                fields.push(String::new());
                fresh = true;
            }
            _ => {
                field.push(letter);
                fresh = false;
            }
        }
    }
    Some(fields)
}

fn read_quoted(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    field: &mut String,
) -> Option<()> {
    loop {
        match letters.next()? {
            '"' if letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' => return Some(()),
            other => field.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, Diagnostic> {
        let flag = MountFlag::read(&Spanned::new(text.to_owned(), Span::default()))?;
        flag.resolve(&|value| Ok(value.replace("$X", "x")))
    }

    #[test]
    fn s9_mount_values() {
        let mount = read("type=cache,target=/c/$X,id=a,sharing=locked,mode=0700,uid=1").unwrap();
        assert_eq!(mount.kind, MountKind::Cache);
        assert_eq!(mount.target.as_deref(), Some("/c/x"));
        assert_eq!((mount.mode, mount.uid), (Some(0o700), Some(1)));
        assert_eq!(mount.sharing, Sharing::Locked);
        assert!(!mount.readonly);
        assert!(read("target=/a").unwrap().readonly);
        assert!(!read("target=/a,rw").unwrap().readonly);
        assert!(read("target=/a,rw=false").unwrap().readonly);
        assert_eq!(
            read("type=tmpfs,dst=/t,size=2m").unwrap().size,
            Some(2 << 20)
        );
        assert_eq!(
            read("\"target=/a,b\"").unwrap().target.as_deref(),
            Some("/a,b")
        );
        assert!(read("type=secret,id=s").unwrap().target.is_none());
        assert!(read("type=ssh").is_ok());
    }

    #[test]
    fn s9_wrong_mounts() {
        for (text, expected) in [
            ("type=bnd,target=/a", "did you mean bind?"),
            ("target=/", "must not be /"),
            ("type=cache", "needs a target"),
            ("target=/a,form=x", "did you mean from?"),
            ("target=/a,from=$X", "not allowed in a mount's from"),
            ("target=/a,size=1", "not allowed for type bind"),
            (
                "type=tmpfs,target=/a,sharing=locked",
                "not allowed for type tmpfs",
            ),
            ("type=cache,target=/a,mode=9", "octal"),
            ("type=cache,target=/a,mode=77777", "at most 7777"),
            ("type=tmpfs,target=/a,size=99999999999.5t", "exbibytes"),
            (
                "type=cache,target=/a,sharing=x",
                "shared, private or locked",
            ),
            ("target", "needs a value"),
            ("\"target=/a", "quote"),
            ("type=secret", "needs an id"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
