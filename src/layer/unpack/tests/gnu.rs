//! Archives that GNU tar made.

use super::*;

#[test]
fn gnu_tar_archives_are_read() {
    let bench = Bench::new();
    let source = bench.outside();
    let make = |format: &str| {
        let run = std::process::Command::new("tar")
            .args(["-c", "--format", format, "-C", &source, "."])
            .output();
        run.ok()
            .filter(|run| run.status.success())
            .map(|run| run.stdout)
    };
    for format in ["gnu", "posix", "ustar", "v7"] {
        let Some(tar) = make(format) else {
            println!("skipped: there is no tar here");
            return;
        };
        let bench = Bench::new();
        bench.unpack(&tar).unwrap();
        assert_eq!(
            std::fs::read_to_string(bench.diff("victim")).unwrap(),
            "untouched"
        );
    }
    let long = "l".repeat(120);
    let deep = PathBuf::from(&source)
        .parent()
        .unwrap()
        .join("staging")
        .join(&long);
    std::fs::create_dir(&deep).unwrap();
    std::os::unix::fs::symlink("t".repeat(130), deep.join("s")).unwrap();
    let parent = deep.parent().unwrap().display().to_string();
    for format in ["gnu", "posix"] {
        let run = std::process::Command::new("tar")
            .args(["-c", "--format", format, "-C", &parent, &long])
            .output()
            .unwrap();
        let bench = Bench::new();
        bench.unpack(&run.stdout).unwrap();
        let link = std::fs::read_link(bench.diff(&long).join("s")).unwrap();
        assert_eq!(link, PathBuf::from("t".repeat(130)), "{format}");
    }
}

#[test]
fn sparse_files_of_gnu_tar_are_filled() {
    use std::os::unix::fs::FileExt;
    let source = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(source.path().join("holes")).unwrap();
    // Enough pieces that the old format's map goes on in further blocks.
    for piece in 0..60 {
        file.write_all_at(&[b'd'; 4096], piece * 65_536 + 16_384)
            .unwrap();
    }
    file.set_len(5_000_001).unwrap();
    std::fs::write(source.path().join("next"), "after it").unwrap();
    for format in [&["--format=gnu"][..], &["--format=posix"]] {
        let run = std::process::Command::new("tar")
            .args(["-cS", "-C"])
            .arg(source.path())
            .args(format)
            .args(["holes", "next"])
            .output();
        let Some(run) = run.ok().filter(|run| run.status.success()) else {
            println!("skipped: there is no tar here");
            return;
        };
        let bench = Bench::new();
        bench.unpack(&run.stdout).unwrap();
        let read = |path: PathBuf| std::fs::read(path).unwrap();
        assert!(
            read(bench.diff("holes")) == read(source.path().join("holes")),
            "{format:?}"
        );
        assert_eq!(read(bench.diff("next")), b"after it");
        if run.stdout.len() > 1_000_000 {
            println!("skipped: the temporary directory has no holes, nothing sparse was tested");
        }
    }
}
