//! [`Step`]: one evaluated instruction, everything expanded.

use super::GitUrl;
use super::reference::Source;
use crate::dockerfile::{Lines, NetworkMode, SecurityMode, Sharing, Span};

/// One evaluated instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where the instruction stands.
    pub span: Span,
    /// Its lines.
    pub lines: Lines,
    /// The history's text (S11); empty for `ONBUILD`, which leaves no entry.
    pub created_by: String,
    /// Whether it makes no layer.
    pub empty_layer: bool,
    /// What is to be done.
    pub kind: StepKind,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Run a process.
    Run(Box<RunStep>),
    /// Copy files.
    Copy(Box<CopyStep>),
    /// Copy, unpack or fetch files.
    Add(Box<AddStep>),
    /// Make a directory and its parents, 0755, owned by `user`. Not given for `/`.
    Workdir {
        /// Absolute and clean.
        path: String,
        /// `USER` as written.
        user: String,
    },
    /// Nothing: only the configuration has changed.
    Config,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStep {
    /// The argument vector, shell included.
    pub argv: Vec<String>,
    /// The stage's environment with its `ARG`s, in order; `PATH` is always there.
    pub env: Vec<(String, String)>,
    /// Proxy variables, to be put after `env` and kept out of the cache key.
    pub proxy_env: Vec<(String, String)>,
    /// The working directory, absolute and clean.
    pub cwd: String,
    /// `USER` as written; empty means root.
    pub user: String,
    /// `--mount`, in order.
    pub mounts: Vec<RunMount>,
    /// `--network`.
    pub network: Option<NetworkMode>,
    /// `--security`.
    pub security: Option<SecurityMode>,
    /// `--device`.
    pub devices: Vec<String>,
    /// Scripts that begin with `#!`: files of mode 0755 to mount read-only in `/dev/pipes`.
    pub scripts: Vec<InlineFile>,
}

/// `RUN --mount`, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// Where the flag stands.
    pub span: Span,
    /// Absolute and clean, never `/`; `None` for a secret that is only a variable, and for an
    /// `ssh` mount at the usual place.
    pub target: Option<String>,
    /// No writing.
    pub readonly: bool,
    /// What is mounted.
    pub kind: RunMountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunMountKind {
    /// Files of a source; what is written there is dropped after the step.
    Bind {
        /// Whose files.
        from: Source,
        /// Which, absolute and clean.
        source: String,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name, behind that of the namespace (`BUILDKIT_CACHE_MOUNT_NS`) if there is one.
        id: String,
        /// What it holds at first, if not nothing.
        from: Option<Source>,
        /// Which directory of `from`, absolute and clean.
        source: String,
        /// How builds share it.
        sharing: Sharing,
        /// The mode of a new one.
        mode: u32,
        /// The owner of a new one.
        uid: u32,
        /// The group of a new one.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; `None` for no limit of its own.
        size: Option<u64>,
    },
    /// A secret.
    Secret {
        /// Its name.
        id: String,
        /// The variable it goes to.
        env: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// The file's mode.
        mode: u32,
        /// The file's owner.
        uid: u32,
        /// The file's group.
        gid: u32,
    },
    /// The agent's socket.
    Ssh {
        /// The agent's name.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// The socket's mode.
        mode: u32,
        /// The socket's owner.
        uid: u32,
        /// The socket's group.
        gid: u32,
    },
}

/// A file whose content stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// Its content.
    pub content: String,
}

/// `COPY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyStep {
    /// Whose files.
    pub from: Source,
    /// Which; patterns and `..` still in them.
    pub sources: Vec<String>,
    /// Files that stand in the Dockerfile, mode 0644, owner 0:0; copied after `sources`.
    pub heredocs: Vec<InlineFile>,
    /// The destination as written, relative to `workdir`.
    pub dest: String,
    /// The stage's working directory, absolute.
    pub workdir: String,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
}

/// `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddStep {
    /// What to add.
    pub sources: Vec<AddSource>,
    /// Files that stand in the Dockerfile, mode 0644, owner 0:0; copied after `sources`.
    pub heredocs: Vec<InlineFile>,
    /// The destination as written, relative to `workdir`.
    pub dest: String,
    /// The stage's working directory, absolute.
    pub workdir: String,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--unpack`; `None` means local archives only.
    pub unpack: Option<bool>,
    /// `--checksum` of the one source that is fetched, `sha256:…`; a repository has its own.
    pub checksum: Option<String>,
}

/// One source of `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddSource {
    /// In the build context.
    Local(String),
    /// An `http` or `https` URL.
    Http(String),
    /// A git repository, with what the flags say of it.
    Git(Box<GitUrl>),
}
