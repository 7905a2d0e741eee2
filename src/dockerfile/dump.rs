//! A parsed file as JSON, for programs, and as a Dockerfile in one form. `docs/parse.md` describes the
//! shape; members are added to it, never changed.

use serde_json::{Map, Value, json};

use super::instruction::{CommandLine, Healthcheck, Instruction, InstructionKind, Transfer};
use super::parse::{Dockerfile, parse};
use super::position::Positions;
use super::span::{Span, Spanned};

/// The number of the shape.
const VERSION: u32 = 1;

/// `dockerfile`, parsed from `text`, as JSON.
pub fn dump(dockerfile: &Dockerfile, text: &str) -> Value {
    let dump = Dump(Positions::new(text));
    let directives = &dockerfile.directives;
    let mut told = json!({ "escape": directives.escape });
    for (name, directive) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(directive) = directive {
            told[name] = dump.text(directive);
        }
    }
    let instructions = dockerfile.instructions.iter();
    json!({
        "version": VERSION,
        "directives": told,
        "instructions": instructions.map(|one| dump.instruction(one)).collect::<Vec<_>>(),
    })
}

/// `dockerfile` with one instruction a line, keywords in upper case, without comments; none for one
/// that cannot be written so, because an instruction ends in the escape character or is too long.
pub fn normalised(dockerfile: &Dockerfile) -> Option<String> {
    let directives = &dockerfile.directives;
    let mut text = String::new();
    for (name, directive) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(directive) = directive {
            text.push_str(&format!("# {name}={}\n", directive.value));
        }
    }
    if directives.escape != '\\' {
        text.push_str(&format!("# escape={}\n", directives.escape));
    }
    for instruction in &dockerfile.instructions {
        text.push_str(&one_line(instruction));
        text.push('\n');
        for heredoc in &instruction.heredocs {
            text.push_str(&heredoc.body);
            text.push_str(&heredoc.name);
            text.push('\n');
        }
    }
    let again = parse(&text).ok()?;
    let lines =
        |file: &Dockerfile| -> Vec<String> { file.instructions.iter().map(one_line).collect() };
    (lines(&again) == lines(dockerfile)).then_some(text)
}

fn one_line(instruction: &Instruction) -> String {
    let keyword = &instruction.keyword.value;
    let rest = instruction.text.get(keyword.len()..).unwrap_or_default();
    let line = format!("{} {}", keyword.to_uppercase(), rest.trim());
    line.trim_end().to_owned()
}

struct Dump<'a>(Positions<'a>);

impl Dump<'_> {
    fn place(&self, offset: usize) -> Value {
        let (line, column) = self.0.at(offset);
        json!({ "offset": offset, "line": line, "column": column })
    }

    fn span(&self, span: Span) -> Value {
        json!({ "start": self.place(span.start), "end": self.place(span.end) })
    }

    fn text(&self, text: &Spanned<String>) -> Value {
        json!({ "value": text.value, "span": self.span(text.span) })
    }

    fn texts(&self, texts: &[Spanned<String>]) -> Value {
        texts.iter().map(|text| self.text(text)).collect()
    }

    fn optional(&self, text: Option<&Spanned<String>>) -> Value {
        text.map_or(Value::Null, |text| self.text(text))
    }

    fn instruction(&self, instruction: &Instruction) -> Value {
        let mut told = Map::new();
        let keyword = &instruction.keyword;
        told.insert("instruction".into(), json!(keyword.value.to_uppercase()));
        told.insert("keyword".into(), self.text(keyword));
        told.insert("span".into(), self.span(instruction.span));
        let lines = instruction.lines;
        let lines = json!({ "first": lines.first, "last": lines.last });
        told.insert("lines".into(), lines);
        told.insert("text".into(), json!(instruction.text));
        told.insert("comments".into(), self.texts(&instruction.comments));
        told.insert("flags".into(), self.flags(instruction));
        told.insert("heredocs".into(), self.heredocs(instruction));
        told.insert("arguments".into(), self.arguments(instruction));
        Value::Object(told)
    }

    fn flags(&self, instruction: &Instruction) -> Value {
        let flags = instruction.flags.iter().map(|flag| {
            let word = flag.value.strip_prefix("--").unwrap_or(&flag.value);
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, json!(value)),
                None => (word, Value::Null),
            };
            json!({ "name": name, "value": value, "span": self.span(flag.span) })
        });
        flags.collect()
    }

    fn heredocs(&self, instruction: &Instruction) -> Value {
        let heredocs = instruction.heredocs.iter().map(|heredoc| {
            json!({
                "name": heredoc.name,
                "descriptor": heredoc.descriptor,
                "stripTabs": heredoc.strip_tabs,
                "expand": heredoc.expand,
                "body": heredoc.body,
                "span": self.span(heredoc.span),
            })
        });
        heredocs.collect()
    }

    fn arguments(&self, instruction: &Instruction) -> Value {
        match &instruction.kind {
            InstructionKind::From(from) => json!({
                "image": self.text(&from.image),
                "name": self.optional(from.name.as_ref()),
            }),
            InstructionKind::Arg(items) => {
                let items = items.iter().map(|item| {
                    let default = self.optional(item.default.as_ref());
                    json!({ "name": self.text(&item.name), "default": default })
                });
                json!({ "items": items.collect::<Vec<_>>() })
            }
            InstructionKind::Run(run) => self.command(&run.command),
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
                self.command(command)
            }
            InstructionKind::Shell(argv) => json!({ "form": "json", "command": argv }),
            InstructionKind::Copy(copy) => self.transfer(copy),
            InstructionKind::Add(add) => self.transfer(&add.transfer),
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
                let legacy = pairs.iter().any(|pair| pair.legacy);
                let pairs = pairs.iter().map(
                    |pair| json!({ "key": self.text(&pair.key), "value": self.text(&pair.value) }),
                );
                json!({ "pairs": pairs.collect::<Vec<_>>(), "legacy": legacy })
            }
            InstructionKind::Workdir(text)
            | InstructionKind::User(text)
            | InstructionKind::StopSignal(text)
            | InstructionKind::Maintainer(text) => json!({ "value": self.text(text) }),
            InstructionKind::Expose(texts) | InstructionKind::Volume(texts) => {
                json!({ "values": self.texts(texts) })
            }
            InstructionKind::Healthcheck(Healthcheck::None) => json!({ "type": "NONE" }),
            InstructionKind::Healthcheck(Healthcheck::Cmd { command, .. }) => {
                let mut told = self.command(command);
                told["type"] = json!("CMD");
                told
            }
            InstructionKind::OnBuild(trigger) => json!({
                "text": trigger.text,
                "trigger": self.instruction(&trigger.instruction),
            }),
        }
    }

    fn command(&self, command: &CommandLine) -> Value {
        match command {
            CommandLine::Shell(text) => json!({
                "form": "shell",
                "command": text.value,
                "span": self.span(text.span),
            }),
            CommandLine::Exec(argv) => json!({
                "form": "json",
                "command": argv.value,
                "span": self.span(argv.span),
            }),
        }
    }

    fn transfer(&self, transfer: &Transfer) -> Value {
        let inline = transfer.inline.iter().map(|file| self.text(&file.name));
        json!({
            "sources": self.texts(&transfer.sources),
            "inline": inline.collect::<Vec<_>>(),
            "destination": self.text(&transfer.dest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_shape() {
        let text = "# escape=`\n# syntax=x\n\n# b builds\nFROM --platform=$P a AS b\n\
                    RUN --mount=type=cache,target=/c <<E\nx\nE\nCMD [\"a\"]\nENV A b\n\
                    ONBUILD COPY --link x `\n  /y\n";
        let told = dump(&parse(text).unwrap(), text);
        assert_eq!(told["version"], 1);
        assert_eq!(told["directives"]["escape"], "`");
        assert_eq!(told["directives"]["syntax"]["value"], "x");
        let all = &told["instructions"];
        assert_eq!(all[0]["comments"][0]["value"], "b builds");
        assert_eq!(all[0]["flags"][0]["name"], "platform");
        assert_eq!(all[0]["flags"][0]["value"], "$P");
        assert_eq!(all[0]["arguments"]["name"]["value"], "b");
        assert_eq!(all[0]["span"]["start"]["line"], 5);
        assert_eq!(all[1]["heredocs"][0]["body"], "x\n");
        assert_eq!(all[1]["lines"], json!({ "first": 6, "last": 8 }));
        assert_eq!(all[1]["arguments"]["form"], "shell");
        assert_eq!(all[2]["arguments"]["command"], json!(["a"]));
        assert_eq!(all[3]["arguments"]["legacy"], true);
        let trigger = &all[4]["arguments"]["trigger"];
        assert_eq!(trigger["instruction"], "COPY");
        assert_eq!(trigger["flags"][0]["value"], Value::Null);
        let end = &trigger["arguments"]["destination"]["span"]["start"];
        let offset = usize::try_from(end["offset"].as_u64().unwrap()).unwrap();
        assert_eq!(&text[offset..offset + 2], "/y");
        assert_eq!(end["column"], 3);
    }

    #[test]
    fn one_form() {
        for (text, expected) in [
            (
                "#syntax=x\n# escape = `\nfrom  a\n# c\nrun a `\n\n  b\ncopy <<E /x\n # y\nE\n",
                Some("# syntax=x\n# escape=`\nFROM a\nRUN a   b\nCOPY <<E /x\n # y\nE\n"),
            ),
            ("FROM a\nCMD", Some("FROM a\nCMD\n")),
            ("FROM a\nRUN a \\ \\", None),
        ] {
            let dockerfile = parse(text).unwrap();
            let found = normalised(&dockerfile);
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
    }
}
