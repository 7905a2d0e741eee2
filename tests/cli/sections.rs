//! Rules about layers, cache keys and output objects, each named by its section of the specification.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use serde_json::Value;

use crate::Case;
use crate::support::{Context, Outcome, read_tar};

pub const CASES: &[Case] = &[
    ("s12_s14_what_layers_and_layouts_hold", layers),
    ("s13_what_makes_a_step_run_again", keys),
];

fn layers(c: &Context) -> Outcome {
    let text = "FROM base\n\
                RUN mkdir -p /d/e && echo 1 >/d/a && echo 2 >/d/b && ln /d/b /d/c && mkfifo /d/p\n\
                RUN rm /d/a && chmod 4711 /d/b\n\
                RUN rm -r /d && mkdir /d && echo 3 >/d/z\n\
                RUN true\n";
    let output = "type=oci,tar=false,dest=out,compression=uncompressed";
    c.build(text, &["-o", output]).ok();
    let blob = |digest: &Value| {
        let path = digest.as_str().unwrap().replacen(':', "/", 1);
        c.path("out/blobs").join(path)
    };
    let json = |path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };

    let index = json(c.path("out/index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let entry = &index["manifests"][0];
    let kind = "application/vnd.oci.image";
    assert_eq!(entry["mediaType"], format!("{kind}.manifest.v1+json"));
    let manifest = json(blob(&entry["digest"]));
    assert_eq!(
        manifest["config"]["mediaType"],
        format!("{kind}.config.v1+json")
    );
    let config = json(blob(&manifest["config"]["digest"]));
    let all = manifest["layers"].as_array().unwrap();
    assert_eq!(
        config["rootfs"]["diff_ids"].as_array().unwrap().len(),
        all.len()
    );
    let new = &all[all.len() - 4..];
    for layer in new {
        assert_eq!(layer["mediaType"], format!("{kind}.layer.v1.tar"));
    }
    let trees: Vec<_> = new
        .iter()
        .map(|layer| read_tar(&blob(&layer["digest"])))
        .collect();

    let made = &trees[0];
    for (name, kind) in [
        ("d", 'd'),
        ("d/e", 'd'),
        ("d/a", 'f'),
        ("d/b", 'f'),
        ("d/p", 'p'),
    ] {
        assert_eq!(made[name].kind, kind, "{name}");
    }
    assert_eq!((made["d/c"].kind, made["d/c"].link.as_str()), ('h', "d/b"));
    assert!(made.keys().all(|name| !name.starts_with('/')), "{made:?}");
    for stub in ["etc/hosts", "etc/resolv.conf", "dev/null", "proc/self"] {
        assert!(!made.contains_key(stub), "{stub} is not the step's");
    }

    let removed = &trees[1];
    let whiteout = &removed["d/.wh.a"];
    assert_eq!((whiteout.kind, whiteout.content.len()), ('f', 0));
    assert_eq!(whiteout.mode & 0o7777, 0);
    assert_eq!(removed["d"].kind, 'd', "parents of what changed are there");
    // As with every overlay, a changed file is no longer the one that its other name leads to.
    assert_eq!(removed["d/b"].kind, 'f');
    assert_eq!(removed["d/b"].mode & 0o7777, 0o4711);
    for name in ["d/c", "d/p"] {
        assert!(!removed.contains_key(name), "what did not change is not");
    }

    let replaced = &trees[2];
    assert_eq!(replaced["d/z"].text(), "3\n");
    for gone in ["b", "c", "p", "e"] {
        assert!(replaced.contains_key(&format!("d/.wh.{gone}")), "{gone}");
    }
    assert!(
        trees[3].is_empty(),
        "a step without changes: {:?}",
        trees[3]
    );
    Outcome::Passed
}

const KEYS: &str = "FROM base AS one\n\
                    RUN echo made >/made\n\
                    FROM base AS two\n\
                    ARG A=1\n\
                    ENV E=1\n\
                    COPY a /a\n\
                    RUN cat /a >/b\n\
                    COPY --from=one /made /made\n\
                    RUN cat /made\n";

fn keys(c: &Context) -> Outcome {
    let file = c.file("a", "a");
    c.build(KEYS, &[]).ok();
    let (copy, run) = ("COPY a /a", "RUN cat /a >/b");
    let after = ["COPY --from=one /made /made", "RUN cat /made"];
    let later = [&[run][..], &after].concat();
    let equal = KEYS.replace("echo made", "printf 'made\\n'");
    type Row<'r> = (&'r str, String, &'r [&'r str], Vec<&'r str>);
    let rows: [Row<'_>; 12] = [
        ("nothing", KEYS.into(), &[], vec![]),
        ("a comment", format!("# said\n{KEYS}# again\n"), &[], vec![]),
        (
            "blanks",
            KEYS.replace("RUN cat", "RUN  \t cat"),
            &[],
            vec![],
        ),
        ("a label", format!("{KEYS}LABEL a=b\n"), &[], vec![]),
        ("a name", KEYS.replace("one", "uno"), &[], vec![]),
        (
            "another stage before",
            format!("FROM scratch AS none\nCOPY a /\n{KEYS}"),
            &[],
            vec![],
        ),
        ("ENV", KEYS.replace("E=1", "E=2"), &[], later.clone()),
        (
            "a declared argument",
            KEYS.into(),
            &["--build-arg", "A=2"],
            later.clone(),
        ),
        (
            "an unknown argument",
            KEYS.into(),
            &["--build-arg", "Z=2"],
            vec![],
        ),
        (
            "a proxy",
            KEYS.into(),
            &["--build-arg", "HTTP_PROXY=http://127.0.0.1:9"],
            vec![],
        ),
        (
            "a host",
            KEYS.into(),
            &["--add-host", "h:192.0.2.1"],
            [&["RUN echo made >/made"][..], &later].concat(),
        ),
        (
            "equal content from a stage",
            equal,
            &[],
            vec!["RUN printf 'made\\n' >/made"],
        ),
    ];
    let executed = |text: &str, args: &[&str]| {
        let mut names = c.build(text, args).ok().executed();
        names.sort();
        names
    };
    for (what, text, args, expected) in rows {
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(executed(&text, args), expected, "{what}");
    }
    let one = vec!["RUN echo made >/made".to_owned()];
    assert_eq!(executed(KEYS, &["--no-cache-filter", "ONE"]), one);
    let none = c.build(KEYS, &["--no-cache-filter=none,two"]).ok();
    assert!(none.err.contains("--no-cache-filter none"), "{}", none.err);
    assert_eq!(none.executed().len(), 4);
    let mut all = [&[copy][..], &later].concat();
    all.sort_unstable();
    let touched = fs::File::options().append(true).open(&file).unwrap();
    touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(executed(KEYS, &[]), Vec::<String>::new(), "a time");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(executed(KEYS, &[]), all, "a mode");
    Outcome::Passed
}
