//! Where a thing stands in a Dockerfile, and text that remembers where each of its bytes stood.

use std::ops::Range;

/// A range of bytes of the original text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// The bytes from `start` up to, not including, `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The same as a [`Range`].
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// The lines of an instruction, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lines {
    /// The line of the keyword.
    pub first: usize,
    /// The last line, that of a heredoc's terminator if there is one.
    pub last: usize,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, written at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// An instruction's text after its continuation lines were joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Joined {
    pub text: String,
    /// (offset in `text`, offset in the file) of each piece, ascending.
    pieces: Vec<(usize, usize)>,
}

impl Joined {
    /// Text that stands in one piece at `offset` of the file.
    #[cfg(test)]
    pub fn single(text: &str, offset: usize) -> Self {
        let mut joined = Self::default();
        joined.push(text, offset);
        joined
    }

    /// Appends what stands at `offset` of the file.
    pub fn push(&mut self, piece: &str, offset: usize) {
        self.pieces.push((self.text.len(), offset));
        self.text.push_str(piece);
    }

    /// The whole text.
    pub fn part(&self) -> Part<'_> {
        Part {
            text: &self.text,
            at: 0,
            joined: self,
        }
    }

    fn original(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|(start, _)| *start <= offset);
        match after
            .checked_sub(1)
            .and_then(|index| self.pieces.get(index))
        {
            Some((start, file)) => file + (offset - start),
            None => offset,
        }
    }
}

/// A part of an instruction's joined text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub text: &'a str,
    at: usize,
    joined: &'a Joined,
}

impl<'a> Part<'a> {
    /// The bytes in `range` of this part; `range` lies on character boundaries.
    pub fn slice(self, range: Range<usize>) -> Self {
        Self {
            text: &self.text[range.clone()],
            at: self.at + range.start,
            ..self
        }
    }

    /// From `start` to the end.
    pub fn from(self, start: usize) -> Self {
        self.slice(start..self.text.len())
    }

    /// Without white space at both ends.
    pub fn trim(self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        let end = start + self.text.trim().len();
        self.slice(start..end)
    }

    /// Where it stands in the file.
    pub fn span(self) -> Span {
        let start = self.joined.original(self.at);
        if self.text.is_empty() {
            return Span::new(start, start);
        }
        let last = self.at + self.text.len() - 1;
        Span::new(start, self.joined.original(last) + 1)
    }

    /// An owned copy of the text with its place.
    pub fn owned(self) -> Spanned<String> {
        Spanned::new(self.text.to_owned(), self.span())
    }

    /// The parts between runs of white space.
    pub fn words(self) -> Vec<Part<'a>> {
        let mut words = Vec::new();
        let mut start = None;
        for (index, letter) in self.text.char_indices() {
            match (letter.is_whitespace(), start) {
                (true, Some(first)) => {
                    words.push(self.slice(first..index));
                    start = None;
                }
                (false, None) => start = Some(index),
                _ => {}
            }
        }
        words.extend(start.map(|first| self.from(first)));
        words
    }

    /// The two parts around the first run of characters that `is_gap` accepts; the second is
    /// `None` if there is no such run.
    pub fn split(self, is_gap: impl Fn(char) -> bool) -> (Self, Option<Self>) {
        match self.text.find(&is_gap) {
            None => (self, None),
            Some(end) => {
                let rest = self.text[end..].trim_start_matches(&is_gap).len();
                (self.slice(0..end), Some(self.from(self.text.len() - rest)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_point_into_the_file_across_continuations() {
        let mut joined = Joined::default();
        joined.push("RUN a ", 10);
        joined.push("  bc", 30);
        let words = joined.part().words();
        assert_eq!(words[1].span(), Span::new(14, 15));
        assert_eq!(words[2].span(), Span::new(32, 34));
        assert_eq!(joined.part().span(), Span::new(10, 34));
        assert_eq!(joined.part().slice(4..8).span(), Span::new(14, 32));
    }
}
