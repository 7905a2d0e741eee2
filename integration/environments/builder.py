"""Lapstrake in a place, and a scenario's checks there."""

import json
import os
import re
import resource
import time

from harness import builders, scenario
from harness.report import Failure, expect, same

from . import table

ENVIRONMENT = 6  # the exit status where this environment cannot build
SIGNS = [(table.MANY, r"userns-many|user namespace with \d+ ids"), (table.ONE, r"userns-one|user namespace with one id"),
         (table.CHROOT, r"chroot|changed root directory")]


class Lapstrake(builders.Lapstrake):
    """Started in a place; its user is the place."""

    def args(self, *args):
        mirror = ["--registry-mirror", f"docker.io=http://{self.mirror}"]
        return self.user.enter([self.user.binary, *mirror, *args], SOURCE_DATE_EPOCH=table.EPOCH)

    def doctor(self, mode):
        """That it names the mode and the store which are expected here."""
        done = self.call("doctor", "--json", ok=False, timeout=120)
        told = json.loads(done.stdout)
        same(told["sandbox"], None if mode == table.REFUSED else mode, f"sandbox; of others it says: {told['modes']}")
        if mode != table.REFUSED:
            same(told["store"]["path"], self.user.store(), f"store; it tried {told['store']['tried']}")
        return True

    def refused(self, context, file, says):
        """That a build ends at once, with the one line that helps. Returns what was said."""
        done = self.call("build", "--progress", "plain", "-f", file, context, ok=False, timeout=120)
        text = done.stderr.decode(errors="replace")
        same(done.returncode, ENVIRONMENT, f"exit status of a build that cannot be; it said:\n{builders.tail(done.stderr)}")
        expect(re.search(says, text), f"the message does not match {says!r}:\n{text}")
        expect("RUN" not in text and "panicked" not in text, f"something was built, or it broke:\n{text}")
        return text


def mode_of(log):
    """The mode that the build's output names."""
    line = re.search(r"^.*sandbox: (.*)$", log, re.M)
    expect(line, f"the build's output does not name its sandbox:\n{log[:1000]}")
    for mode, sign in SIGNS:
        if re.match(sign, line[1]):
            return mode
    raise Failure(f"not a mode: {line[1]}")


def computed():
    """Seconds of processors that programs have used which were started from here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def digest_of(layout):
    with open(os.path.join(layout, "index.json")) as f:
        return json.load(f)["manifests"][0]["digest"]


class Run(scenario.Run):
    """The checks of a scenario in a place. With `reference` (tag -> digest, layers) an image must be the same as
    there, which then has been judged; without, it is judged here, `light`ly or by all peers, and becomes the reference."""

    def __init__(self, report, name, spec, builder, registry, scratch, reference, light=False):
        super().__init__(report, name, spec, builder, registry, scratch)
        self.reference, self.light, self.images = reference, light, {}
        self.seconds, self.computing, self.mode = 0.0, 0.0, None

    def build(self, image):
        context, file = self.paths(image)
        begin, used = time.monotonic(), computed()
        log = self.builder.build(context, file, image["tag"], image.get("args", []))
        self.seconds += time.monotonic() - begin
        self.computing += computed() - used
        self.mode = mode_of(log)
        same(self.mode, table.expected(self.user.environment), "mode of the sandbox")
        self.said(image, log)
        return True

    def export(self, image, layout):
        peer = super().export(image, layout)
        self.images[image["tag"]] = (digest_of(layout), [entry["digest"] for entry in peer.manifest["layers"]])
        return peer

    def judged(self, image):
        """An image that the reference is, byte for byte, has been judged; others are looked into."""
        if self.reference is None:
            super().judged({**image, "peers": False} if self.light else image)
        elif image["tag"] in table.UNLIKE or image["tag"] not in self.reference:
            super().judged({**image, "peers": False})
        else:
            layout = self.layout(image)
            peer = self.report.check(self.title(image, "exported as an OCI layout"), self.export, image, layout)
            if peer is not None:
                self.exported[image["tag"]] = peer
                self.report.check(self.title(image, "is the reference's image"), self.equal, image["tag"])

    def equal(self, tag):
        (mine, layers), (theirs, wanted) = self.images[tag], self.reference[tag]
        differ = [n for n, (a, b) in enumerate(zip(layers, wanted)) if a != b]
        same(mine, theirs, f"manifest; of {len(layers)} layers (reference: {len(wanted)}) these differ: {differ}")
        return True


def make(place, registry):
    return Lapstrake(place.binary, place, registry.host)
