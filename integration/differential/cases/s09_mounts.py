"""S9: RUN --mount."""

from differential.case import Case, File, Link

FILES = {"f": "file\n", "dir/one": "1\n", "dir/sub/two": "2\n", "hidden": "h\n", ".dockerignore": "hidden\n"}


def case(name, *lines, base="shelf", files=FILES, **more):
    more.setdefault("feature", "mount")
    return Case(name, f"FROM {base}\n" + "".join(line + "\n" for line in lines), files, waits="mounts", **more)


SECRET = {"args": ["--secret", "id=one,src={dir}/secret"], "beside": {"secret": "s3cret\n"}}
CASES = [
    case("bind of the context", "RUN --mount=target=/m ls -R /m > /ls; cat /m/f >> /ls",
         "RUN ls -d /m > /gone 2>/dev/null; true"),
    case("bind of a directory", "RUN --mount=type=bind,source=dir,target=/m ls -R /m > /ls"),
    case("bind of a file", "RUN --mount=type=bind,src=f,dst=/m/deep/f cat /m/deep/f > /out"),
    case("bind is read-only", "RUN --mount=target=/m (touch /m/x || echo no) 2>/dev/null > /out"),
    case("bind rw is dropped", "RUN --mount=target=/m,rw echo new > /m/f; cat /m/f > /out",
         "RUN --mount=target=/m cat /m/f > /out2"),
    case("bind from an image",
         "RUN --mount=from=full,source=/odd/full,target=/m ls -ln /m | awk '{print $1,$3,$4,$NF}' > /out"),
    Case("bind from a stage",
         "FROM shelf AS s\nRUN mkdir /made && echo x > /made/x\nFROM shelf\nRUN --mount=from=s,source=/made,target=/m cp -a /m /copy\n",
         waits="mounts", feature="mount"),
    case("bind over a directory that has files", "RUN --mount=source=dir,target=/odd/full ls /odd/full > /ls",
         "RUN ls /odd/full > /ls2"),
    case("bind relative to WORKDIR", "WORKDIR /w", "RUN --mount=source=dir,target=m ls m > ls"),
    case("bind owners and modes", "RUN --mount=target=/m stat -c '%a %u %g %n' /m /m/f /m/dir > /out"),
    case("no stubs stay",
         "RUN --mount=source=f,target=/n/e/w/f --mount=type=tmpfs,target=/n/t --mount=type=cache,target=/n/c true"),
    case("a stub that the step filled stays", "RUN --mount=source=f,target=/n/e/f echo x > /n/e/other"),
    case("a stub that was there stays", "RUN --mount=source=f,target=/odd/empty/f true",
         "RUN --mount=type=tmpfs,target=/odd/empty touch /odd/empty/x"),
    case("cache kept between steps", "RUN --mount=type=cache,target=/c,id=between-steps echo one > /c/x",
         "RUN --mount=type=cache,target=/c,id=between-steps cat /c/x > /out; rm /c/x"),
    case("cache with a mode and owner",
         "RUN --mount=type=cache,target=/c,id=owned,mode=0700,uid=1000,gid=2000 stat -c '%a %u %g' /c > /out"),
    case("cache of an unprivileged user", "USER mona",
         "RUN --mount=type=cache,target=/home/mona/.cache,uid=1000,id=user-cache touch /home/mona/.cache/x; ls -ldn /home/mona | cut -c1-10 > /tmp/out"),
    case("cache with initial content",
         "RUN --mount=type=cache,target=/c,id=initial,from=full,source=/odd/full ls /c > /out"),
    case("cache read-only", "RUN --mount=type=cache,target=/c,id=ro,ro (touch /c/x || echo no) 2>/dev/null > /out"),
    case("cache sharing",
         "RUN --mount=type=cache,target=/c,id=l,sharing=locked --mount=type=cache,target=/d,id=p,sharing=private echo x > /c/x; ls /c > /out; rm /c/x"),
    case("tmpfs",
         "RUN --mount=type=tmpfs,target=/odd/full (ls /odd/full; echo x > /odd/full/y; grep /odd/full /proc/mounts | cut -d' ' -f3) > /out"),
    case("secret",
         "RUN --mount=type=secret,id=one cat /run/secrets/one > /out; stat -c '%a %u %g' /run/secrets/one >> /out",
         "RUN ls /run/secrets > /gone 2>/dev/null; true", **SECRET),
    case("secret with a target and mode",
         "RUN --mount=type=secret,id=one,target=/s/x,mode=0444,uid=1000,gid=2000 stat -c '%a %u %g' /s/x > /out; cat /s/x >> /out",
         **SECRET),
    case("secret relative to WORKDIR", "WORKDIR /w", "RUN --mount=type=secret,id=one,target=rel cat rel > out",
         **SECRET),
    case("secret that is not there", "RUN --mount=type=secret,id=none ls /run/secrets > /out 2>/dev/null; true"),
    case("secret in the environment",
         "RUN --mount=type=secret,id=one,env=S echo $S > /out; ls /run/secrets >> /out 2>/dev/null; true",
         feature="secret-env", twin="FROM shelf\nRUN echo s3cret > /out\n", **SECRET),
    case("several mounts, nested",
         "RUN --mount=source=dir,target=/m,rw --mount=type=tmpfs,target=/m/sub ls -R /m > /out"),
    case("variables", "ENV T=/m", "ARG S=dir", "RUN --mount=source=$S,target=${T}x ls /mx > /out",
         feature="mount-expand",
         twin="FROM shelf\nENV T=/m\nARG S=dir\nRUN --mount=source=dir,target=/mx ls /mx > /out\n"),
    case("over a link", "RUN --mount=source=dir,target=/odd/to-dir ls /odd/to-dir /odd/full > /out"),
    case("of a link", "RUN --mount=source=l,target=/m ls /m > /out", files={**FILES, "l": Link("dir")}),
    *[case(f"refused: {name}", line, fails=says) for name, line, says in [
        ("no target", "RUN --mount=type=bind,source=f true", "target"),
        ("unknown type", "RUN --mount=type=nope,target=/m true", "nope"),
        ("unknown key", "RUN --mount=target=/m,nope=1 true", "nope"),
        ("a source that is missing", "RUN --mount=source=nope,target=/m true", "nope"),
        ("a secret that is required", "RUN --mount=type=secret,id=none,required true", "none"),
        ("the root", "RUN --mount=target=/ true", "/"),
        ("a bad sharing", "RUN --mount=type=cache,target=/c,sharing=x true", "x"),
        ("a mode of bind", "RUN --mount=target=/m,mode=700 true", "mode"),
    ]],
]
