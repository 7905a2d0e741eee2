//! [`GitUrl`]: the URL of a git repository and what is wanted of it (S7).
//!
//! Two forms say what is wanted: `URL#REF:DIR`, and `URL?ref=…&subdir=…`. What git is given later,
//! [`GitUrl::remote`], has neither of them and no credentials, never begins with `-`, and is of a
//! transport that cannot execute anything.

use std::fmt;

/// A git repository and what is wanted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitUrl {
    /// The URL as git is given it: `https://host/x.git`, `ssh://git@host/x`, `git@host:x`.
    pub remote: String,
    /// What was written before the `@` of an `http` or `https` URL.
    pub login: Option<Login>,
    /// Branch, tag, full name of a reference, or commit; without it the remote's own choice.
    pub reference: Option<String>,
    /// The directory that is wanted; without it all of the repository.
    pub subdir: Option<String>,
    /// The first digits of the commit that it has to be, lower case.
    pub checksum: Option<String>,
    /// Whether submodules are wanted, if that was said.
    pub submodules: Option<bool>,
    /// Whether `.git` is wanted, if that was said.
    pub keep_git_dir: Option<bool>,
}

/// A user and a password that stood in a URL. Not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password, perhaps empty.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The text names a git repository, but not one that can be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{url}: {reason}")]
pub struct GitUrlError {
    url: String,
    reason: String,
}

/// Fewer digits of a commit than these say too little.
const MIN_DIGITS: usize = 7;
const MAX_DIGITS: usize = 64;

impl GitUrl {
    /// Whether `text` names a git repository for `ADD`: `git@host:path`, `ssh://`, `git://`, or an
    /// `http` or `https` URL whose path ends in `.git`.
    pub fn matches(text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        let is_web = lower.starts_with("http://") || lower.starts_with("https://");
        let path = text.split(['#', '?']).next().unwrap_or(text);
        (is_web && path.ends_with(".git"))
            || (lower.starts_with("git@") && text.contains(':'))
            || lower.starts_with("ssh://")
            || lower.starts_with("git://")
    }

    /// The repository that the build context `text` names; that may also be `github.com/…`.
    ///
    /// # Errors
    /// As [`GitUrl::parse`]. `None` for what is no repository.
    pub fn context(text: &str) -> Option<Result<Self, GitUrlError>> {
        if Self::matches(text) {
            return Some(Self::parse(text));
        }
        text.starts_with("github.com/")
            .then(|| Self::parse(&format!("https://{text}")))
    }

    /// Parses `text`, for which [`GitUrl::matches`].
    ///
    /// # Errors
    /// A part that contradicts another, a query that is not known, and what git could take for
    /// an option or a command.
    pub fn parse(text: &str) -> Result<Self, GitUrlError> {
        Self::parts(text).map_err(|reason| GitUrlError {
            url: super::masked(text),
            reason,
        })
    }

    fn parts(text: &str) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err("there is a control character in it".into());
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = match address.split_once("://") {
            Some((scheme, rest)) => Self::with_scheme(&scheme.to_ascii_lowercase(), rest)?,
            None => Self::like_scp(address)?,
        };
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        set(&mut url.reference, "ref", reference)?;
        set(&mut url.subdir, "subdir", subdir)?;
        url.read_query(query)?;
        if let Some(reference) = &url.reference {
            check_reference(reference)?;
        }
        if url.reference.is_none() {
            url.reference = url.checksum.clone();
        }
        Ok(url)
    }

    fn with_scheme(scheme: &str, rest: &str) -> Result<Self, String> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user_info, host) = match authority.rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, authority),
        };
        if !["http", "https", "ssh", "git"].contains(&scheme) {
            return Err(format!("{scheme}:// is no transport for git here"));
        }
        check_host(host)?;
        let mut url = Self::default();
        let mut user = String::new();
        match (scheme, user_info) {
            ("http" | "https", Some(user_info)) => url.login = Some(Login::parse(user_info)?),
            ("ssh", Some(name)) if name.contains(':') => {
                return Err("a password is of no use with ssh".into());
            }
            ("ssh", Some(name)) => {
                check_word("user", name)?;
                user = format!("{name}@");
            }
            (_, Some(_)) => return Err("git:// knows no users".into()),
            (_, None) => {}
        }
        if path.is_empty() {
            return Err("it names a host, but no repository".into());
        }
        url.remote = format!("{scheme}://{user}{host}/{path}");
        Ok(url)
    }

    /// `git@host:path`.
    fn like_scp(address: &str) -> Result<Self, String> {
        let parts = address.split_once('@').and_then(|(user, rest)| {
            let (host, path) = rest.split_once(':')?;
            Some((user, host, path))
        });
        let Some((user, host, path)) = parts else {
            return Err("expected git@HOST:PATH".into());
        };
        check_word("user", user)?;
        check_host(host)?;
        check_word("path", path)?;
        Ok(Self {
            remote: address.to_owned(),
            ..Self::default()
        })
    }

    fn read_query(&mut self, query: &str) -> Result<(), String> {
        let (mut tag, mut branch) = (None, None);
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value)?;
            if seen.contains(&name) {
                return Err(format!("the query {name:?} is given twice"));
            }
            seen.push(name);
            match name {
                "submodules" => self.submodules = Some(boolean(name, &value)?),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(name, &value)?),
                _ if value.is_empty() => return Err(format!("the query {name:?} has no value")),
                "ref" => set(&mut self.reference, "ref", &value)?,
                "subdir" => set(&mut self.subdir, "subdir", &value)?,
                "tag" => tag = Some(in_full("refs/tags/", &value)),
                "branch" => branch = Some(in_full("refs/heads/", &value)),
                "checksum" | "commit" => self.require(&value)?,
                _ => return Err(format!("the query {name:?} is not known")),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err("it asks for a tag and for a branch".into());
        }
        if let Some(name) = tag.or(branch) {
            set(&mut self.reference, "ref", &name)?;
        }
        Ok(())
    }

    /// Demands that the commit begins with `digits`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn require(&mut self, digits: &str) -> Result<(), String> {
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) {
            return Err(format!(
                "the checksum {digits:?} is no commit: expected at least {MIN_DIGITS} of its \
                 hexadecimal digits"
            ));
        }
        set(&mut self.checksum, "checksum", &digits.to_ascii_lowercase())
    }

    /// The host, with its port if one is given.
    pub fn host(&self) -> &str {
        let rest = match self.remote.split_once("://") {
            Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
            None => self.remote.split(':').next().unwrap_or_default(),
        };
        rest.rsplit_once('@').map_or(rest, |(_, host)| host)
    }

    /// Whether it is asked over http or https.
    pub fn is_web(&self) -> bool {
        self.remote.starts_with("http")
    }
}

impl Login {
    /// `user[:password]`, percent-decoded.
    fn parse(user_info: &str) -> Result<Self, String> {
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let login = Self {
            user: percent_decoded(user)?,
            password: percent_decoded(password)?,
        };
        if [&login.user, &login.password]
            .iter()
            .any(|text| text.chars().any(char::is_control))
        {
            return Err("there is a control character in its user or password".into());
        }
        Ok(login)
    }
}

/// Sets what must not be said differently twice; saying nothing is no contradiction.
fn set(slot: &mut Option<String>, what: &str, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    match slot {
        Some(other) if other != value => {
            Err(format!("its {what} is {other:?} and {value:?} at once"))
        }
        _ => {
            *slot = Some(value.to_owned());
            Ok(())
        }
    }
}

fn in_full(prefix: &str, name: &str) -> String {
    match name.starts_with(prefix) {
        true => name.to_owned(),
        false => format!("{prefix}{name}"),
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "the query {name:?} is true or false, not {value:?}"
        )),
    }
}

/// What git itself allows in the name of a reference; above all nothing that is an option.
fn check_reference(name: &str) -> Result<(), String> {
    let odd = |c: char| c.is_control() || " ~^:?*[\\\"'".contains(c);
    let wrong = name.starts_with(['-', '/'])
        || name.ends_with(['/', '.'])
        || name.contains("..")
        || name.contains("@{")
        || name.contains("//")
        || name == "@"
        || name.contains(odd);
    match wrong {
        true => Err(format!(
            "{name:?} is no name of a branch, a tag or a commit"
        )),
        false => Ok(()),
    }
}

/// A host that an option or a command could be hidden in is none.
fn check_host(host: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
        return Err(format!("{host:?} is no host"));
    }
    Ok(())
}

fn check_word(what: &str, word: &str) -> Result<(), String> {
    match word.is_empty() || word.starts_with('-') {
        true => Err(format!("{word:?} is no {what}")),
        false => Ok(()),
    }
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.ok_or("there is a lone % in it")?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "it does not stand for UTF-8 text".into())
}

#[cfg(test)]
mod tests;
