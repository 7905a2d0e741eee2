"""The workloads. Each case is a function of the `World` that gives its rows; a row is one line of the table."""

import os
import re
import subprocess

from harness.report import Failure

from . import data

MANY = "COPY tree /tree\n"
SLEEPERS = 8
STEPS = 17  # of W9


class Row:
    """A line of the table. `command(builder, n)` is what is timed, for the run `n`, a number that no run had before;
    `before` and `after` of each run and `setup` of each builder are not. `check` sees what was printed and returns a
    remark or nothing. `steps` asks for a second line, the time of each of them. `limit` names one of `limits`.
    A row that does not run steps is measured with one kind of buildah."""

    def __init__(self, name, command, setup=None, before=None, after=None, check=None, steps=None, limit=None,
                 seconds=300, runs=True):
        self.name, self.command, self.setup, self.before, self.after = name, command, setup, before, after
        self.check, self.steps, self.limit, self.seconds, self.runs = check, steps, limit, seconds, runs


class World:
    """What the rows share: contexts, made when they are first asked for, and the registries' addresses."""

    def __init__(self, scratch, server, room, call, times):
        self.scratch, self.server, self.call, self.times = scratch, server, call, times
        self.room = room  # address of an empty registry, for what is pushed
        self.runs = 0

    def path(self, name):
        return os.path.join(self.scratch, name)

    def _made(self, name, make):
        path = self.path(name)
        if not os.path.exists(path):
            make(path)
        return path

    def context(self, name, text):
        path = self.path("context-" + name)
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "Dockerfile"), "w") as f:
            f.write(text)
        return path

    def tree(self):
        return self._made("context-tree/tree", data.write_tree)

    def with_tree(self, name, text):
        """The context that holds the tree, and a flag that names a Dockerfile in it."""
        context = os.path.dirname(self.tree())
        file = os.path.join(context, name)
        with open(file, "w") as f:
            f.write(text)
        return context, "-f", file

    def _part(self, path):
        with open(path, "wb") as f:
            f.write(data.pool(data.PART))

    def with_part(self, name, text):
        part = self._made("part", self._part)
        path = self.context(name, text)
        if not os.path.exists(os.path.join(path, "part")):
            os.link(part, os.path.join(path, "part"))
        return path

    def large(self):
        """The 1 GiB of which a layer is made, as one file."""
        def make(path):
            part = self._made("part", self._part)
            with open(part, "rb") as f, open(path, "wb") as out:
                body = f.read()
                for _ in range(data.PARTS):
                    out.write(body)
        return self._made("large", make)

    def sources(self):
        return self._made("sources", data.write_sources)

    def big_layers(self):
        return data.big_layers(self.server, self.scratch)

    def busybox(self):
        """busybox as a directory."""
        def make(path):
            client = self.server.client()
            layer = client.manifest("library/busybox", "latest")[1]["layers"][0]["digest"]
            os.makedirs(path)
            blob = path + ".layer"
            with open(blob, "wb") as f:
                f.write(client.blob("library/busybox", layer))
            subprocess.run(["tar", "-xzf", blob, "-C", path], check=True)
        return self._made("busybox", make)

    def base(self, name="busybox"):
        """A `setup`: the builder has the base image, unpacked."""
        context = self.context("base-" + name.replace(":", "-"), f"FROM {name}\nRUN true\n")
        return lambda builder: self.call(builder, builder.build(context, cached=True))


def cached(world):
    """W1: a rebuild of which nothing, or one file, has changed."""
    context, *file = world.with_tree("cached", f"FROM busybox AS first\n{MANY}FROM busybox\nCOPY --from=first /tree /tree\n")
    files = [os.path.join(top, name) for top, _, names in os.walk(world.tree()) for name in sorted(names)]

    def build(builder, n=None):
        return builder.build(context, *file, cached=True)

    def touch(builder, n):
        for path in files:
            os.utime(path)

    def edit(builder, n):
        with open(files[len(files) // 2], "r+b") as f:
            f.write(b"%8d" % n)

    ready = set()

    def setup(builder):
        if builder.title not in ready:
            world.call(builder, build(builder))
        ready.add(builder.title)

    return [Row("W1: 20,000 files, 200 MB, all cached", build, setup, limit="walk", runs=False),
            Row("W1: … after touching every file", build, setup, before=touch, limit="walk", runs=False),
            Row("W1: … after an edit of one file", build, setup, before=edit, limit="walk", runs=False)]


def steps(world):
    """W2: steps that do nothing."""
    context = world.context("fifty", "FROM busybox\n" + "".join(f"RUN true # {n}\n" for n in range(50)))
    return [Row("W2: 50 RUN of `true`", lambda b, n: b.build(context), world.base(), steps=50, limit="step"),
            Row("W2: … all cached", lambda b, n: b.build(context, cached=True), lambda b: world.call(b, b.build(context, cached=True)),
                runs=False)]


def stages(world):
    """W3: stages that wait."""
    text = "".join(f"FROM busybox AS s{n}\nRUN sleep 1; echo {n} > /n{n}\n" for n in range(SLEEPERS))
    text += "FROM busybox\n" + "".join(f"COPY --from=s{n} /n{n} /n{n}\n" for n in range(SLEEPERS))
    context = world.context("stages", text)
    return [Row(f"W3: {SLEEPERS} stages that sleep 1 s", lambda b, n: b.build(context), world.base())]


def small_on_large(world):
    """W4: steps that write one file on a large base."""
    world.big_layers()
    context = world.context("onefile", f"FROM big:{data.VERSION}\n" + "".join(f"RUN echo {n} > /one\n" for n in range(10)))
    return [Row("W4: 10 RUN of one file on 500 MB, 20,000 files", lambda b, n: b.build(context),
                world.base(f"big:{data.VERSION}"), steps=10)]


def large_layer(world):
    """W5: a layer of 1 GiB, made and exported."""
    numbers = " ".join(map(str, range(data.PARTS)))
    context = world.with_part("large", "FROM busybox AS data\nCOPY part /part\nFROM busybox\nARG N\n"
                              "RUN --mount=type=bind,from=data,target=/data "
                              f"for i in {numbers}; do cat /data/part; done > /large; echo $N > /n\n")
    dest = "large.tar"

    def args(n):
        return "--build-arg", f"N={n}"

    def source(builder, n):
        world.call(builder, builder.build(context, "--target", "data", cached=True))

    def made(builder, n):
        world.call(builder, builder.build(context, *args(n), cached=True))

    def tidy(builder, n):
        path = os.path.join(builder.user.dir, dest)
        if os.path.exists(path):
            os.unlink(path)
        builder.empty()

    def export(kind):
        return lambda b, n: b.export(context, os.path.join(b.user.dir, dest), kind, *args(n))

    return [Row("W5: 1 GiB layer made", lambda b, n: b.build(context, *args(n), cached=True), before=source, after=tidy),
            Row("W5: … exported, gzip", export("gzip"), before=made, after=tidy, limit="pigz", runs=False),
            Row("W5: … exported, zstd", export("zstd"), before=made, after=tidy, limit="zstd", runs=False)]


def copies(world):
    """W6: 20,000 files copied into a stage, and from it into another."""
    context, *plain = world.with_tree("plain", f"FROM busybox\n{MANY}")
    staged = world.with_tree("staged", f"FROM busybox AS first\n{MANY}FROM busybox\nARG N\nCOPY --from=first /tree /tree$N\n")[1:]

    def args(n):
        return *staged, "--build-arg", f"N={n}"

    def first(builder):
        world.call(builder, builder.build(context, *args("first"), cached=True))

    def tidy(builder, n):
        path = os.path.join(builder.user.dir, "copies.tar")
        if os.path.exists(path):
            os.unlink(path)

    return [Row("W6: COPY of 20,000 files, 200 MB", lambda b, n: b.build(context, *plain), world.base(), limit="copy", runs=False),
            Row("W6: COPY --from of them", lambda b, n: b.build(context, *args(n), cached=True), first, limit="copy", runs=False),
            Row("W6: both, exported with gzip", lambda b, n: b.built_and_exported(context, os.path.join(b.user.dir, "copies.tar"), *args(n)),
                first, after=tidy, limit="pack", runs=False)]


def compiled(world):
    """W7: a program compiled in one stage and copied into another."""
    context = world.context("compiled", "FROM gcc:12 AS build\nWORKDIR /src\nCOPY src ./\nRUN gcc -O2 -o /prog *.c\n"
                            "FROM busybox\nCOPY --from=build /prog /prog\n")
    if not os.path.exists(os.path.join(context, "src")):
        data.write_sources(os.path.join(context, "src"))
    return [Row("W7: compile, copy the program, cold", lambda b, n: b.build(context), world.base("gcc:12"), limit="compiler")]


def unpacked(world):
    """W8: a base that is not there yet."""
    world.big_layers()
    context = world.context("unpacked", f"FROM big:{data.VERSION}\nRUN true\n")
    return [Row("W8: pull and unpack 500 MB, 4 layers, then RUN `true`", lambda b, n: b.build(context, cached=True),
                before=lambda b, n: b.empty(), after=lambda b, n: b.empty(), limit="unpack")]


def remote(world):
    """W9: nothing in the store, everything in a cache in the registry."""
    run = "RUN echo ran-$((40+2)); "  # so that only what ran says 42
    context = world.with_part("remote", "FROM busybox AS work\nCOPY part /part\n" +
                              "".join(f"{run}echo {n} > /n{n}\n" for n in range(10)) +
                              f"{run}cp /part /object\n{run}mkdir /out; echo program > /out/program\n"
                              "FROM busybox\nCOPY --from=work /out/program /program\n" +
                              "".join(f"{run}echo {n} > /final{n}\n" for n in range(5)))

    def ran(said):
        return len(re.findall("ran-42", said))

    def setup(builder):
        said = "".join(world.call(builder, command)[1] for command in builder.cache_to(context, world.room))
        if ran(said) != STEPS:
            raise Failure(f"its output shows {ran(said)} of {STEPS} steps that ran without a cache")

    def check(said):
        return f"{ran(said)} of {STEPS} steps ran" if ran(said) else None

    return [Row("W9: empty store, warm cache in the registry", lambda b, n: b.cache_from(context, world.room), setup,
                before=lambda b, n: b.empty(), check=check)]


CASES = {"W1": cached, "W2": steps, "W3": stages, "W4": small_on_large, "W5": large_layer, "W6": copies, "W7": compiled,
         "W8": unpacked, "W9": remote}
