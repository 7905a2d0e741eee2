//! What is kept of a failed RUN, and how to look inside.

use std::path::Path;

use anyhow::Result;

use crate::build::{BuiltImage, Cancel, Environment, RunFailed};
use crate::layer::Compression;
use crate::output;

/// Puts what a failed RUN left behind into the store, as an image without a name, and gives the
/// lines that tell how to enter it; without anything kept, how to have it kept. None if no RUN
/// failed.
pub(super) fn keep(
    env: &Environment<'_>,
    error: &anyhow::Error,
    root: Option<&Path>,
) -> Option<String> {
    let failed = error.chain().find_map(|cause| cause.downcast_ref());
    let RunFailed { kept, .. } = failed?;
    let Some(image) = kept else {
        let help = "to look at what it left behind, build again with --keep-failed";
        return (!env.settings.keep_failed).then(|| help.to_owned());
    };
    Some(match store(env, image) {
        Ok(id) => {
            let root = root.map_or_else(String::new, |root| format!("--root {} ", quoted(root)));
            format!(
                "what it left behind is kept until the next prune; to look inside:\n  lapstrake {root}run {id} sh"
            )
        }
        Err(why) => format!("what it left behind cannot be kept: {why:#}"),
    })
}

/// Makes an image without a name, and gives as much of its id as names it.
fn store(env: &Environment<'_>, image: &BuiltImage) -> Result<String> {
    // The build's own has been pulled by the failure.
    let cancel = Cancel::default();
    let plain = Compression::Uncompressed;
    let kept = output::assemble(env, image, plain, &cancel)?;
    env.store.keep_unnamed(&kept.descriptor)?;
    env.store.settle()?;
    Ok(kept.id.hex()[..12].to_owned())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:,@%".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
