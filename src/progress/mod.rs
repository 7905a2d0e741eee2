//! Build events, and who draws them.
//!
//! The builder tells what happens to a [`Progress`]; a [`Sink`] draws it. Nothing here knows what
//! a step is made of, and nothing is ever written to stdout, which carries data only.

mod json;
mod plain;
mod reason;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use json::Json;
pub use plain::Plain;
pub use reason::{Reason, ReasonKind};

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was executed.
    Done,
    /// An earlier result was used.
    Cached,
    /// It failed; the error is told by whoever ends the build.
    Failed,
    /// It was ended because another step failed or the build was cancelled.
    Cancelled,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step began.
    Started {
        /// The step's number, from 1.
        step: u32,
        /// What people read: `[builder 2/4] RUN make`.
        name: &'a str,
    },
    /// A step was not found in the cache.
    Missed {
        /// The step's number.
        step: u32,
        /// Why.
        reason: &'a Reason,
    },
    /// A step's process wrote something.
    Output {
        /// The step's number.
        step: u32,
        /// Time since the step began.
        elapsed: Duration,
        /// One line without its end, or the last unended piece.
        line: &'a [u8],
    },
    /// A step ended.
    Finished {
        /// The step's number.
        step: u32,
        /// How.
        outcome: Outcome,
        /// Time since the step began.
        elapsed: Duration,
        /// Why it was not found in the cache, if it was looked for.
        reason: Option<&'a Reason>,
    },
    /// Something worth knowing that belongs to no step.
    Note(&'a str),
    /// Something the user may want to mend.
    Warning(&'a str),
    /// Something that people are told in another way.
    Data {
        /// What it is called.
        event: &'a str,
        /// An object.
        value: &'a serde_json::Value,
    },
}

/// Draws events; called from several threads.
pub trait Sink: Send + Sync {
    /// Draws one event.
    fn event(&self, event: &Event<'_>);
}

/// Draws nothing.
#[derive(Debug)]
pub struct Quiet;

impl Sink for Quiet {
    fn event(&self, _event: &Event<'_>) {}
}

/// The handle through which the builder tells what happens.
#[derive(Clone)]
pub struct Progress {
    sink: Arc<dyn Sink>,
    next: Arc<AtomicU32>,
}

impl Progress {
    /// Events go to `sink`.
    pub fn new(sink: impl Sink + 'static) -> Self {
        Self {
            sink: Arc::new(sink),
            next: Arc::new(AtomicU32::new(1)),
        }
    }

    /// Begins a step.
    pub fn start(&self, name: &str) -> Step {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.sink.event(&Event::Started { step: number, name });
        Step {
            sink: Arc::clone(&self.sink),
            number,
            began: Instant::now(),
            reason: None,
            ended: false,
        }
    }

    /// Tells something that belongs to no step.
    pub fn note(&self, text: &str) {
        self.sink.event(&Event::Note(text));
    }

    /// Tells something the user may want to mend.
    pub fn warn(&self, text: &str) {
        self.sink.event(&Event::Warning(text));
    }

    /// Hands `value`, an object, to programs that follow.
    pub fn data(&self, event: &str, value: &serde_json::Value) {
        self.sink.event(&Event::Data { event, value });
    }
}

/// A step that has begun. Dropped without [`Step::finish`], it has failed.
pub struct Step {
    sink: Arc<dyn Sink>,
    number: u32,
    began: Instant,
    reason: Option<Reason>,
    ended: bool,
}

impl Step {
    /// Tells why the step is executed.
    pub fn missed(&mut self, reason: Reason) {
        let step = self.number;
        self.sink.event(&Event::Missed {
            step,
            reason: &reason,
        });
        self.reason = Some(reason);
    }

    /// Passes on a line that the step's process wrote.
    pub fn output(&self, line: &[u8]) {
        let elapsed = self.began.elapsed();
        self.sink.event(&Event::Output {
            step: self.number,
            elapsed,
            line,
        });
    }

    /// Ends the step.
    pub fn finish(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.ended, true) {
            let elapsed = self.began.elapsed();
            self.sink.event(&Event::Finished {
                step: self.number,
                outcome,
                elapsed,
                reason: self.reason.as_ref(),
            });
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.end(Outcome::Failed);
    }
}
