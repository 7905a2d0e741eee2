"""The environments, and what is expected of lapstrake in each.

An environment is what a process may do there: a container as an engine makes it, or a login on a machine. What is
expected is data, too: the mode of the sandbox, where the store lies, and what is said where nothing can be built.
"""

import dataclasses

DOCKER = ("CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
          "AUDIT_WRITE")
CRIO = "CHOWN DAC_OVERRIDE FSETID FOWNER SETGID SETUID SETPCAP NET_BIND_SERVICE KILL"
PODMAN = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
# By number, from 0.
EVERY = ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
         "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
         "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
         "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE")

EPERM, EACCES, ENOSYS = 1, 13, 38
# What AppArmor's profile docker-default has: `deny mount`.
NO_MOUNT = {"mount": EACCES, "move_mount": EACCES, "pivot_root": EACCES}
# Ubuntu moves a process that makes a user namespace to a profile without capabilities.
POWERLESS = {**NO_MOUNT, **dict.fromkeys(("umount2", "chroot", "fsopen", "fsmount", "open_tree", "mount_setattr",
                                          "sethostname", "mknod", "mknodat"), EPERM)}

# Pods with their own user namespace get 65536 ids of the node; rootless podman has the user's own and subordinate ones.
POD_IDS = ((0, 300000, 65536),)
PODMAN_IDS = ((0, 4001, 1), (1, 300000, 65536))

MANY, ONE, CHROOT, REFUSED = "userns-many", "userns-one", "chroot", "refused"


@dataclasses.dataclass(frozen=True)
class Environment:
    """A container, unless `login` is set."""

    what: str
    mode: str  # the strongest that works there, or REFUSED
    user: tuple = (0, 0)
    capabilities: str = DOCKER
    seccomp: str = ""  # a name of profiles.PROFILES
    denied: dict = dataclasses.field(default_factory=dict)  # call -> errno, before the profile
    no_new_privileges: bool = False
    ids: tuple = ()  # of a user namespace: (inside, outside, count)
    masked: bool = True
    passwd: bool = False  # /etc/passwd has the user
    newuidmap: str = ""  # "capabilities" (as in images of builders) or "set-uid" (as the distribution has it)
    read_only: bool = False
    privileged: bool = False
    home: str = ""  # $HOME; not set if empty
    volumes: tuple = ("/scratch",)  # emptyDirs on disk; the first is the working directory
    memory: tuple = ("/mem",)  # emptyDirs in memory
    login: bool = False
    subordinate: bool = False  # of a login: ids in /etc/subuid
    user_namespaces: int = -1  # of a login: user.max_user_namespaces
    variables: dict = dataclasses.field(default_factory=dict)
    store: str = ""  # where it lies when none is named; see `place_of_store`
    says: str = ""  # regular expression for the message of a refusal

    @property
    def caps(self):
        return self.capabilities.split()

    @property
    def place_of_store(self):
        """In the user's home; where that is on an overlay, which holds no other, in the first volume."""
        if self.mode == CHROOT or self.login:
            return self.store or f"{self.home or '~'}/.local/share/lapstrake"
        return self.store or f"{self.volumes[0]}/lapstrake-{self.user[0]}"


def login(what, mode, **kw):
    return Environment(what, mode, user=(4001, 4001), login=True, **kw)


USER = {"user": (1000, 1000), "passwd": True, "home": "/home/user"}
NOTHING = {"capabilities": "", "no_new_privileges": True, "seccomp": "docker"}
ROOT = {"home": "/root"}
SECCOMP = r"seccomp"

ENVIRONMENTS = {
    "E1": login("login with subordinate ids and set-uid newuidmap", MANY, subordinate=True),
    "E2": login("login without subordinate ids", ONE),
    "E3": Environment("docker run; pod, baseline: root, default capabilities and seccomp profile", CHROOT,
                      seccomp="docker", says=SECCOMP, **ROOT),
    "GL": Environment("GitLab's docker executor: E3 with volumes /builds and /cache", CHROOT, seccomp="docker",
                      volumes=("/builds", "/cache"), memory=(), says=SECCOMP, **ROOT),
    "GH": Environment("GitHub container job: E3 with volume /__w and HOME in another", CHROOT, seccomp="docker",
                      volumes=("/__w", "/github/home"), memory=(), home="/github/home", says=SECCOMP),
    "E3u": Environment("E3 as another user than root", REFUSED, seccomp="docker", says=SECCOMP, **USER),
    "E3c": Environment("CRI-O's default as root: no SYS_CHROOT, no MKNOD, no SETFCAP", REFUSED, capabilities=CRIO,
                       seccomp="crio", says="SYS_CHROOT", **ROOT),
    "E3k": Environment("E3c with SYS_CHROOT, MKNOD and SETFCAP added", CHROOT, capabilities=CRIO + " SYS_CHROOT MKNOD SETFCAP",
                       seccomp="crio", says=SECCOMP, **ROOT),
    "E4": Environment("seccomp Unconfined, newuidmap with file capabilities", MANY, newuidmap="capabilities", **USER),
    "E4s": Environment("E4 with the distribution's set-uid newuidmap", ONE, newuidmap="set-uid", **USER),
    "E4n": Environment("E4 without newuidmap", ONE, **USER),
    "E4o": Environment("E4n with a random user id, group 0, no passwd entry, no HOME", ONE, user=(1000680000, 0)),
    "E4a": Environment("E4 where AppArmor denies mounts (emulated)", CHROOT, newuidmap="capabilities", denied=NO_MOUNT,
                       says=r"AppArmor", **USER),
    "E4d": Environment("E4a without newuidmap", REFUSED, denied=NO_MOUNT, says=r"AppArmor", **USER),
    "E4r": Environment("root, default capabilities, seccomp Unconfined", MANY, **ROOT),
    "E4w": Environment("E4r with a read-only root and no HOME", MANY, read_only=True),
    "E4m": Environment("E4w with the store in memory, by LAPSTRAKE_ROOT", MANY, read_only=True, store="/mem/store",
                       variables={"LAPSTRAKE_ROOT": "/mem/store"}),
    "E5": Environment("pod, restricted: no capabilities, no_new_privs, default profile", REFUSED, says=SECCOMP, **USER,
                      **NOTHING),
    "E5r": Environment("E5 with a read-only root", REFUSED, read_only=True, volumes=("/scratch", "/tmp", "/home/user"),
                       says=SECCOMP, **USER, **NOTHING),
    "E5p": Environment("E5 with podman's profile from a file of the node (seccompProfile Localhost)", ONE, **USER,
                       **{**NOTHING, "seccomp": "podman"}),
    "E6": Environment("OpenShift restricted-v2: random user id, group 0, no passwd entry", REFUSED, user=(1000680000, 0),
                      home="/", says=SECCOMP, **{**NOTHING, "seccomp": "crio"}),
    "E7": Environment("pod with hostUsers: false", CHROOT, seccomp="docker", ids=POD_IDS, says=SECCOMP, **ROOT),
    "E7a": Environment("E7 with SYS_ADMIN", MANY, capabilities=DOCKER + " SYS_ADMIN", seccomp="docker", ids=POD_IDS, **ROOT),
    "E7p": Environment("E7a with procMount: Unmasked", MANY, capabilities=DOCKER + " SYS_ADMIN", seccomp="docker",
                       ids=POD_IDS, masked=False, **ROOT),
    "E7x": Environment("E7 with seccomp Unconfined and procMount: Unmasked", MANY, ids=POD_IDS, masked=False, **ROOT),
    "E8": Environment("privileged container", MANY, capabilities=EVERY, masked=False, privileged=True, **ROOT),
    "E10": login("login where Ubuntu restricts user namespaces (emulated)", REFUSED, subordinate=True, denied=POWERLESS,
                 says=r"AppArmor"),
    "E11": login("login with user.max_user_namespaces=0", REFUSED, subordinate=True, user_namespaces=0,
                 says=r"user\.max_user_namespaces"),
    "E11b": login("login where unshare is refused (emulated)", REFUSED, subordinate=True,
                  denied={"unshare": EPERM, "clone3": ENOSYS}, says=r"cannot (make|create) a user namespace"),
    "E13": Environment("rootless podman run", MANY, capabilities=PODMAN, seccomp="podman", ids=PODMAN_IDS, **ROOT),
}

# Modes that are taken without being asked for. Where another one is expected lapstrake must refuse, until it is here.
PRESENT = (MANY, ONE, CHROOT)

# Images that hold the time at which they were built, or other things of which each build has its own: these are looked
# into, but their digests are not compared.
UNLIKE = {
    "it/wordtally:builder": "the compiler's cache holds times",
}
EPOCH = "1700000000"


def expected(environment):
    """The mode that is expected of the product as it is."""
    return environment.mode if environment.mode in PRESENT else REFUSED
