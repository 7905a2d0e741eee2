//! Files by http.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::web::{Reply, Web};
use super::*;
use crate::image::Digest;

const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

#[test]
fn s13_a_file_is_asked_for_anew_with_what_its_server_gave() {
    for (name, value, question) in [
        ("ETag", "\"one\"", "if-none-match"),
        ("ETag", "W/\"one\"", "if-none-match"),
        ("Last-Modified", DATE, "if-modified-since"),
    ] {
        let web = Web::start(move |request, _| match request.header(question) {
            Some(asked) if asked == value => Reply::new(304, ""),
            Some(other) => panic!("{other}"),
            None => Reply::new(200, "content").with(name, value),
        });
        let bench = Bench::new();
        let first = bench.file(&web.url("/dir/f.txt"), None).unwrap();
        assert_eq!(bench.content(&first), b"content");
        assert_eq!((first.name.as_str(), first.is_known), ("f.txt", false));
        let mtime = if name == "Last-Modified" {
            1_445_412_480
        } else {
            0
        };
        assert_eq!(first.mtime, mtime);
        let second = bench.file(&web.url("/dir/f.txt"), None).unwrap();
        let known = FetchedFile {
            is_known: true,
            ..first
        };
        assert_eq!(second, known);
        assert_eq!(web.seen().len(), 2);
        assert_eq!(bench.leftovers(), 0);
    }
}

#[test]
fn a_file_that_has_changed_is_fetched() {
    let web = Web::start(|_, before| {
        Reply::new(200, format!("{before}")).with("ETag", format!("\"{before}\""))
    });
    let bench = Bench::new();
    for expected in ["0", "1", "2"] {
        let file = bench.file(&web.url("/f"), None).unwrap();
        assert_eq!(bench.content(&file), expected.as_bytes());
        assert!(!file.is_known);
    }
    let asked: Vec<_> = web.seen();
    assert_eq!(asked[2].header("if-none-match"), Some("\"1\""));
}

#[test]
fn a_lost_body_is_fetched_again() {
    let web = Web::start(|request, _| match request.header("if-none-match") {
        Some(_) => Reply::new(304, ""),
        None => Reply::new(200, "content").with("ETag", "\"x\""),
    });
    let bench = Bench::new();
    let file = bench.file(&web.url("/f"), None).unwrap();
    std::fs::remove_file(bench.store.blob_path(&file.digest)).unwrap();
    let again = bench.file(&web.url("/f"), None).unwrap();
    assert!(!again.is_known);
    assert_eq!(bench.content(&again), b"content");
}

#[test]
fn s7_names() {
    let web = Web::start(|_, _| {
        Reply::new(200, "x").with("Content-Disposition", "attachment; filename=other")
    });
    let bench = Bench::new();
    for (path, name) in [
        ("", "__unnamed__"),
        ("/", "__unnamed__"),
        ("/a/b.tar.gz?x=/y#z", "b.tar.gz"),
        ("/a/b/", "b"),
        ("/a%20b", "a b"),
        ("/a/%2e%2e/c", "c"),
        ("/a/..%2fc", "c"),
        ("/a%2f..", "__unnamed__"),
    ] {
        assert_eq!(
            bench.file(&web.url(path), None).unwrap().name,
            name,
            "{path}"
        );
    }
    let error = bench.file(&web.url("/a%00"), None).unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Request));
}

#[test]
fn l60_checksums() {
    let web = Web::start(|_, _| Reply::new(200, "abc"));
    let url = web.url("/f");
    let right = Digest::of(b"abc").to_string();
    let sha384 = "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";
    let sha512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    let bench = Bench::new();
    for wrong in [&right[..70], &sha384[..102], &sha512[..134]] {
        let wrong = format!("{wrong}0");
        let error = bench.file(&url, Some(&wrong)).unwrap_err();
        assert!(error.to_string().contains("checksum mismatch"), "{error}");
        assert!(error.to_string().contains(&wrong), "{error}");
        assert_eq!(error.fault(), Some(Fault::Request));
    }
    assert_eq!(bench.store.fetched(&url).unwrap(), None);
    assert!(!bench.store.has_blob(&Digest::of(b"abc")));
    assert_eq!(bench.leftovers(), 0);
    for checksum in [sha384, sha512, &right] {
        let file = bench.file(&url, Some(checksum)).unwrap();
        assert_eq!(bench.content(&file), b"abc");
    }
    let asked = web.seen().len();
    assert!(bench.file(&url, Some(&right)).unwrap().is_known);
    assert_eq!(web.seen().len(), asked, "a known checksum asks nobody");
}

#[test]
fn l64_credentials_stay_with_their_host() {
    let other = Web::start(|_, _| Reply::new(200, "x"));
    let there = other.url("/there");
    let web = Web::start(move |request, _| match request.path.as_str() {
        "/away" => Reply::new(302, "").with("Location", there.clone()),
        "/here" => Reply::new(307, "").with("Location", "end"),
        _ => Reply::new(200, "x"),
    });
    let login = format!("http://user:p%40ss@{}/away", web.host());
    let bench = Bench::new();
    bench.file(&login, None).unwrap();
    let basic = "Basic dXNlcjpwQHNz";
    assert_eq!(web.seen()[0].header("authorization"), Some(basic));
    assert_eq!(other.seen()[0].header("authorization"), None);
    assert_eq!(other.seen()[0].header("cookie"), None);
    for secret in ["p@ss", "p%40ss", "dXNlcjpwQHNz"] {
        assert!(!bench.written().contains(secret));
    }

    let token = format!("HTTP_AUTH_TOKEN_{}", web.host());
    let bench = bench.secret(&token, "t0ken");
    bench.file(&web.url("/here"), None).unwrap();
    let seen = web.seen();
    assert_eq!(seen[1].header("authorization"), Some("Bearer t0ken"));
    assert_eq!(seen[2].header("authorization"), Some("Bearer t0ken"));
    bench.file(&web.url("/away"), None).unwrap();
    assert_eq!(other.seen()[1].header("authorization"), None);
    let header = format!("HTTP_AUTH_HEADER_{}", web.host());
    let bench = bench.secret(&header, "Own thing");
    bench.file(&web.url("/f"), None).unwrap();
    let last = web.seen().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Own thing"));
    assert!(!bench.written().contains("t0ken"));
}

#[test]
fn an_error_shows_no_credentials() {
    let web = Web::start(|_, _| Reply::new(403, "no"));
    let bench = Bench::new();
    let url = format!("http://user:geheim@{}/f", web.host());
    let error = bench.file(&url, None).unwrap_err();
    assert!(
        error.to_string().contains("http://***@127.0.0.1"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("geheim"));
}

#[test]
fn redirects_end() {
    let web = Web::start(|request, _| match request.path.as_str() {
        "/file" => Reply::new(301, "").with("Location", "file:///etc/passwd"),
        "/none" => Reply::new(301, "").with("Location", "http://"),
        path => Reply::new(301, "").with("Location", format!("{path}x")),
    });
    let bench = Bench::new();
    for (path, said) in [
        ("/loop", "too many times"),
        ("/file", "redirects to file:"),
        ("/none", "redirects nowhere"),
    ] {
        let error = bench.file(&web.url(path), None).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_body_that_breaks_off_is_continued() {
    let body: Vec<u8> = (0..50_000u32).flat_map(u32::to_be_bytes).collect();
    for (etag, continued) in [("\"strong\"", true), ("W/\"weak\"", false), ("", false)] {
        let whole = body.clone();
        let web = Web::start(move |request, before| {
            let range = request.header("range").and_then(|text| {
                assert_eq!(request.header("if-range"), Some(etag));
                text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
            });
            let reply = match range {
                Some(start) => Reply::new(206, &whole[start..]).with(
                    "Content-Range",
                    format!("bytes {start}-{}/{}", whole.len() - 1, whole.len()),
                ),
                None => Reply::new(200, &whole[..]),
            };
            let reply = match etag {
                "" => reply,
                etag => reply.with("ETag", etag),
            };
            if before < 2 { reply.cut(30_000) } else { reply }
        });
        let bench = Bench::new();
        let file = bench.file(&web.url("/f"), None).unwrap();
        assert_eq!(bench.content(&file), body, "{etag}");
        let seen = web.seen();
        assert_eq!(seen.len(), 3, "{etag}");
        assert_eq!(seen[2].header("range").is_some(), continued, "{etag}");
        assert_eq!(bench.leftovers(), 0);
    }
}

#[test]
fn what_is_tried_again_and_what_is_not() {
    for (first, asked, said) in [
        (Reply::new(500, ""), 2, ""),
        (Reply::new(503, "").with("Retry-After", "0"), 2, ""),
        (Reply::new(429, ""), 2, ""),
        (Reply::new(200, "long").cut(2), 2, ""),
        (
            Reply::new(404, ""),
            1,
            "404 Not Found (hint: check the URL)",
        ),
        (Reply::new(401, ""), 1, "401"),
        (Reply::new(403, ""), 1, "403"),
        (Reply::new(204, ""), 1, "204"),
        (Reply::new(206, "x"), 1, "206"),
        (Reply::new(304, ""), 1, "304 to a first question"),
        (Reply::new(503, "").with("Retry-After", "86400"), 1, "503"),
    ] {
        let answer = first.clone();
        let web = Web::start(move |_, before| match before {
            0 => answer.clone(),
            _ => Reply::new(200, "done"),
        });
        let bench = Bench::new();
        match bench.file(&web.url("/f"), None) {
            Ok(file) => assert_eq!((bench.content(&file), said), (b"done".to_vec(), "")),
            Err(error) => {
                assert!(
                    !said.is_empty() && error.to_string().contains(said),
                    "{error}"
                );
                assert_eq!(error.fault(), Some(Fault::Network));
            }
        }
        assert_eq!(web.seen().len(), asked, "{first:?}");
        assert_eq!(bench.leftovers(), 0);
    }
}

#[test]
fn trouble_that_lasts_is_an_error() {
    let web = Web::start(|_, _| Reply::new(502, ""));
    let bench = Bench::new();
    let error = bench.file(&web.url("/f"), None).unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Network));
    assert_eq!(web.seen().len(), 5);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/f", closed.local_addr().unwrap());
    drop(closed);
    let error = bench.file(&url, None).unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Network));
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[test]
fn what_is_known_is_not_used_unasked() {
    let web = Web::start(|_, before| match before {
        0 => Reply::new(200, "x").with("ETag", "\"1\""),
        _ => Reply::new(500, ""),
    });
    let bench = Bench::new();
    bench.file(&web.url("/f"), None).unwrap();
    let error = bench.file(&web.url("/f"), None).unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Network));
}

#[test]
fn more_than_is_accepted_is_not_read() {
    let sent = Reply::new(200, vec![0; 5000]);
    for reply in [sent.clone(), sent.unknown_length()] {
        let web = Web::start(move |_, _| reply.clone());
        let bench = Bench::with(|settings| settings.max_bytes = 4000);
        let error = bench.file(&web.url("/f"), None).unwrap_err();
        assert!(
            error.to_string().contains("larger than 4000 bytes"),
            "{error}"
        );
        assert_eq!((web.seen().len(), bench.leftovers()), (1, 0));
    }
}

#[test]
fn silence_is_not_waited_for_longer_than_patience() {
    let web = Web::start(|_, before| match before {
        0 => Reply::new(200, "slow").stall(2),
        _ => Reply::new(200, "slow"),
    });
    let bench = Bench::with(|settings| settings.patience = Duration::from_millis(50));
    let file = bench.file(&web.url("/f"), None).unwrap();
    assert_eq!(bench.content(&file), b"slow");
}

#[test]
fn the_end_of_the_build_ends_it() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let web = Web::start(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::new(200, "slow").stall(2)
    });
    let bench = Bench::new();
    let stop = bench.stop.clone();
    let ender = std::thread::spawn(move || {
        while begun.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.stop();
    });
    let error = bench.file(&web.url("/f"), None).unwrap_err();
    ender.join().unwrap();
    assert!(matches!(*error.kind, FetchErrorKind::Stopped), "{error}");
    assert_eq!((error.fault(), bench.leftovers()), (None, 0));
}
