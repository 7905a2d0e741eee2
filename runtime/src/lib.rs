//! Runs a process over directories in the strongest sandbox this process may have, and hands back
//! what changed. Knows nothing of images, archives or registries.
//!
//! The order of use:
//!
//! 1. [`init_if_reexecuted`] first thing in `main`: a sandbox's first process is this very program.
//! 2. [`enter`], still single-threaded: user and mount namespace, id map.
//! 3. [`Roots::for_run`] over layers, [`spawn`] into it, [`Child::wait`].
//! 4. [`Workspace::finish`]: the upper directory is the difference.
//!
//! Trees are held by descriptor, never by a path inside an image. Only the module `sys` holds
//! `unsafe`.

mod attached;
mod attributes;
mod capabilities;
mod child;
mod chroot;
mod content;
mod dev;
mod diagnose;
mod enter;
mod error;
mod fence;
mod filter;
pub mod foreign;
mod holder;
mod hosts;
mod idmap;
mod init;
mod inroot;
mod mount;
mod needs;
mod overlay;
mod owners;
mod points;
pub mod probe;
mod roots;
mod signals;
mod spawn;
mod spec;
mod stubs;
mod surroundings;
mod sys;
mod tree;
mod wire;

pub use attached::Attached;
pub use capabilities::Capabilities;
pub use caps::Capability;
pub use child::{Child, KillHandle};
pub use content::Copier;
pub use diagnose::Advice;
pub use enter::{EnterError, EnterOptions, Entered, Known, Mode, enter, enter_knowing};
pub use error::{Error, ExecError, Exit};
pub use idmap::IdMap;
pub use init::init_if_reexecuted;
pub use needs::{MissingCall, check_calls};
pub use owners::supervision;
pub use points::MountPoints;
pub use roots::{Diff, Roots, View, Workspace};
pub use seccomp::supervise::{Device, Owners, RECORD, Record};
pub use signals::{usual_mask, usual_signals};
pub use spawn::{spawn, spawn_in};
pub use spec::{BindSource, DEFAULT_PATH, Mount, Network, RunSpec, Stdin, Ulimit, is_limit};
pub use surroundings::{Helper, Surroundings, key as environment_key};
pub use tree::{Keeper, Placed, TreeRoot, Trees};
