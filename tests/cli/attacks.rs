//! Dockerfiles, contexts and images that try to reach what is outside of the root.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Context, Outcome};
use crate::{Case, SECRET};

pub const CASES: &[Case] = &[
    ("links_lead_nowhere_outside", links),
    ("archives_cannot_write_outside", archives),
    ("a_context_cannot_be_left", context),
    ("special_files_do_not_hang_or_lead_out", special),
    ("a_step_sees_nothing_of_its_builder", sees),
];

/// A directory of the host that nothing may read or write, and its path.
fn outside(c: &Context) -> String {
    let dir = c.path("outside");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("treasure"), "treasure").unwrap();
    dir.display().to_string()
}

fn untouched(c: &Context) {
    let names: Vec<_> = fs::read_dir(c.path("outside")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(fs::read(c.path("outside/treasure")).unwrap(), b"treasure");
}

fn links(c: &Context) -> Outcome {
    let dir = outside(c);
    c.file("a", "a");
    let up = "../".repeat(20);
    let head = format!(
        "FROM base AS s\nRUN ln -s {dir} /abs; ln -s {up}{dir} /rel; ln -s {dir}/treasure /file\n"
    );
    for text in [
        "COPY --from=s /abs/treasure /",
        "COPY --from=s /rel/treasure /",
        "COPY --from=s /file /",
        "COPY --from=s /abs /x",
    ] {
        c.build(&format!("{head}FROM scratch\n{text}\n"), &[])
            .fails(3, &[text]);
    }
    for text in [
        "COPY a /abs/",
        "COPY a /rel/new",
        "WORKDIR /abs/made",
        "ADD a /file",
        "WORKDIR /rel\nCOPY a ./x",
        "RUN echo x >/file; mkdir -p /abs; true",
    ] {
        // Beneath the root such a path may be made; outside nothing may.
        let told = c.build(&format!("{head}FROM s\n{text}\n"), &[]);
        assert!(told.code == 0 || told.code == 3, "{text}: {}", told.err);
        untouched(c);
    }
    let out = c.build(
        &format!("{head}FROM s\nWORKDIR /abs/made\nCOPY a .\n"),
        &["-o", "out"],
    );
    assert!(out.code == 0 || out.code == 3, "{}", out.err);
    untouched(c);
    Outcome::Passed
}

fn archives(c: &Context) -> Outcome {
    let dir = outside(c);
    let link = |tar: &mut tar::Builder<Vec<u8>>, name: &str, to: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, to).unwrap();
    };
    let file = |tar: &mut tar::Builder<Vec<u8>>, name: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        // Written by hand: the library refuses names with dots.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
    };
    let up = "../".repeat(20);
    for (to, name) in [
        (dir.clone(), "l/new"),
        (format!("{up}{dir}"), "l/treasure"),
        (dir.clone(), "../../../../../../../../tmp/lapstrake-escape"),
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        link(&mut tar, "l", &to);
        file(&mut tar, name);
        c.file("evil.tar", tar.into_inner().unwrap());
        let told = c.build("FROM base\nADD evil.tar /x/\n", &["-o", "out"]);
        assert!(told.code == 0 || told.code == 3, "{}", told.err);
        untouched(c);
        assert!(!std::path::Path::new("/tmp/lapstrake-escape").exists());
    }
    Outcome::Passed
}

fn context(c: &Context) -> Outcome {
    let dir = outside(c);
    c.file("a", "a");
    symlink(&dir, c.path("context/abs")).unwrap();
    symlink("../outside", c.path("context/rel")).unwrap();
    symlink("../outside/treasure", c.path("context/file")).unwrap();
    for text in [
        "COPY abs/treasure /",
        "COPY rel/treasure /",
        "COPY file /",
        "COPY ../outside/treasure /",
        "ADD rel /x",
    ] {
        let told = c.build(&format!("FROM scratch\n{text}\n"), &[]);
        told.fails(3, &["Dockerfile:2", text]);
    }
    Outcome::Passed
}

fn special(c: &Context) -> Outcome {
    outside(c);
    let fifo = |path: &str| {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        nix::unistd::mkfifo(&c.path(path), mode).unwrap();
    };
    c.file("Dockerfile", "FROM scratch\nCOPY a /\n");
    c.file("a", "a");
    fifo("context/.dockerignore");
    c.run(&["build", "context"]).fails(3, &[".dockerignore"]);
    fs::remove_file(c.path("context/.dockerignore")).unwrap();
    symlink("../outside/treasure", c.path("context/.dockerignore")).unwrap();
    let told = c.run(&["build", "context"]);
    assert!(!told.err.contains("treasure\n"), "{}", told.err);
    fs::remove_file(c.path("context/.dockerignore")).unwrap();
    fifo("context/pipe");
    c.run(&["build", "-f", "context/pipe", "context"])
        .fails(3, &["pipe"]);
    let told = c.build(
        "FROM base\nRUN rm /etc/passwd; mkfifo /p; ln -s /p /etc/passwd\nUSER app\nRUN true\n",
        &[],
    );
    told.fails(3, &["/etc/passwd"]);
    Outcome::Passed
}

fn sees(c: &Context) -> Outcome {
    c.import();
    let tree = c.tree(
        "FROM base\nRUN cat /proc/*/environ >/environ 2>/dev/null; env >/env; ls /proc/self/fd >/fds; ls / >/ls; cat /proc/*/cmdline | tr '\\0' ' ' >/cmdlines\n",
    );
    for path in ["environ", "env", "cmdlines"] {
        let text = String::from_utf8_lossy(&tree[path].content);
        assert!(!text.contains(SECRET), "{path}: {text}");
        assert!(!text.contains("lapstrake build"), "{path}: {text}");
        assert!(
            !text.contains(&c.base.display().to_string()),
            "{path}: {text}"
        );
    }
    // The three of every process, and the directory that ls reads.
    assert!(
        tree["fds"].text().lines().count() <= 4,
        "{}",
        tree["fds"].text()
    );
    Outcome::Passed
}
