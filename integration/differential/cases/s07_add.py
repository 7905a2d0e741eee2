"""S7: ADD of archives."""

import tarfile

from differential.case import Archive, Case, File, Link

MEMBERS = [
    ("./", "dir", {"mode": 0o700, "uid": 9, "gid": 9}),
    ("./d/", "dir", {"mode": 0o750, "uid": 1000, "gid": 2000}),
    ("./d/f", "file", {"content": "file\n", "mode": 0o640, "uid": 1000, "gid": 2000, "mtime": 1_500_000_123}),
    ("./d/h", "hard", {"target": "./d/f", "mode": 0o640, "uid": 1000, "gid": 2000, "mtime": 1_500_000_123}),
    ("./l", "link", {"target": "d/f", "uid": 5, "gid": 6, "mode": 0o777}),
    ("./s", "file", {"content": "setuid", "mode": 0o4755, "uid": 1, "gid": 1}),
    ("./p", "fifo", {"mode": 0o600}),
    ("./z", "char", {"dev": (1, 5), "mode": 0o666}),
    ("./new/deep/f", "file", {"content": "no parents\n"}),
]
FORMS = {None: "plain", "gzip": "gzip", "bzip2": "bzip2", "xz": "xz"}


def case(name, *lines, files=None, base="shelf", **more):
    return Case(name, f"FROM {base}\n" + "".join(line + "\n" for line in lines), files, **more)


CASES = [case(f"{name} archive", "ADD any.name /t/", "ADD any.name /odd/full", files={"any.name": Archive(MEMBERS, program)}) for program, name in FORMS.items()]
CASES += [
    case("zstd archive", "ADD a.tar /t/", files={"a.tar": Archive(MEMBERS, "zstd"), "plain": Archive(MEMBERS)},
         feature="zstd", twin="FROM shelf\nADD plain /t/\n"),
    case("to a name without a slash", "ADD a /t", files={"a": Archive(MEMBERS)}),
    case("in scratch", "ADD a /", files={"a": Archive(MEMBERS)}, base="scratch"),
    case("--chown of an archive", "ADD --chown=mona:crew a /t", "ADD --chown=5:6 a /odd/full/",
         files={"a": Archive(MEMBERS, "gzip")}),
    case("--chmod of an archive", "ADD --chmod=700 a /t", files={"a": Archive(MEMBERS, "gzip")}),
    case("COPY does not unpack", "COPY a /t/", files={"a": Archive(MEMBERS, "gzip")}),
    case("several archives and a file", "ADD a b c /t/",
         files={"a": Archive(MEMBERS), "b": Archive([("b", "file", {"content": "b"})], "xz"), "c": "c"}),
    case("a wildcard of archives", "ADD *.tar /t/",
         files={"a.tar": Archive(MEMBERS), "b.tar": Archive([("b", "file", {})])}),
    case("a link to an archive", "ADD l /t/", files={"a": Archive(MEMBERS), "l": Link("a")}),
    case("an archive in a directory stays packed", "ADD d /t/", files={"d/a.tar": Archive(MEMBERS)}),
    case("an archive of nothing", "ADD a /t/", files={"a": Archive([])}),
    case("compressed, but no archive", "ADD a.gz /t/",
         files={"a.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes.fromhex("cb48cdc9c95700000000ffff0300f1e53d0006000000")}),
    case("the destination is a link", "ADD a /odd/to-dir", "ADD a /odd/to-dir/x/", files={"a": Archive(MEMBERS)}),
    case("a destination relative to WORKDIR", "WORKDIR /w", "ADD a .", "ADD a sub",
         files={"a": Archive(MEMBERS, "gzip")}),
    case("over files that are there", "ADD a /odd/full",
         files={"a": Archive([("one", "file", {"content": "new"}), ("two", "link", {"target": "one"}), ("deep", "dir", {"mode": 0o700, "uid": 3})])}),
    case("a link that leads out", "ADD a /t/",
         files={"a": Archive([("up", "link", {"target": "../../../../../odd"}), ("abs", "link", {"target": "/odd/full"})])}),
    case("a name that climbs", "ADD a /t/u/",
         files={"a": Archive([("ok", "file", {"content": "ok"}), ("./x/../y", "file", {"content": "y"})])}),
    case("GNU form with long names", "ADD a /t/",
         files={"a": Archive([("d" * 120 + "/" + "f" * 120, "file", {"content": "long"}), ("l", "link", {"target": "t" * 150})], None, tarfile.GNU_FORMAT)}),
    case("ustar form", "ADD a /t/",
         files={"a": Archive([("d/" * 60 + "f", "file", {"content": "x", "mtime": 7})], "gzip", tarfile.USTAR_FORMAT)}),
    case("attributes in an archive", "ADD a /t/",
         files={"a": Archive([("u", "file", {"pax": {"SCHILY.xattr.user.x": "y"}}), ("c", "file", {"mode": 0o755, "pax": {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00" + "\x00" * 12}})])}),
    case("times in pax headers", "ADD a /t/",
         files={"a": Archive([("f", "file", {"pax": {"mtime": "1500000000.75"}})])}),
    case("large owners", "ADD a /t/", files={"a": Archive([("f", "file", {"uid": 3_000_000, "gid": 4_000_000_00})])}),
    case("bytes after the end", "ADD a /t/", files={"a": Archive(MEMBERS, None, tarfile.PAX_FORMAT, b"trailing")}),
    case("the same name twice", "ADD a /t/",
         files={"a": Archive([("f", "file", {"content": "first"}), ("f", "file", {"content": "second", "mode": 0o600})])}),
    case("whiteout names in an archive", "ADD a /odd/full/",
         files={"a": Archive([("x", "file", {}), ("sub/y", "file", {})])}),
    case("ADD from a stage's archive by COPY", "COPY --from=shelf /odd/full /t", base="scratch"),
    case("USER does not own what is unpacked", "USER mona", "ADD a /t/",
         files={"a": Archive([("n/f", "file", {"uid": 7})])}),
    case("--unpack=false", "ADD --unpack=false a /t/", files={"a": Archive(MEMBERS, "gzip")}, feature="unpack",
         twin="FROM shelf\nCOPY a /t/\n"),
    case("a broken archive", "ADD a.tar.gz /t/", files={"a.tar.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\x03garbage"}),
]
