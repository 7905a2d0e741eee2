//! The system call filter of a sandbox: a profile as reviewed data, and its compiler to BPF.
//!
//! [`Profile::docker_default`] → [`compile`] → [`install`]. Profiles name calls; the compiler knows
//! their numbers. Knows nothing of mounts or images.

mod calls;
mod docker;
mod emit;
mod install;
mod profile;
mod words;

pub use emit::{CompileError, Machine, compile, compile_for};
pub use install::install;
pub use profile::{Action, Condition, Profile, Rule, Test};
pub use words::{from_words, to_words};

#[cfg(test)]
mod tests;
