"""Installs distribution packages on an overlay of a root file system and packs what changed.

Run as a program inside `enter()`; it needs mount rights, so it is root or in a user namespace:

    python3 -m harness.chroot tree  TAR DIR                    unpack TAR to DIR
    python3 -m harness.chroot base  DIR LAYER                  pack DIR as it is
    python3 -m harness.chroot layer JSON                       one layer (see `make_layer`)
    python3 -m harness.chroot free  DIR                        remove a tree with foreign owners
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys

from . import oci, pack

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND, MS_REC = 4096, 16384
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SKIP = ("dev", "proc", "sys", "tmp", "run/lock", "var/cache/apt", "var/lib/apt/lists", "var/log")
APT = ["apt-get", "-qq", "-y", "-o", "DPkg::Options::=--force-unsafe-io", "-o", "Dir::Cache::pkgcache=",
       "-o", "Dir::Cache::srcpkgcache=", "-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0"]


def enter(args):
    """The command line that runs `args` where it may mount and hold foreign owners."""
    if os.geteuid() == 0:
        return ["unshare", "--mount", *args]
    return ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", *args]


def python(*args):
    return enter([sys.executable, "-m", "harness.chroot", *args])


def mount(source, target, kind=None, flags=0, data=None):
    enc = [None if v is None else os.fsencode(v) for v in (source, target, kind, data)]
    if LIBC.mount(enc[0], enc[1], enc[2], flags, enc[3]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind or 'bind'} {source} on {target}: {os.strerror(number)}")


def overlay(lowers, work, target):
    """Mounts the stack; moves to memory when the disk cannot hold an upper directory."""
    for attempt in ("disk", "memory"):
        if attempt == "memory":
            mount("tmpfs", work, "tmpfs")
        upper, scratch = os.path.join(work, "upper"), os.path.join(work, "scratch")
        for d in (upper, scratch, target):
            os.makedirs(d, exist_ok=True)
        data = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={scratch}"
        if os.geteuid() == 0 and not _initial_user_namespace():
            data += ",userxattr"
        try:
            mount("overlay", target, "overlay", data=data)
            return upper
        except OSError:
            if attempt == "memory":
                raise
    raise AssertionError("unreachable")


def _initial_user_namespace():
    with open("/proc/self/uid_map") as f:
        return f.read().split() == ["0", "0", "4294967295"]


def _furnish(root, lists):
    mount("/proc", f"{root}/proc", flags=MS_BIND | MS_REC)
    mount("tmpfs", f"{root}/dev", "tmpfs", data="mode=755")  # sticky, O_CREAT on others' devices fails
    for name in DEVICES:
        open(f"{root}/dev/{name}", "w").close()
        mount(f"/dev/{name}", f"{root}/dev/{name}", flags=MS_BIND)
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    for d in ("tmp", "var/cache/apt", "var/log"):
        mount("tmpfs", f"{root}/{d}", "tmpfs")
    os.makedirs(f"{root}/var/cache/apt/archives/partial")
    os.makedirs(f"{root}/var/log/apt")
    mount(lists, f"{root}/var/lib/apt/lists", flags=MS_BIND)


def _apt(root, proxy, *args):
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C",
           **{k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}}
    options = ["-o", "Acquire::http::Proxy=" + proxy] if proxy else []
    done = subprocess.run(["chroot", root, *APT, *options, *args], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        text = done.stdout.decode(errors="replace")[-2000:]
        raise SystemExit(f"apt-get {' '.join(args)} failed in the base image:\n{text}")


def make_layer(job):
    """One layer. `job` has lowers (topmost first), work, out, kind, lists, proxy, packages, dirs,
    files {path: text}, links {path: target} and copies {path: host path}."""
    if job["lowers"]:
        root = job["work"] + ".mnt"
        upper = overlay(job["lowers"], job["work"], root)
        _install(job, root)
    else:
        root = upper = job["work"]
    _place(job, root)
    write_layer(upper, job["out"], job["kind"], as_root=not job["lowers"])


def _install(job, root):
    for d in job["dirs"]:
        os.makedirs(root + d, exist_ok=True)
    _furnish(root, job["lists"])
    resolv = f"{root}/etc/resolv.conf"
    kept = open(resolv, "rb").read() if os.path.exists(resolv) else None
    shutil.copyfile("/etc/resolv.conf", resolv)
    if not any(name.endswith("_Packages") or "_Packages." in name for name in os.listdir(job["lists"])):
        _apt(root, job["proxy"], "update")
    _apt(root, job["proxy"], "install", "--no-install-recommends", *job["packages"])
    if kept is None:
        os.unlink(resolv)
    else:
        open(resolv, "wb").write(kept)


def _place(job, root):
    for d in job["dirs"]:
        os.makedirs(root + d, exist_ok=True)
    for path, text in job["files"].items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        with open(root + path, "w") as f:
            f.write(text)
        os.chmod(root + path, 0o755 if text.startswith("#!") else 0o644)
    for path, source in job["copies"].items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        shutil.copy(source, root + path)
    for path, target in job["links"].items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)


def write_layer(tree, path, kind, as_root=False):
    out = oci.LayerWriter(path, kind)
    pack.pack(tree, out, as_root=as_root, skip=SKIP)
    out.finish()


def main(args):
    if args[0] == "tree":
        os.makedirs(args[2])
        subprocess.run(["tar", "-C", args[2], "-xpf", args[1], "--numeric-owner", "--exclude=./dev/*"], check=True)
    elif args[0] == "layer":
        make_layer(json.loads(args[1]))
    elif args[0] == "base":
        write_layer(args[1], args[2], "gzip")
    elif args[0] == "free":
        oci.free_tree(args[1])
    else:
        raise SystemExit(f"unknown command {args[0]!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
