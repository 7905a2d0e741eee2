//! [`Environment`]: variables in order.

use std::collections::HashMap;

/// Variables in the order of their first appearance; a later value takes the earlier one's place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    pairs: Vec<(String, String)>,
    /// Where each name stands in `pairs`.
    places: HashMap<String, usize>,
}

impl Environment {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = &self.pairs[*self.places.get(name)?];
        Some(value)
    }

    /// Sets `name`.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        if let Some(place) = self.places.get(name) {
            self.pairs[*place].1 = value.into();
            return;
        }
        self.places.insert(name.to_owned(), self.pairs.len());
        self.pairs.push((name.to_owned(), value.into()));
    }

    /// Every variable, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}
