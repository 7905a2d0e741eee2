//! What must hold for every input: one module per target, each with `check(data)`, which panics when
//! it does not hold.
//!
//! Shared by the fuzz targets and by `tests/properties.rs`, which both call the rooms `crate::…`.

pub mod expand;
pub mod heredoc;
pub mod ignore;
pub mod parse;
pub mod plan;
mod print;

use std::borrow::Cow;

/// The input as text; what is no UTF-8 becomes the replacement character.
fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// A value's debug form without the places in it: two parses of the same instructions are equal then.
fn without_places(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    for place in ["Span {", "Lines {"] {
        let mut bare = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(place) {
            bare.push_str(before);
            rest = after.split_once('}').map_or("", |(_, rest)| rest);
        }
        bare.push_str(rest);
        text = bare;
    }
    text
}
