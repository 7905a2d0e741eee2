//! [`Excerpt`]: the lines that a diagnostic is about, as a terminal may be given them.
//!
//! A Dockerfile may be anybody's: what steers a terminal or reorders text becomes a visible sign, and
//! of a long line only the part around the place is shown. Offsets are those of the shown text then.

use std::ops::Range;

use super::span::Span;

/// How many characters of a line are shown.
const WIDTH: usize = 120;
/// How many of them stand before the place, if the line is longer.
const LEAD: usize = 40;
/// How many lines between two places are shown as they are; of more only the number counts.
const NEAR: usize = 8;

/// Consecutive lines of a text.
pub(super) struct Excerpt {
    pub text: String,
    /// The number of the first line, from 1.
    pub first: usize,
    /// The places, in the order of the spans.
    pub places: Vec<Range<usize>>,
}

impl Excerpt {
    /// The lines of `text` in which `spans` begin; a span is cut to its first line.
    pub fn new(text: &str, spans: &[Span]) -> Self {
        let spans: Vec<Range<usize>> = spans.iter().map(|span| within(*span, text)).collect();
        let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
        let last = spans.iter().map(|span| span.start).max().unwrap_or(0);
        let mut at = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let mut excerpt = Self {
            text: String::new(),
            first: text[..at].matches('\n').count() + 1,
            places: vec![0..0; spans.len()],
        };
        let mut quiet = 0;
        for line in text[at..].split_inclusive('\n') {
            let end = at + line.len();
            let here: Vec<usize> = (0..spans.len())
                .filter(|index| {
                    let start = spans[*index].start;
                    (at..end).contains(&start) || (start == end && end == text.len())
                })
                .collect();
            quiet = if here.is_empty() { quiet + 1 } else { 0 };
            if quiet <= NEAR {
                excerpt.push(line, at, &spans, &here);
            }
            excerpt.text.push('\n');
            at = end;
            if at > last {
                break;
            }
        }
        excerpt
    }

    /// Appends `line`, which stands at `at`, and notes the places in it.
    fn push(&mut self, line: &str, at: usize, spans: &[Range<usize>], here: &[usize]) {
        let line = line.trim_end_matches(['\n', '\r']);
        let focus = here.first().map_or(0, |index| spans[*index].start - at);
        let window = window(line, focus);
        if window.start > 0 {
            self.text.push('…');
        }
        let begin = self.text.len();
        for index in here {
            self.places[*index] = begin..begin;
        }
        for (offset, letter) in line[window.clone()].char_indices() {
            let offset = at + window.start + offset;
            let before = self.text.len();
            self.text.push(visible(letter));
            for index in here {
                let place = &mut self.places[*index];
                if offset < spans[*index].start {
                    *place = self.text.len()..self.text.len();
                } else if offset < spans[*index].end {
                    place.start = place.start.min(before);
                    place.end = self.text.len();
                }
            }
        }
        if window.end < line.len() {
            self.text.push('…');
        }
    }
}

/// The part of `line` that is shown.
fn window(line: &str, focus: usize) -> Range<usize> {
    // No character is longer than four bytes: most lines need not be counted.
    if line.len() <= WIDTH || line.chars().count() <= WIDTH {
        return 0..line.len();
    }
    let focus = focus.min(line.len());
    let before = line[..focus].char_indices().rev().take(LEAD).last();
    let start = before.map_or(focus, |(start, _)| start);
    let end = line[start..].char_indices().nth(WIDTH);
    start..end.map_or(line.len(), |(end, _)| start + end)
}

/// `span` cut to `text`, to its first line, and to character boundaries.
fn within(span: Span, text: &str) -> Range<usize> {
    let floor = |offset: usize| {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    };
    let start = floor(span.start);
    let end = floor(span.end).max(start);
    let line = text[start..end].find('\n').map_or(end, |at| start + at);
    start..line
}

/// A sign for what has none, or would change how other text is shown. Tabs stay.
pub(super) fn visible(letter: char) -> char {
    match letter {
        '\t' => letter,
        '\u{7f}' => '\u{2421}',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(letter)).unwrap_or('\u{fffd}'),
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => '\u{fffd}',
        '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
        _ => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The excerpt, and what stands at its only place.
    fn show(text: &str, span: Range<usize>) -> (String, String, usize) {
        let excerpt = Excerpt::new(text, &[Span::new(span.start, span.end)]);
        let place = excerpt.text[excerpt.places[0].clone()].to_owned();
        (excerpt.text, place, excerpt.first)
    }

    #[test]
    fn a_line_is_shown_with_its_number_and_place() {
        let text = "FROM a\r\nRUN\tx\u{1b}[31m \u{9b}1m\u{202e}y\r\nUSER u";
        let shown = "RUN\tx\u{241b}[31m \u{fffd}1m\u{fffd}y\n";
        assert_eq!(show(text, 8..11), (shown.into(), "RUN".into(), 2));
        assert_eq!(show(text, 12..14), (shown.into(), "x\u{241b}".into(), 2));
        assert_eq!(
            show(text, 12..999),
            (shown.into(), shown[4..].trim_end().into(), 2)
        );
        assert_eq!(show(text, 900..999).2, 3);
        assert_eq!(show("", 0..3), (String::new(), String::new(), 1));
        assert_eq!(show("\u{e9}", 1..2).1, "\u{e9}");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let text = format!("{}bad{}", "\u{e9} ".repeat(20_000), "x".repeat(20_000));
        let at = text.find("bad").unwrap();
        let (shown, place, _) = show(&text, at..at + 3);
        assert_eq!(place, "bad");
        assert_eq!(shown.chars().count(), WIDTH + 3, "{shown}");
        let (shown, place, _) = show(&text, 0..text.len());
        assert_eq!(
            (place.chars().count(), shown.chars().count()),
            (WIDTH, WIDTH + 2)
        );
    }

    #[test]
    fn two_places_far_apart() {
        let text = format!("FROM a\n{}USER b\n", "RUN x\n".repeat(1000));
        let spans = [Span::new(text.len() - 2, text.len() - 1), Span::new(0, 4)];
        let excerpt = Excerpt::new(&text, &spans);
        assert_eq!(&excerpt.text[excerpt.places[0].clone()], "b");
        assert_eq!(&excerpt.text[excerpt.places[1].clone()], "FROM");
        assert_eq!(excerpt.text.lines().count(), 1002);
        assert!(excerpt.text.len() < 1200);
    }
}
