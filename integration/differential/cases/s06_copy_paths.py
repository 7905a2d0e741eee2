"""S6: COPY, what is selected and where it goes; links on both sides."""

from differential.case import Case, Dir, Fifo, File, Hard, Link, Socket

TREE = {
    "file": "file\n", "other": "other\n", "dir/one": "1\n", "dir/two": "2\n", "dir/sub/three": "3\n", "dir/sub/deep/four": "4\n",
    "dir/empty": None, "a.txt": "a\n", "b.txt": "b\n", "c.md": "c\n", ".hidden": "h\n", "dir/.dot": "d\n",
}
LINKS = {
    **TREE, "to-file": Link("file"), "to-dir": Link("dir"), "to-sub": Link("dir/sub"), "absolute": Link("/dir/one"),
    "outside": Link("../../../../etc/passwd"), "dangling": Link("nowhere"), "dir/inner": Link("one"), "dir/up": Link("../file"),
    "chain": Link("to-file"), "dir/dang": Link("nope"), "dir/abs": Link("/etc/passwd"),
}


def case(name, *lines, files=TREE, base="shelf", **more):
    return Case(name, f"FROM {base}\n" + "".join(line + "\n" for line in lines), files, **more)


CASES = [
    case("a file to a name", "COPY file /new"), case("a file to a new directory", "COPY file /new/"),
    case("a file to deep new directories", "COPY file /a/b/c/d"), case("a file over a file", "COPY file /etc/passwd"),
    case("a file into an existing directory", "COPY file /odd/empty"), case("a file to slash and dot", "COPY file /new/."),
    case("a directory to a new name", "COPY dir /new"), case("a directory to a new name with a slash", "COPY dir/ /new/"),
    case("a directory into an existing one", "COPY dir /odd/full"), case("a directory over itself", "COPY dir /t", "COPY dir /t"),
    case("the whole context", "COPY . /t/"), case("the whole context to the root", "COPY . /"), case("dot to dot", "WORKDIR /w", "COPY . ."),
    case("slash as source", "COPY / /t"), case("an empty directory", "COPY dir/empty /t"), case("dot slash", "COPY ./file ./dir/ /t/"),
    case("a relative destination", "WORKDIR /w/x", "COPY file y", "COPY file z/", "COPY file ../up", "COPY file ./"),
    case("a relative destination without WORKDIR", "COPY file rel/", "COPY file ."),
    case("sources that climb", "COPY ../file /t/a", "COPY dir/../../../other /t/b", "COPY /../dir /t/c"),
    case("destinations that climb", "COPY file /../../t", "WORKDIR /w", "COPY file ../../../u"),
    case("several sources", "COPY file other dir /t/"), case("several sources, an existing directory", "COPY file other /odd/empty/"),
    case("several sources, no slash", "COPY file other /t"), case("a directory first, no slash", "COPY dir file /t"),
    case("the same source twice", "COPY file file /t/"),
    case("wildcards", "COPY *.txt /t/", "COPY ?.md /u/", "COPY [ab].txt /v/", "COPY dir/* /w/", "COPY d*/o* /x/"),
    case("a wildcard of one file", "COPY *.md /t"), case("a wildcard and a new name", "COPY a*.txt /t"),
    case("wildcards that match directories", "COPY d* /t/", "COPY dir/s* /u/"), case("a star for everything", "COPY * /t/"),
    case("a wildcard with no match", "COPY *.none /t/"), case("no match and a match", "COPY *.none file /t/"),
    case("a class that is negated", "COPY [^a].txt /t/"), case("an escaped wildcard", "COPY a\\*b /t/", files={"a*b": "1", "aXb": "2"}),
    case("a name with blanks", 'COPY ["two words", "/t/"]', files={"two words": "1"}),
    case("names with odd signs", "COPY . /t/", files={"ü": "1", "a b": "2", "$x": "3", "a'b": "4", "-x": "5", "[x]": "6", "\\": "7", "tab\tx": "8"}),
    case("a name that is not UTF-8", "COPY . /t/", files={"d/" + b"\xff\xfe".decode(errors="surrogateescape"): "1"}),
    case("a double star is a star", "COPY **/three /t/", "COPY dir/**/four /u/"),
    case("dots below a directory", "COPY dir/. /t/", "COPY dir/sub/.. /u/", "COPY dir/./sub/../one /v/"),
    case("many slashes", "COPY dir//sub///three //t//u//"),
    case("links as sources", "COPY to-file /t/", "COPY to-dir /u", "COPY to-sub /v/", "COPY absolute /w", "COPY chain /x/", files=LINKS),
    case("links with a slash", "COPY to-dir/ /u", "COPY to-dir/sub /v", files=LINKS), case("links inside a directory", "COPY dir /t", files=LINKS),
    case("wildcards that match links", "COPY to-* /t/", files=LINKS), case("the whole context with links", "COPY . /t", files=LINKS),
    case("a destination that is a link to a file", "COPY file /odd/to-file"), case("a destination that is a link to a directory", "COPY file /odd/to-dir"),
    case("a destination under a link", "COPY file /odd/to-dir/x", "COPY dir /odd/to-dir/y/"),
    case("a directory onto a link to one", "COPY dir /odd/to-dir"), case("a directory onto a link to one, slash", "COPY dir /odd/to-dir/"),
    case("a destination that is a dangling link", "COPY file /odd/dangling"), case("a destination under a dangling link", "COPY file /odd/dangling/x"),
    case("a directory onto a dangling link", "COPY dir /odd/dangling"),
    case("a destination that climbs by a link", "COPY file /odd/escape"),
    case("a link in the copied tree meets a file", "RUN mkdir -p /t && echo old > /t/inner && echo old > /t/up", "COPY dir /t", files=LINKS),
    case("a file in the copied tree meets a link", "RUN mkdir -p /t && ln -s /etc/passwd /t/one && ln -s nowhere /t/two", "COPY dir /t"),
    case("WORKDIR that is a link", "WORKDIR /odd/to-dir", "COPY file here", "RUN pwd > /tmp/pwd"),
    case("from a stage: links and odd files", "COPY --from=shelf /odd /odd", base="scratch"),
    case("from a stage: a link as source", "COPY --from=shelf /odd/to-dir /d", "COPY --from=shelf /odd/to-file /f", "COPY --from=shelf /odd/escape /e", base="scratch"),
    case("from a stage: the root", "COPY --from=shelf / /", base="scratch"), case("from a stage: a wildcard", "COPY --from=shelf /odd/h* /bin/s[h]  /t/", base="scratch"),
    case("from a stage: a relative path", "COPY --from=shelf odd/full/one etc/group /t/", base="scratch"),
    case("from a stage: special files", "COPY --from=shelf /odd/fifo /odd/null /t/", base="scratch"),
    case("hardlinks in the context", "COPY h /t", "COPY h/a h/b /u/", files={"h/a": "x", "h/b": Hard("h/a"), "h/s/c": Hard("h/a")}),
    case("hardlinks from a stage", "COPY --from=shelf /odd/hard1 /odd/hard2 /t/", "COPY --from=shelf /odd/full /u", base="scratch"),
    case("a fifo in the context", "COPY . /t", files={"d/f": Fifo(), "g": "x"}), case("a socket in the context", "COPY . /t", files={"d/s": Socket(), "g": "x"}),
    case("an empty file and an executable", "COPY . /t", files={"e": "", "x": File("#!/bin/sh\n", 0o755)}),
    case("ADD behaves as COPY", "ADD file /t/", "ADD dir /u", "ADD *.txt /v/", "ADD to-dir /w", files=LINKS),
    case("one Dockerfile's own name", "COPY . /t/", files={"x": "1"}, inside=True),
    case("a file replaced in two layers", "COPY file /t", "COPY other /t", "RUN cat /t > /u"),
    case("a directory over the root", "COPY dir /"),
    case("sparse and large", "COPY . /t", files={"big": b"\0" * 3_000_000 + b"end", "big2": bytes(range(256)) * 9000}),
    case("deep directories", "COPY . /t", files={"/".join(["d" * 20] * 14) + "/f": "deep", "n" * 200: "long"}),
]
CASES += [case(f"refused: {name}", *lines, fails=says, files=LINKS) for name, lines, says in [
    ("a missing file", ["COPY nope /t"], "nope"), ("a missing file among others", ["COPY file nope /t/"], "nope"),
    ("missing in a stage", ["COPY --from=shelf /nope /t"], "nope"), ("a file over a directory, nested", ["RUN mkdir -p /t/one", "COPY dir /t"], "one"),
    ("a directory over a file", ["COPY dir /etc/passwd"], "passwd"), ("a directory over a nested file", ["RUN mkdir /t; echo > /t/sub", "COPY dir /t"], "sub"),
    ("a path below a file", ["COPY file /etc/passwd/x"], "passwd"), ("a link that loops", ["COPY file /odd/loop"], "loop"),
    ("a dangling link as source", ["COPY dangling /t"], "dangling|nowhere"), ("a link out of the context", ["COPY outside /t"], "outside|passwd"),
    ("a bad pattern", ["COPY [a /t/"], "\\[a"), ("a directory over a link to a file", ["COPY dir /odd/to-file"], "to-file|one|not a directory"),
    ("a directory over a nested link", ["RUN mkdir /t; ln -s /odd/full /t/sub", "COPY dir /t"], "sub"),
    ("a git address", ["COPY https://example.invalid/x.git /t"], "."), ("a web address", ["COPY https://example.invalid/x /t"], "."),
]]
