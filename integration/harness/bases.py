"""The base images of the tests and the demo: the distribution's own packages under the names that
Dockerfiles use, pushed into a local registry and kept between runs.

They are stand-ins. `golang:1.20` holds whatever Go the distribution ships, `alpine` is the
distribution's busybox, and so on; each image says so in its label.
"""

import concurrent.futures
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

from . import chroot, oci

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SUITE_ORIGINS = ("Debian", "Ubuntu")
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

NGINX_CONF = """user www-data;
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 256; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SITE = """server {
    listen 80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html;
    }
}
"""
NGINX_PAGE = "<!doctype html><title>nginx</title><p>This page is waiting for a site.\n"

# A layer: what it is built on, the packages (or alternatives of packages, the first that exists),
# and files of its own. A layer without `on` is made of files alone.
LAYERS = {
    "go": {"on": ["debian"], "packages": [["golang-go"]], "dirs": ["/go/bin", "/go/src"],
           "links": {"/usr/local/go": "../lib/go"}},
    "gcc": {"on": ["debian"], "packages": [["gcc"], ["libc6-dev"]]},
    "node": {"on": ["debian"], "packages": [["nodejs"], ["ca-certificates"]], "ca": True},
    "npm": {"on": ["node", "debian"], "packages": [["npm"]], "kind": "zstd", "npmrc": True},
    "nginx": {"on": ["debian"], "packages": [["nginx"]],
              "files": {"/etc/nginx/nginx.conf": NGINX_CONF, "/etc/nginx/conf.d/default.conf": NGINX_SITE,
                        "/usr/share/nginx/html/index.html": NGINX_PAGE}},
    "jre": {"on": ["debian"], "packages": [["openjdk-17-jre-headless", "default-jre-headless"]],
            "dirs": ["/usr/share/man/man1"]},
    "jdk": {"on": ["jre", "debian"], "packages": [["openjdk-17-jdk-headless", "default-jdk-headless"]]},
    "busybox": {"on": [], "busybox": True, "dirs": ["/tmp", "/root", "/home", "/var/tmp", "/proc", "/sys", "/dev"],
                "files": {"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
                          "/etc/group": "root:x:0:\nnobody:x:65534:\n"}},
    "alpine": {"on": [], "dirs": ["/etc/profile.d", "/usr/local/bin", "/var/lib", "/srv", "/opt", "/mnt"],
               "files": {"/etc/os-release": 'ID=busybox\nNAME="busybox of the build machine\'s distribution"\n',
                         "/etc/hostname": "localhost\n",
                         "/etc/profile": f"export PATH={PATH}\nexport PAGER=less\n"}},
}

SHELL = {"Cmd": ["/bin/sh"]}
# name -> (layers bottom to top, config, options)
IMAGES = {
    "debian:bookworm": (["debian"], {"Cmd": ["bash"]}, {}),
    "debian:bookworm-slim": (["debian"], {"Cmd": ["bash"]}, {}),
    "debian:12-slim": (["debian"], {"Cmd": ["bash"]}, {}),
    "golang:1.20": (["debian", "go"], {
        "Env": [f"PATH=/go/bin:/usr/local/go/bin:{PATH}", "GOPATH=/go", "CGO_ENABLED=0"],
        "Cmd": ["bash"], "WorkingDir": "/go"}, {"types": oci.DOCKER}),
    "gcc:12": (["debian", "gcc"], {"Cmd": ["bash"]}, {}),
    "node:20-slim": (["debian", "node"], {"Cmd": ["node"]}, {"ca": True}),
    "node:20": (["debian", "node", "npm"], {"Cmd": ["node"]}, {"ca": True}),
    "nginx:latest": (["debian", "nginx"], {
        "Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}, {}),
    "eclipse-temurin:17-jre": (["debian", "jre"], {"Cmd": ["bash"]}, {}),
    "eclipse-temurin:17-jdk": (["debian", "jre", "jdk"], {"Cmd": ["jshell"]}, {}),
    "busybox:latest": (["busybox"], {"Cmd": ["sh"]}, {}),
    "alpine:latest": (["busybox", "alpine"], SHELL, {"index": True}),
}
SETS = {
    "demo": ["golang:1.20", "alpine:latest"],
    "test": [name for name in IMAGES if name != "gcc:12"],
    "bench": ["gcc:12", "busybox:latest"],
    "differential": ["busybox:latest"],
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def apt_sources():
    """The machine's own distribution archives, as one-line sources."""
    form = "$(CREATED_BY)\t$(ORIGIN)\t$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"
    text = subprocess.run(["apt-get", "indextargets", "--format", form], check=True,
                          capture_output=True, text=True).stdout
    lines = []
    for row in text.splitlines():
        kind, origin, uri, release, component = row.split("\t")
        line = f"deb {uri} {release} {component}"
        if kind == "Packages" and origin in SUITE_ORIGINS and component in ("main", "universe"):
            lines.append(line)
    lines = list(dict.fromkeys(lines))
    if not lines:
        raise SystemExit("no package lists of the distribution: run apt-get update first")
    return lines


def apt_proxy():
    text = subprocess.run(["apt-config", "dump", "Acquire::http::Proxy"], capture_output=True, text=True).stdout
    return text.split('"')[1] if '"' in text else ""


def suite():
    with open("/etc/os-release") as f:
        fields = dict(line.rstrip().split("=", 1) for line in f if "=" in line)
    return fields["VERSION_CODENAME"].strip('"'), fields.get("PRETTY_NAME", "").strip('"')


def known_packages(names):
    done = subprocess.run(["apt-cache", "policy", *names], capture_output=True, text=True)
    found, name = set(), None
    for line in done.stdout.splitlines():
        if not line.startswith(" "):
            name = line.rstrip(":")
        elif "Candidate:" in line and "(none)" not in line:
            found.add(name)
    return found


def npmrc():
    """The npm registry this machine is set to use, so that `npm install` works in the image, too.
    Credentials are not copied."""
    for source in (os.environ.get("NPM_CONFIG_REGISTRY"), os.environ.get("npm_config_registry")):
        if source:
            return f"registry={source}\n"
    for path in (os.path.expanduser("~/.npmrc"), "/etc/npmrc"):
        if os.path.exists(path):
            with open(path) as f:
                for line in f:
                    if line.startswith("registry="):
                        return line
    return ""


class Builder:
    """Makes the layers of one set under `root/work` and pushes the images through `reg`."""

    def __init__(self, root, reg):
        self.root, self.reg = root, reg
        self.work = os.path.join(root, "work")
        self.proxy = apt_proxy()
        self.times = {}
        self.codename, self.distribution = suite()

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def run_python(self, *args):
        env = {**os.environ, "PYTHONPATH": chroot.HERE}
        done = subprocess.run(chroot.python(*args), env=env, cwd=chroot.HERE,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"making a base image failed: {done.stderr.strip()[-2500:]}")

    def debian(self):
        """The smallest root file system that has apt, shared by all the larger images."""
        tar = self.path("debian.tar")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar",
                   "--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*",
                   "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
                   "--dpkgopt=path-include=/usr/share/doc/*/copyright"]
        if self.proxy:
            command.append(f"--aptopt=Acquire::http::Proxy \"{self.proxy}\"")
        done = subprocess.run([*command, self.codename, tar, "-"], input="\n".join(apt_sources()) + "\n",
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"mmdebstrap failed: {done.stderr.strip()[-2500:]}")
        self.run_python("tree", tar, self.path("debian"))
        os.unlink(tar)
        self.run_python("base", self.path("debian"), self.path("debian.layer"))

    def busybox(self, into):
        """The static busybox of the distribution, unpacked from its package, with its applets."""
        spool = self.path("busybox.deb")
        os.makedirs(spool)
        subprocess.run(["apt-get", "-qq", "download", "busybox-static"], cwd=spool, check=True,
                       capture_output=True)
        deb = os.path.join(spool, os.listdir(spool)[0])
        subprocess.run(["dpkg-deb", "-x", deb, os.path.join(spool, "x")], check=True)
        found = next(p for p in ("bin/busybox", "usr/bin/busybox") if os.path.exists(os.path.join(spool, "x", p)))
        os.makedirs(os.path.join(into, "bin"))
        target = os.path.join(into, "bin/busybox")
        shutil.copy(os.path.join(spool, "x", found), target)
        for applet in subprocess.run([target, "--list"], capture_output=True, text=True).stdout.split():
            if applet not in ("busybox", "dpkg", "dpkg-deb", "rpm"):
                os.symlink("busybox", os.path.join(into, "bin", applet))

    def packages(self, spec):
        wanted = []
        known = known_packages([n for group in spec.get("packages", []) for n in group])
        for group in spec.get("packages", []):
            name = next((n for n in group if n in known), None)
            if name is None:
                raise SystemExit(f"the distribution has none of {', '.join(group)}")
            wanted.append(name)
        return wanted

    def layer(self, name):
        start = time.monotonic()
        if name == "debian":
            self.debian()
        else:
            self.package_layer(name, LAYERS[name])
        self.times[name] = time.monotonic() - start
        return oci.Layer.load(self.path(name + ".layer"))

    def package_layer(self, name, spec):
        work = self.path(name)
        os.makedirs(work)
        if spec.get("busybox"):
            self.busybox(work)
        job = {
            "lowers": [self.path(n) if n == "debian" else self.path(n, "upper") for n in spec["on"]],
            "work": work, "out": self.path(name + ".layer"), "kind": spec.get("kind", "gzip"),
            "lists": self.path("lists"), "proxy": self.proxy, "packages": self.packages(spec),
            "files": dict(spec.get("files", {})), "links": spec.get("links", {}),
            "copies": {}, "dirs": spec.get("dirs", []),
        }
        if spec.get("ca") and os.path.exists(CA_BUNDLE):
            job["copies"][CA_BUNDLE] = CA_BUNDLE
        if spec.get("npmrc") and npmrc():
            job["files"]["/etc/npmrc"] = npmrc()
        self.run_python("layer", json.dumps(job))

    def image(self, name, layers):
        names, config, options = IMAGES[name]
        repo, _, tag = name.rpartition(":")
        repo = "library/" + repo
        config = {"Env": [f"PATH={PATH}"], **config}
        if options.get("ca"):
            config["Env"] = [*config["Env"], f"NODE_EXTRA_CA_CERTS={CA_BUNDLE}"]
        config["Labels"] = {"about": f"stand-in for {name}, made of packages of {self.distribution}"}
        types = options.get("types", oci.OCI)
        body = oci.image_config([layers[n] for n in names], ARCH, config,
                                [f"packages of {self.distribution}: {n}" for n in names])
        if not options.get("index"):
            return oci.push_image(self.reg, repo, tag, [layers[n] for n in names], body, types)
        return self.index(repo, tag, [layers[n] for n in names], body, types)

    def index(self, repo, tag, layers, body, types):
        """A multi-platform index as publishers make them: ours, another machine's, an attestation."""
        mine = oci.push_image(self.reg, repo, tag + "-" + ARCH, layers, body, types)
        other = "arm64" if ARCH == "amd64" else "amd64"
        theirs = {**oci.image_config(layers[-1:], other, body["config"], ["files only: no program for this machine"])}
        foreign = oci.push_image(self.reg, repo, tag + "-" + other, layers[-1:], theirs, types)
        note = oci.push_image(self.reg, repo, tag + "-attestation", layers[-1:],
                              oci.image_config(layers[-1:], "unknown", {}, ["attestation"]), types)
        members = [
            (foreign, {"os": "linux", "architecture": other, **({"variant": "v8"} if other == "arm64" else {})}, None),
            (mine, {"os": "linux", "architecture": ARCH}, None),
            (note, {"os": "unknown", "architecture": "unknown"},
             {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": mine["digest"]}),
        ]
        return oci.push_index(self.reg, repo, tag, members, types)

    def build(self, names):
        """Makes and pushes the images `names`, two layers at a time."""
        self.free()
        os.makedirs(self.path("lists", "partial"))
        needed = [n for n in dict.fromkeys(l for i in names for l in IMAGES[i][0])]
        layers = {}
        files_only = [n for n in needed if n != "debian" and not LAYERS[n].get("packages")]
        for name in [n for n in needed if n == "debian"] + files_only:
            layers[name] = self.layer(name)
        self.stacked([n for n in needed if n not in layers], layers)
        for name in names:
            self.image(name, layers)
        self.free()

    def stacked(self, todo, layers):
        """Layers of packages: the first alone, since it fetches the package lists for all."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running, room = {}, 1
            while todo or running:
                ready = [n for n in todo if all(o in layers for o in LAYERS[n]["on"])]
                for name in ready[:room]:
                    todo.remove(name)
                    running[pool.submit(self.layer, name)] = name
                done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
                for future in done:
                    layers[running.pop(future)] = future.result()
                    room = len(LAYERS)

    def free(self):
        if os.path.exists(self.work):
            self.run_python("free", self.work)


def key(names):
    """Changes when the definitions, the distribution or what goes into the images changes."""
    h = hashlib.sha256()
    for name in ("bases.py", "chroot.py", "pack.py", "oci.py"):
        with open(os.path.join(os.path.dirname(__file__), name), "rb") as f:
            h.update(f.read())
    h.update(repr((suite(), apt_sources(), npmrc(), names)).encode())
    return h.hexdigest()


def _stamp(root, which):
    try:
        with open(os.path.join(root, f"made-{which}")) as f:
            return f.read()
    except FileNotFoundError:
        return None


def ensure(root, server, which):
    """Sees to it that `server` serves the images of the set `which`; returns what was made and how long
    each layer took, or None when all was there. Another that makes them in the same place is waited for."""
    with open(os.path.join(root, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _ensure(root, server, which)


def _ensure(root, server, which):
    for name, images in SETS.items():
        if set(images) >= set(SETS[which]) and _stamp(root, name) == key(images):
            return None
    say(f"making base images from packages of {suite()[1]}: {', '.join(SETS[which])}")
    builder = Builder(root, server.client())
    start = time.monotonic()
    builder.build(SETS[which])
    with open(os.path.join(root, f"made-{which}"), "w") as f:
        f.write(key(SETS[which]))
    builder.times["all"] = time.monotonic() - start
    say("  ".join(f"{n} {t:.0f} s" for n, t in builder.times.items()))
    return builder.times
