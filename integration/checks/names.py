"""Names: the static binary asks a real name server and reads /etc/hosts; so do the steps it runs."""

import json
import os
import subprocess
import sys

from harness import registry
from harness.cli import REGISTRY, Bench
from harness.report import Skip, expect, same

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def island(env, bench, commands):
    """Runs lapstrake commands where `ship.test` is known to the name server and `boat.test` to /etc/hosts."""
    if os.geteuid() != 0:
        raise Skip("needs root to make a network namespace with its own name server")
    folder = os.path.join(env.scratch, "island")
    os.makedirs(folder, exist_ok=True)
    files = {"/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
             "/etc/hosts": "127.0.0.1 localhost\n127.0.0.1 boat.test\n"}
    binds = {}
    for target, text in files.items():
        source = os.path.join(folder, os.path.basename(target))
        with open(source, "w") as f:
            f.write(text)
        os.chmod(source, 0o644)
        if not os.path.exists(target):
            raise Skip(f"{target} does not exist")
        binds[target] = source
    job = {"names": ["ship.test=127.0.0.1"], "files": binds,
           "registry": {"dir": env.options.cache, "port": PORT}, "commands": commands}
    done = subprocess.run([sys.executable, "-m", "harness.island", json.dumps(job)], cwd=TOP, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=300)
    expect(done.returncode == 0, f"harness: {done.stderr.decode(errors='replace')[-1500:]}")
    return json.loads(done.stdout)


PORT = registry.free_port()


def command(bench, *args):
    config = bench.user.subdir("island-config/lapstrake")
    with open(os.path.join(config, "config.toml"), "w") as f:
        for name in ("ship.test", "boat.test", "nowhere.test"):
            f.write(f'[registry."{name}:{PORT}"]\nplain-http = true\n')
    return {"cmd": bench.args(*args, mirror=""), "env": bench.user.env(XDG_CONFIG_HOME=os.path.dirname(config)),
            "cwd": bench.user.dir, "uid": bench.user.uid, "gid": bench.user.gid}


def resolves(env):
    bench = Bench(env)
    context = bench.folder("names", {"Dockerfile": f"FROM ship.test:{PORT}/library/busybox:latest\n"
                                     "RUN nslookup ship.test > /asked && grep 127.0.0.1 /asked\n"
                                     "RUN cat /etc/resolv.conf > /resolv\n"})
    results = island(env, bench, [
        command(bench, "pull", f"ship.test:{PORT}/library/busybox:latest"),
        command(bench, "pull", f"boat.test:{PORT}/library/busybox:latest"),
        command(bench, "pull", f"nowhere.test:{PORT}/library/busybox:latest"),
        command(bench, "build", "--progress", "plain", "-t", "it/names", context),
    ])
    for result, what in zip(results, ("a name of the name server", "a name of /etc/hosts", None, "a step that asks")):
        if what:
            same(result["status"], 0, f"exit status for {what}:\n{result['stderr'][-1500:]}")
    same(results[2]["status"], REGISTRY, f"exit status for an unknown name:\n{results[2]['stderr'][-1500:]}")
    expect("nowhere.test" in results[2]["stderr"], f"the message does not name the host:\n{results[2]['stderr']}")


CHECKS = [("names: name server, /etc/hosts, unknown name, steps", resolves)]
