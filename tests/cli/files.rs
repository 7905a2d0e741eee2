//! Files of every kind, from contexts, archives and steps, in the result.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::Case;
use crate::support::{Context, Outcome, ran};

pub const CASES: &[Case] = &[
    ("owners_modes_and_ignored_files", copies),
    ("odd_files_survive", odd),
    ("the_umask_of_the_caller_is_in_no_layer", umask),
    ("later_layers_delete_and_replace", layers),
    ("archives_are_unpacked", archives),
];

fn copies(c: &Context) -> Outcome {
    for file in ["keep", "drop.log", "d/keep", "d/drop.log", "d/again.log"] {
        c.file(file, file);
    }
    c.file(".dockerignore", "**/*.log\n!d/again.log\n");
    let tree = c.tree("FROM base\nCOPY --chown=app:10 --chmod=750 . /all/\nCOPY --chown=5:6 keep /five\nCOPY d/* /star/\n");
    for path in ["all/keep", "all/d/keep", "all/d/again.log", "star/keep"] {
        assert!(tree.contains_key(path), "{path}: {:?}", tree.keys());
    }
    assert!(!tree.keys().any(|path| path.contains("drop.log")));
    assert_eq!(
        (tree["all/keep"].owner, tree["all/keep"].mode),
        ((1000, 10), 0o750)
    );
    assert_eq!(tree["five"].owner, (5, 6));
    Outcome::Passed
}

fn umask(c: &Context) -> Outcome {
    c.import();
    c.file("f", "f");
    c.file(
        "Dockerfile",
        "FROM scratch\nCOPY --from=root / /\nCOPY f /new/\nWORKDIR /w\nRUN ls -ld / /new /w | while read line; do echo \"* $line\"; done\n",
    );
    let build = c.command(&["build", "--build-context", "root=rootfs", "context"]);
    let mut masked = Command::new("/bin/sh");
    masked
        .args(["-c", "umask 077; exec \"$0\" \"$@\""])
        .arg(build.get_program())
        .args(build.get_args())
        .env_clear()
        .envs(
            build
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(&c.base);
    let said = ran(&mut masked).ok().said();
    assert_eq!(said.len(), 3, "{said:?}");
    for line in said {
        assert!(line.trim_start().starts_with("drwxr-xr-x"), "{line}");
    }
    Outcome::Passed
}

fn odd(c: &Context) -> Outcome {
    let suid = c.file("suid", "x");
    fs::set_permissions(suid, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(c.path("context").join(OsStr::from_bytes(b"n\xff")), "x").unwrap();
    let tree = c.tree("FROM base\nCOPY . /c/\nRUN mkfifo /p; echo x >/h1; ln /h1 /h2; mkdir -m 1777 /t; chmod 4755 /c/suid\n");
    assert_eq!(tree["c/suid"].mode, 0o4755);
    assert_eq!(tree["c/n\\xff"].content, b"x");
    assert_eq!(tree["p"].kind, 'p');
    assert_eq!((tree["h2"].kind, tree["h2"].link.as_str()), ('h', "h1"));
    assert_eq!(tree["t"].mode, 0o1777);
    Outcome::Passed
}

fn layers(c: &Context) -> Outcome {
    let dockerfile = "FROM base\nRUN mkdir /d /e; echo 1 >/d/a; echo 1 >/e/b; echo 1 >/f; ln -s d /l\n\
         RUN rm -r /d; echo 2 >/d; rm /f; mkdir /f; echo 2 >/f/c; rm /e/b; rm /l; mkdir /l\nRUN rm -r /f; mkdir /f; echo 3 >/f/z\n";
    let tree = c.tree(dockerfile);
    assert_eq!(tree["d"].text(), "2\n");
    assert_eq!(tree["f/z"].text(), "3\n");
    assert_eq!((tree["l"].kind, tree["e"].kind), ('d', 'd'));
    for gone in ["d/a", "e/b", "f/c"] {
        assert!(!tree.contains_key(gone), "{gone}");
    }
    c.build(dockerfile, &["-o", "out"]).ok();
    assert!(
        c.path("out/d").is_file() && c.path("out/f/z").is_file() && !c.path("out/f/c").exists()
    );
    Outcome::Passed
}

fn archives(c: &Context) -> Outcome {
    c.file("in/file", "content");
    let mut made = Vec::new();
    for (flag, name) in [
        ("-z", "a.tgz"),
        ("-J", "a.txz"),
        ("-j", "a.tbz"),
        ("--zstd", "a.tzst"),
        ("-c", "a.tar"),
    ] {
        let mut tar = Command::new("tar");
        let tar = tar
            .current_dir(c.path("context"))
            .args(["-C", "in", flag, "-cf", name, "file"]);
        if tar.output().is_ok_and(|out| out.status.success()) {
            made.push(name);
        }
    }
    if made.is_empty() {
        return Outcome::Skipped("no tar".into());
    }
    for name in made {
        let tree = c.tree(&format!(
            "FROM scratch\nADD {name} /d/\nADD --unpack=false {name} /raw\n"
        ));
        assert_eq!(tree["d/file"].text(), "content", "{name}");
        assert_eq!(tree["raw"].kind, 'f');
    }
    Outcome::Passed
}
