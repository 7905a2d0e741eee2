"""Small builds by one user, for checks of the command itself."""

import os
import re
import shutil

from .builders import tail
from .report import Failure, Skip, same

OK, INTERNAL, USAGE, DOCKERFILE, RUN, REGISTRY, ENVIRONMENT, SIGINT, SIGTERM = 0, 1, 2, 3, 4, 5, 6, 130, 143


class Bench:
    """A user, a store and throw-away contexts."""

    def __init__(self, env, mode="many", store=None):
        builder = env.builder_for(mode)
        if isinstance(builder, str) and mode == "many":
            builder = env.builder_for("one")
        if isinstance(builder, str):
            raise Skip(builder)
        self.env, self.builder, self.user = env, builder, builder.user
        self.binary, self.mirror = builder.binary, env.registry.host
        self.store = store or builder.user.store

    def folder(self, name, files):
        """A fresh context of this user; `files` maps names to text, bytes or None (a directory)."""
        path = os.path.join(self.user.dir, "check-" + name)
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        for leaf, content in files.items():
            target = os.path.join(path, leaf)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if content is None:
                os.makedirs(target)
                continue
            with open(target, "wb") as f:
                f.write(content.encode() if isinstance(content, str) else content)
        for top, _, leaves in os.walk(path):
            for leaf in [".", *leaves]:
                os.chown(os.path.join(top, leaf), self.user.uid, self.user.gid)
        return path

    def args(self, *args, mirror=None):
        mirror = self.mirror if mirror is None else mirror
        return [self.binary, "--root", self.store, *([f"--registry-mirror=docker.io=http://{mirror}"] if mirror else []),
                *args]

    def call(self, *args, code=OK, mirror=None, env=None, **kw):
        """Runs lapstrake; the exit status must be `code` (or one of a tuple)."""
        done = self.user.run(self.args(*args, mirror=mirror), env=env, **kw)
        codes = code if isinstance(code, tuple) else (code,)
        if done.returncode not in codes:
            raise Failure(f"lapstrake {' '.join(args)}: exit status {done.returncode}, expected {code}\n"
                          f"{tail(done.stdout)}\n{tail(done.stderr)}")
        return done

    def build(self, context, *args, **kw):
        return self.call("build", "--progress", "plain", *args, context, **kw)

    def error(self, done, *wanted):
        """The message for people holds each of the regular expressions and no sign of a crash."""
        text = done.stderr.decode(errors="replace")
        for pattern in wanted:
            if not re.search(pattern, text, re.I):
                raise Failure(f"the message does not match {pattern!r}:\n{text}")
        for pattern in ("panicked at", "RUST_BACKTRACE", "stack backtrace"):
            if pattern in text:
                raise Failure(f"the message is a crash:\n{text}")
        return text

    def nothing_unfinished(self):
        """No file of an unfinished step is left in the store."""
        tmp = os.path.join(self.store, "v1", "tmp")
        if os.path.isdir(tmp):
            left = [n for n in os.listdir(tmp) if any(os.scandir(os.path.join(tmp, n)))
                    if os.path.isdir(os.path.join(tmp, n))]
            same(left, [], "unfinished files in the store")
