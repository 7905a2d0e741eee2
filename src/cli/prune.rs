//! `lapstrake prune`: gives back the space of what no name reaches.

use std::io::{self, IsTerminal, Write};

use anyhow::bail;

use super::exit::UsageError;
use super::table;
use crate::store::{PruneOptions, PruneReport, Store, StoreError};

/// Remove what no image name reaches: unnamed images, layers, blobs and cached steps; and cache
/// mounts that no build has used for a week
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove named images and cache mounts too: everything
    #[arg(short, long)]
    all: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Collects garbage, waiting for other builds to end, and reports on `out`.
///
/// # Errors
/// When the user says no or cannot be asked, and when the store fails.
pub fn run(args: &Args, store: &Store, out: &mut dyn Write) -> anyhow::Result<()> {
    if !args.dry_run && !args.force && !confirmed(args.all)? {
        bail!("nothing was removed");
    }
    let mut options = PruneOptions {
        all: args.all,
        dry_run: args.dry_run,
        wait: false,
    };
    let report = match store.collect(&options) {
        Err(error @ StoreError::Busy { .. }) => {
            writeln!(io::stderr(), "{error}: waiting for it to finish")?;
            options.wait = true;
            store.collect(&options)?
        }
        result => result?,
    };
    for kept in &report.kept {
        writeln!(io::stderr(), "cannot delete {kept}")?;
    }
    print(&report, args.dry_run, out)
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
    writeln!(
        out,
        "Deleted: {} layers, {} blobs, {} cache mounts, {} cache records",
        report.layers, report.blobs, report.caches, report.records
    )?;
    let total = if dry_run {
        "Total space that would be reclaimed"
    } else {
        "Total reclaimed space"
    };
    writeln!(out, "{total}: {}", table::size(report.bytes))?;
    Ok(())
}

fn confirmed(all: bool) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let why = "prune asks before it removes anything, and there is nobody to ask: use --force";
        bail!(UsageError(why.into()));
    }
    let what = if all {
        "every image, every cached step and every cache mount"
    } else {
        "every image without a name, every cached step that no named image uses, and every cache mount unused for a week"
    };
    let mut stderr = io::stderr();
    write!(stderr, "This will remove {what}. Continue? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
