//! Owners, users and modes: the same in every image, whoever builds it.

use crate::Case;
use crate::support::{Context, Outcome, ran};

pub const CASES: &[Case] = &[
    ("owners_are_the_same_in_every_sandbox", same),
    ("programs_see_the_owners_of_lower_layers", lower),
    ("owners_of_copies_and_of_what_is_renamed", copies),
    ("devices_of_a_run_are_devices_of_the_image", devices),
];

/// What is given, taken and carried along by a RUN, in layers whose digests do not depend on anything
/// but that.
const DOCKERFILE: &str = r#"FROM base
RUN mkdir -p /d/sub && cd /d && for n in plain given taken set link old gone; do echo $n >$n; done && \
    chown app:wheel given taken set old gone && chown 5 sub && chown :0 taken && chown 0 taken && \
    chmod 6755 set && ln given second && ln -s given to && chown -h 7:8 to && mkfifo pipe && chown app pipe && \
    mv given moved && chmod 2775 sub && chown :wheel sub
RUN echo more >>/d/old && mv /d/old /d/new && rm /d/gone && touch /d/sub/inside && chown 0:0 /d/set
USER app
WORKDIR /home/app/w
RUN echo mine >file; mkdir dir; ln -s file to; echo x >>/d/moved; umask 077; echo y >private
USER 0
COPY --chown=app:wheel --chmod=4750 Dockerfile /copied
RUN chmod 4711 /copied; mv /home/app/w/dir /home/app/other; busybox chown -R 9:9 /home/app/w/to
"#;

/// The digests of the archives of its layers over the base: that of COPY is of this very Dockerfile.
const LAYERS: [&str; 6] = [
    "sha256:0d80967e3577ffb2a7650c309ae5cc0441788a177f556ba60126848b8a77fa2f",
    "sha256:ca09be1cdaf52f25d2e4aeef7146a10262aac47c61966c08447d012a9de923e9",
    "sha256:6972266d3aa4a95a9c6a2c70687472ae6fcea1b1753865ed6d98e6c0aecca7bd",
    "sha256:0cbffcdd2eb27cd9710313c63249def7cee97746c66e4e1e8746825d3e39db38",
    "sha256:ff5b390c4f3d8f3c3784c307ecb1781c2d40272b4651158d6ccdfa60f9cfed39",
    "sha256:b8cc5e6193bd64ad86f26a4a11038121c75c4641a11cf1d4300e60eb417034ef",
];

fn same(c: &Context) -> Outcome {
    c.import();
    c.file("Dockerfile", DOCKERFILE);
    for output in ["type=tar,dest=tree.tar", "type=image,name=img"] {
        let mut command = c.command(&["build", "-o", output, "context"]);
        ran(command.env("SOURCE_DATE_EPOCH", "1000000000")).ok();
    }
    let tree = crate::support::read_tar(&c.path("tree.tar"));
    for (path, owner, mode) in [
        ("d/plain", (0, 0), 0o644),
        ("d/moved", (1000, 10), 0o644),
        ("d/taken", (0, 0), 0o644),
        ("d/set", (0, 0), 0o755),
        ("d/to", (7, 8), 0o777),
        ("d/pipe", (1000, 0), 0o644),
        ("d/new", (1000, 10), 0o644),
        ("d/sub", (5, 10), 0o2775),
        ("d/sub/inside", (0, 10), 0o644),
        ("home/app/w", (1000, 1000), 0o755),
        ("home/app/w/file", (1000, 1000), 0o644),
        ("home/app/w/to", (9, 9), 0o777),
        ("home/app/w/private", (1000, 1000), 0o600),
        ("home/app/other", (1000, 1000), 0o755),
        ("copied", (1000, 10), 0o4711),
    ] {
        let node = &tree[path];
        assert_eq!((node.owner, node.mode & 0o7777), (owner, mode), "{path}");
    }
    let told = c.inspect("img");
    let layers = told["RootFS"]["Layers"].as_array().unwrap();
    let own: Vec<&str> = layers[1..].iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(own, LAYERS);
    Outcome::Passed
}

fn lower(c: &Context) -> Outcome {
    let said = c.output(
        "FROM base AS one\nCOPY --chown=app:wheel --chmod=6755 Dockerfile /f\nUSER app\nWORKDIR /home/app\nUSER 0\n\
         RUN ln -s x /l; chown -h app /l; for f in /f /home/app /l; do echo \" * $(stat -c '%n %U:%g %a' $f)\"; done\n\
         FROM scratch AS two\nCOPY --from=one / /\n\
         RUN for f in /f /home/app /l; do echo \" * $(stat -c '%n %U:%g %a' $f)\"; done; \
             mv /f /moved; cp /moved /plain; echo \" * $(stat -c '%u:%g' /moved) $(stat -c '%u:%g' /plain)\"\n\
         RUN echo \" * $(stat -c '%u:%g' /moved)\"; test -O /l || echo ' * not mine'\n",
        &[],
    );
    let same = ["/f app:10 6755", "/home/app app:1000 755", "/l app:0 777"];
    assert_eq!(said[..3], same);
    assert_eq!(said[3..6], same);
    assert_eq!(said[6..], ["1000:10 0:0", "1000:10", "not mine"]);
    Outcome::Passed
}

fn copies(c: &Context) -> Outcome {
    let tree = c.tree(
        "FROM base\nRUN mkdir /d && cd /d && echo a >a && echo b >b && mkfifo p && chown 5:6 a && chown 7:8 p\n\
         COPY --chown=70000:70001 --chmod=640 Dockerfile /d/far\nCOPY --chown=70000:70001 Dockerfile /d/given\n\
         RUN cd /d && mv b a && chown 9:10 p && echo more >>far && chown 3:4 given\n",
    );
    for (path, kind, owner, mode) in [
        ("d/a", 'f', (0, 0), 0o644),
        ("d/p", 'p', (9, 10), 0o644),
        ("d/far", 'f', (70000, 70001), 0o640),
        ("d/given", 'f', (3, 4), 0o644),
    ] {
        let node = &tree[path];
        let found = (node.kind, node.owner, node.mode & 0o7777);
        assert_eq!(found, (kind, owner, mode), "{path}");
    }
    Outcome::Passed
}

fn devices(c: &Context) -> Outcome {
    if !c.one_id() {
        let why = "the kernel makes no devices in a user namespace with many ids";
        return Outcome::Skipped(why.to_owned());
    }
    let said = c.output(
        "FROM base\nRUN busybox mknod -m 620 /n c 5 1; chown 0:5 /n; chmod 666 /n\n\
         RUN echo \" * $(stat -c '%F %t:%T %u:%g %a' /n)\"\n",
        &["-o", "type=tar,dest=tree.tar"],
    );
    assert_eq!(said, ["character special file 5:1 0:5 666"]);
    let mut archive = tar::Archive::new(std::fs::File::open(c.path("tree.tar")).unwrap());
    let found = archive.entries().unwrap().find_map(|entry| {
        let entry = entry.unwrap();
        let is_it = entry.path_bytes().as_ref() == b"n" || entry.path_bytes().as_ref() == b"./n";
        is_it.then(|| entry.header().clone())
    });
    let header = found.unwrap();
    assert_eq!(header.entry_type(), tar::EntryType::Char);
    let numbers = (
        header.device_major().unwrap(),
        header.device_minor().unwrap(),
    );
    assert_eq!((numbers, header.gid().unwrap()), ((Some(5), Some(1)), 5));
    Outcome::Passed
}
