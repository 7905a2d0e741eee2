"""The base images of the cases: `plain` is the distribution's busybox, `tools` its Debian with the programs that set
capabilities, access lists and extended attributes, and Python.

The packages are unpacked and not installed, so that no program of theirs has to run.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile

from harness import bases, oci

PACKAGES = ["acl", "attr", "libcap2-bin", "python3-minimal"]
DEBIAN, BUSYBOX = ("library/debian", "bookworm-slim"), ("library/busybox", "latest")
# Debian's directories that are links to those below usr.
MERGED = ("bin", "sbin", "lib", "lib64")
EPOCH = 1_500_000_000


def ensure(cache, server):
    """Sees to it that `server` serves both."""
    client = server.client()
    manifest = client.manifest(*DEBIAN)[1]
    with open(__file__, "rb") as f:
        key = hashlib.sha256(f.read() + json.dumps(manifest).encode()).hexdigest()
    stamp = os.path.join(cache, "made-equality")
    if os.path.exists(stamp) and open(stamp).read() == key:
        return
    work = tempfile.mkdtemp(prefix="equality.", dir=cache)
    try:
        _push_same(client, BUSYBOX, "plain", {})
        _push_same(client, DEBIAN, "tools", {"PYTHONDONTWRITEBYTECODE": "1"}, _tools(client, manifest, work))
    finally:
        shutil.rmtree(work)
    with open(stamp, "w") as f:
        f.write(key)


def _push_same(client, source, name, env, extra=None):
    """An image of the layers of `source` and perhaps one more under another name."""
    manifest = client.manifest(*source)[1]
    config = json.loads(client.blob(source[0], manifest["config"]["digest"]))
    repo = f"library/{name}"
    layers = list(manifest["layers"])
    for layer in layers:
        body = client.blob(source[0], layer["digest"])
        client.put_blob(repo, layer["digest"], layer["size"], body)
    if extra:
        with open(extra.path, "rb") as f:
            client.put_blob(repo, extra.digest, extra.size, f)
        layers.append({"mediaType": oci.OCI["gzip"], "digest": extra.digest, "size": extra.size})
        config["rootfs"]["diff_ids"].append(extra.diff_id)
        config["history"].append({"created": oci.CREATED, "created_by": f"files of {', '.join(PACKAGES)}"})
    config["config"]["Env"] = [*config["config"].get("Env", []), *(f"{k}={v}" for k, v in env.items())]
    data = json.dumps(config).encode()
    client.put_blob(repo, oci.sha256(data), len(data), data)
    made = {**manifest, "layers": layers,
            "config": {**manifest["config"], "digest": oci.sha256(data), "size": len(data)}}
    client.put_manifest(repo, "latest", manifest["mediaType"], json.dumps(made).encode())


def _installed(client, manifest):
    """The names of the packages of the Debian image."""
    layer = client.blob(DEBIAN[0], manifest["layers"][0]["digest"])
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        member = next(m for m in tar if m.name.removeprefix("./") == "var/lib/dpkg/status")
        text = tar.extractfile(member).read().decode()
    return {line.split()[1] for line in text.splitlines() if line.startswith("Package: ")}


def _tools(client, manifest, work):
    """The layer of the packages and of what they need beyond those of the image."""
    only = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    told = subprocess.run(["apt-cache", "depends", "--recurse", *only, *PACKAGES], check=True, capture_output=True, text=True)
    needed = {line for line in told.stdout.splitlines() if line[:1].isalnum()}
    wanted = sorted(name for name in needed - _installed(client, manifest) if ":" not in name)
    root, spool = os.path.join(work, "root"), os.path.join(work, "debs")
    os.makedirs(spool)
    os.makedirs(os.path.join(root, "usr"))
    for name in MERGED:
        os.makedirs(os.path.join(root, "usr", name))
        os.symlink(f"usr/{name}", os.path.join(root, name))
    subprocess.run(["apt-get", "-qq", "download", *wanted], cwd=spool, check=True, capture_output=True)
    for deb in sorted(os.listdir(spool)):
        unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", os.path.join(spool, deb)], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root], input=unpacked.stdout, check=True)
    for name in MERGED:
        os.unlink(os.path.join(root, name))
    writer = oci.LayerWriter(os.path.join(work, "tools.layer"))
    with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        tar.add(root, arcname=".", filter=_plain)
    return writer.finish()


def _plain(info):
    if info.name == ".":
        return info
    if info.name.startswith(("./usr/share/doc/", "./usr/share/man/", "./usr/share/locale/")):
        return None
    info.name = info.name.removeprefix("./")
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = EPOCH
    return info


def bases_are_made(cache, server):
    """The images that these are made of, and these."""
    bases.ensure(cache, server, "test")
    ensure(cache, server)
