//! Tables of URLs.

use super::*;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// URL → remote, reference, subdir.
const GOOD: &[(&str, &str, &str, &str)] = &[
    ("https://h/x.git", "https://h/x.git", "", ""),
    ("https://h/x.git#", "https://h/x.git", "", ""),
    ("https://h/x.git#main", "https://h/x.git", "main", ""),
    ("https://h/x.git#main:a/b", "https://h/x.git", "main", "a/b"),
    ("https://h/x.git#:a", "https://h/x.git", "", "a"),
    ("https://h/x.git#a/b:c:d", "https://h/x.git", "a/b", "c:d"),
    ("HTTPS://h:8443/x.git", "https://h:8443/x.git", "", ""),
    ("http://[::1]:80/x.git", "http://[::1]:80/x.git", "", ""),
    ("https://u:p@h/x.git#v1", "https://h/x.git", "v1", ""),
    ("https://a@b@h/x.git", "https://h/x.git", "", ""),
    ("git://h/x", "git://h/x", "", ""),
    (
        "git://h/x.git#refs/tags/v1",
        "git://h/x.git",
        "refs/tags/v1",
        "",
    ),
    ("ssh://git@h:22/x/y", "ssh://git@h:22/x/y", "", ""),
    ("ssh://h/x#b:d", "ssh://h/x", "b", "d"),
    ("git@h:x/y.git", "git@h:x/y.git", "", ""),
    ("git@h:x#v1:sub", "git@h:x", "v1", "sub"),
    ("git@h:x?branch=b", "git@h:x", "refs/heads/b", ""),
    ("https://h/x.git?ref=main", "https://h/x.git", "main", ""),
    (
        "https://h/x.git?tag=v1",
        "https://h/x.git",
        "refs/tags/v1",
        "",
    ),
    (
        "https://h/x.git?tag=refs/tags/v1",
        "https://h/x.git",
        "refs/tags/v1",
        "",
    ),
    (
        "https://h/x.git?branch=a%2Fb",
        "https://h/x.git",
        "refs/heads/a/b",
        "",
    ),
    (
        "https://h/x.git?branch=b&subdir=c%20d",
        "https://h/x.git",
        "refs/heads/b",
        "c d",
    ),
    (
        "https://h/x.git?ref=main#main",
        "https://h/x.git",
        "main",
        "",
    ),
    (
        "https://h/x.git?ref=main#:d",
        "https://h/x.git",
        "main",
        "d",
    ),
    (
        "https://h/x.git?commit=abcdef0",
        "https://h/x.git",
        "abcdef0",
        "",
    ),
    (
        "https://h/x.git?checksum=ABCDEF0&ref=v1",
        "https://h/x.git",
        "v1",
        "",
    ),
    (
        "https://h/x.git?submodules=0&keep-git-dir=1",
        "https://h/x.git",
        "",
        "",
    ),
    ("https://h/x.git?", "https://h/x.git", "", ""),
];

#[test]
fn s7_forms() {
    for (text, remote, reference, subdir) in GOOD {
        assert!(GitUrl::matches(text), "{text}");
        let url = GitUrl::parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(url.remote, *remote, "{text}");
        assert_eq!(url.reference.as_deref().unwrap_or(""), *reference, "{text}");
        assert_eq!(url.subdir.as_deref().unwrap_or(""), *subdir, "{text}");
    }
}

#[test]
fn s7_what_is_refused() {
    for (text, reason) in [
        ("https://h/x.git#-u", "no name of a branch"),
        ("https://h/x.git#--upload-pack=x", "no name of a branch"),
        ("https://h/x.git?ref=-x", "no name of a branch"),
        ("https://h/x.git?ref=a..b", "no name of a branch"),
        ("https://h/x.git?ref=a%0ab", "no name of a branch"),
        ("https://h/x.git#a b", "no name of a branch"),
        ("https://h/x.git?ref=a#b", "at once"),
        ("https://h/x.git?subdir=a#:b", "at once"),
        ("https://h/x.git?ref=v1&tag=v1", "at once"),
        ("https://h/x.git?tag=a&branch=b", "a tag and for a branch"),
        ("https://h/x.git?ref=a&ref=a", "twice"),
        ("https://h/x.git?ref=", "no value"),
        ("https://h/x.git?depth=1", "not known"),
        ("https://h/x.git?submodules=maybe", "true or false"),
        ("https://h/x.git?checksum=abc", "no commit"),
        ("https://h/x.git?checksum=zzzzzzzzz", "no commit"),
        ("https://h/x.git?subdir=%zz", "lone %"),
        ("https://h", "no repository"),
        ("ssh://-oProxyCommand=x/y", "no host"),
        ("ssh://-x@h/y", "no user"),
        ("ssh://u:geheim@h/y", "password"),
        ("git://u@h/y", "no users"),
        ("git@-h:x", "no host"),
        ("git@h:-x", "no path"),
        ("git@h x:y", "no host"),
        ("git@h", "expected"),
        ("ext::sh -c x", "expected"),
        ("file:///etc", "no transport"),
        ("ext://h/x", "no transport"),
        ("https://h/a\nb.git", "control"),
        ("https://u:a%0ab@h/x.git", "control"),
    ] {
        let error = GitUrl::parse(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn s7_what_is_git() {
    for (text, add, context) in [
        ("https://h/x.git", true, true),
        ("https://h/x.git/info", false, false),
        ("https://h/x.tar#y.git", false, false),
        ("github.com/a/b", false, true),
        ("github.com/a/b#main", false, true),
        ("gitlab.com/a/b.git", false, false),
        ("git@h:x", true, true),
        ("git@h", false, false),
        ("x.git", false, false),
        ("./github.com/x", false, false),
    ] {
        assert_eq!(GitUrl::matches(text), add, "{text}");
        assert_eq!(GitUrl::context(text).is_some(), context, "{text}");
    }
    let url = GitUrl::context("github.com/a/b#v1:d").unwrap().unwrap();
    assert_eq!(url.remote, "https://github.com/a/b");
    assert_eq!(url.reference.as_deref(), Some("v1"));
}

#[test]
fn what_else_is_said() {
    let url = format!("https://to:k%40n@h:1/x.git?checksum={SHA}&submodules=false&keep-git-dir");
    let url = GitUrl::parse(&url).unwrap();
    let login = url.login.clone().unwrap();
    assert_eq!((&*login.user, &*login.password), ("to", "k@n"));
    assert!(!format!("{url:?}").contains("k@n"));
    assert_eq!(url.checksum.as_deref(), Some(SHA));
    assert_eq!(url.reference.as_deref(), Some(SHA));
    assert_eq!(
        (url.submodules, url.keep_git_dir),
        (Some(false), Some(true))
    );
    for (text, host) in [
        ("https://u@h:1/x.git", "h:1"),
        ("git@h:x", "h"),
        ("ssh://u@h:22/x", "h:22"),
        ("git://[::1]/x", "[::1]"),
    ] {
        assert_eq!(GitUrl::parse(text).unwrap().host(), host);
    }
}
