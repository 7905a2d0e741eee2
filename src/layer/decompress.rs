//! [`Decoder`]: any compression that a layer or an archive comes in, told by its first bytes.
//!
//! All formats are decoded in this process, never by a program that is looked up. Data that breaks
//! off or is damaged is always an error, never a short stream.

use std::io::{self, BufReader, Chain, Cursor, Read};

/// Longest magic number below.
const MAGIC_LEN: usize = 6;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// The last three bytes of a skippable zstd frame; its first is 0x50 to 0x5f.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
/// What an xz stream may ask for; `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// Compressed bytes read at once.
const BUFFER: usize = 64 << 10;

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Reads what `R` holds, decompressed.
pub struct Decoder<R: Read> {
    kind: Kind<R>,
}

enum Kind<R: Read> {
    Plain(Input<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Input<R>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<Input<R>>),
    Xz(Box<lzma_rust2::XzReader<Input<R>>>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of `reader`; what is no known compression is passed on as it is.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn new(mut reader: R) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(MAGIC_LEN);
        (&mut reader)
            .take(MAGIC_LEN as u64)
            .read_to_end(&mut magic)?;
        let input =
            |magic: Vec<u8>| BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(reader));
        let is_skippable = magic.get(1..4) == Some(ZSTD_SKIPPABLE) && magic[0] & 0xf0 == 0x50;
        let kind = if magic.starts_with(GZIP) {
            Kind::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input(magic))))
        } else if magic.starts_with(ZSTD) || is_skippable {
            Kind::Zstd(zstd::stream::read::Decoder::with_buffer(input(magic))?)
        } else if magic.starts_with(BZIP2) {
            Kind::Bzip2(bzip2::bufread::MultiBzDecoder::new(input(magic)))
        } else if magic.starts_with(XZ) {
            let reader = lzma_rust2::XzReader::new_mem_limit(input(magic), true, XZ_MEMORY_KIB);
            Kind::Xz(Box::new(reader))
        } else {
            Kind::Plain(input(magic))
        };
        Ok(Self { kind })
    }

    /// The name of the compression, `plain` for none.
    pub fn format(&self) -> &'static str {
        match self.kind {
            Kind::Plain(_) => "plain",
            Kind::Gzip(_) => "gzip",
            Kind::Zstd(_) => "zstd",
            Kind::Bzip2(_) => "bzip2",
            Kind::Xz(_) => "xz",
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut self.kind {
            Kind::Plain(reader) => return reader.read(buffer),
            Kind::Gzip(reader) => reader.read(buffer),
            Kind::Zstd(reader) => reader.read(buffer),
            Kind::Bzip2(reader) => reader.read(buffer),
            Kind::Xz(reader) => reader.read(buffer),
        };
        result.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(
                kind,
                format!(
                    "the {} data is damaged or breaks off: {error}",
                    self.format()
                ),
            ),
        })
    }
}
