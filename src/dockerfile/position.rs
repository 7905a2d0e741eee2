//! [`Positions`]: offsets as lines and columns.

/// Where the lines of a text begin.
#[derive(Debug)]
pub struct Positions<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Positions<'a> {
    /// The lines of `text`.
    pub fn new(text: &'a str) -> Self {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(after).collect(),
        }
    }

    /// Line and column of an offset in bytes, both counted from 1, the column in characters. What
    /// lies outside the text is at its end.
    pub fn at(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns() {
        let positions = Positions::new("a\u{e9}b\n\nc");
        for (offset, expected) in [
            (0, (1, 1)),
            (3, (1, 3)),
            (4, (1, 4)),
            (5, (2, 1)),
            (6, (3, 1)),
            (7, (3, 2)),
            (99, (3, 2)),
        ] {
            assert_eq!(positions.at(offset), expected, "{offset}");
        }
    }
}
