//! Submodules, and repositories that mean harm.

use std::fs;
use std::path::Path;

use super::repositories::{Forge, tree};
use super::web::git;
use super::*;

/// Puts a submodule at `path`, whatever its repository is.
fn gitlink(dir: &Path, path: &str, commit: &str) {
    let entry = format!("160000,{commit},{path}");
    git(dir, &["update-index", "--add", "--cacheinfo", &entry]);
}

/// Commits `.gitmodules` and what is in the index.
fn declare(dir: &Path, text: &str) {
    fs::write(dir.join(".gitmodules"), text).unwrap();
    git(dir, &["add", ".gitmodules"]);
    git(dir, &["commit", "-q", "-m", "modules"]);
}

fn module(path: &str, url: &str) -> String {
    format!("[submodule \"x {path}\"]\n\tpath = {path}\n\turl = {url}\n")
}

#[test]
fn s7_submodules_come_along() {
    let Some(forge) = Forge::new() else { return };
    let inner = forge.repository("inner", &[("i", "inner")]);
    let inner = git(&inner, &["rev-parse", "HEAD"]);
    let middle = forge.repository("middle", &[("m", "middle")]);
    gitlink(&middle, "deep", &inner);
    declare(&middle, &module("deep", "../../inner/.git"));
    let middle = git(&middle, &["rev-parse", "HEAD"]);
    let outer = forge.repository("outer", &[("o", "outer")]);
    gitlink(&outer, "a/b", &middle);
    gitlink(&outer, "same", &middle);
    gitlink(&outer, "left", &inner);
    let left = format!("{}\tupdate = none\n", module("left", "../../inner/.git"));
    let text = [
        module("a/b", "../../middle/.git"),
        module("same", &forge.url("middle")),
        left,
    ];
    declare(&outer, &text.concat());
    let bench = Bench::new();
    let found = tree(&bench.checkout(&forge.url("outer")).unwrap());
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            ".gitmodules",
            "a/b/.gitmodules",
            "a/b/deep/i",
            "a/b/m",
            "o",
            "same/.gitmodules",
            "same/deep/i",
            "same/m",
        ]
    );
    let without = format!("{}?submodules=false", forge.url("outer"));
    assert_eq!(tree(&bench.checkout(&without).unwrap()).len(), 2);
    let keep = format!("{}?keep-git-dir=1", forge.url("outer"));
    let checkout = bench.checkout(&keep).unwrap();
    let (_, staging) = checkout.into_parts();
    let path = staging.path().join("tree");
    assert_eq!(git(&path, &["status", "--porcelain"]), "");
    assert_eq!(git(&path.join("a/b/deep"), &["rev-parse", "HEAD"]), inner);
    drop(staging);
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn submodules_that_mean_harm() {
    let Some(forge) = Forge::new() else { return };
    let inner = forge.repository("inner", &[("i", "inner")]);
    let inner = git(&inner, &["rev-parse", "HEAD"]);
    let good = forge.url("inner");
    let touch = forge.root.path().join("touched");
    let touch = touch.display();
    let cases = [
        (module("m", "-u./payload"), "no URL that is fetched from"),
        (
            module("m", "--upload-pack=touch x"),
            "no URL that is fetched from",
        ),
        (module("m", &format!("ext::sh -c touch% {touch}")), "no URL"),
        (module("m", "file:///etc"), "no URL that is fetched from"),
        (module("m", "/etc"), "no URL that is fetched from"),
        (module("m", "ssh://-oProxyCommand=touch/x"), "is no host"),
        (module("m", "git@-oProxyCommand=touch:x"), "is no host"),
        (module("m", "../../../../../x"), "leads out of its host"),
        (module("../m", &good), "does not say where it is"),
        (String::new(), "does not say where it is"),
        (
            "[submodule \"m\"]\n\tpath = m\n".to_owned(),
            "has no URL for it",
        ),
        ("[submodule \"m\"\n".to_owned(), "git config"),
    ];
    for (number, (text, said)) in cases.iter().enumerate() {
        let name = format!("outer{number}");
        let outer = forge.repository(&name, &[("o", "outer")]);
        gitlink(&outer, "m", &inner);
        declare(&outer, text);
        let bench = Bench::new();
        let error = bench.checkout(&forge.url(&name)).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
        assert_eq!(bench.leftovers(), 0);
        let without = format!("{}?submodules=0", forge.url(&name));
        assert!(bench.checkout(&without).is_ok(), "{text}");
    }
    // Commands and included files of .gitmodules are not looked at.
    let outer = forge.repository("commands", &[("o", "outer")]);
    gitlink(&outer, "m", &inner);
    let text = format!(
        "[include]\n\tpath = /dev/zero\n[core]\n\tfsmonitor = touch {touch}\n{}\tupdate = !touch {touch}\n",
        module("m", &good)
    );
    declare(&outer, &text);
    let found = tree(&Bench::new().checkout(&forge.url("commands")).unwrap());
    assert_eq!(found["m/i"].1, "inner");
    assert!(!Path::new(&touch.to_string()).exists());
}

#[test]
fn hooks_filters_and_configuration_of_others_are_not_used() {
    let Some(forge) = Forge::new() else { return };
    let dir = forge.repository(
        "r",
        &[
            ("f", "text\n"),
            (".gitattributes", "* filter=evil text eol=crlf\nf -text\n"),
            (".gitconfig", "[filter \"evil\"]\n\tsmudge = false\n"),
            ("hooks/post-checkout", "#!/bin/sh\nexit 1\n"),
            ("HEAD", "ref: refs/heads/main\n"),
            ("config", "[core]\n\tfsmonitor = false\n"),
        ],
    );
    git(&dir, &["config", "uploadpack.packObjectsHook", "false"]);
    let found = tree(&Bench::new().checkout(&forge.url("r")).unwrap());
    assert_eq!(found["f"].1, "text\n");
    assert_eq!(found.len(), 6);
}

/// A tree whose entries git itself would not make.
fn crafted(dir: &Path, entries: &[(&str, &str, &str)]) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        write!(bytes, "{mode} {name}\0").unwrap();
        bytes.extend(hex::decode(id).unwrap());
    }
    let mut child = Command::new("git")
        .args(["hash-object", "-t", "tree", "-w", "--stdin", "--literally"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn trees_that_lead_out_of_the_checkout() {
    let Some(forge) = Forge::new() else { return };
    let outside = tempfile::tempdir().unwrap();
    let inner = forge.repository("inner", &[("i", "inner")]);
    let inner = git(&inner, &["rev-parse", "HEAD"]);
    for (number, kind) in ["dotdot", "dotgit", "link", "module"].iter().enumerate() {
        let name = format!("r{number}");
        let dir = forge.repository(&name, &[("evil", "x")]);
        let blob = git(&dir, &["rev-parse", "HEAD:evil"]);
        fs::write(dir.join("to"), outside.path().display().to_string()).unwrap();
        let link = git(&dir, &["hash-object", "-w", "to"]);
        let sub = crafted(&dir, &[("100644", "evil", &blob)]);
        let with_module = crafted(&dir, &[("160000", "m", &inner)]);
        fs::write(dir.join("gm"), module("d/m", &forge.url("inner"))).unwrap();
        let gitmodules = git(&dir, &["hash-object", "-w", "gm"]);
        let tree = match *kind {
            "dotdot" => crafted(&dir, &[("40000", "..", &sub)]),
            "dotgit" => crafted(&dir, &[("40000", ".git", &sub)]),
            "link" => crafted(&dir, &[("120000", "d", &link), ("40000", "d", &sub)]),
            _ => crafted(
                &dir,
                &[
                    ("100644", ".gitmodules", &gitmodules),
                    ("120000", "d", &link),
                    ("40000", "d", &with_module),
                ],
            ),
        };
        let commit = git(&dir, &["commit-tree", "-m", "evil", &tree]);
        git(&dir, &["update-ref", "refs/heads/main", &commit]);
        let bench = Bench::new();
        // Refused or harmless: nothing is written elsewhere.
        let made = bench.checkout(&forge.url(&name));
        if let Err(error) = &made {
            println!("{kind}: {error}");
            assert!(error.to_string().contains("cannot fetch"), "{error}");
        }
        drop(made);
        let outside = fs::read_dir(outside.path()).unwrap().count();
        assert_eq!((outside, bench.leftovers()), (0, 0), "{kind}");
        assert!(!bench.store.root().join("tmp/evil").exists());
    }
}
