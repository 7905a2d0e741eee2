"""Mounts, scripts in the Dockerfile, and several stages."""

from ..case import Case

CASES = [
    Case("bind, cache and tmpfs", """
FROM plain
RUN --mount=target=/new/bound,source=dir --mount=type=cache,target=/var/cache/x --mount=type=tmpfs,target=/scratch/deep \\
    cp -r /new/bound /kept && chown -R 5:6 /kept && echo x >/var/cache/x/f && echo x >/scratch/deep/f
RUN --mount=type=cache,target=/var/cache/x cp /var/cache/x/f /kept/cached; echo y >>/var/cache/x/f
RUN --mount=target=/new/bound,source=dir,rw echo more >>/new/bound/b && rm /new/bound/deep/c
RUN --mount=type=cache,target=/own,uid=7,gid=8,mode=0700 touch /own/x && stat -c '%u:%g %a' /own >/kept/stat
""", {"dir/b": "b\n", "dir/deep/c": "c\n"}),
    Case("places of mounts that a step touches", """
FROM plain
RUN --mount=type=cache,target=/home/app/.cache/pip mkdir -p /home/app && chown -R 5:6 /home/app && touch /home/app/x
RUN --mount=type=tmpfs,target=/a/b/c chown 5 /a /a/b && chmod 700 /a/b
RUN --mount=type=tmpfs,target=/a/b/c touch /a/b/new && chown 5:5 /a
RUN --mount=type=tmpfs,target=/etc/one/two touch /etc/three
"""),
    Case("secrets and agents", """
FROM plain
RUN --mount=type=secret,id=s,uid=5,mode=0440 cat /run/secrets/s | wc -c >/count
RUN --mount=type=secret,id=s,target=/etc/deep/er/token,required test -s /etc/deep/er/token && ls /etc/deep/er >/listed
RUN --mount=type=secret,id=s,env=TOKEN test -n "$TOKEN"
""", {"secret": "hush\n"}, ["--secret", "id=s,src={dir}/context/secret"]),
    Case("mounts from stages", """
FROM plain AS one
RUN mkdir /o && echo a >/o/a && chown 5:6 /o/a && ln /o/a /o/b
FROM plain
RUN --mount=from=one,source=/o,target=/m cp -a /m/a /a && cp /m/b /b
RUN --mount=from=one,source=/o,target=/m,rw echo x >>/m/a && rm /m/b
RUN --mount=from=one,target=/all cp /all/o/b /c
"""),
    Case("scripts in the Dockerfile", """
FROM plain
RUN <<END
set -e
mkdir /h
echo one >/h/one
chown 5:6 /h/one
END
RUN <<END sh -e
echo two >/h/two
chmod 4755 /h/two
END
COPY --chown=7:8 --chmod=640 <<one.txt <<"two.txt" /files/
text of ${PATH:+one}
one.txt
text of $two
two.txt
RUN <<END
#!/bin/sh
echo "$0" | wc -c >/h/three
END
"""),
    Case("stages on stages", """
FROM plain AS base
RUN mkdir /s && echo base >/s/base && chown 5:6 /s
FROM base AS left
RUN echo left >/s/left; : >>/s/base
FROM base AS right
RUN rm /s/base; echo right >/s/right
FROM left
COPY --from=right /s /r
COPY --from=right /s/right /s/
RUN rm -r /r && chown -R 0:0 /s
"""),
    Case("files of the sandbox", """
FROM plain
RUN cat /etc/hosts /etc/resolv.conf >/dev/null; ls /proc/self /sys /dev >/dev/null; echo x >/dev/null; touch /dev/shm/x
RUN echo mine >/etc/hostname; touch /proc/new 2>/dev/null; touch /sys/new 2>/dev/null; true
RUN mv /etc /etc2 2>/dev/null; rm -rf /etc2; mkdir -p /etc; true
"""),
    Case("from nothing", """
FROM plain AS tools
FROM scratch
COPY --from=tools /bin/busybox /bin/
RUN ["/bin/busybox", "mkdir", "-m", "700", "/made"]
RUN ["/bin/busybox", "chown", "5:6", "/made"]
RUN ["/bin/busybox", "touch", "/made/x"]
"""),
    Case("a user reads a directory that is closed", """
FROM plain
RUN mkdir -m 700 /closed && echo x >/closed/x && mkdir -m 1777 /open && echo y >/open/y
USER 1000:1000
RUN echo mine >/open/mine && mkdir /open/dir && chmod 2700 /open/dir && ln -s /closed/x /open/l
RUN chmod 2700 /open/dir; : >>/open/mine; touch /open/dir/x
USER root
RUN rm -r /open/dir; chown 1000 /closed
"""),
]
