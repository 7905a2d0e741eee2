//! Homes: directories, mounts, limits, streams and signals that are not as usual.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Case;
use crate::launch::mount_there;
use crate::place::{End, Place};
use crate::support::{Outcome, ran};
use End::{Fails, Same};

pub const CASES: &[Case] = &[
    ("no_home", no_home),
    ("a_home_that_is_read_only", read_only_home),
    ("a_read_only_root_with_one_directory", read_only_root),
    ("odd_names", odd_names),
    ("a_store_without_programs_and_devices", inert_store),
    ("a_store_without_attributes", no_attributes),
    ("a_read_only_store", read_only_store),
    ("no_locks_are_told_of", no_locks),
    ("few_descriptors", few_descriptors),
    ("few_processes", few_processes),
    ("small_files", small_files),
    ("closed_streams", closed_streams),
    ("masks", masks),
    ("a_disk_that_is_full", full_disk),
    ("without_proc", without_proc),
    ("without_devices", without_devices),
    ("a_directory_for_temporary_files_that_is_not_there", no_tmp),
    ("an_output_on_a_disk_that_is_full", full_output),
    ("little_memory", little_memory),
    ("locales", locales),
    ("nobody_reads_stdout", broken_pipe),
    ("signals_of_the_parent", signals),
    ("a_descriptor_of_the_parent", descriptor),
];

/// The usual build without `--root`.
fn without_root(place: &Place, made: &[&str]) -> Command {
    let meta = place.path("meta.json");
    let context = place.path("context");
    place.command(
        made,
        &[
            "build".as_ref(),
            "--metadata-file".as_ref(),
            meta.as_os_str(),
            context.as_os_str(),
        ],
    )
}

fn no_home(place: &Place) -> Outcome {
    let tmp = place.made("tmp");
    for home in [None, Some("/nonexistent"), Some(""), Some("relative")] {
        let mut command = without_root(place, &[]);
        command.env("TMPDIR", &tmp);
        match home {
            Some(home) => command.env("HOME", home),
            None => command.env_remove("HOME"),
        };
        place.ends(&ran(&mut command), Same);
        assert_eq!(fs::read_dir(&tmp).unwrap().count(), 1, "{home:?}");
    }
    Outcome::Passed
}

fn read_only_home(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    let tmp = place.made("tmp");
    let home = format!("mount=remount:{}:ro", place.path("home").display());
    let mut command = without_root(place, &[&home]);
    place.ends(&ran(command.env("TMPDIR", &tmp)), Same);
    Outcome::Passed
}

fn read_only_root(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    let scratch = place.made("scratch");
    let mounts = [
        format!("mount=tmpfs:{}:mode=1777", scratch.display()),
        "mount=here:/:ro".to_owned(),
    ];
    let meta = scratch.join("meta.json");
    let context = place.path("context");
    for (variable, value) in [("LAPSTRAKE_ROOT", "store"), ("TMPDIR", "")] {
        // What is on the mount goes with the launcher, so the digest is read from stdout.
        let mut command = place.command(
            &[&mounts[0], &mounts[1]],
            &[
                "build".as_ref(),
                "--metadata-file".as_ref(),
                meta.as_os_str(),
                context.as_os_str(),
            ],
        );
        command.env(variable, scratch.join(value)).env("HOME", "/");
        let built = ran(&mut command).ok();
        assert!(built.err.contains("sandbox:"), "{}", built.err);
    }
    Outcome::Passed
}

fn odd_names(place: &Place) -> Outcome {
    let names: [&[u8]; 3] = [
        b"a b'c\"d:e,f\\g\nh%i#j=k",
        "-zü漢 \u{200b}".as_bytes(),
        b"bytes \xff\xfe.",
    ];
    for name in names {
        let odd = place.made(OsString::from_vec(name.to_vec()));
        for dir in ["tmp", "context"] {
            fs::create_dir(odd.join(dir)).unwrap();
            place.give(&odd.join(dir));
        }
        copy_tree(&place.path("context"), &odd.join("context"));
        let dockerfile = odd.join(OsString::from_vec([b"file ", name].concat()));
        fs::rename(odd.join("context/Dockerfile"), &dockerfile).unwrap();
        let (store, meta, context) = (odd.join("store"), odd.join("meta"), odd.join("context"));
        let args: [&OsStr; 8] = [
            "--root".as_ref(),
            store.as_os_str(),
            "build".as_ref(),
            "--metadata-file".as_ref(),
            meta.as_os_str(),
            "-f".as_ref(),
            dockerfile.as_os_str(),
            context.as_os_str(),
        ];
        let built = ran(place.command(&[], &args).env("TMPDIR", odd.join("tmp")));
        assert_eq!(built.code, 0, "{}", built.err);
        fs::copy(&meta, place.path("meta.json")).unwrap();
        assert_eq!(place.digest(), place.usual_digest(), "{}", built.err);
    }
    Outcome::Passed
}

fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}

fn inert_store(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    let store = place.made("store");
    mount_there(&format!(
        "tmpfs:{}:noexec,nosuid,nodev,mode=1777",
        store.display()
    ));
    place.ends(&place.build(&[]), Same);
    if place.is_root() {
        let mut command = place.build_command(&[], store.as_os_str());
        let without_mounts = ran(command.env("LAPSTRAKE_SANDBOX", "chroot"));
        place.ends(&without_mounts, Fails(6, &["noexec", "LAPSTRAKE_ROOT"]));
    }
    Outcome::Passed
}

/// As tmpfs before Linux 6.6.
fn no_attributes(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    let store = place.made("store");
    mount_there(&format!("ramfs:{}:mode=1777", store.display()));
    let end = Fails(6, &["user.*", "LAPSTRAKE_ROOT"]);
    let built = place.build_namespaced(&[]);
    place.ends(&built, end);
    assert!(
        !built.err.contains("#1"),
        "before anything is built: {}",
        built.err
    );
    // Without mounts nothing of that is needed.
    if !place.one_id() {
        place.ends(&place.build(&[]), Same);
    }
    Outcome::Passed
}

fn read_only_store(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    place.ends(&place.build(&[]), Same);
    mount_there(&format!("remount:{}:ro", place.path("store").display()));
    place.ends(&place.build(&[]), Fails(6, &["ead-only", "LAPSTRAKE_ROOT"]));
    Outcome::Passed
}

fn no_locks(place: &Place) -> Outcome {
    let refused = ["refuse=flock:ENOLCK"];
    let built = place.build(&refused);
    place.ends(&built, Same);
    assert!(built.err.contains("cannot be locked"), "{}", built.err);
    let store = place.path("store");
    let args: [&OsStr; 3] = ["--root".as_ref(), store.as_os_str(), "images".as_ref()];
    let listed = ran(&mut place.command(&refused, &args)).ok();
    assert!(listed.err.contains("cannot be locked"), "{}", listed.err);
    let listed = ran(&mut place.command(&[], &args)).ok();
    assert!(!listed.err.contains("cannot be locked"), "{}", listed.err);
    Outcome::Passed
}

fn few_descriptors(place: &Place) -> Outcome {
    let few = Fails(6, &["Too many open files", "ulimit -n"]);
    for (limit, end) in [(16, few), (64, Same), (128, Same)] {
        place.ends(&place.build(&[&format!("limit=nofile:{limit}")]), end);
    }
    // Every layer below a step takes one.
    let mut deep = place.base();
    for number in 0..60 {
        deep.push_str(&format!("COPY <<END /{number}\n{number}\nEND\n"));
    }
    deep.push_str("RUN test $(ls / | wc -l) -gt 60\n");
    place.context.file("Dockerfile", deep);
    place.ends(&place.build(&["limit=nofile:64"]), few);
    place.build(&["limit=nofile:128"]).ok();
    Outcome::Passed
}

/// The kernel counts what the user runs anywhere, so what is enough is not known here.
fn few_processes(place: &Place) -> Outcome {
    if place.is_root() {
        return Outcome::Skipped("there is no limit for root".to_owned());
    }
    let few = Fails(6, &["ulimit -u"]);
    for limit in [2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15] {
        let built = place.build(&[&format!("limit=nproc:{limit}")]);
        // The launcher may already be one too many, or only what the step starts.
        let is_ours = !built.err.contains("launch.rs") && !built.err.contains("can't fork");
        if built.code != 0 && is_ours {
            place.ends(&built, few);
        }
    }
    Outcome::Passed
}

fn small_files(place: &Place) -> Outcome {
    place.ends(
        &place.build(&["limit=fsize:100000"]),
        Fails(6, &["File too large", "ulimit -f"]),
    );
    place.ends(&place.build(&[]), Same);
    Outcome::Passed
}

fn closed_streams(place: &Place) -> Outcome {
    for closed in [
        &["close=0"][..],
        &["close=1"],
        &["close=2"],
        &["close=0", "close=1", "close=2"],
    ] {
        let built = place.build(closed);
        assert_eq!(built.code, 0, "{closed:?}: {}", built.err);
        assert_eq!(place.digest(), place.usual_digest(), "{closed:?}");
        fs::remove_dir_all(place.path("store")).unwrap();
    }
    Outcome::Passed
}

fn masks(place: &Place) -> Outcome {
    for mask in ["077", "000", "0777"] {
        let built = place.build(&[&format!("umask={mask}")]);
        assert_eq!(built.code, 0, "{mask}: {}", built.err);
        assert_eq!(place.digest(), place.usual_digest(), "{mask}");
        fs::remove_dir_all(place.path("store")).unwrap();
        fs::remove_file(place.path("meta.json")).unwrap();
    }
    Outcome::Passed
}

fn full_disk(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    let store = place.made("store");
    mount_there(&format!("tmpfs:{}:mode=1777,size=64k", store.display()));
    // From no room for anything to room for all of it: each phase is cut off somewhere.
    let mut failed = 0;
    for size in (64..12_000).step_by(700) {
        resize(&store, size);
        let built = place.build(&[]);
        if built.code == 0 {
            break;
        }
        // A program of the step may be the first to run out of it.
        let code = if built.err.contains("cp: write error") {
            4
        } else {
            6
        };
        place.ends(&built, Fails(code, &["space"]));
        failed += 1;
    }
    assert!(failed > 3, "{failed}");
    resize(&store, 64_000);
    place.ends(&place.build(&[]), Same);
    let tmp: Vec<_> = fs::read_dir(store.join("v1/tmp")).unwrap().collect();
    assert!(tmp.is_empty(), "{tmp:?}");
    Outcome::Passed
}

fn resize(dir: &Path, kilobytes: u32) {
    let size = format!("size={kilobytes}k");
    let flags = nix::mount::MsFlags::MS_REMOUNT;
    nix::mount::mount(None::<&str>, dir, None::<&str>, flags, Some(size.as_str())).unwrap();
}

fn without_proc(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    let built = place.build(&["mount=tmpfs:/proc:ro"]);
    place.ends(&built, Fails(6, &["/proc mounted"]));
    place.ends(&place.build(&["mount=tmpfs:/sys:ro"]), Same);
    Outcome::Passed
}

fn without_devices(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    place.ends(&place.build(&["mount=tmpfs:/dev/shm:ro"]), Same);
    place.ends(&place.build(&["mount=tmpfs:/dev:ro"]), Fails(6, &["/dev"]));
    Outcome::Passed
}

fn no_tmp(place: &Place) -> Outcome {
    let mut command = place.build_command(&[], place.path("store").as_os_str());
    place.ends(&ran(command.env("TMPDIR", "/nonexistent")), Same);
    Outcome::Passed
}

fn full_output(place: &Place) -> Outcome {
    if let Some(skipped) = place.needs_root() {
        return skipped;
    }
    place.ends(&place.build(&[]), Same);
    let small = place.made("small");
    mount_there(&format!("tmpfs:{}:mode=1777,size=100k", small.display()));
    let (store, context) = (place.path("store"), place.path("context"));
    for (kind, left) in [("oci", 0), ("docker", 0), ("tar", 0), ("local", 1)] {
        let mut output = OsString::from(format!("--output=type={kind},dest="));
        output.push(small.join("out"));
        let args: [&OsStr; 5] = [
            "--root".as_ref(),
            store.as_os_str(),
            "build".as_ref(),
            &output,
            context.as_os_str(),
        ];
        let built = ran(&mut place.command(&[], &args));
        place.ends(&built, Fails(6, &["No space left"]));
        // A directory is written in place; an archive is there whole or not at all.
        let found: Vec<_> = fs::read_dir(&small).unwrap().collect();
        assert!(found.len() <= left, "{kind}: {found:?}");
    }
    place.ends(&place.build(&[]), Same);
    Outcome::Passed
}

/// Without memory a program ends; what it was at is done by the next.
fn little_memory(place: &Place) -> Outcome {
    let small = place.build(&[&format!("limit=as:{}", 40 << 20)]);
    assert_ne!(small.code, 0, "{}", small.err);
    place.ends(&place.build(&[&format!("limit=as:{}", 400 << 20)]), Same);
    Outcome::Passed
}

fn locales(place: &Place) -> Outcome {
    for locale in ["C", "tr_TR.UTF-8", "no such thing"] {
        let mut command = place.build_command(&[], place.path("store").as_os_str());
        command.env("LANG", locale).env("LC_ALL", locale);
        place.ends(&ran(&mut command), Same);
    }
    Outcome::Passed
}

fn broken_pipe(place: &Place) -> Outcome {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let store = place.path("store");
    let context = place.path("context");
    let args: [&OsStr; 5] = [
        "--root".as_ref(),
        store.as_os_str(),
        "build".as_ref(),
        "-q".as_ref(),
        context.as_os_str(),
    ];
    let mut command = place.command(&[], &args);
    command.stdout(writer).stderr(Stdio::piped());
    let out = command.spawn().unwrap().wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(6), "{told}");
    assert!(told.contains("cannot write to stdout"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    Outcome::Passed
}

fn signals(place: &Place) -> Outcome {
    place.ends(&place.build(&["ignore=CHLD"]), Same);
    let built = place.build(&["block=all"]);
    place.ends(&built, Same);
    // Ignored or blocked, it is the usual sandbox.
    assert_eq!(
        built.err.contains("with one id"),
        place.one_id(),
        "{}",
        built.err
    );
    let base = place.base();
    place.context.file(
        "Dockerfile",
        format!("{base}RUN echo 'it * sleeps'; sleep 100\n"),
    );
    let mut command = place.build_command(&["block=all"], place.path("store").as_os_str());
    let child = command
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    let waiting = std::thread::spawn(move || child.wait_with_output().unwrap());
    std::thread::sleep(std::time::Duration::from_secs(3));
    kill(pid, Signal::SIGTERM).unwrap();
    let out = waiting.join().unwrap();
    assert_eq!(
        out.status.code(),
        Some(143),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Outcome::Passed
}

fn descriptor(place: &Place) -> Outcome {
    let text = format!("{}RUN ls /proc/1/fd /proc/self/fd\n", place.base());
    place.context.file("Dockerfile", text);
    fs::write(place.path("secret"), "").unwrap();
    let secret = format!("open={}", place.path("secret").display());
    for made in [&[&*secret][..], &[&*secret, "refuse=close_range:ENOSYS"]] {
        let built = place.build(made).ok();
        let listed = built.err.lines().filter(|line| line.starts_with("#2 "));
        let last = listed.filter_map(|line| line.split(' ').next_back());
        let numbers: Vec<&str> = last.collect();
        assert!(
            numbers.contains(&"2") && !numbers.contains(&"200"),
            "{}",
            built.err
        );
        fs::remove_dir_all(place.path("store")).unwrap();
    }
    Outcome::Passed
}
