//! Everything that can be wrong: the exit code, the place, the reason, the cure.

use std::fs;

use serde_json::Value;

use crate::Case;
use crate::support::{Context, Outcome, ran};

pub const CASES: &[Case] = &[
    ("mistakes_in_the_dockerfile", dockerfile),
    ("mistakes_in_what_it_names", files),
    ("what_is_not_supported_is_refused_first", unsupported),
    ("mistakes_on_the_command_line", flags),
    ("a_failed_run_is_told_to_programs", metadata),
    ("a_full_disk", full),
    ("a_store_that_cannot_be_made", no_store),
];

fn dockerfile(c: &Context) -> Outcome {
    for (text, code, said) in [
        (
            "FROM base\nRNU true\n",
            3,
            &["Dockerfile:2", "RNU true", "did you mean RUN"][..],
        ),
        (
            "FROM base AS a\nCOPY --from=later /a /b\nFROM base AS later\nFROM a\n",
            3,
            &["Dockerfile:2", "later"],
        ),
        (
            "FROM base AS me\nCOPY --from=me /a /b\n",
            3,
            &["Dockerfile:2", "itself"],
        ),
        (
            "FROM base\nCOPY --from=7 /a /b\n",
            3,
            &["there is no stage 7", "counted from 0"],
        ),
        (
            "FROM base\nCOPY --form=a /a /b\n",
            3,
            &["Dockerfile:2", "--form", "did you mean"],
        ),
        ("FROM base\nEXPOSE 99999\n", 3, &["Dockerfile:2", "99999"]),
        (
            "FROM base\nUSER who\nRUN true\n",
            3,
            &["Dockerfile:3", "who", "/etc/passwd"],
        ),
        (
            "FROM base\nUSER 2147483648\nRUN true\n",
            3,
            &["Dockerfile:3", "2147483648", "2147483647"],
        ),
        ("FROM Base\nRUN true\n", 3, &["Dockerfile:1", "FROM Base"]),
        (
            "FROM 127.0.0.1:1/none\nRUN true\n",
            5,
            &["Dockerfile:1", "127.0.0.1:1", "cannot be reached"],
        ),
        (
            "FROM base\nCOPY --from=127.0.0.1:1/none / /\n",
            5,
            &["Dockerfile:2", "cannot be reached"],
        ),
        (
            "FROM base\nRUN [\"nope\"]\n",
            4,
            &["Dockerfile:2", "nope", "no such program"],
        ),
        (
            "FROM base\nRUN echo why >&2; exit 9\n",
            4,
            &["Dockerfile:2", "exit status 9", "why"],
        ),
        (
            "FROM base\nWORKDIR /etc/passwd\n",
            3,
            &["Dockerfile:2", "/etc/passwd"],
        ),
        (
            "FROM base\nENV A=${B?is missing}\n",
            3,
            &["Dockerfile:2", "is missing"],
        ),
        ("", 3, &["Dockerfile"]),
        ("ARG A\n", 3, &["no FROM"]),
    ] {
        let told = c.build(text, &[]);
        assert!(!told.err.contains("panicked"), "{text}: {}", told.err);
        assert_eq!(told.out, "", "{text}");
        told.fails(code, said);
    }
    c.build("FROM base AS build\n", &["--target", "biuld"])
        .fails(3, &["biuld", "did you mean build"]);
    Outcome::Passed
}

fn files(c: &Context) -> Outcome {
    c.file("src/main.c", "x");
    c.file("secret.txt", "x");
    c.file(".dockerignore", "secret*\n");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5000);
    tar.append_data(&mut header, "f", &[7; 5000][..]).unwrap();
    c.file("broken.tar", &tar.into_inner().unwrap()[..1000]);
    for (text, said) in [
        (
            "COPY src/mian.c /",
            &[
                "src/mian.c",
                "does not exist in the build context",
                "main.c",
            ][..],
        ),
        (
            "COPY secret.txt /",
            &["secret.txt", "excluded by", ".dockerignore"],
        ),
        ("COPY src/main.c /etc", &[]),
        ("COPY src /etc/passwd", &["/etc/passwd"]),
        ("COPY src/main.c /bin/sh/x", &["/bin/"]),
        ("COPY --from=base /etc/psswd /", &["psswd", "passwd"]),
        ("ADD broken.tar /x", &["the archive ends"]),
    ] {
        let told = c.build(&format!("FROM base\n{text}\n"), &[]);
        if said.is_empty() {
            told.ok();
            continue;
        }
        assert!(
            !told.err.contains("directory (os error 20): Not a"),
            "{}",
            told.err
        );
        told.fails(3, &[said, &["Dockerfile:2", text]].concat());
    }
    Outcome::Passed
}

fn unsupported(c: &Context) -> Outcome {
    for (text, said) in [
        (
            "FROM base\nRUN touch /ran\nRUN --device=vendor.com/dev true\n",
            "RUN --device is not supported",
        ),
        (
            "FROM base\nRUN touch /ran\nRUN --security=insecure true\n",
            "RUN --security=insecure without --allow security.insecure is not supported",
        ),
        (
            "FROM base AS a\nRUN touch /ran\nFROM --platform=windows/amd64 scratch\nCOPY --from=a /ran /\n",
            "a stage for windows/amd64 is not supported",
        ),
    ] {
        let told = c.build(text, &[]).fails(3, &[said, "Dockerfile:3"]);
        assert!(
            !told.err.contains("] RUN touch"),
            "nothing ran before:\n{}",
            told.err
        );
    }
    Outcome::Passed
}

fn flags(c: &Context) -> Outcome {
    c.file("Dockerfile", "FROM scratch\n");
    for (args, code, said) in [
        (&["--no-such"][..], 2, "--no-such"),
        (
            &["--platform", "linux/amd64,linux/arm64"],
            2,
            "several platforms is not supported",
        ),
        (&["--platform", "x"], 2, "OS/ARCH"),
        (&["-t", "UPPER"], 2, "UPPER"),
        (&["-o", "type=nix"], 2, "nix"),
        (&["-o", "type=oci"], 2, "dest"),
        (&["--ulimit", "nofile"], 2, "nofile"),
        (
            &["--ulimit", "files=1"],
            2,
            "\"files\" is no resource limit",
        ),
        (&["--add-host", "x"], 2, "--add-host"),
        (&["--shm-size", "big"], 2, "big"),
        (&["--label", "x"], 2, "--label"),
        (&["--network", "bridge"], 2, "bridge"),
        (&["--build-arg", "SOURCE_DATE_EPOCH=soon"], 2, "soon"),
        (
            &["--build-arg", "SOURCE_DATE_EPOCH=253402300800"],
            2,
            "9999",
        ),
        (&["-o", "type=tar,dest=none/x"], 2, "cannot write none/x"),
        (&["-o", "type=tar,dest=context"], 2, "cannot write context"),
        (
            &["-o", "type=tar,dest=x", "-o", "type=oci,dest=x"],
            2,
            "two outputs go to x",
        ),
        (
            &["-o", "type=tar,dest=-", "-o", "type=docker"],
            2,
            "two outputs go to stdout",
        ),
        (&["-o", "type=local,dest=-"], 2, "to stdout"),
        (
            &["-o", "type=local,dest=context/Dockerfile"],
            2,
            "cannot write context/Dockerfile: it is no directory",
        ),
        (
            &["-o", "type=oci,tar=false,dest=context"],
            2,
            "context is no OCI image layout",
        ),
        (&["--iidfile", "none/x"], 2, "cannot write none/x"),
        (&["--metadata-file", "none/x"], 2, "cannot write none/x"),
        (&["-f", "none"], 3, "there is no Dockerfile at"),
        (&["--push"], 2, "-t"),
    ] {
        let all = [&["build"], args, &["context"]].concat();
        c.run(&all).fails(code, &[said]);
    }
    c.run(&["build", "nowhere"]).fails(3, &["nowhere"]);
    c.run(&["inspect", "none"])
        .fails(2, &["no such image: none"]);
    c.run(&["load", "-i", "none"])
        .fails(2, &["cannot open none"]);
    c.run(&["login", "--password-stdin"])
        .fails(2, &["--password-stdin needs --username"]);
    c.run(&["import", "none"]).fails(2, &["cannot open none"]);
    c.run(&["frobnicate"]).fails(2, &["frobnicate"]);
    let unknown = c.run(&["run", "--no-such", "x"]);
    let unknown = unknown.fails(2, &["--no-such"]);
    assert!(!unknown.err.contains("tip:"), "{}", unknown.err);
    c.run(&["build", "--no-cach", "."])
        .fails(2, &["similar", "--no-cache"]);
    Outcome::Passed
}

fn metadata(c: &Context) -> Outcome {
    c.build(
        "FROM base\nRUN exit 7\n",
        &["--metadata-file", "m.json", "--iidfile", "id"],
    )
    .fails(4, &[]);
    let told: Value = serde_json::from_slice(&fs::read(c.path("m.json")).unwrap()).unwrap();
    let told = &told["lapstrake.error"];
    assert_eq!(
        (&told["class"], &told["status"]),
        (&"run".into(), &7.into())
    );
    let message = told["message"].as_str().unwrap();
    assert_eq!(message.matches("exit status 7").count(), 1, "{message}");
    assert!(!message.contains("-->"), "{message}");
    assert!(!c.path("id").exists());
    Outcome::Passed
}

/// A store on a disk of six megabytes.
fn full(c: &Context) -> Outcome {
    c.import();
    if !nix::unistd::geteuid().is_root() {
        return Outcome::Skipped("mounting a small disk takes root".into());
    }
    fs::create_dir(c.path("small")).unwrap();
    let small = c.path("small");
    let mounted = nix::mount::mount(
        Some("none"),
        &small,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=12m"),
    );
    if let Err(error) = mounted {
        return Outcome::Skipped(format!("no small disk: {error}"));
    }
    c.file("big", vec![7; 20 << 20]);
    let mut said = Vec::new();
    for text in [
        "FROM base\nRUN true\nCOPY big /big\n",
        "FROM base\nRUN dd if=/dev/zero of=/f bs=1M count=30\n",
    ] {
        c.file("Dockerfile", text);
        let mut import = c.command(&["import", "rootfs", "base"]);
        ran(import.arg("--root").arg("small/store"));
        let mut build = c.command(&["build", "context"]);
        said.push(ran(build.arg("--root").arg("small/store")));
    }
    let left = fs::read_dir(small.join("store/v1/tmp")).map(|dir| dir.count());
    nix::mount::umount2(&small, nix::mount::MntFlags::MNT_DETACH).unwrap();
    let run = said.pop().unwrap();
    run.fails(4, &["No space left"]);
    said.pop()
        .unwrap()
        .fails(6, &["o space left", "Dockerfile:3"]);
    assert_eq!(left.unwrap(), 0);
    Outcome::Passed
}

fn no_store(c: &Context) -> Outcome {
    c.file("Dockerfile", "FROM scratch\n");
    let mut command = c.command(&["build", "context", "--root", "/proc/nowhere"]);
    ran(&mut command).fails(6, &["/proc/nowhere"]);
    Outcome::Passed
}
