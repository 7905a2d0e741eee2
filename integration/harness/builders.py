"""Who builds: lapstrake, or a peer in its place, so that the scenarios themselves can be tested."""

import json
import os
import shutil
import subprocess
import tempfile
import time

from .report import Failure, Skip


def tail(data, lines=30):
    return "\n".join(data.decode(errors="replace").rstrip().splitlines()[-lines:])


def plain_env(user, **extra):
    """No proxies: everything that is fetched comes from loopback."""
    env = {k: v for k, v in user.env().items() if not k.lower().endswith("_proxy")}
    return {**env, "TZ": "UTC", **extra}


def unmount_below(path):
    """Detaches what a builder left mounted in its directory."""
    with open("/proc/mounts") as f:
        points = [line.split()[1] for line in f]
    for point in sorted((p for p in points if p.startswith(path + "/")), reverse=True):
        subprocess.run(["umount", "-l", point], capture_output=True)


class Lapstrake:
    """The program under test, started as `user` with its own store and mirror setting."""

    name = "lapstrake"

    def __init__(self, binary, user, mirror):
        self.binary, self.user, self.mirror = binary, user, mirror

    def args(self, *args):
        return [self.binary, "--root", self.user.store, "--registry-mirror", f"docker.io=http://{self.mirror}", *args]

    def call(self, *args, ok=True, **kw):
        done = self.user.run(self.args(*args), **kw)
        if ok and done.returncode != 0:
            raise Failure(f"{self.name} {' '.join(args)}: exit status {done.returncode}\n{tail(done.stderr)}")
        return done

    def build(self, context, file, tag, args=()):
        """Builds; returns what was printed for people."""
        done = self.call("build", "--progress", "plain", "--iidfile", self.iidfile(), "-f", file, "-t", tag, *args,
                         context, timeout=1200)
        return done.stderr.decode(errors="replace")

    def run(self, tag, command):
        done = self.call("run", tag, *command, ok=False, timeout=120)
        if done.returncode != 0:
            raise Failure(f"run {tag} {command}: exit status {done.returncode}\n{tail(done.stderr)}")
        return done.stdout.decode(errors="replace")

    def serve_command(self, tag, command):
        return self.args("run", tag, *command)

    def export(self, tag, layout, build):
        """Writes an OCI layout directory that holds just this image: the build once more, all cached."""
        context, file, args = build
        self.user.subdir("export")
        done = self.call("build", "--progress", "plain", "-f", file, "-t", tag, *args,
                         "-o", f"type=oci,tar=false,dest={layout}", context, timeout=600)
        return done.stderr.decode(errors="replace")

    def image_id(self):
        """The config digest that the last `build` wrote."""
        with open(self.iidfile()) as f:
            return f.read().strip()

    def iidfile(self):
        return os.path.join(self.user.dir, "iid")


class Buildah:
    """Debian's buildah as root, to see whether a scenario is right before blaming the builder."""

    name = "buildah"

    def __init__(self, user, mirror):
        self.user, self.mirror = user, mirror
        self.conf = os.path.join(user.subdir("buildah"), "registries.conf")
        with open(self.conf, "w") as f:
            f.write(f'unqualified-search-registries = ["docker.io"]\n[[registry]]\nlocation = "docker.io"\n'
                    f'[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = true\n')

    def call(self, *args):
        base = ["buildah", "--root", self.user.store + "/s", "--runroot", self.user.store + "/r",
                "--registries-conf", self.conf]
        done = self.user.run([*base, *args], timeout=1200, env=self.user.env(BUILDAH_ISOLATION="chroot"))
        if done.returncode != 0:
            raise Failure(f"buildah {' '.join(args)}: exit status {done.returncode}\n{tail(done.stderr)}")
        return done

    def build(self, context, file, tag, args=()):
        done = self.call("build", "--layers", "--network", "host", "-f", file, "-t", tag, *args, context)
        return (done.stdout + done.stderr).decode(errors="replace")

    def run(self, tag, command):
        raise Skip("buildah has no run for images")

    serve_command = None

    def export(self, tag, layout, build):
        self.call("push", tag, f"oci:{layout}:image")


class Docker:
    """BuildKit inside Debian's dockerd, started for the occasion: a daemon on a private socket and directory that
    touches neither the machine's network nor its docker. `Skip` where there is none."""

    name, program, server = "docker", "/usr/bin/docker", "/usr/sbin/dockerd"

    def __init__(self, user, mirror, place=None):
        for program in (self.program, self.server):
            if not os.path.exists(program):
                raise Skip(f"{program} is not installed (docker.io)")
        if os.geteuid() != 0:
            raise Skip("dockerd needs root")
        self.user = user
        self.dir = tempfile.mkdtemp(prefix="dockerd.", dir=place)
        self.sock = f"unix://{self.dir}/sock"
        self.log = open(f"{self.dir}/log", "w")
        self.daemon = subprocess.Popen(
            [self.server, "--iptables=false", "--bridge=none", "-H", self.sock, "--data-root", f"{self.dir}/data",
             "--exec-root", f"{self.dir}/exec", "--pidfile", f"{self.dir}/pid", "--registry-mirror", f"http://{mirror}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=plain_env(user))
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self):
        end = time.monotonic() + 30
        while self.client("version").returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > end:
                with open(self.log.name) as log:
                    raise Skip(f"dockerd does not start here: {log.read().strip().splitlines()[-1:]}")
            time.sleep(0.1)

    def env(self):
        return plain_env(self.user, DOCKER_HOST=self.sock, DOCKER_BUILDKIT="1", BUILDKIT_PROGRESS="plain")

    def client(self, *args, timeout=300):
        return self.user.run([self.program, *args], env=self.env(), timeout=timeout)

    def call(self, *args):
        done = self.client(*args, timeout=1200)
        if done.returncode != 0:
            raise Failure(f"docker {' '.join(args)}: exit status {done.returncode}\n{tail(done.stderr)}")
        return done

    def build(self, context, file, tag, args=()):
        done = self.call("build", "--network", "host", "-f", file, "-t", tag, *args, context)
        return (done.stdout + done.stderr).decode(errors="replace")

    def run(self, tag, command):
        raise Skip("the daemon was started without a network for containers")

    serve_command = None

    def export(self, tag, layout, build):
        archive = f"{self.dir}/save.tar"
        self.call("save", "-o", archive, tag)
        subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{archive}", f"oci:{layout}:image"], check=True)
        os.unlink(archive)

    def close(self):
        self.daemon.terminate()
        self.daemon.wait(30)
        self.log.close()
        unmount_below(self.dir)
        shutil.rmtree(self.dir, ignore_errors=True)


def load_layout(layout):
    """(manifest, config, path of each layer blob) of the one image in an OCI layout."""
    def blob(digest):
        return os.path.join(layout, "blobs", *digest.split(":"))

    with open(os.path.join(layout, "index.json")) as f:
        entry = json.load(f)["manifests"][0]
    with open(blob(entry["digest"])) as f:
        manifest = json.load(f)
    if "manifests" in manifest:
        with open(blob(manifest["manifests"][0]["digest"])) as f:
            manifest = json.load(f)
    with open(blob(manifest["config"]["digest"])) as f:
        config = json.load(f)
    return manifest, config, [blob(l["digest"]) for l in manifest["layers"]]
