"""Becomes the user of a login and starts a command.

Run as a program by root among the mounts of the environment: `python3 login.py JSON`. The job holds
`uid`, `gid`, `cwd`, `env`, `command`; `denied` (call -> errno), for a filter that is loaded before; and
`user_namespaces`, a limit, or -1. The limit is set in a user namespace that has all ids as they are: the sysctl of
each is its own.
"""

import ctypes
import json
import os
import sys

CLONE_NEWUSER = 0x10000000
LIBC = ctypes.CDLL(None, use_errno=True)
# Of libseccomp.
ALLOW, ERRNO, NO_NEW_PRIVILEGES = 0x7FFF0000, 0x00050000, 3


def filter_calls(denied):
    """These calls fail. Loaded with root's capabilities, so that set-uid programs go on working."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))
    done = [library.seccomp_attr_set(rules, NO_NEW_PRIVILEGES, 0)]
    for call, number in denied.items():
        name = library.seccomp_syscall_resolve_name(call.encode())
        if name >= 0:
            done.append(library.seccomp_rule_add(rules, ctypes.c_uint32(ERRNO | number), name, 0))
    done.append(library.seccomp_load(rules))
    if any(done):
        raise SystemExit(f"the filter cannot be loaded: {done}")


def all_ids():
    """A user namespace with every id, the map written by a child that stays outside."""
    go, told = os.pipe(), os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.read(go[0], 1)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{parent}/{name}", "w") as f:
                f.write("0 0 4294967295")
        os.write(told[1], b"!")
        os._exit(0)
    if LIBC.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare user")
    os.write(go[1], b"!")
    os.close(told[1])
    if not os.read(told[0], 1):
        raise SystemExit("the map of all ids cannot be written")
    os.waitpid(child, 0)


def main(job):
    if job["user_namespaces"] >= 0:
        all_ids()
        with open("/proc/sys/user/max_user_namespaces", "w") as f:
            f.write(str(job["user_namespaces"]))
    if job["denied"]:
        filter_calls(job["denied"])
    os.setgroups([])
    os.setresgid(*[job["gid"]] * 3)
    os.setresuid(*[job["uid"]] * 3)
    os.chdir(job["cwd"])
    os.execvpe(job["command"][0], job["command"], job["env"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
