//! A file that parses is planned and evaluated, or refused with errors that can be shown; the plan's
//! order is one in which stages can be built.

use std::collections::BTreeMap;

use super::parse::check_shown;
use super::text;
use crate::dockerfile::{Diagnostic, parse};
use crate::image::{ImageConfig, Platform};
use crate::plan::{Base, Plan, PlanOptions, Stage, StageState};

/// Checks one file for its last stage.
pub fn check(data: &[u8]) {
    let text = text(data);
    let Ok(dockerfile) = parse(&text) else {
        return;
    };
    match Plan::new(&dockerfile, &options()) {
        Ok(plan) => {
            check_order(&plan);
            if let Err(error) = evaluate(&plan) {
                check_shown(&[error], &text);
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "an error that says nothing");
            check_shown(&errors, &text);
        }
    }
}

fn options() -> PlanOptions {
    let platform = Platform {
        os: "linux".into(),
        arch: "amd64".into(),
        variant: String::new(),
    };
    PlanOptions {
        build_args: vec![("given".into(), "1".into())],
        platform: platform.clone(),
        build_platform: platform,
        ..PlanOptions::default()
    }
}

fn check_order(plan: &Plan) {
    let mut done = Vec::new();
    for stage in plan.stages() {
        let ready = stage.depends_on.iter().all(|index| done.contains(index));
        assert!(ready, "stage {} comes before what it needs", stage.index);
        assert!(plan.is_needed(stage.index));
        done.push(stage.index);
    }
    assert_eq!(done.last(), Some(&plan.target()));
    assert_eq!(plan.closure(plan.target()), done);
}

fn evaluate(plan: &Plan) -> Result<(), Diagnostic> {
    let mut done: BTreeMap<usize, StageState> = BTreeMap::new();
    for stage in plan.stages() {
        let mut state = start(plan, stage, &done);
        let triggers = state.triggers()?;
        for instruction in triggers.iter().chain(&stage.instructions) {
            state.apply(instruction)?;
        }
        done.insert(stage.index, state);
    }
    Ok(())
}

fn start(plan: &Plan, stage: &Stage, done: &BTreeMap<usize, StageState>) -> StageState {
    match &stage.base {
        Base::Scratch => StageState::from_image(plan, stage, None),
        Base::Image { .. } | Base::Files(_) => {
            StageState::from_image(plan, stage, Some(&ImageConfig::default()))
        }
        Base::Stage(index) => StageState::from_stage(plan, stage, &done[index]),
    }
}
