//! Diagnostics as people read them: the source line, the place, the reason, the cure.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Severity};
use super::excerpt::{Excerpt, visible};
use super::span::Span;

/// How many characters of a message, a label or a hint are shown: a value in it may be a whole line.
const LONGEST: usize = 400;
/// Wider than any line of an excerpt, so that lines are cut in one place only.
const TERMINAL: usize = 500;

/// `diagnostic` with the lines it is about, taken from `text`, the Dockerfile named `source_name`.
/// No newline at the end, and whatever stands in the Dockerfile, nothing that steers a terminal.
pub fn render(diagnostic: &Diagnostic, source_name: &str, text: &str, color: bool) -> String {
    let (name, text) = match &diagnostic.trigger {
        Some(trigger) => ("ONBUILD trigger", trigger.as_str()),
        None => (source_name, text),
    };
    let name = clean(name);
    let spans: Vec<Span> = diagnostic.labels.iter().map(|label| label.span).collect();
    let excerpt = Excerpt::new(text, &spans);
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(clean(&diagnostic.message));
    let mut group = if diagnostic.labels.is_empty() {
        Group::with_title(title)
    } else {
        title.element(snippet(diagnostic, &name, &excerpt))
    };
    for hint in &diagnostic.hints {
        group = group.element(Level::HELP.message(clean(hint)));
    }
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.term_width(TERMINAL).render(&[group])
}

fn snippet<'a>(
    diagnostic: &Diagnostic,
    name: &'a str,
    excerpt: &'a Excerpt,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let mut snippet = Snippet::source(&excerpt.text)
        .line_start(excerpt.first)
        .path(name);
    for (index, label) in diagnostic.labels.iter().enumerate() {
        let kind = if index == 0 {
            AnnotationKind::Primary
        } else {
            AnnotationKind::Context
        };
        let mut annotation = kind.span(excerpt.places[index].clone());
        if !label.text.is_empty() {
            annotation = annotation.label(clean(&label.text));
        }
        snippet = snippet.annotation(annotation);
    }
    snippet
}

/// One line of bounded length, without control characters. A longer one loses its middle: the reason
/// stands at the end, behind a path or a value.
fn clean(message: &str) -> String {
    let letters = message.chars().map(|letter| match letter {
        '\n' | '\t' => ' ',
        letter => visible(letter),
    });
    let mut text: String = letters.collect();
    let length = text.chars().count();
    let place = |number: usize| {
        text.char_indices()
            .nth(number)
            .map_or(text.len(), |(at, _)| at)
    };
    if length > LONGEST {
        let middle = place(LONGEST / 2)..place(length - LONGEST / 2);
        text.replace_range(middle, "\u{2026}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::DiagnosticKind;
    use super::*;

    #[test]
    fn shows_the_line_the_place_and_the_hint() {
        let text = "FROM a\nRNU make\n";
        let diagnostic = Diagnostic::error(
            DiagnosticKind::UnknownInstruction,
            Span::new(7, 10),
            "unknown instruction RNU",
        )
        .label("not an instruction")
        .nearest("RNU", ["RUN"]);
        let shown = render(&diagnostic, "Dockerfile", text, false);
        for expected in [
            "error: unknown instruction RNU",
            "Dockerfile:2:1",
            "RNU make",
            "^^^ not an instruction",
            "did you mean RUN?",
        ] {
            assert!(shown.contains(expected), "{expected:?} not in\n{shown}");
        }
    }

    #[test]
    fn a_long_message_loses_its_middle() {
        let message = |middle: usize| format!("cannot {}: reason", "\u{e9}".repeat(middle));
        assert_eq!(clean(&message(10)), message(10));
        let cut = clean(&message(5000));
        assert!(cut.starts_with("cannot \u{e9}") && cut.ends_with("\u{e9}: reason"));
        assert_eq!(cut.chars().count(), LONGEST / 2 * 2 + 1);
    }

    #[test]
    fn a_span_outside_the_text_is_cut() {
        let diagnostic = Diagnostic::error(DiagnosticKind::Syntax, Span::new(3, 900), "x");
        assert!(render(&diagnostic, "f", "ab\u{e9}", true).contains('x'));
        assert!(render(&diagnostic, "f", "", false).contains('x'));
    }
}
