"""A container: its root file system, as an image's lower layer and an upper one, and the runtime's `config.json`."""

import os
import shutil
import struct
import subprocess

from . import profiles, table

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM = "/usr/local/bin/lapstrake"
NAME = "builder"  # of the user that /etc/passwd has
SUBORDINATE = "300000:65536"
MASKED = ["/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
          "/sys/devices/virtual/powercap"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
DEVICES = ("/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/loop-control", "/dev/kmsg")  # of privileged containers
SET_UID, SET_GID = 7, 6  # numbers of capabilities


def outside(environment, number):
    """The machine's name for an id of the container."""
    for inside, first, count in environment.ids:
        if inside <= number < inside + count:
            return first + number - inside
    return number


def give(environment, path, uid=0, gid=0):
    os.chown(path, outside(environment, uid), outside(environment, gid), follow_symlinks=False)


def folder(environment, path, mode=0o755, uid=0, gid=0):
    """Makes a directory and those on the way; only the last gets another owner than root."""
    head, _, _ = path.rpartition("/")
    if not os.path.isdir(head):
        folder(environment, head)
    if not os.path.isdir(path):
        os.mkdir(path)
    give(environment, path, uid, gid)
    os.chmod(path, mode)


def image(environment, target, binary):
    """The lower layer: busybox with its applets, and lapstrake. All of it belongs to the container's root."""
    for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr/bin", "usr/local/bin", "var"):
        folder(environment, os.path.join(target, name))
    for name in ("tmp", "var/tmp"):
        folder(environment, os.path.join(target, name), 0o1777)
    busybox = shutil.which("busybox", path="/bin:/usr/bin")
    place(environment, busybox, target + "/bin/busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        link = os.path.join(target, "bin", applet)
        if not os.path.lexists(link):
            os.symlink("busybox", link)
            give(environment, link)
    place(environment, binary, target + PROGRAM)


def place(environment, source, target, mode=0o755):
    shutil.copyfile(os.path.realpath(source), target)
    give(environment, target)
    os.chmod(target, mode)


def etc(environment):
    """Files of the environment that tell who is who: name -> text."""
    uid, gid = environment.user
    passwd, group = "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"
    if environment.login:
        with open("/etc/passwd") as users, open("/etc/group") as groups:
            passwd, group = users.read(), groups.read()
    if environment.passwd or environment.login:
        passwd += f"{NAME}:x:{uid}:{gid}::{environment.home or '/'}:/bin/sh\n"
        group += f"{NAME}:x:{gid}:\n"
    ids = f"{NAME}:{SUBORDINATE}\n" if environment.subordinate or environment.newuidmap else ""
    return {"passwd": passwd, "group": group, "subuid": ids, "subgid": ids}


def writable(environment, target):
    """The upper layer: what differs from one environment to another."""
    folder(environment, target)
    folder(environment, target + "/etc")
    for name, text in etc(environment).items():
        with open(f"{target}/etc/{name}", "w") as f:
            f.write(text)
        give(environment, f"{target}/etc/{name}")
    for name in ("resolv.conf", "hosts"):  # as engines give them
        place(environment, "/etc/" + name, f"{target}/etc/{name}", 0o644)
    if environment.home.startswith("/home/"):
        folder(environment, target + environment.home, 0o755, *environment.user)
    if environment.newuidmap:
        for tool, capability in (("newuidmap", SET_UID), ("newgidmap", SET_GID)):
            helper(environment, target, shutil.which(tool), capability)


def helper(environment, target, program, capability):
    """The distribution's newuidmap or newgidmap with the libraries it needs."""
    needed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split()
    for path in [program, *(word for word in needed if word.startswith("/"))]:
        folder(environment, target + os.path.dirname(path))
        place(environment, path, target + path)
    if environment.newuidmap == "set-uid":
        os.chmod(target + program, 0o4755)
    else:  # version 2 with the effective bit; permitted: the one
        value = struct.pack("<IIIII", 0x02000001, 1 << capability, 0, 0, 0)
        os.setxattr(target + program, "security.capability", value)


def capabilities(environment):
    """Those that this machine's root has and can give. A process of another user than root gets them to lose."""
    with open("/proc/self/status") as f:
        have = int(next(line.split()[1] for line in f if line.startswith("CapBnd")), 16)
    number = {name: n for n, name in enumerate(table.EVERY.split())}
    names = ["CAP_" + name for name in environment.caps if have >> number[name] & 1]
    held = names if environment.user[0] == 0 else []
    return {"bounding": names, "permitted": held, "effective": held, "inheritable": [], "ambient": []}


def mounts(environment, volumes):
    """`volumes`: path in the container -> directory of the machine."""
    plain = ["nosuid", "noexec", "nodev"]
    sys = plain + ([] if environment.privileged else ["ro"])

    def entry(target, kind, *options, source=None):
        return {"destination": target, "type": kind, "source": source or kind, "options": list(options)}

    out = [entry("/proc", "proc", *plain),
           entry("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
           entry("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
           entry("/dev/shm", "tmpfs", *plain, "mode=1777", "size=65536k"),
           entry("/dev/mqueue", "mqueue", *plain)]
    if environment.ids:  # sysfs shows the network, which is not this user namespace's
        out.append(entry("/sys", "bind", "rbind", *sys, source="/sys"))
    else:
        out += [entry("/sys", "sysfs", *sys), entry("/sys/fs/cgroup", "cgroup", *sys)]
    return out + [entry(target, "bind", "rbind", "rw", source=source) for target, source in volumes.items()]


def devices(environment):
    """(nodes beyond those that each container has, rules of the cgroup)"""
    if not environment.privileged:
        return [], [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "access": "m"},
                    {"allow": True, "type": "b", "access": "m"}]
    nodes = []
    for path in filter(os.path.exists, DEVICES):
        found = os.stat(path)
        nodes.append({"path": path, "type": "c", "major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev),
                      "fileMode": found.st_mode & 0o777, "uid": 0, "gid": 0})
    return nodes, [{"allow": True, "access": "rwm"}]


def config(environment, command, variables, root, volumes, name):
    """`config.json` for one command. The network is the caller's: base images come from a registry on loopback."""
    uid, gid = environment.user
    nodes, rules = devices(environment)
    kinds = ["pid", "ipc", "uts", "mount", "cgroup"] + (["user"] if environment.ids else [])
    linux = {"namespaces": [{"type": kind} for kind in kinds], "cgroupsPath": "/" + name, "devices": nodes,
             "resources": {"devices": rules}, "maskedPaths": MASKED if environment.masked else [],
             "readonlyPaths": READ_ONLY if environment.masked else []}
    if environment.ids:
        ids = [dict(zip(("containerID", "hostID", "size"), row)) for row in environment.ids]
        linux.update(uidMappings=ids, gidMappings=ids)
    if seccomp := profiles.resolved(environment.seccomp, environment.caps, environment.denied):
        linux["seccomp"] = seccomp
    return {
        "ociVersion": "1.0.2", "hostname": NAME, "linux": linux,
        "process": {"terminal": False, "user": {"uid": uid, "gid": gid}, "args": command,
                    "env": [f"{k}={v}" for k, v in variables.items()], "cwd": environment.volumes[0],
                    "noNewPrivileges": environment.no_new_privileges, "capabilities": capabilities(environment)},
        "root": {"path": root, "readonly": environment.read_only},
        "mounts": mounts(environment, volumes),
    }
