//! A stage as the last build had it beside what it is now.

use std::collections::BTreeMap;

use super::{Seen, StageLog, differs};
use crate::build::stage::Stage;
use crate::cache::{
    FieldChange, Runs, StageRuns, StepKey, StepRun, StepRuns, VARIANTS, align, first_change,
};
use crate::progress::{Reason, ReasonKind};
use crate::store::StoreError;

/// The field of a key that stands for everything below the step.
const BELOW: &str = "base";

/// A stage and what it was.
struct Aligned<'a> {
    now: &'a StageLog,
    was: &'a StageRuns,
    /// For each of the stage's texts the place it had.
    places: Vec<Option<usize>>,
}

/// Why `stage` does not find the step of this key.
pub(super) fn why(stage: &Stage<'_>, name: &str, key: &StepKey) -> Result<Reason, StoreError> {
    if let Some(flag) = stage.no_cache_flag() {
        return Ok(Reason::new(ReasonKind::NoCache).named(flag));
    }
    let log = stage.shared.env.steps;
    let earlier = log.earlier(stage.store())?;
    let stages = log.lock();
    let (index, label) = stage.place();
    let nothing = StageLog::default();
    let now = stages.get(&index).unwrap_or(&nothing);
    let never = Reason::new(ReasonKind::NeverBuilt);
    let Some(was) = earlier.stage(label, index, &now.texts) else {
        return Ok(never);
    };
    let aligned = Aligned::new(now, was);
    let text = super::text_of(name);
    let Some(step) = aligned.before(now.next_place(&text)) else {
        return Ok(never);
    };
    if let Some(same) = step.runs.iter().find(|run| run.key == key.digest.as_str()) {
        return Ok(Reason::new(match same.ended {
            true => ReasonKind::LayerGone,
            false => ReasonKind::FailedBefore,
        }));
    }
    let Some(change) = nearest(step, key) else {
        return Ok(never);
    };
    if change.name == BELOW {
        return Ok(aligned.below(&stages, earlier, &text));
    }
    let args = differs::Args {
        now: stage.declared_args(),
        was: &was.args,
    };
    differs::reason(stage.store(), &change, &args, (&step.text, &text))
}

/// The first difference from the run that has most in common with the step as it is.
fn nearest<'f>(step: &'f StepRuns, key: &'f StepKey) -> Option<FieldChange<'f>> {
    let is_alike = |run: &&StepRun| run.fields.first() == key.fields.first();
    let changes = step.runs.iter().filter(is_alike);
    let changes = changes.filter_map(|run| first_change(&run.fields, &key.fields));
    // Of equals the first is the latest.
    let mut best: Option<((usize, usize), FieldChange<'f>)> = None;
    for (same, change) in changes {
        if best.as_ref().is_none_or(|(most, _)| same > *most) {
            best = Some((same, change));
        }
    }
    best.map(|(_, change)| change)
}

impl<'a> Aligned<'a> {
    fn new(now: &'a StageLog, was: &'a StageRuns) -> Self {
        let old: Vec<&str> = was.steps.iter().map(|step| step.text.as_str()).collect();
        let new: Vec<&str> = now.texts.iter().map(String::as_str).collect();
        Self {
            now,
            was,
            places: align(&old, &new),
        }
    }

    /// What the step at `place` of the stage was.
    fn before(&self, place: Option<usize>) -> Option<&'a StepRuns> {
        self.was.steps.get(self.places.get(place?).copied()??)
    }

    /// Why everything below the next step, `text`, is something else.
    fn below(&self, stages: &BTreeMap<usize, StageLog>, earlier: &Runs, text: &str) -> Reason {
        if let Some(reason) = self.first_changed(stages, earlier) {
            return reason;
        }
        let place = self.now.next_place(text);
        let old = place.and_then(|place| self.places.get(place).copied().flatten());
        let gone = (0..old.unwrap_or(0)).find(|at| !self.places.contains(&Some(*at)));
        match gone.and_then(|at| self.was.steps.get(at)) {
            Some(step) => Reason::new(ReasonKind::StepRemoved).named(&step.text),
            None => Reason::new(ReasonKind::StepBefore).named("what the stage begins with"),
        }
    }

    /// The first step of the stage so far that changed.
    fn first_changed(&self, stages: &BTreeMap<usize, StageLog>, earlier: &Runs) -> Option<Reason> {
        let is_known = |seen: &&Seen, most: usize| {
            let step = self.before(seen.place);
            let mut runs = step
                .into_iter()
                .flat_map(|step| step.runs.iter().take(most));
            runs.any(|run| run.key == seen.key.digest.as_str())
        };
        // First what never was, then what was not so the last time.
        let seen = [VARIANTS, 1].iter().find_map(|most| {
            let mut seen = self.now.seen.iter();
            seen.find(|seen| !is_known(seen, *most))
        })?;
        Some(match &seen.name {
            Some(name) => Reason::new(ReasonKind::StepBefore).named(name),
            None => self.base(seen, stages, earlier),
        })
    }

    /// Why the stage begins with something else.
    fn base(&self, seen: &Seen, stages: &BTreeMap<usize, StageLog>, earlier: &Runs) -> Reason {
        if let Some((index, parent)) = self.now.parent.and_then(|at| stages.get_key_value(&at))
            && let Some(was) = earlier.stage(&parent.label, *index, &parent.texts)
            && let Some(reason) = Aligned::new(parent, was).first_changed(stages, earlier)
        {
            return reason;
        }
        let digest = |fields: &[(String, String)]| {
            let field = fields.iter().find(|(name, _)| name == "digest");
            field.map(|(_, value)| value.clone())
        };
        let image = seen.key.fields.iter().find(|(name, _)| name == "image");
        let name = image.map_or(&seen.text, |(_, reference)| reference);
        let old = self.before(seen.place).and_then(|step| step.runs.first());
        Reason {
            old: old.and_then(|run| digest(&run.fields)),
            new: digest(&seen.key.fields),
            ..Reason::new(ReasonKind::Base).named(name)
        }
    }
}

impl StageLog {
    /// The stage as it will be remembered.
    pub(super) fn remembered(&self, index: usize, earlier: &Runs, finished: bool) -> StageRuns {
        let nothing = StageRuns::default();
        let was = earlier
            .stage(&self.label, index, &self.texts)
            .unwrap_or(&nothing);
        let aligned = Aligned::new(self, was);
        let mut last = None;
        let mut steps: Vec<StepRuns> = Vec::new();
        for seen in &self.seen {
            let run = StepRun::new(&seen.key, seen.ended);
            let before = aligned.before(seen.place).map(|step| step.runs.as_slice());
            let others = before.unwrap_or_default().iter();
            let others = others.filter(|known| known.key != run.key).cloned();
            let runs = std::iter::once(run.clone()).chain(others);
            steps.push(StepRuns {
                text: seen.text.clone(),
                runs: runs.take(VARIANTS).collect(),
            });
            let place = seen.place.and_then(|at| aligned.places.get(at).copied());
            last = place.flatten().or(last);
        }
        if !finished {
            let rest = last.map_or(0, |last| last + 1);
            steps.extend(was.steps.iter().skip(rest).cloned());
        }
        let args = match self.args.is_empty() {
            true => was.args.clone(),
            false => self.args.clone(),
        };
        StageRuns {
            label: self.label.clone(),
            index,
            args,
            steps,
        }
    }
}
