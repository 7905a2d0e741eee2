//! `RUN` (S2, S9).

use super::reference::{Numbers, Source};
use super::state::{Outcome, StageState, join_clean};
use super::step::{InlineFile, RunMount, RunMountKind, RunStep, StepKind};
use super::words::expand_error;
use crate::dockerfile::expand::expand_word;
use crate::dockerfile::{
    CommandLine, Diagnostic, DiagnosticKind, Instruction, Mount, MountFlag, MountKind, Run, Spanned,
};

/// Where scripts that begin with `#!` are mounted.
const SCRIPT_DIR: &str = "/dev/pipes";

impl StageState {
    pub(super) fn run(
        &mut self,
        instruction: &Instruction,
        run: &Run,
        escape: char,
    ) -> Result<Outcome, Diagnostic> {
        let (argv, scripts) = self.run_command(instruction, run);
        let mounts = run.mounts.iter().map(|flag| self.mount(flag, escape));
        let mounts = mounts.collect::<Result<Vec<_>, _>>()?;
        let created_by = format!("RUN {}{} # buildkit", self.args_text(), argv.join(" "));
        let step = RunStep {
            argv,
            env: self.env.pairs().to_vec(),
            proxy_env: self.shared.options.proxy_env(),
            cwd: join_clean("/", self.working_dir()),
            user: self.config.config.user.clone(),
            mounts,
            network: run.network.as_ref().map(|flag| flag.value),
            security: run.security.as_ref().map(|flag| flag.value),
            devices: run.devices.iter().map(|flag| flag.value.clone()).collect(),
            scripts,
        };
        Ok(Outcome {
            created_by,
            empty_layer: false,
            kind: StepKind::Run(Box::new(step)),
        })
    }

    /// The argument vector, and the script it runs if that begins with `#!`.
    fn run_command(&self, instruction: &Instruction, run: &Run) -> (Vec<String>, Vec<InlineFile>) {
        let text = match (&run.command, instruction.heredocs.as_slice()) {
            (command, []) => return (self.argv(command), Vec::new()),
            (_, [script]) if run.is_heredoc => {
                let content = script.content();
                if script.body.starts_with("#!") {
                    let path = format!("{SCRIPT_DIR}/{}", script.name);
                    let name = script.name.clone();
                    return (self.with_shell(&path), vec![InlineFile { name, content }]);
                }
                content
            }
            (CommandLine::Exec(argv), _) => argv.value.join(" "),
            (CommandLine::Shell(text), heredocs) => {
                let mut full = text.value.clone();
                for heredoc in heredocs {
                    full.push('\n');
                    full.push_str(&heredoc.body);
                    full.push_str(&heredoc.name);
                }
                full
            }
        };
        (self.with_shell(&text), Vec::new())
    }

    /// `|N k=v … `, or nothing if no argument was declared.
    fn args_text(&self) -> String {
        if self.args.is_empty() {
            return String::new();
        }
        let mut text = format!("|{} ", self.args.len());
        for name in &self.args {
            let value = self.env.get(name).unwrap_or_default();
            text.push_str(&format!("{name}={value} "));
        }
        text
    }

    fn mount(&self, flag: &MountFlag, escape: char) -> Result<RunMount, Diagnostic> {
        let mount = flag.resolve(&|value| {
            expand_word(value, escape, &self.lookup())
                .map_err(|error| expand_error(&Spanned::new(value.to_owned(), flag.span), &error))
        })?;
        let target = self.mount_target(&mount)?;
        Ok(RunMount {
            span: mount.span,
            readonly: mount.readonly,
            kind: self.mount_kind(&mount, target.as_deref())?,
            target,
        })
    }

    fn mount_target(&self, mount: &Mount) -> Result<Option<String>, Diagnostic> {
        let target = mount.target.as_deref().filter(|target| !target.is_empty());
        let target = target.map(|target| join_clean(self.working_dir(), target));
        if target.as_deref() == Some("/") {
            let message = "the target of a mount must not be /";
            return Err(Diagnostic::error(DiagnosticKind::Flag, mount.span, message));
        }
        if target.is_some() || mount.kind != MountKind::Secret || mount.env.is_some() {
            return Ok(target);
        }
        let id = secret_id(mount, None);
        Ok(Some(format!("/run/secrets/{}", base_name(&id))))
    }

    fn mount_kind(&self, mount: &Mount, target: Option<&str>) -> Result<RunMountKind, Diagnostic> {
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let source = join_clean("/", mount.source.as_deref().unwrap_or_default());
        Ok(match mount.kind {
            MountKind::Bind => RunMountKind::Bind {
                from: self.mount_source(mount)?.unwrap_or(Source::Context),
                source,
            },
            MountKind::Cache => RunMountKind::Cache {
                id: self.cache_id(mount, target.unwrap_or_default()),
                from: self.mount_source(mount)?,
                source,
                sharing: mount.sharing,
                mode: mount.mode.unwrap_or(0o755),
                uid,
                gid,
            },
            MountKind::Tmpfs => RunMountKind::Tmpfs { size: mount.size },
            MountKind::Secret => RunMountKind::Secret {
                id: secret_id(mount, target),
                env: mount.env.clone(),
                required: mount.required,
                mode: mount.mode.unwrap_or(0o400),
                uid,
                gid,
            },
            MountKind::Ssh => RunMountKind::Ssh {
                id: mount.id.clone().unwrap_or_else(|| "default".into()),
                required: mount.required,
                mode: mount.mode.unwrap_or(0o600),
                uid,
                gid,
            },
        })
    }

    fn cache_id(&self, mount: &Mount, target: &str) -> String {
        let id = mount.id.as_deref().filter(|id| !id.is_empty());
        let id = id.unwrap_or(target);
        match self.shared.options.build_arg("BUILDKIT_CACHE_MOUNT_NS") {
            Some(namespace) if !namespace.is_empty() => format!("{namespace}/{id}"),
            _ => id.to_owned(),
        }
    }

    fn mount_source(&self, mount: &Mount) -> Result<Option<Source>, Diagnostic> {
        let Some(from) = mount.from.as_deref().filter(|from| !from.is_empty()) else {
            return Ok(None);
        };
        let names = &self.shared.names;
        names
            .earlier_source(from, Numbers::AreImages, mount.span, self.stage)
            .map(Some)
    }
}

fn secret_id(mount: &Mount, target: Option<&str>) -> String {
    let given = mount.id.as_deref().or(mount.source.as_deref());
    let given = given.filter(|id| !id.is_empty());
    given
        .unwrap_or_else(|| base_name(target.unwrap_or_default()))
        .to_owned()
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
