//! What works here: `doctor`, the mode that is asked for, and what is remembered of a probe.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Case;
use crate::support::{Context, Outcome, ran};

pub const CASES: &[Case] = &[
    ("doctor_says_what_works", doctor),
    ("doctor_for_programs", json),
    ("doctor_explains_one_mode", one_mode),
    ("doctor_names_the_cure", cure),
    ("a_mode_is_forced_by_flag_and_variable", forced),
    ("a_probe_is_remembered_and_not_trusted", memory),
    ("what_chroot_cannot_do_is_refused_with_its_line", chroot),
];

/// The mode that the strongest sandbox of who runs the case has.
fn strongest(c: &Context) -> &'static str {
    if c.one_id() {
        "userns-one"
    } else {
        "userns-many"
    }
}

fn doctor(c: &Context) -> Outcome {
    let told = c.run(&["doctor"]).ok().out;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], format!("sandbox: {}", strongest(c)), "{told}");
    assert!(lines[1].ends_with("/store"), "{told}");
    assert!(
        told.contains("path supervision, which this version does not have"),
        "{told}"
    );
    assert!(lines.len() < 20, "short: {told}");
    assert_eq!(told.contains("to get more:"), c.one_id(), "{told}");
    if c.one_id() {
        // The cases are run as a user id without a name, or as whoever started them.
        let own = format!(":{}:", nix::unistd::geteuid());
        let named = fs::read_to_string("/etc/passwd").is_ok_and(|text| text.contains(&own));
        let cure = match named {
            true => "usermod --add-subuids",
            false => "has no name here",
        };
        for word in ["/etc/subuid gives no ids", cure] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert_eq!(told.contains("usermod"), named, "{told}");
    }
    // It is what a build then takes, and says.
    let said = c.build("FROM base\nRUN true\n", &[]).ok().err;
    let note = format!("sandbox: {}: user namespace with ", strongest(c));
    assert!(said.contains(&note), "{said}");
    Outcome::Passed
}

fn json(c: &Context) -> Outcome {
    let told: Value = serde_json::from_str(&c.run(&["doctor", "--json"]).ok().out).unwrap();
    assert_eq!(told["version"], 1);
    assert_eq!(told["sandbox"], strongest(c));
    assert_eq!(told["store"]["path"], c.path("store").to_str().unwrap());
    assert_eq!(told["store"]["reason"], Value::Null);
    assert_eq!(told["refusal"], Value::Null);
    let names = |list: &Value| -> Vec<String> {
        let items = list.as_array().unwrap().iter();
        items
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&told["modes"]),
        ["userns-many", "userns-one", "chroot", "paths"]
    );
    for mode in told["modes"].as_array().unwrap() {
        let lacks = mode["lacks"].as_array().unwrap();
        assert_eq!(mode["works"].as_bool().unwrap(), lacks.is_empty(), "{mode}");
        for lack in lacks {
            for key in ["step", "message", "cause", "cure"] {
                assert!(!lack[key].as_str().unwrap().is_empty(), "{lack}");
            }
        }
    }
    let outside = names(&told["facilities"]["outside"]);
    for name in [
        "chroot",
        "set-ids",
        "seccomp-notification",
        "landlock",
        "whiteout",
        "locks",
    ] {
        assert!(
            outside.iter().any(|known| known == name),
            "{name}: {outside:?}"
        );
    }
    let one = names(&told["facilities"]["userns-one"]);
    for name in [
        "user-namespace",
        "one-id",
        "mount-namespace",
        "overlay",
        "pivot-root",
    ] {
        assert!(one.iter().any(|known| known == name), "{name}: {one:?}");
    }
    Outcome::Passed
}

fn one_mode(c: &Context) -> Outcome {
    let asked = c.run(&["doctor", "--sandbox", "userns-many"]);
    let asked = if c.one_id() {
        asked.fails(6, &[])
    } else {
        asked.ok()
    };
    assert!(!asked.out.contains("chroot"), "{}", asked.out);
    assert_eq!(
        asked.out.contains("/etc/subuid gives no ids"),
        c.one_id(),
        "{}",
        asked.out
    );
    c.run(&["doctor", "--sandbox", "strong"])
        .fails(2, &["strong", "userns-many, userns-one, chroot"]);
    Outcome::Passed
}

/// Under no_new_privs the helpers that map ids are without privilege.
fn cure(c: &Context) -> Outcome {
    let setpriv = Path::new("/usr/bin/setpriv");
    let is_root = nix::unistd::geteuid().is_root();
    if !setpriv.exists() || is_root || c.one_id() {
        return Outcome::Skipped("for a user with many ids, and setpriv of util-linux".into());
    }
    let mut command = c.tool(setpriv);
    command.arg("--no-new-privs").arg(c.program());
    command.arg("--root").arg(c.path("store")).arg("doctor");
    let told = ran(&mut command).ok().out;
    for word in [
        "sandbox: userns-one",
        "cannot run newuidmap",
        "no_new_privs",
        "allowPrivilegeEscalation: true",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    Outcome::Passed
}

fn forced(c: &Context) -> Outcome {
    let dockerfile = "FROM base\nRUN true\n";
    for mode in ["userns-many", "userns-one"] {
        let works = mode == "userns-one" || !c.one_id();
        let built = c.build(dockerfile, &["--sandbox", mode]);
        let mut command = c.command(&["build", "context"]);
        let by_variable = ran(command.env("LAPSTRAKE_SANDBOX", mode));
        for built in [built, by_variable] {
            if works {
                let note = format!("sandbox: {mode}: ");
                assert!(built.ok().err.contains(&note), "{mode}");
            } else {
                let refused = built.fails(6, &["userns-many cannot be had here", "/etc/subuid"]);
                assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
            }
        }
    }
    // The flag stands above the variable, and nothing is nothing.
    for (variable, args) in [
        ("strong", &["--sandbox", "auto"][..]),
        ("", &[]),
        ("auto", &[]),
    ] {
        let args = [&["build"], args, &["context"]].concat();
        ran(c.command(&args).env("LAPSTRAKE_SANDBOX", variable)).ok();
    }
    ran(c
        .command(&["build", "context"])
        .env("LAPSTRAKE_SANDBOX", "strong"))
    .fails(2, &["LAPSTRAKE_SANDBOX", "strong"]);
    Outcome::Passed
}

fn memory(c: &Context) -> Outcome {
    let path = c.path("store/sandbox.json");
    let build = |c: &Context| c.build("FROM base\nRUN true\n", &[]).ok().err;
    build(c);
    let made = fs::metadata(&path).unwrap().modified().unwrap();
    build(c);
    let again = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(again, made, "what is remembered is not probed for again");
    // Another environment, a file that somebody wrote into, one that others may write: none is used.
    let text = fs::read_to_string(&path).unwrap();
    for damaged in [
        text.replace("Seccomp", "Other"),
        text[..text.len() / 2].to_owned(),
        String::new(),
    ] {
        fs::write(&path, &damaged).unwrap();
        build(c);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // A mode that is remembered and then cannot be entered is probed for again.
    if c.one_id() {
        let wrong = text.replace("\"mode\":\"userns-one\"", "\"mode\":\"userns-many\"");
        assert_ne!(wrong, text);
        fs::write(&path, wrong).unwrap();
        assert!(build(c).contains("sandbox: userns-one"));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    Outcome::Passed
}

fn chroot(c: &Context) -> Outcome {
    if c.one_id() {
        return Outcome::Skipped("one id cannot change the root directory".into());
    }
    for (line, args, what) in [
        (
            "RUN --network=none true",
            &[][..],
            "RUN --network=none in the sandbox chroot",
        ),
        (
            "RUN --security=insecure true",
            &["--allow", "security.insecure"],
            "RUN --security=insecure in the sandbox chroot",
        ),
        (
            "RUN --mount=type=tmpfs,target=/t,size=1m true",
            &[],
            "RUN --mount=type=tmpfs with a size in the sandbox chroot",
        ),
        (
            "RUN true",
            &["--shm-size", "1m"],
            "--shm-size in the sandbox chroot",
        ),
        (
            "RUN true",
            &["--network", "none"],
            "--network none in the sandbox chroot",
        ),
    ] {
        let args = [args, &["--sandbox", "chroot"]].concat();
        let ran = c.build(&format!("FROM base\nCOPY Dockerfile /\n{line}\n"), &args);
        let ran = ran.fails(3, &[what, "Dockerfile:3", "lapstrake doctor"]);
        assert_eq!(ran.executed(), [""; 0], "nothing before: {}", ran.err);
    }
    Outcome::Passed
}
