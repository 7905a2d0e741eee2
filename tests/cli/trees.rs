//! Root file systems that are kept between builds where nothing can be mounted.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::Case;
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[
    ("a_tree_serves_the_next_build_and_run", reused),
    ("a_tree_is_turned_to_what_is_asked_for", turned),
    ("what_a_run_writes_is_gone", run),
    ("a_tree_that_was_touched_is_not_used", touched),
    ("a_tree_of_a_killed_build_is_not_used", killed),
    ("a_tree_of_a_failed_step_is_not_used", failed),
    ("builds_at_once_have_trees_of_their_own", at_once),
    ("trees_are_measured_and_pruned", measured),
    ("a_tree_is_read_as_it_is", read),
];

/// Tells the number of a file that the base has.
const NUMBER: &str = "stat -c ' * %i' /etc/passwd";

/// Whether no trees are kept: they are not in memory either.
fn elsewhere(c: &Context) -> bool {
    const MEMORY: i64 = 0x0102_1994;
    !c.in_trees()
        || nix::sys::statfs::statfs(&c.base)
            .unwrap()
            .filesystem_type()
            .0
            == MEMORY
}

fn skipped() -> Outcome {
    Outcome::Skipped("only where nothing can be mounted, and on a disk".to_owned())
}

/// The trees in the store.
fn trees(c: &Context) -> Vec<PathBuf> {
    let maps = fs::read_dir(c.path("store/v1/trees")).unwrap();
    let trees = maps.flat_map(|map| fs::read_dir(map.unwrap().path()).unwrap());
    trees.map(|tree| tree.unwrap().path()).collect()
}

#[track_caller]
fn number(c: &Context, image: &str) -> String {
    let told = c.run(&["run", image, "stat", "-c", "%i", "/etc/passwd"]);
    told.ok().out.trim().to_owned()
}

fn reused(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    let text = format!("FROM base\nRUN {NUMBER}\n");
    let first = c.output(&text, &["-t", "app"]);
    // Another process, and the layer of another execution in the place of the first one's.
    assert_eq!(c.output(&text, &["-t", "app", "--no-cache"]), first);
    assert_eq!(trees(c).len(), 1);
    for image in ["app", "base", "app"] {
        assert_eq!(vec![number(c, image)], trimmed(&first), "{image}");
    }
    assert_eq!(trees(c).len(), 1);
    Outcome::Passed
}

fn trimmed(said: &[String]) -> Vec<String> {
    said.iter().map(|line| line.trim().to_owned()).collect()
}

/// What one stage changes is not seen by the next one, which has the same tree.
fn turned(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    let look = "find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/etc/hosts' \
        ! -path '/etc/resolv.conf' -exec stat -c ' * %n %f %u %g %s %Y' {} + | sort; \
        cat /etc/passwd | wc -l";
    let text = format!("FROM base\nRUN {look}\n");
    let untouched = c.output(&text, &[]);
    assert!(untouched.len() > 20, "{untouched:?}");
    for change in [
        "touch /etc/passwd /etc /bin/busybox",
        "rm -r /etc; echo file >/etc",
        "rm /bin/cat; mkdir -p /bin/cat/in/side; echo x >/etc/passwd",
        "mv /etc /here; mkdir /etc; echo new >/etc/new",
        "ln /etc/passwd /etc/two; echo more >>/etc/two; chmod 600 /etc/group; chown 5:6 /root",
        "chmod 700 /root; ln -s /etc /link; mkfifo /fifo; find /tmp -exec touch {} +",
    ] {
        let other = format!("FROM base\nRUN true\nRUN {change}\n");
        c.build(&other, &["--no-cache"]).ok();
        assert_eq!(c.output(&text, &["--no-cache"]), untouched, "{change}");
    }
    // It was one and the same all the time.
    assert_eq!(trees(c).len(), 1);
    Outcome::Passed
}

fn run(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    c.import();
    let untouched = || {
        let told = c.run(&["run", "base", "stat", "-c", "%i", "/bin/busybox"]);
        told.ok().out
    };
    let first = untouched();
    let harm = "rm /etc/group; echo evil >/etc/passwd; mkdir /new; mv /root /tmp/; rm /bin/tr";
    c.run(&["run", "base", "sh", "-c", harm]).ok();
    c.run(&["run", "base", "sh", "-c", "touch /other; exit 3"])
        .fails(3, &[]);
    let script = "cat /etc/passwd /etc/group; ls -d /root /bin/tr /new /other /tmp/* 2>&1";
    let seen = c.run(&["run", "base", "sh", "-c", script]);
    let lines: Vec<&str> = seen.out.lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("root:x:0:0:")),
        "{lines:?}"
    );
    for path in ["/root", "/bin/tr"] {
        assert!(lines.contains(&path), "{lines:?}");
    }
    assert_eq!(
        lines.iter().filter(|line| line.contains("No such")).count(),
        3,
        "{lines:?}"
    );
    assert_eq!(trees(c).len(), 1);
    // Only what was changed has been made anew.
    assert_eq!(untouched(), first);
    Outcome::Passed
}

fn touched(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    let text = "FROM base\nRUN echo \" * $(cat /etc/passwd | wc -l) $(ls /etc | tr '\\n' ' ')\"\n";
    let first = c.output(text, &[]);
    let tree = trees(c).remove(0);
    let file = tree.join("root/etc/passwd");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let size = fs::metadata(&file).unwrap().size();
    // The same size and time, and not the same number of lines.
    fs::write(&file, vec![b'\n'; usize::try_from(size).unwrap()]).unwrap();
    let open = File::options().write(true).open(&file).unwrap();
    open.set_modified(time).unwrap();
    assert_eq!(c.output(text, &["--no-cache"]), first);
    let tree = trees(c).remove(0);
    fs::write(tree.join("root/etc/evil"), "").unwrap();
    assert_eq!(c.output(text, &["--no-cache"]), first);
    let tree = trees(c).remove(0);
    fs::write(tree.join("record"), "nonsense").unwrap();
    assert_eq!(c.output(text, &["--no-cache"]), first);
    assert_eq!(trees(c).len(), 1);
    Outcome::Passed
}

/// A build whose step waits for a line on no input, once it has said that it does.
struct Running(Child);

impl Running {
    fn start(c: &Context, dockerfile: &str) -> Self {
        c.file("Dockerfile", dockerfile);
        let mut command = c.command(&["build", "--no-cache", "context"]);
        let mut build = Self(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(build.0.stderr.take().unwrap()).lines();
        let said = lines.find(|line| line.as_ref().unwrap().ends_with(" waiting"));
        assert!(said.is_some(), "the step never began");
        std::thread::spawn(move || lines.for_each(drop));
        build
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

fn killed(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    c.build(&format!("FROM base\nRUN {NUMBER}\n"), &[]).ok();
    let text = "FROM base\nRUN --mount=type=cache,target=/etc/cache echo kept >/etc/cache/f; \
        echo half >/half; rm /etc/group; echo waiting; sleep 60\n";
    let build = Running::start(c, text);
    assert!(trees(c).iter().all(|tree| !tree.join("record").exists()));
    drop(build);
    let text = "FROM base\nRUN --mount=type=cache,target=/etc/cache \
        echo \" * $(ls /half /etc/group 2>/dev/null) $(cat /etc/cache/f)\"\n";
    assert_eq!(c.output(text, &["--no-cache"]), ["/etc/group kept"]);
    let left = trees(c);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].join("record").exists() && !left[0].join("root/half").exists());
    Outcome::Passed
}

fn failed(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    c.build("FROM base\nRUN echo x >/etc/passwd; exit 3\n", &[])
        .fails(4, &["exit status 3"]);
    assert_eq!(trees(c), Vec::<PathBuf>::new());
    let text = "FROM base\nRUN echo \" * $(cat /etc/passwd | wc -l)\"\n";
    assert_eq!(c.output(text, &[]), ["2"]);
    Outcome::Passed
}

fn at_once(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    let number = format!("FROM base\nRUN {NUMBER}\n");
    let first = c.output(&number, &[]);
    let first_tree = trees(c);
    let text = "FROM base\nRUN echo mine >/mine; echo waiting; sleep 60\n";
    let build = Running::start(c, text);
    // The other one has the tree, and does not wait for it.
    let text =
        "FROM base\nRUN ls /mine 2>/dev/null; echo yours >/yours\nRUN echo \" * $(cat /yours)\"\n";
    assert_eq!(c.output(text, &["--no-cache"]), ["yours"]);
    assert_eq!(trees(c).len(), 2);
    c.run(&["prune", "--force"]).ok();
    assert_eq!(trees(c), first_tree, "in use");
    drop(build);
    c.import();
    assert_eq!(c.output(&number, &["--no-cache"]).len(), first.len());
    assert_eq!(trees(c).len(), 1);
    Outcome::Passed
}

fn row(c: &Context) -> Value {
    let out = c.run(&["du", "--json"]).ok().out;
    let rows = out.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut rows = rows.filter(|row: &Value| row["Type"] == "trees");
    rows.next().expect("a row of trees")
}

fn measured(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    c.build("FROM base\nRUN echo a >/a\n", &["-t", "app"]).ok();
    let told = row(c);
    let size = fs::metadata(crate::BUSYBOX).unwrap().size();
    assert_eq!(told["Count"], 1);
    assert!(told["Bytes"].as_u64() > Some(size), "{told}");
    assert_eq!(told["Bytes"], told["ReclaimableBytes"]);
    c.run(&["prune", "--force", "--filter", "until=1h"]).ok();
    assert_eq!(trees(c).len(), 1);
    // It goes, and what the image is made of stays.
    let told = c.run(&["prune", "--force"]).ok().out;
    assert!(told.contains("1 trees"), "{told}");
    assert_eq!(trees(c), Vec::<PathBuf>::new());
    assert_eq!(c.run(&["run", "app", "cat", "/a"]).ok().out, "a\n");
    assert_eq!(trees(c).len(), 1);
    // No tree is left behind whose layers have gone.
    c.run(&["prune", "--force", "--all"]).ok();
    assert_eq!(trees(c), Vec::<PathBuf>::new());
    // More than the limit allows: the tree is the first to go.
    c.import();
    c.build("FROM base\nRUN echo b >/b\n", &["-t", "app"]).ok();
    let limit = format!("{}", size * 5 / 2);
    let text = "FROM base\nRUN echo c >/c\n";
    let told = c.build(text, &["-t", "app", "--store-limit", &limit]).ok();
    assert!(told.err.contains("store: removed"), "{}", told.err);
    assert_eq!(trees(c), Vec::<PathBuf>::new());
    assert_eq!(c.run(&["run", "app", "cat", "/c"]).ok().out, "c\n");
    Outcome::Passed
}

/// A stage that is copied from is read where it was built, its links as they are.
fn read(c: &Context) -> Outcome {
    if elsewhere(c) {
        return skipped();
    }
    let text = "FROM base AS a\nRUN mkdir /out; echo x >/out/one; ln /out/one /out/two\n\
        RUN echo y >/out/three\n\
        FROM scratch\nCOPY --from=a /out /\n";
    let tree = c.tree(text);
    assert!(
        tree.values()
            .any(|node| node.kind == '1' || node.kind == 'h'),
        "{tree:?}"
    );
    assert_eq!(trees(c).len(), 1);
    Outcome::Passed
}
