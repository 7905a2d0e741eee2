"""A network of its own, with its own name server, /etc/hosts and registry, for one command.

Run as a program by root: `python3 -m harness.island JSON`. The job holds `names` (what the name server
knows), `files` (target -> source, bound over), `registry` (directory and port) and `commands`, each with
cmd, env, cwd, uid, gid. Prints one JSON list: status, stdout and stderr of each command.
"""

import json
import subprocess
import sys
import time

from . import registry, serve


def run(command):
    done = subprocess.run(command["cmd"], env=command["env"], cwd=command["cwd"], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=120, preexec_fn=serve.drop(command["uid"], command["gid"]))
    return {"status": done.returncode, "stdout": done.stdout.decode(errors="replace"),
            "stderr": done.stderr.decode(errors="replace")}


def main(job):
    serve.private_network()
    serve.private_mounts(job["files"])
    names = subprocess.Popen([sys.executable, "-m", "harness.nameserver", *job["names"]], stdin=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        with registry.Server(job["registry"]["dir"], job["registry"]["port"]):
            results = [run(c) for c in job["commands"]]
    finally:
        names.terminate()
        names.wait()
    print(json.dumps(results))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
