//! [`TarReader`]: entries of an archive that may have been made to harm.
//!
//! Understood: the old format, ustar with its prefix, PAX, GNU long names, GNU numbers and GNU's
//! sparse files (old format and 1.0), whose holes read as zeros. Refused by name: older sparse
//! formats of PAX, multi-volume archives, types that POSIX does not know. A PAX size rules
//! over the header's, for the content as for finding the next header, and a name that is given
//! twice must be the same. Links, directories and devices have no content whatever their size
//! says, as in Go's archive/tar.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::Header;

use super::pax::{Records, SparseRecords};
use super::sparse::{self, Run, Sparse};
use super::{BLOCK, number};
use crate::layer::LayerError;

/// Largest extended header or long name.
const MAX_EXTENSION: u64 = 1 << 20;
/// Bytes of the prefix in the archives of `star`, whose header ends in `tar\0`.
const STAR_PREFIX_LEN: usize = 131;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry; its content is read from [`TarReader::content`].
#[derive(Debug)]
pub(crate) struct Entry {
    /// The name as it is written.
    pub name: Vec<u8>,
    /// Target of a link, else empty.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number of a device.
    pub rdev: (u32, u32),
    /// Every extended attribute, wanted or not.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// The name for people.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// Reads an archive from its beginning to its end.
pub(crate) struct TarReader<R> {
    input: R,
    globals: Records,
    /// Content of the current entry that was not read yet, and the padding behind it.
    left: u64,
    padding: u64,
    /// Where the content belongs if the entry is a sparse file.
    sparse: Option<Sparse>,
    /// For errors: the last entry.
    last: String,
}

/// What stands before a header and belongs to it.
#[derive(Default)]
struct Extensions {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            globals: Records::default(),
            left: 0,
            padding: 0,
            sparse: None,
            last: "the archive".to_owned(),
        }
    }

    /// The next entry, whatever of the one before was not read; none at the end of the archive.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        self.skip_content()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else {
                if extensions.is_empty() {
                    return Ok(None);
                }
                return Err(self.damaged("it ends after an extended header"));
            };
            let size = number::field(&header.as_old().size)
                .and_then(|size| u64::try_from(size).map_err(|_| format!("{size}")))
                .map_err(|found| self.damaged(format!("the size in a header is {found}")));
            let bytes = match header.entry_type().as_byte() {
                b'x' | b'g' | b'L' | b'K' => self.extension(size?)?,
                b'V' => {
                    self.begin_content(size?);
                    self.skip_content()?;
                    continue;
                }
                _ => return self.entry(&header, size, extensions).map(Some),
            };
            match header.entry_type().as_byte() {
                b'g' => self.globals = self.global_records(&bytes)?,
                b'x' => {
                    let records = Records::parse(&bytes).map_err(|reason| self.damaged(reason))?;
                    self.set(&mut extensions.records, records)?;
                }
                b'L' => self.set(&mut extensions.long_name, until_nul(&bytes).to_vec())?,
                _ => self.set(&mut extensions.long_link, until_nul(&bytes).to_vec())?,
            }
        }
    }

    /// The content of the entry that [`TarReader::next_entry`] gave last.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    /// Reads what follows the end of the archive.
    pub(crate) fn drain(&mut self) -> Result<(), LayerError> {
        io::copy(&mut self.input, &mut io::sink())
            .map(drop)
            .map_err(LayerError::stream("read behind the end of the archive"))
    }

    /// The next header block; none for the two zero blocks or the end of the input.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            if self.block(&mut block)? && block != [0; BLOCK] {
                return Err(self.damaged("data follows a single zero block"));
            }
            return Ok(None);
        }
        if !is_header(&block) {
            return Err(self.damaged("what follows is no tar header: its checksum is wrong"));
        }
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    /// Fills `block`; false when the input ended before it.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, LayerError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.damaged(format!("it ends {filled} bytes into a header"))),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        Ok(true)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > MAX_EXTENSION {
            return Err(self.damaged(format!(
                "an extended header has {size} bytes, more than {MAX_EXTENSION} are not read"
            )));
        }
        self.begin_content(size);
        let mut bytes = Vec::new();
        let read = self.content().read_to_end(&mut bytes);
        read.map_err(|error| self.unreadable(error))?;
        self.skip_content()?;
        Ok(bytes)
    }

    fn global_records(&self, bytes: &[u8]) -> Result<Records, LayerError> {
        let records = Records::parse(bytes).map_err(|reason| self.damaged(reason))?;
        let names_entry = records.path.is_some() || records.linkpath.is_some();
        if names_entry || records.size.is_some() {
            return Err(self.damaged("a global header sets a path or size for every entry"));
        }
        Ok(records.over(&self.globals))
    }

    fn set<T>(&self, slot: &mut Option<T>, value: T) -> Result<(), LayerError> {
        if slot.replace(value).is_some() {
            return Err(self.damaged("an entry has two extended headers of one kind"));
        }
        Ok(())
    }

    fn entry(
        &mut self,
        header: &Header,
        size: Result<u64, LayerError>,
        extensions: Extensions,
    ) -> Result<Entry, LayerError> {
        let records = extensions.records.unwrap_or_default().over(&self.globals);
        let path = records.sparse.name.clone().or(records.path);
        let name = self.one_of(header_name(header), path, extensions.long_name)?;
        self.last = format!("entry {}", String::from_utf8_lossy(&name));
        let old_link = until_nul(&header.as_old().linkname).to_vec();
        let link = self.one_of(old_link, records.linkpath, extensions.long_link)?;
        let kind = self.kind(header, &name)?;
        let size = match (kind, records.size) {
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => size?,
            _ => 0,
        };
        self.begin_sparse_content(header, kind, &records.sparse, size)?;
        let old = header.as_old();
        let mtime = match records.mtime {
            Some(mtime) => mtime,
            None => (self.number("time", &old.mtime)?, 0),
        };
        // Permission bits only: some programs write the whole st_mode.
        let mode = self.number::<i64>("mode", &old.mode)? & 0o7777;
        Ok(Entry {
            name,
            link,
            kind,
            mode: mode as u32,
            uid: self.owner("owner", records.uid, &old.uid)?,
            gid: self.owner("group", records.gid, &old.gid)?,
            mtime,
            rdev: self.rdev(header, kind)?,
            xattrs: records.xattrs,
        })
    }

    /// The one name of an entry that may have it in three places.
    fn one_of(
        &self,
        plain: Vec<u8>,
        pax: Option<Vec<u8>>,
        gnu: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, LayerError> {
        match (pax, gnu) {
            (Some(pax), Some(gnu)) if pax != gnu => {
                let (pax, gnu) = (String::from_utf8_lossy(&pax), String::from_utf8_lossy(&gnu));
                Err(self.damaged(format!("an entry is named both {pax} and {gnu}")))
            }
            (Some(name), _) | (None, Some(name)) => Ok(name),
            (None, None) => Ok(plain),
        }
    }

    fn kind(&self, header: &Header, name: &[u8]) -> Result<Kind, LayerError> {
        let flag = header.entry_type().as_byte();
        let refused = |what: &str| {
            Err(LayerError::Refused {
                name: String::from_utf8_lossy(name).into_owned(),
                reason: format!("{what} is not supported"),
            })
        };
        match header.as_old().linkflag[0] {
            // Archives older than ustar mark a directory by its name alone.
            0 if name.ends_with(b"/") => Ok(Kind::Directory),
            0 | b'0' | b'7' => Ok(Kind::File),
            b'S' if header.as_gnu().is_some() => Ok(Kind::File),
            b'1' => Ok(Kind::HardLink),
            b'2' => Ok(Kind::Symlink),
            b'3' => Ok(Kind::CharacterDevice),
            b'4' => Ok(Kind::BlockDevice),
            b'5' => Ok(Kind::Directory),
            b'6' => Ok(Kind::Fifo),
            b'M' => refused("an archive of several volumes"),
            _ => refused(&format!("the entry type {:?}", char::from(flag))),
        }
    }

    fn rdev(&self, header: &Header, kind: Kind) -> Result<(u32, u32), LayerError> {
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        match header.as_ustar().filter(|_| is_device) {
            Some(ustar) => Ok((
                self.number("major device number", &ustar.dev_major)?,
                self.number("minor device number", &ustar.dev_minor)?,
            )),
            None => match header.as_gnu().filter(|_| is_device) {
                Some(gnu) => Ok((
                    self.number("major device number", &gnu.dev_major)?,
                    self.number("minor device number", &gnu.dev_minor)?,
                )),
                None => Ok((0, 0)),
            },
        }
    }

    fn owner(&self, what: &str, record: Option<u32>, field: &[u8]) -> Result<u32, LayerError> {
        let id = match record {
            Some(id) => id,
            None => self.number(what, field)?,
        };
        // The highest number means "none" to the kernel.
        if id == u32::MAX {
            return Err(self.damaged(format!("its {what} is {id}, which is no id")));
        }
        Ok(id)
    }

    fn number<T: TryFrom<i64>>(&self, what: &str, field: &[u8]) -> Result<T, LayerError> {
        let value = number::field(field);
        value
            .and_then(|value| T::try_from(value).map_err(|_| value.to_string()))
            .map_err(|found| self.damaged(format!("its {what} is {found}")))
    }

    /// Begins the content of an entry of `size` stored bytes, which may be a sparse file.
    fn begin_sparse_content(
        &mut self,
        header: &Header,
        kind: Kind,
        records: &SparseRecords,
        size: u64,
    ) -> Result<(), LayerError> {
        let old = header
            .as_gnu()
            .filter(|_| header.as_old().linkflag[0] == b'S');
        let (map, real_size) = match (old, records.major, records.size) {
            (Some(_), Some(_), _) => {
                return Err(self.damaged("it is a sparse file in two formats"));
            }
            (Some(gnu), None, _) => {
                let real_size = self.number::<u64>("size", &gnu.realsize)?;
                let (mut map, mut goes_on) =
                    sparse::old_map(gnu).map_err(|reason| self.damaged(reason))?;
                while goes_on {
                    let mut block = [0; BLOCK];
                    if !self.block(&mut block)? {
                        return Err(self.damaged("it ends in a sparse map"));
                    }
                    goes_on = sparse::continue_map(&mut map, &block)
                        .map_err(|reason| self.damaged(reason))?;
                }
                self.begin_content(size);
                (map, real_size)
            }
            (None, Some(1), Some(real_size)) if kind == Kind::File && records.minor == Some(0) => {
                self.begin_content(size);
                let map = sparse::read_map(&mut self.content());
                (map.map_err(|reason| self.damaged(reason))?, real_size)
            }
            (None, None, None) => {
                self.begin_content(size);
                return Ok(());
            }
            _ => return Err(self.damaged("it is a sparse file in a format that is not known")),
        };
        let file = Sparse::new(&map, real_size, self.left);
        self.sparse = Some(file.map_err(|reason| self.damaged(reason))?);
        Ok(())
    }

    fn begin_content(&mut self, size: u64) {
        self.sparse = None;
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn advance_sparse(&mut self, count: usize) {
        if let Some(file) = &mut self.sparse {
            file.advance(count as u64);
        }
    }

    fn skip_content(&mut self) -> Result<(), LayerError> {
        let want = u128::from(self.left) + u128::from(self.padding);
        let want = u64::try_from(want).unwrap_or(u64::MAX);
        (self.left, self.padding, self.sparse) = (0, 0, None);
        let got = io::copy(&mut (&mut self.input).take(want), &mut io::sink())
            .map_err(|error| self.unreadable(error))?;
        if got < want {
            return Err(self.damaged(format!("{} bytes of its content are missing", want - got)));
        }
        Ok(())
    }

    fn damaged(&self, reason: impl Into<String>) -> LayerError {
        LayerError::Damaged {
            what: self.last.clone(),
            reason: reason.into(),
        }
    }

    /// The input's own error, told with the entry after or in which it came.
    fn unreadable(&self, error: io::Error) -> LayerError {
        self.damaged(format!("it cannot be read further: {error}"))
    }
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

/// What is left of the current entry.
pub(crate) struct Content<'r, R> {
    reader: &'r mut TarReader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.reader;
        let limit = match reader.sparse.as_ref().map(Sparse::run) {
            None => reader.left,
            Some(None) => 0,
            Some(Some(Run::Data(count))) => count.min(reader.left),
            Some(Some(Run::Hole(count))) => {
                let count = usize::try_from(count).map_or(buffer.len(), |n| n.min(buffer.len()));
                buffer[..count].fill(0);
                reader.advance_sparse(count);
                return Ok(count);
            }
        };
        let want = usize::try_from(limit).map_or(buffer.len(), |limit| limit.min(buffer.len()));
        if want == 0 {
            return Ok(0);
        }
        let got = reader.input.read(&mut buffer[..want])?;
        if got == 0 {
            let text = format!(
                "the archive ends, {} bytes of content are missing",
                reader.left
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        reader.left -= got as u64;
        reader.advance_sparse(got);
        Ok(got)
    }
}

/// Whether the checksum in `block` is that of a header, with bytes taken as unsigned or, as some
/// old programs did, as signed.
pub(crate) fn is_header(block: &[u8; BLOCK]) -> bool {
    const FIELD: std::ops::Range<usize> = 148..156;
    let Ok(stated) = number::field(&block[FIELD]) else {
        return false;
    };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (index, byte) in block.iter().enumerate() {
        let byte = if FIELD.contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    // A block of zeros ends an archive and is no header.
    unsigned > 256 && (stated == unsigned || stated == signed)
}

/// The name in the header itself: in ustar, the prefix comes before it.
fn header_name(header: &Header) -> Vec<u8> {
    let name = until_nul(&header.as_old().name);
    let Some(ustar) = header.as_ustar() else {
        return name.to_vec();
    };
    let is_star = header.as_bytes().ends_with(b"tar\0");
    let prefix = match is_star {
        true => until_nul(&ustar.prefix[..STAR_PREFIX_LEN]),
        false => until_nul(&ustar.prefix),
    };
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::EntryType;

    use super::super::{Member, TRAILER};
    use super::*;

    const PIECE: usize = 600;

    /// One entry of each kind that has something of its own to go wrong, and where headers stand.
    fn archive() -> (Vec<u8>, Vec<usize>) {
        let long = [b'n'; 130];
        let xattrs = BTreeMap::from([(b"security.capability".to_vec(), vec![1; 20])]);
        let mut bytes = Vec::new();
        let mut headers = Vec::new();
        let kinds = [
            EntryType::Regular,
            EntryType::GNUSparse,
            EntryType::GNULongName,
            EntryType::Char,
        ];
        for kind in kinds {
            headers.extend([bytes.len(), bytes.len() + 2 * BLOCK]);
            let member = Member {
                name: &long,
                link: b"",
                kind,
                mode: 0o644,
                uid: 3_000_000,
                gid: 0,
                size: PIECE as u64,
                mtime: -1,
                rdev: (0, 0),
                xattrs: &xattrs,
            };
            bytes.extend(member.encode());
            bytes.resize((bytes.len() + PIECE).next_multiple_of(BLOCK), b'c');
        }
        bytes.extend_from_slice(&TRAILER);
        (bytes, headers)
    }

    fn fix_checksum(block: &mut [u8]) {
        let sum: u32 = block.iter().enumerate().fold(0, |sum, (index, byte)| {
            sum + u32::from(if (148..156).contains(&index) {
                b' '
            } else {
                *byte
            })
        });
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    fn read_all(bytes: &[u8]) -> Result<usize, LayerError> {
        let mut reader = TarReader::new(bytes);
        let mut entries = 0;
        while reader.next_entry()?.is_some() {
            entries += 1;
            // A hole may be as long as it likes.
            let copied = io::copy(&mut reader.content().take(1 << 20), &mut io::sink());
            copied.map_err(LayerError::stream("read the content"))?;
        }
        Ok(entries)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever stands in the headers, the reader ends, with entries or with an error.
        #[test]
        fn damage_never_panics(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            gnu in any::<bool>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, headers) = archive();
            if gnu {
                for start in &headers {
                    bytes[start + 257..start + 265].copy_from_slice(b"ustar  \0");
                }
            }
            for (index, value) in changes {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            for start in headers {
                fix_checksum(&mut bytes[start..start + BLOCK]);
            }
            let whole = read_all(&bytes);
            prop_assert!(whole.as_ref().map_or(1, |count| *count) <= bytes.len() / BLOCK);
            let part = read_all(&bytes[..cut.index(bytes.len())]);
            prop_assert!(part.map_or(1, |count| count) <= bytes.len() / BLOCK);
        }
    }
}
