//! From the field of a key that differs to a reason that people understand.

use std::os::unix::ffi::OsStringExt;

use crate::cache::{Change, Changed, FieldChange, Listing};
use crate::image::Digest;
use crate::plan::{is_secret_name, masked};
use crate::progress::{Reason, ReasonKind};
use crate::store::{Store, StoreError};

/// A longer value is not shown.
const MOST_SHOWN: usize = 80;
/// What a value that is not there is called.
const NOTHING: &str = "nothing";

/// The names of a stage's arguments.
pub(super) struct Args<'a> {
    pub(super) now: &'a [String],
    pub(super) was: &'a [String],
}

/// The reason for a difference between two runs of a step, whose instructions were and are `texts`.
pub(super) fn reason(
    store: &Store,
    change: &FieldChange<'_>,
    args: &Args<'_>,
    texts: (&str, &str),
) -> Result<Reason, StoreError> {
    Ok(match change.name {
        "env" => variable(change, args),
        "argument" => command(change, texts),
        "mount" => mount(store, change)?,
        "content" => content(store, change, texts)?,
        "http" => fetched("its content", change),
        "git" => fetched("the commit", change),
        "name" | "mtime" | "parts" | "subdir" | "remote" => fetched(change.name, change),
        name => option(name, change),
    })
}

/// The first variable that differs.
fn variable(change: &FieldChange<'_>, args: &Args<'_>) -> Reason {
    let split = |text: &&'_ str| -> (String, String) {
        match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            // A long one is known by its digest only.
            None => ("with a long value".to_owned(), (*text).to_owned()),
        }
    };
    let old: Vec<_> = change.old.iter().map(split).collect();
    let new: Vec<_> = change.new.iter().map(split).collect();
    let value = |of: &[(String, String)], name: &str| -> Option<String> {
        let found = of.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let names = || new.iter().chain(&old).map(|(name, _)| name);
    let differs = names().find(|name| value(&old, name) != value(&new, name));
    let Some(name) = differs else {
        return Reason::new(ReasonKind::Env).named("order");
    };
    let is_arg = |known: &[String]| known.contains(name);
    let kind = match is_arg(args.now) || (is_arg(args.was) && value(&new, name).is_none()) {
        true => ReasonKind::Arg,
        false => ReasonKind::Env,
    };
    let (old, new) = (value(&old, name), value(&new, name));
    let is_shown = !is_secret_name(name)
        && [&old, &new]
            .into_iter()
            .flatten()
            .all(|value| value.len() <= MOST_SHOWN);
    let shown = |value: Option<String>| {
        let masked = value.map(|value| masked(&value));
        masked.filter(|_| is_shown)
    };
    // That it is new, or gone, is told without what it may not show.
    match (old, new) {
        (None, Some(_)) if !is_shown => Reason::new(kind).named(format!("{name} (new)")),
        (Some(_), None) if !is_shown => Reason::new(kind).named(format!("{name} (gone)")),
        (old, new) => Reason {
            old: shown(old),
            new: shown(new),
            ..Reason::new(kind).named(name)
        },
    }
}

/// The first word of the command that differs.
fn command(change: &FieldChange<'_>, (old_text, new_text): (&str, &str)) -> Reason {
    // Long ones are known by their digests, but the instructions have their first words.
    let is_long = |one: &&str| one.parse::<Digest>().is_ok();
    if change.old.iter().chain(&change.new).any(is_long) {
        let cut = |text: &'_ str| {
            text.split_once('…')
                .map_or(text.to_owned(), |cut| cut.0.to_owned())
        };
        let (old, new) = (cut(old_text), cut(new_text));
        return match old == new {
            true => Reason::new(ReasonKind::Command),
            false => first_word(&[&old], &[&new]),
        };
    }
    first_word(&change.old, &change.new)
}

fn first_word(old: &[&str], new: &[&str]) -> Reason {
    let words = |arguments: &[&str]| -> Vec<String> {
        let words = arguments.iter().flat_map(|one| one.split_whitespace());
        words.map(str::to_owned).collect()
    };
    let (old, new) = (words(old), words(new));
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let word = |words: &[String]| -> String {
        let word = words.get(same).map_or(NOTHING, String::as_str);
        cut(&masked(word))
    };
    let (old, new) = (word(&old), word(&new));
    if old == new {
        // They differ in their spaces, or in what is masked.
        return Reason::new(ReasonKind::Command);
    }
    Reason::new(ReasonKind::Command).changed(old, new)
}

/// The first mount that differs, or the first file in it.
fn mount(store: &Store, change: &FieldChange<'_>) -> Result<Reason, StoreError> {
    let (old, new) = (&change.old, &change.new);
    let same = old
        .iter()
        .zip(new.iter())
        .take_while(|(a, b)| a == b)
        .count();
    let (old, new) = (old.get(same).copied(), new.get(same).copied());
    let target = |mount: &str| -> String {
        let quoted = mount.strip_prefix("target=Some(\"");
        let target = quoted.and_then(|rest| rest.split_once("\")"));
        target
            .map_or("its usual place", |(target, _)| target)
            .to_owned()
    };
    let name = new.or(old).map(target).unwrap_or_default();
    if let (Some(old), Some(new)) = (old, new)
        && let (Some((old_rest, old)), Some((new_rest, new))) =
            (old.rsplit_once(' '), new.rsplit_once(' '))
        && old_rest == new_rest
        && let Some(changed) = first_changed(store, old, new)?
    {
        return Ok(Reason {
            place: Some(format!("the mount at {name}")),
            ..file(&changed)
        });
    }
    let reason = Reason::new(ReasonKind::Mount).named(name);
    Ok(match (old, new) {
        (None, Some(_)) => Reason {
            new: Some("mounted".into()),
            ..reason
        },
        (Some(_), None) => Reason {
            old: Some("mounted".into()),
            ..reason
        },
        _ => reason,
    })
}

/// The first file that differs, or other files altogether.
fn content(
    store: &Store,
    change: &FieldChange<'_>,
    (old_text, new_text): (&str, &str),
) -> Result<Reason, StoreError> {
    let unknown = Reason::new(ReasonKind::Files);
    if old_text != new_text {
        return Ok(Reason::new(ReasonKind::Sources).changed(cut(old_text), cut(new_text)));
    }
    let (old, new) = (&change.old, &change.new);
    let pair = old.iter().zip(new.iter()).find(|(old, new)| old != new);
    let Some((old, new)) = pair else {
        return Ok(unknown);
    };
    let changed = first_changed(store, old, new)?;
    let from = new_text.split(' ').find(|word| word.starts_with("--from="));
    Ok(Reason {
        place: from.map(str::to_owned),
        ..changed.map_or(unknown, |changed| file(&changed))
    })
}

/// The first entry in which two contents differ, if both are listed.
fn first_changed(store: &Store, old: &str, new: &str) -> Result<Option<Changed>, StoreError> {
    let read = |digest: &str| -> Result<Option<Listing>, StoreError> {
        let Ok(digest) = digest.parse::<Digest>() else {
            return Ok(None);
        };
        let bytes = store.listing(&digest)?;
        Ok(bytes.and_then(|bytes| Listing::from_bytes(&bytes)))
    };
    let (Some(old), Some(new)) = (read(old)?, read(new)?) else {
        return Ok(None);
    };
    Ok(new.first_change(&old))
}

fn file(changed: &Changed) -> Reason {
    use ReasonKind::{FileAdded, FileContent, FileDeleted, FileMode, FileOwner, FileType};
    let reason = match changed.change {
        Change::Added => Reason::new(FileAdded),
        Change::Deleted => Reason::new(FileDeleted),
        Change::Content => Reason::new(FileContent),
        Change::Kind => Reason::new(FileType),
        Change::Mode(old, new) => {
            Reason::new(FileMode).changed(format!("{old:04o}"), format!("{new:04o}"))
        }
        Change::Owner(old, new) => Reason::new(FileOwner).changed(
            format!("{}:{}", old.0, old.1),
            format!("{}:{}", new.0, new.1),
        ),
    };
    let path = std::ffi::OsString::from_vec(changed.path.clone());
    Reason {
        more: changed.more,
        ..reason.named(path.to_string_lossy())
    }
}

fn fetched(what: &str, change: &FieldChange<'_>) -> Reason {
    let reason = Reason::new(ReasonKind::Fetched).named(what);
    match (change.old.as_slice(), change.new.as_slice()) {
        ([old], [new]) => reason.changed(cut(&masked(old)), cut(&masked(new))),
        _ => reason,
    }
}

/// Another field, by the name that people know it by.
fn option(field: &str, change: &FieldChange<'_>) -> Reason {
    let (name, is_shown) = match field {
        "platform" => ("the platform", true),
        "workdir" => ("WORKDIR", true),
        "user" => ("USER", true),
        "network" => ("--network", true),
        "security" => ("--security", true),
        "hostname" => ("the host name", true),
        "host" => ("--add-host", true),
        "script" | "heredoc" => ("the heredoc", false),
        "ulimit" => ("--ulimit", false),
        "dest" => ("the destination", true),
        "chown" => ("--chown", false),
        "chmod" => ("--chmod", false),
        "flags" => ("--link or --parents", false),
        "epoch" => ("SOURCE_DATE_EPOCH", true),
        "unpack" => ("--unpack", true),
        "exclude" => ("--exclude", true),
        "path" => ("the directory", true),
        other => (other, false),
    };
    let reason = Reason::new(ReasonKind::Option).named(name);
    if !is_shown {
        return reason;
    }
    let value = |values: &[&str]| Some(cut(&values.join(" "))).filter(|text| !text.is_empty());
    Reason {
        old: value(&change.old),
        new: value(&change.new),
        ..reason
    }
}

/// The text, or its beginning.
fn cut(text: &str) -> String {
    if text.len() <= MOST_SHOWN {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MOST_SHOWN)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change<'f>(name: &'f str, old: &[&'f str], new: &[&'f str]) -> FieldChange<'f> {
        FieldChange {
            name,
            old: old.to_vec(),
            new: new.to_vec(),
        }
    }

    #[test]
    fn variables_are_named_and_secrets_not_shown() {
        let long = format!("LONG={}", "x".repeat(100));
        let args = Args {
            now: &["A".to_owned(), "MY_TOKEN".to_owned()],
            was: &["A".to_owned(), "GONE".to_owned()],
        };
        for (old, new, expected) in [
            (vec!["A=1"], vec!["A=2"], "ARG A changed: 1 → 2"),
            (
                vec!["A=1", "B=1"],
                vec!["A=1", "B=2"],
                "ENV B changed: 1 → 2",
            ),
            (vec!["A=1"], vec!["A=1", "N=x=y"], "ENV N is new"),
            (vec!["GONE=1"], vec![], "ARG GONE is gone"),
            (
                vec!["MY_TOKEN=one"],
                vec!["MY_TOKEN=two"],
                "ARG MY_TOKEN changed",
            ),
            (vec![], vec!["MY_TOKEN=two"], "ARG MY_TOKEN (new) changed"),
            (
                vec!["U=https://u:p@h/"],
                vec!["U=https://u:q@h/x"],
                "ENV U changed: https://***@h/ → https://***@h/x",
            ),
            (vec!["LONG=1"], vec![&long], "ENV LONG changed"),
            (vec!["A=1", "B=2"], vec!["B=2", "A=1"], "ENV order changed"),
        ] {
            let told = variable(&change("env", &old, &new), &args);
            assert_eq!(told.to_string(), expected);
            assert!(!serde_json::to_string(&told).unwrap().contains("two"));
        }
    }

    #[test]
    fn the_first_word_that_differs() {
        for (old, new, expected) in [
            (
                ["sh", "-c", "make all"],
                ["sh", "-c", "make test"],
                "the command changed: all → test",
            ),
            (
                ["sh", "-c", "make"],
                ["sh", "-c", "make -j"],
                "the command changed: nothing → -j",
            ),
            (
                ["sh", "-c", "a  b"],
                ["sh", "-c", "a b"],
                "the command changed",
            ),
            (
                ["sh", "-c", "get https://u:p@h"],
                ["sh", "-c", "get https://u:q@h"],
                "the command changed",
            ),
        ] {
            let told = command(&change("argument", &old, &new), ("", ""));
            assert_eq!(told.to_string(), expected);
        }
        let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
        let (one, other) = (digest("1"), digest("2"));
        for (texts, expected) in [
            (
                ("RUN a b c… 1", "RUN a x c… 2"),
                "the command changed: b → x",
            ),
            (("RUN a b c… 1", "RUN a b c… 2"), "the command changed"),
        ] {
            let told = command(&change("argument", &["sh", &one], &["sh", &other]), texts);
            assert_eq!(told.to_string(), expected);
        }
    }
}
