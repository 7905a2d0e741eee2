//! Where results go, and what is done with images afterwards.

use std::fs;

use crate::Case;
use crate::registry::Registry;
use crate::support::{Context, Outcome, Ran, read_tar};

pub const CASES: &[Case] = &[
    ("every_kind_of_output", kinds),
    ("what_was_compressed_is_not_compressed_again", remembered),
    ("what_is_told_of_an_image_is_what_can_be_had_by_it", told),
    ("images_are_named_saved_and_loaded", images),
    ("one_damaged_image_hides_no_other", damaged),
    ("commands_run_in_images", commands),
];

const DOCKERFILE: &str = "FROM base\nRUN echo x >/x\n";

fn kinds(c: &Context) -> Outcome {
    let specs = [
        "type=oci,dest=oci.tar",
        "type=oci,tar=false,dest=layout",
        "type=docker,dest=docker.tar",
        "type=tar,dest=fs.tar",
        "type=local,dest=fs",
        "type=oci,dest=z.tar,compression=zstd",
        "type=oci,dest=u.tar,compression=uncompressed",
    ];
    for spec in specs {
        let ran = c.build(DOCKERFILE, &["-t", "img", "-o", spec]).ok();
        assert_eq!(ran.out, "", "{spec}");
    }
    assert!(read_tar(&c.path("oci.tar")).contains_key("oci-layout"));
    assert!(c.path("layout/index.json").exists());
    assert!(read_tar(&c.path("docker.tar")).contains_key("manifest.json"));
    assert_eq!(read_tar(&c.path("fs.tar"))["x"].text(), "x\n");
    assert_eq!(fs::read_to_string(c.path("fs/x")).unwrap(), "x\n");
    let list = |name: &str| c.run(&["load", "-i", name]);
    for name in ["oci.tar", "docker.tar", "z.tar", "u.tar"] {
        list(name).ok();
    }
    Outcome::Passed
}

/// The digests of the metadata file, the id file and `inspect`; pushed and kept the manifests differ, by which
/// others get the image is told.
fn told(c: &Context) -> Outcome {
    let registry = Registry::start();
    let name = registry.name("team/app:1");
    for flags in [
        &[][..],
        &["--push"],
        &["--push", "--load"],
        &["-o", "type=oci,dest=app.tar", "--push", "--load"],
    ] {
        let files = ["-t", &name, "--metadata-file", "m", "--iidfile", "id"];
        c.build(DOCKERFILE, &[&files, flags].concat()).ok();
        let text = fs::read(c.path("m")).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let id = fs::read_to_string(c.path("id")).unwrap();
        assert_eq!(told["containerimage.config.digest"], id, "{flags:?}");
        let digest = &told["containerimage.digest"];
        assert_eq!(&told["containerimage.descriptor"]["digest"], digest);
        if flags.contains(&"--push") {
            let key = ("team/app".to_owned(), digest.as_str().unwrap().to_owned());
            let held = registry.held();
            assert!(held.manifests.contains_key(&key), "{flags:?}: {digest}");
        }
        if flags.is_empty() || flags.contains(&"--load") {
            let kept = c.inspect(&name);
            assert_eq!(kept["Id"], id, "{flags:?}");
            // Alone in the store its layers are as they are on the disk.
            assert_eq!(&kept["Digest"] == digest, flags.is_empty(), "{flags:?}");
        }
    }
    Outcome::Passed
}

/// The layer is changed behind the store's back: what is sent is still what was made of it at first.
fn remembered(c: &Context) -> Outcome {
    for compression in ["gzip", "zstd"] {
        let dockerfile = format!("FROM base\nRUN echo {compression} >/x\n");
        let export = |name: &str| {
            let spec = format!("type=oci,dest={name},compression={compression}");
            c.build(&dockerfile, &["-o", &spec]).ok();
            read_tar(&c.path(name))
        };
        let first = export("first.tar");
        let mut changed = 0;
        for machine in fs::read_dir(c.path("store/v1/layers")).unwrap() {
            for layer in fs::read_dir(machine.unwrap().path()).unwrap() {
                let file = layer.unwrap().path().join("diff/x");
                if file.exists() {
                    fs::write(file, "changed").unwrap();
                    changed += 1;
                }
            }
        }
        assert!(changed > 0);
        assert!(first == export("again.tar"), "{compression}");
    }
    Outcome::Passed
}

fn images(c: &Context) -> Outcome {
    let id = c.build(DOCKERFILE, &["-t", "img:1", "-q"]).ok().out;
    c.run(&["tag", "img:1", "other:2"]).ok();
    let images = c.run(&["images"]).ok().out;
    assert!(
        images.contains("img") && images.contains("other"),
        "{images}"
    );
    c.run(&["save", "-o", "saved.tar", "other:2"]).ok();
    c.run(&["rmi", "img:1", "other:2"]).ok();
    c.run(&["inspect", "other:2"]).fails(2, &["no such image"]);
    c.run(&["load", "-i", "saved.tar"]).ok();
    assert_eq!(c.inspect("other:2")["Id"], id.trim());
    c.run(&["prune"]).fails(2, &["--force"]);
    c.run(&["prune", "--force"]).ok();
    assert_eq!(c.run(&["run", "other:2", "cat", "/x"]).ok().out, "x\n");
    Outcome::Passed
}

fn damaged(c: &Context) -> Outcome {
    c.build(DOCKERFILE, &["-t", "good"]).ok();
    c.build("FROM base\nCMD bad\n", &["-t", "bad"]).ok();
    let digest = c.inspect("bad")["Digest"].as_str().unwrap().to_owned();
    let hex = digest.strip_prefix("sha256:").unwrap();
    fs::remove_file(c.path("store/v1/oci/blobs/sha256").join(hex)).unwrap();
    let listed = c.run(&["images"]).fails(1, &["bad", "lapstrake rmi", hex]);
    assert!(listed.out.contains("good") && !listed.out.contains("bad"));
    c.run(&["rmi", "bad"]).ok();
    c.run(&["images"]).ok();
    Outcome::Passed
}

fn commands(c: &Context) -> Outcome {
    c.build("FROM base\nENV A=image\nWORKDIR /tmp\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo $A; pwd\"]\n", &["-t", "img"]).ok();
    fs::write(c.path("shared"), "shared").unwrap();
    let run = |args: &[&str]| -> Ran { c.run(&[&["run"], args].concat()) };
    assert_eq!(run(&["img"]).ok().out, "image\n/tmp\n");
    assert_eq!(
        run(&["-e", "A=e", "-w", "/etc", "img"]).ok().out,
        "e\n/etc\n"
    );
    assert_eq!(
        run(&["--entrypoint", "echo", "img", "a", "b"]).ok().out,
        "a b\n"
    );
    run(&["img", "exit 7"]).fails(7, &[]);
    run(&["img", "kill -9 $$"]).fails(137, &[]);
    let missing = ["--entrypoint", "/no/such", "img"];
    run(&missing).fails(127, &["/no/such", "no such program"]);
    run(&["--entrypoint", "/etc", "img"]).fails(126, &["/etc"]);
    run(&["no.such.invalid/image"]).fails(125, &["no.such.invalid"]);
    let made = run(&["-w", "/new/deep", "img", "pwd; ls -ld . | cut -c1-10"]);
    assert_eq!(made.ok().out, "/new/deep\ndrwxr-xr-x\n");
    run(&["-w", "/bin/sh", "img", "pwd"]).fails(125, &["/bin/sh"]);
    let volume = format!("{}:/in:ro", c.path("shared").display());
    let writes = run(&["-v", &volume, "img", "cat /in; echo x >/in || echo refused"]).ok();
    assert_eq!(fs::read(c.path("shared")).unwrap(), b"shared");
    let alone = ["--network", "none", "img", "ls /sys/class/net"];
    if c.in_trees() {
        assert_eq!(writes.out, "shared");
        run(&alone).fails(125, &["namespaces"]);
        let volume = volume.replace(":ro", "");
        run(&["-v", &volume, "img", "true"]).fails(125, &["would be lost", ":ro"]);
    } else {
        assert_eq!(writes.out, "sharedrefused\n");
        assert_eq!(run(&alone).ok().out, "lo\n");
    }
    assert!(
        run(&["-u", "app", "img", "id"])
            .ok()
            .out
            .starts_with("uid=1000(app)")
    );
    run(&["img", "echo x >/tmp/kept"]).ok();
    run(&["img", "cat /tmp/kept"]).fails(1, &[]);
    Outcome::Passed
}
