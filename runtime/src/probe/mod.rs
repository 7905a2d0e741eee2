//! What this process may do, found out by doing: every facility that a sandbox may need is tried in a
//! short-lived child, and where it stopped is kept with its errno.
//!
//! Names, versions and settings decide nothing. [`Findings::verdicts`] says which mode works and what
//! the others lack; [`Findings::choose`] picks one. Nothing of a probe stays: no process, no mount, and
//! no file beneath the places in which files were tried.

mod child;
mod facility;
mod inside;
mod outside;
mod verdict;

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use facility::{Facility, Failed, Trial, Trials};
pub use verdict::{Choice, Lack, Refusal, Verdict};

use crate::holder::{self, HoldError, Holder};
use crate::surroundings::Surroundings;

/// The directories that are made by the two namespaces in a place's scratch directory.
const MANY: &str = "many";
const ONE: &str = "one";

/// Everything that was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// What explains it.
    pub surroundings: Surroundings,
    /// The directories in question for the store.
    pub places: Vec<PathBuf>,
    /// As this process is.
    pub outside: Trials,
    /// In a user namespace with many ids.
    pub many: Trials,
    /// In a user namespace with one id.
    pub one: Trials,
}

/// Tries everything. `places` are directories of ours in which the store could be.
///
/// The process must have one thread. Costs some milliseconds.
///
/// # Errors
/// When not even a child can be started, or nothing can be written in any of the places.
pub fn probe(places: &[PathBuf]) -> io::Result<Findings> {
    let threads = crate::sys::threads()?;
    if threads != 1 {
        return Err(io::Error::other(format!(
            "this process already has {threads} threads"
        )));
    }
    let scratch = Scratch::new(places)?;
    let dirs = &scratch.dirs;
    let mut many = Trials::default();
    let held = holder::many().map(|(holder, _)| holder);
    let holder = reached(held, Facility::ManyIds, &mut many)?;
    if let Some(holder) = holder {
        many.0
            .extend(inside::trials(holder.pid(), dirs, MANY, &|_| true)?.0);
    }
    let mut one = Trials::default();
    if let Some(holder) = reached(holder::one(), Facility::OneId, &mut one)? {
        // Whether a file system holds an upper directory does not depend on the ids.
        let is_known = |place| many.get(Facility::Overlay, Some(place)).is_some();
        one.0
            .extend(inside::trials(holder.pid(), dirs, ONE, &|place| !is_known(place))?.0);
        for place in (0..places.len()).filter(|place| is_known(*place)) {
            one.0
                .extend(many.get(Facility::Overlay, Some(place)).cloned());
        }
    }
    Ok(Findings {
        surroundings: Surroundings::read(),
        places: places.to_owned(),
        outside: outside::trials(dirs)?,
        many,
        one,
    })
}

/// Takes down how far the making of a namespace came.
fn reached(
    held: Result<Holder, HoldError>,
    map: Facility,
    trials: &mut Trials,
) -> io::Result<Option<Holder>> {
    match held {
        Ok(holder) => {
            trials.add(Facility::UserNamespace, Ok(()));
            trials.add(map, Ok(()));
            Ok(Some(holder))
        }
        Err(HoldError::Refused(facility, failed)) => {
            trials.add(facility, Err(failed));
            Ok(None)
        }
        Err(HoldError::Io(doing, error)) => Err(io::Error::new(
            error.kind(),
            format!("cannot {doing}: {error}"),
        )),
    }
}

/// Our directories in the places, gone when this is dropped.
struct Scratch {
    dirs: Vec<PathBuf>,
}

impl Scratch {
    fn new(places: &[PathBuf]) -> io::Result<Self> {
        let mut scratch = Self { dirs: Vec::new() };
        for place in places {
            let dir = nix::unistd::mkdtemp(&place.join("probe-XXXXXX")).map_err(|errno| {
                let error = io::Error::from(errno);
                let why = format!("cannot make a directory in {}: {error}", place.display());
                io::Error::new(error.kind(), why)
            })?;
            scratch.dirs.push(dir);
        }
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be taken away is a few small files.
        self.dirs
            .iter()
            .for_each(|dir| drop(fs::remove_dir_all(dir)));
    }
}
