//! Images between a store and Debian's `docker-registry`, with `skopeo` as the second opinion.

use std::fs;
use std::io::Cursor;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use lapstrake::image::{Digest, Platform, Reference};
use lapstrake::layer::SingleId;
use lapstrake::registry::{Registries, Settings};
use lapstrake::store::{Store, StoredImage};
use lapstrake::transfer::{
    Bringer, Bringing, Event, ImportOptions, PullLayers, PullOptions, PullPolicy, import_tar,
    layers_of, parts, pull, push,
};
use tempfile::TempDir;

struct Server {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("the registry is our child");
        self.process.wait().expect("the registry is our child");
    }
}

/// Starts a registry on loopback; `None` with a printed reason when there is none.
fn serve() -> Option<Server> {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: 127.0.0.1:{port}}}\n",
        dir.path().join("data").display()
    );
    let file = dir.path().join("config.yml");
    fs::write(&file, config).unwrap();
    let spawned = Command::new("docker-registry")
        .arg("serve")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let process = match spawned {
        Ok(process) => process,
        Err(error) => {
            eprintln!("skipped: docker-registry cannot be run: {error}");
            return None;
        }
    };
    let server = Server {
        process,
        port,
        _dir: dir,
    };
    for _ in 0..400 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("docker-registry does not answer");
}

fn registries(port: u16) -> Registries {
    let mut settings = Settings {
        credential_files: Vec::new(),
        ..Settings::default()
    };
    settings.plain_http.insert(format!("127.0.0.1:{port}"));
    Registries::new(settings)
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
    (dir, store)
}

/// An image of one gzip layer that holds `hello`.
fn image(store: &Store, name: &Reference) -> StoredImage {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_ustar();
    header.set_size(6);
    header.set_mode(0o644);
    tar.append_data(&mut header, "hello", &b"hello\n"[..])
        .unwrap();
    let bytes = tar.into_inner().unwrap().finish().unwrap();
    let options = ImportOptions {
        platform: Platform::host(),
        created: "1970-01-01T00:00:00Z".into(),
        message: "test".into(),
    };
    let target = import_tar(store, Cursor::new(bytes), "test", &options).unwrap();
    store.tag(name, &target).unwrap();
    store.image(name).unwrap().unwrap()
}

fn one_id() -> SingleId {
    SingleId {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

#[test]
fn a_real_registry_takes_and_gives_back() {
    let Some(server) = serve() else { return };
    let registries = registries(server.port);
    let name = |path: &str| -> Reference {
        let text = format!("127.0.0.1:{}/{path}", server.port);
        text.parse().unwrap()
    };
    let (_one, sender) = store();
    let sent = image(&sender, &name("first:1"));
    let events = Mutex::new(Vec::new());
    let tell = |event| events.lock().unwrap().push(event);
    let bringing = Bringing::default();
    let sending = Bringer::alone(&sender, &registries, &bringing, &tell);
    push(
        &sending,
        &parts(&sender, &sent).unwrap(),
        &name("first:1"),
        &[],
    )
    .unwrap();
    assert!(events.lock().unwrap().contains(&Event::Done {
        blob: sent.manifest.layers[0].digest.clone()
    }));

    // Another repository of the same registry: everything is there, nothing is sent.
    events.lock().unwrap().clear();
    push(
        &sending,
        &parts(&sender, &sent).unwrap(),
        &name("second:1"),
        &[],
    )
    .unwrap();
    let layer = sent.manifest.layers[0].digest.clone();
    assert!(
        events
            .lock()
            .unwrap()
            .contains(&Event::Exists { blob: layer })
    );

    let (_two, receiver) = store();
    let options = PullOptions {
        platform: Platform::host(),
        exact: true,
        policy: PullPolicy::IfMissing,
        layers: PullLayers::All,
    };
    for name in [
        name("second:1"),
        name("first").with_digest(sent.manifest_digest.clone()),
    ] {
        let found = pull(&receiver, &registries, &name, &options, &|_| {}).unwrap();
        let receiving = Bringer {
            store: &receiver,
            remote: &registries,
            bringing: &bringing,
            compute: &|work| work(),
            stopped: &|| false,
            progress: &|_| {},
        };
        let layers = layers_of(&found).unwrap();
        let layers = receiving.stack(&layers, &one_id()).unwrap();
        assert_eq!(found.id, sent.id, "{name}");
        assert_eq!(found.manifest_digest, sent.manifest_digest, "{name}");
        let hello = layers.layers()[0].diff().join("hello");
        assert_eq!(fs::read_to_string(hello).unwrap(), "hello\n");
    }
    let missing = pull(
        &receiver,
        &registries,
        &name("nothing:1"),
        &options,
        &|_| {},
    );
    let error = missing.err().unwrap().to_string();
    assert!(error.contains("nothing:1"), "{error}");

    let source = format!("docker://{}", name("second:1"));
    let skopeo = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &source])
        .output();
    match skopeo {
        Err(error) => eprintln!("skipped: skopeo cannot be run: {error}"),
        Ok(output) => assert_eq!(Digest::of(&output.stdout), sent.manifest_digest),
    }
}
