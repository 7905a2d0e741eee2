"""The builders that are measured: lapstrake and buildah as an unprivileged user, BuildKit in a daemon as root.

Each has `title`, `version`, `user` and `env`; `build`, `export` and the cache commands return a command line or
raise `Skip` with the reason why there is none; `empty` leaves its store as on a new machine; `watch` measures memory.
"""

import os
import shlex
import shutil
import subprocess

from harness import builders, measure
from harness.report import Failure, Skip

TAG = "bench"


def first_line(command):
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0].strip()


class Lapstrake:
    name = title = "lapstrake"
    slow = None  # always measured as often as is asked for

    def __init__(self, binary, user, mirror):
        self.user, self.binary = user, binary
        self.base = [binary, "--root", user.store, "--registry-mirror", f"docker.io=http://{mirror}"]
        self.env = builders.plain_env(user)
        self.version = first_line([binary, "version"])
        self.help = subprocess.run([binary, "build", "--help"], capture_output=True, text=True).stdout

    def build(self, context, *args, cached=False):
        return [*self.base, "build", "--progress", "plain", *([] if cached else ["--no-cache"]), "-t", TAG, *args, context]

    def export(self, context, dest, kind, *args):
        """The image that `build` made, with cached steps, as an archive whose layers are compressed."""
        return [*self.base, "build", "--progress", "plain", "-o", f"type=oci,dest={dest},compression={kind}", *args, context]

    def built_and_exported(self, context, dest, *args):
        return [*self.base, "build", "--progress", "plain", "--no-cache", "-o", f"type=oci,dest={dest},compression=gzip",
                *args, context]

    def cache_to(self, context, host):
        if "--cache-to" not in self.help:
            raise Skip("this version has no --cache-to")
        return [self.build(context, "--cache-to", f"type=registry,ref={host}/cache-lapstrake,mode=max", cached=True)]

    def cache_from(self, context, host):
        return self.build(context, "--cache-from", f"type=registry,ref={host}/cache-lapstrake", cached=True)

    def empty(self):
        shutil.rmtree(self.user.store, ignore_errors=True)
        if os.path.exists(self.user.store):
            raise Failure(f"{self.user.store} cannot be removed")

    def watch(self):
        return measure.Watch([self.binary])

    def close(self):
        pass


class Buildah:
    name, slow = "buildah", 10

    def __init__(self, isolation, user, mirror):
        if not shutil.which("buildah"):
            raise Skip("buildah is not installed")
        self.user, self.isolation, self.title = user, isolation, f"buildah, {isolation}"
        self.version = first_line(["buildah", "--version"])
        self.place = user.subdir("buildah-" + isolation)
        conf = os.path.join(self.place, "registries.conf")
        with open(conf, "w") as f:
            f.write(f'unqualified-search-registries = ["docker.io"]\n[[registry]]\nlocation = "docker.io"\n'
                    f'[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = true\n')
        self.base = ["buildah", "--root", self.place + "/s", "--runroot", self.place + "/r", "--storage-driver", "overlay",
                     "--registries-conf", conf]
        self.runtime = shutil.which("crun") or shutil.which("runc")
        if isolation == "oci" and not self.runtime:
            raise Skip("neither crun nor runc is installed")
        self.env = builders.plain_env(user, BUILDAH_ISOLATION=isolation, XDG_RUNTIME_DIR=user.subdir("runtime"),
                                      **({"BUILDAH_RUNTIME": self.runtime} if self.runtime else {}))

    def build(self, context, *args, cached=False):
        return [*self.base, "build", "--network", "host", "--layers=true", "--jobs", "8", *([] if cached else ["--no-cache"]),
                "-t", TAG, *args, context]

    def export(self, context, dest, kind, *args):
        return [*self.base, "push", "-q", "--compression-format", kind, TAG, f"oci-archive:{dest}"]

    def built_and_exported(self, context, dest, *args):
        return both(self.build(context, *args), self.export(context, dest, "gzip"))

    def cache_to(self, context, host):
        return [self.build(context, "--tls-verify=false", "--cache-to", f"{host}/cache-buildah", cached=True)]

    def cache_from(self, context, host):
        return self.build(context, "--tls-verify=false", "--cache-from", f"{host}/cache-buildah", cached=True)

    def empty(self):
        done = self.user.run([*self.base, "rmi", "-a", "-f"], env=self.env)
        if done.returncode != 0:
            raise Failure(f"buildah rmi: {done.stderr.decode(errors='replace')[-500:]}")

    def watch(self):
        return measure.Watch([p for p in (shutil.which("buildah"), self.runtime, shutil.which("conmon")) if p])

    def close(self):
        builders.unmount_below(self.place)


class Docker:
    name, title, slow = "docker", "BuildKit", 10

    def __init__(self, user, mirror, place, host):
        self.user, self.host = user, host
        self.inner = builders.Docker(user, mirror, place)
        self.env = self.inner.env()
        self.base = [self.inner.program]
        self.version = "BuildKit of dockerd " + self.inner.client("version", "-f", "{{.Server.Version}}").stdout.decode().strip()

    def build(self, context, *args, cached=False):
        return [*self.base, "build", "--network", "host", *([] if cached else ["--no-cache"]), "-t", TAG, *args, context]

    def export(self, context, dest, kind, *args):
        """This daemon compresses only what it pushes."""
        if kind != "gzip":
            raise Skip(f"does not write {kind}")
        name = f"{self.host}/{os.path.basename(dest)}"
        return both([*self.base, "tag", TAG, name], [*self.base, "push", "-q", name])

    def built_and_exported(self, context, dest, *args):
        return both(self.build(context, *args), self.export(context, dest, "gzip"))

    def cache_to(self, context, host):
        """What this old one has: the final image says which steps made its layers."""
        name = f"{host}/cache-docker"
        return [self.build(context, "--build-arg", "BUILDKIT_INLINE_CACHE=1", "-t", name, cached=True),
                [*self.base, "push", "-q", name]]

    def cache_from(self, context, host):
        return self.build(context, "--build-arg", "BUILDKIT_INLINE_CACHE=1", "--cache-from", f"{host}/cache-docker", cached=True)

    def empty(self):
        for command in (["system", "prune", "-af"], ["builder", "prune", "-af"]):
            self.inner.call(*command)

    def watch(self):
        return measure.Daemons(self._daemons)

    def _daemons(self):
        """dockerd and the containerd that it started."""
        mine = str(self.inner.daemon.pid)
        found = [mine]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    name, _, rest = f.read().rpartition(")")
            except OSError:
                continue
            if rest.split()[1] == mine and name.endswith("(containerd"):
                found.append(pid)
        return found

    def close(self):
        self.inner.close()


def both(first, second):
    """Two commands as one: the second after the first has succeeded."""
    return ["sh", "-c", f"{shlex.join(first)} && {shlex.join(second)}"]
