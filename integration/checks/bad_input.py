"""Bad input: the documented exit status, a message that names the culprit, and nothing half-written."""

import json
import os
import subprocess
import time

from harness import oci
from harness.cli import DOCKERFILE, ENVIRONMENT, OK, REGISTRY, RUN, USAGE, Bench
from harness.report import Skip, expect, same

# name, Dockerfile (None: there is none), more files, flags, exit status, what the message must match
CASES = [
    ("unknown instruction", "FROM alpine\nCOPPY a /\n", {}, [], DOCKERFILE, ["COPPY", "COPY", r"\b2\b"]),
    ("unknown instruction at the start", "FORM alpine\n", {}, [], DOCKERFILE, ["FORM", "FROM"]),
    ("no FROM", "RUN true\n", {}, [], DOCKERFILE, ["FROM"]),
    ("empty Dockerfile", "# nothing\n", {}, [], DOCKERFILE, ["Dockerfile"]),
    ("no Dockerfile", None, {"a": "a"}, [], (USAGE, DOCKERFILE), ["Dockerfile"]),
    ("missing stage by index", "FROM alpine\nCOPY --from=7 /a /b\n", {}, [], DOCKERFILE, ["7", r"\b2\b"]),
    ("missing target", "FROM alpine AS one\n", {}, ["--target", "two"], (USAGE, DOCKERFILE), ["two"]),
    ("a stage that copies from itself", "FROM alpine AS one\nCOPY --from=one /a /b\n", {}, [], DOCKERFILE, ["one"]),
    ("a stage by an index that comes later", "FROM alpine AS first\nCOPY --from=1 /a /b\nFROM alpine\n",
     {}, ["--target", "first"], DOCKERFILE, [r"\b2\b"]),
    ("a stage by a name that comes later", "FROM alpine AS first\nCOPY --from=later /a /b\nFROM alpine AS later\n",
     {}, ["--target", "first"], DOCKERFILE, ["later", r"\b2\b"]),
    ("missing source file", "FROM alpine\nCOPY nowhere.txt /\n", {}, [], DOCKERFILE, ["nowhere.txt", r"\b2\b"]),
    ("source file that .dockerignore hides", "FROM alpine\nCOPY a.txt /\n", {"a.txt": "a", ".dockerignore": "*.txt\n"},
     [], DOCKERFILE, ["a.txt"]),
    ("missing source in a stage", "FROM alpine AS b\nFROM alpine\nCOPY --from=b /nowhere /x\n", {}, [], DOCKERFILE, ["/?nowhere"]),
    ("source outside the context", "FROM alpine\nCOPY ../../../etc/passwd /x\n", {}, [], DOCKERFILE, ["etc/passwd"]),
    ("base image not found", "FROM no-such-image:9\n", {}, [], (DOCKERFILE, REGISTRY), ["no-such-image"]),
    ("base image that is no name", "FROM Not/A::Name\n", {}, [], DOCKERFILE, ["Not/A::Name"]),
    ("another platform", "FROM alpine\nRUN true\n", {}, ["--platform", "linux/s390x"], (USAGE, DOCKERFILE, REGISTRY, ENVIRONMENT),
     ["s390x"]),
    ("RUN fails", "FROM alpine\nRUN exit 7\n", {}, [], RUN, ["7", "exit 7"]),
    ("RUN of what is not there", 'FROM alpine\nRUN ["/no/such/program"]\n', {}, [], RUN, ["/no/such/program"]),
    ("RUN is killed", "FROM alpine\nRUN kill -9 $$\n", {}, [], RUN, ["137|signal|SIGKILL"]),
    ("user that is not in the image", "FROM alpine\nUSER nosuchuser\nRUN true\n", {}, [], (DOCKERFILE, RUN), ["nosuchuser"]),
    ("unknown flag", "FROM alpine\n", {}, ["--no-such-flag"], USAGE, ["no-such-flag"]),
    ("unknown flag of an instruction", "FROM alpine\nCOPY --chwon=1 a /\n", {"a": "a"}, [], DOCKERFILE, ["chwon"]),
    ("unknown output type", "FROM alpine\n", {}, ["-o", "type=parcel,dest=x"], USAGE, ["parcel"]),
    ("tag that is no name", "FROM alpine\n", {}, ["-t", "UPPER/Case"], USAGE, ["UPPER/Case"]),
    ("broken expansion", "FROM alpine\nENV A=${B\n", {}, [], DOCKERFILE, [r"\b2\b"]),
    ("open quotation", 'FROM alpine\nENV A="b\n', {}, [], DOCKERFILE, [r"\b2\b"]),
]


def table(name, text, files, flags, code, wanted):
    def call(env):
        bench = Bench(env)
        context = bench.folder("bad", {**files, **({} if text is None else {"Dockerfile": text})})
        iid, meta = os.path.join(bench.user.dir, "bad.iid"), os.path.join(bench.user.dir, "bad.json")
        for path in (iid, meta):
            if os.path.exists(path):
                os.unlink(path)
        done = bench.build(context, "--iidfile", iid, "--metadata-file", meta, *flags, code=code)
        bench.error(done, *wanted)
        same(done.stdout, b"", "standard output of a failed build")
        expect(not os.path.exists(iid), "the id file was written although the build failed")
        bench.nothing_unfinished()
        if name == "RUN fails":
            with open(meta) as f:
                expect("7" in json.dumps(json.load(f)), "the metadata file does not hold the command's exit status")
    return "bad input: " + name, call


def no_context(env):
    bench = Bench(env)
    bench.error(bench.call("build", code=USAGE))
    done = bench.build("/nonexistent/context", code=(USAGE, DOCKERFILE))
    bench.error(done, "/nonexistent/context")


def unknown_command(env):
    bench = Bench(env)
    bench.error(bench.call("bild", code=USAGE), "bild")


def unreadable_file(env):
    bench = Bench(env)
    if bench.user.uid == 0 or os.geteuid() != 0:
        raise Skip("needs a file of somebody else")
    context = bench.folder("unreadable", {"Dockerfile": "FROM alpine\nCOPY . /x\n", "secret.txt": "s"})
    os.chown(os.path.join(context, "secret.txt"), 0, 0)
    os.chmod(os.path.join(context, "secret.txt"), 0o600)
    bench.error(bench.build(context, code=(DOCKERFILE, ENVIRONMENT)), "secret.txt", "permission|denied")


def no_space(env):
    bench = Bench(env)
    if os.geteuid() != 0:
        raise Skip("needs root to mount a small file system")
    small = os.path.join(bench.user.dir, "small")
    os.makedirs(small, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=24m,mode=755,uid={bench.user.uid}", "tmpfs", small], check=True)
    try:
        tight = Bench(env, store=os.path.join(small, "store"))
        context = tight.folder("space", {"Dockerfile": "FROM alpine\nRUN dd if=/dev/zero of=/big bs=1M count=64\n"})
        done = tight.build(context, code=(ENVIRONMENT, RUN))
        tight.error(done, "space")
        context = tight.folder("space", {"Dockerfile": "FROM debian:bookworm\nRUN true\n"})
        tight.error(tight.build(context, code=ENVIRONMENT), "space")
        context = tight.folder("space", {"Dockerfile": "FROM busybox\nRUN echo fits > /x\n"})
        tight.build(context)
    finally:
        subprocess.run(["umount", small], check=True)


def unusable_home(env):
    bench = Bench(env)
    context = bench.folder("home", {"Dockerfile": "FROM busybox\nRUN true\n"})
    for home in ("/nonexistent", "/proc", ""):
        plain = bench.user.env(HOME=home)
        done = bench.user.run([bench.binary, f"--registry-mirror=docker.io=http://{bench.mirror}", "build", context], env=plain)
        expect(done.returncode in (OK, ENVIRONMENT), f"HOME={home!r}: status {done.returncode}: {done.stderr[-500:]!r}")
        if done.returncode == ENVIRONMENT:
            bench.error(done, "HOME|home|--root|LAPSTRAKE_ROOT")
    if bench.user.uid == 0:
        return
    nowhere = {k: v for k, v in bench.user.env(HOME="/nonexistent", TMPDIR="/proc").items()}
    done = bench.user.run([bench.binary, f"--registry-mirror=docker.io=http://{bench.mirror}", "build", context], env=nowhere)
    if done.returncode != OK:
        same(done.returncode, ENVIRONMENT, f"exit status without any place for a store: {done.stderr[-500:]!r}")
        bench.error(done, "LAPSTRAKE_ROOT|--root")


NO_NAMESPACE = """
import ctypes, os, sys
uid, gid = os.getuid(), os.getgid()
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) != 0:
    raise SystemExit(99)
open('/proc/self/setgroups', 'w').write('deny')
open('/proc/self/uid_map', 'w').write(f'{uid} {uid} 1')
open('/proc/self/gid_map', 'w').write(f'{gid} {gid} 1')
open('/proc/sys/user/max_user_namespaces', 'w').write('0')
os.execv(sys.argv[1], sys.argv[1:])
"""


def no_user_namespace(env):
    bench = Bench(env)
    if bench.user.uid == 0:
        raise Skip("needs a user without privileges")
    context = bench.folder("nons", {"Dockerfile": "FROM busybox\nRUN echo done > /x\n"})
    done = bench.user.run(["/usr/bin/python3", "-c", NO_NAMESPACE, *bench.args("build", context)])
    if done.returncode == 99:
        raise Skip("no user namespace to forbid user namespaces in")
    same(done.returncode, ENVIRONMENT, f"exit status where user namespaces are forbidden: {done.stderr[-800:]!r}")
    bench.error(done, "user namespace", "max_user_namespaces")


def broken_tar(env):
    """A layer whose digest is right but whose content is no tar."""
    bench = Bench(env)
    path = os.path.join(env.scratch, "broken.layer")
    writer = oci.LayerWriter(path)
    writer.write(b"this is not a tar archive, whatever its digest says\n" * 40)
    layer = writer.finish()
    config = oci.image_config([layer], "amd64" if os.uname().machine == "x86_64" else "arm64", {}, ["broken"])
    oci.push_image(env.registry.client(), "library/broken", "tar", [layer], config)
    context = bench.folder("broken", {"Dockerfile": "FROM broken:tar\nRUN true\n"})
    bench.error(bench.build(context, code=(DOCKERFILE, REGISTRY)), "broken:tar|" + layer.digest[7:19])
    bench.nothing_unfinished()


def only_other_platforms(env):
    bench = Bench(env)
    client = env.registry.client()
    found = client.manifest("library/alpine", "latest")[1]
    members = [({k: m[k] for k in ("mediaType", "digest", "size")}, m["platform"], None) for m in found["manifests"]
               if m["platform"]["architecture"] not in ("amd64" if os.uname().machine == "x86_64" else "arm64", "unknown")]
    oci.push_index(client, "library/alpine", "elsewhere", members)
    context = bench.folder("platform", {"Dockerfile": "FROM alpine:elsewhere\nRUN true\n"})
    bench.error(bench.build(context, code=(DOCKERFILE, REGISTRY, ENVIRONMENT)), "platform|linux/", "arm64|amd64")


def id_file_keeps_its_time(env):
    bench = Bench(env)
    context = bench.folder("iid", {"Dockerfile": "FROM busybox\nRUN echo same > /x\n"})
    iid = os.path.join(bench.user.dir, "kept.iid")
    bench.build(context, "--iidfile", iid)
    first = os.stat(iid)
    time.sleep(1.1)
    bench.build(context, "--iidfile", iid)
    same(os.stat(iid).st_mtime_ns, first.st_mtime_ns, "time of the id file after a build that changed nothing")
    with open(iid) as f:
        text = f.read()
    expect(text.strip().startswith("sha256:") and len(text.strip()) == 71, f"id file: {text!r}")
    quiet = bench.call("build", "-q", context)
    same(quiet.stdout.decode(), text.strip() + "\n", "standard output of build -q")
    same(bench.build(context).stdout, b"", "standard output of build")


def dockerfile_from_stdin(env):
    bench = Bench(env)
    context = bench.folder("stdin", {"a": "a"})
    path = os.path.join(bench.user.dir, "piped")
    with open(path, "w") as f:
        f.write("FROM busybox\nCOPY a /a\nRUN test -f /a\n")
    with open(path) as f:
        bench.call("build", "-f", "-", context, stdin=f)


CHECKS = [table(*case) for case in CASES] + [
    ("bad input: no context", no_context),
    ("bad input: unknown command", unknown_command),
    ("bad input: unreadable file in the context", unreadable_file),
    ("bad input: no space left", no_space),
    ("bad input: HOME missing or read-only", unusable_home),
    ("bad input: user namespaces forbidden", no_user_namespace),
    ("bad input: a layer that is no tar", broken_tar),
    ("bad input: an index without this platform", only_other_platforms),
    ("build: id file and standard output", id_file_keeps_its_time),
    ("build: Dockerfile from standard input", dockerfile_from_stdin),
]
