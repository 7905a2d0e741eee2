//! [`Chmod`]: the argument of `--chmod`, octal or symbolic.

use std::str::FromStr;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;

/// Why a mode cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid mode {text:?} in --chmod: use octal digits up to 7777, or clauses like u=rwX,go=rX"
)]
pub struct ChmodError {
    /// The mode as written.
    pub text: String,
}

/// One change: to whose bits, how, which.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    /// The bits that the clause speaks of.
    who: u32,
    operator: char,
    permissions: Permissions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Permissions {
    /// Bits for every class at once, and whether `X` stands among them.
    Bits(u32, bool),
    /// Those that a class has: its shift.
    Like(u32),
}

/// A mode to be given to files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// The permission bits themselves.
    Octal(u32),
    /// Changes to the mode of each file.
    Symbolic(Symbolic),
}

/// The clauses of a symbolic mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbolic(Vec<Change>);

impl Chmod {
    /// Reads a mode: `755`, `u+x,go=rX`.
    ///
    /// # Errors
    /// Anything else, and octal beyond 07777.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        let fail = || ChmodError {
            text: text.to_owned(),
        };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| fail())?;
            return if mode > 0o7777 {
                Err(fail())
            } else {
                Ok(Self::Octal(mode))
            };
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            changes.extend(parse_clause(clause).ok_or_else(fail)?);
        }
        Ok(Self::Symbolic(Symbolic(changes)))
    }

    /// The permission bits of a file whose `st_mode` is given.
    pub fn apply(&self, st_mode: u32) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(Symbolic(changes)) => {
                changes
                    .iter()
                    .fold(st_mode, |mode, change| change.apply(mode))
                    & 0o7777
            }
        }
    }
}

impl FromStr for Chmod {
    type Err = ChmodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Change {
    fn apply(&self, mode: u32) -> u32 {
        let bits = match self.permissions {
            Permissions::Bits(bits, conditional) => {
                let executable = mode & TYPE == DIRECTORY || mode & 0o111 != 0;
                bits | if conditional && executable { 0o111 } else { 0 }
            }
            Permissions::Like(shift) => ((mode >> shift) & 7) * 0o111,
        } & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

/// Reads `[ugoa]*` and one or more of `[+-=]` with what follows.
fn parse_clause(clause: &str) -> Option<Vec<Change>> {
    let start = clause.find(['+', '-', '='])?;
    let (classes, mut rest) = clause.split_at(start);
    let mut who = 0;
    for class in classes.chars() {
        who |= match class {
            'u' => SET_UID | 0o700,
            'g' => SET_GID | 0o070,
            'o' => STICKY | 0o007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o7777;
    }
    let mut changes = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..]
            .find(['+', '-', '='])
            .map_or(rest.len(), |at| at + 1);
        let permissions = parse_permissions(&rest[1..end])?;
        changes.push(Change {
            who,
            operator,
            permissions,
        });
        rest = &rest[end..];
    }
    Some(changes)
}

fn parse_permissions(text: &str) -> Option<Permissions> {
    match text {
        "u" => return Some(Permissions::Like(6)),
        "g" => return Some(Permissions::Like(3)),
        "o" => return Some(Permissions::Like(0)),
        _ => {}
    }
    let (mut bits, mut conditional) = (0, false);
    for permission in text.chars() {
        match permission {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => conditional = true,
            's' => bits |= SET_UID | SET_GID,
            't' => bits |= STICKY,
            _ => return None,
        }
    }
    Some(Permissions::Bits(bits, conditional))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_modes() {
        let cases = [
            ("755", 0o100_600, 0o755),
            ("0755", 0o100_600, 0o755),
            ("7777", 0o100_600, 0o7777),
            ("0", 0o100_600, 0),
            ("u+x", 0o100_644, 0o744),
            ("+x", 0o100_644, 0o755),
            ("a+x", 0o100_644, 0o755),
            ("go-rwx", 0o100_755, 0o700),
            ("u=rwX,go=rX", 0o100_640, 0o644),
            ("u=rwX,go=rX", 0o100_740, 0o755),
            ("u=rwX,go=rX", 0o040_700, 0o755),
            ("g=u", 0o100_640, 0o660),
            ("u+s", 0o100_755, 0o4755),
            ("g+s", 0o100_755, 0o2755),
            ("+t", 0o040_777, 0o1777),
            ("a=", 0o100_755, 0),
            ("u+r-w", 0o100_200, 0o400),
            ("u=rw,g=r,o=", 0o104_777, 0o640),
        ];
        for (text, before, after) in cases {
            let mode = Chmod::parse(text).unwrap().apply(before);
            assert_eq!(mode, after, "{text} on {before:o}: {mode:o}");
        }
        for text in [
            "", "8", "10000", "0o755", "-1x", "u", "u+q", "z+r", "u+x,", "rwx", "+é",
        ] {
            assert!(Chmod::parse(text).is_err(), "{text:?}");
        }
    }
}
