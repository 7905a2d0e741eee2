//! `lapstrake tag`: gives an image one more name.

use anyhow::bail;

use crate::image::Reference;
use crate::store::Store;

/// Give an image another name
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, by name or id
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: Reference,
}

/// Tags the image.
///
/// # Errors
/// When there is no such image, or the new name holds a digest.
pub fn run(args: &Args, store: &Store) -> anyhow::Result<()> {
    if args.target.digest().is_some() {
        bail!("{}: a name cannot be given a digest", args.target);
    }
    let image = store.find_image(&args.source)?;
    store.tag(&args.target, &image.target)?;
    Ok(())
}
