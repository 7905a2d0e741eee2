"""Who builds: lapstrake, or a peer in its place, so that the scenarios themselves can be tested."""

import json
import os
import shutil
import subprocess
import tempfile

from .report import Failure, Skip


def tail(data, lines=30):
    return "\n".join(data.decode(errors="replace").rstrip().splitlines()[-lines:])


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
    """BuildKit inside Debian's dockerd, started for the occasion."""

    name = "docker"

    def __init__(self, user, mirror):
        self.user = user
        self.dir = tempfile.mkdtemp(prefix="dockerd.")
        self.sock = f"unix://{self.dir}/sock"
        self.log = open(f"{self.dir}/log", "w")
        self.daemon = subprocess.Popen(
            ["/usr/sbin/dockerd", "--iptables=false", "--bridge=none", "-H", self.sock, "--data-root", f"{self.dir}/data",
             "--exec-root", f"{self.dir}/exec", "--pidfile", f"{self.dir}/pid", "--registry-mirror", f"http://{mirror}"],
            stdout=self.log, stderr=self.log)

    def call(self, *args):
        env = {**self.user.env(), "DOCKER_HOST": self.sock, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
        for _ in range(100):
            if subprocess.run(["/usr/bin/docker", "version"], env=env, capture_output=True).returncode == 0:
                break
            subprocess.run(["sleep", "0.2"])
        done = self.user.run(["/usr/bin/docker", *args], env=env, timeout=1200)
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
