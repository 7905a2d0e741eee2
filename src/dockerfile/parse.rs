//! [`parse`]: a whole Dockerfile; lines, continuations, heredoc bodies (S1, S2).

use super::arguments::{Argument, parse_argument};
use super::diagnostic::{Diagnostic, DiagnosticKind};
use super::directive::{Directives, foreign_syntax, read_directives};
use super::heredoc::{Heredoc, find_heredocs};
use super::instruction::{Instruction, InstructionKind, OnBuild};
use super::span::{Joined, Lines, Part, Span, Spanned};
use super::split::{Head, json_strings, split_head};

/// The longest line, newline included.
const LONGEST_LINE: usize = 65535;

/// A parsed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The directives at its top.
    pub directives: Directives,
    /// Its instructions, in order; the first that is not `ARG` is `FROM`.
    pub instructions: Vec<Instruction>,
}

/// Parses a Dockerfile. The error holds everything that is wrong, in the order of the file.
pub fn parse(text: &str) -> Result<Dockerfile, Vec<Diagnostic>> {
    let start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let directives = read_directives(&text[start..], start).map_err(|error| vec![error])?;
    let mut reader = Reader::new(text, start, directives.escape);
    reader.directives_end = directives.end;
    let mut instructions = Vec::new();
    let mut errors = Vec::new();
    while let Some(result) = reader.next_instruction() {
        match result {
            Ok(instruction) => instructions.push(instruction),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(check_order(&instructions, errors.is_empty(), text));
    if errors.is_empty() {
        return Ok(Dockerfile {
            directives,
            instructions,
        });
    }
    if let (Some(frontend), Some(first)) = (foreign_syntax(&text[start..]), errors.first_mut()) {
        let hint = format!("the file is written for {frontend}; only Dockerfiles can be read");
        first.hints.push(hint);
    }
    Err(errors)
}

/// Parses the text of an `ONBUILD` trigger from an image's configuration.
///
/// Its spans point into `text`, and a diagnostic carries the text.
pub fn parse_onbuild_trigger(text: &str) -> Result<Instruction, Diagnostic> {
    let mut reader = Reader::new(text, 0, '\\');
    let parsed = match reader.next_instruction() {
        Some(result) => {
            result.and_then(|instruction| check_trigger(&instruction).map(|()| instruction))
        }
        None => Err(Diagnostic::error(
            DiagnosticKind::Syntax,
            Span::default(),
            "this ONBUILD trigger of the base holds no instruction",
        )),
    };
    let parsed = match (parsed, reader.next_instruction()) {
        (Ok(first), Some(_)) => Err(Diagnostic::error(
            DiagnosticKind::Syntax,
            first.span,
            "this ONBUILD trigger of the base holds more than one instruction",
        )),
        (parsed, _) => parsed,
    };
    match parsed {
        Ok(mut instruction) => {
            instruction.trigger = Some(text.to_owned());
            Ok(instruction)
        }
        Err(error) => Err(error.in_trigger(Some(text))),
    }
}

/// What must not stand in a trigger.
fn check_trigger(instruction: &Instruction) -> Result<(), Diagnostic> {
    let refused = matches!(
        instruction.kind,
        InstructionKind::OnBuild(_) | InstructionKind::From(_) | InstructionKind::Maintainer(_)
    );
    if refused {
        let keyword = instruction.keyword.value.to_uppercase();
        return Err(Diagnostic::error(
            DiagnosticKind::Syntax,
            instruction.keyword.span,
            format!("{keyword} is not allowed as an ONBUILD trigger"),
        ));
    }
    Ok(())
}

/// Only `ARG` before the first `FROM`, and one `FROM` at least. Instructions that failed to parse
/// may have been the missing ones, so absence is told only if the file is `sound`.
fn check_order(instructions: &[Instruction], sound: bool, text: &str) -> Option<Diagnostic> {
    let other = instructions
        .iter()
        .find(|instruction| !matches!(instruction.kind, InstructionKind::Arg(_)));
    match other {
        Some(first) if matches!(first.kind, InstructionKind::From(_)) || !sound => None,
        Some(first) => Some(
            Diagnostic::error(
                DiagnosticKind::Syntax,
                first.keyword.span,
                format!("{} stands before the first FROM", first.keyword.value),
            )
            .hint("only ARG may come before FROM"),
        ),
        None if !sound => None,
        None => {
            let end = Span::new(0, text.find('\n').unwrap_or(text.len()));
            let message = if instructions.is_empty() {
                "the Dockerfile holds no instructions"
            } else {
                "the Dockerfile has no FROM"
            };
            Some(Diagnostic::error(DiagnosticKind::Syntax, end, message))
        }
    }
}

/// One physical line.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// Without the newline.
    text: &'a str,
    /// With it.
    whole: &'a str,
    offset: usize,
    number: usize,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }
}

struct Reader<'a> {
    text: &'a str,
    /// The offset of the next line.
    at: usize,
    /// The number of the line last read.
    number: usize,
    escape: char,
    /// Where the directives end: they are no comments.
    directives_end: usize,
    /// The comment lines directly above the line to be read.
    comments: Vec<Spanned<String>>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, start: usize, escape: char) -> Self {
        Self {
            text,
            at: start,
            number: 0,
            escape,
            directives_end: 0,
            comments: Vec::new(),
        }
    }

    fn next_line(&mut self) -> Result<Option<Line<'a>>, Diagnostic> {
        let Some(whole) = self.text[self.at..].split_inclusive('\n').next() else {
            return Ok(None);
        };
        let offset = self.at;
        self.at += whole.len();
        self.number += 1;
        if whole.len() > LONGEST_LINE {
            return Err(Diagnostic::error(
                DiagnosticKind::Syntax,
                Span::new(offset, offset),
                format!(
                    "this line has {} bytes, the limit is {LONGEST_LINE}",
                    whole.len()
                ),
            ));
        }
        Ok(Some(Line {
            text: whole.trim_end_matches(['\r', '\n']),
            whole,
            offset,
            number: self.number,
        }))
    }

    /// The next instruction, or what is wrong with it; `None` at the end.
    fn next_instruction(&mut self) -> Option<Result<Instruction, Diagnostic>> {
        loop {
            let line = match self.next_line() {
                Ok(line) => line?,
                Err(error) => return Some(Err(error)),
            };
            if line.is_comment() {
                self.remember(line);
                continue;
            }
            let comments = std::mem::take(&mut self.comments);
            if line.is_blank() {
                continue;
            }
            let (joined, blank_lines) = match self.join(line) {
                Ok(joined) => joined,
                Err(error) => return Some(Err(error)),
            };
            if !joined.text.trim().is_empty() {
                let read = self.read(&joined, line.number);
                return Some(read.map(|instruction| Instruction {
                    comments,
                    blank_lines,
                    ..instruction
                }));
            }
        }
    }

    /// Keeps the comment `line` for the instruction that may follow.
    fn remember(&mut self, line: Line<'a>) {
        if line.offset < self.directives_end {
            return;
        }
        let Some((before, text)) = line.text.split_once('#') else {
            return;
        };
        let lead = before.len() + 1 + (text.len() - text.trim_start().len());
        let start = line.offset + lead;
        let text = text.trim();
        let span = Span::new(start, start + text.len());
        self.comments.push(Spanned::new(text.to_owned(), span));
    }

    /// Appends continuation lines to `first`; also gives the places of blank lines among them.
    fn join(&mut self, first: Line<'a>) -> Result<(Joined, Vec<Span>), Diagnostic> {
        let mut joined = Joined::default();
        let mut blank_lines = Vec::new();
        let lead = first.text.len() - first.text.trim_start().len();
        let (piece, mut more) = continued(&first.text[lead..], self.escape);
        joined.push(piece, first.offset + lead);
        while more {
            let Some(line) = self.next_line()? else {
                break;
            };
            if line.is_comment() {
                continue;
            }
            if line.is_blank() {
                blank_lines.push(Span::new(line.offset, line.offset));
                continue;
            }
            let (piece, goes_on) = continued(line.text, self.escape);
            joined.push(piece, line.offset);
            more = goes_on;
        }
        Ok((joined, blank_lines))
    }

    fn read(&mut self, joined: &Joined, first: usize) -> Result<Instruction, Diagnostic> {
        let line = joined.part().trim();
        let mut heredocs = if may_hold_heredocs(line, self.escape)? {
            find_heredocs(line)
        } else {
            Vec::new()
        };
        for heredoc in &mut heredocs {
            self.read_body(heredoc)?;
        }
        let lines = Lines {
            first,
            last: self.number,
        };
        build(line, heredocs, lines, self.escape)
    }

    fn read_body(&mut self, heredoc: &mut Heredoc) -> Result<(), Diagnostic> {
        while let Some(line) = self.next_line()? {
            if heredoc.ends_with(line.whole) {
                return Ok(());
            }
            heredoc.body.push_str(line.whole);
        }
        Err(Diagnostic::error(
            DiagnosticKind::Heredoc,
            heredoc.span,
            format!("this heredoc has no end: no line is {:?}", heredoc.name),
        )
        .hint("the delimiter must stand alone on its line, without spaces"))
    }
}

/// The line without its continuation mark, and whether it had one.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let bare = line.trim_end_matches([' ', '\t']);
    match bare.strip_suffix(escape) {
        Some(piece) if !piece.ends_with(escape) => (piece, true),
        _ => (line, false),
    }
}

/// The instruction itself, or for `ONBUILD` the one in it.
fn inner(line: Part<'_>, escape: char) -> Head<'_> {
    let head = split_head(line, escape);
    if head.keyword.text.eq_ignore_ascii_case("ONBUILD") && !head.rest.text.is_empty() {
        return split_head(head.rest, escape);
    }
    head
}

fn may_hold_heredocs(line: Part<'_>, escape: char) -> Result<bool, Diagnostic> {
    let head = inner(line, escape);
    let keyword = head.keyword.text.to_ascii_uppercase();
    let named = matches!(keyword.as_str(), "RUN" | "COPY" | "ADD");
    Ok(named && line.text.contains("<<") && json_strings(head.rest)?.is_none())
}

fn build(
    line: Part<'_>,
    heredocs: Vec<Heredoc>,
    lines: Lines,
    escape: char,
) -> Result<Instruction, Diagnostic> {
    let head = split_head(line, escape);
    let keyword = head.keyword.text.to_ascii_uppercase();
    let kind = if keyword == "ONBUILD" {
        read_onbuild(&head, &heredocs, lines, escape)?
    } else {
        parse_argument(&Argument {
            keyword: &keyword,
            head: &head,
            heredocs: &heredocs,
            escape,
        })?
    };
    Ok(Instruction {
        span: line.span(),
        lines,
        keyword: head.keyword.owned(),
        text: line.text.to_owned(),
        flags: head.flags,
        heredocs,
        comments: Vec::new(),
        blank_lines: Vec::new(),
        kind,
        trigger: None,
    })
}

fn read_onbuild(
    head: &Head<'_>,
    heredocs: &[Heredoc],
    lines: Lines,
    escape: char,
) -> Result<InstructionKind, Diagnostic> {
    if let Some(flag) = head.flags.first() {
        let message = format!("unknown flag {}", flag.value);
        return Err(Diagnostic::error(DiagnosticKind::Flag, flag.span, message));
    }
    if head.rest.text.is_empty() {
        let span = head.keyword.span();
        let message = "ONBUILD needs an instruction";
        return Err(Diagnostic::error(DiagnosticKind::Syntax, span, message));
    }
    let nested = split_head(head.rest, escape).keyword;
    if nested.text.eq_ignore_ascii_case("ONBUILD") {
        let message = "ONBUILD is not allowed as an ONBUILD trigger";
        return Err(Diagnostic::error(
            DiagnosticKind::Syntax,
            nested.span(),
            message,
        ));
    }
    let instruction = build(head.rest, heredocs.to_vec(), lines, escape)?;
    check_trigger(&instruction)?;
    let mut text = head.rest.text.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.body);
        text.push_str(&heredoc.name);
    }
    Ok(InstructionKind::OnBuild(OnBuild {
        text,
        instruction: Box::new(instruction),
    }))
}
