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
fn s3_a_digit_takes_digits_only_and_a_sign_stands_alone() {
    check(&[
        ("$1x", "x"),
        ("$12_", "_"),
        ("${1}x", "x"),
        ("$0", ""),
        ("$$$$", ""),
        ("$@x", "x"),
        ("$*$#$?$-$!", ""),
        ("${@}${*}${?}", ""),
        ("$_", ""),
        ("$x_y", ""),
        ("$(x)", "$(x)"),
        ("$=", "$="),
        ("a$", "a$"),
    ]);
}

#[test]
fn s3_unset_is_empty() {
    check(&[("a${u}b", "ab"), ("$u", ""), ("\"$u\"", ""), ("'$u'", "$u")]);
}

#[test]
fn s3_a_default_may_hold_quotes_escapes_and_further_defaults() {
    check(&[
        ("${u:-'$x'}", "$x"),
        ("${u:-\"$x b\"}", "foo b"),
        ("${u:-\\$x}", "$x"),
        ("${u:-a${e:-b${v-c}}}", "abc"),
        ("${u:+${x?}}", ""),
        ("${x:+${u:-d}}", "d"),
    ]);
    assert_eq!(
        expand_word("\"${u:-it's}\"", '\\', &env),
        Err(ExpandError::OpenQuote("single")),
        "single quotes count inside a form, even in double quotes"
    );
    check(&[("\"${x:+'q'}\"", "q"), ("\"${u-\\}}\"", "}")]);
}

#[test]
fn s3_patterns_know_star_question_mark_and_escapes_only() {
    check(&[
        ("${file#a.t[a]r}", "a.tar.gz"),
        ("${file#?}", ".tar.gz"),
        ("${file##*.}", "gz"),
        ("${file#\\*}", "a.tar.gz"),
        ("${file%.??}", "a.tar"),
        ("${file/./\\}}", "a\\}tar.gz"),
        ("${path/\\/usr/}", "/local/bin"),
        ("${path/u*l/X}", "/X/bin"),
        ("${path//[a-z]/X}", "/usr/local/bin"),
        ("${sp/ /_}", "a_b"),
        ("${x#$x}", ""),
        ("${x#\"f\"}", "oo"),
        ("${u#*}${u%%*}${u//?/x}", ""),
    ]);
    for word in ["${x#\\a}", "${x%\\[}", "${x/\\n/}", "${x//\\d/}"] {
        let found = expand_word(word, '\\', &env);
        assert!(
            matches!(found, Err(ExpandError::Pattern { .. })),
            "{word}: {found:?}"
        );
    }
}

#[test]
fn s3_a_replacement_may_be_empty_but_not_missing() {
    check(&[
        ("${x/f/}", "oo"),
        ("${x//o/}", "f"),
        ("${x/z/y}", "foo"),
        ("${e//a/b}", ""),
    ]);
    for word in ["${x/f}", "${x/f", "${x/f/", "${x//f}", "${x/}"] {
        let found = expand_word(word, '\\', &env);
        assert!(
            matches!(found, Err(ExpandError::Missing(_))),
            "{word}: {found:?}"
        );
    }
}

#[test]
fn s3_what_is_wrong_without_variables() {
    for word in ["${}", "'a", "\"a", "${x^}", "${x/b}", "${x#\\a}", "${u:-"] {
        assert!(check_word(word, '\\').is_err(), "{word}");
    }
    // What another value may mend, or what only a value can break, is left for later.
    for word in ["${u:?gone}", "${x#'\\'$p}", "$u", "${x//o/$u}"] {
        assert_eq!(check_word(word, '\\'), Ok(()), "{word}");
    }
    assert!(check_heredoc("it's \"fine\" ${x}\n").is_ok());
    assert!(check_heredoc("${x^}\n").is_err());
}

#[test]
fn the_part_that_is_wrong() {
    for (word, part) in [
        ("a${x^^}b", "${x^^}"),
        ("$x 'b' ${}", "${}"),
        ("a\"b ${x:-c} d", "\"b ${x:-c} d"),
        ("it's", "'s"),
        ("${x:-${u^}} ${y^}", "${x:-${u^}"),
        ("${x", "${x"),
        ("\u{e9}${x:0:3}\u{e9}", "${x:0:3}"),
    ] {
        let found = wrong_part(word, '\\', true).map(|range| &word[range]);
        assert_eq!(found, Some(part), "{word}");
    }
    assert_eq!(wrong_part("${x:-fine}", '\\', true), None);
}

#[test]
fn s3_growth_is_bounded() {
    let long = |_: &str| Some("x".repeat(100_000));
    assert!(expand_word("$a$a", '\\', &long).is_ok());
    for word in [
        "$a".repeat(20),
        format!("\"{}\"", "$a".repeat(20)),
        "${a//x/$a}".to_owned(),
    ] {
        assert_eq!(
            expand_word(&word, '\\', &long),
            Err(ExpandError::TooLong),
            "{word}"
        );
    }
    let text = "x".repeat(4 << 20);
    assert_eq!(
        expand_word(&text, '\\', &long).as_deref(),
        Ok(text.as_str())
    );
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
