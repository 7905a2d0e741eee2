//! `RUN --mount=type=cache`: directories that outlive builds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use crate::Case;
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[
    ("caches_outlive_builds", caches),
    ("caches_begin_as_they_are_told", seeds),
    ("caches_are_shared_as_they_are_told", sharing),
    (
        "steps_with_the_same_caches_never_wait_for_each_other",
        order,
    ),
    ("caches_are_collected", collected),
];

fn caches(c: &Context) -> Outcome {
    let add = |mount: &str, args: &[&str]| -> String {
        let text = format!(
            "FROM base\nRUN --mount=type=cache,{mount} echo x >>/c/log; echo \" * $(wc -l </c/log) $(stat -c '%a %u:%g' /c)\"\n"
        );
        let mut all = vec!["--no-cache"];
        all.extend(args);
        c.output(&text, &all).concat()
    };
    let app = "700 1000:1000";
    let namespace = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=team"];
    for (mount, args, expected) in [
        ("target=/c", &[][..], "1 755 0:0"),
        ("target=/c", &[], "2 755 0:0"),
        ("target=/x/../c,sharing=locked", &[], "3 755 0:0"),
        ("target=/c,id=/c,sharing=private", &[], "4 755 0:0"),
        (
            "target=/c,id=mine,mode=0700,uid=1000,gid=1000",
            &[],
            &format!("1 {app}"),
        ),
        // What is there keeps its owner.
        ("target=/c,id=mine", &[], &format!("2 {app}")),
        ("target=/c", &namespace, "1 755 0:0"),
        ("target=/c", &namespace, "2 755 0:0"),
    ] {
        assert_eq!(add(mount, args), expected, "{mount}");
    }
    // One cache in two places and two stages, read-only in one.
    let text = "FROM base AS a\nRUN --mount=type=cache,target=/c touch /c/from-a\n\
        FROM base\nCOPY --from=a /etc/group /g\n\
        RUN --mount=type=cache,target=/c,sharing=locked --mount=type=cache,target=/d,id=/c,sharing=locked,ro \
            touch /c/new && ls /d/new /d/from-a && ! touch /d/no 2>/dev/null && echo \" * $(ls /d)\"\n";
    // In a tree the read-only place has a copy, to which nothing is refused and of which nothing stays.
    let text = match c.in_trees() {
        true => text.replace(
            "touch /c/new && ls /d/new /d/from-a && ! touch /d/no 2>/dev/null",
            "touch /c/new && touch /d/no && ls /d/from-a && rm /d/from-a && ! ls /d/new 2>/dev/null && ls /c/from-a \
             && ! ls /c/no 2>/dev/null && mv /d/no /d/from-a",
        ),
        false => text.to_owned(),
    };
    assert_eq!(c.output(&text, &[]), ["from-a"]);
    // Nothing of what else is mounted in the one place is in the other.
    let text = "FROM base\nRUN --mount=type=cache,target=/c --mount=type=secret,id=s,target=/c/secret \
            --mount=type=cache,target=/x/y/z,id=/c,ro \
            grep -q hush /c/secret && ! grep hush /x/y/z/secret 2>/dev/null && echo \" * $(ls /x/y/z/from-a)\"\n";
    c.file("secret", "hush\n");
    let secret = ["--secret", "id=s,src=context/secret"];
    assert_eq!(c.output(text, &secret), ["/x/y/z/from-a"]);
    if c.in_trees() {
        let text = "FROM base\nRUN --mount=type=cache,target=/c --mount=type=cache,target=/c/d,id=/c,ro true\n";
        c.build(text, &[])
            .fails(3, &["/c/d", "read-only", "for writing", "Dockerfile:2"]);
    }
    Outcome::Passed
}

fn seeds(c: &Context) -> Outcome {
    c.file("seed/file", "of the context\n");
    let text = |from: &str| {
        format!(
            "FROM base AS made\nRUN mkdir -p /s/sub && echo made >/s/sub/f && chmod 2750 /s\n\
            FROM base\nRUN --mount=type=cache,target=/c,{from} \
                touch /c/more; for f in $(cd /c; find . -type f | sort); do echo \" * $f\"; done; \
                echo \" * $(stat -c %a /c)\"\n"
        )
    };
    let run = |from: &str| c.output(&text(from), &["--no-cache"]);
    assert_eq!(run("from=made,source=/s"), ["./more", "./sub/f", "2750"]);
    assert_eq!(run("from=made,source=/s/sub"), ["./f", "./more", "755"]);
    assert_eq!(
        run("from=base,source=/etc,mode=0711"),
        ["./group", "./more", "./passwd", "711"]
    );
    // Known by its beginning too: without one it is another cache.
    assert_eq!(run("sharing=shared"), ["./more", "755"]);
    Outcome::Passed
}

fn sharing(c: &Context) -> Outcome {
    c.import();
    // Each of two stages waits in the cache for a word of the other one. Where they share it, the word
    // stays: the other one may not have looked yet.
    let meet = |sharing: &str, patience: u32| {
        let leave = if sharing == "shared" { "true" } else { "rm" };
        let stage = |me: &str, other: &str| {
            format!(
                "FROM base AS {me}\nRUN --mount=type=cache,id=meet,target=/c,sharing={sharing} \
                touch /c/{me}; for i in $(seq {patience}); do [ -e /c/{other} ] && break; sleep 0.25; done; \
                ls /c | tr '\\n' ' ' >/seen; {leave} /c/{me}\n"
            )
        };
        let text = format!(
            "{}{}FROM base\nCOPY --from=a /seen /a\nCOPY --from=b /seen /b\nRUN echo \" * $(cat /a)/ $(cat /b)\"\n",
            stage("a", "b"),
            stage("b", "a")
        );
        c.run(&["prune", "--all", "--force"]).ok();
        c.import();
        c.output(&text, &["--no-cache"]).concat()
    };
    if c.in_trees() {
        // One after the other, and the second finds what the first has left.
        let met = meet("shared", 2);
        assert!(met == "a / a b" || met == "a b / b", "{met}");
    } else {
        assert_eq!(meet("shared", 200), "a b / a b");
    }
    assert_eq!(meet("locked", 2), "a / b");
    assert_eq!(meet("private", 2), "a / b");
    // Between processes, and a waiting build can be ended.
    let text = "FROM base\nRUN --mount=type=cache,target=/c,sharing=locked echo he're'; sleep 60\n";
    c.file("Dockerfile", text);
    let start = || {
        let mut command = c.command(&["build", "--no-cache", "context"]);
        // Both write here: at the end, whatever the other one has written.
        let mut log = fs::File::options();
        let log = log.create(true).append(true).open(c.path("log"));
        command.stderr(log.unwrap()).spawn().unwrap()
    };
    let wait_for = |word: &str| {
        for _ in 0..1000 {
            if fs::read_to_string(c.path("log")).unwrap().contains(word) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{word}: {}", fs::read_to_string(c.path("log")).unwrap());
    };
    let mut first = start();
    wait_for("here");
    let mut second = start();
    wait_for("waiting for the cache \"/c\"");
    for build in [&mut second, &mut first] {
        let pid = nix::unistd::Pid::from_raw(build.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(build.wait().unwrap().code(), Some(143));
    }
    assert!(c.leftovers().is_empty(), "{:?}", c.leftovers());
    Outcome::Passed
}

/// Two stages name two caches in opposite orders while somebody else has both: they wait for the same one, and
/// once it is free one after the other gets on.
fn order(c: &Context) -> Outcome {
    let make = "FROM base\nRUN --mount=type=cache,target=/1 --mount=type=cache,target=/2 touch /1/f /2/f\n";
    c.build(make, &[]).ok();
    let root = c.path("store/v1/cache-mounts");
    let map = fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
    let locks: Vec<fs::File> = fs::read_dir(map)
        .unwrap()
        .map(|entry| fs::File::open(entry.unwrap().path().join("0.lock")).unwrap())
        .collect();
    assert_eq!(locks.len(), 2);
    let mount = |target| format!("--mount=type=cache,sharing=locked,target={target}");
    let stage = |name: &str, first, second| {
        format!(
            "FROM base AS {name}\nRUN {} {} echo {name} >>/1/f && echo {name} >>/2/f && touch /{name}\n",
            mount(first),
            mount(second)
        )
    };
    let text = format!(
        "{}{}FROM base\nCOPY --from=a /a /\nCOPY --from=b /b /\nRUN {} {} echo \" * $(cat /1/f /2/f | sort | tr -d '\\n')\"\n",
        stage("a", "/1", "/2"),
        stage("b", "/2", "/1"),
        mount("/1"),
        mount("/2"),
    );
    c.file("Dockerfile", &text);
    locks.iter().for_each(|lock| lock.lock().unwrap());
    let log = fs::File::create(c.path("log")).unwrap();
    let mut command = c.command(&["build", "context"]);
    let mut build = command.stderr(log).spawn().unwrap();
    let said = || fs::read_to_string(c.path("log")).unwrap();
    let waiting = |cache: &str| {
        said()
            .matches(&format!("waiting for the cache \"{cache}\""))
            .count()
    };
    let both_wait = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        waiting("/1") + waiting("/2") == 2
    });
    assert!(both_wait, "{}", said());
    assert!(waiting("/1") == 2 || waiting("/2") == 2, "{}", said());
    drop(locks);
    assert!(build.wait().unwrap().success(), "{}", said());
    assert!(said().contains(" * aabb"), "{}", said());
    Outcome::Passed
}

fn collected(c: &Context) -> Outcome {
    let text = "FROM base\nRUN --mount=type=cache,target=/old --mount=type=cache,target=/new \
        mkdir -m 0 /old/closed; touch /old/f /new/f\n";
    c.build(text, &[]).ok();
    let root = c.path("store/v1/cache-mounts");
    let map = fs::read_dir(root).unwrap().next().unwrap().unwrap().path();
    let caches = || -> Vec<String> {
        let entries: Vec<_> = fs::read_dir(&map)
            .map(|all| all.flatten().collect())
            .unwrap_or_default();
        let names = entries
            .iter()
            .map(|entry| fs::read_to_string(entry.path().join("name")).unwrap());
        names.collect()
    };
    assert_eq!(caches().len(), 2);
    for entry in fs::read_dir(&map).unwrap() {
        let dir = entry.unwrap().path();
        if fs::read_to_string(dir.join("name")).unwrap() == "/old" {
            let lock = fs::File::options()
                .write(true)
                .open(dir.join("0.lock"))
                .unwrap();
            let long_ago = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
            lock.set_modified(long_ago).unwrap();
        }
        let mode = fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o77, 0, "nobody else looks into caches");
    }
    let told = c.run(&["prune", "--force"]).ok().out;
    assert!(told.contains("1 cache mounts"), "{told}");
    assert_eq!(caches(), ["/new"]);
    c.run(&["prune", "--force", "--all"]).ok();
    assert!(caches().is_empty());
    Outcome::Passed
}
