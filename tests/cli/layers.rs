//! What is in the layer of a step: what it changed, and nothing else.

use std::path::Path;

use serde_json::Value;

use crate::Case;
use crate::support::{Context, Outcome};

pub const CASES: &[Case] = &[("layers_hold_what_differs_from_below", differs)];

/// Files of a time of whole seconds, which every tool can set.
const FILES: &str = "mkdir -p /d/sub && cd /d && echo one >a && echo two >b && ln b b2 && ln -s a l && mkfifo p && \
    echo x >sub/x && chown 7:8 a sub sub/x && chown -h 7:8 l && chmod 600 b && find /d | while read f; do touch -h -d @1000 $f; done";

/// A step, and the entries of its layer.
const STEPS: &[(&str, &[&str])] = &[
    ("RUN : >>/d/a", &[]),
    ("RUN exec 3<>/d/b; exec 4>>/d/b2", &[]),
    (
        "RUN chmod 600 /d/b && chmod 755 /d/sub && chmod 644 /d/sub/x /d/p",
        &[],
    ),
    (
        "RUN chown 7:8 /d/a /d/sub /d/sub/x && chown -h 7:8 /d/l && chown 0 /d/p /d/b2",
        &[],
    ),
    ("RUN touch -d @1000 /d/a /d /d/sub/x", &[]),
    (
        "RUN chmod 700 /d/sub && echo y >/d/y && rm /d/y && chmod 755 /d/sub && touch -d @1000 /d",
        &[],
    ),
    (
        "RUN cp -p /d/a /d/a2 && mv /d/a2 /d/a && touch -d @1000 /d",
        &[],
    ),
    (
        "RUN rm /d/l && ln -s a /d/l && chown -h 7:8 /d/l && touch -h -d @1000 /d/l /d",
        &[],
    ),
    (
        "RUN mv /d/sub /d/else && mv /d/else /d/sub && touch -d @1000 /d",
        &[],
    ),
    (
        "RUN --mount=type=tmpfs,target=/m/n/o chown -R 5:5 /m && chmod 700 /m/n",
        &[],
    ),
    (
        "RUN --mount=type=tmpfs,target=/m/n/o chown 5:5 /m/n && chown 5:5 /m && : >/m/new",
        &["m/", "m/new"],
    ),
    ("RUN touch -d @1001 /d/a", &["d/", "d/a"]),
    ("RUN echo two >/d/b2", &["d/", "d/b2"]),
    (
        "RUN ln /d/a /d/a3 && touch -d @1000 /d",
        &["d/", "d/a", "d/a3"],
    ),
    (
        "RUN rm /d/a3 && touch -d @1000 /d && : >>/d/a",
        &["d/", "d/.wh.a3"],
    ),
    (
        "RUN cp -p /d/sub/x /x && rm -r /d/sub && mkdir /d/sub && mv /x /d/sub/x && touch /d/sub/new && chown 7:8 /d/sub && \
         touch -d @1000 /d/sub /d",
        &["d/", "d/sub/", "d/sub/new"],
    ),
    (
        "RUN rm -r /d/sub && mkdir /d/sub && touch -d @1000 /d/sub /d",
        &["d/", "d/sub/", "d/sub/.wh.new", "d/sub/.wh.x"],
    ),
    ("COPY file /copied/", &["copied/", "copied/file"]),
    ("COPY file /copied/", &["copied/"]),
    ("RUN : >>/copied/file", &[]),
    ("WORKDIR /copied", &[]),
];

fn differs(c: &Context) -> Outcome {
    c.file("file", "text\n");
    let steps: Vec<&str> = STEPS.iter().map(|(step, _)| *step).collect();
    let text = format!("FROM base\nRUN {FILES}\n{}\n", steps.join("\n"));
    let output = "type=oci,tar=false,dest=layout,compression=uncompressed";
    c.build(&text, &["-o", output]).ok();
    let layers = layers(&c.path("layout"));
    let own = &layers[layers.len() - STEPS.len()..];
    for ((step, expected), names) in STEPS.iter().zip(own) {
        assert_eq!(names, expected, "{step}");
    }
    Outcome::Passed
}

/// The names in each layer of the one image in a layout.
fn layers(layout: &Path) -> Vec<Vec<String>> {
    let read =
        |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let blob = |about: &Value| {
        let digest = about["digest"].as_str().unwrap();
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let manifest = read(&blob(&read(&layout.join("index.json"))["manifests"][0]));
    let all = manifest["layers"].as_array().unwrap().iter();
    all.map(|layer| {
        let mut archive = tar::Archive::new(std::fs::File::open(blob(layer)).unwrap());
        let entries = archive.entries().unwrap();
        let name =
            |entry: tar::Entry<'_, _>| String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        entries.map(|entry| name(entry.unwrap())).collect()
    })
    .collect()
}
