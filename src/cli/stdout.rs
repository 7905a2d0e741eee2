//! Standard output, whose failures are nobody's fault here: a reader that has gone, a full disk.

use std::io::{self, Write};

/// Marks an error of writing to standard output.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub(super) struct StdoutError(io::Error);

impl StdoutError {
    /// Whether `error` is one.
    pub(super) fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// A writer whose errors are [`StdoutError`]s.
pub(super) struct Stdout<W>(pub W);

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(marked)
    }
}

fn marked(error: io::Error) -> io::Error {
    match error.kind() {
        // Tried again by whoever writes.
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, StdoutError(error)),
    }
}
