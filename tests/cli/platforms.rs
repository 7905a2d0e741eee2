//! Builds for other platforms: what copies needs nobody who executes their programs, and what runs is tried
//! first.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::Case;
use crate::registry::{Registry, digest};
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[
    ("another_platform_needs_nobody_to_execute_it", copied),
    ("a_base_is_chosen_by_its_platform", chosen),
    ("a_base_for_another_platform_makes_the_image_one", adopted),
    ("a_step_nobody_executes_is_refused_first", refused),
    ("a_step_is_executed_by_whoever_can", executed),
    ("a_program_of_another_platform_does_its_work", works),
    ("a_step_of_another_platform_has_its_own_key", keyed),
];

/// One whose programs nobody here executes and for which the builder has none to try.
const NOBODYS: &str = "linux/sparc64";

/// A root file system that is told to be for a platform.
fn import_for(c: &Context, platform: &str, name: &str) {
    let root = c.path("foreign");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/platform"), platform).unwrap();
    c.run(&["import", "--platform", platform, "foreign", name])
        .ok();
}

/// The platform of an image.
fn platform(c: &Context, image: &str) -> String {
    let told = c.inspect(image);
    let variant = told["Variant"].as_str().map(|v| format!("/{v}"));
    format!(
        "{}/{}{}",
        told["Os"].as_str().unwrap(),
        told["Architecture"].as_str().unwrap(),
        variant.unwrap_or_default()
    )
}

fn own() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "linux/arm64",
        _ => "linux/amd64",
    }
}

fn copied(c: &Context) -> Outcome {
    c.import();
    c.file("file", "content");
    for foreign in ["linux/s390x", "linux/arm/v6", NOBODYS] {
        import_for(c, foreign, "theirs");
        let text = "FROM --platform=$BUILDPLATFORM base AS build\nARG BUILDPLATFORM TARGETPLATFORM TARGETARCH TARGETVARIANT\n\
            RUN echo \"* $BUILDPLATFORM $TARGETPLATFORM $TARGETARCH $TARGETVARIANT\"; echo made >/made\n\
            FROM theirs AS middle\nENV A=$TARGETARCH\nWORKDIR /w\nADD file added\n\
            FROM middle\nCOPY --from=build --chmod=755 /made /bin/\nCOPY file /\nUSER 5\nENTRYPOINT [\"/bin/made\"]\n";
        let told = c.build(text, &["--platform", foreign, "-t", "out"]);
        let mut parts = foreign.splitn(3, '/').skip(1);
        let (arch, variant) = (parts.next().unwrap(), parts.next().unwrap_or_default());
        let said = format!("{} {foreign} {arch} {variant}", own());
        assert_eq!(told.ok().said(), [said.trim_end()], "{foreign}");
        assert_eq!(platform(c, "out"), foreign);
        // A layout that leaves says the same.
        c.run(&["save", "--format", "oci-archive", "-o", "out.tar", "out"])
            .ok();
        let files = crate::support::read_tar(&c.path("out.tar"));
        let configs = files.values().filter_map(|file| {
            let value: Value = serde_json::from_slice(&file.content).ok()?;
            let arch = value.get("architecture")?.as_str()?.to_owned();
            let variant = value.get("variant").and_then(Value::as_str);
            Some((arch, variant.unwrap_or_default().to_owned()))
        });
        let configs: Vec<_> = configs.collect();
        assert_eq!(configs, [(arch.to_owned(), variant.to_owned())]);
    }
    Outcome::Passed
}

/// An index of the images of a repository's tags in the registry, under the tag `all`.
fn make_index(registry: &Registry, repository: &str, tags: &[(&str, &str)]) {
    let mut held = registry.held();
    let entries: Vec<Value> = tags
        .iter()
        .map(|(tag, platform)| {
            let (kind, bytes) = &held.manifests[&(repository.to_owned(), (*tag).to_owned())];
            let (os, arch) = platform.split_once('/').unwrap();
            json!({
                "mediaType": kind, "digest": digest(bytes), "size": bytes.len(),
                "platform": {"os": os, "architecture": arch},
            })
        })
        .collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
    let key = (repository.to_owned(), "all".to_owned());
    held.manifests
        .insert(key, (kind.to_owned(), index.into_bytes()));
}

fn chosen(c: &Context) -> Outcome {
    let registry = Registry::start();
    c.import();
    import_for(c, "linux/s390x", "theirs");
    for (image, tag) in [("base", "own"), ("theirs", "theirs")] {
        let name = registry.name(&format!("team/base:{tag}"));
        c.run(&["tag", image, &name]).ok();
        c.run(&["push", "-q", &name]).ok();
    }
    make_index(
        &registry,
        "team/base",
        &[("own", own()), ("theirs", "linux/s390x")],
    );
    let all = registry.name("team/base:all");
    // One name stands for two images in one build.
    let text = format!(
        "FROM --platform=$BUILDPLATFORM {all} AS build\nRUN echo made >/made\n\
         FROM {all}\nCOPY --from=build /made /\nCOPY --from={all} /etc/platform /copied\n"
    );
    let mut since = 0;
    for round in 0..3 {
        let foreign = ["--platform", "linux/s390x"];
        let file = ["-o", "type=tar,dest=out.tar"];
        c.build(&text, &[&foreign[..], &["-t", "out"]].concat())
            .ok();
        c.build(&text, &[&foreign[..], &file[..]].concat()).ok();
        let tree = crate::support::read_tar(&c.path("out.tar"));
        assert_eq!(tree["etc/platform"].text(), "linux/s390x");
        assert_eq!(tree["copied"].text(), "linux/s390x");
        assert_eq!(tree["made"].text(), "made\n");
        assert!(!tree.contains_key("bin/busybox"));
        assert_eq!(platform(c, "out"), "linux/s390x");
        // From then on both are known, whichever the name stands for.
        let asked = registry.asked(&mut since);
        assert_eq!(asked.is_empty(), round > 0, "{asked:?}");
    }
    c.run(&["rmi", &all]).ok();
    c.build(&text, &["--platform", "linux/s390x"]).ok();
    assert!(!registry.asked(&mut since).is_empty());
    let only = format!("FROM {all}\n");
    c.build(&only, &["--platform", "linux/riscv64"])
        .fails(5, &["linux/riscv64", "linux/s390x"]);
    Outcome::Passed
}

fn adopted(c: &Context) -> Outcome {
    let registry = Registry::start();
    c.import();
    import_for(c, NOBODYS, "theirs");
    let name = registry.name("team/theirs:1");
    c.run(&["tag", "theirs", &name]).ok();
    c.run(&["push", "-q", &name]).ok();
    c.run(&["rmi", &name]).ok();
    c.build(&format!("FROM {name}\nENV A=b\n"), &["-t", "out"])
        .ok();
    assert_eq!(platform(c, "out"), NOBODYS);
    c.run(&["rmi", &name]).ok();
    let text = format!("FROM {name}\nENV A=b\nRUN true\n");
    c.build(&text, &[])
        .fails(3, &["RUN for linux/sparc64", "Dockerfile:3"]);
    // Of what is only here it is said what it is for.
    let lonely = registry.name("team/lonely:1");
    c.run(&["tag", "theirs", &lonely]).ok();
    c.build(&format!("FROM {lonely}\n"), &[])
        .fails(5, &["linux/sparc64 only", own()]);
    // Asked for by name, it has to be what was asked for.
    c.run(&["rmi", &name]).ok();
    c.build(&format!("FROM {name}\n"), &["--platform", own()])
        .fails(3, &["linux/sparc64", own()]);
    Outcome::Passed
}

fn refused(c: &Context) -> Outcome {
    c.import();
    import_for(c, NOBODYS, "theirs");
    let text = "FROM base AS first\nRUN touch /ran\n\
        FROM --platform=linux/sparc64 theirs AS second\nCOPY --from=first /ran /\nRUN echo 1\nRUN echo 2\n\
        FROM base AS third\nRUN echo third\n";
    for args in [
        &["--target", "second"][..],
        &["--target", "second", "--no-cache"],
    ] {
        let told = c.build(text, args).fails(
            3,
            &["RUN for linux/sparc64 is not supported", "Dockerfile:5"],
        );
        assert!(told.err.contains("$BUILDPLATFORM"), "{}", told.err);
        assert!(!told.err.contains("] RUN touch"), "{}", told.err);
    }
    let ran = c.run(&["run", "theirs", "/bin/true"]);
    ran.fails(127, &["theirs is for linux/sparc64", "/bin/true"]);
    // Nobody needs that stage.
    c.build(text, &[]).ok();
    // What a base brings is told at the place that brings it.
    let trigger = "FROM theirs\nONBUILD RUN echo 3\n";
    let foreign = ["--platform", NOBODYS];
    c.build(trigger, &[&foreign[..], &["-t", "onbuild"]].concat())
        .ok();
    c.build("FROM scratch AS a\nFROM onbuild\n", &foreign)
        .fails(3, &["RUN for linux/sparc64", "Dockerfile:2"]);
    // Without QEMU, and with a name of an architecture that can be tried.
    c.file(
        "Dockerfile",
        "FROM scratch\nCOPY Dockerfile /\nRUN [\"/x\"]\n",
    );
    let mut command = c.command(&["build", "--platform", "linux/mips64", "context"]);
    let told = crate::support::ran(command.env("PATH", c.path("home")));
    if Command::new(write_trial(c, "mips64")).status().is_ok() {
        return Outcome::Skipped("this machine has a handler for mips64".into());
    }
    told.fails(3, &["Dockerfile:3", "does not execute its programs"]);
    Outcome::Passed
}

/// A file with a program for the architecture.
fn write_trial(c: &Context, arch: &str) -> std::path::PathBuf {
    let path = c.file(
        &format!("trial-{arch}"),
        runtime::foreign::trial(arch, "").unwrap(),
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Whether a step has to be able to execute the architecture's programs; else why it need not.
fn expected(c: &Context, arch: &str, qemu: &str) -> Result<(), String> {
    if Command::new(write_trial(c, arch)).status().is_ok() {
        return Ok(());
    }
    let qemu = format!("qemu-{qemu}-static");
    if !std::path::Path::new("/usr/bin").join(&qemu).exists() {
        return Err(format!("no {qemu}; install qemu-user-static"));
    }
    if c.in_trees() {
        return Err("nobody has registered QEMU, and there is no namespace to do so in".into());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    match version >= (6, 7) {
        true => Ok(()),
        false => Err("Linux 6.7 lets user namespaces have handlers".into()),
    }
}

fn executed(c: &Context) -> Outcome {
    let mut skipped = Vec::new();
    for (arch, qemu) in [
        ("386", "i386"),
        ("arm64", "aarch64"),
        ("arm", "arm"),
        ("riscv64", "riscv64"),
        ("ppc64le", "ppc64le"),
        ("s390x", "s390x"),
    ] {
        let expected = expected(c, arch, qemu);
        let variant = if arch == "arm" { "/v7" } else { "" };
        let platform = format!("linux/{arch}{variant}");
        let text = format!("FROM scratch\nCOPY trial-{arch} /t\nRUN [\"/t\"]\n");
        let told = c.build(&text, &["--platform", &platform]);
        let doctor = c.run(&["doctor", "--platform", &platform]);
        match expected {
            Ok(()) => {
                let works = format!("\nRUN for {platform} works\n");
                assert!(doctor.ok().out.ends_with(&works), "{platform}");
                told.ok()
            }
            Err(why) => {
                skipped.push(format!("{arch}: {why}"));
                assert_eq!(doctor.code, 6, "{}", doctor.out);
                assert!(doctor.out.contains(&format!("RUN for {platform} is not")));
                told.fails(3, &["Dockerfile:3", &format!("RUN for {platform}")])
            }
        };
        if skipped.last().is_some_and(|text| text.starts_with(arch)) {
            continue;
        }
        assert_eq!(c.leftovers(), Vec::<std::path::PathBuf>::new());
        // It is the program that is executed: it counts its arguments.
        let text = text.replace("\"/t\"", "\"/t\",\"a\",\"b\"");
        c.build(&text, &["--platform", &platform])
            .fails(4, &["exit status 2"]);
    }
    match skipped.as_slice() {
        [] => Outcome::Passed,
        why => Outcome::Skipped(why.join("; ")),
    }
}

/// A busybox for arm64, where somebody has put one.
const ARM64_BUSYBOX: &str = "/usr/lib/lapstrake-test/busybox-arm64";

fn works(c: &Context) -> Outcome {
    let busybox = std::env::var("LAPSTRAKE_TEST_ARM64_BUSYBOX");
    let busybox = busybox.unwrap_or_else(|_| ARM64_BUSYBOX.to_owned());
    if !std::path::Path::new(&busybox).exists() {
        return Outcome::Skipped(format!("no busybox for arm64 in {busybox}"));
    }
    if let Err(why) = expected(c, "arm64", "aarch64") {
        return Outcome::Skipped(why);
    }
    let root = c.path("arm");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for name in ["sh", "uname", "id", "chown", "stat", "cat", "echo"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    c.run(&["import", "--platform", "linux/arm64", "arm", "arm"])
        .ok();
    c.import();
    let text = "FROM --platform=$BUILDPLATFORM base AS build\nRUN echo own >/own\n\
        FROM arm\nCOPY --from=build /own /\nSHELL [\"/bin/sh\",\"-c\"]\n\
        RUN echo \"* $(uname -m) $(cat /own)\"; echo made >/made; chown 7:8 /made\n\
        RUN echo \"* $(stat -c %u:%g /made)\"; exec -a echo busybox '* called by name'\n";
    let told = c.build(text, &["--platform", "linux/arm64", "-t", "out"]);
    assert_eq!(told.ok().said(), ["aarch64 own", "7:8", "called by name"]);
    assert_eq!(platform(c, "out"), "linux/arm64");
    let ran = c.run(&["run", "out", "uname", "-m"]).ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("aarch64\n", ""));
    let again = c.build(text, &["--platform", "linux/arm64"]).ok();
    assert_eq!(again.executed(), Vec::<String>::new(), "{}", again.err);
    Outcome::Passed
}

fn keyed(c: &Context) -> Outcome {
    if let Err(why) = expected(c, "386", "i386") {
        return Outcome::Skipped(why);
    }
    // The same on the same files: a program for the narrower machine is one for both.
    let text = "FROM scratch\nCOPY trial-386 /t\nRUN [\"/t\"]\n";
    let build = |platform: &str| {
        let told = c.build(text, &["--platform", platform]).ok();
        told.executed()
    };
    let run = "RUN [\"/t\"]".to_owned();
    assert_eq!(build("linux/386").last(), Some(&run));
    assert_eq!(build(own()), [run]);
    assert_eq!(build("linux/386"), Vec::<String>::new());
    assert_eq!(build(own()), Vec::<String>::new());
    Outcome::Passed
}
