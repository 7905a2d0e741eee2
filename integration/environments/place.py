"""An environment at work: its directories, its mounts, and how a command is started in it.

A `Place` has what the scenarios want of a user: directories for contexts and exports (the first volume, which the
machine and the environment both see), variables, and a way to run commands. Each command of a container is a container
of its own, as a job's is; volumes and the root's upper layer stay.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid

from harness import users

from . import bundle, keeper

LOGIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "login.py")


class Place:
    def __init__(self, name, environment, scratch, binary):
        self.name, self.mode = name, name.lower()
        self.environment = environment
        self.base = os.path.join(scratch, name)
        self.uid = self.gid = 0  # of what starts a command; root on the machine
        os.mkdir(self.base)
        os.chmod(self.base, 0o755)
        self.volumes = {target: os.path.join(self.base, "volumes", str(n))
                        for n, target in enumerate(environment.volumes)}
        self.dir = self.volumes[environment.volumes[0]]
        for path in self.volumes.values():
            bundle.folder(environment, path, 0o777)
        if environment.login:
            self.binary = binary
            self.home = self.subdir("home")
            self.keeper = keeper.Keeper(self.login_mounts())
        else:
            self.binary = bundle.PROGRAM
            self.home = environment.home
            self.keeper = keeper.Keeper(self.container_mounts(binary))

    def login_mounts(self):
        etc = os.path.join(self.base, "etc")
        os.mkdir(etc)
        for name, text in bundle.etc(self.environment).items():
            with open(os.path.join(etc, name), "w") as f:
                f.write(text)
        return [(os.path.join(etc, name), "/etc/" + name, "bind", "") for name in os.listdir(etc)]

    def container_mounts(self, binary):
        part = {name: os.path.join(self.base, name) for name in ("image", "upper", "work", "root")}
        os.mkdir(part["root"])
        bundle.folder(self.environment, part["work"])
        bundle.image(self.environment, part["image"], binary)
        bundle.writable(self.environment, part["upper"])
        for target in [*self.environment.volumes, *self.environment.memory]:
            if not os.path.isdir(part["image"] + target):
                bundle.folder(self.environment, part["image"] + target)
        layers = f"lowerdir={part['image']},upperdir={part['upper']},workdir={part['work']}"
        out = [("overlay", part["root"], "overlay", layers)]
        for n, target in enumerate(self.environment.memory):
            path = self.volumes[target] = os.path.join(self.base, "memory", str(n))
            os.makedirs(path)
            root = bundle.outside(self.environment, 0)
            out.append(("tmpfs", path, "tmpfs", f"mode=0777,uid={root},gid={root}"))
        return out

    def subdir(self, name):
        path = os.path.join(self.dir, name)
        bundle.folder(self.environment, path, 0o755, *self.environment.user)
        return path

    def take(self, source, name):
        """A copy of a directory that belongs to the environment's user."""
        return users.copy_for(self, source, name,
                              lambda path: bundle.give(self.environment, path, *self.environment.user))

    def env(self, **extra):
        """The variables of a command. They hold no more than an engine sets, and what the network needs."""
        kept = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
        who = {"USER": bundle.NAME, "LOGNAME": bundle.NAME} if self.environment.login else {}
        home = {"HOME": self.home} if self.home else {}
        return {"PATH": bundle.PATH, **home, **who, **kept, **self.environment.variables, **extra}

    def store(self):
        """The path of the store that lapstrake is expected to choose."""
        return self.environment.place_of_store.replace("~", self.home, 1)

    def inside(self, text):
        """An argument as the environment has it: the machine's paths of volumes become the container's."""
        if not self.environment.login:
            for target, path in self.volumes.items():
                text = text.replace(path, target)
        return text

    def enter(self, command, **extra):
        """The machine's command line that runs `command` here. It is root's, and is for one use."""
        command = [self.inside(word) for word in command]
        if self.environment.login:
            return self.keeper.enter([sys.executable, LOGIN, json.dumps(self.job(command, extra))])
        name = f"lapstrake-env-{uuid.uuid4().hex[:12]}"
        path = os.path.join(self.base, "jobs", name)
        os.makedirs(path)
        with open(os.path.join(path, "config.json"), "w") as f:
            json.dump(bundle.config(self.environment, command, self.env(**extra), os.path.join(self.base, "root"),
                                    self.volumes, name), f)
        return self.keeper.enter(["runc", "--root", self.state(), "run", "--bundle", path, name])

    def job(self, command, extra):
        uid, gid = self.environment.user
        return {"uid": uid, "gid": gid, "cwd": self.dir, "env": self.env(**extra), "command": command,
                "denied": self.environment.denied, "user_namespaces": self.environment.user_namespaces}

    def state(self):
        return os.path.join(self.base, "state")

    def run(self, command, timeout=600, **_):
        """Runs a line made by `enter` to its end, with output captured as bytes."""
        return subprocess.run(command, env={"PATH": users.SYSTEM_PATH}, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=timeout, cwd="/")

    def close(self):
        """Ends what still runs here and removes everything."""
        if os.path.isdir(self.state()):
            for name in os.listdir(self.state()):
                subprocess.run(self.keeper.enter(["runc", "--root", self.state(), "delete", "--force", name]),
                               capture_output=True)
        self.keeper.close()
        shutil.rmtree(self.base, ignore_errors=True)
