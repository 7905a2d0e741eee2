//! Diagnostics as people read them: the source line, the place, the reason, the cure.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Severity};
use super::span::Span;

/// `diagnostic` with the lines it is about, taken from `text`, the Dockerfile named `source_name`.
/// No newline at the end.
pub fn render(diagnostic: &Diagnostic, source_name: &str, text: &str, color: bool) -> String {
    let (name, text) = match &diagnostic.trigger {
        Some(trigger) => ("ONBUILD trigger", trigger.as_str()),
        None => (source_name, text),
    };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(clean(&diagnostic.message));
    let mut group = if diagnostic.labels.is_empty() {
        Group::with_title(title)
    } else {
        title.element(snippet(diagnostic, name, text))
    };
    for hint in &diagnostic.hints {
        group = group.element(Level::HELP.message(clean(hint)));
    }
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.render(&[group])
}

fn snippet<'a>(
    diagnostic: &'a Diagnostic,
    name: &'a str,
    text: &'a str,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let mut snippet = Snippet::source(text).path(name);
    for (index, label) in diagnostic.labels.iter().enumerate() {
        let kind = if index == 0 {
            AnnotationKind::Primary
        } else {
            AnnotationKind::Context
        };
        let mut annotation = kind.span(within(label.span, text));
        if !label.text.is_empty() {
            annotation = annotation.label(label.text.as_str());
        }
        snippet = snippet.annotation(annotation);
    }
    snippet
}

/// `span` cut to `text`, to its first line, and to character boundaries.
fn within(span: Span, text: &str) -> std::ops::Range<usize> {
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

/// Control characters from the Dockerfile must not reach a terminal.
fn clean(message: &str) -> String {
    message
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
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
    fn a_span_outside_the_text_is_cut() {
        let diagnostic = Diagnostic::error(DiagnosticKind::Syntax, Span::new(3, 900), "x");
        assert!(render(&diagnostic, "f", "ab\u{e9}", true).contains('x'));
        assert!(render(&diagnostic, "f", "", false).contains('x'));
    }
}
