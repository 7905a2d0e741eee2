"""A real `docker-registry` process on loopback, plain or with basic auth or TLS."""

import os
import shutil
import socket
import subprocess
import time

from . import oci

CONFIG = """version: 0.1
log: {{level: info}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
http:
  addr: {addr}
  secret: loopback-tests
{tls}{auth}"""


def free_port(host="127.0.0.1"):
    with socket.socket() as s:
        s.bind((host, 0))
        return s.getsockname()[1]


def binary():
    for name in ("docker-registry", "registry"):
        if path := shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin"):
            return path
    return None


class Server:
    """`with Server(dir) as s:` serves `dir/data` at `s.host` (address and port) until the end."""

    def __init__(self, directory, port=None, htpasswd=None, tls=None):
        self.dir = os.path.abspath(directory)
        self.port = port or free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.htpasswd, self.tls = htpasswd, tls
        self.child = None

    def _config(self):
        tls = auth = ""
        if self.tls:
            tls = f"  tls: {{certificate: {self.tls[0]}, key: {self.tls[1]}}}\n"
        if self.htpasswd:
            auth = f"auth:\n  htpasswd: {{realm: tests, path: {self.htpasswd}}}\n"
        return CONFIG.format(storage=os.path.join(self.dir, "data"), addr=self.host, tls=tls, auth=auth)

    def start(self):
        program = binary()
        if not program:
            raise RuntimeError("docker-registry is not installed (apt-get install docker-registry)")
        os.makedirs(os.path.join(self.dir, "data"), exist_ok=True)
        config = os.path.join(self.dir, f"config-{self.port}.yml")
        with open(config, "w") as f:
            f.write(self._config())
        with open(os.path.join(self.dir, f"log-{self.port}"), "w") as log:
            self.child = subprocess.Popen([program, "serve", config], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log)
        self._wait()
        return self

    def _wait(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"docker-registry did not start; see {self.dir}/log-{self.port}")

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
            for name in ("config-{}.yml", "log-{}"):
                os.unlink(os.path.join(self.dir, name.format(self.port)))
        self.child = None

    def log(self):
        with open(os.path.join(self.dir, f"log-{self.port}"), errors="replace") as f:
            return f.read()

    def client(self, **kw):
        return oci.Registry(self.host, **kw)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
