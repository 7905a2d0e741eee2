//! Programs of other architectures than the kernel's own: how to find out whether they can be executed
//! where steps run, and how to have QEMU execute them.
//!
//! Whether they can is found out by executing one: [`trial`] gives a program of some hundred bytes for an
//! architecture, which a sandbox executes like that of any step. What executes it, the processor, a handler
//! of the machine or one of ours, makes no difference. Names of processors and of handlers are not read:
//! a processor may run what its name does not say, and a handler may name a program that no step can reach.
//!
//! [`register`] makes handlers that belong to the user namespace which [`crate::enter`] has made, for which
//! nobody has to be root.
//!
//! Architectures have the names that Go has for them, as in `GOARCH`.
//!
//! * `machine`: the table of architectures, and what programs do
//! * `elf`: the files of programs
//! * `handlers`: binfmt_misc in the user namespace

mod elf;
mod handlers;
mod machine;

pub use handlers::{RegisterError, register, register_without_name};
pub use machine::{GIVEN_MORE, trial};
