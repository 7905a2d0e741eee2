//! Builds of the same and of different Dockerfiles side by side on one store, many of them killed
//! somewhere on the way, with pruning in between: what is built in the end is what a store that has
//! never seen any of this gives.
//!
//! `LAPSTRAKE_CHANGES_SECONDS` is how long it goes on (default 12).

use std::fs;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::random::Random;
use crate::setting;

const STORE: &str = "shared";
/// How many processes there are at a time.
const AT_ONCE: usize = 4;
/// In the command line of every step that takes a while.
const MARK: &str = "lapstrake-changes-mark";

/// Dockerfiles that have steps in common; each gives the same whenever it is built.
fn dockerfiles() -> Vec<String> {
    let mark = format!("{MARK}-{}", std::process::id());
    let slow = |to: &str| {
        format!("RUN : {mark}; for i in $(seq 30); do echo {to} $i >{to}$i; sleep 0.005; done\n")
    };
    let common = format!("FROM base AS common\n{}", slow("/w/T1_"));
    vec![
        format!("{common}{}", slow("/w/T2_")),
        format!("{common}{}COPY context /w/T4_/\n", slow("/w/T3_")),
        format!(
            "{common}FROM base\nCOPY --from=common /w /w/T5_/\n{}RUN rm /w/T5_/T1_7 && ln -s T1_8 /w/T5_/T6_\n",
            slow("/w/T6_")
        ),
        format!(
            "FROM base AS one\n{}FROM base AS two\n{}FROM base\nCOPY --from=one /w /w/T9_/\nCOPY --link --from=two /w /w/T10_/\n",
            slow("/w/T7_"),
            slow("/w/T8_")
        ),
        "FROM base\nRUN --mount=type=cache,target=/c echo x >/c/T11_ && cat /c/T11_ >/w/T11_\n\
            WORKDIR /w/T12_\nRUN head -c 400000 /bin/busybox >T13_\n"
            .to_owned(),
    ]
}

/// A process that runs.
struct Running {
    child: Child,
    /// When it is killed.
    end: Option<Instant>,
    /// What it has to build, and where it says what it has built; nothing for a prune.
    goal: Option<(usize, String)>,
    log: String,
}

#[test]
fn builds_that_are_killed_leave_no_wrong_layer() {
    let Some(bench) = Bench::new() else { return };
    let seed = setting("LAPSTRAKE_CHANGES_SEED", 1);
    let seconds = setting("LAPSTRAKE_CHANGES_SECONDS", 12);
    let mut random = Random::new(seed);
    let texts = dockerfiles();
    for (at, text) in texts.iter().enumerate() {
        let context = context(at);
        bench.context(&context, text);
        fs::create_dir(bench.path(&context).join("context")).unwrap();
        fs::write(bench.path(&context).join("context/file"), "x").unwrap();
    }
    bench.store("fresh");
    let wanted: Vec<Made> = (0..texts.len())
        .map(|at| Made::new(&bench, "fresh", at))
        .collect();
    bench.store(STORE);
    let mut running: Vec<Running> = Vec::new();
    let (mut killed, mut finished) = (0, 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    for number in 0.. {
        while running.len() >= AT_ONCE || (Instant::now() > end && !running.is_empty()) {
            running.retain_mut(|one| match one.poll() {
                None => true,
                Some(status) => {
                    match one.judge(&bench, &wanted, status) {
                        true => finished += 1,
                        false => killed += 1,
                    }
                    false
                }
            });
            std::thread::sleep(Duration::from_millis(3));
        }
        if Instant::now() > end {
            break;
        }
        running.push(start(&bench, &mut random, number, texts.len()));
    }
    println!("{killed} processes were killed, {finished} have finished");
    assert!(killed >= 5 && finished >= 5, "{killed} {finished}");
    no_step_goes_on();
    for (at, wanted) in wanted.iter().enumerate() {
        assert_eq!(Made::new(&bench, STORE, at), *wanted, "{}", texts[at]);
        let again = bench.build(STORE, &context(at), &[]);
        assert!(again.executed.is_empty(), "{}", again.err);
    }
    let left = bench.leftovers(STORE);
    assert!(left.is_empty(), "{left:?}");
}

fn context(at: usize) -> String {
    format!("dockerfile-{at}")
}

/// What a Dockerfile gives.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    digest: String,
    /// The files as they are on the disk: a manifest tells what they were when it was made.
    files: Vec<(String, u32, Vec<u8>)>,
}

impl Made {
    fn new(bench: &Bench, store: &str, at: usize) -> Self {
        let built = bench.build(store, &context(at), &[]);
        assert_eq!(built.code, Some(0), "{}", built.err);
        let files = bench.build(store, &context(at), &["-o", "type=tar,dest=files.tar"]);
        assert_eq!(files.code, Some(0), "{}", files.err);
        let mut archive = tar::Archive::new(fs::File::open(bench.path("files.tar")).unwrap());
        let files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::copy(&mut entry, &mut content).unwrap();
            let name = entry.path().unwrap().display().to_string();
            (name, entry.header().mode().unwrap(), content)
        });
        Self {
            digest: built.digest,
            files: files.collect(),
        }
    }
}

/// Begins a build, or now and then a prune, and decides whether and when it is killed.
fn start(bench: &Bench, random: &mut Random, number: usize, count: usize) -> Running {
    let meta = format!("meta-{number}.json");
    let log = format!("log-{number}");
    let is_prune = random.one_in(5);
    let at = random.below(count);
    let mut command = if is_prune {
        let flags: &[&str] = match random.below(3) {
            0 => &[],
            1 => &["--filter", "until=0s", "--max-used-space", "1"],
            _ => &["--max-used-space", "3m"],
        };
        bench.command(STORE, &[&["prune", "--force"], flags].concat())
    } else {
        let tag = format!("t{at}");
        let flags: &[&str] = match random.below(6) {
            0 => &["--no-cache"],
            1 => &["-t", &tag],
            2 => &["-o", "type=oci,dest=/dev/null"],
            3 => &["--store-limit", "3m"],
            _ => &[],
        };
        bench.build_command(STORE, &context(at), &meta, flags)
    };
    let err = fs::File::create(bench.path(&log)).unwrap();
    let child = command.stdout(Stdio::null()).stderr(err).spawn().unwrap();
    let millis = u64::try_from(random.below(700)).unwrap();
    let kill = random.below(10) < if is_prune { 3 } else { 6 };
    Running {
        child,
        end: kill.then(|| Instant::now() + Duration::from_millis(millis)),
        goal: (!is_prune).then_some((at, meta)),
        log,
    }
}

impl Running {
    /// How it has ended, if it has.
    fn poll(&mut self) -> Option<ExitStatus> {
        if self.end.is_some_and(|end| Instant::now() > end) {
            self.child.kill().unwrap();
            self.end = None;
        }
        self.child.try_wait().unwrap()
    }

    /// Whether it has finished, which it has to have done well.
    fn judge(&self, bench: &Bench, wanted: &[Made], status: ExitStatus) -> bool {
        use std::os::unix::process::ExitStatusExt;
        if status.signal().is_some() {
            return false;
        }
        let err = fs::read_to_string(bench.path(&self.log)).unwrap();
        assert!(status.success(), "{status}\n{err}");
        if let Some((at, meta)) = &self.goal {
            let digest = bench.digest(meta);
            let is_other_form = err.contains("writing /dev/null");
            assert!(digest == wanted[*at].digest || is_other_form, "{err}");
        }
        true
    }
}

/// Every run of the first step gives something else, and the others copy it. Whoever builds beside
/// whom: what a build puts together was made together.
#[test]
fn layers_of_different_runs_are_never_together() {
    let Some(bench) = Bench::new() else { return };
    let seconds = setting("LAPSTRAKE_CHANGES_SECONDS", 12) / 2;
    let mut random = Random::new(setting("LAPSTRAKE_CHANGES_SEED", 1));
    bench.context(
        "various",
        "FROM base AS one\nRUN cat /proc/sys/kernel/random/uuid >/w/T1_; sleep 0.02\n\
            RUN cp /w/T1_ /w/T2_; sleep 0.02\nCOPY Dockerfile /w/T3_\nRUN cp /w/T2_ /w/T4_\n\
            FROM one\nRUN cp /w/T4_ /w/T5_\n",
    );
    bench.store(STORE);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut finished = 0;
    while Instant::now() < end {
        let builds: Vec<_> = (0..3)
            .map(|number| {
                let output = format!("type=tar,dest=various-{number}.tar");
                let flags: &[&str] = match random.below(3) {
                    0 => &["--no-cache", "-o", &output],
                    _ => &["-o", &output],
                };
                let meta = format!("various-{number}.json");
                let mut build = bench.build_command(STORE, "various", &meta, flags);
                let child = build.stderr(Stdio::null()).spawn().unwrap();
                let kill = random.one_in(2).then(|| random.below(300));
                (child, kill.map(|millis| u64::try_from(millis).unwrap()))
            })
            .collect();
        for (number, (mut child, kill)) in builds.into_iter().enumerate() {
            if let Some(millis) = kill {
                std::thread::sleep(Duration::from_millis(millis));
                child.kill().unwrap();
            }
            if child.wait().unwrap().success() {
                made_together(&bench, &format!("various-{number}.tar"));
                finished += 1;
            }
        }
    }
    assert!(finished >= 3, "{finished}");
    // Whatever has happened, what is remembered now is enough for the next build but one.
    bench.build(STORE, "various", &[]);
    let again = bench.build(STORE, "various", &["-o", "type=tar,dest=various.tar"]);
    assert!(again.executed.is_empty(), "{}", again.err);
    made_together(&bench, "various.tar");
}

/// Every copy in the tar is a copy of the same.
fn made_together(bench: &Bench, tar: &str) {
    let mut archive = tar::Archive::new(fs::File::open(bench.path(tar)).unwrap());
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        if ["T1_", "T2_", "T4_", "T5_"]
            .iter()
            .any(|copy| name.ends_with(copy))
        {
            let mut content = String::new();
            std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
            seen.push(content);
        }
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
}

/// Steps of builds that were killed are gone, or go at once.
fn no_step_goes_on() {
    let mark = format!("{MARK}-{}", std::process::id());
    let is_there = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .any(|line| String::from_utf8_lossy(&line).contains(&mark))
    };
    for _ in 0..100 {
        if !is_there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("a step of a build that was killed is still there");
}
