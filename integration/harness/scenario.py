"""One folder of `scenarios/`: build, run, and have the result judged by other programs."""

import json
import os
import shutil
import subprocess
import sys

from . import peers, registry
from .report import Failure, Skip, expect, same

TOP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scenarios")
WAITS = "waits for the owner supervisor"


def load_all():
    found = []
    for name in sorted(os.listdir(TOP)):
        path = os.path.join(TOP, name, "scenario.json")
        if os.path.exists(path):
            with open(path) as f:
                found.append((name, json.load(f)))
    return found


def npm_reachable(bases):
    """Whether this machine's npm registry answers, as far as this machine can tell without npm."""
    from . import bases as b
    import urllib.request
    line = b.npmrc().partition("=")[2].strip()
    if shutil.which("npm"):
        done = subprocess.run(["npm", "ping"], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        return done.returncode == 0
    if not line:
        return True
    try:
        urllib.request.urlopen(line, timeout=20).close()
        return True
    except OSError:
        return False


class Run:
    """The checks of one scenario for one user."""

    def __init__(self, report, name, spec, builder, registry_server, scratch):
        self.report, self.name, self.spec = report, name, spec
        self.builder, self.user, self.registry = builder, builder.user, registry_server
        self.scratch = scratch
        self.exported = {}

    def title(self, image, what):
        return f"{self.name} [{self.user.mode}] {image['tag']}: {what}"

    def paths(self, image):
        """The user's own copies of the context and of the Dockerfile."""
        home = os.path.join(TOP, self.name)
        source = os.path.normpath(os.path.join(home, self.spec.get("context", ".")))
        context = self.user.take(source, "context-" + os.path.basename(source))
        if source == home:
            return context, os.path.join(context, image.get("file", "Dockerfile"))
        files = self.user.take(home, "files-" + self.name)
        return context, os.path.join(files, image.get("file", "Dockerfile"))

    def all(self):
        for image in self.spec["images"]:
            if self.report.check(self.title(image, "builds"), self.build, image) is None:
                continue
            self.running(image)
            self.judged(image)
        if "sizes" in self.spec:
            self.report.check(f"{self.name} [{self.user.mode}] final image is a small fraction of the builder stage",
                              self.sizes, self.spec["sizes"])

    def build(self, image):
        context, file = self.paths(image)
        self.said(image, self.builder.build(context, file, image["tag"], image.get("args", [])))
        return True

    @staticmethod
    def said(image, log):
        for text in image.get("log_has", []):
            expect(text in log, f"the build's output lacks {text!r}:\n{log[-2000:]}")
        for text in image.get("log_lacks", []):
            expect(text not in log, f"the build's output has {text!r}: a step ran that must not:\n{log[-2000:]}")

    def running(self, image):
        """What the image prints when the builder itself runs it."""
        if self.builder.serve_command is None:
            return
        for run in image.get("runs", []):
            what = f"lapstrake run {' '.join(run['cmd'])[:40]}".rstrip()
            self.report.check(self.title(image, what), self.compare, run,
                              lambda cmd: self.builder.run(image["tag"], cmd))
        if "serve" in image:
            serve = image["serve"]
            self.report.check(self.title(image, "lapstrake run serves"), self.served, serve,
                              self.builder.serve_command(image["tag"], serve["cmd"]), True)

    def layout(self, image):
        """Where the image is exported to."""
        return os.path.join(self.user.subdir("export"), image["tag"].replace("/", "-").replace(":", "-"))

    def judged(self, image):
        layout = self.layout(image)
        peer = self.report.check(self.title(image, "exported as an OCI layout"), self.export, image, layout)
        if peer is None:
            return
        self.exported[image["tag"]] = peer
        self.report.check(self.title(image, "GNU tar lists its layers"), peer.listing, image)
        if "owners" in image or "xattrs" in image:
            self.report.check(self.title(image, "owners and attributes in the layers"), peer.attributes, image)
        if not image.get("peers", True):
            return
        self.report.check(self.title(image, "skopeo inspect"), peer.inspect, image.get("config", {}))
        if "base" in image and self.builder.serve_command is not None:
            self.report.check(self.title(image, "its base's layers are unchanged"), peer.keeps_base,
                              self.registry, image["base"])
        archive = self.report.check(self.title(image, "skopeo copy: layout, registry, docker archive"), peer.copies,
                                    self.registry, f"{image['tag'].split(':')[0]}-{self.user.mode}")
        if archive and self.user.mode == "many":
            self.report.check(self.title(image, "podman load"), peer.podman_load, archive)
        bundle = self.report.check(self.title(image, "umoci unpack"), peer.bundle)
        if bundle:
            self.in_runc(image, peer, bundle)

    def export(self, image, layout):
        context, file = self.paths(image)
        log = self.builder.export(image["tag"], layout, (context, file, image.get("args", [])))
        peer = peers.Image(layout, os.path.join(self.scratch, "peer"))
        if log is not None:
            same(peer.manifest["config"]["digest"], self.builder.image_id(), "image id of the cached build")
        return peer

    def in_runc(self, image, peer, bundle):
        if "listing" in image:
            self.report.check(self.title(image, "umoci's tree is the one that the last step saw"), peer.same_files,
                              bundle, image["listing"])
        for run in image.get("runs", []):
            self.report.check(self.title(image, f"runc run {' '.join(run['cmd'])[:40]}".rstrip()), self.compare, run,
                              lambda cmd: peer.runc(bundle, cmd))
        if "serve" in image:
            serve = {k: v for k, v in image["serve"].items() if k != "waits"}
            command = peer.serve_command(bundle, serve["cmd"])
            self.report.check(self.title(image, "runc run serves"), self.served, serve, command, False)
        shutil.rmtree(bundle)

    @staticmethod
    def compare(run, call):
        out = call(run["cmd"])
        if "stdout" in run:
            same(out, run["stdout"], "standard output")
        else:
            expect(run["stdout_has"] in out, f"standard output lacks {run['stdout_has']!r}: {out!r}")
        return True

    def served(self, serve, command, as_user):
        if os.geteuid() != 0 and serve["port"] < 1024:
            raise Skip(f"port {serve['port']} needs a network namespace that only root can make")
        reply = self.ask(serve, command, as_user)
        try:
            same(reply["status"], 200, f"HTTP status; the server said:\n{reply['body']}\n{reply['log']}")
            if "body" in serve:
                same(reply["body"].strip(), serve["body"], "page")
            else:
                expect(serve["body_has"] in reply["body"], f"the page lacks {serve['body_has']!r}: {reply['body']!r}")
            expect(reply["ended"], f"it was still running 20 s after SIGTERM:\n{reply['log']}")
        except Failure as e:
            if self.user.mode == "one" and "waits" in serve:
                raise Skip(f"{WAITS}: {serve['waits']}") from e
            raise
        return True

    def ask(self, serve, command, as_user):
        job = {"netns": os.geteuid() == 0, "cmd": command, "cwd": self.user.dir, "port": serve["port"],
               "path": serve["path"], "post": serve.get("post"), "log": os.path.join(self.user.dir, "serve.log"),
               "env": self.user.env() if as_user else dict(os.environ),
               "uid": self.user.uid if as_user and os.geteuid() == 0 else 0, "gid": self.user.gid}
        done = subprocess.run([sys.executable, "-m", "harness.serve", json.dumps(job)], capture_output=True,
                              cwd=os.path.dirname(TOP), stdin=subprocess.DEVNULL, timeout=180)
        if done.returncode != 0:
            raise Failure(f"harness: {done.stderr.decode(errors='replace')}")
        return json.loads(done.stdout)

    def sizes(self, spec):
        both = []
        for role in ("large", "small"):
            if spec[role] not in self.exported:
                raise Skip(f"{spec[role]} was not built")
            stored, plain = self.exported[spec[role]].sizes()
            both.append(plain)
            self.report.note(f"{spec[role]}: {plain / 1e6:.1f} MB unpacked, {stored / 1e6:.1f} MB as stored")
        expect(both[1] <= both[0] * spec["at_most"], f"{both[1]} bytes is more than {spec['at_most']} of {both[0]}")
        return True


def by_mode(env):
    """{mode: its scenarios}, of those that are wanted. A mode has one user and one store, so its scenarios run one
    after the other, but those of different modes have nothing in common."""
    found = {}
    for name, spec in load_all():
        for mode in spec.get("modes", ["many", "one"]):
            if env.wanted(f"{name} {mode}"):
                found.setdefault(mode, []).append((name, spec))
    return found


def run_all(report, env, mode, scenarios):
    """The scenarios of one mode; `env` has builder_for, npm, registry, scratch."""
    builder = env.builder_for(mode)
    for name, spec in scenarios:
        if isinstance(builder, str):
            report.skip(f"{name} [{mode}]", builder)
        elif "npm" in spec.get("needs", []) and not env.npm():
            report.skip(f"{name} [{mode}]", "the npm registry of this machine does not answer")
        else:
            with report.part(f"{name} [{mode}]: {spec['about']}"):
                Run(report, name, spec, builder, env.registry, env.scratch).all()
