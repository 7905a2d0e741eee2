//! A compiled program as plain numbers, for one process to compile what another installs.

use libc::sock_filter;

/// One number for each instruction: from the low end `k` (32 bits), `jf`, `jt` (8 each), `code` (16).
pub fn to_words(program: &[sock_filter]) -> Vec<u64> {
    let word = |op: &sock_filter| {
        u64::from(op.code) << 48 | u64::from(op.jt) << 40 | u64::from(op.jf) << 32 | u64::from(op.k)
    };
    program.iter().map(word).collect()
}

/// What [`to_words`] was given.
pub fn from_words(words: &[u64]) -> Vec<sock_filter> {
    let op = |word: &u64| {
        let [a, b, c, d, jf, jt, low, high] = word.to_le_bytes();
        sock_filter {
            code: u16::from_le_bytes([low, high]),
            jt,
            jf,
            k: u32::from_le_bytes([a, b, c, d]),
        }
    };
    words.iter().map(op).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, compile};

    #[test]
    fn a_program_survives_being_numbers() {
        let program = compile(&Profile::docker_default(u64::MAX)).unwrap();
        let back = from_words(&to_words(&program));
        let fields = |op: &sock_filter| (op.code, op.jt, op.jf, op.k);
        assert!(program.iter().map(fields).eq(back.iter().map(fields)));
        assert!(program.iter().any(|op| op.jt != op.jf && op.k > 1 << 16));
    }
}
