//! The rooms of lapstrake that are pure, compiled alone, so that a fuzz target is built in seconds
//! and not with a TLS stack; and the properties they must have.
//!
//! The properties are also checked by `tests/properties.rs` of the program, on stable Rust and over
//! mutated seeds, for which reason they name the rooms as `crate::…`.

pub mod context;
#[path = "../../src/dockerfile/mod.rs"]
pub mod dockerfile;
pub mod image;
#[path = "../../src/plan/mod.rs"]
pub mod plan;
#[path = "../properties/mod.rs"]
pub mod properties;
pub mod rootfs;
