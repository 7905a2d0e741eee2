//! `lapstrake du`: what takes how much space in the store.

use std::io::Write;
use std::time::SystemTime;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::table;
use crate::store::{Store, Usage, UsageRow, UsageThing};

/// Show what takes how much space in the store
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show everything one by one, the largest first
    #[arg(short, long)]
    verbose: bool,
    /// Print a table, or one JSON object per line
    #[arg(long, default_value = "table")]
    format: Format,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Measures the store and tells on `out`.
///
/// # Errors
/// When the store cannot be read or `out` takes no more.
pub fn run(args: &Args, store: &Store, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut usage = store.usage()?;
    // By size, and by name where that is equal, so that it is the same each time.
    let order = |thing: &UsageThing| (std::cmp::Reverse(thing.bytes), thing.name.clone());
    usage.things.sort_by_key(order);
    let now = OffsetDateTime::now_utc();
    if args.json || args.format == Format::Json {
        return as_json(args, &usage, out);
    }
    let rows = match args.verbose {
        true => things(&usage, now),
        false => kinds(&usage, now),
    };
    table::write(out, &rows)?;
    writeln!(out, "\nReclaimable: {}", table::size(usage.reclaimable))?;
    writeln!(out, "Total: {}", table::size(usage.total))?;
    Ok(())
}

fn kinds(usage: &Usage, now: OffsetDateTime) -> Vec<Vec<String>> {
    let mut rows = vec![row(["TYPE", "COUNT", "SIZE", "RECLAIMABLE", "LAST USED"])];
    for kind in &usage.rows {
        rows.push(vec![
            kind.kind.to_owned(),
            kind.count.to_string(),
            table::size(kind.bytes),
            share(kind),
            kind.used.map_or_else(String::new, |used| since(used, now)),
        ]);
    }
    rows
}

fn things(usage: &Usage, now: OffsetDateTime) -> Vec<Vec<String>> {
    let headings = [
        "ID",
        "TYPE",
        "RECLAIMABLE",
        "SIZE",
        "LAST USED",
        "DESCRIPTION",
    ];
    let mut rows = vec![row(headings)];
    for thing in &usage.things {
        let id: String = thing.name.chars().take(table::SHORT_ID).collect();
        rows.push(vec![
            id,
            thing.kind.to_owned(),
            thing.reclaimable.to_string(),
            table::size(thing.bytes),
            since(thing.used, now),
            printable(&thing.about),
        ]);
    }
    rows
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.into_iter().map(str::to_owned).collect()
}

/// What can be had back, with its part of the whole.
fn share(kind: &UsageRow) -> String {
    let free = table::size(kind.reclaimable);
    match (kind.reclaimable * 100).checked_div(kind.bytes) {
        Some(percent) => format!("{free} ({percent}%)"),
        None => free,
    }
}

fn since(used: SystemTime, now: OffsetDateTime) -> String {
    table::since(rfc3339(used).as_deref(), now)
}

fn rfc3339(time: SystemTime) -> Option<String> {
    OffsetDateTime::from(time).format(&Rfc3339).ok()
}

/// A description in one line: commands come from Dockerfiles, names from servers.
fn printable(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(plain).collect()
}

fn as_json(args: &Args, usage: &Usage, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.verbose {
        for thing in &usage.things {
            let value = json!({
                "ID": thing.name,
                "Type": thing.kind,
                "Reclaimable": thing.reclaimable,
                "Size": table::size(thing.bytes),
                "Bytes": thing.bytes,
                "LastUsedAt": rfc3339(thing.used),
                "Description": thing.about,
            });
            writeln!(out, "{value}")?;
        }
        return Ok(());
    }
    for kind in &usage.rows {
        let value = json!({
            "Type": kind.kind,
            "Count": kind.count,
            "Size": table::size(kind.bytes),
            "Bytes": kind.bytes,
            "Reclaimable": table::size(kind.reclaimable),
            "ReclaimableBytes": kind.reclaimable,
            "LastUsedAt": kind.used.and_then(rfc3339),
        });
        writeln!(out, "{value}")?;
    }
    Ok(())
}
