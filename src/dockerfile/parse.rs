//! [`parse`]: a whole Dockerfile; lines, continuations, heredoc bodies (S1, S2).

use super::arguments::{Argument, parse_argument};
use super::diagnostic::{Diagnostic, DiagnosticKind};
use super::directive::{Directives, foreign_syntax, read_directives};
use super::flags::Flags;
use super::heredoc::{Heredoc, find_heredocs};
use super::instruction::{Instruction, InstructionKind, KEYWORDS, OnBuild};
use super::span::{Joined, Lines, Part, Span, Spanned};
use super::split::{Head, json_strings, split_head};

/// The longest line, without its newline.
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
    /// What is wrong with a line of the instruction being read: told in place of it, so that the rest
    /// of the instruction is not taken for another.
    too_long: Option<Diagnostic>,
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
            too_long: None,
            directives_end: 0,
            comments: Vec::new(),
        }
    }

    fn next_line(&mut self) -> Option<Line<'a>> {
        let whole = self.text[self.at..].split_inclusive('\n').next()?;
        let offset = self.at;
        self.at += whole.len();
        self.number += 1;
        let length = whole.strip_suffix('\n').unwrap_or(whole).len();
        if length > LONGEST_LINE {
            let span = Span::new(offset, offset + whole.trim_end().len());
            let message = format!("this line has {length} bytes, the limit is {LONGEST_LINE}");
            let error = Diagnostic::error(DiagnosticKind::Syntax, span, message)
                .hint("break it with an escape character at the end, or COPY its text from a file");
            self.too_long.get_or_insert(error);
        }
        Some(Line {
            text: whole.trim_end_matches(['\r', '\n']),
            whole,
            offset,
            number: self.number,
        })
    }

    /// The next instruction, or what is wrong with it; `None` at the end.
    fn next_instruction(&mut self) -> Option<Result<Instruction, Diagnostic>> {
        loop {
            let line = self.next_line()?;
            let mut found = None;
            if line.is_comment() {
                self.remember(line);
            } else {
                let comments = std::mem::take(&mut self.comments);
                if !line.is_blank() {
                    found = self.instruction(line, comments);
                }
            }
            if let Some(error) = self.too_long.take() {
                return Some(Err(error));
            }
            if found.is_some() {
                return found;
            }
        }
    }

    /// The instruction that begins with the line `first`; none in one that is continued to nothing.
    fn instruction(
        &mut self,
        first: Line<'a>,
        comments: Vec<Spanned<String>>,
    ) -> Option<Result<Instruction, Diagnostic>> {
        let (joined, blank_lines) = self.join(first);
        if joined.text.trim().is_empty() {
            return None;
        }
        let read = self.read(&joined, first.number);
        Some(read.map(|instruction| Instruction {
            comments,
            blank_lines,
            ..instruction
        }))
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
    fn join(&mut self, first: Line<'a>) -> (Joined, Vec<Span>) {
        let mut joined = Joined::default();
        let mut blank_lines = Vec::new();
        let lead = first.text.len() - first.text.trim_start().len();
        let (piece, mut more) = continued(&first.text[lead..], self.escape);
        joined.push(piece, first.offset + lead);
        while more {
            let Some(line) = self.next_line() else {
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
        (joined, blank_lines)
    }

    fn read(&mut self, joined: &Joined, first: usize) -> Result<Instruction, Diagnostic> {
        let line = joined.part().trim();
        let heredocs = self.heredocs(line)?;
        let lines = Lines {
            first,
            last: self.number,
        };
        build(line, heredocs, lines, self.escape)
    }

    fn heredocs(&mut self, line: Part<'_>) -> Result<Vec<Heredoc>, Diagnostic> {
        if !line.text.contains("<<") {
            return Ok(Vec::new());
        }
        let head = inner(line, self.escape);
        let keyword = head.keyword.text.to_ascii_uppercase();
        let known = KEYWORDS.contains(&keyword.as_str());
        let holds = matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") || !known;
        if !holds || json_strings(head.rest)?.is_some() {
            return Ok(Vec::new());
        }
        let (at, number) = (self.at, self.number);
        let mut heredocs = find_heredocs(line);
        for heredoc in &mut heredocs {
            match self.read_body(heredoc) {
                Ok(()) => {}
                Err(error) if known => return Err(error),
                // The bodies of a misspelt RUN are not instructions, but this opens none.
                Err(_) => {
                    (self.at, self.number) = (at, number);
                    return Ok(Vec::new());
                }
            }
        }
        Ok(heredocs)
    }

    fn read_body(&mut self, heredoc: &mut Heredoc) -> Result<(), Diagnostic> {
        let mut near: Option<(Line<'a>, &'static str)> = None;
        heredoc.place = Span::new(self.at, self.at);
        while let Some(line) = self.next_line() {
            if heredoc.ends_with(line.whole) {
                return Ok(());
            }
            if near.is_none() {
                near = heredoc.almost_ends_with(line.text).map(|why| (line, why));
            }
            heredoc.body.push_str(line.whole);
            heredoc.place.end = self.at;
        }
        let message = format!("this heredoc has no end: no line is {:?}", heredoc.name);
        let error = Diagnostic::error(DiagnosticKind::Heredoc, heredoc.span, message);
        let Some((line, why)) = near else {
            return Err(error.hint("the delimiter must stand alone on its line, without spaces"));
        };
        // What follows that line is probably no text of the heredoc: it is looked through as well.
        self.at = line.offset + line.whole.len();
        self.number = line.number;
        self.too_long = None;
        let span = Span::new(line.offset, line.offset + line.text.len());
        Err(error
            .context(span, "this line was probably meant")
            .hint(why))
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

fn build(
    line: Part<'_>,
    heredocs: Vec<Heredoc>,
    lines: Lines,
    escape: char,
) -> Result<Instruction, Diagnostic> {
    let head = split_head(line, escape);
    let keyword = head.keyword.text.to_ascii_uppercase();
    if let Some(span) = head.open_flag {
        let message = "a quote in this flag is not closed";
        return Err(Diagnostic::error(DiagnosticKind::Flag, span, message));
    }
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
    Flags::read(&head.flags, &[])?;
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
