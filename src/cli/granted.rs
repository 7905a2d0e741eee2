//! What the user gives to steps: `--secret`, `--ssh`, `--allow`.
//!
//! Files and variables are read here, before a sandbox is entered, with the rights and in the
//! directory of the caller. No message repeats what they hold.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::exit::UsageError;
use crate::build::{Agent, Agents, Allow, Secret, Secrets};
use crate::dockerfile::csv_fields;

/// A secret is no larger than this.
const MAX_SECRET: u64 = 500 * 1024;

/// Looks a variable up.
type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// All of `--secret`; of equal ids the last counts.
///
/// # Errors
/// A flag that cannot be understood, a file or variable that cannot be read.
pub(super) fn secrets(texts: &[String], variables: Variables<'_>) -> Result<Secrets, UsageError> {
    texts.iter().map(|text| secret(text, variables)).collect()
}

/// `id=NAME[,src=FILE][,env=VARIABLE][,type=file|env]`, or `NAME` alone. Without a source it is
/// the variable of that name if there is one, else the file.
fn secret(text: &str, variables: Variables<'_>) -> Result<(String, Secret), UsageError> {
    let wrong = |why: &str| UsageError(format!("--secret {text:?}: {why}"));
    let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
    let fields = csv_fields(text).ok_or_else(|| wrong("a quote is misplaced or not closed"))?;
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some(pair) => pair,
            None if fields.len() == 1 => ("id", field.as_str()),
            None => return Err(wrong("expected id=NAME[,src=FILE|,env=VARIABLE]")),
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => env = Some(value),
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            "type" => return Err(wrong("type is file or env")),
            other => return Err(wrong(&format!("unknown key {other:?}"))),
        }
    }
    let id = id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| wrong("a secret needs an id: id=NAME"))?;
    let given = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
    let (mut file, mut env) = (given(file), given(env));
    // With type=env the source is a variable's name.
    if kind == Some("env") && env.is_none() {
        env = Some(file.take().unwrap_or_else(|| id.to_owned()));
    }
    if file.is_none() && env.is_none() {
        match variables(id) {
            Some(_) if kind != Some("file") => env = Some(id.to_owned()),
            _ => file = Some(id.to_owned()),
        }
    }
    let bytes = match (env, file) {
        (Some(name), _) => match variables(&name) {
            Some(value) => value.into_vec(),
            None => return Err(wrong(&format!("the variable {name} is not set"))),
        },
        (None, file) => {
            let path = PathBuf::from(file.unwrap_or_default());
            read(&path).map_err(|why| wrong(&format!("{}: {why}", path.display())))?
        }
    };
    if bytes.len() as u64 > MAX_SECRET {
        return Err(wrong("it is larger than 500 KiB"));
    }
    Ok((id.to_owned(), Secret::new(bytes)))
}

/// Reads a file, which may be a pipe, up to one byte more than a secret may have.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All of `--ssh`; of equal ids the last counts.
///
/// # Errors
/// A flag that cannot be understood, an agent that is not there, a key in place of an agent.
pub(super) fn agents(texts: &[String], variables: Variables<'_>) -> Result<Agents, UsageError> {
    texts.iter().map(|text| agent(text, variables)).collect()
}

/// `ID[=SOCKET][,raw=true]`; without a socket it is that of `SSH_AUTH_SOCK`.
fn agent(text: &str, variables: Variables<'_>) -> Result<(String, Agent), UsageError> {
    let wrong = |why: &str| UsageError(format!("--ssh {text:?}: {why}"));
    let fields = csv_fields(text).ok_or_else(|| wrong("a quote is misplaced or not closed"))?;
    let first = fields.first().map_or("", String::as_str);
    let (id, path) = first.split_once('=').unwrap_or((first, ""));
    if id.is_empty() {
        return Err(wrong("expected default, or ID=SOCKET"));
    }
    let mut raw = false;
    let mut paths: Vec<&str> = vec![path];
    for field in fields.iter().skip(1) {
        match field.as_str() {
            "raw=true" => raw = true,
            "raw=false" => raw = false,
            path => paths.push(path),
        }
    }
    paths.retain(|path| !path.is_empty());
    let socket = match paths.as_slice() {
        [path] => PathBuf::from(path),
        [] if raw => return Err(wrong("raw=true needs a socket: ID=SOCKET,raw=true")),
        [] => match variables("SSH_AUTH_SOCK").filter(|path| !path.is_empty()) {
            Some(path) => path.into(),
            None => {
                return Err(wrong(
                    "SSH_AUTH_SOCK is not set: start an agent (eval $(ssh-agent); ssh-add), or name its socket",
                ));
            }
        },
        _ => {
            return Err(wrong(
                "name one socket; several keys go into one agent, with ssh-add",
            ));
        }
    };
    check_socket(&socket).map_err(|why| wrong(&format!("{}: {why}", socket.display())))?;
    // Steps run elsewhere in the tree; the socket is opened when one asks for it.
    let socket = std::path::absolute(&socket).map_err(|error| wrong(&error.to_string()))?;
    Ok((id.to_owned(), Agent { socket, raw }))
}

fn check_socket(path: &Path) -> Result<(), String> {
    let kind = std::fs::metadata(path)
        .map_err(|e| e.to_string())?
        .file_type();
    if kind.is_socket() {
        return Ok(());
    }
    if kind.is_file() {
        return Err(format!(
            "it is a file, and keys are used through an agent: eval $(ssh-agent); ssh-add {}; then --ssh default",
            path.display()
        ));
    }
    Err("it is no socket".to_owned())
}

/// All of `--allow`.
///
/// # Errors
/// A right that is unknown or cannot be given.
pub(super) fn allowed(texts: &[String]) -> Result<Allow, UsageError> {
    let mut allow = Allow::default();
    for text in texts.iter().flat_map(|text| text.split(',')) {
        match text {
            "network.host" => allow.host_network = true,
            "security.insecure" => allow.insecure = true,
            _ => {
                return Err(UsageError(format!(
                    "--allow {text:?} is not supported: only network.host and security.insecure are"
                )));
            }
        }
    }
    Ok(allow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn environment(name: &str) -> Option<OsString> {
        match name {
            "TOKEN" => Some("from the environment".into()),
            "BIG" => Some("x".repeat(MAX_SECRET as usize + 1).into()),
            _ => None,
        }
    }

    #[test]
    fn s9_where_secrets_come_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("file"), "from a file").unwrap();
        std::fs::write(path("a,b"), "a comma").unwrap();
        std::fs::write(path("big"), vec![0; MAX_SECRET as usize + 1]).unwrap();
        std::fs::write(path("limit"), vec![b'x'; MAX_SECRET as usize]).unwrap();
        let file = path("file");
        let read = |text: &str| secret(text, &environment);
        for (text, id, value) in [
            (format!("id=a,src={file}"), "a", "from a file"),
            (format!("source={file},ID=a"), "a", "from a file"),
            (
                format!("id=TOKEN,type=file,src={file}"),
                "TOKEN",
                "from a file",
            ),
            (format!("\"src={}\",id=a", path("a,b")), "a", "a comma"),
            ("id=a,env=TOKEN".into(), "a", "from the environment"),
            (
                "id=a,type=env,src=TOKEN".into(),
                "a",
                "from the environment",
            ),
            ("type=env,id=TOKEN".into(), "TOKEN", "from the environment"),
            ("id=TOKEN".into(), "TOKEN", "from the environment"),
            ("TOKEN".into(), "TOKEN", "from the environment"),
            (format!("id={file}"), &file, "from a file"),
            (file.clone(), &file, "from a file"),
        ] {
            let expected = (id.to_owned(), Secret::new(value.into()));
            assert_eq!(read(&text).unwrap(), expected, "{text}");
        }
        assert!(read(&format!("id=a,src={}", path("limit"))).is_ok());
        for (text, why) in [
            ("src=x".into(), "needs an id"),
            ("id=".into(), "needs an id"),
            ("id=a,b".into(), "expected id=NAME"),
            ("id=a,mode=1".into(), "unknown key \"mode\""),
            ("id=a,type=vault".into(), "file or env"),
            ("\"id=a".into(), "quote"),
            ("id=a,env=NONE".into(), "NONE is not set"),
            ("id=/none".into(), "No such file"),
            ("id=TOKEN,type=file".into(), "No such file"),
            ("id=BIG".into(), "500 KiB"),
            (format!("id=a,src={}", path("big")), "500 KiB"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let all = secrets(
            &["TOKEN".into(), format!("id=TOKEN,src={file}")],
            &environment,
        );
        assert_eq!(
            format!("{:?}", all.unwrap()),
            "{\"TOKEN\": Secret(11 bytes)}"
        );
    }

    #[test]
    fn s9_which_agent() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        std::fs::write(dir.path().join("id_ed25519"), "").unwrap();
        let (there, key) = (socket.display(), dir.path().join("id_ed25519"));
        let with = |name: &str| (name == "SSH_AUTH_SOCK").then(|| socket.clone().into_os_string());
        let without = |_: &str| None;
        for (text, id, raw) in [
            ("default".into(), "default", false),
            (format!("default={there}"), "default", false),
            (format!("deploy={there},raw=true"), "deploy", true),
            (format!("deploy={there},raw=false"), "deploy", false),
        ] {
            let expected = Agent {
                socket: socket.clone(),
                raw,
            };
            assert_eq!(
                agent(&text, &with).unwrap(),
                (id.to_owned(), expected),
                "{text}"
            );
        }
        for (text, why) in [
            ("default".to_owned(), "SSH_AUTH_SOCK is not set"),
            (String::new(), "expected default"),
            (format!("={there}"), "expected default"),
            (format!("a={},{there}", key.display()), "ssh-add"),
            (format!("a={}", key.display()), "ssh-add"),
            (format!("a={}", dir.path().display()), "no socket"),
            ("a=/none".into(), "No such file"),
            ("a,raw=true".into(), "needs a socket"),
        ] {
            let error = agent(&text, &without).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn rights_are_known_by_name() {
        let both = ["network.host,security.insecure".to_owned()];
        let both = allowed(&both).unwrap();
        assert!(both.host_network && both.insecure);
        let error = allowed(&["device=all".into()]).unwrap_err().to_string();
        assert!(error.contains("device=all"), "{error}");
    }
}
