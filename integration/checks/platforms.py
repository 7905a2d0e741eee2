"""Other platforms: bases from an index, real programs under emulation, and what skopeo says of the images."""

import io
import json
import os
import subprocess
import tarfile
import uuid

from harness import bases, oci, peers
from harness.cli import DOCKERFILE, Bench
from harness.report import Failure, Skip, expect, same

SETUP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "setup")
APPLETS = ["sh", "cat", "echo", "id", "ls", "mkdir", "chown", "stat", "uname"]
PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"
OTHER = {"amd64": "arm64", "arm64": "amd64"}[bases.ARCH]
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}
TEXT = """FROM --platform=$BUILDPLATFORM {0} AS tools
ARG BUILDARCH TARGETARCH
RUN echo "$BUILDARCH for $TARGETARCH by $(uname -m)" > /note
FROM {0}
COPY --from=tools /note /
"""
RUN = """RUN uname -m > /machine && chown 1000:1000 /machine
USER app
RUN id -u > /tmp/uid && exec -a cat busybox /machine
"""


def foreign_busybox():
    done = subprocess.run([os.path.join(SETUP, "foreign"), OTHER], capture_output=True, text=True)
    path = done.stdout.strip()
    if done.returncode != 0 or not path:
        raise Skip(done.stderr.strip() or f"no busybox for {OTHER}")
    return path


def push_base(env):
    """Pushes an index of busybox for both platforms; its name as Dockerfiles say it."""
    name, members = "both-" + uuid.uuid4().hex[:8], []
    repo = "library/" + name
    for arch, path in ((bases.ARCH, "/bin/busybox"), (OTHER, foreign_busybox())):
        writer = oci.LayerWriter(os.path.join(env.scratch, f"layer-{arch}"))
        with tarfile.open(fileobj=writer, mode="w|") as tar:
            for directory, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode = tarfile.DIRTYPE, mode
                tar.addfile(entry)
            with open(path, "rb") as f:
                add(tar, "bin/busybox", f.read(), 0o755)
            add(tar, "etc/passwd", PASSWD.encode(), 0o644)
            for applet in APPLETS:
                entry = tarfile.TarInfo("bin/" + applet)
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        layer = writer.finish()
        config = oci.image_config([layer], arch, {"Cmd": ["/bin/sh"]}, ["busybox"])
        client = env.registry.client()
        descriptor = oci.push_image(client, repo, arch, [layer], config)
        members.append((descriptor, {"os": "linux", "architecture": arch}, None))
    oci.push_index(env.registry.client(), repo, "latest", members)
    return name


def add(tar, name, content, mode):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def exported(env, bench, text, name, *args):
    layout = os.path.join(bench.user.subdir("export"), name)
    bench.build(bench.folder(name, {"Dockerfile": text}), "--platform", f"linux/{OTHER}",
                "-o", f"type=oci,tar=false,dest={layout}", *args)
    image = peers.Image(layout, os.path.join(env.scratch, "peer-" + name))
    peers.need("skopeo")
    seen = json.loads(peers.call("skopeo", "inspect", "--config", image.tag))
    same((seen["os"], seen["architecture"]), ("linux", OTHER), "the platform as skopeo sees it")
    return image


def copies(env):
    """Tools of this machine's platform, an image of the other: nobody has to execute anything of it."""
    bench = Bench(env)
    base = push_base(env)
    image = exported(env, bench, TEXT.format(base), "copies")
    image.keeps_base(env.registry, f"{base}:{OTHER}")
    image.copies(env.registry, "it/copied-" + OTHER)
    text = TEXT.format(base) + "FROM tools\nRUN cat /note\n"
    ran = bench.build(bench.folder("note", {"Dockerfile": text}), "--platform", f"linux/{OTHER}", "--no-cache")
    expect(f"{bases.ARCH} for {OTHER} by {MACHINE[bases.ARCH]}" in ran.stderr.decode(), "the arguments of platforms")


def runs(env):
    """The other platform's own shell, in its own root file system, or a refusal that says what is missing."""
    bench = Bench(env)
    text = TEXT.format(push_base(env)) + RUN
    line = 1 + text.split("\n").index("RUN uname -m > /machine && chown 1000:1000 /machine")
    try:
        image = exported(env, bench, text, "runs")
    except Failure:
        done = bench.build(bench.folder("refused", {"Dockerfile": text}), "--platform", f"linux/{OTHER}", code=DOCKERFILE)
        said = bench.error(done, f"RUN for linux/{OTHER} is not supported", f"Dockerfile:{line}")
        raise Skip(said.splitlines()[0]) from None
    found = image.listing({})
    expect("machine" in found and "tmp/uid" in found, f"what the steps made: {sorted(found)}")
    ran = bench.build(bench.folder("again", {"Dockerfile": text}), "--platform", f"linux/{OTHER}", "--no-cache")
    expect(MACHINE[OTHER] in ran.stderr.decode(), "what uname said")


CHECKS = [
    ("platforms: copies", copies),
    ("platforms: runs", runs),
]
