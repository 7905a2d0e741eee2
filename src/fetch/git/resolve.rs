//! Which commit a branch, a tag or some digits stand for.

use super::command::{Git, Place};
use super::{objects, reference_error};
use crate::fetch::FetchErrorKind;

/// A commit, and by which name the remote has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// All its digits.
    pub id: String,
    /// The full name of the branch or tag that it was asked for by.
    pub(super) name: Option<String>,
    /// What that name stands for, if not the commit itself: an annotated tag.
    pub(super) tag: Option<String>,
}

impl Commit {
    pub(super) fn by_id(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: None,
            tag: None,
        }
    }

    /// What is fetched: the tag, which brings its commit, or the commit.
    pub(super) fn object(&self) -> &str {
        self.tag.as_deref().unwrap_or(&self.id)
    }
}

pub(super) fn resolve(git: &Git<'_>) -> Result<Commit, FetchErrorKind> {
    let commit = match git.url.reference.as_deref() {
        Some(id) if is_full(id) => Commit::by_id(&id.to_ascii_lowercase()),
        reference => named(git, reference)?,
    };
    check(git.url.checksum.as_deref(), &commit)?;
    Ok(commit)
}

/// Whether the text is a commit with all its digits.
pub(super) fn is_full(text: &str) -> bool {
    [40, 64].contains(&text.len()) && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn named(git: &Git<'_>, reference: Option<&str>) -> Result<Commit, FetchErrorKind> {
    let wanted = reference.unwrap_or("HEAD");
    let peeled = format!("{wanted}^{{}}");
    let mut args = vec!["ls-remote", "-q", "--", &git.url.remote, wanted];
    if reference.is_some() {
        args.push(&peeled);
    }
    let answer = git.ask(Place::default(), &args)?;
    let answer = String::from_utf8_lossy(&answer);
    if let Some(commit) = pick(&answer, wanted) {
        return Ok(commit);
    }
    match reference {
        None => Err(reference_error("the repository is empty, or has no HEAD")),
        Some(digits) if digits.len() >= 7 && is_hex(digits) => {
            objects::by_digits(git, &digits.to_ascii_lowercase())
        }
        Some(name) => Err(reference_error(format!(
            "there is no branch, tag or commit {name:?}"
        ))),
    }
}

/// The commit that `wanted` stands for among the lines of `ls-remote`: by its full name, as a
/// branch, as a tag, in this order.
fn pick(answer: &str, wanted: &str) -> Option<Commit> {
    let lines: Vec<(&str, &str)> = answer
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(id, _)| is_full(id))
        .collect();
    let find = |name: &str| lines.iter().find(|(_, other)| *other == name);
    let candidates = [
        wanted.to_owned(),
        format!("refs/heads/{wanted}"),
        format!("refs/tags/{wanted}"),
        format!("refs/{wanted}"),
    ];
    candidates.into_iter().find_map(|name| {
        let (id, _) = find(&name)?;
        let peeled = find(&format!("{name}^{{}}"));
        Some(Commit {
            id: peeled.map_or(*id, |(commit, _)| commit).to_owned(),
            tag: peeled.map(|_| (*id).to_owned()),
            name: Some(name).filter(|name| name.starts_with("refs/")),
        })
    })
}

fn check(checksum: Option<&str>, commit: &Commit) -> Result<(), FetchErrorKind> {
    let Some(digits) = checksum else {
        return Ok(());
    };
    let is_it = |id: &str| id.starts_with(digits);
    if is_it(&commit.id) || commit.tag.as_deref().is_some_and(is_it) {
        return Ok(());
    }
    Err(FetchErrorKind::Checksum {
        expected: format!("commit {digits}"),
        got: commit.id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_comes_before_a_tag() {
        let id = |digit: char| digit.to_string().repeat(40);
        let answer = format!(
            "{}\trefs/heads/x/v1\n{}\trefs/heads/v1\n{}\trefs/tags/v1\n{}\trefs/tags/v1^{{}}\n\
             {}\trefs/pull/1/head\n{}\tHEAD\nnonsense\trefs/heads/bad\n",
            id('0'),
            id('1'),
            id('2'),
            id('3'),
            id('4'),
            id('5'),
        );
        for (wanted, digit, name, tag) in [
            ("v1", '1', Some("refs/heads/v1"), None),
            ("refs/tags/v1", '3', Some("refs/tags/v1"), Some('2')),
            ("tags/v1", '3', Some("refs/tags/v1"), Some('2')),
            ("pull/1/head", '4', Some("refs/pull/1/head"), None),
            ("HEAD", '5', None, None),
        ] {
            let commit = pick(&answer, wanted).unwrap();
            assert_eq!(commit.id, id(digit), "{wanted}");
            assert_eq!(commit.name.as_deref(), name, "{wanted}");
            assert_eq!(commit.tag, tag.map(id), "{wanted}");
        }
        for wanted in ["v2", "bad", "1"] {
            assert_eq!(pick(&answer, wanted), None, "{wanted}");
        }
    }

    #[test]
    fn checksums_are_prefixes() {
        let commit = Commit {
            tag: Some("b".repeat(40)),
            ..Commit::by_id(&"a".repeat(40))
        };
        for (digits, good) in [("aaaaaaa", true), ("bbbbbbbb", true), ("abaaaaa", false)] {
            assert_eq!(check(Some(digits), &commit).is_ok(), good, "{digits}");
        }
    }
}
