//! `lapstrake prune`: gives back the space of what no name reaches and nobody uses.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;

use super::exit::UsageError;
use super::{table, values};
use crate::store::{self, PruneOptions, PruneReport, Store};

/// Remove what no image name reaches and no running build uses: unnamed images, layers, blobs, cached
/// steps, what was fetched; and cache mounts that no build has used for a week
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove named images and cache mounts too: everything that nobody uses
    #[arg(short, long)]
    all: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Remove only what was not used for a time, until=24h, or what is of a type,
    /// type=regular|exec.cachemount|source.local|source.http|source.git.checkout; may be repeated
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
    /// Keep what was used within this time: short for --filter until=TIME
    #[arg(long, alias = "used-within", value_name = "TIME")]
    keep_duration: Option<String>,
    /// Remove the least recently used until the store takes no more than this
    #[arg(long, value_name = "SIZE")]
    max_used_space: Option<String>,
    /// Always leave this much; alone it is how much is left
    #[arg(long, alias = "keep-storage", value_name = "SIZE")]
    reserved_space: Option<String>,
    /// Remove the least recently used until the disk has this much space
    #[arg(long, value_name = "SIZE")]
    min_free_space: Option<String>,
}

/// Collects garbage and reports on `out`. Nobody has to wait: what others use is left alone.
///
/// # Errors
/// When the user says no or cannot be asked, and when the store fails.
pub fn run(
    args: &Args,
    store: &dyn Fn() -> anyhow::Result<Store>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let options = options(args)?;
    if !args.dry_run && !args.force && !confirmed(&options)? {
        bail!("nothing was removed");
    }
    let report = store()?.collect(&options, &|| false)?;
    let mut stderr = io::stderr();
    for kept in &report.kept {
        writeln!(stderr, "cannot delete {kept}")?;
    }
    if report.in_use > 0 {
        writeln!(
            stderr,
            "left alone, in use by running builds: {}",
            report.in_use
        )?;
    }
    if report.others {
        writeln!(
            stderr,
            "other processes have the store open: unfinished files were not looked at"
        )?;
    }
    print(&report, args.dry_run, out)
}

/// What the flags ask for.
fn options(args: &Args) -> Result<PruneOptions, UsageError> {
    let size = |flag, text: &Option<String>| {
        let text = text.as_deref();
        text.map(|text| values::size(flag, text)).transpose()
    };
    let mut options = PruneOptions {
        all: args.all,
        dry_run: args.dry_run,
        max_used: size("--max-used-space", &args.max_used_space)?,
        reserved: size("--reserved-space", &args.reserved_space)?,
        min_free: size("--min-free-space", &args.min_free_space)?,
        ..PruneOptions::default()
    };
    if let Some(text) = &args.keep_duration {
        options.unused_for = Some(values::age("--keep-duration", text)?);
    }
    for filter in &args.filters {
        match filter.split_once('=') {
            Some(("until" | "unused-for", text)) => {
                let age = values::age("--filter until", text)?;
                options.unused_for = options.unused_for.max(Some(age));
            }
            Some(("type", word)) if store::is_prune_type(word) && options.only.is_none() => {
                options.only = Some(word.to_owned());
            }
            Some(("type", _)) => {
                let types: Vec<_> = store::prune_types().collect();
                return Err(UsageError(format!(
                    "--filter {filter:?}: expected one type of {}",
                    types.join(", ")
                )));
            }
            _ => {
                return Err(UsageError(format!(
                    "--filter {filter:?}: expected until=TIME or type=TYPE"
                )));
            }
        }
    }
    Ok(options)
}

fn print(report: &PruneReport, dry_run: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if !report.images.is_empty() {
        writeln!(out, "Deleted Images:")?;
        for name in &report.untagged {
            writeln!(out, "untagged: {name}")?;
        }
        for digest in &report.images {
            writeln!(out, "deleted: {digest}")?;
        }
        writeln!(out)?;
    }
    // Only one sandbox has any.
    let trees = match report.trees {
        0 => String::new(),
        count => format!("{count} trees, "),
    };
    writeln!(
        out,
        "Deleted: {} layers, {} blobs, {} cache mounts, {}{} fetched, {} cache records",
        report.layers, report.blobs, report.caches, trees, report.fetched, report.records
    )?;
    let total = if dry_run {
        "Total space that would be reclaimed"
    } else {
        "Total reclaimed space"
    };
    writeln!(out, "{total}: {}", table::size(report.bytes))?;
    Ok(())
}

fn confirmed(options: &PruneOptions) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let why = "prune asks before it removes anything, and there is nobody to ask: use --force";
        bail!(UsageError(why.into()));
    }
    let is_plain = PruneOptions {
        all: options.all,
        ..PruneOptions::default()
    };
    let what = match (options.all, is_plain == *options) {
        (true, true) => "every image, every cached step and every cache mount",
        (false, true) => {
            "every image without a name, every cached step that no named image uses, and every cache mount unused for a week"
        }
        (true, false) => "images, cached steps and cache mounts as the flags say",
        (false, false) => {
            "images without a name, and cached steps and cache mounts that no named image uses, as the flags say"
        }
    };
    let mut stderr = io::stderr();
    write!(stderr, "This will remove {what}. Continue? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
