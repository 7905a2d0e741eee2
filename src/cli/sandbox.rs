//! Which sandbox this process takes and where its store is: found out by a probe, and remembered for as
//! long as nothing that it depends on has changed.
//!
//! What is remembered is a file in the store, under the text of everything that bears on a probe's
//! outcome; a remembered mode that then cannot be entered is forgotten and probed for again. Commands
//! that need no sandbox settle the store's place in the same way, so all of them find the same store.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use runtime::probe::{Choice, Facility, Findings, Refusal, Trials, probe};
use runtime::{EnterError, Entered, Mode};
use serde::{Deserialize, Serialize};

use super::values;
use crate::store::{self, Candidate, StoreError};

/// The variable that names a mode where no flag does.
pub(super) const VARIABLE: &str = "LAPSTRAKE_SANDBOX";

/// A file of more than this is not ours.
const LONGEST: u64 = 1 << 20;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The store that was named, by flag or variable.
    pub(super) root: Option<PathBuf>,
    /// The mode that was named.
    pub(super) mode: Option<Mode>,
    /// The caller's user id.
    pub(super) uid: u32,
}

/// What it came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settled {
    /// The store.
    pub(super) root: PathBuf,
    /// Why it is not at its usual place.
    pub(super) moved: Option<String>,
    choice: Choice,
    /// It was not probed for now.
    #[serde(skip)]
    remembered: bool,
}

/// A probe and what follows from it.
pub(super) struct Probed {
    pub(super) findings: Findings,
    /// The store if there is no mode.
    pub(super) root: PathBuf,
    pub(super) settled: Result<Settled, Refusal>,
}

/// The mode that the flag asks for, else the variable.
///
/// # Errors
/// When the variable names none.
pub(super) fn mode(flag: Option<values::Sandbox>) -> Result<Option<Mode>> {
    if let Some(values::Sandbox(mode)) = flag {
        return Ok(mode);
    }
    let text = values::variable(VARIABLE)?.filter(|text| !text.is_empty());
    Ok(text
        .map(|text| values::sandbox_of(VARIABLE, &text))
        .transpose()?
        .and_then(|values::Sandbox(mode)| mode))
}

impl Wanted {
    /// What is remembered, else what a probe finds.
    pub(super) fn settle(&self) -> Result<Result<Settled, (PathBuf, Refusal)>> {
        if let Some(settled) = self.recall() {
            return Ok(Ok(settled));
        }
        let probed = self.probe()?;
        Ok(probed.settled.map_err(|refusal| (probed.root, refusal)))
    }

    /// Probes afresh, and remembers what was chosen.
    pub(super) fn probe(&self) -> Result<Probed> {
        let (mut places, usual) = self.usual()?;
        let mut others: Vec<Candidate> = Vec::new();
        let mut findings = look(&places)?;
        let why = why_moved(&usual, &findings);
        if self.root.is_none() && (places.is_empty() || findings.lacks_place()) {
            others = self.others(findings.surroundings.overlay_root, true);
            let found = others.iter().map(|other| other.path.clone());
            let found: Vec<_> = found
                .filter(|path| Some(path) != usual.as_ref().ok())
                .collect();
            if let Some((place, fit)) = self.first_fit(&found)? {
                (places, findings) = (vec![place], fit);
            } else if !found.is_empty() {
                places.extend(found);
                findings = look(&places)?;
            }
        }
        findings.places.clone_from(&places);
        let chosen = findings.choose(self.mode);
        let at = chosen.as_ref().map_or(0, |choice| choice.place);
        let Some(root) = places.get(at).cloned() else {
            return Err(usual.map_or_else(Into::into, |_| unreachable!("a place was found")));
        };
        for other in others {
            if other.path != root {
                other.give_back();
            }
        }
        let moved = (usual.as_ref().ok() != Some(&root)).then_some(why);
        let settled = chosen.map(|choice| Settled {
            root: root.clone(),
            moved,
            choice,
            remembered: false,
        });
        if let Ok(settled) = &settled {
            self.remember(settled);
        }
        Ok(Probed {
            findings,
            root,
            settled,
        })
    }

    /// The first of these places that holds overlays, if the mode has any, and what is found there.
    fn first_fit(&self, places: &[PathBuf]) -> Result<Option<(PathBuf, Findings)>> {
        if self.mode == Some(Mode::Chroot) {
            return Ok(None);
        }
        for place in places {
            let findings = look(std::slice::from_ref(place))?;
            let holds = |trials: &Trials| trials.works_in(Facility::Overlay, Some(0));
            if holds(&findings.many) || holds(&findings.one) {
                return Ok(Some((place.clone(), findings)));
            }
        }
        Ok(None)
    }

    /// The place that was named or is taken by default; the error if there is none.
    fn usual(&self) -> Result<(Vec<PathBuf>, Result<PathBuf, StoreError>)> {
        let found = match &self.root {
            Some(root) => {
                store::make_root(root)?;
                Ok(std::path::absolute(root).context("cannot find the working directory")?)
            }
            None => store::default_root(|name| std::env::var_os(name), self.uid),
        };
        Ok(match found {
            Ok(root) => (vec![root.clone()], Ok(root)),
            Err(error @ StoreError::NoRoot { .. }) => (Vec::new(), Err(error)),
            Err(error) => return Err(error.into()),
        })
    }

    fn others(&self, alone: bool, make: bool) -> Vec<Candidate> {
        store::other_places(|name| std::env::var_os(name), self.uid, alone, make)
    }

    /// What was found out earlier in this very environment.
    fn recall(&self) -> Option<Settled> {
        let usual = match &self.root {
            Some(root) => std::path::absolute(root).ok(),
            None => store::default_root(|name| std::env::var_os(name), self.uid).ok(),
        };
        let recalled = usual.and_then(|root| recall(&self.memory(&root), &root));
        if recalled.is_some() || self.root.is_some() {
            return recalled;
        }
        let mut others = self.others(true, false).into_iter();
        others.find_map(|other| recall(&self.memory(&other.path), &other.path))
    }

    fn memory(&self, root: &Path) -> PathBuf {
        root.join(match self.mode {
            Some(mode) => format!("sandbox-{}.json", mode.name()),
            None => "sandbox.json".to_owned(),
        })
    }

    /// A store that cannot be written to will tell so itself.
    fn remember(&self, settled: &Settled) {
        let Some(key) = runtime::environment_key(&settled.root) else {
            return;
        };
        let memory = Memory {
            key,
            settled: settled.clone(),
        };
        drop(write(&self.memory(&settled.root), &memory));
    }

    /// Enters whatever can be entered, to look after the store: where nothing can be tried, as on a full disk,
    /// it has to be possible to make room.
    pub(super) fn enter_store(&self) -> Result<(Entered, PathBuf)> {
        let known = self.settle();
        if let Ok(Ok(settled)) = &known
            && let Ok(entered) = settled.enter()
        {
            return Ok((entered, settled.root.clone()));
        }
        let root = match known {
            Ok(Ok(Settled { root, .. }) | Err((root, _))) => root,
            Err(_) => self.usual()?.1?,
        };
        let options = runtime::EnterOptions { mode: self.mode };
        Ok((runtime::enter(&options)?, root))
    }

    /// Enters the mode that was settled on; one that was only remembered and fails is probed for again.
    ///
    /// Where nothing can be tried, as on a full or a read-only disk, what a sandbox or the store then says is
    /// nearer to the cause: no mode is remembered then.
    pub(super) fn enter(&self) -> Result<(Entered, PathBuf, Option<String>)> {
        let refused = |(_, refusal)| anyhow::Error::from(NoSandbox(refusal));
        let Ok(settled) = self.settle() else {
            let (entered, root) = self.enter_store()?;
            return Ok((entered, root, None));
        };
        let (entered, settled) = self.enter_settled(settled.map_err(refused)?)?;
        Ok((entered, settled.root, settled.moved))
    }

    fn enter_settled(&self, settled: Settled) -> Result<(Entered, Settled)> {
        let refused = |(_, refusal)| anyhow::Error::from(NoSandbox(refusal));
        let error = match settled.enter() {
            Ok(entered) => return Ok((entered, settled)),
            Err(error) => error,
        };
        // Next time it is not trusted, whatever comes of this.
        drop(fs::remove_file(self.memory(&settled.root)));
        // From any other error there is no way back out of the namespace.
        let is_outside = matches!(error, EnterError::Unshare { .. } | EnterError::Map { .. });
        if !settled.remembered || !is_outside {
            return Err(error.into());
        }
        let settled = self.settle()?.map_err(refused)?;
        Ok((settled.enter()?, settled))
    }
}

impl Settled {
    /// The mode.
    pub(super) fn mode(&self) -> Mode {
        self.choice.mode
    }

    fn enter(&self) -> Result<Entered, EnterError> {
        let mut entered = runtime::enter_knowing(self.choice.mode, &self.choice.known)?;
        entered.note = format!("{}: {}", self.choice.mode.name(), entered.note);
        if let Some(weaker) = &self.choice.weaker {
            entered.note += &format!("; no {weaker} (see lapstrake doctor)");
        }
        Ok(entered)
    }
}

/// No mode can be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoSandbox(Refusal);

/// Not even the trials could be made: no process can be started, no file be made, or `/proc` is missing.
#[derive(Debug, thiserror::Error)]
#[error("cannot find out what this process may do{hint}: {0}", hint = hint())]
pub(super) struct CannotTry(io::Error);

fn hint() -> &'static str {
    match fs::exists("/proc/self") {
        Ok(true) => "",
        Ok(false) | Err(_) => " (is /proc mounted?)",
    }
}

/// Tries everything in scratch directories of the places.
fn look(places: &[PathBuf]) -> Result<Findings> {
    let held: Vec<_> = places
        .iter()
        .map(|root| store::ScratchDir::of(root))
        .collect();
    let scratch: Vec<PathBuf> = held.iter().map(|dir| dir.path().to_owned()).collect();
    probe(&scratch).map_err(|error| CannotTry(error).into())
}

/// In one line, why the store is not where it usually is.
fn why_moved(usual: &Result<PathBuf, StoreError>, findings: &Findings) -> String {
    let usual = match usual {
        Ok(usual) => usual.display(),
        Err(error) => return error.to_string(),
    };
    let trials = [&findings.many, &findings.one];
    let mut failed = trials.into_iter().filter_map(|trials| {
        let trial = trials.get(Facility::Overlay, Some(0))?;
        trial.failed.as_ref()
    });
    match failed.next() {
        Some(failed) => format!("{usual} will not do: {failed}"),
        None => format!("{usual} will not do"),
    }
}

/// What is kept of a probe.
#[derive(Serialize, Deserialize)]
struct Memory {
    key: String,
    settled: Settled,
}

fn recall(path: &Path, root: &Path) -> Option<Settled> {
    let text = read(path).ok()?;
    let Memory { key, mut settled } = serde_json::from_slice(&text).ok()?;
    if settled.root != root || runtime::environment_key(root)? != key {
        return None;
    }
    settled.remembered = true;
    Some(settled)
}

/// A file that nobody but us can have written.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    let is_ours = metadata.uid() == nix::unistd::geteuid().as_raw();
    if !metadata.is_file() || !is_ours || metadata.mode() & 0o022 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(text)
}

/// Under another name first, so that nobody reads half of it.
fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let text = serde_json::to_vec(memory)?;
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(&draft)
        .and_then(|mut file| file.write_all(&text));
    written
        .and_then(|()| fs::rename(&draft, path))
        .inspect_err(|_| drop(fs::remove_file(&draft)))
}
