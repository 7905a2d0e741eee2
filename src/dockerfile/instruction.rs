//! [`Instruction`]: one instruction as written, typed, with the place of everything in it.

use super::heredoc::Heredoc;
use super::mount::MountFlag;
use super::span::{Lines, Span, Spanned};

/// Every keyword, in the order of the Dockerfile reference.
pub const KEYWORDS: [&str; 18] = [
    "FROM",
    "RUN",
    "CMD",
    "LABEL",
    "MAINTAINER",
    "EXPOSE",
    "ENV",
    "ADD",
    "COPY",
    "ENTRYPOINT",
    "VOLUME",
    "USER",
    "WORKDIR",
    "ARG",
    "ONBUILD",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "SHELL",
];

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// From the keyword to the end of the argument, heredoc bodies not included.
    pub span: Span,
    /// The lines it takes, heredoc bodies included.
    pub lines: Lines,
    /// The keyword as written.
    pub keyword: Spanned<String>,
    /// The whole instruction as written, continuation lines joined, without heredoc bodies.
    pub text: String,
    /// The flags as words, `--name` or `--name=value`, without quotes and escapes.
    pub flags: Vec<Spanned<String>>,
    /// The heredocs, in order.
    pub heredocs: Vec<Heredoc>,
    /// The comment lines directly above it, without `#` and the blanks around the text; directives
    /// are none.
    pub comments: Vec<Spanned<String>>,
    /// Where blank lines stand inside its continuation.
    pub blank_lines: Vec<Span>,
    /// What it says.
    pub kind: InstructionKind,
    /// The trigger's text if this is no instruction of the file but an `ONBUILD` trigger; spans
    /// point into it then.
    pub trigger: Option<String>,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// `FROM`.
    From(From),
    /// `ARG`, one item or more.
    Arg(Vec<ArgItem>),
    /// `RUN`.
    Run(Run),
    /// `COPY`.
    Copy(Transfer),
    /// `ADD`.
    Add(Add),
    /// `ENV`.
    Env(Vec<KeyValue>),
    /// `LABEL`.
    Label(Vec<KeyValue>),
    /// `WORKDIR`.
    Workdir(Spanned<String>),
    /// `USER`.
    User(Spanned<String>),
    /// `EXPOSE`.
    Expose(Vec<Spanned<String>>),
    /// `VOLUME`.
    Volume(Vec<Spanned<String>>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `SHELL`, never empty.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(Spanned<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `ONBUILD`.
    OnBuild(OnBuild),
    /// `MAINTAINER`.
    Maintainer(Spanned<String>),
}

/// `FROM [--platform=…] image [AS name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// An earlier stage, an image or `scratch`; not expanded.
    pub image: Spanned<String>,
    /// Not expanded.
    pub platform: Option<Spanned<String>>,
    /// In lower case.
    pub name: Option<Spanned<String>>,
}

/// `name` or `name=default`, not expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgItem {
    /// The name, never empty.
    pub name: Spanned<String>,
    /// The default.
    pub default: Option<Spanned<String>>,
}

/// `key=value` of `ENV` or `LABEL`, quotes and variables still in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, never empty.
    pub key: Spanned<String>,
    /// The value.
    pub value: Spanned<String>,
    /// Whether it was written in the old form, `key value`.
    pub legacy: bool,
}

impl Instruction {
    /// What the comments above say of the stage or argument `name`: the text after the name, of the
    /// first that begins with it (S1).
    pub fn description(&self, name: &str) -> Option<&str> {
        let texts = self.comments.iter().map(|comment| comment.value.as_str());
        let after = texts.filter_map(|text| text.strip_prefix(name)?.strip_prefix(' '));
        after.map(str::trim).find(|text| !text.is_empty())
    }
}

/// The command of `RUN`, `CMD`, `ENTRYPOINT` or `HEALTHCHECK CMD`. Never expanded by a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the stage's shell.
    Shell(Spanned<String>),
    /// A JSON array: the argument vector itself.
    Exec(Spanned<Vec<String>>),
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command; with heredocs always [`CommandLine::Shell`].
    pub command: CommandLine,
    /// Whether the command is a heredoc and nothing else: its body is the script then.
    pub is_heredoc: bool,
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Option<Spanned<NetworkMode>>,
    /// `--security`.
    pub security: Option<Spanned<SecurityMode>>,
    /// `--device`, in order.
    pub devices: Vec<Spanned<String>>,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The build's own.
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityMode {
    /// Confined.
    Sandbox,
    /// Not confined.
    Insecure,
}

/// `COPY`, and what `ADD` shares with it. Nothing is expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Files, directories, patterns; for `ADD` also URLs.
    pub sources: Vec<Spanned<String>>,
    /// Heredocs among the sources; they come after the others.
    pub inline: Vec<InlineSource>,
    /// The destination.
    pub dest: Spanned<String>,
    /// `--from`, `COPY` only.
    pub from: Option<Spanned<String>>,
    /// `--chown`.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`.
    pub chmod: Option<Spanned<String>>,
    /// `--link`.
    pub link: Option<Spanned<bool>>,
    /// `--parents`, `COPY` only.
    pub parents: Option<Spanned<bool>>,
    /// `--exclude`, in order.
    pub exclude: Vec<Spanned<String>>,
}

/// A heredoc that is a source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineSource {
    /// The delimiter, which is the file's name.
    pub name: Spanned<String>,
    /// The body; tabs of `<<-` are gone.
    pub body: String,
    /// Where the body stands; it is longer there by the tabs of `<<-`.
    pub place: Span,
    /// Whether variables in the body are expanded.
    pub expand: bool,
}

/// `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// What it shares with `COPY`.
    pub transfer: Transfer,
    /// `--checksum`, not expanded.
    pub checksum: Option<Spanned<String>>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `--unpack`.
    pub unpack: Option<Spanned<bool>>,
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: the base's check is switched off.
    None,
    /// `CMD`.
    Cmd {
        /// The command.
        command: CommandLine,
        /// The flags.
        options: HealthcheckOptions,
    },
}

/// The flags of `HEALTHCHECK`; durations in nanoseconds, 0 when not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthcheckOptions {
    /// `--interval`.
    pub interval: i64,
    /// `--timeout`.
    pub timeout: i64,
    /// `--start-period`.
    pub start_period: i64,
    /// `--start-interval`.
    pub start_interval: i64,
    /// `--retries`.
    pub retries: i64,
}

/// `ONBUILD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnBuild {
    /// What is stored in the image: the text after the keyword and the heredoc bodies.
    pub text: String,
    /// The same, parsed; it tells what the trigger will need.
    pub instruction: Box<Instruction>,
}
