//! Registries over the wire: a fake one that misbehaves on purpose, and Debian's `docker-registry`.

mod fake;
mod misbehaving;
mod real;
mod support;
