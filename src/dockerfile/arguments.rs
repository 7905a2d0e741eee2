//! The argument of each instruction: shape and values that can be checked without an environment.

use super::diagnostic::{Diagnostic, DiagnosticKind};
use super::duration::parse_duration;
use super::flags::{Flags, Known, Takes};
use super::heredoc::Heredoc;
use super::instruction::{
    Add, ArgItem, CommandLine, From, Healthcheck, HealthcheckOptions, InlineSource,
    InstructionKind, KEYWORDS, KeyValue, NetworkMode, Run, SecurityMode, Transfer,
};
use super::mount::MountFlag;
use super::span::{Part, Span, Spanned};
use super::split::{Head, json_strings, quoted_words};

/// What the argument parsers need to know.
pub(super) struct Argument<'a> {
    /// The keyword in upper case.
    pub keyword: &'a str,
    pub head: &'a Head<'a>,
    pub heredocs: &'a [Heredoc],
    pub escape: char,
}

type Parsed = Result<InstructionKind, Diagnostic>;

/// The flags an instruction has; `None` if there is no such instruction.
fn known_flags(keyword: &str) -> Option<Known> {
    use Takes::{Bool, List, Text};
    Some(match keyword {
        "FROM" => &[("platform", Text)],
        "RUN" => &[
            ("mount", List),
            ("network", Text),
            ("security", Text),
            ("device", List),
        ],
        "COPY" => &[
            ("chown", Text),
            ("chmod", Text),
            ("from", Text),
            ("link", Bool),
            ("parents", Bool),
            ("exclude", List),
        ],
        "ADD" => &[
            ("chown", Text),
            ("chmod", Text),
            ("checksum", Text),
            ("link", Bool),
            ("keep-git-dir", Bool),
            ("unpack", Bool),
            ("exclude", List),
        ],
        "HEALTHCHECK" => &[
            ("interval", Text),
            ("timeout", Text),
            ("start-period", Text),
            ("start-interval", Text),
            ("retries", Text),
        ],
        _ if KEYWORDS.contains(&keyword) => &[],
        _ => return None,
    })
}

/// Everything but `ONBUILD`.
pub(super) fn parse_argument(argument: &Argument<'_>) -> Parsed {
    let keyword = argument.head.keyword;
    let known = known_flags(argument.keyword).ok_or_else(|| {
        Diagnostic::error(
            DiagnosticKind::UnknownInstruction,
            keyword.span(),
            format!("unknown instruction {}", keyword.text),
        )
        .nearest(keyword.text, KEYWORDS)
    })?;
    let flags = Flags::read(&argument.head.flags, known)?;
    match argument.keyword {
        "FROM" => argument.from(&flags),
        "ARG" => argument.arg(),
        "RUN" => argument.run(&flags),
        "COPY" => Ok(InstructionKind::Copy(argument.transfer(&flags)?)),
        "ADD" => argument.add(&flags),
        "ENV" => Ok(InstructionKind::Env(argument.pairs()?)),
        "LABEL" => Ok(InstructionKind::Label(argument.pairs()?)),
        "WORKDIR" => Ok(InstructionKind::Workdir(argument.text()?)),
        "USER" => Ok(InstructionKind::User(argument.text()?)),
        "STOPSIGNAL" => Ok(InstructionKind::StopSignal(argument.text()?)),
        "MAINTAINER" => Ok(InstructionKind::Maintainer(argument.text()?)),
        "EXPOSE" => Ok(InstructionKind::Expose(argument.words("port")?)),
        "VOLUME" => argument.volume(),
        "CMD" => Ok(InstructionKind::Cmd(argument.command(argument.head.rest)?)),
        "ENTRYPOINT" => Ok(InstructionKind::Entrypoint(
            argument.command(argument.head.rest)?,
        )),
        "SHELL" => argument.shell(),
        _ => argument.healthcheck(&flags),
    }
}

impl Argument<'_> {
    /// The argument's place, or the keyword's if there is none.
    fn span(&self) -> Span {
        if self.head.rest.text.is_empty() {
            self.head.keyword.span()
        } else {
            self.head.rest.span()
        }
    }

    fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(DiagnosticKind::Syntax, self.span(), message)
    }

    fn text(&self) -> Result<Spanned<String>, Diagnostic> {
        if self.head.rest.text.is_empty() {
            return Err(self.error(format!("{} needs an argument", self.keyword)));
        }
        Ok(self.head.rest.owned())
    }

    fn words(&self, what: &str) -> Result<Vec<Spanned<String>>, Diagnostic> {
        let words = self.head.rest.words();
        if words.is_empty() {
            return Err(self.error(format!("{} needs at least one {what}", self.keyword)));
        }
        Ok(words.into_iter().map(Part::owned).collect())
    }

    fn command(&self, part: Part<'_>) -> Result<CommandLine, Diagnostic> {
        Ok(match json_strings(part)? {
            Some(argv) => CommandLine::Exec(Spanned::new(argv, part.span())),
            None => CommandLine::Shell(part.owned()),
        })
    }

    /// JSON strings, or words between white space.
    fn list(&self) -> Result<Vec<Spanned<String>>, Diagnostic> {
        let rest = self.head.rest;
        Ok(match json_strings(rest)? {
            Some(strings) => strings
                .into_iter()
                .map(|text| Spanned::new(text, rest.span()))
                .collect(),
            None => rest.words().into_iter().map(Part::owned).collect(),
        })
    }

    fn from(&self, flags: &Flags) -> Parsed {
        let words = self.head.rest.words();
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
                (image, Some(stage_name(*name)?))
            }
            [] => {
                return Err(self
                    .error("FROM needs an image, or scratch")
                    .hint("FROM image AS name"));
            }
            [image, keyword, _] => {
                let message = format!("expected AS after the image, found {:?}", keyword.text);
                return Err(
                    Diagnostic::error(DiagnosticKind::Syntax, keyword.span(), message)
                        .hint(format!("FROM {} AS name", image.text)),
                );
            }
            [image, extra, ..] => {
                let message = "FROM takes an image, or an image, AS and a name";
                return Err(
                    Diagnostic::error(DiagnosticKind::Syntax, extra.span(), message)
                        .label("expected AS and one name, or nothing")
                        .hint(format!("FROM {} AS name", image.text)),
                );
            }
        };
        Ok(InstructionKind::From(From {
            image: image.owned(),
            platform: flags.text("platform"),
            name,
        }))
    }

    fn arg(&self) -> Parsed {
        let words = quoted_words(self.head.rest, self.escape);
        if words.is_empty() {
            return Err(self.error("ARG needs a name"));
        }
        let items = words.into_iter().map(|word| {
            let (name, default) = match word.text.find('=') {
                Some(at) => (word.slice(0..at), Some(word.from(at + 1).owned())),
                None => (word, None),
            };
            if name.text.is_empty() {
                return Err(blank_name(word, "ARG"));
            }
            Ok(ArgItem {
                name: name.owned(),
                default,
            })
        });
        items.collect::<Result<_, _>>().map(InstructionKind::Arg)
    }

    /// `key=value …`, or `key value` in the old form.
    fn pairs(&self) -> Result<Vec<KeyValue>, Diagnostic> {
        let rest = self.head.rest;
        let words = quoted_words(rest, self.escape);
        let Some(first) = words.first() else {
            return Err(self.error(format!("{} needs key=value", self.keyword)));
        };
        if !first.text.contains('=') {
            let (key, value) = rest.split(char::is_whitespace);
            let value = value.ok_or_else(|| {
                self.error(format!("{} {} has no value", self.keyword, key.text))
                    .hint(format!("{} {}=value", self.keyword, key.text))
            })?;
            return Ok(vec![KeyValue {
                key: key.owned(),
                value: value.owned(),
                legacy: true,
            }]);
        }
        words.into_iter().map(|word| self.pair(word)).collect()
    }

    fn pair(&self, word: Part<'_>) -> Result<KeyValue, Diagnostic> {
        let at = word.text.find('=').ok_or_else(|| {
            Diagnostic::error(
                DiagnosticKind::Syntax,
                word.span(),
                format!(
                    "{:?} has no =, but {} takes key=value words",
                    word.text, self.keyword
                ),
            )
            .hint("put a value that holds spaces in double quotes, and no space beside =")
        })?;
        if at == 0 {
            return Err(blank_name(word, self.keyword));
        }
        Ok(KeyValue {
            key: word.slice(0..at).owned(),
            value: word.from(at + 1).owned(),
            legacy: false,
        })
    }

    fn run(&self, flags: &Flags) -> Parsed {
        let command = self.command(self.head.rest)?;
        if matches!(&command, CommandLine::Exec(argv) if argv.value.is_empty()) {
            return Err(self.error("RUN [] names no program"));
        }
        let mounts = flags.list("mount");
        let rest = self.head.rest.span();
        Ok(InstructionKind::Run(Run {
            command,
            is_heredoc: self.heredocs.iter().any(|doc| doc.span == rest),
            mounts: mounts
                .iter()
                .map(MountFlag::read)
                .collect::<Result<_, _>>()?,
            network: choice(
                "network",
                flags.text("network"),
                &[
                    ("default", NetworkMode::Default),
                    ("none", NetworkMode::None),
                    ("host", NetworkMode::Host),
                ],
            )?,
            security: choice(
                "security",
                flags.text("security"),
                &[
                    ("sandbox", SecurityMode::Sandbox),
                    ("insecure", SecurityMode::Insecure),
                ],
            )?,
            devices: flags.list("device"),
        }))
    }

    fn transfer(&self, flags: &Flags) -> Result<Transfer, Diagnostic> {
        let mut sources = self.list()?;
        let dest = sources
            .pop()
            .filter(|_| !sources.is_empty())
            .ok_or_else(|| {
                self.error(format!(
                    "{} needs at least one source and a destination",
                    self.keyword
                ))
            })?;
        if self.inline_source(&dest).is_some() {
            let message = "a heredoc cannot be a destination";
            return Err(Diagnostic::error(
                DiagnosticKind::Syntax,
                dest.span,
                message,
            ));
        }
        let mut inline = Vec::new();
        sources.retain(|source| match self.inline_source(source) {
            Some(file) => {
                inline.push(file);
                false
            }
            None => true,
        });
        let from = flags.text("from");
        if let Some(from) = from.as_ref().filter(|from| from.value.contains('$')) {
            return Err(Diagnostic::error(
                DiagnosticKind::Flag,
                from.span,
                format!(
                    "variables are not allowed in --from, found {:?}",
                    from.value
                ),
            )
            .hint(
                "give the image to a stage of its own (FROM $IMAGE AS name) and name that stage",
            ));
        }
        Ok(Transfer {
            sources,
            inline,
            dest,
            from,
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.bool("link"),
            parents: flags.bool("parents"),
            exclude: flags.list("exclude"),
        })
    }

    /// The heredoc that a source word is.
    fn inline_source(&self, source: &Spanned<String>) -> Option<InlineSource> {
        let start = source.span.start;
        let found = self
            .heredocs
            .binary_search_by_key(&start, |doc| doc.span.start);
        let doc = self.heredocs.get(found.ok()?);
        let doc = doc.filter(|doc| doc.span == source.span)?;
        Some(InlineSource {
            name: Spanned::new(doc.name.clone(), source.span),
            body: doc.content(),
            place: doc.place,
            expand: doc.expand,
        })
    }

    fn add(&self, flags: &Flags) -> Parsed {
        Ok(InstructionKind::Add(Add {
            transfer: self.transfer(flags)?,
            checksum: flags.text("checksum"),
            keep_git_dir: flags.bool("keep-git-dir"),
            unpack: flags.bool("unpack"),
        }))
    }

    fn volume(&self) -> Parsed {
        let mut volumes = self.list()?;
        if volumes.is_empty() {
            return Err(self.error("VOLUME needs at least one path"));
        }
        for volume in &mut volumes {
            volume.value = volume.value.trim().to_owned();
            if volume.value.is_empty() {
                let message = "a volume's path must not be empty";
                return Err(Diagnostic::error(
                    DiagnosticKind::Value,
                    volume.span,
                    message,
                ));
            }
        }
        Ok(InstructionKind::Volume(volumes))
    }

    fn shell(&self) -> Parsed {
        match json_strings(self.head.rest)? {
            Some(argv) if !argv.is_empty() => Ok(InstructionKind::Shell(argv)),
            _ => Err(self
                .error("SHELL takes a JSON array with at least one string")
                .hint("SHELL [\"/bin/bash\", \"-c\"]")),
        }
    }

    fn healthcheck(&self, flags: &Flags) -> Parsed {
        let (kind, rest) = self.head.rest.split(char::is_whitespace);
        let rest = rest.filter(|rest| !rest.text.is_empty());
        let usage = "HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE";
        let check = match (kind.text.to_ascii_uppercase().as_str(), rest) {
            ("NONE", None) => Healthcheck::None,
            ("NONE", Some(_)) => return Err(self.error("HEALTHCHECK NONE takes no arguments")),
            ("CMD", None) => return Err(self.error("HEALTHCHECK CMD needs a command")),
            ("CMD", Some(rest)) => Healthcheck::Cmd {
                command: self.command(rest)?,
                options: healthcheck_options(flags)?,
            },
            ("", _) => {
                return Err(self
                    .error("HEALTHCHECK needs CMD or NONE")
                    .hint("HEALTHCHECK [flags] CMD command, or HEALTHCHECK NONE"));
            }
            _ => {
                let message = match kind.text {
                    "" => "HEALTHCHECK needs CMD or NONE".to_owned(),
                    text => format!("unknown type {text:?} of HEALTHCHECK"),
                };
                let mut error = self.error(message).nearest(kind.text, ["CMD", "NONE"]);
                if !kind.text.is_empty() {
                    error.labels[0].span = kind.span();
                }
                return Err(error.hint(usage));
            }
        };
        Ok(InstructionKind::Healthcheck(check))
    }
}

fn blank_name(word: Part<'_>, keyword: &str) -> Diagnostic {
    let message = format!("{keyword} has an empty name before =");
    Diagnostic::error(DiagnosticKind::Syntax, word.span(), message)
}

fn stage_name(part: Part<'_>) -> Result<Spanned<String>, Diagnostic> {
    let name = part.text.to_lowercase();
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if !starts_well || !name.chars().all(allowed) {
        return Err(Diagnostic::error(
            DiagnosticKind::Stage,
            part.span(),
            format!("invalid stage name {:?}", part.text),
        )
        .hint("a name begins with a letter and holds letters, digits, - _ and . only"));
    }
    Ok(Spanned::new(name, part.span()))
}

fn choice<T: Copy>(
    name: &str,
    flag: Option<Spanned<String>>,
    known: &[(&str, T)],
) -> Result<Option<Spanned<T>>, Diagnostic> {
    let Some(flag) = flag else {
        return Ok(None);
    };
    match known.iter().find(|(name, _)| *name == flag.value) {
        Some((_, value)) => Ok(Some(Spanned::new(*value, flag.span))),
        None => {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let message = format!("unknown value {:?} of --{name}", flag.value);
            Err(Diagnostic::error(DiagnosticKind::Flag, flag.span, message)
                .nearest(&flag.value, names.iter().copied())
                .hint(format!("known values: {}", names.join(", "))))
        }
    }
}

fn healthcheck_options(flags: &Flags) -> Result<HealthcheckOptions, Diagnostic> {
    let duration = |name: &str| match flags.text(name) {
        None => Ok(0),
        Some(flag) => match parse_duration(&flag.value) {
            Some(0) => Ok(0),
            Some(value) if value >= 1_000_000 => Ok(value),
            _ => Err(Diagnostic::error(
                DiagnosticKind::Flag,
                flag.span,
                format!(
                    "--{name} must be 0 or a duration of 1ms or more, not {:?}",
                    flag.value
                ),
            )
            .hint("durations are written as 30s, 1m30s, 500ms")),
        },
    };
    let retries = match flags.text("retries") {
        None => 0,
        Some(flag) => flag
            .value
            .parse::<i32>()
            .ok()
            .filter(|count| *count >= 0)
            .ok_or_else(|| {
                let message = format!("--retries must be a number from 0 on, not {:?}", flag.value);
                Diagnostic::error(DiagnosticKind::Flag, flag.span, message)
            })?,
    };
    Ok(HealthcheckOptions {
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries: retries.into(),
    })
}
