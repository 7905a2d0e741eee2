"""What the machine itself takes for the same work, with programs that do nothing else: no builder can be faster by
much. Each is a function of the `World` of `cases`; `LIMITS` maps the name under which a case refers to it."""

import ctypes
import os
import shutil
import subprocess
import time

from harness import chroot, measure
from harness.report import Skip

NAMESPACES = 0x00020000 | 0x20000000 | 0x08000000 | 0x04000000  # mount, process ids, interprocess, host name
STEPS = 50


def _timed(world, *command, stdout=subprocess.DEVNULL, cwd=None, before=None, times=None):
    """The median in seconds."""
    found = []
    for _ in range(times or world.times):
        if before:
            before()
        begin = time.monotonic()
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, check=True, cwd=cwd)
        found.append(time.monotonic() - begin)
    return measure.median(found)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def walk(world):
    return _timed(world, "find", world.tree(), "-printf", "%s %T@ %p\\n")


def copy_tree(world):
    target = world.path("limit-copy")
    seconds = _timed(world, "cp", "-a", world.tree(), target, before=lambda: shutil.rmtree(target, ignore_errors=True))
    shutil.rmtree(target)
    return seconds


def pack_tree(world):
    """`cp -a` of the tree, then its tar through gzip, one after the other."""
    tool = "pigz" if shutil.which("pigz") else "gzip"
    return copy_tree(world) + _timed(world, "sh", "-c", f'tar -C "$1" -c . | {tool} -6 > /dev/null', "sh", world.tree())


def compress(*command):
    def limit(world):
        need(command[0])
        return _timed(world, *command, world.large(), times=1)
    return limit


def compiler(world):
    need("gcc")
    out = world.path("limit-prog")
    seconds = _timed(world, "sh", "-c", 'gcc -O2 -o "$1" *.c', "sh", out, cwd=world.sources())
    os.unlink(out)
    return seconds


def _unpack(world, script):
    target = world.path("limit-unpack")

    def before():
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)

    seconds = _timed(world, "sh", "-c", script, "sh", target, *world.big_layers(), before=before)
    shutil.rmtree(target)
    return seconds


def unpack_one(world):
    return _unpack(world, 'd=$1; shift; for l; do gzip -dc "$l" | tar -x -C "$d" || exit; done')


def unpack_all(world):
    """As many layers at a time as there are cores."""
    return _unpack(world, 'd=$1; shift; printf "%s\\n" "$@" | '
                   f'xargs -P {os.cpu_count()} -I LAYER sh -c "gzip -dc LAYER | tar -x -C $d"')


def _step(root, layers):
    """What a step cannot do without, in a child: namespaces, an overlay, proc, and a program."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NAMESPACES) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if libc.mount(b"none", b"/", None, chroot.MS_REC | (1 << 18), None) != 0:
        raise OSError(ctypes.get_errno(), "private mounts")
    for name in ("upper", "work", "merged"):
        os.makedirs(os.path.join(root, name))
    merged = os.path.join(root, "merged")
    chroot.mount("overlay", merged, "overlay", data=f"lowerdir={layers},upperdir={root}/upper,workdir={root}/work")
    child = os.fork()
    if child == 0:
        try:
            chroot.mount("proc", os.path.join(merged, "proc"), "proc")
            os.chroot(merged)
            os.chdir("/")
            os.execv("/bin/sh", ["/bin/sh", "-c", "true"])
        finally:
            os._exit(1)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def steps(world):
    """Fifty times unshare, overlay, exec: seconds."""
    if os.geteuid() != 0:
        raise Skip("measured by root only")
    base = world.busybox()
    begin = time.monotonic()
    for n in range(STEPS):
        root = world.path(f"limit-step{n}")
        child = os.fork()
        if child == 0:
            try:
                _step(root, base)
            finally:
                os._exit(1)
        if os.waitpid(child, 0)[1] != 0:
            raise Skip("a bare step does not run here")
    seconds = time.monotonic() - begin
    for n in range(STEPS):
        shutil.rmtree(world.path(f"limit-step{n}"))
    return seconds


# name -> (what it is, for people, function)
LIMITS = {
    "walk": ("`find -printf` over the context", walk),
    "step": (f"unshare, overlay, exec: {STEPS} times", steps),
    "copy": ("`cp -a` of the 20,000 files", copy_tree),
    "pack": ("`cp -a`, then tar and pigz (or gzip) of the 20,000 files", pack_tree),
    "gzip1": ("`gzip -1` of the 1 GiB", compress("gzip", "-1c")),
    "gzip6": ("`gzip -6` of the 1 GiB", compress("gzip", "-6c")),
    "pigz": ("`pigz -6`, all cores, of the 1 GiB", compress("pigz", "-6c")),
    "zstd": ("`zstd -3 -T0` of the 1 GiB", compress("zstd", "-q", "-3", "-T0", "-c")),
    "compiler": ("the compiler alone", compiler),
    "unpack1": ("`gzip -dc` into `tar -x` of the base, one layer after the other", unpack_one),
    "unpack": ("`gzip -dc` into `tar -x` of the base's layers, on all cores", unpack_all),
}
