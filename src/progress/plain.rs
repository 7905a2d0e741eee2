//! One line per event, for logs and pipes.

use std::io::Write;
use std::sync::Mutex;

use super::{Event, Outcome, Sink};

/// Writes every event as a line `#STEP TEXT` to a writer, stderr as a rule.
pub struct Plain<W> {
    out: Mutex<W>,
    explains: bool,
}

impl<W: Write + Send> Plain<W> {
    /// Draws on `out`.
    pub fn new(out: W) -> Self {
        Self {
            out: Mutex::new(out),
            explains: false,
        }
    }

    /// Tells of every step whether it was found in the cache, and why not.
    #[must_use]
    pub fn explaining(mut self, explains: bool) -> Self {
        self.explains = explains;
        self
    }
}

impl<W: Write + Send> Sink for Plain<W> {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Missed { .. } if !self.explains => return,
            Event::Data { .. } => return,
            _ => {}
        }
        let mut line = Vec::with_capacity(128);
        write_event(&mut line, event);
        let mut out = self
            .out
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A closed stderr must not end the build: progress is not data.
        drop(out.write_all(&line).and_then(|()| out.flush()));
    }
}

fn write_event(line: &mut Vec<u8>, event: &Event<'_>) {
    let text = match event {
        Event::Started { step, name } => format!("#{step} {}", printable(name.as_bytes())),
        Event::Missed { step, reason } => {
            format!("#{step} MISS {}", printable(reason.to_string().as_bytes()))
        }
        Event::Output {
            step,
            elapsed,
            line,
        } => {
            format!("#{step} {:.3} {}", elapsed.as_secs_f64(), printable(line))
        }
        Event::Finished {
            step,
            outcome,
            elapsed,
            reason: _,
        } => match outcome {
            Outcome::Done => format!("#{step} DONE {:.1}s", elapsed.as_secs_f64()),
            Outcome::Cached => format!("#{step} CACHED"),
            Outcome::Failed => format!("#{step} ERROR {:.1}s", elapsed.as_secs_f64()),
            Outcome::Cancelled => format!("#{step} CANCELED"),
        },
        Event::Note(text) => printable(text.as_bytes()),
        Event::Warning(text) => format!("warning: {}", printable(text.as_bytes())),
        Event::Data { .. } => return,
    };
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
}

/// The text with the control characters that could steer a terminal taken out; colours and tabs
/// stay, a carriage return starts the line anew as it would on a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\r');
    let last = text.rsplit('\r').next().unwrap_or(text);
    let mut clean = String::with_capacity(last.len());
    let mut rest = last.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            copy_colour(&mut rest, &mut clean);
        } else if c == '\t' || !c.is_control() {
            clean.push(c);
        }
    }
    clean
}

/// After an escape character: copies a colour sequence (`[…m`), swallows any other.
fn copy_colour(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, clean: &mut String) {
    if rest.peek() != Some(&'[') {
        rest.next();
        return;
    }
    rest.next();
    let mut parameters = String::new();
    for c in rest.by_ref() {
        if c.is_ascii_digit() || c == ';' {
            parameters.push(c);
        } else {
            if c == 'm' {
                clean.push_str("\x1b[");
                clean.push_str(&parameters);
                clean.push('m');
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_output_cannot_steer_the_terminal() {
        for (input, expected) in [
            (&b"plain"[..], "plain"),
            (b"tab\there", "tab\there"),
            (b"10%\r20%\r", "20%"),
            (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            (b"\x1b[2Jclear", "clear"),
            (b"\x1b]0;title\x07x", "0;titlex"),
            (b"bad \xff byte", "bad \u{fffd} byte"),
        ] {
            assert_eq!(printable(input), expected);
        }
    }
}
