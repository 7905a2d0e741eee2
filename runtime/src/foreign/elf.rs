//! The file of a trial program, and what tells a file's architecture.
//!
//! An ELF header, two program headers, of which one makes the stack no code, and the code; all of it is in the
//! architecture's byte order. The same header tells a handler which files are its own.

use super::machine::{Code, Machine};

/// Where the file is loaded: beyond what kernels keep free at the bottom, on a boundary of the largest pages.
const ADDRESS: u64 = 0x40_0000;
const LARGEST_PAGE: u64 = 0x1_0000;

const LOAD: u32 = 1;
const GNU_STACK: u32 = 0x6474_e551;
const READ_EXECUTE: u32 = 5;
const READ_WRITE: u32 = 6;

/// How many bytes of a file tell its architecture: identification, type and machine.
pub(super) const TELLING: usize = 20;
/// The place among them of the file's type, which is of two bytes: 2 for a program, 3 for one that can be
/// loaded anywhere.
const TYPE: usize = 16;
const EXECUTABLE: u16 = 2;

impl Machine {
    /// The whole file of the program.
    pub(super) fn program(&self) -> Vec<u8> {
        let code = self.code();
        let (header, entry) = if self.wide { (64, 56) } else { (52, 32) };
        let begin = u64::from(header + 2 * entry);
        let size = begin + code.len() as u64;
        let mut file = Writer::new(self);
        file.bytes(&self.identification());
        file.half(EXECUTABLE);
        file.half(self.number);
        file.word(1);
        file.address(ADDRESS + begin);
        file.address(u64::from(header));
        file.address(0);
        file.word(self.flags);
        for half in [header, entry, 2, 0, 0, 0] {
            file.half(half);
        }
        file.program_header(LOAD, READ_EXECUTE, ADDRESS, size, LARGEST_PAGE);
        file.program_header(GNU_STACK, READ_WRITE, 0, 0, 16);
        file.bytes(&code);
        file.out
    }

    fn code(&self) -> Vec<u8> {
        match self.code {
            Code::Bytes(bytes) => bytes.to_vec(),
            Code::Words(words) => {
                let mut code = Writer::new(self);
                words.iter().for_each(|word| code.word(*word));
                code.out
            }
        }
    }

    fn identification(&self) -> [u8; TYPE] {
        let mut identification = [0; TYPE];
        identification[..4].copy_from_slice(b"\x7fELF");
        identification[4] = if self.wide { 2 } else { 1 };
        identification[5] = if self.big_endian { 2 } else { 1 };
        identification[6] = 1;
        identification
    }

    /// The first bytes of its programs, and which of their bits count: not those of the operating system and
    /// its ABI, and of the type none that tells a program from one that can be loaded anywhere.
    pub(super) fn telling(&self) -> ([u8; TELLING], [u8; TELLING]) {
        let mut bytes = [0; TELLING];
        bytes.copy_from_slice(&self.program()[..TELLING]);
        let mut mask = [0xff; TELLING];
        mask[7..TYPE].fill(0);
        let lowest = if self.big_endian { TYPE + 1 } else { TYPE };
        mask[lowest] = 0xfe;
        (bytes, mask)
    }
}

/// Writes numbers in an architecture's width and byte order.
struct Writer {
    wide: bool,
    big_endian: bool,
    out: Vec<u8>,
}

impl Writer {
    fn new(machine: &Machine) -> Self {
        Self {
            wide: machine.wide,
            big_endian: machine.big_endian,
            out: Vec::new(),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn half(&mut self, value: u16) {
        match self.big_endian {
            true => self.bytes(&value.to_be_bytes()),
            false => self.bytes(&value.to_le_bytes()),
        }
    }

    fn word(&mut self, value: u32) {
        match self.big_endian {
            true => self.bytes(&value.to_be_bytes()),
            false => self.bytes(&value.to_le_bytes()),
        }
    }

    /// Of the architecture's width; no number here has more than 32 bits.
    fn address(&mut self, value: u64) {
        match (self.wide, self.big_endian) {
            (true, true) => self.bytes(&value.to_be_bytes()),
            (true, false) => self.bytes(&value.to_le_bytes()),
            (false, _) => self.word(value as u32),
        }
    }

    fn program_header(&mut self, kind: u32, flags: u32, at: u64, size: u64, align: u64) {
        self.word(kind);
        if self.wide {
            self.word(flags);
        }
        for value in [0, at, at, size, size] {
            self.address(value);
        }
        if !self.wide {
            self.word(flags);
        }
        self.address(align);
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::find;
    use super::*;

    #[test]
    fn a_file_tells_its_machine() {
        for (name, variant, first, last) in [
            ("amd64", "", [2, 1], [2, 0, 62, 0]),
            ("386", "", [1, 1], [2, 0, 3, 0]),
            ("arm64", "v8", [2, 1], [2, 0, 183, 0]),
            ("arm", "", [1, 1], [2, 0, 40, 0]),
            ("s390x", "", [2, 2], [0, 2, 0, 22]),
            ("loong64", "", [2, 1], [2, 0, 2, 1]),
        ] {
            let (bytes, mask) = find(name, variant).unwrap().telling();
            assert_eq!(bytes[4..6], first, "{name}");
            assert_eq!(bytes[TYPE..], last, "{name}");
            // Those that can be loaded anywhere are told by the same bits.
            let mut anywhere = bytes;
            let at = TYPE + usize::from(first[1] == 2);
            anywhere[at] = 3;
            let masked = |bytes: [u8; TELLING]| -> Vec<u8> {
                bytes.iter().zip(mask).map(|(b, m)| b & m).collect()
            };
            assert_eq!(masked(anywhere), masked(bytes), "{name}");
        }
    }
}
