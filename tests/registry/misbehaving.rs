//! What is done when a registry is slow, broken, lying or after credentials.

use std::fs::File;
use std::path::PathBuf;

use lapstrake::image::Digest;
use lapstrake::image::manifest::{OCI_INDEX, OCI_MANIFEST};
use lapstrake::registry::{DockerConfig, Kept, Pushed, Registries, RegistryErrorKind, Settings};
use serde_json::json;
use tempfile::TempDir;

use crate::fake::{Answer, Fake, Request};
use crate::support::{Image, NOTES, amd64, descriptor, noise, reference, settings, write};

/// Answers like a registry that holds `image`, with ranges.
fn hold(image: &Image, request: &Request) -> Answer {
    let blob = [&image.config, &image.layer]
        .into_iter()
        .find(|blob| request.target.ends_with(Digest::of(blob).as_str()));
    if request.target.contains("/manifests/") {
        let answer = Answer::new(200).header("Content-Type", OCI_MANIFEST);
        return answer.body(image.manifest.clone());
    }
    let Some(blob) = blob else {
        return Answer::new(404);
    };
    match start_of(request) {
        Some(start) => Answer::new(206)
            .header(
                "Content-Range",
                format!("bytes {start}-{}/{}", blob.len() - 1, blob.len()),
            )
            .body(&blob[start..]),
        None => Answer::new(200).body(blob.clone()),
    }
}

fn start_of(request: &Request) -> Option<usize> {
    let range = request.header("range")?.strip_prefix("bytes=")?;
    range.strip_suffix('-')?.parse().ok()
}

fn image() -> Image {
    Image::new(noise(600_000))
}

fn pull(fake: &Fake, image: &Image) {
    let from = reference(&format!("{}/app:1", fake.host()));
    image.check(&Registries::new(settings()), &from);
}

#[test]
fn waits_and_tries_again() {
    for status in [429, 500, 503] {
        let fake = Fake::start(move |request, before| match before {
            0 | 2 | 3 => Answer::new(status).header("Retry-After", "0"),
            _ => hold(&image(), request),
        });
        pull(&fake, &image());
        assert!(fake.seen().len() >= 6);
    }
}

#[test]
fn gives_up_in_the_end_and_says_what_was_said() {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"come back tomorrow"}]}"#;
    for (status, pause, attempts, requests) in [
        (429, "1", 3, 3),
        (403, "0", 2, 2),
        // Nobody waits for a day.
        (429, "86400", 3, 1),
    ] {
        let fake =
            Fake::start(move |_, _| Answer::new(status).header("Retry-After", pause).body(body));
        let mut quick = settings();
        quick.attempts = attempts;
        let from = reference(&format!("{}/app:1", fake.host()));
        let error = Registries::new(quick).resolve(&from, &amd64()).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains("come back tomorrow"), "{error}");
        assert_eq!(fake.seen().len(), requests, "{status} {pause}");
    }
}

#[test]
fn goes_on_where_the_connection_broke() {
    for ranges in [true, false] {
        let fake = Fake::start(move |request, _| {
            let mut request = request.clone();
            if !ranges {
                request.headers.remove("range");
            }
            let answer = hold(&image(), &request);
            let start = start_of(&request).unwrap_or(0);
            let is_layer = request
                .target
                .ends_with(Digest::of(&image().layer).as_str());
            match is_layer && ranges && start < 500_000 {
                true => answer.cut(100_000),
                false => answer,
            }
        });
        pull(&fake, &image());
    }
    // Without ranges the content comes from the beginning again; what is known is skipped.
    let fake = Fake::start(move |request, before| {
        let mut request = request.clone();
        request.headers.remove("range");
        let answer = hold(&image(), &request);
        match before {
            2 => answer.cut(250_000),
            _ => answer,
        }
    });
    pull(&fake, &image());
    assert_eq!(fake.seen().len(), 4);
    assert_eq!(start_of(&fake.seen()[3]), Some(250_000));
}

#[test]
fn a_wrong_range_and_a_wrong_length_are_refused() {
    let lies: [fn(Answer) -> Answer; 2] = [
        |answer| answer.header("X-Lie", "range"),
        |_| Answer::new(200).body("short"),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let fake = Fake::start(move |request, before| match (before, number) {
            (0, 0) => hold(&image(), request).cut(1000),
            (_, 0) => lie(Answer::new(206)
                .header("Content-Range", "bytes 7-9/10")
                .body("abc")),
            _ => lie(hold(&image(), request)),
        });
        let from = reference(&format!("{}/app:1", fake.host()));
        let fetched = Registries::new(settings()).fetch_blob(
            &from,
            &image().layer_descriptor(),
            &mut Vec::new(),
        );
        let error = fetched.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(fake.seen().len(), 2 - number, "{error}");
    }
}

#[test]
fn tampered_bytes_name_both_digests() {
    let fake = Fake::start(|request, _| {
        let answer = hold(&image(), request);
        match request.target.contains("/blobs/") {
            true => {
                let mut layer = image().layer;
                layer[5] ^= 1;
                Answer::new(200).body(layer)
            }
            false => answer.header("Docker-Content-Digest", Digest::of(b"other").to_string()),
        }
    });
    let registries = Registries::new(settings());
    let from = reference(&format!("{}/app:1", fake.host()));
    let layer = image().layer_descriptor();
    let mut tampered = image().layer;
    tampered[5] ^= 1;
    let error = registries
        .fetch_blob(&from, &layer, &mut Vec::new())
        .unwrap_err()
        .to_string();
    for digest in [&layer.digest, &Digest::of(&tampered)] {
        assert!(error.contains(digest.as_str()), "{error}");
    }
    for from in [from.clone(), from.with_digest(Digest::of(b"pinned"))] {
        let error = registries.resolve(&from, &amd64()).unwrap_err();
        assert!(
            matches!(error.kind(), RegistryErrorKind::DigestMismatch { .. }),
            "{error}"
        );
    }
}

#[test]
fn picks_from_an_index_and_says_what_there_is() {
    let fake = Fake::start(|request, _| {
        let mut entry = serde_json::to_value(descriptor(OCI_MANIFEST, &image().manifest)).unwrap();
        entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        match request.target.ends_with("/manifests/1") {
            true => Answer::new(200)
                .header("Content-Type", OCI_INDEX)
                .body(index),
            false => hold(&image(), request),
        }
    });
    let registries = Registries::new(settings());
    let from = reference(&format!("{}/app:1", fake.host()));
    let resolved = registries.resolve(&from, &amd64()).unwrap();
    assert_eq!(resolved.digest, Digest::of(&image().manifest));
    assert_eq!(resolved.platform, Some(amd64()));
    assert!(resolved.index_digest.is_some());
    assert_eq!(resolved.reference.digest(), Some(&resolved.digest));
    let error = registries
        .resolve(&from, &"linux/s390x".parse().unwrap())
        .unwrap_err();
    assert!(error.to_string().contains("only linux/amd64"), "{error}");
}

#[test]
fn an_endless_manifest_is_not_read() {
    let fake = Fake::start(|_, _| Answer::new(200).body(vec![b' '; 5 << 20]));
    let from = reference(&format!("{}/app:1", fake.host()));
    let error = Registries::new(settings())
        .resolve(&from, &amd64())
        .unwrap_err();
    assert!(
        matches!(error.kind(), RegistryErrorKind::TooLarge { .. }),
        "{error}"
    );
}

/// Settings with credentials for `host`.
fn logged_in(host: &str) -> (Settings, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    // me:geheim
    let config = json!({"auths": {host: {"auth": "bWU6Z2VoZWlt"}}}).to_string();
    let path: PathBuf = write(dir.path(), "config.json", config.as_bytes());
    let mut settings = settings();
    settings.credential_files = vec![path];
    (settings, dir)
}

const BASIC: &str = "Basic bWU6Z2VoZWlt";

#[test]
fn credentials_stay_where_they_belong() {
    let elsewhere = Fake::start(|request, _| hold(&image(), request));
    let target = elsewhere.other_host();
    let fake = Fake::start(move |request, _| {
        if request.header("authorization") != Some(BASIC) {
            return Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\"");
        }
        match request.target.contains("/blobs/") {
            true => {
                Answer::new(307).header("Location", format!("http://{target}{}", request.target))
            }
            false => hold(&image(), request),
        }
    });
    let (settings, _dir) = logged_in(&fake.host());
    let from = reference(&format!("{}/app:1", fake.host()));
    image().check(&Registries::new(settings), &from);
    assert!(!elsewhere.seen().is_empty());
    assert!(
        elsewhere
            .seen()
            .iter()
            .all(|r| r.header("authorization").is_none())
    );
}

#[test]
fn a_host_that_challenges_after_a_redirect_gets_nothing() {
    let elsewhere =
        Fake::start(|_, _| Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\""));
    let target = elsewhere.other_host();
    let fake = Fake::start(move |request, _| {
        Answer::new(307).header("Location", format!("http://{target}{}", request.target))
    });
    let (settings, _dir) = logged_in(&fake.host());
    let from = reference(&format!("{}/app:1", fake.host()));
    let error = Registries::new(settings)
        .resolve(&from, &amd64())
        .unwrap_err();
    assert!(
        matches!(error.kind(), RegistryErrorKind::Unauthorized { .. }),
        "{error}"
    );
    assert!(
        elsewhere
            .seen()
            .iter()
            .all(|r| r.header("authorization").is_none())
    );
}

/// A registry with a token server of its own.
fn with_tokens() -> Fake {
    Fake::start(|request, _| {
        let host = request.header("host").unwrap().to_owned();
        if request.target.starts_with("/token") {
            return match request.header("authorization") {
                Some(BASIC) => Answer::new(200).body(r#"{"token":"t0ken","expires_in":300}"#),
                _ => Answer::new(401),
            };
        }
        if request.header("authorization") != Some("Bearer t0ken") {
            let challenge = format!("Bearer realm=\"http://{host}/token?x=1\",service=\"s v\"");
            return Answer::new(401).header("WWW-Authenticate", challenge);
        }
        match request.method.as_str() {
            "POST" if request.target.contains("mount=") => Answer::new(201),
            "POST" => Answer::new(202).header("Location", "/up/1?_state=a%2Bb"),
            "PATCH" => Answer::new(202).header("Location", "/up/2?_state=c"),
            "PUT" => Answer::new(201),
            _ => hold(&image(), request),
        }
    })
}

#[test]
fn bearer_tokens_are_got_once_and_scoped() {
    let fake = with_tokens();
    let (settings, dir) = logged_in(&fake.host());
    let registries = Registries::new(settings);
    image().check(&registries, &reference(&format!("{}/app:1", fake.host())));
    assert_eq!(fake.count("GET", "/token"), 1);
    let token = fake
        .seen()
        .into_iter()
        .find(|r| r.is("GET", "/token"))
        .unwrap();
    assert_eq!(
        token.target,
        "/token?x=1&service=s+v&scope=repository%3Aapp%3Apull&account=me"
    );

    let to = reference(&format!("{}/new:1", fake.host()));
    let from = reference(&format!("{}/base:1", fake.host()));
    let path = write(dir.path(), "blob", b"content");
    let blob = descriptor("", b"content");
    let open = || File::open(&path);
    let pushed = registries.push_blob(&to, &blob, &[from], &open).unwrap();
    assert_eq!(pushed, Pushed::Mounted);
    let last = fake
        .seen()
        .into_iter()
        .rfind(|r| r.is("GET", "/token"))
        .unwrap();
    assert!(
        last.target.contains("repository%3Anew%3Apull%2Cpush"),
        "{}",
        last.target
    );
    assert!(
        last.target.contains("repository%3Abase%3Apull"),
        "{}",
        last.target
    );

    assert_eq!(
        registries.push_blob(&to, &blob, &[], &open).unwrap(),
        Pushed::Sent
    );
    let patch = fake
        .seen()
        .into_iter()
        .find(|r| r.is("PATCH", "/up/1"))
        .unwrap();
    assert_eq!(patch.body, b"content");
    let put = fake
        .seen()
        .into_iter()
        .find(|r| r.is("PUT", "/up/2"))
        .unwrap();
    assert!(
        put.target.contains("_state=c&digest=sha256%3A"),
        "{}",
        put.target
    );
}

#[test]
fn no_error_holds_a_secret() {
    let fake = with_tokens();
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"auths": {fake.host(): {"auth": "bWU6ZmFsc2No"}}}).to_string();
    let mut settings = settings();
    settings.credential_files = vec![write(dir.path(), "c.json", config.as_bytes())];
    let from = reference(&format!("{}/app:1", fake.host()));
    let error = Registries::new(settings)
        .resolve(&from, &amd64())
        .unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(
        error.kind(),
        RegistryErrorKind::Unauthorized {
            had_credentials: true,
            ..
        }
    ));
    for secret in ["falsch", "bWU6", "t0ken"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn an_upload_is_sent_again_and_a_mount_may_be_declined() {
    let fake = Fake::start(|request, _| match request.method.as_str() {
        "HEAD" => Answer::new(404),
        "POST" => Answer::new(202).header("Location", "/up"),
        "PATCH" if request.target == "/up" => Answer::new(202).header("Location", "/up/more"),
        "PUT" => Answer::new(201),
        _ => Answer::new(400),
    });
    let flaky = std::sync::atomic::AtomicUsize::new(0);
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(1 << 20);
    let path = write(dir.path(), "blob", &bytes);
    let open = || {
        flaky.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        File::open(&path)
    };
    let to = reference(&format!("{}/new:1", fake.host()));
    let from = reference(&format!("{}/base:1", fake.host()));
    let registries = Registries::new(settings());
    let pushed = registries
        .push_blob(&to, &descriptor("", &bytes), &[from], &open)
        .unwrap();
    assert_eq!(pushed, Pushed::Sent);
    assert_eq!(fake.count("POST", "/v2/new/blobs/uploads/"), 1);
    let patch = fake
        .seen()
        .into_iter()
        .find(|r| r.method == "PATCH")
        .unwrap();
    assert!(patch.body == bytes);

    let short = descriptor("", &noise((1 << 20) + 1));
    let error = registries.push_blob(&to, &short, &[], &open).unwrap_err();
    assert!(
        matches!(error.kind(), RegistryErrorKind::Local { .. }),
        "{error}"
    );
    assert_eq!(flaky.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[test]
fn a_push_survives_trouble() {
    let fake = Fake::start(|request, before| match (before, request.method.as_str()) {
        (1, _) => Answer::new(503),
        (4, _) => Answer::new(502),
        (7, _) => Answer::new(429).header("Retry-After", "0"),
        (_, "HEAD") => Answer::new(404),
        (_, "POST" | "PATCH") => Answer::new(202).header("Location", "/up"),
        _ => Answer::new(201),
    });
    let to = reference(&format!("{}/new:1", fake.host()));
    assert_eq!(
        image().push(&Registries::new(settings()), &to).unwrap(),
        Pushed::Sent
    );
}

#[test]
fn an_unreachable_registry_is_named() {
    let from = reference("127.0.0.1:9/app:1");
    let error = Registries::new(settings())
        .resolve(&from, &amd64())
        .unwrap_err();
    assert!(
        matches!(error.kind(), RegistryErrorKind::Unreachable { .. }),
        "{error}"
    );
    let text = error.to_string();
    for part in ["pull 127.0.0.1:9/app:1", "--registry-mirror", "refused"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_mirror_that_fails_is_passed_over_with_a_note() {
    let mirror = Fake::start(|request, _| match request.target.contains("/blobs/") {
        true => {
            let answer = hold(&image(), request);
            let is_layer = request
                .target
                .ends_with(Digest::of(&image().layer).as_str());
            if is_layer { answer.cut(1000) } else { answer }
        }
        false => Answer::new(503),
    });
    let registry = Fake::start(|request, _| hold(&image(), request));
    let mut mirrored = settings();
    let mirrors = vec![format!("http://{}/hub", mirror.host()).parse().unwrap()];
    mirrored.mirrors.insert(registry.host(), mirrors);
    mirrored.attempts = 2;
    let from = reference(&format!("{}/app:1", registry.host()));
    image().check(&Registries::new(mirrored), &from);
    assert_eq!(mirror.count("GET", "/v2/hub/app/manifests/1"), 2);
    // The configuration comes in one piece; the layer comes in crumbs, which is given up on.
    assert_eq!(mirror.count("GET", "/v2/hub/app/blobs/"), 3);
    assert_eq!(registry.count("GET", "/v2/app/blobs/"), 1);
    let notes = NOTES.lock().unwrap().join("\n");
    assert!(
        notes.contains(&format!("the mirror {}", mirror.host())),
        "{notes}"
    );
}

const HELPER: &str = r#"#!/bin/sh
read -r input || :
case $1 in
store) printf '%s' "$input" >"$HELPER_DIR/kept" ;;
get) cat "$HELPER_DIR/kept" 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
erase) rm "$HELPER_DIR/kept" ;;
esac
"#;

/// A helper is found through PATH, so the test runs itself again with another one.
#[test]
fn a_credential_helper_stores_gives_and_erases() {
    use std::os::unix::fs::PermissionsExt;
    if let Some(dir) = std::env::var_os("HELPER_DIR") {
        return with_helper(dir.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    let script = write(dir.path(), "docker-credential-fake", HELPER.as_bytes());
    std::fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "misbehaving::a_credential_helper_stores_gives_and_erases",
        ])
        .env("HELPER_DIR", dir.path())
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stdout)
    );
}

fn with_helper(dir: &std::path::Path) {
    let fake = Fake::start(|request, _| match request.header("authorization") {
        Some(BASIC) => hold(&image(), request),
        _ => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    });
    let path = write(dir, "config.json", br#"{"credsStore":"fake"}"#);
    let mut settings = settings();
    settings.credential_files = vec![path.clone()];
    let registries = Registries::new(settings);
    let from = reference(&format!("{}/app:1", fake.host()));
    let refused = registries.resolve(&from, &amd64()).unwrap_err().to_string();
    assert!(refused.contains("lapstrake login"), "{refused}");

    let mut config = DockerConfig::load_from(&path).unwrap();
    let kept = config.store(&fake.host(), "me", "geheim").unwrap();
    assert_eq!(kept, Kept::WithHelper("docker-credential-fake".to_owned()));
    assert!(!std::fs::read_to_string(&path).unwrap().contains("Z2VoZWlt"));
    image().check(&registries, &from);
    assert!(config.erase(&fake.host()).unwrap());
    assert!(!dir.join("kept").exists());
}

#[test]
fn a_missing_helper_does_not_stop_what_anyone_may_pull() {
    let fake = Fake::start(|request, _| {
        let host = request.header("host").unwrap();
        let challenge = format!("Bearer realm=\"http://{host}/token\"");
        match request.header("authorization") {
            _ if request.target.starts_with("/token") => {
                Answer::new(200).body(r#"{"token":"any"}"#)
            }
            Some("Bearer any") if request.target.starts_with("/v2/app/") => hold(&image(), request),
            _ => Answer::new(401).header("WWW-Authenticate", challenge),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "config.json", br#"{"credsStore":"not-there"}"#);
    let mut settings = settings();
    settings.credential_files = vec![config];
    let registries = Registries::new(settings);
    image().check(&registries, &reference(&format!("{}/app:1", fake.host())));
    let private = reference(&format!("{}/private:1", fake.host()));
    let error = registries
        .resolve(&private, &amd64())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("config.json") && error.contains("not authorized"),
        "{error}"
    );
}
