"""The base images of the cases: busybox with users, groups and odd files, under several configurations."""

import io
import os
import tarfile

from harness import bases, oci

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
mona:x:1000:1000:Mona:/home/mona:/bin/sh
jack:x:1001:2000::/home/jack:/bin/sh
homeless:x:1002:1002:::/bin/sh
1003:x:4003:4004:a number for a name:/home/number:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
wheel:x:10:root,mona
crew:x:2000:mona
deck:x:2001:mona,jack
mona:x:1000:
homeless:x:1002:
nobody:x:65534:
"""
ENV = [f"PATH={bases.PATH}", "BASE_ONE=one", "BASE_TWO=two words", "BASE_EMPTY="]

FULL = {
    "Env": [*ENV, "FROM_BASE=full"], "Cmd": ["base-cmd"], "Entrypoint": ["/bin/base-entry", "arg"], "User": "mona:crew",
    "WorkingDir": "/home/mona", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
    "Labels": {"base.label": "kept", "override": "base"}, "StopSignal": "SIGQUIT", "Shell": ["/bin/sh", "-ec"],
    "Healthcheck": {"Test": ["CMD", "/bin/true"], "Interval": 7_000_000_000, "Retries": 4},
}
TRIGGERS = {
    "Env": ENV, "Cmd": ["sh"],
    "OnBuild": ["ARG TRIGGER_ARG=fallback", "ENV TRIGGERED=${TRIGGER_ARG}", "COPY trigger.txt /trigger/",
                "RUN echo \"$TRIGGERED\" > /trigger/ran && id -u >> /trigger/ran", "LABEL trigger=$BASE_ONE"],
}
# name -> (layers, config)
IMAGES = {
    "shelf": (["busybox", "shelf"], {"Env": ENV, "Cmd": ["sh"], "Labels": {"base": "shelf"}}),
    "bare": (["busybox"], {}),
    "full": (["busybox", "shelf"], FULL),
    "triggers": (["busybox"], TRIGGERS),
    "hollow": ([], {"Env": ["HOLLOW=yes"], "Labels": {"base": "hollow"}}),
}


def _odd(tar):
    def add(name, kind=tarfile.REGTYPE, content="", mode=0o644, owner=(0, 0), target="", xattrs=None, dev=(0, 0)):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime, info.linkname = kind, mode, bases_epoch(), target
        info.uid, info.gid = owner
        info.devmajor, info.devminor = dev
        info.pax_headers = {"SCHILY.xattr." + k: v for k, v in (xattrs or {}).items()}
        body = content.encode() if kind == tarfile.REGTYPE else b""
        info.size = len(body)
        tar.addfile(info, io.BytesIO(body))

    directory, link, hard = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    for name, mode, owner in (("etc", 0o755, (0, 0)), ("tmp", 0o1777, (0, 0)), ("root", 0o700, (0, 0)),
                              ("home", 0o755, (0, 0)), ("home/mona", 0o750, (1000, 1000)),
                              ("home/jack", 0o700, (1001, 2000)), ("odd", 0o755, (0, 0)), ("odd/sticky", 0o1770, (1, 2000)),
                              ("odd/shared", 0o2775, (1000, 2000)), ("odd/closed", 0o000, (0, 0)),
                              ("odd/full", 0o755, (0, 0)), ("odd/full/deep", 0o711, (1000, 1000)),
                              ("odd/empty", 0o755, (0, 0))):
        add(name, directory, mode=mode, owner=owner)
    add("etc/passwd", content=PASSWD)
    add("etc/group", content=GROUP)
    add("etc/shadow", content="root:*:::::::\n", mode=0o600)
    for name in ("one", "two", "three", "deep/four"):
        add(f"odd/full/{name}", content=name + "\n")
    add("odd/setuid", content="#!/bin/sh\nid -u\n", mode=0o4755)
    add("odd/setgid", content="#!/bin/sh\nid -g\n", mode=0o2755, owner=(1, 2000))
    add("odd/private", content="private\n", mode=0o600, owner=(1000, 1000))
    add("odd/unreadable", content="unreadable\n", mode=0o000)
    add("odd/hard1", content="several names\n", owner=(1000, 1000))
    add("odd/hard2", hard, owner=(1000, 1000), target="odd/hard1")
    add("odd/full/hard3", hard, owner=(1000, 1000), target="odd/hard1")
    add("odd/to-file", link, target="full/one", mode=0o777)
    add("odd/to-dir", link, target="/odd/full", mode=0o777)
    add("odd/dangling", link, target="nowhere/yet", mode=0o777)
    add("odd/loop", link, target="loop", mode=0o777)
    add("odd/escape", link, target="../../../../../../etc/passwd", mode=0o777)
    add("odd/fifo", tarfile.FIFOTYPE, mode=0o640, owner=(1000, 2000))
    add("odd/null", tarfile.CHRTYPE, mode=0o666, dev=(1, 3))
    add("odd/name with space", content="space\n")
    add("odd/ümlaut", content="umlaut\n")
    add("odd/capable", content="capable\n", mode=0o755,
        xattrs={"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"})


def bases_epoch():
    return 1_500_000_000


def push(server, scratch):
    """Serves the images; busybox's layer is that of harness.bases."""
    client = server.client()
    entry = client.manifest("library/busybox", "latest")[1]
    body = client.blob("library/busybox", entry["layers"][0]["digest"])
    busy = os.path.join(scratch, "busybox.layer")
    with open(busy, "wb") as f:
        f.write(body)
    config = oci.json.loads(client.blob("library/busybox", entry["config"]["digest"]))
    made = {"busybox": oci.Layer(busy, entry["layers"][0]["digest"], len(body), config["rootfs"]["diff_ids"][0], "gzip")}
    writer = oci.LayerWriter(os.path.join(scratch, "shelf.layer"))
    with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _odd(tar)
    made["shelf"] = writer.finish()
    for name, (layers, config) in IMAGES.items():
        chosen = [made[n] for n in layers]
        image = oci.image_config(chosen, bases.ARCH, config, [f"layer {n}" for n in layers])
        oci.push_image(client, f"library/{name}", "latest", chosen, image)
