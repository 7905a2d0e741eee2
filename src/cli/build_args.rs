//! The flags of `lapstrake build`: names and meanings are those of `docker build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::annotation::AnnotationSpec;
use super::cache_spec::{CacheFrom, CacheTo};
use super::call::Call;
use super::named::NamedSpec;
use super::output_spec::OutputSpec;
use super::values;
use crate::image::{Platform, Reference};

/// Build an image from a Dockerfile.
#[derive(Args, Debug)]
pub struct BuildArgs {
    /// Dockerfile: a path, a URL, or `-` for stdin; of a context on stdin or at a URL a
    /// path in it
    /// [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Name of the image, NAME[:TAG]; may be repeated
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<Reference>,

    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Value of an ARG; without a value it is taken from the environment; may be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,

    /// Files or an image in place of the stage or image NAME, or for COPY --from=NAME: a directory,
    /// the URL of a tar or of a git repository, docker-image://IMAGE or
    /// oci-layout://DIR[:TAG|@DIGEST]; may be repeated
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub build_contexts: Vec<NamedSpec>,

    /// Label of the image; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,

    /// Annotation of the manifest, or manifest-descriptor:NAME=VALUE of its entry in a layout's
    /// index; may be repeated
    #[arg(long = "annotation", value_name = "[TYPE:]NAME=VALUE")]
    pub annotations: Vec<AnnotationSpec>,

    /// Platform to build for [default: this machine's]; RUN for another one needs QEMU
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    pub platform: Option<Platform>,

    /// Execute every step, whatever was built before
    #[arg(long)]
    pub no_cache: bool,

    /// Execute every step of these stages; may be repeated
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,

    /// Where results of steps may be had that the store does not have, asked in this order:
    /// type=registry,ref=NAME or NAME alone, for a repository that --cache-to has filled or an image
    /// with an inline cache; type=local,src=DIR; may be repeated
    #[arg(long = "cache-from", value_name = "SPEC")]
    pub cache_from: Vec<CacheFrom>,

    /// Where the results of this build's steps are left for other machines:
    /// type=registry,ref=NAME or type=local,dest=DIR, with [,mode=min|max]
    /// [,compression=gzip|zstd|uncompressed][,compression-level=N][,ignore-error=true]; type=inline
    /// for the keys of the image's layers in the image; may be repeated
    #[arg(long = "cache-to", value_name = "SPEC")]
    pub cache_to: Vec<CacheTo>,

    /// Ask the registry for base images even if the store has them
    #[arg(long)]
    pub pull: bool,

    /// Where the result goes: type=oci|docker|image|local|tar[,dest=PATH][,name=NAME][,push=true]
    /// [,tar=false][,compression=gzip|zstd|uncompressed]; dest=- is stdout; a PATH alone is
    /// type=local, and - alone type=tar; may be repeated
    #[arg(short, long = "output", value_name = "SPEC")]
    pub outputs: Vec<OutputSpec>,

    /// Push the image to its registry: short for -o type=image,push=true
    #[arg(long)]
    pub push: bool,

    /// Keep the image in the store; the default where no output is given
    #[arg(long)]
    pub load: bool,

    /// Write the image's id to FILE, only on success; untouched if the id did not change, unless
    /// it is the target of a --depfile
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,

    /// Write a rule for make to FILE: what the build makes (--iidfile, else an output with dest)
    /// depends on the Dockerfile and on what the steps read of the context
    #[arg(long, value_name = "FILE")]
    pub depfile: Option<PathBuf>,

    /// Target of the rule, if it is not what the build makes
    #[arg(long, value_name = "NAME", requires = "depfile")]
    pub depfile_target: Option<PathBuf>,

    /// Write what was built, or why it failed, to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,

    /// Secret for RUN --mount=type=secret: id=NAME[,src=FILE][,env=VARIABLE]; by default the
    /// variable NAME, else the file; may be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,

    /// Agent for RUN --mount=type=ssh: default, or ID=SOCKET[,raw=true]; may be repeated
    #[arg(long = "ssh", value_name = "SPEC")]
    pub agents: Vec<String>,

    /// What RUN may ask for beyond the usual: network.host, security.insecure; may be repeated
    #[arg(long = "allow", value_name = "RIGHT")]
    pub allow: Vec<String>,

    /// Keep what a failing RUN left behind as an image, to look inside
    #[arg(long)]
    pub keep_failed: bool,

    /// Remove what was used least recently when the store takes more than this after the build:
    /// never a named image or what another build uses; 0 is no limit
    /// [default: $LAPSTRAKE_STORE_LIMIT, else store-limit in config.toml, else none]
    #[arg(long, value_name = "SIZE")]
    pub store_limit: Option<String>,
    /// How much is done at a time: RUN steps, copies, layers that are unpacked or exported; a RUN that
    /// sleeps or waits makes room for others [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,

    /// Network that RUN sees
    #[arg(long, value_enum, default_value_t = NetworkArg::Host, value_name = "MODE")]
    pub network: NetworkArg,

    /// How progress is shown on stderr [default: $BUILDKIT_PROGRESS, else auto]
    #[arg(long, value_enum, value_name = "KIND", hide_default_value = true)]
    pub progress: Option<ProgressArg>,

    /// Tell of every step that is executed why it was not found in the cache: the first input
    /// that differs from the last time
    #[arg(long)]
    pub explain: bool,

    /// Show nothing but errors, and print the image's id on stdout
    #[arg(short, long)]
    pub quiet: bool,

    /// Entry of /etc/hosts for RUN, HOST:host-gateway for this machine; may be repeated
    #[arg(long = "add-host", value_name = "HOST:IP")]
    pub add_hosts: Vec<String>,

    /// Resource limit for RUN; may be repeated
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<String>,

    /// Ask instead of build: check, outline or targets, with ,format=json (check: or sarif)
    #[arg(long, value_name = "METHOD[,format=FORMAT]", conflicts_with = "check")]
    pub(super) call: Option<Call>,

    /// Check the Dockerfile, in a directory or on stdin, and build nothing: short for
    /// --call=check
    #[arg(long)]
    pub check: bool,

    /// Size of /dev/shm for RUN: bytes, or with k, m, g
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,

    /// Directory with what COPY and ADD may use; or `-`: a tar of one on stdin, or a Dockerfile on
    /// stdin that needs none; or the URL of such a tar, of a Dockerfile, or of a git repository,
    /// as https://HOST/NAME.git#REF:DIR
    #[arg(value_name = "CONTEXT")]
    pub context: PathBuf,
}

impl BuildArgs {
    /// What is asked for instead of a build, if anything.
    pub(super) fn question(&self) -> Option<Call> {
        let call = if self.check {
            Some(Call::CHECK)
        } else {
            self.call
        };
        call.filter(|call| !call.is_build())
    }
}

/// `--network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkArg {
    /// The network of the caller
    #[value(alias = "default")]
    Host,
    /// Loopback only
    None,
}

impl From<NetworkArg> for runtime::Network {
    fn from(arg: NetworkArg) -> Self {
        match arg {
            NetworkArg::Host => Self::Host,
            NetworkArg::None => Self::None,
        }
    }
}

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// What suits stderr: plain, for now
    Auto,
    /// One line per event
    Plain,
    /// One JSON object per line and event, for programs
    #[value(name = "rawjson")]
    RawJson,
    /// Nothing but errors
    Quiet,
    /// Nothing but errors
    None,
    /// Lines that are redrawn: not supported
    #[value(hide = true)]
    Tty,
}
