//! Of the context only the ignore file and its patterns.

#[path = "../../src/context/glob.rs"]
pub mod glob;
#[path = "../../src/context/ignore.rs"]
pub mod ignore;

pub use glob::Glob;
pub use ignore::IgnoreFile;
