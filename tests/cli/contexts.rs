//! Where files come from: contexts on stdin, and contexts with a name.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::support::{Context, Outcome, read_tar};

pub const CASES: &[Case] = &[
    ("a_tar_on_stdin_is_a_context", tar_on_stdin),
    ("a_dockerfile_on_stdin_needs_no_context", text_on_stdin),
    ("what_cannot_be_built_from_stdin", wrong_stdin),
    ("a_signal_while_a_context_arrives", signal_in_stdin),
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
