//! The properties of the fuzz targets (`fuzz/properties`), over the seeds and a fixed number of their
//! mutations: the same inputs every time. `make fuzz` looks for new ones.

use std::path::{Path, PathBuf};

use lapstrake::{context, dockerfile, image, plan, rootfs};

#[path = "../fuzz/properties/mod.rs"]
mod properties;

/// Inputs made of every seed.
const MUTATIONS: usize = 40;

/// Every golden Dockerfile, and what the fuzz target `name` was given or has found.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["tests/dockerfile", "tests/dockerfile/negative"] {
        files.extend(
            entries(&root.join(folder))
                .into_iter()
                .map(|case| case.join("Dockerfile")),
        );
    }
    files.extend(entries(&root.join("fuzz/seeds").join(name)));
    files.retain(|file| file.is_file());
    files.sort();
    assert!(files.len() > 20, "{} seeds", files.len());
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The generator of Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % limit.max(1)
    }

    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let end = bytes.len().min(start + self.below(40));
        start..end
    }
}

/// `seed` with some bytes gone, doubled, moved, replaced, or taken from `other`.
fn mutate(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "${x:-",
        "${x//",
        "}",
        "$",
        "\\\n",
        "\\",
        "`",
        "\"",
        "'",
        "<<EOF",
        "\nEOF\n",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "\u{feff}",
        "\u{1b}[31m",
        "[\"a\"]",
        "--from=",
        "**/",
        "!",
        "ONBUILD ",
        "# escape=`\n",
        "\u{e9}",
    ];
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(6) {
        let place = random.range(&bytes);
        let new = match random.below(6) {
            0 => Vec::new(),
            1 => WORDS[random.below(WORDS.len())].into(),
            2 => vec![u8::try_from(random.below(256)).unwrap()],
            3 => other[random.range(other)].to_vec(),
            4 => bytes[random.range(&bytes)].to_vec(),
            _ => [&bytes[place.clone()], &bytes[place.clone()]].concat(),
        };
        bytes.splice(place, new);
    }
    bytes
}

fn check_all(name: &str, check: fn(&[u8])) {
    let seeds = seeds(name);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        check(seed);
        for _ in 0..MUTATIONS {
            let other = &seeds[random.below(seeds.len())];
            let input = mutate(seed, other, &mut random);
            let failed = std::panic::catch_unwind(|| check(&input)).is_err();
            assert!(
                !failed,
                "the input was {:?}",
                String::from_utf8_lossy(&input)
            );
        }
    }
}

#[test]
fn parse() {
    check_all("parse", properties::parse::check);
}

#[test]
fn expand() {
    check_all("expand", properties::expand::check);
}

#[test]
fn ignore() {
    check_all("ignore", properties::ignore::check);
}

#[test]
fn heredoc() {
    check_all("heredoc", properties::heredoc::check);
}

#[test]
fn plan_and_evaluation() {
    check_all("plan", properties::plan::check);
}
