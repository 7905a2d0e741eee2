//! [`Compressor`]: what a layer leaves the machine in.
//!
//! The bytes depend on the input, the kind and the level; not on the number of threads, nor on the
//! sizes of the writes. Memory is a few blocks per thread.

mod gzip;

use std::io::{self, Write};

use gzip::Gzip;

/// The form of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The tar as it is.
    Uncompressed,
    /// One gzip member.
    Gzip {
        /// From 0 (none) to 9 (smallest).
        level: u32,
    },
    /// One zstd frame.
    Zstd {
        /// From 1 to 22; negative levels are faster than 1.
        level: i32,
    },
}

/// Compresses what is written to it into `W`. Nothing is complete before [`Compressor::finish`].
pub struct Compressor<W: Write> {
    kind: Kind<W>,
}

enum Kind<W: Write> {
    Plain(W),
    Gzip(Box<Gzip<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Compresses to `out` with at most `threads` threads beside the caller's.
    ///
    /// # Errors
    /// `InvalidInput` for a level that the format does not have.
    pub fn new(compression: Compression, threads: usize, out: W) -> io::Result<Self> {
        let kind = match compression {
            Compression::Uncompressed => Kind::Plain(out),
            Compression::Gzip { level } => Kind::Gzip(Box::new(Gzip::new(level, threads, out)?)),
            Compression::Zstd { level } => Kind::Zstd(zstd_encoder(level, threads, out)?),
        };
        Ok(Self { kind })
    }

    /// Compresses what is left and gives the writer back, not flushed.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(self) -> io::Result<W> {
        match self.kind {
            Kind::Plain(out) => Ok(out),
            Kind::Gzip(gzip) => gzip.finish(),
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Workers are used even for one thread: only then are the bytes independent of their number.
fn zstd_encoder<W: Write>(
    level: i32,
    threads: usize,
    out: W,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let levels = zstd::compression_level_range();
    if !levels.contains(&level) {
        return Err(bad_level("zstd", level, *levels.start(), *levels.end()));
    }
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    encoder.multithread(u32::try_from(threads.max(1)).unwrap_or(1))?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

fn bad_level<T: std::fmt::Display>(format: &str, level: T, min: T, max: T) -> io::Error {
    let text = format!("{format} has no compression level {level}, choose one from {min} to {max}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Plain(out) => out.write(bytes),
            Kind::Gzip(gzip) => gzip.write(bytes),
            Kind::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing to compressed data: a flush in the middle would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Plain(out) => out.flush(),
            Kind::Gzip(_) | Kind::Zstd(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
