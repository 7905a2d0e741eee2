//! How much is done at a time, and who has to wait for whom. No clock is asked: steps meet in a
//! shared cache mount, or they write down there when they begin and end.

use crate::Case;
use crate::registry::Registry;
use crate::support::{Context, Outcome, read_tar};

pub const CASES: &[Case] = &[
    ("numbers_of_jobs_that_are_none", none),
    ("steps_that_sleep_make_room", sleepers),
    ("no_more_steps_compute_than_there_are_jobs", burners),
    ("everything_can_be_done_by_one_job", one),
    ("a_failure_ends_those_who_wait_for_room", failure),
];

fn none(c: &Context) -> Outcome {
    for number in ["0", "-1", "many", "", "65536", "1.5"] {
        c.build("FROM scratch\n", &[&format!("--jobs={number}")])
            .fails(2, &["--jobs"]);
    }
    Outcome::Passed
}

/// Stages that run `step` each, with `N` in the place of their number, and one that has them all.
fn stages(count: usize, step: &str) -> String {
    let mut text = String::new();
    let mut last = String::from("FROM scratch\n");
    for number in 0..count {
        let step = step.replace('N', &number.to_string());
        text += &format!(
            "FROM base AS s{number}\nRUN --mount=type=cache,target=/c {step}; echo x >/x\n"
        );
        last += &format!("COPY --from=s{number} /x /x{number}\n");
    }
    text + &last
}

fn alone() -> Outcome {
    Outcome::Skipped("a cache is in the tree of one step at a time".to_owned())
}

/// Each step ends only when all of them have begun: a step that sleeps must not keep others out.
fn sleepers(c: &Context) -> Outcome {
    if c.in_trees() {
        return alone();
    }
    let meet = "touch /c/N; while [ $(ls /c | wc -l) -lt 4 ]; do sleep 0.2; done";
    let ran = c.build(&stages(4, meet), &["--jobs", "1"]).ok();
    assert_eq!(ran.executed().len(), 8, "{}", ran.err);
    Outcome::Passed
}

fn burners(c: &Context) -> Outcome {
    let burn = "echo begin >>/c/log; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; \
                echo end >>/c/log; : N";
    for jobs in [1, 2] {
        let number = jobs.to_string();
        let all = stages(4, burn).replace("target=/c", &format!("target=/c,id=j{jobs}"));
        let (stages, copies) = all.split_once("FROM scratch\n").unwrap();
        let text = format!(
            "{stages}FROM base AS log\n{copies}\
             RUN --mount=type=cache,target=/c,id=j{jobs} cp /c/log /log\n\
             FROM scratch\nCOPY --from=log /log /log\n"
        );
        let args = ["--jobs", &number, "-o", "type=tar,dest=t.tar", "--no-cache"];
        c.build(&text, &args).ok();
        let tree = read_tar(&c.path("t.tar"));
        let (mut now, mut most, mut ended) = (0, 0, 0);
        for line in tree["log"].text().lines() {
            match line {
                "begin" => now += 1,
                _ => (now, ended) = (now - 1, ended + 1),
            }
            most = most.max(now);
        }
        assert_eq!((now, ended), (0, 4));
        assert!(most <= jobs, "{most} at a time with {jobs} jobs");
    }
    Outcome::Passed
}

/// Whatever takes a permit gives it back before it waits for something else.
fn one(c: &Context) -> Outcome {
    let registry = Registry::start();
    let base = registry.push_base(c, "team/base:1");
    c.file("a", "a");
    c.file("deep/b", "b");
    let text = format!(
        "FROM {base} AS one\nRUN --mount=target=/ctx --mount=type=cache,target=/c,sharing=locked cat /ctx/a >/one\n\
         FROM {base} AS two\nCOPY --from=one --chown=app /one /two\nADD deep /deep\nWORKDIR /w\n\
         RUN --mount=type=cache,target=/c,sharing=locked --mount=from=one,target=/o cat /o/one >/three\n\
         FROM one AS three\nCOPY . /all\nRUN --mount=type=cache,target=/c,from=two,source=/deep ls /c >/list\n\
         FROM scratch\nCOPY --from=two /three /three\nCOPY --from=three /list /list\n"
    );
    let text = match c.one_id() {
        true => text.replace("--chown=app ", ""),
        false => text,
    };
    c.build(&text, &["--jobs", "1", "-o", "type=tar,dest=t.tar"])
        .ok();
    let tree = read_tar(&c.path("t.tar"));
    assert_eq!((tree["three"].text(), tree["list"].text()), ("a", "b\n"));
    assert!(c.leftovers().is_empty());
    Outcome::Passed
}

/// One burns for ever, the others wait for it to make room, and the one that has it fails.
fn failure(c: &Context) -> Outcome {
    if c.in_trees() {
        return alone();
    }
    let step = "touch /c/N; if [ N = 3 ]; then exit 7; fi; \
                while [ $(ls /c | wc -l) -lt 4 ]; do sleep 0.2; done; while :; do :; done";
    c.build(&stages(4, step), &["--jobs", "1"])
        .fails(4, &["exit status 7"]);
    assert!(c.leftovers().is_empty());
    Outcome::Passed
}
