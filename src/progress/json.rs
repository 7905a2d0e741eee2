//! One JSON object per line and event, for programs.
//!
//! Every object has `event`, and `time`, RFC 3339 in UTC. The first is `begin` with the version of
//! this form in `schema`. What an object holds is described in `docs/progress.md`; keys may be added
//! within a version.

use std::io::Write;
use std::sync::Mutex;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Event, Outcome, Sink};

/// The version of the form.
const SCHEMA: &str = "lapstrake.progress.v1";

/// Writes every event as a line of JSON to a writer, stderr as a rule.
pub struct Json<W> {
    out: Mutex<W>,
}

impl<W: Write + Send> Json<W> {
    /// Draws on `out`, and begins.
    pub fn new(out: W) -> Self {
        let begun = Self {
            out: Mutex::new(out),
        };
        begun.write(json!({
            "event": "begin",
            "schema": SCHEMA,
            "version": env!("CARGO_PKG_VERSION"),
        }));
        begun
    }

    fn write(&self, mut value: Value) {
        let time = OffsetDateTime::now_utc().format(&Rfc3339);
        value["time"] = json!(time.unwrap_or_default());
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        let mut out = self
            .out
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A closed stderr must not end the build: progress is not data.
        drop(out.write_all(&line).and_then(|()| out.flush()));
    }
}

impl<W: Write + Send> Sink for Json<W> {
    fn event(&self, event: &Event<'_>) {
        self.write(value(event));
    }
}

fn value(event: &Event<'_>) -> Value {
    match event {
        Event::Started { step, name } => json!({"event": "start", "id": step, "name": name}),
        Event::Missed { step, reason } => json!({"event": "miss", "id": step, "reason": reason}),
        Event::Output {
            step,
            elapsed,
            line,
        } => json!({
            "event": "output",
            "id": step,
            "elapsed": elapsed.as_secs_f64(),
            "line": String::from_utf8_lossy(line),
        }),
        Event::Finished {
            step,
            outcome,
            elapsed,
            reason,
        } => {
            let mut value = json!({
                "event": "finish",
                "id": step,
                "outcome": word(*outcome),
                "cached": *outcome == Outcome::Cached,
                "elapsed": elapsed.as_secs_f64(),
            });
            if let Some(reason) = reason {
                value["reason"] = json!(reason);
            }
            value
        }
        Event::Note(text) => json!({"event": "note", "text": text}),
        Event::Warning(text) => json!({"event": "warning", "text": text}),
        Event::Data { event, value } => {
            let mut value = (*value).clone();
            value["event"] = json!(event);
            value
        }
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Cached => "cached",
        Outcome::Failed => "failed",
        Outcome::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Progress, Reason, ReasonKind};
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_event_is_a_line() {
        let out = Shared::default();
        let progress = Progress::new(Json::new(out.clone()));
        let mut step = progress.start("[1/1] RUN x\ny");
        step.missed(Reason::new(ReasonKind::NeverBuilt));
        step.output(b"\x1b[1mnot \xff text\n");
        step.finish(Outcome::Done);
        progress.warn("mend");
        progress.data("result", &json!({"ok": true}));
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let events: Vec<&str> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
        let expected = [
            "begin", "start", "miss", "output", "finish", "warning", "result",
        ];
        assert_eq!(events, expected);
        assert_eq!(lines[0]["schema"], SCHEMA);
        assert_eq!(lines[3]["line"], "\u{1b}[1mnot \u{fffd} text\n");
        assert_eq!(lines[4]["cached"], false);
        assert_eq!(lines[4]["reason"]["kind"], "never-built");
        assert!(lines.iter().all(|l| l["time"].is_string()));
    }
}
