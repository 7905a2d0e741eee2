//! `build --call`: questions about a Dockerfile instead of a build, and how answers are shown.

use std::io::{IsTerminal as _, Write};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::build;
use super::build_args::BuildArgs;
use super::exit::Class;
use super::input::Input;
use super::named;
use super::report::{Diagnostics, SourceText};
use super::table;
use crate::context::IgnoreFile;
use crate::dockerfile::{self, Dockerfile, render};
use crate::image::Platform;
use crate::lint::{self, Checked, Finding, Outline, Parameter, Request};
use crate::plan::{Plan, PlanOptions};

/// What a check with findings ends with, as docker's does.
const FINDINGS: u8 = 1;

/// So many findings of a file are shown with their lines, any further on one line each.
const WITH_LINES: usize = 100;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A build.
    Build,
    /// The findings of the checks.
    Check,
    /// What the target can be given.
    Outline,
    /// The stages.
    Targets,
}

/// How it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// In the shape of `docker build --call`
    Json,
    /// SARIF 2.1.0
    Sarif,
}

/// `METHOD[,format=FORMAT][,ignorestatus=true]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    method: Method,
    format: Format,
    /// Findings end with 0.
    ignore_status: bool,
}

impl Call {
    /// `--check`.
    pub(super) const CHECK: Self = Self {
        method: Method::Check,
        format: Format::Text,
        ignore_status: false,
    };

    pub(super) fn is_build(self) -> bool {
        self.method == Method::Build
    }
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let method = match words.next().unwrap_or_default() {
            "build" => Method::Build,
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            other => {
                return Err(format!(
                    "unknown method {other:?}: expected build, check, outline or targets"
                ));
            }
        };
        let mut call = Self {
            method,
            ..Self::CHECK
        };
        for word in words {
            match word {
                "format=text" => call.format = Format::Text,
                "format=json" => call.format = Format::Json,
                "format=sarif" if method == Method::Check => call.format = Format::Sarif,
                "format=sarif" => return Err("format=sarif is for check only".into()),
                "ignorestatus" | "ignorestatus=true" => call.ignore_status = true,
                "ignorestatus=false" => call.ignore_status = false,
                other => {
                    return Err(format!(
                        "unknown option {other:?}: expected format=text, json or sarif, \
                         or ignorestatus=true"
                    ));
                }
            }
        }
        Ok(call)
    }
}

/// Answers a question about the Dockerfile of a build; nothing is fetched or executed.
///
/// # Errors
/// A Dockerfile that cannot be read, and but for checks one that is wrong.
pub(super) fn run(call: Call, args: &BuildArgs, out: &mut dyn Write) -> Result<u8> {
    let build_args = build::build_args(args)?;
    let (contexts, _) = named::contexts(&args.build_contexts)?;
    let (ignore, source) = Input::read(args, &build_args)?.read_only(args)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let options = build::plan_options(args, build_args, &platform, contexts);
    if call.method == Method::Check {
        let file = check_file(source, &options, ignore.as_ref());
        let code = show(std::slice::from_ref(&file), call.format, out)?;
        let is_ignored = call.ignore_status && code == FINDINGS;
        return Ok(if is_ignored { 0 } else { code });
    }
    let wrong = |found| Diagnostics::new(&source, found);
    let dockerfile = dockerfile::parse(&source.text).map_err(wrong)?;
    match call.method {
        Method::Outline => {
            let plan = Plan::new(&dockerfile, &options).map_err(wrong)?;
            let outline = lint::outline(&dockerfile, &plan);
            match call.format {
                Format::Text => show_outline(&outline, out)?,
                _ => write_json(&outline.json(&source.text), out)?,
            }
        }
        _ => match call.format {
            Format::Text => show_targets(&dockerfile, out)?,
            _ => {
                let targets = lint::targets(&dockerfile);
                write_json(&lint::targets_json(&targets, &source.text), out)?;
            }
        },
    }
    Ok(0)
}

/// Checks one file; base images are not looked at.
pub(super) fn check_file(
    source: SourceText,
    options: &PlanOptions,
    ignore: Option<&IgnoreFile>,
) -> Checked {
    let mut file = Checked {
        name: source.name,
        text: source.text,
        findings: Vec::new(),
        errors: Vec::new(),
    };
    let dockerfile = match dockerfile::parse(&file.text) {
        Ok(dockerfile) => dockerfile,
        Err(errors) => {
            file.errors = errors;
            return file;
        }
    };
    let plan = match Plan::new(&dockerfile, options) {
        Ok(plan) => Some(plan),
        Err(errors) => {
            file.errors = errors;
            None
        }
    };
    let request = Request {
        dockerfile: &dockerfile,
        options,
        plan: plan.as_ref(),
        all_stages: options.target.is_none(),
        ignore,
        bases: &|_, _| None,
    };
    match lint::check(&request) {
        Ok(report) => {
            file.errors.extend(report.violation());
            file.errors.extend(report.mistakes);
            file.findings = report.findings;
        }
        Err(error) => file.errors.push(error),
    }
    file
}

/// Shows what was found; gives the exit status.
pub(super) fn show(files: &[Checked], format: Format, out: &mut dyn Write) -> Result<u8> {
    match format {
        Format::Text => show_findings(files, out)?,
        Format::Json => write_json(&lint::findings_json(files), out)?,
        Format::Sarif => write_json(&lint::sarif(files, env!("CARGO_PKG_VERSION")), out)?,
    }
    let is_wrong = files.iter().any(|file| !file.errors.is_empty());
    let has_findings = files.iter().any(|file| !file.findings.is_empty());
    Ok(match (is_wrong, has_findings) {
        (true, _) => Class::Dockerfile.code(),
        (false, true) => FINDINGS,
        (false, false) => 0,
    })
}

/// Findings go to stdout, errors to stderr.
fn show_findings(files: &[Checked], out: &mut dyn Write) -> Result<()> {
    let color = std::io::stdout().is_terminal();
    let (mut warnings, mut errors) = (0, 0);
    for file in files {
        for shown in findings_text(&file.findings, &file.name, &file.text, color) {
            writeln!(out, "{shown}").context("cannot write to stdout")?;
        }
        warnings += file.findings.len();
        errors += file.errors.len();
        if !file.errors.is_empty() {
            out.flush().context("cannot write to stdout")?;
            let source = SourceText {
                name: file.name.clone(),
                text: file.text.clone(),
            };
            eprintln!("{}\n", Diagnostics::new(&source, file.errors.clone()));
        }
    }
    let mut told = count(warnings, "warning");
    if errors > 0 {
        told = format!("{told}, {}", count(errors, "error"));
    }
    let checked = match files {
        [file] => file.name.clone(),
        files => count(files.len(), "file"),
    };
    writeln!(out, "checked {checked}: {told}").context("cannot write to stdout")
}

/// Findings as people read them; many are not shown with their lines, which takes its time.
pub(super) fn findings_text<'a>(
    findings: &'a [Finding],
    name: &'a str,
    text: &'a str,
    color: bool,
) -> impl Iterator<Item = String> + 'a {
    findings.iter().enumerate().map(move |(index, finding)| {
        if index < WITH_LINES {
            format!("{}\n", render(&finding.diagnostic(), name, text, color))
        } else {
            format!("{name}: {}", finding.summary())
        }
    })
}

/// `no warnings`, `1 warning`, `2 warnings`.
pub(super) fn count(number: usize, what: &str) -> String {
    match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// Writes `value` on lines of its own.
pub(super) fn write_json(value: &Value, out: &mut dyn Write) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).context("cannot write to stdout")?;
    writeln!(out).context("cannot write to stdout")
}

fn show_outline(outline: &Outline, out: &mut dyn Write) -> Result<()> {
    let mut first = true;
    let mut list = |rows: Vec<Vec<String>>| -> Result<()> {
        if rows.len() < 2 {
            return Ok(());
        }
        if !std::mem::take(&mut first) {
            writeln!(out)?;
        }
        Ok(table::write(out, &rows)?)
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let head = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    if outline.name.is_some() || outline.description.is_some() {
        let row = vec![text(&outline.name), text(&outline.description)];
        list(vec![head(&["TARGET", "DESCRIPTION"]), row])?;
    }
    let args = outline.args.iter();
    let args = args.map(|arg| vec![arg.name.clone(), text(&arg.value), text(&arg.description)]);
    list(with(head(&["BUILD ARG", "VALUE", "DESCRIPTION"]), args))?;
    list(with(
        head(&["SECRET", "REQUIRED"]),
        outline.secrets.iter().map(parameter),
    ))?;
    list(with(
        head(&["SSH", "REQUIRED"]),
        outline.ssh.iter().map(parameter),
    ))?;
    let caches = outline.caches.iter().map(|cache| vec![cache.id.clone()]);
    list(with(head(&["CACHE"]), caches))
}

fn with(head: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    std::iter::once(head).chain(rows).collect()
}

fn parameter(parameter: &Parameter) -> Vec<String> {
    let required = if parameter.required { "yes" } else { "" };
    vec![parameter.name.clone(), required.to_owned()]
}

fn show_targets(dockerfile: &Dockerfile, out: &mut dyn Write) -> Result<()> {
    let rows = lint::targets(dockerfile).into_iter().map(|target| {
        let name = target.name.unwrap_or_else(|| "<no name>".into());
        let mark = if target.default { " (default)" } else { "" };
        let description = target.description.unwrap_or_default();
        vec![format!("{name}{mark}"), target.base, description]
    });
    let head = ["TARGET", "BASE", "DESCRIPTION"]
        .map(str::to_owned)
        .to_vec();
    Ok(table::write(out, &with(head, rows))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_findings_are_told_on_a_line_each() {
        let source = SourceText {
            name: "f".into(),
            text: format!("FROM a\n{}", "MAINTAINER x\n".repeat(WITH_LINES + 2)),
        };
        let file = check_file(source, &PlanOptions::default(), None);
        let shown: Vec<String> =
            findings_text(&file.findings, &file.name, &file.text, false).collect();
        assert_eq!(shown.len(), WITH_LINES + 2);
        assert!(
            shown[WITH_LINES - 1].contains("f:101:1"),
            "{}",
            shown[WITH_LINES - 1]
        );
        let last = &shown[WITH_LINES + 1];
        assert!(last.starts_with("f: MaintainerDeprecated: "), "{last}");
        assert!(last.ends_with("(line 103)"), "{last}");
    }

    #[test]
    fn calls() {
        for (text, method, format, ignore_status) in [
            ("build", Method::Build, Format::Text, false),
            ("check", Method::Check, Format::Text, false),
            ("check,format=json", Method::Check, Format::Json, false),
            (
                "lint,format=sarif,ignorestatus=true",
                Method::Check,
                Format::Sarif,
                true,
            ),
            ("targets,format=json", Method::Targets, Format::Json, false),
            (
                "outline,ignorestatus=false",
                Method::Outline,
                Format::Text,
                false,
            ),
        ] {
            let call = Call {
                method,
                format,
                ignore_status,
            };
            assert_eq!(text.parse(), Ok(call), "{text}");
        }
        for text in [
            "",
            "explain",
            "check,json",
            "outline,format=sarif",
            "check,format=xml",
        ] {
            assert!(text.parse::<Call>().is_err(), "{text}");
        }
    }
}
