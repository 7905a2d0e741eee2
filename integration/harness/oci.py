"""Image manifests, configs and their upload to a registry, from the standard library alone.

The base images of the tests are made with this and not with the builder under test.
"""

import base64
import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import urllib.parse
import zlib

OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "plain": "application/vnd.oci.image.layer.v1.tar",
}
DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "plain": "application/vnd.docker.image.rootfs.diff.tar",
}
CREATED = "2023-11-14T22:13:20Z"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    """One compressed layer on disk: its file, digest, size and the digest of the plain tar."""

    def __init__(self, path, digest, size, diff_id, kind):
        self.path, self.digest, self.size, self.diff_id, self.kind = path, digest, size, diff_id, kind

    @classmethod
    def load(cls, path):
        with open(path + ".json") as f:
            return cls(path, **json.load(f))

    def save(self):
        keep = {k: getattr(self, k) for k in ("digest", "size", "diff_id", "kind")}
        with open(self.path + ".json", "w") as f:
            json.dump(keep, f)


class LayerWriter:
    """A file object that takes a plain tar and leaves a compressed layer."""

    def __init__(self, path, kind="gzip"):
        self.path, self.kind = path, kind
        self.raw = open(path, "wb")
        self.diff = hashlib.sha256()
        self.blob = hashlib.sha256()
        self.size = 0
        self.zip = zlib.compressobj(6, zlib.DEFLATED, 31) if kind == "gzip" else None
        self.child = None
        if kind == "zstd":
            self.child = subprocess.Popen(["zstd", "-q", "-3", "-c"], stdin=subprocess.PIPE, stdout=self.raw)

    def write(self, data):
        data = bytes(data)
        self.diff.update(data)
        if self.child:
            self.child.stdin.write(data)
        else:
            self._emit(self.zip.compress(data) if self.zip else data)
        return len(data)

    def _emit(self, data):
        self.blob.update(data)
        self.size += len(data)
        self.raw.write(data)

    def finish(self):
        if self.child:
            self.child.stdin.close()
            if self.child.wait() != 0:
                raise RuntimeError(f"zstd failed while writing {self.path}")
        elif self.zip:
            self._emit(self.zip.flush())
        self.raw.close()
        if self.child:
            with open(self.path, "rb") as f:
                while chunk := f.read(1 << 20):
                    self.blob.update(chunk)
                    self.size += len(chunk)
        layer = Layer(self.path, "sha256:" + self.blob.hexdigest(), self.size,
                      "sha256:" + self.diff.hexdigest(), self.kind)
        layer.save()
        return layer


class Registry:
    """The part of the distribution API that pushing and looking needs."""

    def __init__(self, host, user=None, password=None, tls_ca=None):
        self.host, self.tls_ca = host, tls_ca
        self.headers = {}
        if user is not None:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self.headers["Authorization"] = "Basic " + token

    def request(self, method, path, body=None, headers=None):
        """Returns (status, headers, body)."""
        if self.tls_ca:
            context = ssl.create_default_context(cafile=self.tls_ca)
            conn = http.client.HTTPSConnection(self.host, timeout=120, context=context)
        else:
            conn = http.client.HTTPConnection(self.host, timeout=120)
        try:
            conn.request(method, path, body=body, headers={**self.headers, **(headers or {})})
            reply = conn.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            conn.close()

    def has_blob(self, repo, digest):
        return self.request("HEAD", f"/v2/{repo}/blobs/{digest}")[0] == 200

    def put_blob(self, repo, digest, size, body):
        if self.has_blob(repo, digest):
            return
        status, headers, text = self.request("POST", f"/v2/{repo}/blobs/uploads/")
        if status != 202:
            raise RuntimeError(f"registry {self.host} refused an upload to {repo}: {status} {text[:200]!r}")
        where = urllib.parse.urlsplit(headers["Location"])
        query = (where.query + "&" if where.query else "") + "digest=" + digest
        status, _, text = self.request("PUT", f"{where.path}?{query}", body,
                                       {"Content-Length": str(size),
                                        "Content-Type": "application/octet-stream"})
        if status != 201:
            raise RuntimeError(f"registry {self.host} refused blob {digest}: {status} {text[:200]!r}")

    def put_manifest(self, repo, tag, media_type, data):
        status, _, text = self.request("PUT", f"/v2/{repo}/manifests/{tag}", data,
                                       {"Content-Type": media_type})
        if status != 201:
            raise RuntimeError(f"registry {self.host} refused manifest {repo}:{tag}: {status} {text[:300]!r}")
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    def manifest(self, repo, tag):
        """Returns (media type, parsed manifest, its bytes), or None when there is none."""
        accept = ", ".join(t[k] for t in (OCI, DOCKER) for k in ("manifest", "index"))
        status, headers, data = self.request("GET", f"/v2/{repo}/manifests/{tag}", headers={"Accept": accept})
        if status != 200:
            return None
        return headers["Content-Type"], json.loads(data), data

    def blob(self, repo, digest):
        return self.request("GET", f"/v2/{repo}/blobs/{digest}")[2]


def image_config(layers, arch, config, notes):
    """The config blob: `notes` is one history line per layer."""
    return {
        "created": CREATED, "architecture": arch, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [l.diff_id for l in layers]},
        "history": [{"created": CREATED, "created_by": n} for n in notes],
    }


def push_image(reg, repo, tag, layers, config, types=OCI):
    """Uploads layers, config and manifest; returns the manifest's descriptor."""
    for layer in layers:
        with open(layer.path, "rb") as f:
            reg.put_blob(repo, layer.digest, layer.size, f)
    data = json.dumps(config).encode()
    reg.put_blob(repo, sha256(data), len(data), data)
    manifest = {
        "schemaVersion": 2, "mediaType": types["manifest"],
        "config": {"mediaType": types["config"], "digest": sha256(data), "size": len(data)},
        "layers": [{"mediaType": types[l.kind], "digest": l.digest, "size": l.size} for l in layers],
    }
    return reg.put_manifest(repo, tag, types["manifest"], json.dumps(manifest, indent=1).encode())


def push_index(reg, repo, tag, members, types=OCI):
    """`members` is a list of (descriptor, platform, annotations or None)."""
    entries = []
    for descriptor, platform, annotations in members:
        entry = {**descriptor, "platform": platform}
        if annotations:
            entry["annotations"] = annotations
        entries.append(entry)
    data = json.dumps({"schemaVersion": 2, "mediaType": types["index"], "manifests": entries}, indent=1)
    return reg.put_manifest(repo, tag, types["index"], data.encode())


def free_tree(path):
    """Removes a directory that may not be there."""
    if os.path.lexists(path):
        shutil.rmtree(path)
