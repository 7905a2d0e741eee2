//! `lapstrake doctor`: what works here, which sandbox is taken, and how to get a stronger one.

use std::io::Write;

use anyhow::{Context as _, Result};
use runtime::probe::{Facility, Findings, Lack, Trials, Verdict};
use serde_json::{Value, json};

use super::exit::Class;
use super::sandbox::Probed;
use super::{App, Ground, call, table, values};
use crate::build::{Cancel, Foreign, Place, Unsupported};
use crate::image::Platform;

/// The form of `--json`; a change that a reader could trip over makes it another number.
const VERSION: u32 = 1;

/// Show which sandbox works here, why not a stronger one, and what would help
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Also try whether RUN for this platform is executed here; may be repeated
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    platforms: Vec<Platform>,
}

/// Whether steps for a platform are executed.
struct Tried<'a> {
    platform: &'a Platform,
    /// Why not.
    refusal: Option<String>,
}

/// Probes afresh and tells on `out`; gives the exit status, which is 0 if a build can be run here in the
/// mode that is asked for or in any, and every platform that is asked for works in it.
///
/// # Errors
/// When nothing can be tried, or `out` takes no more.
pub fn run(args: &Args, app: &App, out: &mut dyn Write) -> Result<u8> {
    let wanted = app.wanted()?;
    let probed = wanted.probe()?;
    let verdicts: Vec<Verdict> = match wanted.mode {
        None => probed.findings.verdicts(),
        Some(mode) => vec![probed.findings.verdict(mode)],
    };
    let tried = match &probed.settled {
        Ok(_) => try_platforms(&args.platforms, app)?,
        Err(_) => Vec::new(),
    };
    if args.json {
        let mut value = value(&probed, &verdicts);
        if !args.platforms.is_empty() {
            value["platforms"] = tried.iter().map(platform_value).collect();
        }
        call::write_json(&value, out)?;
    } else {
        tell(&probed, &verdicts, out)
            .and_then(|()| tell_platforms(&tried, out))
            .context("cannot write to stdout")?;
    }
    let works = verdicts.iter().any(|verdict| verdict.works)
        && tried.iter().all(|tried| tried.refusal.is_none());
    Ok(if works { 0 } else { Class::Environment.code() })
}

/// Tries each as a build does, in the sandbox that a build gets.
fn try_platforms<'a>(platforms: &'a [Platform], app: &App) -> Result<Vec<Tried<'a>>> {
    if platforms.is_empty() {
        return Ok(Vec::new());
    }
    let entered = app.enter(&|_| {})?;
    let store = app.open_store(&entered)?;
    let ground = Ground::new(&entered, &store)?;
    let cancel = Cancel::default();
    let place = Place {
        store: &store,
        roots: &ground.roots,
        cancel: &cancel,
    };
    let foreign = Foreign::default();
    let attempt = |platform: &'a Platform| {
        let refusal = match foreign.check(&place, platform) {
            Ok(()) => None,
            Err(error) => Some(error.downcast::<Unsupported>()?.to_string()),
        };
        Ok(Tried { platform, refusal })
    };
    platforms.iter().map(attempt).collect()
}

fn tell_platforms(tried: &[Tried<'_>], out: &mut dyn Write) -> std::io::Result<()> {
    if !tried.is_empty() {
        writeln!(out)?;
    }
    for Tried { platform, refusal } in tried {
        match refusal {
            None => writeln!(out, "RUN for {platform} works")?,
            Some(refusal) => writeln!(out, "{refusal}")?,
        }
    }
    Ok(())
}

fn platform_value(tried: &Tried<'_>) -> Value {
    json!({
        "name": tried.platform.to_string(),
        "works": tried.refusal.is_none(),
        "message": tried.refusal,
    })
}

fn tell(probed: &Probed, verdicts: &[Verdict], out: &mut dyn Write) -> std::io::Result<()> {
    let taken = probed.settled.as_ref().ok();
    let mode = taken.map_or("none", |settled| settled.mode().name());
    writeln!(out, "sandbox: {mode}")?;
    write!(out, "store:   {}", probed.root.display())?;
    match taken.and_then(|settled| settled.moved.as_ref()) {
        Some(why) => writeln!(out, "\n         ({why})\n")?,
        None => writeln!(out, "\n")?,
    }
    let mut rows = vec![["MODE", "WORKS", "WHY NOT"].map(str::to_owned).to_vec()];
    for verdict in verdicts {
        let why = verdict.lacks.first();
        rows.push(vec![
            verdict.name.clone(),
            if verdict.works { "yes" } else { "no" }.to_owned(),
            why.map_or_else(String::new, short),
        ]);
    }
    table::write(out, &rows)?;
    let cures = cures(probed, verdicts);
    if !cures.is_empty() {
        writeln!(out, "\nto get more:")?;
    }
    for (name, lack) in cures {
        writeln!(out, "  {name}: {}", lack.advice.cause)?;
        writeln!(out, "    {}", lack.advice.cure)?;
    }
    let limits: Vec<&Lack> = taken
        .and_then(|settled| {
            let name = settled.mode().name();
            verdicts.iter().find(|verdict| verdict.name == name)
        })
        .map(|verdict| verdict.limits.iter().collect())
        .unwrap_or_default();
    if !limits.is_empty() {
        writeln!(out, "\n{mode} works, with these limits:")?;
    }
    for lack in limits {
        let title = lack.facility.map_or("support", Facility::title);
        writeln!(out, "  no {title}: {}", lack.advice.cause)?;
    }
    Ok(())
}

/// The step and the errno.
fn short(lack: &Lack) -> String {
    let failed = &lack.failed;
    match (&failed.said, lack.facility) {
        (Some(said), None) => format!("{said}, which this version does not have")
            .trim_start_matches("it ")
            .to_owned(),
        _ => failed.to_string(),
    }
}

/// What each mode that is stronger than the one taken lacks first; the same thing once.
fn cures<'a>(probed: &Probed, verdicts: &'a [Verdict]) -> Vec<(String, &'a Lack)> {
    let taken = probed.settled.as_ref().ok().map(|settled| settled.mode());
    let stronger = verdicts
        .iter()
        .take_while(|verdict| taken.is_none() || verdict.mode != taken)
        .filter(|verdict| verdict.mode.is_some());
    let mut found: Vec<(String, &Lack)> = Vec::new();
    for verdict in stronger {
        for lack in &verdict.lacks {
            match found
                .iter_mut()
                .find(|(_, known)| known.advice == lack.advice)
            {
                Some((names, _)) if !names.contains(&verdict.name) => {
                    *names = format!("{names}, {}", verdict.name);
                }
                Some(_) => {}
                None => found.push((verdict.name.clone(), lack)),
            }
        }
    }
    found
}

/// The documented form, docs/doctor.md.
fn value(probed: &Probed, verdicts: &[Verdict]) -> Value {
    let Findings {
        surroundings,
        places,
        outside,
        many,
        one,
    } = &probed.findings;
    let settled = probed.settled.as_ref().ok();
    json!({
        "version": VERSION,
        "sandbox": settled.map(|settled| settled.mode().name()),
        "store": {
            "path": probed.root,
            "reason": settled.and_then(|settled| settled.moved.clone()),
            "tried": places,
        },
        "refusal": probed.settled.as_ref().err().map(ToString::to_string),
        "modes": verdicts.iter().map(mode_value).collect::<Vec<_>>(),
        "facilities": {
            "outside": trials_value(outside, &probed.findings),
            "userns-many": trials_value(many, &probed.findings),
            "userns-one": trials_value(one, &probed.findings),
        },
        "process": surroundings,
    })
}

fn mode_value(verdict: &Verdict) -> Value {
    let lacks = |lacks: &[Lack]| -> Vec<Value> { lacks.iter().map(lack_value).collect() };
    json!({
        "name": verdict.name,
        "works": verdict.works,
        "lacks": lacks(&verdict.lacks),
        "limits": lacks(&verdict.limits),
    })
}

fn lack_value(lack: &Lack) -> Value {
    json!({
        "facility": lack.facility.map(Facility::name),
        "step": lack.failed.step,
        "errno": errno(&lack.failed.errno_name()),
        "message": lack.failed.to_string(),
        "cause": lack.advice.cause,
        "cure": lack.advice.cure,
    })
}

fn trials_value(trials: &Trials, findings: &Findings) -> Vec<Value> {
    let place = |place: Option<usize>| place.and_then(|place| findings.places.get(place));
    trials
        .0
        .iter()
        .map(|trial| {
            let failed = trial.failed.as_ref();
            json!({
                "name": trial.facility.name(),
                "place": place(trial.place),
                "works": failed.is_none(),
                "step": failed.map(|failed| &failed.step),
                "errno": failed.and_then(|failed| errno(&failed.errno_name())),
                "message": failed.map(ToString::to_string),
            })
        })
        .collect()
}

fn errno(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}
