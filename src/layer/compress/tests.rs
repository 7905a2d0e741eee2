//! One stream whatever the threads, and other people's tools as readers.

use std::io::Read;
use std::process::{Command, Stdio};

use super::super::Decoder;
use super::*;

/// Compressible bytes that repeat across block borders, with some noise.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(format!("line {} of {:x}\n", state % 977, state % 31).as_bytes());
        if state.is_multiple_of(7) {
            bytes.extend_from_slice(&state.to_le_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

fn compress(kind: Compression, threads: usize, data: &[u8], chunk: usize) -> Vec<u8> {
    let mut out = Compressor::new(kind, threads, Vec::new()).unwrap();
    for piece in data.chunks(chunk) {
        out.write_all(piece).unwrap();
        out.flush().unwrap();
    }
    out.finish().unwrap()
}

fn decode(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Decoder::new(bytes)?.read_to_end(&mut out)?;
    Ok(out)
}

const KINDS: [Compression; 6] = [
    Compression::Uncompressed,
    Compression::Gzip { level: 1 },
    Compression::Gzip { level: 6 },
    Compression::Gzip { level: 0 },
    Compression::Zstd { level: 1 },
    Compression::Zstd { level: 3 },
];

#[test]
fn the_bytes_do_not_depend_on_threads_or_writes() {
    let edge = 512 << 10;
    for kind in KINDS {
        for len in [0, 1, edge - 1, edge, edge + 1, 5 * edge + 77] {
            let data = sample(len);
            let once = compress(kind, 1, &data, usize::MAX);
            assert_eq!(decode(&once).unwrap(), data, "{kind:?} of {len}");
            for (threads, chunk) in [(0, 65_536), (2, 100_003), (3, 70_001), (8, 131_072)] {
                let again = compress(kind, threads, &data, chunk);
                assert!(again == once, "{kind:?} of {len} on {threads} threads");
            }
        }
    }
}

/// A deflate state that was reset once gave other bytes than a new one, seen only in real data.
#[test]
fn no_block_remembers_what_its_thread_did_before() {
    let mut data = Vec::new();
    let program = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    program.take(12 << 20).read_to_end(&mut data).unwrap();
    for level in [1, 6] {
        let kind = Compression::Gzip { level };
        let once = compress(kind, 1, &data, usize::MAX);
        for threads in [2, 3] {
            assert!(
                compress(kind, threads, &data, 131_072) == once,
                "level {level}"
            );
        }
    }
}

#[test]
fn zstd_jobs_are_cut_by_size_alone() {
    let data = sample(20 << 20);
    let kind = Compression::Zstd { level: 1 };
    let once = compress(kind, 1, &data, usize::MAX);
    assert!(compress(kind, 3, &data, 131_072) == once);
}

#[test]
fn gzip_is_one_member_and_no_larger_than_it_must_be() {
    let data = sample(3 << 20);
    let ours = compress(Compression::Gzip { level: 6 }, 2, &data, 65_536);
    let mut single = Vec::new();
    flate2::read::GzDecoder::new(&ours[..])
        .read_to_end(&mut single)
        .unwrap();
    assert!(single == data, "a reader of one member reads everything");
    let level = flate2::Compression::new(6);
    let mut plain = flate2::write::GzEncoder::new(Vec::new(), level);
    plain.write_all(&data).unwrap();
    let plain = plain.finish().unwrap();
    assert!(ours.len() < plain.len() + plain.len() / 50);
}

/// Runs `program` over `input`; none when it is not installed.
fn pipe(program: &str, args: &[&str], input: Vec<u8>) -> Option<Vec<u8>> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: there is no {program} here");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} failed");
    Some(output.stdout)
}

#[test]
fn other_programs_read_it() {
    let data = sample(2 << 20);
    let python =
        "import gzip,sys; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))";
    let gzip = compress(Compression::Gzip { level: 6 }, 2, &data, 65_536);
    let zstd = compress(Compression::Zstd { level: 3 }, 2, &data, 65_536);
    for (program, args, input) in [
        ("gzip", &["-dc"][..], gzip.clone()),
        ("python3", &["-c", python], gzip),
        ("zstd", &["-dc"], zstd),
    ] {
        if let Some(found) = pipe(program, args, input) {
            assert!(found == data, "{program}");
        }
    }
}

#[test]
fn reads_what_other_programs_write_and_nothing_less() {
    let data = sample(300_000);
    for (program, args) in [
        ("gzip", &["-c"][..]),
        ("bzip2", &["-c"]),
        ("xz", &["-c"]),
        ("xz", &["-c", "--block-size=100000", "--check=crc32"]),
        ("zstd", &["-c"]),
    ] {
        let Some(packed) = pipe(program, args, data.clone()) else {
            continue;
        };
        assert!(decode(&packed).unwrap() == data, "{program}");
        let twice = decode(&[packed.clone(), packed.clone()].concat()).unwrap();
        assert_eq!(twice.len(), 2 * data.len(), "{program} twice");
        for cut in [7, 20, packed.len() / 2, packed.len() - 5, packed.len() - 1] {
            let error = decode(&packed[..cut]).unwrap_err().to_string();
            assert!(error.contains(program), "{program} cut at {cut}: {error}");
        }
        let mut damaged = packed.clone();
        damaged[packed.len() / 2] ^= 0x55;
        assert!(decode(&damaged).is_err(), "{program} damaged");
    }
}

#[test]
fn levels_that_do_not_exist_are_refused() {
    for kind in [
        Compression::Gzip { level: 10 },
        Compression::Zstd { level: 23 },
    ] {
        assert!(Compressor::new(kind, 1, Vec::new()).is_err(), "{kind:?}");
    }
}
