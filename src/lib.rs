//! lapstrake builds OCI images from Dockerfiles: one static binary, no daemon, no root.
//!
//! Each module is a room of the house; `docs/design.md` says what each owns and which way data
//! flows. From the top: [`cli`], [`output`], [`build`], [`remote_cache`], [`transfer`], [`registry`], [`fetch`],
//! [`http`], [`lint`], [`plan`], [`dockerfile`], [`copy`], [`context`], [`cache`], [`store`], [`layer`], [`image`], [`rootfs`],
//! [`progress`].

pub mod build;
pub mod cache;
pub mod cli;
pub mod config;
pub mod context;
pub mod copy;
pub mod dockerfile;
pub mod fetch;
pub mod http;
pub mod image;
pub mod layer;
pub mod lint;
pub mod output;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod remote_cache;
pub mod rootfs;
pub mod store;
pub mod transfer;
