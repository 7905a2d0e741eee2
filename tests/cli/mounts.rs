//! `RUN --mount`: what the step sees, and that nothing of it stays.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Case;
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[
    ("mounts_bind_files_of_the_context", context),
    ("mounts_bind_files_of_stages_and_images", stages),
    ("mounts_bind_files_of_named_contexts", named),
    ("mounts_on_files_of_the_sandbox", own_files),
    ("mounts_that_cannot_be", mistakes),
    ("mounts_leave_no_trace_in_the_layer", no_trace),
    ("mounts_are_keyed_by_content", keys),
    ("mounts_of_memory", memory),
];

/// See `docs/trees.md`; what is placed in trees has its cases in `runtime`.
fn copies() -> Outcome {
    Outcome::Skipped("mounts are copies, to which nothing is refused and which have no size".into())
}

fn context(c: &Context) -> Outcome {
    if c.in_trees() {
        return copies();
    }
    c.file("dir/file", "text\n");
    c.file("dir/hidden", "hidden\n");
    c.file("dir/deep/er", "deeper\n");
    c.file("a*b", "star\n");
    symlink("dir/file", c.path("context/link")).unwrap();
    let run = |mount: &str, script: &str| {
        let text = format!("FROM base\nWORKDIR /w\nRUN --mount={mount} {script}\n");
        c.output(&text, &["--no-cache"])
    };
    let list = "for f in $(find m | sort); do echo \" * $f\"; done";
    let show = "echo \" * $(cat m)\"";
    for (mount, script, expected) in [
        // Relative to WORKDIR, from the context, read-only.
        (
            "target=m,source=dir",
            list,
            &["m", "m/deep", "m/deep/er", "m/file", "m/hidden"][..],
        ),
        ("type=bind,dst=m,src=dir/file", show, &["text"]),
        ("target=m,source=link", show, &["text"]),
        ("target=m,source=a*b", show, &["star"]),
        ("target=m,source=../../dir/./file", show, &["text"]),
        (
            "target=m,source=dir",
            "touch m/new 2>/dev/null || echo \" * refused $(stat -c '%u:%g' m/file)\"",
            &["refused 0:0"],
        ),
        (
            "target=m,source=dir,rw",
            "echo more >>m/file && rm m/hidden && touch m/new && echo \" * $(ls m | tr '\\n' ' ')\"",
            &["deep file new"],
        ),
        (
            "target=m,source=dir/file,rw",
            "echo more >>m && echo \" * $(wc -l <m)\"",
            &["2"],
        ),
    ] {
        assert_eq!(run(mount, script), expected, "{mount}");
        assert_eq!(
            fs::read_to_string(c.path("context/dir/file")).unwrap(),
            "text\n",
            "{mount}"
        );
        assert!(c.path("context/dir/hidden").exists() && !c.path("context/dir/new").exists());
    }
    // What is ignored is not there, however it is mounted.
    c.file(".dockerignore", "dir/hidden\n**/er\n!a*b\n");
    let everything = "echo \" * $(cd m; find . -type f | sort | tr '\\n' ' ')\"";
    for mount in ["target=m", "target=m,rw"] {
        let expected = ["./.dockerignore ./Dockerfile ./a*b ./dir/file"];
        assert_eq!(run(mount, everything), expected, "{mount}");
    }
    assert_eq!(
        run(
            "target=m,source=dir,rw",
            "echo x >m/file; echo \" * $(ls m | tr '\\n' ' ')\""
        ),
        ["deep file"]
    );
    // An overlay does that, not a copy, which would take its time.
    let kind = "echo \" * $(grep -c ' /w/m .* - overlay ' /proc/self/mountinfo)\"";
    for mount in ["target=m", "target=m,source=dir,rw"] {
        assert_eq!(run(mount, kind), ["1"], "{mount}");
    }
    // Everything is root's, as it is in a copy.
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(c.path("context/dir/file"), Some(1234), Some(5678)).unwrap();
        let look = "echo \" * $(stat -c '%u:%g' m/file) $(cat m/file)\"";
        for mount in ["target=m,source=dir", "target=m,source=dir,rw"] {
            assert_eq!(run(mount, look), ["0:0 text"], "{mount}");
        }
    }
    // A target below a link of the image, and one that is there.
    let text = "FROM base\nRUN mkdir /real && ln -s /real /link && echo old >/real/file\n\
        RUN --mount=target=/link/file,source=dir/file --mount=target=/link/d/e,source=dir \
            echo \" * $(cat /real/file) $(ls /real/d/e | wc -l)\"\nRUN echo \" * $(cat /real/file) $(ls /real)\"\n";
    assert_eq!(c.output(text, &[]), ["text 2", "old file"]);
    Outcome::Passed
}

fn stages(c: &Context) -> Outcome {
    if c.in_trees() {
        return copies();
    }
    c.import();
    let text = "FROM base AS made\nRUN mkdir -p /out/sub && echo made >/out/sub/file && ln -s out /alias \
            && chmod 640 /out/sub/file\n\
        FROM base\nRUN rm -r /tmp\n\
        RUN --mount=from=made,source=/out,target=/m \
            --mount=from=base,target=/image \
            --mount=from=scratch,target=/nothing \
            --mount=from=made,source=/alias/sub/file,target=/file,rw \
            --mount=from=made,source=/,target=/rw,rw \
            echo \" * $(cat /m/sub/file) $(stat -c %a /m/sub/file) $(ls /image/etc | wc -l) $(ls -A /nothing | wc -l)\" \
            && ! touch /m/new 2>/dev/null && ! touch /image/new 2>/dev/null \
            && echo more >>/file && echo \" * $(wc -l </file)\" && rm -r /rw/bin && echo x >/rw/out/new \
            && echo \" * $(ls /rw/out) $(ls /rw/bin 2>/dev/null)\" && ls -d /image/tmp\n\
        RUN --mount=from=made,target=/m echo \" * $(ls /m/bin/busybox) $(cat /m/out/sub/file)\"\n";
    let lines = c.output(text, &[]);
    let expected = ["made 640 2 0", "2", "new", "/m/bin/busybox made"];
    assert_eq!(lines, expected);
    Outcome::Passed
}

fn named(c: &Context) -> Outcome {
    fs::create_dir(c.path("other")).unwrap();
    fs::write(c.path("other/f"), "text").unwrap();
    fs::write(c.path("other/hidden"), "").unwrap();
    let text = "FROM base\nRUN --mount=from=n,target=/m echo \" * $(ls /m | tr '\\n' ' ')\"\n\
                RUN --mount=from=n,target=/m,source=f echo \" * $(cat /m)\"\n\
                RUN --mount=type=cache,from=n,target=/m echo \" * $(cat /m/f)\"\n";
    let args = ["--build-context", "n=other", "--no-cache"];
    assert_eq!(c.output(text, &args), ["f hidden", "text", "text"]);
    fs::write(c.path("other/.dockerignore"), "hidden\n.d*").unwrap();
    assert_eq!(c.output(text, &args), ["f", "text", "text"]);
    Outcome::Passed
}

/// What the sandbox would mount there itself gives way; a later mount hides an earlier one.
fn own_files(c: &Context) -> Outcome {
    c.file("hosts", "1.2.3.4 one\n");
    c.file("other", "1.2.3.4 two\n");
    let tree = c.tree(
        "FROM base\n\
         RUN --mount=target=/etc/hosts,source=hosts grep -q one /etc/hosts\n\
         RUN --mount=target=/etc/resolv.conf,source=hosts \\\n\
         \x20 grep -q one /etc/resolv.conf && grep -q localhost /etc/hosts\n\
         RUN --mount=target=/m,source=hosts --mount=target=/m,source=other grep two /m\n\
         RUN --mount=type=secret,id=CI_SECRET,target=/m --mount=target=/m,source=other grep two /m\n",
    );
    assert!(!tree.contains_key("etc/hosts") && !tree.contains_key("m"));
    Outcome::Passed
}

fn mistakes(c: &Context) -> Outcome {
    c.file("file", "");
    c.file("hidden", "");
    c.file(".dockerignore", "hidden");
    c.file("dir/x", "");
    for (mount, code, texts) in [
        (
            "target=/m,source=gone",
            3,
            &[
                "cannot mount on /m",
                "\"/gone\" does not exist in the build context",
                "Dockerfile:3",
            ][..],
        ),
        ("target=/m,source=fil", 3, &["/file"]),
        (
            "target=/m,source=hidden",
            3,
            &["excluded by", ".dockerignore"],
        ),
        (
            "target=/m,from=one,source=/gone",
            3,
            &["/gone", "does not exist in stage one"],
        ),
        ("target=/m,from=127.0.0.1:1/none", 5, &["127.0.0.1:1"]),
        ("target=/bin/sh,source=dir", 3, &["/bin/sh", "no directory"]),
        ("target=/bin,source=file", 3, &["/bin", "a file goes there"]),
        // The sandbox has a file of its own in it.
        ("target=/etc,source=file", 3, &["/etc", "a file goes there"]),
        ("type=tmpfs,target=/proc", 3, &["/proc", "Dockerfile:3"]),
        (
            "type=cache,target=/c,from=one,source=/bin/busybox",
            3,
            &["/bin/busybox", "no directory"],
        ),
        (
            "type=secret,id=s,required",
            2,
            &["the secret \"s\" was not given", "--secret id=s"],
        ),
        (
            "type=ssh,required",
            2,
            &["the agent \"default\" was not given", "--ssh default"],
        ),
        (
            "target=/d,source=dir --mount=target=/d/y,source=file",
            3,
            &["/d/y", "read-only"],
        ),
        ("target=/,source=dir", 3, &["must not be /"]),
        ("type=bind,size=1,target=/m", 3, &["size is not allowed"]),
        ("target=/m,from=me", 3, &["itself"]),
    ] {
        // In a copy there is room for what its source lacks.
        if c.in_trees() && texts.contains(&"read-only") {
            continue;
        }
        let text = format!("FROM base AS one\nFROM base AS me\nRUN --mount={mount} true\n");
        c.build(&text, &[]).fails(code, texts);
        assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    }
    Outcome::Passed
}

fn no_trace(c: &Context) -> Outcome {
    c.file("dir/file", "text\n");
    c.file("secret", "hush");
    let mounts = "--mount=target=/new/bound,source=dir --mount=target=/etc/one,source=dir/file \
        --mount=type=cache,target=/var/cache/x --mount=type=tmpfs,target=/var/tmpfs \
        --mount=type=secret,id=s --mount=type=ssh --mount=type=secret,id=s,target=/var/cache/x/inside/it \
        --mount=type=tmpfs,target=/var/tmpfs/deep/er --mount=target=/etc/passwd,source=dir/file";
    let text = format!(
        "FROM base\nRUN chmod 751 /etc && touch -d @1234567 /etc /\n\
        RUN {mounts} ls /new/bound/file /etc/one /run/secrets/s /var/cache/x/inside/it /var/tmpfs/deep/er && \
            echo x >/var/cache/x/f && echo x >/var/tmpfs/f && echo kept >/kept && touch -d @1234567 /\n"
    );
    c.build(
        &text,
        &[
            "--secret",
            "id=s,src=context/secret",
            "-o",
            "type=tar,dest=tree.tar",
        ],
    )
    .ok();
    let tree = crate::support::read_tar(&c.path("tree.tar"));
    let added: Vec<&String> = tree
        .keys()
        .filter(|name| !name.is_empty() && !name.starts_with("bin") && *name != ".")
        .collect();
    let expected = [
        "dev",
        "etc",
        "etc/group",
        "etc/passwd",
        "kept",
        "proc",
        "root",
        "sys",
        "tmp",
    ];
    assert_eq!(added, expected);
    assert_eq!(tree["etc"].mode, 0o751);
    assert!(tree["etc/passwd"].text().starts_with("root:"));
    // The layer of the step alone has the one file.
    c.build(
        &text,
        &["--secret", "id=s,src=context/secret", "-t", "traced"],
    )
    .ok();
    let second = format!("FROM traced\nRUN {mounts} true\n");
    c.build(
        &second,
        &[
            "--secret",
            "id=s,src=context/secret",
            "-o",
            "type=oci,tar=false,dest=oci",
        ],
    )
    .ok();
    assert_eq!(last_layer(&c.path("oci")), Vec::<String>::new());
    Outcome::Passed
}

/// The names in the topmost layer of the image in an OCI layout, uncompressed by the system's tar.
fn last_layer(layout: &Path) -> Vec<String> {
    let json = |path: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let blob = |value: &serde_json::Value| {
        let digest = value["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        layout.join("blobs/sha256").join(digest)
    };
    let index = json(layout.join("index.json"));
    let manifest = json(blob(&index["manifests"][0]));
    let layer = blob(manifest["layers"].as_array().unwrap().last().unwrap());
    let listed = std::process::Command::new("tar")
        .arg("-tzf")
        .arg(layer)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let names = String::from_utf8(listed.stdout).unwrap();
    let names = names
        .lines()
        .map(|name| name.trim_matches(['.', '/']).to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

fn keys(c: &Context) -> Outcome {
    let file = |text: &str| c.file("dir/file", text);
    file("one");
    c.file("dir/ignored", "");
    c.file("other", "");
    c.file(".dockerignore", "dir/ignored");
    c.file("secret", "hush");
    let text = |cache: &str, made: &str, run: &str| {
        format!(
            "FROM base AS made\nRUN echo {made} >/noise; echo fixed >/file\n\
            FROM base\nRUN --mount=target=/m,source=dir --mount=from=made,source=/file,target=/f \
                --mount=type=cache,{cache} --mount=type=secret,id=s --mount=type=ssh {run}\n"
        )
    };
    let usual = || text("target=/c", "a", "true");
    let secret = ["--secret", "id=s,src=context/secret"];
    c.build(&usual(), &secret).ok();
    type Change<'a> = (&'a str, &'a dyn Fn(), String, &'a [&'a str], usize);
    let same = || {};
    let cases: [Change<'_>; 11] = [
        ("nothing", &same, usual(), &secret, 2),
        (
            "the secret's value",
            &|| _ = c.file("secret", "other"),
            usual(),
            &secret,
            2,
        ),
        ("no secret", &same, usual(), &[], 2),
        (
            "a file that is not mounted",
            &|| _ = c.file("other", "new"),
            usual(),
            &[],
            2,
        ),
        (
            "an ignored file",
            &|| _ = c.file("dir/ignored", "new"),
            usual(),
            &[],
            2,
        ),
        (
            "the cache's id and sharing",
            &same,
            text("target=/c,id=x,sharing=locked", "a", "true"),
            &[],
            2,
        ),
        (
            "a stage rebuilt to the same file",
            &same,
            text("target=/c", "b", "true"),
            &[],
            1,
        ),
        ("a mounted file", &|| _ = file("two"), usual(), &[], 1),
        ("back again", &|| _ = file("one"), usual(), &[], 2),
        (
            "the cache's place",
            &same,
            text("target=/d", "a", "true"),
            &[],
            1,
        ),
        (
            "a read-only cache",
            &same,
            text("target=/c,ro", "a", "true"),
            &[],
            1,
        ),
    ];
    for (what, change, dockerfile, args, kept) in cases {
        change();
        let ran = c.build(&dockerfile, args).ok();
        assert_eq!(ran.cached(), kept, "{what}:\n{}", ran.err);
    }
    Outcome::Passed
}

fn memory(c: &Context) -> Outcome {
    if c.in_trees() {
        return copies();
    }
    let text = "FROM base\nRUN --mount=type=tmpfs,target=/t,size=1m --mount=type=tmpfs,target=/r,ro \
        --mount=type=tmpfs,target=/dev/x \
        echo \" * $(stat -c %a /t) $(df -k /t | head -n2 | tr -s ' ' | grep -o ' 1024 ')\"; \
        dd if=/dev/zero of=/t/big bs=64k count=32 2>/dev/null || echo \" * full\"; \
        touch /r/x 2>/dev/null || echo \" * refused\"; touch /dev/x/y && echo \" * written\"\n";
    assert_eq!(
        c.output(text, &[]),
        ["1777  1024", "full", "refused", "written"]
    );
    Outcome::Passed
}
