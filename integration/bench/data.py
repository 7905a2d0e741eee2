"""What is built of: files that compress about as well as programs do, the same in every run; and a base image of
them, which is made once and kept by the registry."""

import concurrent.futures
import io
import os
import random
import tarfile

from harness import bases, oci

FILES, TREE_BYTES = 20_000, 200_000_000
BASE_BYTES, BASE_LAYERS = 500_000_000, 4
PART = 64 << 20
PARTS = 16  # of these a layer of 1 GiB is made
VERSION = "1"  # of the base image: to be changed with what makes it


def pool(size, seed=0):
    """`size` bytes: lines of words, with a third of random bytes between them. gzip makes two thirds of it."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("etaoinshrdlucmfwyp", k=rng.randint(2, 9))) for _ in range(3000)]
    lines = [" ".join(rng.choices(words, k=rng.randint(4, 12))) for _ in range(20_000)]
    out = bytearray()
    while len(out) < size:
        out += "\n".join(rng.choices(lines, k=60)).encode()
        out += rng.randbytes(1200)
    return bytes(out[:size])


def sizes(count, total, seed=0):
    """`count` sizes of files, few large and many small, that are `total` together, nearly."""
    rng = random.Random(seed)
    raw = [rng.paretovariate(1.3) for _ in range(count)]
    raw = [min(r, 100) for r in raw]
    return [max(1, int(r * total / sum(raw))) for r in raw]


def files(count, total, seed=0):
    """Yields (path, content), 100 to a directory."""
    stock = pool(8 << 20, seed)
    rng = random.Random(seed)
    for n, size in enumerate(sizes(count, total, seed)):
        start = rng.randrange(len(stock) - size)
        yield f"d{n // 2000:02}/d{n // 100 % 20:02}/f{n:05}", b"%d\n" % n + stock[start:start + size]


def write_tree(path):
    """A directory of 20,000 files, 200 MB."""
    for name, content in files(FILES, TREE_BYTES):
        target = os.path.join(path, name)
        if not os.path.isdir(os.path.dirname(target)):
            os.makedirs(os.path.dirname(target))
        with open(target, "wb") as f:
            f.write(content)


def write_sources(path, count=16, functions=36):
    """C files that take a compiler some seconds."""
    os.makedirs(path)
    for n in range(count):
        with open(os.path.join(path, f"part{n:02}.c"), "w") as f:
            f.write("#include <stdio.h>\n#include <string.h>\n")
            for k in range(functions):
                f.write(f"int part{n}_{k}(int a, char *s) {{ int t[{k % 7 + 3}] = {{a}}; for (int i = 0; i < a; i++) "
                        f"{{ t[i % {k % 7 + 3}] += (int)strlen(s) * {k + 1} ^ i; if (t[0] > {n * 1000 + k}) "
                        f"snprintf(s, 9, \"%d\", t[i % 3]); }} return t[0] + t[1] * t[2]; }}\n")
    with open(os.path.join(path, "main.c"), "w") as f:
        f.write("int part0_0(int, char *);\nint main(int n, char **v) { return part0_0(n, v[0]) & 1; }\n")


def _layer(path, part):
    """One of the layers of the base: its share of the files."""
    writer = oci.LayerWriter(path)
    with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        seen = set()
        for name, content in files(FILES // BASE_LAYERS, BASE_BYTES // BASE_LAYERS, seed=part + 1):
            name = f"usr/share/part{part}/{name}"
            for end in [i for i, c in enumerate(name) if c == "/"]:
                if name[:end] not in seen:
                    seen.add(name[:end])
                    folder = tarfile.TarInfo(name[:end])
                    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(folder)
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    writer.finish()


def big_layers(server, scratch):
    """Sees to it that the registry has `big`: busybox with 20,000 files, 500 MB, in four layers beside its own.
    Returns the paths of the four as they are in the registry."""
    client = server.client()
    manifest = client.manifest("library/big", VERSION)
    if not manifest:
        bases.say("making the base image of 500 MB and 20,000 files")
        _make_big(client, scratch)
        manifest = client.manifest("library/big", VERSION)
    blobs = os.path.join(server.dir, "data", "docker", "registry", "v2", "blobs", "sha256")
    digests = [layer["digest"].removeprefix("sha256:") for layer in manifest[1]["layers"][1:]]
    return [os.path.join(blobs, digest[:2], digest, "data") for digest in digests]


def _make_big(client, scratch):
    below = client.manifest("library/busybox", "latest")[1]
    entry = below["layers"][0]
    config = oci.json.loads(client.blob("library/busybox", below["config"]["digest"]))
    bottom = os.path.join(scratch, "bottom.layer")
    with open(bottom, "wb") as f:
        f.write(client.blob("library/busybox", entry["digest"]))
    paths = [os.path.join(scratch, f"big{n}.layer") for n in range(BASE_LAYERS)]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(_layer, paths, range(BASE_LAYERS)))
    layers = [oci.Layer(bottom, entry["digest"], entry["size"], config["rootfs"]["diff_ids"][0], "gzip"),
              *map(oci.Layer.load, paths)]
    body = oci.image_config(layers, config["architecture"], config["config"], [f"layer {n}" for n in range(len(layers))])
    oci.push_image(client, "library/big", VERSION, layers, body)
    for path in [bottom, *paths]:
        os.unlink(path)
