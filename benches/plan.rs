//! How long a large Dockerfile takes from its text to the steps of every stage: 1,000 lines, 50 stages.
//!
//!     cargo bench --bench plan
//!
//! Prints median and best of each part; the whole is meant to stay under 5 ms.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use lapstrake::dockerfile::parse;
use lapstrake::image::{ImageConfig, Platform};
use lapstrake::plan::{Base, Plan, PlanOptions, StageState};

const STAGES: usize = 50;
const ROUNDS: usize = 300;

/// Fifty stages of twenty lines, each built on or copying from the ones before it.
fn dockerfile() -> String {
    let mut text = String::new();
    for stage in 0..STAGES {
        let base = match stage {
            0 => "debian:13".to_owned(),
            _ if stage % 5 == 0 => "alpine:3".to_owned(),
            _ => format!("s{}", stage - 1),
        };
        let from = stage.saturating_sub(1);
        writeln!(
            text,
            "FROM {base} AS s{stage}\n\
             # what this stage is for\n\
             ARG VERSION=1.{stage} PREFIX=/opt/s{stage}\n\
             ENV PATH=$PREFIX/bin:$PATH \\\n    LABEL_{stage}=\"${{VERSION%.*}}-${{VERSION#*.}}\"\n\
             WORKDIR ${{PREFIX:-/opt}}/src\n\
             RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\\n    \
             apt-get update && \\\n    apt-get install -y --no-install-recommends gcc make\n\
             COPY --chown=1000:1000 src/*.c include/ ./\n\
             COPY <<-'EOF' /etc/s{stage}.conf\n\tkey = value\n\tother = ${{not}}\n\tEOF\n\
             RUN make -j\"$(nproc)\" PREFIX=\"$PREFIX\" && make install\n\
             USER ${{USER:-1000}}:1000\n\
             LABEL org.example.stage=s{stage} org.example.version=\"$VERSION\"\n\
             EXPOSE 8080 9000-9003/udp"
        )
        .unwrap();
        match stage {
            0 => text.push_str("STOPSIGNAL SIGTERM\n"),
            _ => writeln!(text, "COPY --from=s{from} /opt/s{from} $PREFIX/dep").unwrap(),
        }
        text.push_str("CMD [\"run\", \"--fast\"]\n");
    }
    text
}

fn options() -> PlanOptions {
    let platform = Platform {
        os: "linux".into(),
        arch: "amd64".into(),
        variant: String::new(),
    };
    PlanOptions {
        platform: platform.clone(),
        build_platform: platform,
        ..PlanOptions::default()
    }
}

fn evaluate(plan: &Plan) -> usize {
    let mut done: BTreeMap<usize, StageState> = BTreeMap::new();
    let mut steps = 0;
    for stage in plan.stages() {
        let mut state = match &stage.base {
            Base::Stage(index) => StageState::from_stage(plan, stage, &done[index]),
            _ => StageState::from_image(plan, stage, Some(&ImageConfig::default())),
        };
        for instruction in &stage.instructions {
            black_box(state.apply(instruction).unwrap());
            steps += 1;
        }
        done.insert(stage.index, state);
    }
    steps
}

/// Median and best, in milliseconds: on a busy machine only the best says anything.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, best) = (times[times.len() / 2], times[0]);
    format!("{:.2} ({:.2})", milliseconds(median), milliseconds(best))
}

fn main() {
    let text = dockerfile();
    let options = options();
    let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    let mut steps = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let file = parse(black_box(&text)).unwrap();
        let parsed = start.elapsed();
        let plan = Plan::new(&file, &options).unwrap();
        let planned = start.elapsed();
        steps = evaluate(&plan);
        let all = start.elapsed();
        let parts = [parsed, planned - parsed, all - planned, all];
        for (times, part) in times.iter_mut().zip(parts) {
            times.push(part);
        }
    }
    let [parse, plan, evaluate, all] = times.map(summary);
    println!(
        "{} lines, {STAGES} stages, {steps} steps, median (best) of {ROUNDS} in ms: \
         parse {parse}, plan {plan}, evaluate {evaluate}, all {all}",
        text.lines().count()
    );
}
