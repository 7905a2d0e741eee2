//! The instructions that change the configuration only, and `WORKDIR` (S4, S10).

use super::history::{healthcheck, plain_list, quoted_list};
use super::ports::parse_ports;
use super::signal::{is_signal, nearest_signal};
use super::state::{Outcome, StageState, join_clean};
use super::step::StepKind;
use super::words::expand_error;
use crate::dockerfile::expand::expand_words;
use crate::dockerfile::{
    self, ArgItem, CommandLine, Diagnostic, DiagnosticKind, KeyValue, OnBuild, Spanned,
};
use crate::image::{Empty, Healthcheck};

/// Every port of every protocol.
const MOST_PORTS: usize = 3 << 16;

type Applied = Result<Outcome, Diagnostic>;

/// Arguments that are never put into an environment.
const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl StageState {
    pub(super) fn arg(&mut self, items: &[ArgItem], escape: char) -> Applied {
        let mut created_by = String::from("ARG");
        for item in items {
            let name = self.expand(&item.name, escape)?;
            let value = self.arg_value(&name, item, escape)?;
            created_by.push(' ');
            created_by.push_str(&name);
            if let Some(value) = value {
                created_by.push('=');
                created_by.push_str(&value);
                if !NOT_IN_ENVIRONMENT.contains(&name.as_str()) {
                    self.env.set(&name, value);
                }
            }
            if self.declared.insert(name.clone()) {
                self.args.push(name);
            }
        }
        Ok(Outcome::config(created_by))
    }

    /// Build argument, own default, global value, or none.
    fn arg_value(
        &self,
        name: &str,
        item: &ArgItem,
        escape: char,
    ) -> Result<Option<String>, Diagnostic> {
        if let Some(value) = self.shared.options.build_arg(name) {
            return Ok(Some(value.to_owned()));
        }
        match &item.default {
            Some(default) => self.expand(default, escape).map(Some),
            None => Ok(self.shared.globals.get(name).map(str::to_owned)),
        }
    }

    /// All pairs see the environment as it was before the instruction.
    fn expand_pairs(
        &self,
        pairs: &[KeyValue],
        escape: char,
    ) -> Result<Vec<(String, String)>, Diagnostic> {
        pairs
            .iter()
            .map(|pair| {
                Ok((
                    self.expand(&pair.key, escape)?,
                    self.expand(&pair.value, escape)?,
                ))
            })
            .collect()
    }

    pub(super) fn set_env(&mut self, pairs: &[KeyValue], escape: char) -> Applied {
        let pairs = self.expand_pairs(pairs, escape)?;
        for (name, value) in &pairs {
            self.env.set(name, value.clone());
            let entry = format!("{name}={value}");
            let env = &mut self.config.config.env;
            match self.env_places.get(name) {
                Some(place) => env[*place] = entry,
                None => {
                    self.env_places.insert(name.clone(), env.len());
                    env.push(entry);
                }
            }
        }
        Ok(Outcome::config(pairs_text("ENV", &pairs)))
    }

    pub(super) fn label(&mut self, pairs: &[KeyValue], escape: char) -> Applied {
        let pairs = self.expand_pairs(pairs, escape)?;
        let created_by = pairs_text("LABEL", &pairs);
        self.config.config.labels.extend(pairs);
        Ok(Outcome::config(created_by))
    }

    pub(super) fn workdir(&mut self, path: &Spanned<String>, escape: char) -> Applied {
        let path = self.expand(path, escape)?;
        let path = match path.as_str() {
            "" => self.working_dir().to_owned(),
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            relative => join_clean(self.working_dir(), relative),
        };
        self.config.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            return Ok(Outcome::config(created_by));
        }
        Ok(Outcome {
            created_by,
            empty_layer: false,
            kind: StepKind::Workdir {
                path: join_clean("/", &path),
                user: self.config.config.user.clone(),
            },
        })
    }

    pub(super) fn user(&mut self, user: &Spanned<String>, escape: char) -> Applied {
        let user = self.expand(user, escape)?;
        let created_by = format!("USER {user}");
        self.config.config.user = user;
        Ok(Outcome::config(created_by))
    }

    pub(super) fn expose(&mut self, ports: &[Spanned<String>], escape: char) -> Applied {
        let mut items: Vec<&Spanned<String>> = ports.iter().collect();
        items.sort_by(|left, right| left.value.cmp(&right.value));
        let mut all: Vec<String> = Vec::new();
        for item in items {
            let words = expand_words(&item.value, escape, &self.lookup())
                .map_err(|error| expand_error(item, &error))?;
            for word in words {
                let ports = parse_ports(&word).map_err(|reason| {
                    let message = format!("cannot expose {word:?}: {reason}");
                    Diagnostic::error(DiagnosticKind::Value, item.span, message)
                })?;
                all.extend(ports);
            }
            if all.len() > MOST_PORTS {
                let message = format!("EXPOSE names more than {MOST_PORTS} ports");
                return Err(Diagnostic::error(DiagnosticKind::Value, item.span, message));
            }
        }
        let created_by = format!("EXPOSE {}", plain_list(&all));
        let keys = all.into_iter().map(|port| (port, Empty {}));
        self.config.config.exposed_ports.extend(keys);
        Ok(Outcome::config(created_by))
    }

    pub(super) fn volume(&mut self, paths: &[Spanned<String>], escape: char) -> Applied {
        let mut all = Vec::new();
        for path in paths {
            let expanded = self.expand(path, escape)?;
            if expanded.is_empty() {
                let message = format!("volume {:?} expands to an empty path", path.value);
                return Err(Diagnostic::error(DiagnosticKind::Value, path.span, message));
            }
            all.push(expanded);
        }
        let created_by = format!("VOLUME {}", plain_list(&all));
        let keys = all.into_iter().map(|path| (path, Empty {}));
        self.config.config.volumes.extend(keys);
        Ok(Outcome::config(created_by))
    }

    pub(super) fn cmd(&mut self, command: &CommandLine) -> Outcome {
        let argv = self.argv(command);
        let created_by = format!("CMD {}", quoted_list(&argv));
        self.config.config.cmd = none_if_empty(argv);
        self.config.config.args_escaped = Some(true);
        self.cmd_set = true;
        Outcome::config(created_by)
    }

    pub(super) fn entrypoint(&mut self, command: &CommandLine) -> Outcome {
        let argv = self.argv(command);
        let created_by = format!("ENTRYPOINT {}", quoted_list(&argv));
        self.config.config.entrypoint = none_if_empty(argv);
        if !self.cmd_set {
            self.config.config.cmd = None;
        }
        Outcome::config(created_by)
    }

    pub(super) fn shell(&mut self, argv: &[String]) -> Outcome {
        self.config.config.shell = Some(argv.to_vec());
        Outcome::config(format!("SHELL {}", plain_list(argv)))
    }

    pub(super) fn stop_signal(&mut self, word: &Spanned<String>, escape: char) -> Applied {
        let signal = self.expand(word, escape)?;
        if !is_signal(&signal) {
            let message = format!("{signal:?} is no signal");
            let error = Diagnostic::error(DiagnosticKind::Value, word.span, message);
            return Err(match nearest_signal(&signal) {
                Some(name) => error.hint(format!("did you mean {name}?")),
                None => error.hint("expected a name as SIGTERM, or a positive number"),
            });
        }
        let created_by = format!("STOPSIGNAL {signal}");
        self.config.config.stop_signal = Some(signal);
        Ok(Outcome::config(created_by))
    }

    pub(super) fn healthcheck(&mut self, check: &dockerfile::Healthcheck) -> Outcome {
        let check = match check {
            dockerfile::Healthcheck::None => Healthcheck {
                test: vec!["NONE".into()],
                ..Healthcheck::default()
            },
            dockerfile::Healthcheck::Cmd { command, options } => Healthcheck {
                test: match command {
                    CommandLine::Shell(text) => vec!["CMD-SHELL".into(), text.value.clone()],
                    CommandLine::Exec(argv) => {
                        let head = std::iter::once("CMD".to_owned());
                        head.chain(argv.value.iter().cloned()).collect()
                    }
                },
                interval: options.interval,
                timeout: options.timeout,
                start_period: options.start_period,
                start_interval: options.start_interval,
                retries: options.retries,
            },
        };
        let created_by = format!("HEALTHCHECK {}", healthcheck(&check));
        self.config.config.healthcheck = Some(check);
        Outcome::config(created_by)
    }

    pub(super) fn on_build(&mut self, trigger: &OnBuild) -> Outcome {
        self.config.config.on_build.push(trigger.text.clone());
        Outcome::config(String::new())
    }

    pub(super) fn maintainer(&mut self, name: &Spanned<String>) -> Outcome {
        self.config.author = Some(name.value.clone());
        Outcome::config(format!("MAINTAINER {}", name.value))
    }
}

fn pairs_text(keyword: &str, pairs: &[(String, String)]) -> String {
    let words = pairs.iter().map(|(name, value)| format!(" {name}={value}"));
    std::iter::once(keyword.to_owned()).chain(words).collect()
}

/// An empty list is left out of the configuration's JSON, as Docker does.
fn none_if_empty(argv: Vec<String>) -> Option<Vec<String>> {
    Some(argv).filter(|argv| !argv.is_empty())
}
