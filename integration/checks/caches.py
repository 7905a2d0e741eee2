"""Caches that machines share: a real registry with a password, and other programs that look at what is in it."""

import json
import os

from checks.registries import PASSWORD, USER, auth_server, fresh, login
from harness import peers
from harness.cli import OK, Bench
from harness.report import expect, same

DOCKERFILE = """FROM busybox AS tools
RUN mkdir /out && echo tool > /out/tool
COPY data /out/data
FROM busybox
COPY --from=tools /out /srv
RUN --mount=from=tools,source=/out,target=/in cat /in/data > /srv/copy
CMD ["cat", "/srv/copy"]
"""


def context(bench):
    return bench.folder("shared", {"Dockerfile": DOCKERFILE, "data": "shared content\n"})


def built(bench, folder, tag, *args):
    """Builds and pushes; returns what the build said."""
    done = bench.build(folder, "-t", tag, "--push", *args, env=bench.user.env(SOURCE_DATE_EPOCH="1600000000"))
    return done.stderr.decode()


def registry_cache(env):
    """A machine with an empty store executes nothing, fetches no layer, and pushes the same image."""
    bench = Bench(env)
    with auth_server(env, "shared-cache") as server:
        folder, cache = context(bench), f"{server.host}/it/cache"
        login(bench, server, PASSWORD, OK)
        flags = ["--cache-to", f"type=registry,ref={cache},mode=max", "--cache-from", cache]
        built(bench, folder, f"{server.host}/it/shared:1", *flags)
        client = server.client(user=USER, password=PASSWORD)
        before = len(server.log())
        said = built(fresh(bench), folder, f"{server.host}/it/shared:2", *flags)
        log = server.log()[before:]
        expect(said.count("CACHED") == 4, f"not every step was found:\n{said}")
        same(client.manifest("it/shared", "2"), client.manifest("it/shared", "1"), "the image of the second machine")
        layers = [layer["digest"] for layer in client.manifest("it/shared", "1")[1]["layers"]]
        for layer in layers:
            expect(f'"GET /v2/it/cache/blobs/{layer}' not in log, f"the layer {layer} was fetched")
        expect('"PATCH ' not in log, "the second machine sent a blob")
        name = f"{server.host}/it/shared:2"
        third = fresh(bench)
        same(third.call("run", name, "cat", "/srv/copy").stdout.decode(), "shared content\n", "what the image holds")
        tags = json.loads(client.request("GET", "/v2/it/cache/tags/list")[2])["tags"]
        expect(len(tags) >= 4 and all(tag.startswith("lapstrake-") for tag in tags), f"tags: {tags}")
        peers.need("skopeo")
        for tag in tags:
            seen = peers.call("skopeo", "inspect", "--tls-verify=false", f"--creds={USER}:{PASSWORD}",
                              f"docker://{cache}:{tag}")
            expect(json.loads(seen)["Layers"], f"skopeo sees no layer of {tag}")


def directory_cache(env):
    """What is left in a directory is an image layout for others, and a cache for an empty store."""
    bench = Bench(env)
    folder = context(bench)
    place = os.path.join(bench.user.subdir("shared-dir"), "cache")
    bench.build(folder, "-t", "it/dir", "--cache-to", f"type=local,dest={place},mode=max")
    done = fresh(bench).build(folder, "-t", "it/dir", "--cache-from", f"type=local,src={place}")
    same(done.stderr.decode().count("CACHED"), 4, "steps that were found")
    with open(os.path.join(place, "index.json")) as f:
        names = [m["annotations"]["org.opencontainers.image.ref.name"] for m in json.load(f)["manifests"]]
    peers.need("skopeo")
    for name in names:
        peers.call("skopeo", "inspect", f"oci:{place}:{name}")


CHECKS = [
    ("caches: a registry with a password", registry_cache),
    ("caches: a directory", directory_cache),
]
