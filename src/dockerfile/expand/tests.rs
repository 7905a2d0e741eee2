//! Tests of expansion: a table for each statement of S3.

use proptest::prelude::*;

use super::*;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "x" => "foo",
        "path" => "/usr/local/bin",
        "file" => "a.tar.gz",
        "e" => "",
        "sp" => "a b",
        "D" => "a$1b",
        _ => return None,
    };
    Some(value.into())
}

fn check(cases: &[(&str, &str)]) {
    for (word, expected) in cases {
        let found = expand_word(word, '\\', &env);
        assert_eq!(found.as_deref(), Ok(*expected), "{word}");
    }
}

#[test]
fn s3_plain_names() {
    check(&[
        ("$x", "foo"),
        ("${x}bar", "foobar"),
        ("a$xb", "a"),
        ("$x-y", "foo-y"),
        ("$u|", "|"),
        ("$", "$"),
        ("$.", "$."),
        ("$$x", "x"),
        ("$@$*$#$?$-$!", ""),
        ("$0$12x", "x"),
        ("${001}", ""),
        ("$ x", "$ x"),
        ("\u{e9}$x", "\u{e9}foo"),
    ]);
}

#[test]
fn s3_default_operators() {
    check(&[
        ("${u:-w}", "w"),
        ("${u-w}", "w"),
        ("${e:-w}", "w"),
        ("${e-w}", ""),
        ("${x:-w}", "foo"),
        ("${x:+w}", "w"),
        ("${e:+w}", ""),
        ("${e+w}", "w"),
        ("${u+w}", ""),
        ("${x:?no}", "foo"),
        ("${u:-$x}", "foo"),
        ("${u:-${v:-${x}}}", "foo"),
        ("\"${x:+'q'}\"", "q"),
        ("${u:-\"a }\"}", "a }"),
        ("${u:-a\\}b}", "a}b"),
    ]);
}

#[test]
fn s3_required_operators() {
    for (word, message) in [
        ("${u:?gone $x}", "u: gone foo"),
        ("${u?}", "u: is not allowed to be unset"),
        ("${e:?}", "e: is not allowed to be empty"),
    ] {
        assert_eq!(
            expand_word(word, '\\', &env).unwrap_err().to_string(),
            message
        );
    }
    check(&[("${e?}", "")]);
}

#[test]
fn s3_trim_and_replace_operators() {
    check(&[
        ("${path#*/}", "usr/local/bin"),
        ("${path##*/}", "bin"),
        ("${file%.*}", "a.tar"),
        ("${file%%.*}", "a"),
        ("${path/l/L}", "/usr/Local/bin"),
        ("${path//\\//-}", "-usr-local-bin"),
        ("${x/o/}", "fo"),
        ("${x//o/}", "f"),
        ("${x/f*/$e}", ""),
        ("${u/a/b}", ""),
        ("${x//o/$D}", "faa"),
        ("${x/o/$D}", "fa$1bo"),
    ]);
}

#[test]
fn s3_quotes_and_escapes() {
    check(&[
        ("'$x'", "$x"),
        ("\"$x\"", "foo"),
        ("\\$x", "$x"),
        ("a\\", "a"),
        ("\"a\\nb\\\"\\$\\\\\"", "a\\nb\"$\\"),
        ("'a\\'b", "a\\b"),
        ("a' 'b", "a b"),
        ("\\a\\\\", "a\\"),
    ]);
    assert_eq!(expand_word("c:\\d`$x", '`', &env).unwrap(), "c:\\d$x");
}

#[test]
fn s3_errors() {
    for word in [
        "${}", "${{x}", "${:x}", "${x", "${", "${x:0:3}", "${x^}", "${#x}", "${x/b}", "${x:#a}",
        "${x:=a}", "'a", "\"a", "${x#\\a}", "${u:-", "${ x}", "${x:",
    ] {
        assert!(expand_word(word, '\\', &env).is_err(), "{word}");
    }
    let deep = "${u:-".repeat(100_000);
    assert_eq!(expand_word(&deep, '\\', &env), Err(ExpandError::TooDeep));
}

#[test]
fn s3_expose_is_split_after_expansion() {
    for (word, expected) in [
        ("$sp", vec!["a", "b"]),
        ("\"$sp\"", vec!["a b"]),
        ("1$sp", vec!["1a", "b"]),
        ("$e", vec![]),
        ("80/tcp", vec!["80/tcp"]),
    ] {
        assert_eq!(expand_words(word, '\\', &env).unwrap(), expected, "{word}");
    }
}

#[test]
fn s2_heredoc_body() {
    let body = "'$x' \"$x\" \\$x it's\n";
    let expected = "'foo' \"foo\" $x it's\n";
    assert_eq!(expand_heredoc(body, &env).unwrap(), expected);
}

proptest! {
    #[test]
    fn s3_never_panics(word in "[a-z$\\{}:/#%?*+'\"\\\\ -]{0,40}", free in ".{0,60}") {
        for text in [word, free] {
            let one = expand_word(&text, '\\', &env);
            let many = expand_words(&text, '`', &env);
            let body = expand_heredoc(&text, &env);
            prop_assert!([one.is_ok(), many.is_ok(), body.is_ok()].len() == 3);
        }
    }
}
