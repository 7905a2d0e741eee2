"""The other commands and the kinds of output."""

import json
import os
import subprocess

from harness import peers
from harness.cli import Bench
from harness.report import expect, same

APP = {"Dockerfile": "FROM busybox\nCOPY a.txt /srv/a.txt\nRUN ln -s a.txt /srv/link && rm /etc/group\n"
                     'ENV COLOUR=green\nWORKDIR /srv\nENTRYPOINT ["cat"]\nCMD ["a.txt"]\n',
       "a.txt": "content\n"}


def app(env):
    bench = Bench(env)
    context = bench.folder("app", APP)
    bench.build(context, "-t", "it/app:1")
    return bench, context


def ran(bench, *args, **kw):
    return bench.call("run", *args, **kw).stdout.decode()


def run_flags(env):
    bench, _ = app(env)
    same(ran(bench, "it/app:1"), "content\n", "default command")
    same(ran(bench, "it/app:1", "link"), "content\n", "arguments in place of CMD")
    same(ran(bench, "-e", "TASTE=sour", "--entrypoint", "sh", "it/app:1", "-c", "echo $COLOUR $TASTE; pwd"),
         "green sour\n/srv\n", "environment and working directory")
    same(ran(bench, "-w", "/tmp", "--entrypoint", "pwd", "it/app:1"), "/tmp\n", "-w")
    same(ran(bench, "-u", "0", "--entrypoint", "id", "it/app:1", "-u"), "0\n", "-u")
    share = bench.user.subdir("share")
    with open(os.path.join(share, "in"), "w") as f:
        f.write("from outside\n")
    same(ran(bench, "-v", f"{share}:/mnt/share:ro", "it/app:1", "/mnt/share/in"), "from outside\n", "-v")
    done = bench.call("run", "-v", f"{share}:/mnt/share:ro", "--entrypoint", "sh", "it/app:1", "-c",
                      "echo x > /mnt/share/out", code=tuple(range(1, 256)))
    expect(not os.path.exists(os.path.join(share, "out")), f"a read-only volume was written: {done.stderr!r}")
    ran(bench, "-v", f"{share}:/mnt/share", "--entrypoint", "sh", "it/app:1", "-c", "echo x > /mnt/share/out")
    same(os.stat(os.path.join(share, "out")).st_uid, bench.user.uid, "owner of a file written to a volume")
    bench.call("run", "--entrypoint", "sh", "it/app:1", "-c", "exit 3", code=3)
    lo = ran(bench, "--network", "none", "--entrypoint", "sh", "it/app:1", "-c", "ls /sys/class/net 2>/dev/null || cat /proc/net/dev")
    expect("eth" not in lo, f"--network none shows {lo!r}")


def many_user_change(env):
    """USER and chown: what the image says is what the process sees, with many ids and with one."""
    bench = Bench(env)
    context = bench.folder("user", {"Dockerfile": "FROM debian:bookworm\nRUN useradd -u 1234 -m ship && "
                                    "echo x > /home/ship/x && chown ship /home/ship/x\nUSER ship\n"
                                    "RUN touch /home/ship/mine && test \"$(id -un)\" = ship\n"
                                    "RUN stat -c '%U %G' /home/ship/mine /etc/shadow > /tmp/owners\n"})
    bench.build(context, "-t", "it/user")
    same(ran(bench, "it/user", "cat", "/tmp/owners"), "ship ship\nroot shadow\n", "owners in the image")


def lists_and_tags(env):
    bench, _ = app(env)
    bench.call("tag", "it/app:1", "it/app:2")
    listed = bench.call("images").stdout.decode()
    expect("it/app" in listed and "busybox" in listed, f"images: {listed}")
    seen = json.loads(bench.call("inspect", "it/app:2").stdout)
    expect("green" in json.dumps(seen), "inspect does not show the config")
    bench.call("rmi", "it/app:2")
    bench.error(bench.call("inspect", "it/app:2", code=tuple(range(1, 6))), "it/app:2")
    same(ran(bench, "it/app:1"), "content\n", "the other tag after rmi")


def save_and_load(env):
    bench, _ = app(env)
    for form, scheme in (("docker-archive", "docker-archive"), ("oci-archive", "oci-archive")):
        archive = os.path.join(bench.user.dir, form + ".tar")
        bench.call("save", "--format", form, "-o", archive, "it/app:1")
        peers.need("skopeo")
        peers.call("skopeo", "inspect", f"{scheme}:{archive}")
        other = Bench(env, bench.user.mode, store=os.path.join(bench.user.dir, "store-" + form))
        other.call("load", "-i", archive)
        same(ran(other, "it/app:1"), "content\n", f"the image loaded from a {form}")


def load_from_peers(env):
    """Archives that skopeo wrote."""
    bench = Bench(env)
    for scheme in ("docker-archive", "oci-archive"):
        archive = os.path.join(bench.user.dir, "skopeo.tar")
        if os.path.exists(archive):
            os.unlink(archive)
        peers.call("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{bench.mirror}/library/busybox:latest",
                   f"{scheme}:{archive}:it/foreign:1")
        os.chmod(archive, 0o644)
        other = Bench(env, bench.user.mode, store=os.path.join(bench.user.dir, "store-foreign-" + scheme))
        printed = other.call("load", "-i", archive)
        name = "it/foreign:1"
        if scheme == "oci-archive" and name.encode() not in printed.stdout + printed.stderr:
            name = other.call("images", "-q").stdout.decode().split()[0]
        same(ran(other, name, "echo", "here"), "here\n", f"an image loaded from skopeo's {scheme}")


def import_rootfs(env):
    bench = Bench(env)
    tree = bench.folder("rootfs", {"bin/busybox": open(_busybox(bench), "rb").read(), "etc/motd": "imported\n"})
    os.chmod(os.path.join(tree, "bin/busybox"), 0o755)
    bench.call("import", tree, "it/imported:dir")
    same(ran(bench, "it/imported:dir", "/bin/busybox", "cat", "/etc/motd"), "imported\n", "an imported directory")
    archive = os.path.join(bench.user.dir, "rootfs.tar")
    subprocess.run(["tar", "-C", tree, "-cf", archive, "."], check=True)
    os.chmod(archive, 0o644)
    bench.call("import", archive, "it/imported:tar")
    same(ran(bench, "it/imported:tar", "/bin/busybox", "cat", "/etc/motd"), "imported\n", "an imported tar")


def _busybox(bench):
    context = bench.folder("extract", {"Dockerfile": "FROM scratch\nCOPY --from=busybox /bin/busybox /busybox\n"})
    out = os.path.join(bench.user.dir, "extracted")
    bench.build(context, "-o", f"type=local,dest={out}")
    return os.path.join(out, "busybox")


def outputs(env):
    bench, context = app(env)
    base = os.path.join(bench.user.dir, "outputs")
    subprocess.run(["rm", "-rf", base])
    bench.user.subdir("outputs")
    for kind in ("oci", "docker"):
        for compression in ("gzip", "zstd", "uncompressed"):
            if kind == "docker" and compression == "zstd":
                continue
            dest = f"{base}/{kind}-{compression}.tar"
            bench.build(context, "-t", "it/app:1", "-o", f"type={kind},dest={dest},compression={compression}")
            seen = json.loads(peers.call("skopeo", "inspect", "--config", f"{kind}-archive:{dest}"))
            same(seen["config"]["Entrypoint"], ["cat"], f"entrypoint in the {kind} archive, {compression}")
    bench.build(context, "-o", f"type=local,dest={base}/tree")
    with open(f"{base}/tree/srv/a.txt") as f:
        same(f.read(), "content\n", "the file in the local output")
    same(os.readlink(f"{base}/tree/srv/link"), "a.txt", "the link in the local output")
    expect(not os.path.exists(f"{base}/tree/etc/group"), "the local output has a file that a step removed")
    done = bench.call("build", "--progress", "quiet", "-o", "type=tar,dest=-", context)
    listed = subprocess.run(["tar", "-tf", "-"], input=done.stdout, capture_output=True)
    names = [n.removeprefix("./") for n in listed.stdout.decode().splitlines()]
    expect(listed.returncode == 0 and "srv/a.txt" in names and "etc/group" not in names, "the tar on standard output")


def metadata(env):
    bench, context = app(env)
    path = os.path.join(bench.user.dir, "meta.json")
    iid = os.path.join(bench.user.dir, "meta.iid")
    bench.build(context, "-t", "it/app:1", "--metadata-file", path, "--iidfile", iid)
    with open(path) as f, open(iid) as g:
        meta, image = json.load(f), g.read().strip()
    same(meta["containerimage.config.digest"], image, "config digest in the metadata file")
    expect(meta["containerimage.digest"].startswith("sha256:"), f"metadata: {meta}")


def build_flags(env):
    bench = Bench(env)
    context = bench.folder("flags", {"Dockerfile": "ARG TAG=nothing\nFROM busybox:$TAG\nARG WHO=nobody\n"
                                     "RUN echo $WHO > /who; cat /etc/hosts > /tmp/hosts; ulimit -n > /tmp/ulimit\n"})
    bench.build(context, "--build-arg", "TAG=latest", "--build-arg", "WHO=somebody", "--label", "a.b=c", "-t", "it/flags:1",
                "-t", "it/flags:2", "--add-host", "mast.test:10.9.8.7", "--ulimit", "nofile=321:321", "--network", "none")
    same(ran(bench, "it/flags:2", "cat", "/who", "/tmp/ulimit"), "somebody\n321\n", "what the step saw")
    expect("10.9.8.7" in ran(bench, "it/flags:1", "cat", "/tmp/hosts"), "--add-host is not in the step's /etc/hosts")
    expect("a.b" in bench.call("inspect", "it/flags:1").stdout.decode(), "--label is not in the config")
    bench.build(context, "--build-arg", "TAG=latest", "--build-arg", "WHO=somebody", "--no-cache", "--pull")


def at_the_same_time(env):
    """Two builds of different things in one store."""
    bench = Bench(env)
    children = []
    for n in (1, 2, 3):
        context = bench.folder(f"parallel-{n}", {"Dockerfile": f"FROM busybox\nRUN sleep 1; echo {n} > /n\nRUN cat /n\n"})
        args = bench.args("build", "--progress", "plain", "-t", f"it/parallel:{n}", context)
        log = open(os.path.join(bench.user.dir, f"parallel-{n}.log"), "wb")
        children.append((n, bench.user.start(args, stdout=log, stderr=log), log))
    for n, child, log in children:
        status = child.wait(120)
        log.close()
        with open(log.name, errors="replace") as f:
            same(status, 0, f"exit status of build {n}:\n{f.read()[-1500:]}")
        same(ran(bench, f"it/parallel:{n}", "cat", "/n"), f"{n}\n", "what it built")


def prune(env):
    bench = Bench(env, store=os.path.join(Bench(env).user.dir, "store-prune"))
    context = bench.folder("prune", {"Dockerfile": "FROM busybox\nRUN echo pruned > /x\n"})
    bench.build(context, "-t", "it/prune:1")
    bench.call("rmi", "it/prune:1", "busybox")
    bench.call("prune", "-a", "-f")
    left = subprocess.run(["find", os.path.join(bench.store, "v1"), "-path", "*/blobs/sha256/*", "-type", "f"],
                          capture_output=True, text=True).stdout
    same(left, "", "blobs after prune -a")
    bench.build(context, "-t", "it/prune:1")


def version(env):
    bench = Bench(env)
    expect(bench.call("version").stdout.strip(), "version prints nothing")
    done = subprocess.run(["ldd", bench.binary], capture_output=True, text=True)
    expect("statically linked" in done.stdout or "not a dynamic" in done.stderr, f"ldd: {done.stdout}{done.stderr}")
    size = os.path.getsize(bench.binary)
    expect(size < 16e6, f"the binary is {size / 1e6:.1f} MB")


CHECKS = [
    ("commands: run and its flags", run_flags),
    ("commands: USER and chown in steps", many_user_change),
    ("commands: images, tag, inspect, rmi", lists_and_tags),
    ("commands: save and load", save_and_load),
    ("commands: load what skopeo saved", load_from_peers),
    ("commands: import a tree and a tar", import_rootfs),
    ("commands: outputs oci, docker, local, tar", outputs),
    ("commands: metadata file", metadata),
    ("commands: flags of build", build_flags),
    ("commands: builds at the same time", at_the_same_time),
    ("commands: prune", prune),
    ("commands: version, static binary", version),
]
