//! From what was found out to the modes: which works where, what the others lack, and which is taken.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Findings;
use super::facility::{Facility, Failed, Trials};
use crate::diagnose::{self, Advice};
use crate::enter::{Known, Mode};

/// The name of what is to come for processes that may do nothing of this.
const PATHS: &str = "paths";

/// What a mode comes to here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The name on the command line.
    pub name: String,
    /// The mode; none for one that this version does not have.
    #[serde(skip)]
    pub mode: Option<Mode>,
    /// Whether it works, in `place` if it needs one.
    pub works: bool,
    /// The first place in which it works.
    #[serde(skip)]
    pub place: Option<usize>,
    /// What it lacks; empty if it works.
    pub lacks: Vec<Lack>,
    /// What is weaker than it could be though it works.
    pub limits: Vec<Lack>,
}

/// A facility that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What was tried; none for what this version does not have.
    pub facility: Option<Facility>,
    /// Where it stopped.
    pub failed: Failed,
    /// Why, and what helps.
    pub advice: Advice,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.failed, self.advice)
    }
}

/// The mode that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The mode.
    pub mode: Mode,
    /// Which of the places the store is to be in.
    pub place: usize,
    /// What entering it need not try again.
    pub known: Known,
    /// Why nothing stronger, in short: the stronger mode and the step that failed.
    pub weaker: Option<String>,
}

/// No mode can be had, or not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The mode that was asked for.
    asked: Option<Mode>,
    /// Why not: of every mode's lacks the one that is mended most easily.
    why: Option<Lack>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked {
            Some(mode) => write!(f, "the sandbox {} cannot be had here", mode.name())?,
            None => write!(f, "no sandbox can be had here")?,
        }
        if let Some(lack) = &self.why {
            write!(f, ": {lack}")?;
        }
        write!(f, "; `lapstrake doctor` tells more")
    }
}

impl Findings {
    /// What each mode comes to, strongest first, and at the end what this version does not have.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut all: Vec<Verdict> = Mode::ALL.map(|mode| self.verdict(mode)).into();
        all.push(self.paths());
        all
    }

    /// The strongest mode that works, or the one that is asked for.
    ///
    /// # Errors
    /// When none works, or not the one.
    pub fn choose(&self, asked: Option<Mode>) -> Result<Choice, Refusal> {
        let mut refused: Vec<(Mode, Lack)> = Vec::new();
        for mode in Mode::ALL {
            if asked.is_some_and(|asked| asked != mode) {
                continue;
            }
            let verdict = self.verdict(mode);
            if let Some(place) = verdict.place.filter(|_| verdict.works) {
                return Ok(Choice {
                    mode,
                    place,
                    known: self.known(mode),
                    weaker: self.weaker(mode),
                });
            } else {
                let first = verdict.lacks.into_iter().next();
                refused.extend(first.map(|lack| (mode, lack)));
            }
        }
        Err(Refusal {
            asked,
            why: self.nearest(refused),
        })
    }

    /// The lack of the mode that asks for least: for root to change its root directory, for others a user
    /// namespace with their own id.
    fn nearest(&self, refused: Vec<(Mode, Lack)>) -> Option<Lack> {
        let least = match self.surroundings.uid {
            0 => Mode::Chroot,
            _ => Mode::UsernsOne,
        };
        let (mut of_least, mut others): (Vec<_>, Vec<_>) =
            refused.into_iter().partition(|(mode, _)| *mode == least);
        let (_, lack) = of_least.pop().or_else(|| others.pop())?;
        Some(lack)
    }

    /// What one mode comes to.
    pub fn verdict(&self, mode: Mode) -> Verdict {
        let (lacks, place) = match mode {
            Mode::UsernsMany => self.mounts(&self.many, Facility::ManyIds),
            Mode::UsernsOne => self.mounts(&self.one, Facility::OneId),
            Mode::Chroot => self.chroot(),
        };
        let works = lacks.is_empty();
        Verdict {
            name: mode.name().to_owned(),
            mode: Some(mode),
            limits: if works { self.limits(mode) } else { Vec::new() },
            works,
            place,
            lacks,
        }
    }

    /// Whether mounts are possible and only the places' file systems are unfit for an overlay. A full disk is
    /// not.
    pub fn lacks_place(&self) -> bool {
        const UNFIT: [i32; 5] = [
            libc::EINVAL,
            libc::EOPNOTSUPP,
            libc::EPERM,
            libc::EIO,
            libc::EXDEV,
        ];
        let is_unfit = |trials: &Trials, place| {
            let trial = trials.get(Facility::Overlay, Some(place));
            let failed = trial.and_then(|trial| trial.failed.as_ref());
            failed.is_some_and(|failed| UNFIT.contains(&failed.errno))
        };
        let mut mounting = [&self.many, &self.one].into_iter();
        mounting.any(|trials| {
            let mut places = 0..self.places.len();
            trials.works(Facility::Tmpfs) && places.all(|place| is_unfit(trials, place))
        })
    }

    /// The modes with a user namespace in which mounts are made.
    fn mounts(&self, trials: &Trials, map: Facility) -> (Vec<Lack>, Option<usize>) {
        let steps = [
            Facility::UserNamespace,
            map,
            Facility::MountNamespace,
            Facility::SystemCalls,
            Facility::BindMount,
            Facility::OuterProc,
            Facility::HostNamespaces,
            Facility::Tmpfs,
        ];
        let mut lacks: Vec<Lack> = steps
            .into_iter()
            .filter_map(|facility| self.lack(trials, facility, None))
            .collect();
        if trials.get(Facility::UserNamespace, None).is_none() {
            // What a map needs was missing before the namespace was tried; the other map's was.
            let tried = self.lack(&self.one, Facility::UserNamespace, None);
            lacks.splice(0..0, tried);
        }
        if !trials.works(Facility::PivotRoot) && !trials.works(Facility::MoveRoot) {
            let other = self.lack(trials, Facility::MoveRoot, None);
            lacks.extend(other.or_else(|| self.lack(trials, Facility::PivotRoot, None)));
        }
        lacks.extend(self.lack(&self.outside, Facility::SeccompFilter, None));
        let mut places = 0..self.places.len();
        let place = places.find(|place| trials.works_in(Facility::Overlay, Some(*place)));
        if place.is_none() {
            lacks.extend(self.lack(trials, Facility::Overlay, Some(0)));
        }
        if lacks.is_empty() && place.is_none() {
            let nowhere = Failed::said("try it", "there is no place to try it in");
            lacks.push(self.explained(Facility::Overlay, nowhere));
        }
        (lacks, place)
    }

    /// In the first place where a step's files can be what they have to be.
    fn chroot(&self) -> (Vec<Lack>, Option<usize>) {
        let all = (0..self.places.len()).map(|place| self.chroot_in(Some(place)));
        let fit = all.clone().find(|(lacks, _)| lacks.is_empty());
        fit.or_else(|| all.into_iter().next())
            .unwrap_or_else(|| self.chroot_in(None))
    }

    fn chroot_in(&self, place: Option<usize>) -> (Vec<Lack>, Option<usize>) {
        let identity = [Facility::Chroot, Facility::SetIds];
        let of = |trials: &Trials| -> Vec<Lack> {
            let lacks = identity.into_iter();
            lacks
                .filter_map(|facility| self.lack(trials, facility, None))
                .collect()
        };
        let mut lacks = of(&self.outside);
        if !lacks.is_empty() && self.is_within() {
            lacks.clear();
        } else {
            lacks.extend(self.lack(&self.outside, Facility::ChangeOwner, place));
        }
        lacks.extend(self.lack(&self.outside, Facility::Programs, place));
        for facility in [Facility::SeccompFilter, Facility::SeccompNotification] {
            lacks.extend(self.lack(&self.outside, facility, None));
        }
        (lacks, place)
    }

    /// Whether what `chroot` mode does works in a user namespace with many ids.
    fn is_within(&self) -> bool {
        self.many.works(Facility::Chroot) && self.many.works(Facility::SetIds)
    }

    fn paths(&self) -> Verdict {
        let mut lacks: Vec<Lack> = self
            .lack(&self.outside, Facility::SeccompNotification, None)
            .into_iter()
            .collect();
        lacks.push(Lack {
            facility: None,
            failed: Failed::said("use it", "it needs path supervision"),
            advice: Advice {
                cause: "this version does not have it".to_owned(),
                cure: "use one of the other modes".to_owned(),
            },
        });
        Verdict {
            name: PATHS.to_owned(),
            mode: None,
            works: false,
            place: None,
            lacks,
            limits: Vec::new(),
        }
    }

    /// What works in a weaker way.
    fn limits(&self, mode: Mode) -> Vec<Lack> {
        let trials = match mode {
            Mode::UsernsMany => &self.many,
            Mode::UsernsOne => &self.one,
            Mode::Chroot => return Vec::new(),
        };
        let mut facilities = vec![
            (trials, Facility::FreshProc),
            (trials, Facility::PivotRoot),
            (trials, Facility::NetworkNamespace),
        ];
        if mode == Mode::UsernsOne {
            facilities.push((&self.outside, Facility::SeccompNotification));
        }
        facilities
            .into_iter()
            .filter_map(|(trials, facility)| self.lack(trials, facility, None))
            .collect()
    }

    fn lack(&self, trials: &Trials, facility: Facility, place: Option<usize>) -> Option<Lack> {
        let failed = trials.get(facility, place)?.failed.clone()?;
        let mut lack = self.explained(facility, failed);
        if is_powerless(trials) {
            // Ubuntu's AppArmor does that, whether or not its sysctl can be read.
            let mut around = self.surroundings.clone();
            around.apparmor_userns = Some(true);
            lack.advice = diagnose::explain(facility, &lack.failed, &around);
        }
        if let Some(place) = place.and_then(|place| self.places.get(place)) {
            let named = format!("in {}", place.display());
            lack.failed.step = lack.failed.step.replace("there", &named);
        }
        Some(lack)
    }

    fn explained(&self, facility: Facility, failed: Failed) -> Lack {
        Lack {
            facility: Some(facility),
            advice: diagnose::explain(facility, &failed, &self.surroundings),
            failed,
        }
    }

    fn known(&self, mode: Mode) -> Known {
        let trials = match mode {
            Mode::UsernsOne => &self.one,
            _ => &self.many,
        };
        let unheard = self.lack(&self.outside, Facility::SeccompNotification, None);
        let real = self.outside.works(Facility::Chroot) && self.outside.works(Facility::SetIds);
        Known {
            unsupervised: unheard.map(|lack| format!("{}: {}", lack.failed, lack.advice.cause)),
            fresh_proc: trials.works(Facility::FreshProc),
            within: mode == Mode::Chroot && !real,
        }
    }

    /// Why it is not the next stronger mode.
    fn weaker(&self, mode: Mode) -> Option<String> {
        let stronger = match mode {
            Mode::UsernsMany => return None,
            Mode::UsernsOne | Mode::Chroot => Mode::UsernsMany,
        };
        let lack = self.verdict(stronger).lacks.into_iter().next()?;
        Some(format!("{}: {}", stronger.name(), lack.failed))
    }
}

/// Whether a user namespace was entered in which nothing is allowed.
fn is_powerless(trials: &Trials) -> bool {
    let refused = |facility| {
        trials
            .get(facility, None)
            .is_some_and(|t| t.failed.is_some())
    };
    refused(Facility::MountNamespace) && refused(Facility::Chroot)
}

#[cfg(test)]
#[path = "verdict/tests.rs"]
mod tests;
