"""Starts a server as some user in a fresh network namespace, asks it for one page and ends it.

Run as a program: `python3 -m harness.serve JSON`; prints JSON. In a namespace of its own a server may
listen on port 80 without being root, and nothing else on the machine is in its way.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
MS_REC_PRIVATE, MS_BIND = 16384 | (1 << 18), 4096
LIBC = ctypes.CDLL(None, use_errno=True)


def private_network():
    """A network namespace with only a loopback, on which everyone may use low ports. Root only."""
    if LIBC.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare network")
    with socket.socket() as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", 1 | 64))  # SIOCSIFFLAGS: up, running
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as f:
        f.write("0")


def private_mounts(binds):
    """A mount namespace in which each file of `binds` (target -> source) is replaced. Root only."""
    if LIBC.unshare(CLONE_NEWNS) != 0 or LIBC.mount(b"none", b"/", None, MS_REC_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "private mount namespace")
    for target, source in binds.items():
        if LIBC.mount(source.encode(), os.path.realpath(target).encode(), None, MS_BIND, None) != 0:
            raise OSError(ctypes.get_errno(), f"bind {source} on {target}")


def drop(uid, gid):
    def call():
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    return call if uid else None


def fetch(port, path, post, child):
    deadline = time.monotonic() + 60
    url = f"http://127.0.0.1:{port}{path}"
    while True:
        try:
            data = post.encode() if post else None
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    urllib.request.Request(url, data=data), timeout=10) as reply:
                return reply.status, reply.read().decode(errors="replace")
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode(errors="replace")
        except OSError as e:
            if child.poll() is not None or time.monotonic() > deadline:
                return 0, f"no answer on port {port}: {e}"
            time.sleep(0.1)


def main(job):
    if job["netns"]:
        private_network()
    with open(job["log"], "wb") as log:
        os.fchmod(log.fileno(), 0o666)  # a server, whoever it runs as, may want to open /dev/stderr anew
        child = subprocess.Popen(job["cmd"], env=job["env"], cwd=job["cwd"], stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=log, preexec_fn=drop(job["uid"], job["gid"]), start_new_session=True)
        status, body = fetch(job["port"], job["path"], job.get("post"), child)
        begin = time.monotonic()
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
            ended = True
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            ended = False
    with open(job["log"], errors="replace") as f:
        text = f.read()[-3000:]
    print(json.dumps({"status": status, "body": body, "exit": child.returncode, "ended": ended,
                      "seconds": time.monotonic() - begin, "log": text}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
