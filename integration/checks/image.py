"""The image of lapstrake itself, from the repository's own Dockerfile: what it holds, and that it builds.

What is compiled in it otherwise, which takes minutes, is the program under test; its bases are the stand-ins.
"""

import json
import os
import shutil

from harness import peers
from harness.cli import Bench
from harness.report import Skip, expect, same

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Any base with CA certificates does where nothing is compiled.
BASE = "docker.io/library/node:20-slim"
PATHS = ["", "etc", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", "store", "tmp", "usr", "usr/local",
         "usr/local/bin", "usr/local/bin/lapstrake", "usr/share", "usr/share/doc", "usr/share/doc/lapstrake",
         "usr/share/doc/lapstrake/LICENSE", "workspace"]
# What Docker and containerd give root in a container.
CAPABILITIES = ["CAP_" + name for name in (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE")]
APP = {"Dockerfile": "FROM alpine AS tools\nRUN mkdir /out && echo made > /out/file && chown 12:34 /out/file\n"
                     "FROM alpine\nCOPY --from=tools /out /srv\nRUN stat -c %u:%g /srv/file > /srv/owner\n"}
EPOCH = ["--build-arg", "SOURCE_DATE_EPOCH=1000000000"]


def build(env, *args):
    """Builds the repository's Dockerfile with the program under test in it."""
    bench = Bench(env)
    context = sources(bench)
    finished = bench.folder("finished", {})
    shutil.copy(env.binary, finished)
    bench.build(context, "--build-context", f"binary={finished}", "--build-arg", f"RUST={BASE}",
                "--build-arg", "VERSION=1.2.3", *args)
    return bench


def sources(bench):
    """Of the repository what the image is made of, where the user can read it."""
    texts = {}
    for name in ("Dockerfile", ".dockerignore", "LICENSE"):
        with open(os.path.join(TOP, name)) as f:
            texts[name] = f.read()
    return bench.folder("sources", texts)


def contents(env):
    """One program, certificates, and the labels and variables that the docs tell of."""
    bench = Bench(env)
    layout = os.path.join(bench.user.subdir("export"), "self")
    build(env, "-o", f"type=oci,tar=false,dest={layout}")
    image = peers.Image(layout, os.path.join(env.scratch, "peer-self"))
    found = image.listing({})
    same(sorted(p.rstrip("/") for p in found if p not in (".", "./")), [p for p in PATHS if p], "paths of the image")
    config = image.config["config"]
    same(config["Entrypoint"], ["/usr/local/bin/lapstrake"], "entrypoint")
    same(config["User"], "0", "user")
    same(config["Volumes"], {"/store": {}}, "volumes")
    expect("LAPSTRAKE_ROOT=/store" in config["Env"], f"variables: {config['Env']}")
    same(config["Labels"]["org.opencontainers.image.version"], "1.2.3", "label")
    return bench, image


def runs(env):
    """`lapstrake run` starts it, and the variant with a shell."""
    bench = build(env, "-t", "it/self")
    build(env, "--target", "shell", "-t", "it/self:shell")
    version = bench.call("version").stdout
    same(bench.call("run", "it/self", "version").stdout, version, "the version it tells")
    same(bench.call("run", "it/self:shell", "sh", "-c", "lapstrake version").stdout, version, "by a shell")


def builds_in_runc(env):
    """In a container of runc, made of nothing but the image, it builds the same image as here."""
    bench, image = contents(env)
    bundle = image.bundle()
    context = bench.folder("inner", APP)
    store = os.path.join(env.scratch, "store-in-runc")
    os.mkdir(store)
    os.chmod(store, 0o1777)
    args = ["build", "--registry-mirror", f"docker.io=http://{bench.mirror}", *EPOCH, "-q"]
    try:
        container(image, bundle, [*args, "/workspace"], {context: "/workspace", store: "/store"})
        inside = peers.call("runc", "--root", f"{image.scratch}/runc", "run", "-b", bundle, f"it-self-{os.getpid()}")
        outside = bench.call("build", *EPOCH, "-q", context).stdout
        same(inside, outside, "the id of what was built in the container and of what was built outside")
    finally:
        shutil.rmtree(bundle)


def container(image, bundle, command, volumes):
    """The bundle as Docker would start it without its filter: default capabilities, the caller's network."""
    peers.need("runc")
    if os.geteuid() != 0:
        raise Skip("a container of runc with all ids needs root")
    image.runc_config(bundle, command, True)
    path = os.path.join(bundle, "config.json")
    with open(path) as f:
        spec = json.load(f)
    spec["process"]["capabilities"] = {k: CAPABILITIES for k in ("bounding", "effective", "permitted")}
    spec["mounts"] += [{"destination": inside, "type": "bind", "source": outside, "options": ["rbind", "rw"]}
                       for outside, inside in volumes.items()]
    with open(path, "w") as f:
        json.dump(spec, f)


CHECKS = [
    ("image: holds one program and what it needs", contents),
    ("image: runs in lapstrake itself", runs),
    ("image: builds in a container of runc", builds_in_runc),
]
