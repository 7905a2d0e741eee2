//! `lapstrake images`: what is in the store.

use std::io::Write;

use serde_json::json;
use time::OffsetDateTime;

use super::table;
use crate::image::{Digest, Reference};
use crate::store::{Store, StoredImage};

/// List images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only this repository, or this one tag of it
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Show all images; there are no intermediate ones to hide, so nothing more than without
    #[arg(short, long)]
    all: bool,
    /// Show only image ids
    #[arg(short, long)]
    quiet: bool,
    /// Show digests of manifests
    #[arg(long)]
    digests: bool,
    /// Don't shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Print a table, or one JSON object per line
    #[arg(long, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// One line of the listing: an image under one of its names.
struct Line {
    repository: String,
    tag: String,
    id: Digest,
    digest: Digest,
    created: Option<String>,
    size: u64,
}

const NONE: &str = "<none>";

/// Prints the images of the store to `out`, newest first.
///
/// # Errors
/// When the store cannot be read or `out` takes no more; when an image is damaged, after the others
/// were listed.
pub fn run(args: &Args, store: &Store, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    let (images, damaged) = store.images()?;
    for image in images {
        let size = unpacked_size(store, &image)?;
        let wanted = |line: &Line| matches(args.name.as_deref(), line);
        lines.extend(lines_of(&image, size).into_iter().filter(wanted));
    }
    lines.sort_by(|left, right| right.created.cmp(&left.created));
    list(args, &lines, out)?;
    match damaged.into_iter().next() {
        Some((name, error)) => Err(anyhow::Error::new(error).context(format!(
            "the image {name} is damaged: remove it with lapstrake rmi {name}"
        ))),
        None => Ok(()),
    }
}

fn list(args: &Args, lines: &[Line], out: &mut dyn Write) -> anyhow::Result<()> {
    if args.quiet {
        let mut seen = std::collections::HashSet::new();
        for line in lines.iter().filter(|line| seen.insert(line.id.clone())) {
            writeln!(out, "{}", shown(&line.id, args.no_trunc))?;
        }
        return Ok(());
    }
    let now = OffsetDateTime::now_utc();
    match args.format {
        Format::Json => {
            for line in lines {
                writeln!(out, "{}", line.json(args, now))?;
            }
        }
        Format::Table => {
            let mut rows = vec![headings(args)];
            rows.extend(lines.iter().map(|line| line.row(args, now)));
            table::write(out, &rows)?;
        }
    }
    Ok(())
}

fn headings(args: &Args) -> Vec<String> {
    let mut row = vec!["REPOSITORY", "TAG"];
    if args.digests {
        row.push("DIGEST");
    }
    row.extend(["IMAGE ID", "CREATED", "SIZE"]);
    row.into_iter().map(str::to_owned).collect()
}

impl Line {
    fn row(&self, args: &Args, now: OffsetDateTime) -> Vec<String> {
        let mut row = vec![self.repository.clone(), self.tag.clone()];
        if args.digests {
            row.push(self.digest.to_string());
        }
        row.push(shown(&self.id, args.no_trunc));
        row.push(table::since(self.created.as_deref(), now));
        row.push(table::size(self.size));
        row
    }

    fn json(&self, args: &Args, now: OffsetDateTime) -> serde_json::Value {
        json!({
            "Repository": self.repository,
            "Tag": self.tag,
            "Digest": self.digest,
            "ID": shown(&self.id, args.no_trunc),
            "CreatedAt": self.created,
            "CreatedSince": table::since(self.created.as_deref(), now),
            "Size": table::size(self.size),
        })
    }
}

fn shown(id: &Digest, whole: bool) -> String {
    if whole {
        id.to_string()
    } else {
        id.hex()[..table::SHORT_ID].to_owned()
    }
}

fn lines_of(image: &StoredImage, size: u64) -> Vec<Line> {
    let line = |repository: String, tag: String| Line {
        repository,
        tag,
        id: image.id.clone(),
        digest: image.manifest_digest.clone(),
        created: image.config.created.clone(),
        size,
    };
    if image.names.is_empty() {
        return vec![line(NONE.into(), NONE.into())];
    }
    let parts = |name: &Reference| {
        let familiar = name.familiar();
        let repository = familiar.split('@').next().unwrap_or_default();
        match name.tag() {
            Some(tag) => {
                let repository = repository.strip_suffix(tag).unwrap_or(repository);
                line(repository.trim_end_matches(':').to_owned(), tag.to_owned())
            }
            None => line(repository.to_owned(), NONE.to_owned()),
        }
    };
    image.names.iter().map(parts).collect()
}

/// Whether a line is what was asked for: `alpine` means every tag of it.
fn matches(wanted: Option<&str>, line: &Line) -> bool {
    let Some(wanted) = wanted else { return true };
    let Ok(name) = wanted.parse::<Reference>() else {
        return false;
    };
    let familiar = name.familiar();
    let (repository, tag) = familiar.rsplit_once(':').unwrap_or((&familiar, ""));
    let has_tag = wanted.rsplit('/').next().unwrap_or_default().contains(':');
    line.repository == repository && (!has_tag || line.tag == tag)
}

/// The size of an image's files; of layers that are not unpacked, that of their blobs.
fn unpacked_size(store: &Store, image: &StoredImage) -> anyhow::Result<u64> {
    let mut total = 0;
    let diff_ids = &image.config.rootfs.diff_ids;
    for (at, layer) in image.manifest.layers.iter().enumerate() {
        let diff_id = diff_ids.get(at).and_then(|id| id.parse::<Digest>().ok());
        let record = match diff_id {
            Some(diff_id) => store.layer_by_diff_id(&diff_id)?,
            None => None,
        };
        total += match record {
            Some(record) if record.meta.size > 0 => record.meta.size,
            _ => layer.size,
        };
    }
    Ok(total)
}
