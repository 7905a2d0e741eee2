"""Registries: plain http, basic auth, TLS with a private authority, tokens, and bad luck on the way."""

import base64
import json
import os
import re
import shutil
import subprocess
import uuid

from harness import faults, oci, registry
from harness.cli import OK, REGISTRY, Bench
from harness.report import Skip, expect, same

USER, PASSWORD = "lap", "strake"
# What `htpasswd -B` makes of the two; the registry takes nothing weaker.
HTPASSWD = "lap:$2y$05$OXDVdr8MKSrLmxfhDrqHVOfU00cJ4ln.T22bKCqbJm/35agaV7wZy\n"


def fresh(bench):
    """The same user with an empty store."""
    store = os.path.join(bench.user.dir, "store-" + uuid.uuid4().hex[:8])
    return Bench(bench.env, bench.user.mode, store=store)


def pull(bench, name, **kw):
    return bench.call("pull", name, **kw)


def uploads(log, repo):
    """How many requests of a registry's log carried data of a blob to a repository."""
    return len(re.findall(rf'"(?:PATCH|PUT) /v2/{repo}/blobs/uploads/', log))


def built(bench, text):
    """A small image of its own under a fresh name; returns the name."""
    name = "it/own-" + uuid.uuid4().hex[:8]
    context = bench.folder("own", {"Dockerfile": f"FROM busybox\nRUN echo {text}-{name} > /own\n"})
    bench.build(context, "-t", name)
    return name


def push_plain(env):
    """Pushes, pulls back, pushes again without sending a blob, and mounts from another repository."""
    bench = Bench(env)
    with registry.Server(os.path.join(env.scratch, "plain")) as server:
        name = built(bench, "plain")
        first, second = f"{server.host}/{name}:1", f"{server.host}/it/second:1"
        bench.call("tag", name, first)
        bench.call("push", first)
        sent = uploads(server.log(), name)
        expect(sent >= 3, f"the first push sent {sent} blobs; two layers and a config were expected")
        bench.call("push", first)
        same(uploads(server.log(), name), sent, "blobs sent by the first and the second push together")
        bench.call("tag", name, second)
        bench.call("push", second)
        expect("mount=sha256" in server.log(), "the push to a second repository asked for no mount")
        layers = server.client().manifest(name, "1")[1]["layers"]
        same(server.client().manifest("it/second", "1")[1]["layers"], layers, "layers in the second repository")
        base = env.registry.client().manifest("library/busybox", "latest")[1]["layers"]
        same(layers[0]["digest"], base[0]["digest"], "the base's layer in the registry")
        other = fresh(bench)
        pull(other, second)
        same(other.call("run", second, "cat", "/own").stdout.decode(), f"plain-{name}\n", "what the pulled image prints")


def push_from_build(env):
    bench = Bench(env)
    with registry.Server(os.path.join(env.scratch, "direct")) as server:
        context = bench.folder("direct", {"Dockerfile": "FROM busybox\nRUN echo direct > /own\n"})
        bench.build(context, "-t", f"{server.host}/it/direct:2", "--push")
        expect(server.client().manifest("it/direct", "2"), "build --push left nothing in the registry")
        bench.build(context, "-o", f"type=image,name={server.host}/it/direct:3,push=true")
        expect(server.client().manifest("it/direct", "3"), "-o type=image,push=true left nothing in the registry")


def auth_server(env, name, **kw):
    path = os.path.join(env.scratch, name)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "htpasswd"), "w") as f:
        f.write(HTPASSWD)
    return registry.Server(path, htpasswd=os.path.join(path, "htpasswd"), **kw)


def basic_auth(env):
    bench = Bench(env)
    with auth_server(env, "auth") as server:
        same(server.client(user=USER, password=PASSWORD).request("GET", "/v2/")[0], 200, "the test's own login")
        name = built(bench, "auth")
        target = f"{server.host}/{name}:1"
        bench.call("tag", name, target)
        bench.error(bench.call("push", target, code=REGISTRY), "login|auth|401|credential", re.escape(server.host))
        login(bench, server, "wrong", REGISTRY)
        login(bench, server, PASSWORD, OK)
        config = os.path.join(bench.user.home, ".docker", "config.json")
        same(os.stat(config).st_mode & 0o077, 0, "permissions of config.json for others")
        done = bench.call("push", target)
        expect(PASSWORD.encode() not in done.stderr + done.stdout, "the password is in the output")
        pull(fresh(bench), target)
        bench.call("logout", server.host)
        with open(config) as f:
            expect(server.host not in json.load(f).get("auths", {}), "logout left the registry in config.json")
        bench.error(pull(fresh(bench), target, code=REGISTRY), "login|auth|401|credential")


def login(bench, server, password, code):
    path = os.path.join(bench.user.dir, "password")
    with open(path, "w") as f:
        f.write(password + "\n")
    with open(path) as f:
        return bench.call("login", "-u", USER, "--password-stdin", server.host, stdin=f, code=code)


def existing_config(env):
    """Credentials that docker wrote, in the file that DOCKER_CONFIG names."""
    bench = Bench(env)
    with auth_server(env, "auth-file") as server:
        folder = bench.user.subdir("docker-config")
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump({"auths": {server.host: {"auth": token}}}, f)
        name = built(bench, "file")
        bench.call("tag", name, f"{server.host}/{name}:1")
        bench.call("push", f"{server.host}/{name}:1", env=bench.user.env(DOCKER_CONFIG=folder))


HELPER = """#!/bin/sh
read -r server
echo "$1 $server" >> "$HELPER_LOG"
printf '{"ServerURL":"%s","Username":"lap","Secret":"strake"}' "$server"
"""


def credential_helper(env):
    bench = Bench(env)
    with auth_server(env, "auth-helper") as server:
        folder, tools = bench.user.subdir("helper-config"), bench.user.subdir("helper-bin")
        program = os.path.join(tools, "docker-credential-tests")
        with open(program, "w") as f:
            f.write(HELPER)
        os.chmod(program, 0o755)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump({"credHelpers": {server.host: "tests"}}, f)
        log = os.path.join(folder, "log")
        name = built(bench, "helper")
        bench.call("tag", name, f"{server.host}/{name}:1")
        env_ = bench.user.env(DOCKER_CONFIG=folder, HELPER_LOG=log)
        env_["PATH"] = tools + ":" + env_["PATH"]
        bench.call("push", f"{server.host}/{name}:1", env=env_)
        with open(log) as f:
            expect(f"get {server.host}" in f.read(), "the helper was not asked for this registry")


def certificates(folder):
    """A private authority and a certificate for 127.0.0.1 that it signed: (authority, certificate, key)."""
    if not shutil.which("openssl"):
        raise Skip("not installed: openssl")
    os.makedirs(folder, exist_ok=True)
    paths = {n: os.path.join(folder, n) for n in ("ca.key", "ca.crt", "key", "csr", "crt", "ext")}
    with open(paths["ext"], "w") as f:
        f.write("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for command in (
        ["openssl", "req", "-x509", *ec, "-keyout", paths["ca.key"], "-out", paths["ca.crt"], "-days", "30",
         "-subj", "/CN=authority of the tests"],
        ["openssl", "req", *ec, "-keyout", paths["key"], "-out", paths["csr"], "-subj", "/CN=127.0.0.1"],
        ["openssl", "x509", "-req", "-in", paths["csr"], "-CA", paths["ca.crt"], "-CAkey", paths["ca.key"],
         "-CAcreateserial", "-days", "30", "-extfile", paths["ext"], "-out", paths["crt"]],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return paths["ca.crt"], paths["crt"], paths["key"]


def private_tls(env):
    """TLS by an authority that only the configuration file names; without it nothing is trusted."""
    bench = Bench(env)
    authority, certificate, key = certificates(os.path.join(env.scratch, "tls"))
    readable = shutil.copy(authority, os.path.join(bench.user.dir, "authority.crt"))
    os.chmod(readable, 0o644)
    with registry.Server(os.path.join(env.scratch, "tls"), tls=(certificate, key)) as server:
        name = built(bench, "tls")
        target = f"{server.host}/{name}:1"
        bench.call("tag", name, target)
        strict = config(bench, "strict", f'[registry."{server.host}"]\nplain-http = false\n')
        bench.error(bench.call("push", target, code=REGISTRY, env=strict), "certificate|tls|issuer")
        trusting = config(bench, "trusting", f'[registry."{server.host}"]\nca = "{readable}"\n')
        bench.call("push", target, env=trusting)
        pull(fresh(bench), target, env=trusting)
        expect(server.client(tls_ca=authority).manifest(name, "1"), "nothing arrived over TLS")


def config(bench, name, text):
    """The environment in which `text` is the configuration file."""
    folder = bench.user.subdir(f"{name}-config/lapstrake")
    with open(os.path.join(folder, "config.toml"), "w") as f:
        f.write(text)
    return bench.user.env(XDG_CONFIG_HOME=os.path.dirname(folder))


def config_file_mirror(env):
    """The mirror set in config.toml rather than on the command line."""
    bench = fresh(Bench(env))
    pull(bench, "busybox", mirror="",
         env=config(bench, "mirror", f'[registry."docker.io"]\nmirrors = ["http://{bench.mirror}"]\n'))


def bearer_token(env):
    bench = fresh(Bench(env))
    with faults.Faults(env.registry.host, lambda seen: None, token=(USER, PASSWORD, "a-token")) as proxy:
        folder = bench.user.subdir("token-config")
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump({"auths": {proxy.host: {"auth": token}}}, f)
        pull(bench, f"{proxy.host}/library/busybox:latest", env=bench.user.env(DOCKER_CONFIG=folder))
        expect(any(s.path.startswith("/token") for s in proxy.seen), "no token was asked for")
        bench.error(pull(fresh(bench), f"{proxy.host}/library/busybox:latest", code=REGISTRY), "login|auth|401|credential")


def by_digest(env):
    bench = fresh(Bench(env))
    data = env.registry.client().manifest("library/alpine", "latest")[2]
    context = bench.folder("digest", {"Dockerfile": f"FROM alpine@{oci.sha256(data)}\nRUN true\n"})
    bench.build(context)


def first_times(times, fault):
    """The rule that spoils the first `times` answers for each blob."""
    return lambda seen: fault if seen.is_blob and seen.count < times else None


def survives(fault, times=1, also=None):
    def call(env):
        bench = fresh(Bench(env))
        with faults.Faults(env.registry.host, first_times(times, fault)) as proxy:
            pull(bench, "busybox", mirror=proxy.host, timeout=120)
            blobs = [s for s in proxy.seen if s.is_blob]
            expect(len(blobs) > 1, "no blob was asked for twice")
            if also:
                also(blobs)
        same(bench.call("run", "busybox", "echo", "whole", mirror="").stdout, b"whole\n", "the image after the trouble")
    return call


def resumed(blobs):
    ranges = [s.headers.get("Range") or s.headers.get("range") for s in blobs]
    expect(any(r and r.startswith("bytes=") and not r.startswith("bytes=0-") for r in ranges),
           f"the broken download began again from its start: {ranges}")


def gives_up(fault, *wanted, everything=False):
    def call(env):
        bench = fresh(Bench(env))
        rule = (lambda seen: fault) if everything else (lambda seen: fault if seen.is_blob else None)
        context = bench.folder("unlucky", {"Dockerfile": "FROM busybox\nRUN true\n"})
        out = os.path.join(context, "..", "unlucky-out")
        with faults.Faults(env.registry.host, rule) as proxy:
            done = bench.build(context, "-o", f"type=oci,dest={out}", code=REGISTRY, mirror=proxy.host, timeout=300)
            expect(len(proxy.seen) < 60, f"{len(proxy.seen)} requests before it gave up")
        bench.error(done, *wanted)
        expect(not os.path.exists(out), "an output was written although the build failed")
        bench.nothing_unfinished()
        bench.build(context)
    return call


def down(env):
    bench = fresh(Bench(env))
    port = registry.free_port()
    context = bench.folder("down", {"Dockerfile": f"FROM 127.0.0.1:{port}/no/where:1\n"})
    bench.error(bench.build(context, code=REGISTRY, timeout=300), f"127.0.0.1:{port}", "refused|connect")
    bench.nothing_unfinished()


def store_needs_no_registry(env):
    """What the store has is built from without asking anybody."""
    bench = Bench(env)
    context = bench.folder("offline", {"Dockerfile": "FROM busybox\nRUN echo offline > /x\n"})
    bench.build(context)
    bench.build(context, mirror=f"127.0.0.1:{registry.free_port()}")


CHECKS = [
    ("registry: push, push again, push to a second repository, pull", push_plain),
    ("registry: build --push and -o type=image,push=true", push_from_build),
    ("registry: basic auth, login and logout", basic_auth),
    ("registry: credentials of docker's config.json", existing_config),
    ("registry: credential helper", credential_helper),
    ("registry: TLS with a private authority", private_tls),
    ("registry: mirror from the config file", config_file_mirror),
    ("registry: bearer token", bearer_token),
    ("registry: FROM by digest", by_digest),
    ("registry: answers 429 twice", survives((429, {"Retry-After": "1"}), 2)),
    ("registry: answers 503 once", survives((503, {}), 1)),
    ("registry: resets a connection", survives(faults.RESET)),
    ("registry: breaks a download off, which is resumed", survives(faults.CUT, 1, resumed)),
    ("registry: answers 503 for ever", gives_up((503, {}), "503", everything=True)),
    ("registry: sends a tampered blob", gives_up(faults.TAMPER, "sha256:|digest")),
    ("registry: sends half a blob", gives_up(faults.SHORT, "sha256:|size|digest|bytes")),
    ("registry: is down", down),
    ("registry: is down, but the store has the base", store_needs_no_registry),
]
