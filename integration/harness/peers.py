"""Checks of a finished image with programs that are not ours: skopeo, umoci, runc, GNU tar, podman."""

import json
import os
import shutil
import subprocess
import tarfile

from . import builders
from .report import Failure, Skip, expect, same


# Writes the plain tar of the layer "$1", however it is compressed.
_PLAIN = '{ gzip -qdc "$1" 2>/dev/null || zstd -qdc "$1" 2>/dev/null || cat "$1"; } | '


def need(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    if missing:
        raise Skip(f"not installed: {', '.join(missing)}")


def call(*args, timeout=300, **kw):
    done = subprocess.run(args, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, **kw)
    if done.returncode != 0:
        raise Failure(f"{' '.join(args)}: exit status {done.returncode}\n{builders.tail(done.stderr + done.stdout)}")
    return done.stdout


class Image:
    """An exported OCI layout and what was found out about it."""

    def __init__(self, layout, scratch):
        self.layout, self.scratch = layout, scratch
        self.manifest, self.config, self.layers = builders.load_layout(layout)
        self.tag = f"oci:{layout}"
        os.makedirs(scratch, exist_ok=True)

    def inspect(self, want):
        """`skopeo inspect` agrees with the config that the Dockerfile asks for."""
        need("skopeo")
        seen = json.loads(call("skopeo", "inspect", "--config", self.tag))
        for key, value in want.items():
            same(seen["config"].get(key), value, f"config {key} as skopeo sees it")
        raw = json.loads(call("skopeo", "inspect", self.tag))
        same(len(raw["Layers"]), len(seen["rootfs"]["diff_ids"]), "layers against diff ids")
        steps = [h for h in seen.get("history", []) if not h.get("empty_layer")]
        same(len(steps), len(raw["Layers"]), "history entries with a layer")

    def listing(self, spec):
        """GNU tar reads every layer without a complaint; returns the paths of the whole image."""
        found = set()
        for entry, path in zip(self.manifest["layers"], self.layers):
            how = {"gzip": ["-z"], "zstd": ["--zstd"], "tar": []}[entry["mediaType"].rpartition("+")[2].rpartition(".")[2]]
            done = subprocess.run(["tar", "--warning=all", *how, "--quoting-style=literal", "-tf", path],
                                  capture_output=True, stdin=subprocess.DEVNULL)
            complaint = done.stderr.decode(errors="replace").strip()
            expect(done.returncode == 0 and not complaint, f"tar -tf {entry['digest']}: {complaint}")
            self._apply(found, done.stdout.decode(errors="surrogateescape").splitlines())
        for path in spec.get("has", []):
            expect(path in found, f"the image lacks {path}")
        for path in spec.get("lacks", []):
            expect(path not in found, f"the image holds {path}, which must have stayed behind")
        if "only" in spec:
            same(sorted(found), sorted(spec["only"]), "all paths of the image")
        own = [p for p in found if p in (".dockerenv", "run/.containerenv")]
        same(own, [], "files of the sandbox's own making")
        return found

    def attributes(self, spec):
        """Owners as GNU tar lists them, extended attributes as the tar's own records have them."""
        owners, xattrs = {}, {}
        for path in self.layers:
            out = call("sh", "-c", _PLAIN + "tar --numeric-owner --quoting-style=escape -tvf -", "sh", path)
            for line in out.decode(errors="surrogateescape").splitlines():
                fields = line.split(None, 5)
                owners[fields[5].split(" -> ")[0].split(" link to ")[0].removeprefix("./").rstrip("/")] = fields[1]
            plain = subprocess.Popen(["sh", "-c", _PLAIN + "cat", "sh", path], stdout=subprocess.PIPE)
            with tarfile.open(fileobj=plain.stdout, mode="r|", errors="surrogateescape") as tar:
                for member in tar:
                    found = {k.removeprefix("SCHILY.xattr."): v.encode("utf-8", "surrogateescape").hex()
                             for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
                    xattrs[member.name.removeprefix("./")] = found
            plain.wait()
        for path, owner in spec.get("owners", {}).items():
            same(owners.get(path), owner, f"owner of {path}")
        for path, wanted in spec.get("xattrs", {}).items():
            same(xattrs.get(path), wanted, f"extended attributes of {path}")

    def same_files(self, bundle, spec):
        """The unpacked tree looks to this machine's tools as it did to those inside the last step."""
        root = os.path.join(bundle, "rootfs")
        with open(os.path.join(root, spec["script"])) as f:
            script = f.read().replace("cd /odd", f"cd {root}/{spec['root']}").replace("mkdir -p /odd", "")
        out = call("sh", "-c", "(" + script + ") | LC_ALL=C sort", "sh", "list")
        with open(os.path.join(root, spec["file"]), "rb") as f:
            want = f.read()
        lines = set(out.splitlines()) ^ set(want.splitlines())
        mine = b"\n".join(sorted((b"+ " if l in out.splitlines() else b"- ") + l for l in lines))
        expect(not lines, "the unpacked tree differs:\n" + mine.decode(errors="backslashreplace")[:3000])

    @staticmethod
    def _apply(found, names):
        names = [n.removeprefix("./") for n in names]
        for name in names:
            if not name.endswith("/") and name in found:
                found -= {p for p in found if p.startswith(name + "/")}
        names = [n.rstrip("/") for n in names]
        for name in names:
            head, _, leaf = name.rpartition("/")
            if leaf == ".wh..wh..opq":
                found -= {p for p in found if p.startswith(head + "/")}
            elif leaf.startswith(".wh."):
                gone = f"{head}/{leaf[4:]}".lstrip("/")
                found -= {p for p in found if p == gone or p.startswith(gone + "/")}
        found.update(n for n in names if n and not n.rpartition("/")[2].startswith(".wh."))

    def copies(self, registry, name):
        """OCI layout -> registry -> docker archive, all by skopeo; the layers arrive unchanged."""
        need("skopeo")
        target = f"docker://{registry.host}/{name}:copied"
        call("skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", self.tag, target)
        stored = registry.client().manifest(name, "copied")[1]
        same([l["digest"] for l in stored["layers"]], [l["digest"] for l in self.manifest["layers"]],
             "layers in the registry")
        archive = os.path.join(self.scratch, "docker.tar")
        if os.path.exists(archive):
            os.unlink(archive)
        call("skopeo", "copy", "-q", "--src-tls-verify=false", target, f"docker-archive:{archive}:it/copied:latest")
        listed = call("tar", "-tf", archive).decode()
        expect("manifest.json" in listed, "the docker archive has no manifest.json")
        return archive

    def keeps_base(self, registry, base):
        """The base's layers stand at the bottom, byte for byte as the registry has them."""
        repo, _, tag = base.partition(":")
        client = registry.client()
        found = client.manifest(f"library/{repo}", tag)[1]
        if "manifests" in found:
            mine = next(m for m in found["manifests"] if m["platform"]["architecture"] == self.config["architecture"])
            found = client.manifest(f"library/{repo}", mine["digest"])[1]
        want = [l["digest"] for l in found["layers"]]
        same([l["digest"] for l in self.manifest["layers"]][:len(want)], want, f"layers of {base}")

    def podman_load(self, archive):
        """podman, where it works at all, loads the docker archive."""
        need("podman")
        store = ["podman", "--root", f"{self.scratch}/p", "--runroot", f"{self.scratch}/pr", "--storage-driver", "vfs"]
        if subprocess.run([*store, "images"], capture_output=True).returncode != 0:
            raise Skip("podman does not work here")
        call(*store, "load", "-q", "-i", archive)
        listed = call(*store, "images", "--format", "{{.Repository}}").decode()
        expect("it/copied" in listed, f"podman lists {listed!r}")
        call(*store, "rmi", "-af")

    def bundle(self):
        """`umoci unpack`: the bundle's directory."""
        need("umoci")
        if os.geteuid() != 0:
            raise Skip("umoci unpack with all owners needs root")
        if any(l["mediaType"].endswith("zstd") for l in self.manifest["layers"]):
            raise Skip("this umoci does not read zstd layers")
        plain = os.path.join(self.scratch, "umoci")
        bundle = os.path.join(self.scratch, "bundle")
        for path in (plain, bundle):
            shutil.rmtree(path, ignore_errors=True)
        call("skopeo", "copy", "-q", self.tag, f"oci:{plain}:image")
        call("umoci", "unpack", "--image", f"{plain}:image", bundle)
        shutil.rmtree(plain)
        return bundle

    def runc_config(self, bundle, command, shared_network):
        """Fits umoci's config.json to a run without a terminal; `command` as for `docker run`."""
        need("runc")
        path = os.path.join(bundle, "config.json")
        with open(path) as f:
            spec = json.load(f)
        config = self.config["config"]
        entrypoint, default = config.get("Entrypoint") or [], config.get("Cmd") or []
        spec["process"]["args"] = [*entrypoint, *(command or default)]
        spec["process"]["terminal"] = False
        caps = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
        spec["process"]["capabilities"] = {k: caps for k in ("bounding", "effective", "permitted")}
        spec["linux"].pop("resources", None)
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"]
                                       if not (shared_network and n["type"] == "network")]
        with open(path, "w") as f:
            json.dump(spec, f)

    def runc(self, bundle, command):
        self.runc_config(bundle, command, False)
        return call("runc", "--root", f"{self.scratch}/runc", "run", "-b", bundle, f"it-{os.getpid()}").decode()

    def serve_command(self, bundle, command):
        self.runc_config(bundle, command, True)
        return ["runc", "--root", f"{self.scratch}/runc", "run", "-b", bundle, f"it-{os.getpid()}"]

    def sizes(self):
        """(bytes as stored, bytes of the plain tars)."""
        stored = sum(l["size"] for l in self.manifest["layers"])
        plain = 0
        for entry, path in zip(self.manifest["layers"], self.layers):
            how = "zstd -dc" if entry["mediaType"].endswith("zstd") else "gzip -dc"
            if entry["mediaType"].endswith("tar"):
                how = "cat"
            plain += int(call("sh", "-c", f'{how} "$1" | wc -c', "sh", path))
        return stored, plain
