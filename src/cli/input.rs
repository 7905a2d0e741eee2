//! [`Input`]: what a build is made from, a context and a Dockerfile, as the arguments name them.
//!
//! Standard input can be one of three things (docker's rules): with `-f -` the Dockerfile for a
//! context that is a directory; with the context `-` either a Dockerfile for no context at all, or
//! a tar that is the context and holds the Dockerfile. It is read once, and a tar only after the
//! sandbox has been entered, because unpacking it takes the sandbox's rights.

use std::io::{self, Cursor, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::build_args::BuildArgs;
use super::exit::UsageError;
use super::remote::{self, Opened};
use super::report::SourceText;
use crate::build::{Cancel, Fetching};
use crate::context::{self, Context, Dockerfile, IgnoreFile, Stdin, unpack_context};
use crate::fetch::RemoteContext;
use crate::layer::Ids;
use crate::plan::masked;
use crate::store::Store;

/// A Dockerfile on stdin is read up to this many bytes.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// Bytes by which a tar is told from a Dockerfile.
const HEAD: u64 = 512;
/// How long a read waits before it looks whether the build was ended: 100 ms.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// What messages call standard input.
const STDIN: &str = "stdin";

/// The context and the Dockerfile, as far as they can be read without a sandbox.
pub(super) enum Input {
    /// A directory; the Dockerfile's path is that on this host, none for one from stdin.
    Directory(Option<PathBuf>, SourceText),
    /// A Dockerfile without files.
    Nothing(SourceText),
    /// A tar on stdin, of which this much was read.
    Archive(Vec<u8>),
    /// What is to be fetched, and the Dockerfile if it came from stdin.
    Remote(RemoteContext, Option<SourceText>),
    /// The URL of a Dockerfile for a context that is fetched too, or else a directory.
    FileAt(String, Option<RemoteContext>),
}

impl Input {
    /// Reads the Dockerfile, unless it is in an archive.
    ///
    /// # Errors
    /// When there is none, when it is no text, when the arguments contradict each other.
    pub(super) fn read(args: &BuildArgs, build_args: &[(String, String)]) -> Result<Self> {
        let file_is_stdin = args.file.as_deref().is_some_and(is_dash);
        if is_dash(&args.context) {
            if file_is_stdin {
                return Err(usage(
                    "stdin cannot be the context and the Dockerfile at once: \
                     name a directory, or leave out -f -",
                ));
            }
            return Self::from_stdin(args.file.as_deref());
        }
        let remote = remote::parse(&args.context, build_args)?;
        if let Some(url) = args.file.as_deref().and_then(remote::web_url) {
            return Ok(Self::FileAt(url.to_owned(), remote));
        }
        if file_is_stdin {
            let text = source(STDIN, read_stdin()?);
            return Ok(match remote {
                Some(remote) => Self::Remote(remote, Some(text)),
                None => Self::Directory(None, text),
            });
        }
        if let Some(remote) = remote {
            return Ok(Self::Remote(remote, None));
        }
        let read = context::read_dockerfile(&args.context, args.file.as_deref())?;
        let (path, source) = found(read);
        Ok(Self::Directory(Some(path), source))
    }

    fn from_stdin(file: Option<&Path>) -> Result<Self> {
        if file.and_then(remote::web_url).is_some() {
            return Err(usage(
                "a Dockerfile at a URL goes with a context that is a directory or a URL, not with \
                 stdin",
            ));
        }
        let mut stdin = Unbuffered;
        let mut head = Vec::new();
        (&mut stdin)
            .take(HEAD)
            .read_to_end(&mut head)
            .context("cannot read the context from stdin")?;
        match (Stdin::guess(&head), file) {
            (Stdin::Archive, _) => Ok(Self::Archive(head)),
            (Stdin::Dockerfile, None) => {
                let text = read_text(Cursor::new(head).chain(stdin))?;
                Ok(Self::Nothing(source(STDIN, text)))
            }
            (Stdin::Dockerfile, Some(_)) => Err(usage(
                "stdin is no tar, so it is taken for a Dockerfile, and -f names another one: \
                 send a tar, or leave out -f",
            )),
        }
    }

    /// Whether the context is a directory of this host.
    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(..) | Self::FileAt(_, None))
    }

    /// The Dockerfile's path, if it is a file of this host.
    pub(super) fn dockerfile(&self) -> Option<&Path> {
        match self {
            Self::Directory(path, _) => path.as_deref(),
            _ => None,
        }
    }

    /// The Dockerfile, if it is known already.
    pub(super) fn source(&self) -> Option<&SourceText> {
        match self {
            Self::Directory(_, source) | Self::Nothing(source) => Some(source),
            Self::Archive(_) | Self::FileAt(..) => None,
            Self::Remote(_, source) => source.as_ref(),
        }
    }

    /// The Dockerfile without the context but for what its ignore file hides; for questions that
    /// need no build.
    ///
    /// # Errors
    /// When the Dockerfile would have to be fetched or unpacked.
    pub(super) fn read_only(self, args: &BuildArgs) -> Result<(Option<IgnoreFile>, SourceText)> {
        match self {
            Self::Directory(path, source) => {
                let context = Context::open_dir(&args.context, path.as_deref())?;
                Ok((Some(context.ignore().clone()), source))
            }
            Self::Nothing(source) | Self::Remote(_, Some(source)) => Ok((None, source)),
            Self::Archive(_) | Self::Remote(_, None) | Self::FileAt(..) => Err(usage(
                "--call reads nothing but the Dockerfile: name a directory, or give it on stdin \
                 with -f -",
            )),
        }
    }

    /// Opens the context and gives the Dockerfile; the end of the build ends that too.
    ///
    /// # Errors
    /// When the context cannot be opened or unpacked, or has no Dockerfile.
    pub(super) fn open(
        self,
        args: &BuildArgs,
        fetching: &Fetching<'_>,
        ids: &dyn Ids,
    ) -> Result<(Context, SourceText)> {
        let (store, cancel) = (fetching.store, fetching.cancel);
        match self {
            Self::Directory(path, source) => {
                let context = Context::open_dir(&args.context, path.as_deref())?;
                Ok((context, source))
            }
            Self::Nothing(source) => Ok((nothing(store)?, source)),
            Self::Remote(remote, source) => fetched(args, &remote, source, fetching, ids),
            Self::FileAt(url, remote) => {
                let text = read_text(remote::file(&url, fetching)?)?;
                let source = source(&masked(&url), text);
                match remote {
                    Some(remote) => fetched(args, &remote, Some(source), fetching, ids),
                    None => Ok((Context::open_dir(&args.context, None)?, source)),
                }
            }
            Self::Archive(head) => {
                let rest = Cancellable {
                    reader: Unbuffered,
                    cancel,
                };
                let archive = Cursor::new(head).chain(rest);
                let made = unpack_context(archive, "the tar on stdin", store.staging()?, ids);
                cancel.check()?;
                let context = made?;
                let (_, source) = found(context.dockerfile(args.file.as_deref())?);
                Ok((context, source))
            }
        }
    }
}

/// The context of a Dockerfile that came without one.
fn nothing(store: &Store) -> Result<Context> {
    let staging = store.staging()?;
    let dir = staging.path().to_owned();
    let context = Context::open_staged(&dir, staging)?;
    Ok(context.called("the build context, which is empty"))
}

/// Fetches the context, and with it the Dockerfile unless that is known.
fn fetched(
    args: &BuildArgs,
    remote: &RemoteContext,
    known: Option<SourceText>,
    fetching: &Fetching<'_>,
    ids: &dyn Ids,
) -> Result<(Context, SourceText)> {
    let file = args.file.as_deref();
    match (remote::open(remote, fetching, ids)?, known) {
        (Opened::Context(context), Some(source)) => Ok((context, source)),
        (Opened::Context(context), None) => {
            let (_, source) = found(context.dockerfile(file)?);
            Ok((context, source))
        }
        (Opened::Text(text), None) if file.is_none() => {
            let name = masked(&args.context.display().to_string());
            let text = read_text(text)?;
            Ok((nothing(fetching.store)?, source(&name, text)))
        }
        (Opened::Text(_), _) => Err(usage(
            "what came from the context's URL is no tar, so it is taken for a Dockerfile, and -f \
             names another one: leave out -f",
        )),
    }
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn usage(text: &str) -> anyhow::Error {
    UsageError(text.to_owned()).into()
}

fn source(name: &str, text: String) -> SourceText {
    SourceText {
        name: name.to_owned(),
        text,
    }
}

fn found(read: Dockerfile) -> (PathBuf, SourceText) {
    let source = source(&read.path.display().to_string(), read.text);
    (read.path, source)
}

/// A Dockerfile from stdin.
pub(super) fn read_stdin() -> Result<String> {
    read_text(io::stdin().lock())
}

fn read_text(reader: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_DOCKERFILE + 1)
        .read_to_end(&mut bytes)
        .context("cannot read the Dockerfile")?;
    if bytes.len() as u64 > MAX_DOCKERFILE {
        return Err(usage(&format!(
            "the Dockerfile is larger than {MAX_DOCKERFILE} bytes"
        )));
    }
    context::decode(bytes).map_err(|reason| usage(&format!("cannot read the Dockerfile: {reason}")))
}

/// Standard input without a buffer of ours: what is not read stays in it, and it can be waited for.
struct Unbuffered;

impl Read for Unbuffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(io::stdin().as_fd(), buffer)?)
    }
}

/// Reads standard input until the build is ended.
struct Cancellable<'a> {
    reader: Unbuffered,
    cancel: &'a Cancel,
}

impl Read for Cancellable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.cancel.check().map_err(io::Error::other)?;
            let stdin = io::stdin();
            let mut wait = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut wait, Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.reader.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
