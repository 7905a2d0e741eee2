//! Files and contexts from the network.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::repositories::{NO_GIT, repository};
use crate::support::{Context, Outcome, ran, read_tar};
use crate::web::{Reply, Web, backend, has_git};

pub const CASES: &[Case] = &[
    ("add_of_a_url", add_url),
    ("add_of_a_url_comes_from_the_cache", cached_url),
    ("add_with_a_checksum", checksums),
    ("add_of_an_archive_from_a_url", archives),
    ("mistakes_in_what_is_fetched", mistakes),
    ("a_url_is_a_context", web_context),
    ("a_dockerfile_is_fetched", web_dockerfile),
    ("a_named_context_is_fetched", named_context),
    ("credentials_in_urls_are_kept_nowhere", credentials),
    ("secrets_open_what_is_fetched", secrets),
    ("a_signal_while_a_file_arrives", signal),
    ("proxies_are_used_for_other_machines", proxies),
];

const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// A tar with the file `in/file`, its owner 12:34.
fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o640);
    header.set_uid(12);
    header.set_gid(34);
    header.set_size(4);
    builder
        .append_data(&mut header, "in/file", &b"text"[..])
        .unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Serves the same at every path.
fn always(body: &[u8]) -> Web {
    let body = body.to_vec();
    Web::start(move |_, _| Reply::new(200, body.clone()).with("Last-Modified", DATE))
}

fn add_url(c: &Context) -> Outcome {
    let web = always(b"hello");
    c.file("local", "local");
    let url = |path: &str| web.url(path);
    let tree = c.tree(&format!(
        "FROM base\nADD {} /one\nADD {} local {} /dir/\nADD --chown=1000:7 --chmod=0644 {} /etc/\n\
         ADD --link {} /linked/x\nADD --exclude=*.no {} {} /some/\nADD {} ./\nADD {} /bin/\n",
        url("/f"),
        url("/a.txt"),
        url("/local"),
        url("/owned"),
        url("/l"),
        url("/x.no"),
        url("/x.yes"),
        url(""),
        url("/sh"),
    ));
    for (path, mode, owner) in [
        ("one", 0o600, (0, 0)),
        ("dir/a.txt", 0o600, (0, 0)),
        ("dir/local", 0o600, (0, 0)),
        ("etc/owned", 0o644, (1000, 7)),
        ("linked/x", 0o600, (0, 0)),
        ("some/x.yes", 0o600, (0, 0)),
        ("__unnamed__", 0o600, (0, 0)),
        ("bin/sh", 0o600, (0, 0)),
    ] {
        let node = &tree[path];
        assert_eq!((node.kind, node.text()), ('f', "hello"), "{path}");
        assert_eq!((node.mode, node.owner), (mode, owner), "{path}");
    }
    assert!(!tree.contains_key("some/x.no"));
    let times = tar::Archive::new(fs::File::open(c.path("tree.tar")).unwrap())
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| entry.path().unwrap().ends_with("one"))
        .map(|entry| entry.header().mtime().unwrap());
    assert_eq!(times, Some(1_445_412_480));
    assert!(c.leftovers().is_empty());
    // A directory is not replaced by a file.
    c.build(
        &format!("FROM base\nRUN mkdir -p /d/f\nADD {} /d/\n", url("/f")),
        &[],
    )
    .fails(3, &["/d/f"]);
    Outcome::Passed
}

fn cached_url(c: &Context) -> Outcome {
    let state = Arc::new(Mutex::new(("one".to_owned(), DATE.to_owned(), 200)));
    let now = Arc::clone(&state);
    let web = Web::start(move |request, _| {
        let (body, date, status) = now.lock().unwrap().clone();
        if status != 200 {
            return Reply::new(status, "");
        }
        match request.header("if-modified-since") {
            Some(known) if known == date => Reply::new(304, ""),
            _ => Reply::new(200, body).with("Last-Modified", date),
        }
    });
    let text = format!("FROM base\nADD {} /f\nRUN cat /f\n", web.url("/f"));
    let build = |args: &[&str]| c.build(&text, args);
    assert_eq!(build(&[]).ok().executed().len(), 2);
    let again = build(&[]).ok();
    assert_eq!((again.executed().len(), again.cached()), (0, 3));
    assert!(web.seen()[1].header("if-modified-since").is_some());
    let later = "Wed, 21 Oct 2015 07:28:01 GMT".to_owned();
    *state.lock().unwrap() = ("two".into(), DATE.into(), 200);
    assert_eq!(build(&[]).ok().executed().len(), 0, "the server said 304");
    *state.lock().unwrap() = ("two".into(), later.clone(), 200);
    assert_eq!(build(&[]).ok().executed().len(), 2, "new content");
    assert_eq!(build(&["--no-cache"]).ok().executed().len(), 2);
    *state.lock().unwrap() = ("two".into(), DATE.into(), 200);
    assert_eq!(build(&[]).ok().executed().len(), 2, "a new time");
    *state.lock().unwrap() = (String::new(), later, 404);
    build(&[]).fails(5, &["cannot fetch http://127.0.0.1", "404", "Dockerfile:2"]);
    let metadata = ["--metadata-file", "meta"];
    build(&metadata).fails(5, &["404"]);
    assert!(
        fs::read_to_string(c.path("meta"))
            .unwrap()
            .contains("network")
    );
    // What no tag reaches goes, and is fetched again.
    c.run(&["prune", "--force"]).ok();
    *state.lock().unwrap() = ("two".into(), DATE.into(), 200);
    assert_eq!(build(&[]).ok().executed().len(), 2);
    Outcome::Passed
}

fn checksums(c: &Context) -> Outcome {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let web = Web::start(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::new(200, "abc")
    });
    let right = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let url = web.url("/f");
    let text = format!("FROM base\nARG SUM={right}\nADD --checksum=$SUM {url} /f\n");
    let sum = format!("SUM={}", right.replace('b', "c"));
    c.build(&text, &["--build-arg", &sum])
        .fails(3, &["checksum mismatch", right, "Dockerfile:3"]);
    c.build(&text, &[]).ok();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_eq!(c.build(&text, &[]).ok().executed().len(), 0);
    c.build(&text, &["--no-cache"]).ok();
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "a known checksum asks nobody"
    );
    c.file("local", "x");
    for (line, said) in [
        (
            format!("ADD --checksum={right} local /f"),
            "not a local one",
        ),
        (
            format!("ADD --checksum={right} {url} {url} /f/"),
            "one source only",
        ),
        (
            format!("ADD --checksum=sha256:12 {url} /f"),
            "hexadecimal digits",
        ),
        (format!("ADD --checksum=md5:12 {url} /f"), "sha256:"),
        (
            "ADD --checksum=xyz git://127.0.0.1/x /f".to_owned(),
            "is no commit",
        ),
    ] {
        let text = format!("FROM base\nADD {url} /first\n{line}\n");
        let ran = c.build(&text, &[]).fails(3, &[said, "Dockerfile:3"]);
        assert_eq!(ran.executed().len(), 0, "refused before anything is done");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    Outcome::Passed
}

fn archives(c: &Context) -> Outcome {
    let archive = tar();
    for body in [
        archive.clone(),
        gzip(&archive),
        zstd::encode_all(&archive[..], 1).unwrap(),
    ] {
        let sent = body.clone();
        let web = Web::start(move |_, _| Reply::new(200, sent.clone()).unknown_length());
        let url = web.url("/a.tar");
        let tree = c.tree(&format!(
            "FROM scratch\nADD {url} /kept/\nADD --unpack=true {url} /un\n\
             ADD --unpack=true --chown=5:6 {url} /owned\nADD --unpack=false {url} /no\n",
        ));
        assert_eq!(tree["kept/a.tar"].content, body);
        assert_eq!(tree["no"].content, body);
        assert_eq!(
            (tree["un/in/file"].text(), tree["un/in/file"].owner),
            ("text", (12, 34))
        );
        assert_eq!(
            (tree["owned/in/file"].mode, tree["owned/in/file"].owner),
            (0o640, (5, 6))
        );
    }
    let web = always(b"no archive");
    let tree = c.tree(&format!(
        "FROM scratch\nADD --unpack=true {} /d/\n",
        web.url("/f")
    ));
    assert_eq!(tree["d/f"].text(), "no archive");
    Outcome::Passed
}

fn mistakes(c: &Context) -> Outcome {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = closed.local_addr().unwrap();
    drop(closed);
    let web = always(b"x");
    let url = web.url("/f");
    for (line, code, said) in [
        (format!("ADD http://{nowhere}/f /f"), 5, "cannot be reached"),
        (format!("COPY http://{nowhere}/f /f"), 3, "ADD can"),
        ("ADD git@h:x#-u /f".to_owned(), 3, "no name of a branch"),
        (
            "ADD ssh://-oProxyCommand=x/y /f".to_owned(),
            3,
            "is no host",
        ),
        ("ADD https://h/x.git?depth=3 /f".to_owned(), 3, "not known"),
        (
            "ADD http://127.0.0.1:99999/f /f".to_owned(),
            3,
            "it is no URL",
        ),
        (format!("ADD {url} /d/.wh.x"), 3, ".wh."),
        (format!("ADD {url}/.wh.x /d/"), 3, ".wh."),
    ] {
        c.build(&format!("FROM base\n{line}\n"), &[])
            .fails(code, &[said, "Dockerfile:2"]);
    }
    let web = always(b"x");
    c.file(
        "Dockerfile",
        format!("FROM base\nADD {} /f\n", web.url("/x.git")),
    );
    let mut command = c.command(&["build", "context"]);
    command.env("PATH", c.path("home"));
    ran(&mut command).fails(6, &["there is no git program", "install it"]);
    for (url, code, said) in [
        (format!("http://{nowhere}/x"), 5, "cannot be reached"),
        ("https://h/x.git#--u".to_owned(), 2, "no name of a branch"),
        ("none".to_owned(), 3, "none"),
    ] {
        c.run(&["build", &url]).fails(code, &[said]);
    }
    Outcome::Passed
}

fn web_context(c: &Context) -> Outcome {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (".dockerignore", "f"),
        ("f", "1"),
        ("other", "FROM scratch\nCOPY f /other\n"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    let archive = builder.into_inner().unwrap();
    for body in [archive.clone(), gzip(&archive)] {
        let web = always(&body);
        let url = web.url("/context");
        c.run(&["build", "-o", "type=tar,dest=t.tar", &url]).ok();
        assert_eq!(read_tar(&c.path("t.tar"))["f"].text(), "1");
        c.run(&["build", "-o", "type=tar,dest=t.tar", "-f", "other", &url])
            .ok();
        assert_eq!(read_tar(&c.path("t.tar"))["other"].text(), "1");
    }
    c.import();
    let web = always(b"FROM base\nRUN echo hello >/f\n");
    c.run(&["build", "-t", "x", &web.url("/Dockerfile")]).ok();
    assert!(c.run(&["images"]).ok().out.contains("x"));
    c.run(&["build", "-f", "x", &web.url("/Dockerfile")])
        .fails(2, &["is no tar"]);
    let web = always(b"FROM base\nCOPY f /f\n");
    c.run(&["build", &web.url("/Dockerfile")])
        .fails(3, &["/Dockerfile:2", "empty"]);
    let web = Web::start(|_, _| Reply::new(404, ""));
    c.run(&["build", &web.url("/x")]).fails(5, &["404"]);
    assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    Outcome::Passed
}

/// `-f URL` (P13): for a directory and for a context that is fetched too.
fn web_dockerfile(c: &Context) -> Outcome {
    let web = always(b"FROM scratch\nCOPY in/file* /f\n");
    let url = web.url("/some/Dockerfile");
    c.file("in/file", "here");
    c.file(".dockerignore", "in/file2");
    c.file("in/file2", "not here");
    let to = ["-o", "type=tar,dest=t.tar"];
    c.run(&["build", to[0], to[1], "-f", &url, "context"]).ok();
    assert_eq!(read_tar(&c.path("t.tar"))["f"].text(), "here");
    let context = always(&gzip(&tar())).url("/context");
    c.run(&["build", to[0], to[1], "-f", &url, &context]).ok();
    assert_eq!(read_tar(&c.path("t.tar"))["f"].text(), "text");
    c.fed(&["build", "-f", &url, "-"], &tar())
        .fails(2, &["a Dockerfile at a URL", "not with stdin"]);
    c.run(&["build", "--check", "-f", &url, "context"])
        .fails(2, &["--call reads nothing but the Dockerfile"]);
    let wrong = always(b"FROM scratch\nCPY a b\n").url("/wrong");
    c.run(&["build", "-f", &wrong, "context"])
        .fails(3, &["CPY", "/wrong:2:1"]);
    let none = Web::start(|_, _| Reply::new(404, "")).url("/none");
    c.run(&["build", "-f", &none, "context"]).fails(5, &["404"]);
    Outcome::Passed
}

fn named_context(c: &Context) -> Outcome {
    if !has_git() {
        return Outcome::Skipped(NO_GIT.into());
    }
    repository(c, "r", &[("f", "1")]);
    let forge = Web::git(&c.path("repositories"));
    let web = always(&gzip(&tar()));
    let repository = format!("r={}", forge.url("/r/.git"));
    let archive = format!("a={}", web.url("/a"));
    let unused = "u=http://127.0.0.1:1/none";
    let ran = c.build(
        "FROM scratch\nCOPY --from=r f /r\nCOPY --from=a in/file /a\n",
        &[
            "--build-context",
            &repository,
            "--build-context",
            &archive,
            "--build-context",
            unused,
            "-o",
            "type=tar,dest=t.tar",
        ],
    );
    ran.ok();
    let tree = read_tar(&c.path("t.tar"));
    assert_eq!((tree["r"].text(), tree["a"].text()), ("1", "text"));
    Outcome::Passed
}

fn credentials(c: &Context) -> Outcome {
    let web = always(b"x");
    let url = format!("http://user:geheim@{}/f", web.host());
    let text = format!("FROM base\nADD {url} /f\n");
    let first = c.build(&text, &["-t", "x", "--metadata-file", "meta"]).ok();
    assert!(web.seen()[0].header("authorization").is_some());
    let failed = c.build(
        &format!("FROM base\nADD {url} /f\nADD {url} none /none/\n"),
        &["--metadata-file", "failed"],
    );
    let unreachable = c.build(
        "FROM base\nADD http://user:geheim@127.0.0.1:1/x.git /f\n",
        &[],
    );
    let context = c.run(&["build", "http://user:geheim@127.0.0.1:1/x.tar"]);
    assert_eq!((failed.code, context.code), (3, 5));
    let mut said = [first.err, failed.err, unreachable.err, context.err].concat();
    said += &c.inspect("x").to_string();
    said += &fs::read_to_string(c.path("meta")).unwrap();
    said += &fs::read_to_string(c.path("failed")).unwrap();
    assert!(!said.contains("geheim"), "{said}");
    assert!(said.contains("http://***@127.0.0.1"), "{said}");
    let mut pending = vec![c.path("store")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() && entry.metadata().unwrap().len() < 1 << 20 {
                let bytes = fs::read(entry.path()).unwrap();
                let found = bytes.windows(6).any(|window| window == b"geheim");
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
    Outcome::Passed
}

fn signal(c: &Context) -> Outcome {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let web = Web::start(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::new(200, "slow").stall(2)
    });
    c.import();
    c.file(
        "Dockerfile",
        format!("FROM base\nADD {} /f\n", web.url("/f")),
    );
    let file = web.url("/f");
    let repository = web.url("/f.git");
    let mut sources = vec!["context", file.as_str()];
    if has_git() {
        sources.push(&repository);
    }
    for source in sources {
        let before = begun.load(Ordering::SeqCst);
        let mut command = c.command(&["build", source]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        while begun.load(Ordering::SeqCst) == before {
            assert!(
                child.try_wait().unwrap().is_none(),
                "{source}: it ended by itself"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143), "{source}");
        assert!(c.leftovers().is_empty(), "{source}");
    }
    Outcome::Passed
}

fn proxies(c: &Context) -> Outcome {
    let root = c.path("repositories");
    if has_git() {
        repository(c, "r", &[("f", "git")]);
    }
    let proxy = Web::start(move |request, _| match request.path.as_str() {
        "/f" => Reply::new(200, "proxied"),
        _ => backend(&root, request),
    });
    let here = always(b"direct");
    c.import();
    let mut text = format!(
        "FROM base\nADD http://far.example/f /f\nADD {} /d\n",
        here.url("/d")
    );
    if has_git() {
        text += "ADD http://far.example/r/.git /r\n";
    }
    c.file("Dockerfile", text);
    for name in ["http_proxy", "HTTP_PROXY"] {
        let mut command = c.command(&[
            "build",
            "--no-cache",
            "-o",
            "type=tar,dest=t.tar",
            "context",
        ]);
        let before = proxy.seen().len();
        ran(command.env(name, proxy.url("/"))).ok();
        let tree = read_tar(&c.path("t.tar"));
        assert_eq!((tree["f"].text(), tree["d"].text()), ("proxied", "direct"));
        assert!(!has_git() || tree["r/f"].text() == "git");
        assert!(proxy.seen().len() > before, "{name}");
    }
    Outcome::Passed
}

fn secrets(c: &Context) -> Outcome {
    let root = c.path("repositories");
    if has_git() {
        repository(c, "r", &[("f", "git")]);
    }
    let web = Web::start(move |request, _| match request.header("authorization") {
        Some("Bearer geheim") => Reply::new(200, "x"),
        // x-access-token:geheim
        Some("Basic eC1hY2Nlc3MtdG9rZW46Z2VoZWlt") => backend(&root, request),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic"),
    });
    let mut text = format!("FROM base\nADD {} /f\n", web.url("/f"));
    if has_git() {
        text += &format!("ADD {} /r\n", web.url("/r/.git"));
    }
    c.build(&text, &[]).fails(5, &["401", "needs credentials"]);
    let http = format!("id=HTTP_AUTH_TOKEN_{},env=TOKEN", web.host());
    let mut command = c.command(&[
        "build",
        "-t",
        "x",
        "--secret",
        &http,
        "--secret",
        "id=GIT_AUTH_TOKEN,env=TOKEN",
        "context",
    ]);
    let built = ran(command.env("TOKEN", "geheim")).ok();
    assert!(!built.err.contains("geheim"));
    assert!(!c.inspect("x").to_string().contains("geheim"));
    Outcome::Passed
}
