//! Expansion ends, its result is bounded, and what is told before the variables are known holds.

use super::text;
use crate::dockerfile::expand::{
    ExpandError, check_heredoc, check_word, expand_heredoc, expand_word, expand_words, wrong_part,
};

/// By how much a result may be longer than the text.
const MOST_GROWTH: usize = 1 << 20;

/// The first byte chooses escape character and variables, the rest is the word.
pub fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let word = text(rest);
    let escape = if choice & 1 == 0 { '\\' } else { '`' };
    let env = |name: &str| variable(*choice, name);
    let whole = expand_word(&word, escape, &env);
    check_bounds(&word, &whole);
    let promise = check_word(&word, escape);
    if promise.is_err() {
        let part = wrong_part(&word, escape, true).expect("no part is wrong");
        assert!(
            word.get(part.clone()).is_some_and(|part| !part.is_empty()),
            "{part:?}"
        );
    }
    check_promise(&promise, &whole);
    check_words(&whole, &expand_words(&word, escape, &env));
    let body = expand_heredoc(&word, &env);
    check_bounds(&word, &body);
    check_promise(&check_heredoc(&word), &body);
    check_quoted(&word, escape);
}

fn variable(choice: u8, name: &str) -> Option<String> {
    let value = match (name.len() + usize::from(choice >> 1)) % 7 {
        0 => return None,
        1 => String::new(),
        2 => "value".into(),
        3 => " a  b\n".into(),
        4 => "*?\\".into(),
        5 => "$0$$${x}\u{e9}\u{1f980}".into(),
        _ => "/usr/local/bin".repeat(64),
    };
    Some(value)
}

fn check_bounds(word: &str, expanded: &Result<String, ExpandError>) {
    if let Ok(text) = expanded {
        assert!(
            text.len() <= word.len() + MOST_GROWTH,
            "{} bytes",
            text.len()
        );
    }
    if !word.contains(['$', '\\', '`', '\'', '"']) {
        assert_eq!(expanded.as_deref(), Ok(word), "nothing was to be expanded");
    }
}

/// What is wrong without variables is wrong with any; what is right can only lack one, or have a
/// pattern that is none.
fn check_promise(promise: &Result<(), ExpandError>, found: &Result<String, ExpandError>) {
    match (promise, found) {
        (Err(told), Ok(_)) => panic!("{told} was told of a word that can be expanded"),
        (Ok(()), Err(error)) => assert!(
            !matches!(error, ExpandError::TooDeep) || promise.is_ok(),
            "{error}"
        ),
        _ => {}
    }
}

/// Splitting changes nothing but white space.
fn check_words(whole: &Result<String, ExpandError>, words: &Result<Vec<String>, ExpandError>) {
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    match (whole, words) {
        (Ok(whole), Ok(words)) => {
            assert_eq!(bare(whole), bare(&words.concat()));
            assert!(words.iter().all(|word| !word.is_empty()));
        }
        (Err(one), Err(other)) => assert_eq!(one, other),
        (one, other) => panic!("{one:?}, but {other:?}"),
    }
}

/// Single quotes keep everything.
fn check_quoted(word: &str, escape: char) {
    if !word.contains('\'') {
        let quoted = format!("'{word}'");
        assert_eq!(expand_word(&quoted, escape, &|_| None).as_deref(), Ok(word));
    }
}
