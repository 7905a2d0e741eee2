//! The system call filter of a sandbox: a profile as reviewed data, and its compiler to BPF; and
//! the supervisor that answers calls where a filter alone will not do.
//!
//! [`Profile::docker_default`] → [`compile`] → [`install`]. Profiles name calls; the compiler knows
//! their numbers. With [`supervise::protect`] a profile tells of calls to whoever holds the listener
//! of [`install_notifying`]: [`supervise::Supervisor`]. Knows nothing of mounts or images.

mod calls;
mod docker;
mod emit;
mod install;
mod profile;
pub mod supervise;
mod words;

pub use emit::{CompileError, Machine, compile, compile_for};
pub use install::{install, install_notifying};
pub use profile::{Action, Condition, Profile, Rule, Test};
pub use words::{from_words, to_words};

#[cfg(test)]
mod tests;
