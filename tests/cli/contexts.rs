//! Where files come from: contexts on stdin, and contexts with a name.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::support::{Context, Node, Outcome, read_tar};

pub const CASES: &[Case] = &[
    ("a_tar_on_stdin_is_a_context", tar_on_stdin),
    ("a_dockerfile_on_stdin_needs_no_context", text_on_stdin),
    ("what_cannot_be_built_from_stdin", wrong_stdin),
    ("a_signal_while_a_context_arrives", signal_in_stdin),
    ("named_directories", named_directories),
    ("named_images", named_images),
    ("named_layouts", named_layouts),
    ("mistakes_in_named_contexts", wrong_names),
    ("an_ignore_file_hides_and_keeps", ignored),
    ("only_what_steps_use_is_read", lazy),
];

/// A tar of regular files, their owner nobody's, and a mode each.
fn tar(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(1234);
        header.set_gid(65000);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn tar_on_stdin(c: &Context) -> Outcome {
    let plain = tar(&[
        (".dockerignore", 0o644, "ignored\n"),
        ("Dockerfile", 0o644, "FROM scratch\nCOPY . /\n"),
        ("ignored", 0o644, "x"),
        ("dir/suid", 0o4751, "y"),
        ("sub/other", 0o644, "FROM scratch\nCOPY dir /other\n"),
    ]);
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for (bytes, cached) in [(&plain, 0), (&gzip(&plain), 1), (&zstd, 1)] {
        let ran = c
            .fed(&["build", "-o", "type=tar,dest=out.tar", "-"], bytes)
            .ok();
        assert_eq!(ran.cached(), cached, "{}", ran.err);
        let tree = read_tar(&c.path("out.tar"));
        assert!(tree.contains_key("ignored"), "{:?}", tree.keys());
        let suid = &tree["dir/suid"];
        assert_eq!((suid.mode, suid.owner), (0o4751, (0, 0)));
        assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    }
    for file in ["sub/other", "/sub/other"] {
        let args = ["build", "-f", file, "-o", "type=tar,dest=out.tar", "-"];
        c.fed(&args, &plain).ok();
        assert!(read_tar(&c.path("out.tar")).contains_key("other/suid"));
    }
    Outcome::Passed
}

fn text_on_stdin(c: &Context) -> Outcome {
    c.import();
    let text = b"FROM base\nRUN echo made >/made\nCOPY <<E /inline\ntext\nE\n";
    let to_tar = ["-o", "type=tar,dest=out.tar"];
    c.fed(&["build", to_tar[0], to_tar[1], "-"], text).ok();
    assert_eq!(read_tar(&c.path("out.tar"))["made"].text(), "made\n");
    c.fed(&["build", "-"], b"FROM base\nCOPY x /\n")
        .fails(3, &["stdin:2", "the build context, which is empty"]);
    c.fed(&["build", "-"], b"FROM base\nRNU x\n")
        .fails(3, &["stdin:2", "did you mean RUN"]);
    assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    c.file("file", "of the context");
    let args = ["build", "-f", "-", to_tar[0], to_tar[1], "context"];
    c.fed(&args, b"FROM scratch\nCOPY file /\n").ok();
    let tree = read_tar(&c.path("out.tar"));
    assert_eq!(tree["file"].text(), "of the context");
    Outcome::Passed
}

fn wrong_stdin(c: &Context) -> Outcome {
    let good = tar(&[("Dockerfile", 0o644, "FROM scratch\n"), ("a", 0o644, "x")]);
    let link = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "Dockerfile", "/etc/passwd")
            .unwrap();
        builder.into_inner().unwrap()
    };
    let step = tar(&[("Dockerfile", 0o644, "FROM scratch\nCOPY none /\n")]);
    for (args, input, code, said) in [
        (&["-f", "-"][..], &good[..], 2, "context and the Dockerfile"),
        (&["-f", "x"], b"FROM scratch\n", 2, "stdin is no tar"),
        (&["-f", "x"], &good, 3, "no Dockerfile at x"),
        (&[], &tar(&[("a", 0o644, "x")]), 3, "no Dockerfile"),
        (&[], &link, 3, "not in the build context"),
        (&[], &good[..700], 3, "the tar on stdin"),
        (&[], &gzip(&good)[..60], 3, "the tar on stdin"),
        (&[], &step, 3, "Dockerfile:2"),
        (&[], b"", 3, "stdin"),
    ] {
        let mut all = vec!["build"];
        all.extend(args);
        all.push("-");
        let told = c.fed(&all, input);
        assert!(!told.err.contains("panicked"), "{}", told.err);
        told.fails(code, &[said]);
        if c.path("store").exists() {
            assert!(c.leftovers().is_empty(), "{said}: {:?}", c.leftovers());
        }
    }
    Outcome::Passed
}

fn signal_in_stdin(c: &Context) -> Outcome {
    let bytes = tar(&[("Dockerfile", 0o644, "FROM scratch\n"), ("a", 0o644, "x")]);
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut command = c.command(&["build", "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes[..1024]).unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let entered = lines.find(|line| line.as_ref().unwrap().contains("sandbox:"));
        assert!(entered.is_some());
        // The staging directory tells that the archive is being read.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !c.path("store/v1/tmp").exists() || c.leftovers().is_empty() {
            assert!(std::time::Instant::now() < end, "nothing was unpacked");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
        drop(stdin);
    }
    Outcome::Passed
}

/// Builds with named contexts and gives the files of the result.
fn with(c: &Context, dockerfile: &str, contexts: &[&str]) -> BTreeMap<String, Node> {
    let named = contexts.iter().flat_map(|text| ["--build-context", *text]);
    let mut args: Vec<&str> = named.collect();
    args.extend(["-o", "type=tar,dest=out.tar"]);
    c.build(dockerfile, &args).ok();
    read_tar(&c.path("out.tar"))
}

fn write(c: &Context, path: &str, content: &str) {
    let path = c.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn named_directories(c: &Context) -> Outcome {
    c.import();
    write(c, "assets/kept", "assets");
    write(c, "assets/dropped", "assets");
    write(c, "assets/.dockerignore", "dropped\n.dockerignore\n");
    write(c, "other/kept", "other");
    fs::set_permissions(
        c.path("assets/kept"),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )
    .unwrap();
    // The ignore file of the main context is not theirs.
    c.file(".dockerignore", "kept\n");
    let copy = "FROM base\nCOPY --from=Assets / /a/\nCOPY --chown=7:8 --from=assets kept /k\n";
    let tree = with(c, &copy.replace("Assets", "assets"), &["assets=assets"]);
    let kept = &tree["a/kept"];
    assert_eq!(
        (kept.text(), kept.owner, kept.mode),
        ("assets", (0, 0), 0o640)
    );
    assert_eq!(tree["k"].owner, (7, 8));
    assert!(!tree.contains_key("a/dropped") && !tree.contains_key("a/.dockerignore"));

    // The last of a name counts, and one for the platform before all others.
    let again = ["assets=assets", "assets=other"];
    assert_eq!(with(c, copy_one(), &again)["k"].text(), "other");
    let platform = match std::env::consts::ARCH {
        "aarch64" => "linux/arm64",
        _ => "linux/amd64",
    };
    let own = format!("assets::{platform}=assets");
    let mixed = [own.as_str(), "assets=other", "assets::linux/s390x=other"];
    assert_eq!(with(c, copy_one(), &mixed)["k"].text(), "assets");

    // In the place of a base image: its files, and the configuration of nothing.
    let from = "FROM docker.io/library/tree:latest\nENV A=b\n";
    let args = ["--build-context", "tree=assets", "-t", "img"];
    let ran = c.build(from, &args).ok();
    assert_eq!(ran.executed(), Vec::<String>::new());
    let told = c.inspect("img");
    assert_eq!(told["Config"]["WorkingDir"], "/");
    let history = told["History"].as_array().unwrap();
    assert_eq!(history.len(), 2, "{told:#}");
    assert_eq!(history[0]["comment"], "buildkit.exporter.image.v0");
    assert!(history[0]["empty_layer"].is_null() && history[0]["created"].is_string());
    assert_eq!(history[1]["created_by"], "ENV A=b");
    let tree = with(c, from, &["tree=assets"]);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["kept"]);
    assert_eq!(c.build(from, &args).ok().cached(), 1);
    write(c, "assets/kept", "changed");
    assert_eq!(with(c, from, &["tree=assets"])["kept"].text(), "changed");

    // In the place of a stage, of which nothing is built then; by its number, too.
    let stages =
        "FROM 127.0.0.1:1/none AS gen\nRUN false\nFROM gen AS top\nCOPY --from=0 kept /again\n";
    let tree = with(c, stages, &["gen=other"]);
    assert_eq!(
        (tree["kept"].text(), tree["again"].text()),
        ("other", "other")
    );
    Outcome::Passed
}

fn copy_one() -> &'static str {
    "FROM scratch\nCOPY --from=assets kept /k\n"
}

fn named_images(c: &Context) -> Outcome {
    let dockerfile =
        "FROM base\nENV FROM_OTHER=1\nRUN echo other >/who\nONBUILD RUN echo ran >/trigger\n";
    c.build(dockerfile, &["-t", "example.com/other:2"]).ok();
    let image = "docker-image://example.com/other:2";
    let stages = "FROM golang:9 AS build\nRUN cp /who /copy\nFROM scratch\nCOPY --from=build /copy /trigger /\nCOPY --from=files:1 /who /third\n";
    let golang = format!("golang:9={image}");
    let files = format!("files:1={image}");
    let tree = with(c, stages, &[&golang, &files]);
    assert_eq!(tree["copy"].text(), "other\n");
    assert_eq!(tree["trigger"].text(), "ran\n");
    assert_eq!(tree["third"].text(), "other\n");
    // In the place of a stage its triggers wait for the stages on top.
    let text =
        "FROM golang:9 AS build\nRUN false\nFROM build AS top\nRUN cat /trigger /who >/saw\n";
    let build = format!("build={image}");
    let args = ["--build-context", &build, "--target", "build", "-t", "img"];
    c.build(text, &args).ok();
    let told = c.inspect("img");
    assert_eq!(told["Config"]["OnBuild"][0], "RUN echo ran >/trigger");
    assert_eq!(with(c, text, &[&build])["saw"].text(), "ran\nother\n");
    Outcome::Passed
}

fn named_layouts(c: &Context) -> Outcome {
    for tag in ["one", "two"] {
        let text = format!("FROM base\nENV TAG={tag}\nRUN echo {tag} >/who\n");
        let name = format!("example.com/made:{tag}");
        c.build(
            &text,
            &["-t", &name, "-o", "type=oci,tar=false,dest=layout"],
        )
        .ok();
    }
    // Another store, to which nothing of it is known.
    fs::rename(c.path("store"), c.path("store.before")).unwrap();
    c.import();
    let text = "FROM builder AS b\nRUN echo $TAG >/env\nFROM scratch\nCOPY --from=b /env /who /\nCOPY --from=builder /who /again\n";
    for tag in ["one", "two"] {
        let tree = with(c, text, &[&format!("builder=oci-layout://layout:{tag}")]);
        for file in ["env", "who", "again"] {
            assert_eq!(tree[file].text(), format!("{tag}\n"), "{file}");
        }
    }
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(c.path("layout/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let layout = format!(
        "builder=oci-layout://{}@{digest}",
        c.path("layout").display()
    );
    assert_eq!(with(c, text, &[&layout])["who"].text(), "one\n");
    assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());

    for (context, said) in [
        (
            "b=oci-layout://layout",
            "no image with the tag \"latest\"; it has one, two",
        ),
        (
            "b=oci-layout://layout:three",
            "no image with the tag \"three\"",
        ),
        ("b=oci-layout://context:x", "index.json is missing"),
    ] {
        let ran = c.build("FROM b\n", &["--build-context", context]);
        ran.fails(2, &["Dockerfile:1", "the image layout", said]);
    }
    // What is not what its name says is not believed.
    let blobs = c.path("layout/blobs/sha256");
    let blob = blobs.join(digest.strip_prefix("sha256:").unwrap());
    let before = fs::read_to_string(&blob).unwrap();
    fs::write(
        &blob,
        before.replace("\"schemaVersion\":2", "\"schemaVersion\":3"),
    )
    .unwrap();
    let args = ["--build-context", "b=oci-layout://layout:one"];
    c.build("FROM b\n", &args)
        .fails(2, &["the content of sha256:"]);
    fs::write(&blob, &before).unwrap();
    fs::rename(c.path("store"), c.path("store.second")).unwrap();
    c.import();
    let manifest: serde_json::Value = serde_json::from_str(&before).unwrap();
    let layer = manifest["layers"][1]["digest"].as_str().unwrap();
    let layer = blobs.join(layer.strip_prefix("sha256:").unwrap());
    let mut bytes = fs::read(&layer).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    c.build("FROM b\n", &args)
        .fails(2, &["the content of sha256:"]);
    fs::write(&layer, &bytes[..last]).unwrap();
    c.build("FROM b\n", &args).fails(2, &["is shorter than"]);
    fs::remove_file(&layer).unwrap();
    c.build("FROM b\n", &args).fails(2, &["is missing in it"]);
    Outcome::Passed
}

fn wrong_names(c: &Context) -> Outcome {
    c.file("file", "x");
    for (context, code, said) in [
        ("a", 2, "NAME=VALUE"),
        ("a=none", 2, "none cannot be used: No such file"),
        ("a=context/file", 2, "context/file is no directory"),
        ("context=dir", 2, "cannot be replaced"),
        ("scratch=dir", 2, "cannot be replaced"),
        ("a=docker-imge://x", 2, "did you mean docker-image://x?"),
        ("a=oci-layout://none", 2, "none cannot be used"),
        ("a=https://example.com/a.git#-u", 2, "no name of a branch"),
    ] {
        c.build("FROM scratch\nENV A=b\n", &["--build-context", context])
            .fails(code, &["--build-context", said]);
    }
    write(c, "dir/file", "x");
    let args = ["--build-context", "a=dir"];
    c.build("FROM scratch\nCOPY --from=a none /\n", &args)
        .fails(3, &["Dockerfile:2", "the build context \"a\"", "none"]);
    write(c, "dir/.dockerignore", "file\n");
    c.build("FROM scratch\nCOPY --from=a file /\n", &args)
        .fails(3, &["Dockerfile:2", "dir/.dockerignore"]);
    write(c, "dir/.dockerignore", "[\n");
    c.build("FROM scratch\nCOPY --from=a file /\n", &args)
        .fails(3, &["dir/.dockerignore", "line 1"]);
    // One that no step uses is no mistake.
    write(c, "dir/.dockerignore", "");
    c.build("FROM scratch\nENV A=b\n", &args).ok();
    Outcome::Passed
}

fn ignored(c: &Context) -> Outcome {
    c.import();
    for file in [
        "a/1",
        "a/b/1",
        "a/b/2.txt",
        "a/empty/x",
        "keep",
        "x.md",
        "d/x.md",
        "*",
    ] {
        c.file(file, file);
    }
    let files = |ignore: &str| {
        c.file(".dockerignore", ignore);
        let tree = c.tree("FROM scratch\nCOPY . /\n");
        tree.into_keys().collect::<Vec<_>>().join(" ")
    };
    // The Dockerfile and the ignore file can be hidden, and are read nevertheless.
    let hide = "Dockerfile\n.dockerignore\n";
    let all = "* a a/1 a/b a/b/1 a/b/2.txt a/empty a/empty/x d d/x.md keep x.md";
    assert_eq!(files(hide), all);
    assert_eq!(
        files("Dockerfile\n"),
        all.replacen("* ", "* .dockerignore ", 1)
    );
    for (ignore, expected) in [
        ("*\n!a/b/2.txt", "a a/b a/b/2.txt"),
        ("*\n!keep\n!a/empty", "a a/empty a/empty/x keep"),
        ("**\n!**/*.md", "d d/x.md x.md"),
        ("a/**\n**/*.md\n\\*", "a d keep"),
        ("*\n!*.md\n!none", "x.md"),
    ] {
        assert_eq!(files(&format!("{ignore}\n{hide}")), expected, "{ignore}");
    }
    // What it hides is not there for a COPY that names it, and is for one from a stage.
    c.file(".dockerignore", "keep\n");
    c.build("FROM base\nCOPY keep /\n", &[])
        .fails(3, &["Dockerfile:2", "keep", ".dockerignore"]);
    let tree = c.tree("FROM base AS b\nRUN echo x >/keep\nFROM scratch\nCOPY --from=b keep /\n");
    assert_eq!(tree["keep"].text(), "x\n");
    // The file beside the Dockerfile goes before the context's.
    c.file("Dockerfile.dockerignore", "*\n!keep\n");
    assert_eq!(
        c.tree("FROM scratch\nCOPY . /\n")
            .into_keys()
            .collect::<Vec<_>>(),
        ["keep"]
    );
    Outcome::Passed
}

fn lazy(c: &Context) -> Outcome {
    c.import();
    c.file("used/file", "x");
    // Deeper than any layer may be: a step that reads it fails, and no other.
    let deep = "d/".repeat(300);
    c.file(&format!("unused/{deep}file"), "x");
    let text = "FROM base\nCOPY used /used\nADD us?d/f* /star/\n";
    let tree = c.tree(text);
    assert!(tree.contains_key("used/file") && tree.contains_key("star/file"));
    c.build("FROM base\nCOPY . /all\n", &[])
        .fails(3, &["directories deep"]);
    Outcome::Passed
}
