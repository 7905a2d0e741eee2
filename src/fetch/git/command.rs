//! [`Git`]: one remote, and how git is called for it.
//!
//! git gets an environment of its own: the search path, the proxies, the ssh agent of the user if
//! the build has it, and nothing else. Neither the system's nor the user's configuration is read,
//! no hook runs, nothing is asked on a terminal, and only http, https, ssh and git are spoken.
//! Credentials go through the environment of a helper that git asks for one host only, so that
//! they are in no argument and follow no redirect.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::words;
use crate::fetch::{FetchErrorKind, Fetcher};
use crate::http::{Retry, is_loopback};
use crate::plan::GitUrl;

/// How much is read of what git says in an error.
const ERROR_LIMIT: u64 = 64 << 10;
/// How much is read of an answer: names of references, a list of submodules.
const ANSWER_LIMIT: u64 = 64 << 20;
const POLL: Duration = Duration::from_millis(2);
/// Attempts of what talks to a remote.
const ATTEMPTS: u32 = 3;

/// What git finds in its environment from ours.
const PASSED: [&str; 2] = ["PATH", "TMPDIR"];
/// The same for what speaks TLS: git's name, and what our own client goes by.
const ROOTS: [(&str, &str); 2] = [
    ("GIT_SSL_CAINFO", "SSL_CERT_FILE"),
    ("GIT_SSL_CAPATH", "SSL_CERT_DIR"),
];
/// git knows these in lower case only, our own client in both.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

const CONFIG: [&str; 19] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.symlinks=true",
    "core.fileMode=true",
    "core.logAllRefUpdates=false",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.version=2",
    "safe.directory=*",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.unpackLimit=1",
    "advice.detachedHead=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
];

/// One remote and what is wanted of it.
pub(super) struct Git<'a> {
    pub(super) fetcher: &'a Fetcher<'a>,
    pub(super) url: &'a GitUrl,
    /// Whether secrets that are not bound to a host are meant for this one.
    is_main: bool,
}

/// Where a command works.
#[derive(Clone, Copy, Default)]
pub(super) struct Place<'p> {
    /// `GIT_DIR`.
    pub(super) dir: Option<&'p Path>,
    /// `GIT_WORK_TREE`, the working directory too.
    pub(super) tree: Option<&'p Path>,
    /// `GIT_INDEX_FILE`.
    pub(super) index: Option<&'p Path>,
    /// Whether another repository on this machine, one of ours, may be read as a remote.
    pub(super) local: bool,
}

/// How a command ended.
struct Ended {
    success: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl<'a> Git<'a> {
    pub(super) fn new(fetcher: &'a Fetcher<'a>, url: &'a GitUrl, is_main: bool) -> Self {
        Self {
            fetcher,
            url,
            is_main,
        }
    }

    /// The same for a submodule's remote.
    pub(super) fn with<'b>(&'b self, url: &'b GitUrl) -> Git<'b> {
        let same = url.host() == self.url.host();
        Git::new(self.fetcher, url, self.is_main && same)
    }

    /// Runs git and gives what it wrote.
    pub(super) fn run(&self, place: Place<'_>, args: &[&str]) -> Result<Vec<u8>, FetchErrorKind> {
        let ended = self.ended(place, args)?;
        match ended.success {
            true => Ok(ended.out),
            false => Err(failed(args, &ended.err)),
        }
    }

    /// Whether git succeeds.
    pub(super) fn test(&self, place: Place<'_>, args: &[&str]) -> Result<bool, FetchErrorKind> {
        Ok(self.ended(place, args)?.success)
    }

    /// As [`Git::run`], for what talks to the remote: passing trouble is waited for.
    pub(super) fn ask(&self, place: Place<'_>, args: &[&str]) -> Result<Vec<u8>, FetchErrorKind> {
        let mut retry = Retry::new(ATTEMPTS, self.fetcher.network.settings.pause);
        loop {
            let error = match self.run(place, args) {
                Ok(out) => return Ok(out),
                Err(error) => error,
            };
            let pause = retry.after(error)?;
            let seconds = pause.length.as_secs_f64();
            let (host, cause) = (self.url.host(), pause.cause);
            (self.fetcher.note)(&format!("{host}: {cause}; retrying in {seconds:.1} s"));
            self.sleep(pause.length)?;
        }
    }

    fn sleep(&self, length: Duration) -> Result<(), FetchErrorKind> {
        let end = std::time::Instant::now() + length;
        while std::time::Instant::now() < end {
            self.check()?;
            std::thread::sleep(Duration::from_millis(20).min(length));
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), FetchErrorKind> {
        match self.fetcher.stop.is_stopped() {
            true => Err(FetchErrorKind::Stopped),
            false => Ok(()),
        }
    }

    fn ended(&self, place: Place<'_>, args: &[&str]) -> Result<Ended, FetchErrorKind> {
        self.check()?;
        let mut command = Command::new("git");
        command.env_clear();
        self.configure(&mut command, place)?;
        command.args(args);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A signal from the terminal is ours to pass on.
        command.process_group(0);
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FetchErrorKind::NoGit,
            _ => FetchErrorKind::local("run git")(error),
        })?;
        let ended = self.wait(child)?;
        self.check()?;
        Ok(ended)
    }

    fn wait(&self, mut child: Child) -> Result<Ended, FetchErrorKind> {
        let local = || FetchErrorKind::local("read what git says");
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let child = Arc::new(Mutex::new(child));
        let victim = Arc::clone(&child);
        let guard = self.fetcher.stop.on_stop(Box::new(move || kill(&victim)));
        let (out, err) = std::thread::scope(|scope| {
            let err = std::thread::Builder::new()
                .spawn_scoped(scope, || read(err, ERROR_LIMIT))
                .map_err(FetchErrorKind::local(
                    "start a thread to read what git says",
                ))?;
            let out = read(out, ANSWER_LIMIT);
            // The thread only reads; it cannot panic.
            Ok::<_, FetchErrorKind>((out, err.join().unwrap_or_else(|_| Ok(Vec::new()))))
        })?;
        let status = loop {
            // Held for a moment only: whoever ends the build must get at the child.
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = child.try_wait().map_err(local())? {
                break status;
            }
            drop(child);
            std::thread::sleep(POLL);
        };
        drop(guard);
        Ok(Ended {
            success: status.success(),
            out: out.map_err(local())?,
            err: err.map_err(local())?,
        })
    }

    fn configure(&self, command: &mut Command, place: Place<'_>) -> Result<(), FetchErrorKind> {
        let pass = |command: &mut Command, name: &str, other: &str| {
            let value = [name, other].iter().find_map(std::env::var_os);
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                command.env(name, value);
            }
        };
        PASSED.iter().for_each(|name| pass(command, name, name));
        for (name, other) in ROOTS {
            pass(command, name, other);
        }
        // What is on this machine is never asked through a proxy.
        let proxies = PROXIES.iter().filter(|_| !is_loopback(self.url.host()));
        proxies.for_each(|name| pass(command, name, &name.to_ascii_uppercase()));
        let home = self.fetcher.store.repositories()?;
        command.env("HOME", &home).env("XDG_CONFIG_HOME", &home);
        command.env("GIT_CEILING_DIRECTORIES", &home);
        command.current_dir(place.tree.unwrap_or(&home));
        for (name, value) in [
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_PROTOCOL_FROM_USER", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
        ] {
            command.env(name, value);
        }
        let allowed = match place.local {
            true => "file",
            false => "http:https:ssh:git",
        };
        command.env("GIT_ALLOW_PROTOCOL", allowed);
        command.env("GIT_SSH_COMMAND", ssh_command());
        if let Some(agent) = &self.fetcher.ssh_agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        for (name, path) in [
            ("GIT_DIR", place.dir),
            ("GIT_WORK_TREE", place.tree.filter(|_| place.dir.is_some())),
            ("GIT_INDEX_FILE", place.index),
        ] {
            if let Some(path) = path {
                command.env(name, path);
            }
        }
        for entry in CONFIG {
            command.args(["-c", entry]);
        }
        if self.url.is_web() && !place.local {
            self.trust(command);
            self.log_in(command);
        }
        Ok(())
    }

    /// Has the host's own authorities trusted. git takes one file in place of the system's.
    fn trust(&self, command: &mut Command) {
        let files = &self.fetcher.network.settings.ca_files;
        if let Some(file) = files.get(self.url.host()).and_then(|files| files.first()) {
            let origin = self.origin();
            let entry = format!("http.{origin}.sslCAInfo={}", file.display());
            command.args(["-c", &entry]);
        }
    }

    fn log_in(&self, command: &mut Command) {
        const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
             \"$LAPSTRAKE_GIT_USER\" \"$LAPSTRAKE_GIT_PASSWORD\"; }; f";
        let origin = self.origin();
        let (user, password) = match (&self.url.login, self.secret("GIT_AUTH_TOKEN")) {
            (Some(login), _) => (login.user.clone(), login.password.clone()),
            (None, Some(token)) => ("x-access-token".to_owned(), token),
            (None, None) => return self.send_header(command),
        };
        command.args(["-c", &format!("credential.{origin}.helper={HELPER}")]);
        command.env("LAPSTRAKE_GIT_USER", user);
        command.env("LAPSTRAKE_GIT_PASSWORD", password);
    }

    /// A header of the user's goes to whom git asks, so no redirect is followed.
    fn send_header(&self, command: &mut Command) {
        let Some(header) = self.secret("GIT_AUTH_HEADER") else {
            return;
        };
        let name = format!("http.{}.extraHeader", self.origin());
        command.arg(format!("--config-env={name}=LAPSTRAKE_GIT_HEADER"));
        command.args(["-c", "http.followRedirects=false"]);
        command.env("LAPSTRAKE_GIT_HEADER", format!("Authorization: {header}"));
    }

    /// A secret for the host, or one that is for the main repository, wherever it is.
    fn secret(&self, name: &str) -> Option<String> {
        let own = (self.fetcher.secret)(&format!("{name}.{}", self.url.host()));
        let secret = match own {
            None if self.is_main => (self.fetcher.secret)(name),
            own => own,
        };
        let secret = secret?.trim().to_owned();
        (!secret.is_empty() && !secret.chars().any(char::is_control)).then_some(secret)
    }

    fn origin(&self) -> String {
        let scheme = self.url.remote.split("://").next().unwrap_or_default();
        format!("{scheme}://{}/", self.url.host())
    }
}

/// Hosts have to be known to the user, keys are the agent's, and no configuration is read.
fn ssh_command() -> String {
    let known = std::env::var_os("HOME")
        .map(|home| PathBuf::from(home).join(".ssh/known_hosts"))
        .filter(|path| path.exists())
        .and_then(|path| path.into_os_string().into_string().ok())
        .filter(|path| !path.contains(['\'', '"', '\\']));
    let known = known.map_or_else(String::new, |path| {
        format!(" -o 'UserKnownHostsFile=\"{path}\"'")
    });
    format!("ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes{known}")
}

/// Ends the child with all it has started; it takes its locks and unfinished files away.
fn kill(child: &Mutex<Child>) {
    use nix::sys::signal::{Signal, killpg};
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // Not waited for yet, its number is still its own.
    if matches!(child.try_wait(), Ok(None)) {
        let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
        // Gone already is as good.
        match killpg(group, Signal::SIGTERM) {
            Ok(()) | Err(_) => {}
        }
    }
}

/// All of a stream up to `limit`; the rest is read and dropped, so that nobody waits.
fn read(stream: Option<impl Read>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(limit).read_to_end(&mut bytes)?;
        let more = std::io::copy(&mut stream, &mut std::io::sink())?;
        if more > 0 && limit == ANSWER_LIMIT {
            return Err(std::io::Error::other("it is too much"));
        }
    }
    Ok(bytes)
}

fn failed(args: &[&str], err: &[u8]) -> FetchErrorKind {
    /// What git and curl say when the network or the server is at fault.
    const PASSING: [&str; 11] = [
        "Could not resolve host",
        "Failed to connect",
        "Connection refused",
        "Connection reset",
        "Connection timed out",
        "unable to connect",
        "requested URL returned error: 5",
        "requested URL returned error: 429",
        "early EOF",
        "RPC failed",
        "unexpected disconnect",
    ];
    let words = words(err);
    FetchErrorKind::Git {
        what: args.first().copied().unwrap_or_default().to_owned(),
        passing: PASSING.iter().any(|mark| words.contains(mark)),
        words,
    }
}
