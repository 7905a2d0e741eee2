"""Who builds: lapstrake as somebody, BuildKit in dockerd, buildah. Each hands back an image or why not."""

import json
import os
import re
import shutil
import subprocess
import threading

from harness import builders
from harness.report import Skip

from . import image


class Refused(Exception):
    """The build failed; the text is what was said for people."""


def version(command):
    """The version a program gives, as numbers and as text."""
    text = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(n) for n in found.groups() if n), found.group(0)


class Lapstrake:
    name = "lapstrake"

    def __init__(self, binary, user, mirror):
        self.inner = builders.Lapstrake(binary, user, mirror)
        self.user, self.layers = user, image.Layers()

    def build(self, case, context, text):
        folder = self.user.subdir("out/" + os.path.basename(os.path.dirname(context)))
        layout = os.path.join(folder, "layout")
        command = self.inner.args("build", "--progress", "plain", "-o",
                                  f"type=oci,tar=false,dest={layout},compression=uncompressed")
        done = self.user.run([*command, *flags(case, context, text, self.name), context], env=builders.plain_env(self.user),
                             timeout=300)
        if done.returncode != 0:
            message = done.stderr.decode(errors="replace")
            if done.returncode not in (2, 3, 4, 5):
                raise RuntimeError(f"lapstrake: exit status {done.returncode}\n{message}")
            raise Refused(message)
        found = image.load_layout(layout, self.layers)
        shutil.rmtree(layout)
        return found

    def close(self):
        pass


def flags(case, context, text, who):
    """The flags of a case, with the Dockerfile written beside the context."""
    folder = os.path.dirname(context)
    args = [a.replace("{dir}", folder) for a in case.args]
    if not case.inside:
        path = os.path.join(folder, f"Dockerfile.{who}")
        with open(path, "wb") as f:
            f.write(text.encode() if isinstance(text, str) else text)
        args += ["-f", path]
    return args


class Docker:
    """The BuildKit of Debian's dockerd, in a daemon of our own: see harness.builders."""

    name = "docker"

    def __init__(self, user, mirror):
        self.user, self.mirror, self.layers = user, mirror, image.Layers()
        self.lock = threading.Lock()
        self.inner = builders.Docker(user, mirror)
        self.version, self.version_text = version([self.inner.program])

    def build(self, case, context, text):
        """Old daemons fall over some wrong Dockerfiles, and the builds beside them with them: another daemon, and
        another go."""
        for _ in range(3):
            daemon = self.inner
            try:
                return self._build(case, context, text)
            except Exception:
                if not self._fell(daemon):
                    raise
        raise Refused("dockerd ends in a crash")

    def _fell(self, daemon):
        try:
            daemon.daemon.wait(0.2)
        except subprocess.TimeoutExpired:
            return False
        with self.lock:
            if self.inner is daemon:
                daemon.close()
                self.inner = builders.Docker(self.user, self.mirror)
        return True

    def _build(self, case, context, text):
        folder = os.path.dirname(context)
        note, saved = os.path.join(folder, "docker.id"), os.path.join(folder, "docker.tar")
        done = self.inner.client("build", "--network", "host", "--iidfile", note, *flags(case, context, text, self.name), context)
        if done.returncode != 0:
            raise Refused((done.stdout + done.stderr).decode(errors="replace"))
        with open(note) as f:
            name = f.read().strip()
        done = self.inner.client("save", "-o", saved, name)
        if b"empty export" in done.stderr:
            return self._without_layers(name)
        if done.returncode != 0:
            raise RuntimeError(f"docker save {name}: {done.stderr.decode(errors='replace')}")
        found = image.load_saved(saved, self.layers)
        os.unlink(saved)
        return found

    def _without_layers(self, name):
        """docker cannot save an image of no layers; what it says of it is all but the history."""
        found = json.loads(self.inner.client("image", "inspect", name).stdout)[0]
        keys = {"config": "Config", "os": "Os", "architecture": "Architecture", "author": "Author"}
        return image.Image({k: found.get(v) for k, v in keys.items()}, [])

    def close(self):
        self.inner.close()


class Buildah:
    """Debian's buildah, as root, with docker's image format, which has room for the whole configuration."""

    name = "buildah"

    def __init__(self, user, mirror):
        if not shutil.which("buildah"):
            raise Skip("buildah is not installed")
        if os.geteuid() != 0:
            raise Skip("buildah is used as root")
        self.version, self.version_text = version(["buildah"])
        self.inner = builders.Buildah(user, mirror)
        self.user, self.layers = user, image.Layers()

    def _run(self, *args):
        store = self.user.store
        base = ["buildah", "--root", store + "/s", "--runroot", store + "/r", "--registries-conf", self.inner.conf]
        return self.user.run([*base, *args], env=builders.plain_env(self.user, BUILDAH_ISOLATION="chroot"), timeout=600)

    def build(self, case, context, text):
        folder = os.path.dirname(context)
        note, layout = os.path.join(folder, "buildah.id"), os.path.join(folder, "buildah.layout")
        done = self._run("build", "--layers", "--format", "docker", "--identity-label=false", "--network", "host", "--iidfile", note,
                         *flags(case, context, text, self.name), context)
        if done.returncode != 0:
            raise Refused((done.stdout + done.stderr).decode(errors="replace"))
        with open(note) as f:
            name = f.read().strip().removeprefix("sha256:")
        if not name:  # a step that failed may still end in exit status 0
            raise Refused((done.stdout + done.stderr).decode(errors="replace"))
        done = self._run("push", "--format", "v2s2", name, f"dir:{layout}")
        if done.returncode != 0:
            raise RuntimeError(f"buildah push {name}: {done.stderr.decode(errors='replace')}")
        found = image.load_dir(layout, self.layers)
        shutil.rmtree(layout)
        return found

    def close(self):
        self._run("rm", "-a")
        self._run("rmi", "-a", "-f")


PEERS = {"docker": Docker, "buildah": Buildah}
