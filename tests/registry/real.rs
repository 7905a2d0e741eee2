//! Against Debian's `docker-registry`, with `skopeo` as the second opinion.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lapstrake::registry::{Credential, DockerConfig, Pushed, Registries, RegistryErrorKind};
use tempfile::TempDir;

use crate::support::{Image, descriptor, noise, reference, settings, write};

struct Server {
    process: Child,
    port: u16,
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Server {
    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn have(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// Starts a registry; `http` and `rest` are what its configuration says besides the address.
fn serve(http: &str, rest: &str) -> Option<Server> {
    if !have("docker-registry") {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    serve_in(dir, http, rest)
}

fn serve_in(dir: TempDir, http: &str, rest: &str) -> Option<Server> {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let root = dir.path().join("data");
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, \
         delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}{rest}",
        root.display()
    );
    let file = write(dir.path(), "config.yml", config.as_bytes());
    let log = File::create(dir.path().join("log")).unwrap();
    let process = Command::new("docker-registry")
        .arg("serve")
        .arg(file)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let server = Server { process, port, dir };
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    let log = fs::read_to_string(server.dir.path().join("log")).unwrap();
    panic!("docker-registry does not answer: {log}");
}

#[test]
fn push_pull_mount_and_mirror() {
    let Some(server) = serve("", "") else { return };
    let host = server.host();
    let registries = Registries::new(settings());
    let image = Image::new(noise(3 << 20));
    let first = reference(&format!("{host}/library/app:1"));
    assert_eq!(image.push(&registries, &first).unwrap(), Pushed::Sent);
    assert_eq!(image.push(&registries, &first).unwrap(), Pushed::Existed);
    image.check(&registries, &first);

    let second = reference(&format!("{host}/other:2"));
    let open = || panic!("a mounted blob is not read");
    let layer = image.layer_descriptor();
    assert!(!registries.blob_exists(&second, &layer.digest).unwrap());
    let sources = [second.clone(), reference("docker.io/x"), first.clone()];
    let pushed = registries
        .push_blob(&second, &layer, &sources, &open)
        .unwrap();
    assert_eq!(pushed, Pushed::Mounted);
    assert!(registries.blob_exists(&second, &layer.digest).unwrap());

    let mut with_mirror = settings();
    let dead = "http://127.0.0.1:9".parse().unwrap();
    let mirrors = vec![dead, format!("http://{host}").parse().unwrap()];
    with_mirror.mirrors.insert("docker.io".to_owned(), mirrors);
    image.check(&Registries::new(with_mirror), &reference("app:1"));

    let missing = reference(&format!("{host}/nothing:1"));
    let error = registries
        .resolve(&missing, &crate::support::amd64())
        .unwrap_err();
    assert!(
        matches!(error.kind(), RegistryErrorKind::NotFound { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains(&host) && text.contains("nothing:1"), "{text}");
}

#[test]
fn an_empty_blob_and_a_short_file() {
    let Some(server) = serve("", "") else { return };
    let registries = Registries::new(settings());
    let to = reference(&format!("{}/a", server.host()));
    let path = write(server.dir.path(), "empty", b"");
    let open = || File::open(&path);
    assert_eq!(
        registries
            .push_blob(&to, &descriptor("", b""), &[], &open)
            .unwrap(),
        Pushed::Sent
    );
    let mut sink = Vec::new();
    registries
        .fetch_blob(&to, &descriptor("", b""), &mut sink)
        .unwrap();
    assert!(sink.is_empty());
    assert!(
        registries
            .push_blob(&to, &descriptor("", b"full"), &[], &open)
            .is_err()
    );
    assert!(
        !registries
            .blob_exists(&to, &descriptor("", b"full").digest)
            .unwrap()
    );
}

#[test]
fn skopeo_reads_what_is_pushed_and_writes_what_is_pulled() {
    let Some(server) = serve("", "") else { return };
    if !have("skopeo") {
        return;
    }
    let registries = Registries::new(settings());
    let host = server.host();
    let image = Image::new(noise(100_000));
    image
        .push(&registries, &reference(&format!("{host}/ours:1")))
        .unwrap();
    let copied = Command::new("skopeo")
        .args([
            "copy",
            "--insecure-policy",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ])
        .arg(format!("docker://{host}/ours:1"))
        .arg(format!("docker://{host}/theirs:1"))
        .output()
        .unwrap();
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    image.check(&registries, &reference(&format!("{host}/theirs:1")));
}

#[test]
fn basic_authentication_and_login() {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("htpasswd")
        .args(["-Bbn", "me", "geheim"])
        .output();
    let Ok(made) = made else {
        eprintln!("SKIPPED: htpasswd (apache2-utils) is not installed");
        return;
    };
    let file = write(dir.path(), "htpasswd", &made.stdout);
    let auth = format!(
        "auth: {{htpasswd: {{realm: r, path: {}}}}}\n",
        file.display()
    );
    let Some(server) = serve("", &auth) else {
        return;
    };
    let (host, image) = (server.host(), Image::new(noise(10_000)));
    let to = reference(&format!("{host}/app:1"));
    let error = image.push(&Registries::new(settings()), &to).unwrap_err();
    assert!(error.to_string().contains("lapstrake login"), "{error}");

    let credential = |password: &str| Credential::Basic {
        user: "me".to_owned(),
        password: password.to_owned(),
    };
    let registries = Registries::new(settings());
    let error = registries
        .check_login(&host, &credential("falsch"))
        .unwrap_err();
    assert!(
        matches!(error.kind(), RegistryErrorKind::Unauthorized { .. }),
        "{error}"
    );
    assert!(!error.to_string().contains("falsch"), "{error}");
    registries
        .check_login(&host, &credential("geheim"))
        .unwrap();

    let path = dir.path().join("config.json");
    let mut config = DockerConfig::load_from(&path).unwrap();
    config.store(&host, "me", "geheim").unwrap();
    let mut known = settings();
    known.credential_files = vec![path];
    let registries = Registries::new(known);
    assert_eq!(image.push(&registries, &to).unwrap(), Pushed::Sent);
    image.check(&registries, &to);
}

fn openssl(dir: &Path, args: &[&str]) {
    let done = Command::new("openssl")
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A CA and a certificate for 127.0.0.1 that it has signed.
fn certificates(dir: &Path) {
    openssl(
        dir,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=test CA",
        ],
    );
    openssl(
        dir,
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
            "-subj",
            "/CN=registry",
        ],
    );
    write(
        dir,
        "extensions",
        b"subjectAltName=IP:127.0.0.1,DNS:localhost\n",
    );
    openssl(
        dir,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            "server.pem",
        ],
    );
}

#[test]
fn tls_with_a_private_ca() {
    if !have("openssl") || !have("docker-registry") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let at = dir.path().display().to_string();
    let tls = format!("  tls: {{certificate: {at}/server.pem, key: {at}/server.key}}\n");
    let Some(server) = serve("", &tls) else {
        return;
    };
    let (host, image) = (server.host(), Image::new(noise(10_000)));
    let to = reference(&format!("{host}/app:1"));

    // Not even on loopback does an unknown certificate lead to plain http.
    let error = image.push(&Registries::new(settings()), &to).unwrap_err();
    assert!(
        matches!(error.kind(), RegistryErrorKind::TlsFailure { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("ca"), "{error}");

    let mut trusting = settings();
    trusting
        .ca_files
        .insert(host.clone(), vec![dir.path().join("ca.pem")]);
    let registries = Registries::new(trusting);
    assert_eq!(image.push(&registries, &to).unwrap(), Pushed::Sent);
    image.check(&registries, &to);
}
