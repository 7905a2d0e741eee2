//! Sparse files as GNU tar stores them: only the pieces that hold data, and where they belong.

use std::collections::VecDeque;
use std::io::Read;

use tar::GnuHeader;

use super::{BLOCK, number};

/// More pieces than this are refused: the map is held in memory.
const MAX_PIECES: u64 = 1 << 17;
/// Bytes of an offset or a length in the old format's map.
const FIELD: usize = 12;
/// Pieces in a block that continues the old format's map; the flag for another block follows them.
const PIECES_PER_BLOCK: usize = 21;

/// Where the stored bytes of a file belong.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Offset and length, in order and not empty.
    pieces: VecDeque<(u64, u64)>,
    size: u64,
    position: u64,
}

/// What comes next in the file, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    Hole(u64),
    Data(u64),
}

impl Sparse {
    /// A file of `size` bytes of which `stored` are in the archive.
    ///
    /// # Errors
    /// What is wrong with the map.
    pub(super) fn new(map: &[(u64, u64)], size: u64, stored: u64) -> Result<Self, String> {
        let (mut end, mut sum) = (0, 0);
        let mut pieces = VecDeque::new();
        for &(offset, length) in map {
            let next = offset.checked_add(length).filter(|next| *next <= size);
            let Some(next) = next.filter(|_| offset >= end) else {
                return Err(format!(
                    "its sparse map has {length} bytes at {offset} of {size}, after {end}"
                ));
            };
            end = next;
            sum += length;
            if length > 0 {
                pieces.push_back((offset, length));
            }
        }
        if sum != stored {
            return Err(format!(
                "its sparse map has {sum} bytes, {stored} are stored"
            ));
        }
        Ok(Self {
            pieces,
            size,
            position: 0,
        })
    }

    /// What stands at the current position; none at the end.
    pub(super) fn run(&self) -> Option<Run> {
        let next = self.pieces.front();
        match next {
            Some((offset, length)) if *offset <= self.position => {
                Some(Run::Data(offset + length - self.position))
            }
            _ => {
                let end = next.map_or(self.size, |(offset, _)| *offset);
                (end > self.position).then(|| Run::Hole(end - self.position))
            }
        }
    }

    /// Goes on by `count` bytes, at most what [`Sparse::run`] told.
    pub(super) fn advance(&mut self, count: u64) {
        self.position += count;
        let is_done = |(offset, length): &(u64, u64)| offset + length <= self.position;
        if self.pieces.front().is_some_and(is_done) {
            self.pieces.pop_front();
        }
    }
}

/// The pieces in the header of the old format and whether blocks with more of them follow.
pub(super) fn old_map(header: &GnuHeader) -> Result<(Vec<(u64, u64)>, bool), String> {
    let mut map = Vec::new();
    for piece in &header.sparse {
        add_piece(&mut map, &piece.offset, &piece.numbytes)?;
    }
    Ok((map, header.isextended[0] == 1))
}

/// Adds the pieces of a block that continues `map`; whether another one follows.
pub(super) fn continue_map(map: &mut Vec<(u64, u64)>, block: &[u8; BLOCK]) -> Result<bool, String> {
    for piece in block.chunks_exact(2 * FIELD).take(PIECES_PER_BLOCK) {
        let (offset, length) = piece.split_at(FIELD);
        add_piece(map, offset, length)?;
    }
    Ok(block[PIECES_PER_BLOCK * 2 * FIELD] == 1)
}

fn add_piece(map: &mut Vec<(u64, u64)>, offset: &[u8], length: &[u8]) -> Result<(), String> {
    if offset[0] == 0 || length[0] == 0 {
        return Ok(());
    }
    if map.len() as u64 >= MAX_PIECES {
        return Err(too_many(map.len() as u64 + 1));
    }
    let [offset, length] = [offset, length].map(|field| {
        let value = number::field(field)?;
        u64::try_from(value).map_err(|_| format!("its sparse map has {value}"))
    });
    map.push((offset?, length?));
    Ok(())
}

/// The map that PAX format 1.0 puts before the content: decimal numbers, each with a newline, the
/// number of pieces first, filled up to a whole block.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_map(content: &mut impl Read) -> Result<Vec<(u64, u64)>, String> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut text = String::new();
    loop {
        let mut block = [0; BLOCK];
        content
            .read_exact(&mut block)
            .map_err(|error| format!("its sparse map cannot be read: {error}"))?;
        for byte in block {
            if byte != b'\n' {
                text.push(char::from(byte));
                continue;
            }
            let parsed = number::decimal(&text);
            numbers.push(parsed.ok_or_else(|| format!("its sparse map has {text:?}"))?);
            text.clear();
            let count = numbers[0];
            if count > MAX_PIECES {
                return Err(too_many(count));
            }
            if numbers.len() as u64 == 1 + 2 * count {
                return Ok(numbers[1..]
                    .chunks(2)
                    .map(|piece| (piece[0], piece[1]))
                    .collect());
            }
        }
        if text.len() > BLOCK {
            return Err("its sparse map has a line without an end".to_owned());
        }
    }
}

fn too_many(count: u64) -> String {
    format!("its sparse map has {count} pieces, more than {MAX_PIECES} are not read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_alternate() {
        let mut file = Sparse::new(&[(0, 2), (5, 3), (8, 0), (9, 1)], 12, 6).unwrap();
        let mut runs = Vec::new();
        while let Some(run) = file.run() {
            runs.push(run);
            let (Run::Hole(count) | Run::Data(count)) = run;
            file.advance(count);
        }
        use Run::{Data, Hole};
        assert_eq!(runs, [Data(2), Hole(3), Data(3), Hole(1), Data(1), Hole(2)]);
    }

    #[test]
    fn maps_that_lie() {
        for (map, size, stored) in [
            (&[(0, 4)][..], 3, 4),
            (&[(4, 1), (0, 1)], 10, 2),
            (&[(0, 5), (4, 5)], 10, 10),
            (&[(0, 1)], 10, 2),
            (&[(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(Sparse::new(map, size, stored).is_err(), "{map:?} of {size}");
        }
        for text in [
            "1\n-1\n2\n",
            "99999999\n",
            "x\n",
            "18446744073709551616\n",
            "2\n0\n1\n",
        ] {
            let mut block = [0; BLOCK];
            block[..text.len()].copy_from_slice(text.as_bytes());
            assert!(read_map(&mut &block[..]).is_err(), "{text:?}");
        }
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(b"1\n5\n10\n\0");
        assert_eq!(read_map(&mut &block[..]).unwrap(), [(5, 10)]);
    }
}
