"""Owners, users and modes."""

import tarfile

from ..case import Case, member

RANGE = "the ids are outside of the user's range"
NO_DEVICES = "the kernel makes no devices in a user namespace"

CASES = [
    Case("chown by number and by name", """
FROM plain
RUN echo 'app:x:1000:1000::/home/app:/bin/sh' >>/etc/passwd && echo 'app:x:1000:' >>/etc/group && echo 'crew:x:77:app' >>/etc/group
RUN mkdir /d && cd /d && touch a b c d && ln -s a l && mkfifo p && chown app a && chown app:crew b && chown :crew c && \\
    chown 5:6 d && chown -h 9:10 l && chown 11:12 p && chown 13:14 .
RUN chown 0 /d/a; chgrp 0 /d/b; chown -R 21:22 /d
"""),
    Case("steps of a user", """
FROM tools
RUN echo app:x:1234:1234::/home/app:/bin/sh >>/etc/passwd && echo app:x:1234: >>/etc/group && install -d -o app -g app -m 2775 /srv/app
USER app
WORKDIR /srv/app/deep/er
RUN echo mine >file; mkdir dir; ln -s file to; mkfifo pipe; umask 077; echo y >private
USER 4321:765
RUN echo mine >/tmp/file; mkdir /tmp/dir
USER 0
RUN chown -R app /tmp/dir && rm /srv/app/deep/er/to
"""),
    Case("COPY --chown", """
FROM plain
RUN echo 'app:x:1000:1005::/home/app:/bin/sh' >>/etc/passwd && echo 'crew:x:77:app' >>/etc/group
COPY --chown=app:crew a /names/
COPY --chown=app a /name/
COPY --chown=70000:2147483647 a dir /large/
COPY --chown=2147483647 --chmod=4711 a /set
COPY --chown=3:4 --chmod=u=rwX,g=rX,o= dir /symbolic/
""", {"a": "a\n", "dir/b": "b\n", "dir/deep/c": "c\n"}),
    Case("COPY over directories of others", """
FROM plain
RUN mkdir -p -m 711 /t/deep /t/more && chown 5:6 /t /t/deep /t/more
COPY --chown=70000:70001 dir /large/
COPY dir /t
COPY dir /large
COPY a /t/more/
COPY a /large/deep/
""", {"a": "a\n", "dir/b": "b\n", "dir/deep/c": "c\n"}),
    Case("large ids below a step", """
FROM plain
COPY --chown=70000:2147483647 a dir c /large/
RUN echo more >>/large/a; chown 5 /large/c; echo new >/large/new; mkdir /large/deep/new; : >>/large/b
RUN rm /large/b; : >>/large/a; chmod 700 /large/deep; touch -d @1000000000 /large/deep/c
""", {"a": "a\n", "c": "c\n", "dir/b": "b\n", "dir/deep/c": "c\n"}),
    Case("large ids in a step", """
FROM plain
RUN mkdir /d && cd /d && touch a b && mkdir c && chown 65536:70000 a && chown 4294967294:4294967294 b && chown -R 100000 c
RUN echo more >>/d/a; mv /d/b /d/e; touch /d/c/f
""", lacks={"many": RANGE}),
    Case("set-uid, set-gid and sticky", """
FROM plain
RUN mkdir -p /d/group /d/sticky && cd /d && touch a b c && chown 5:6 a b && chmod 4755 a && chmod 2711 b && chmod 6777 c && \\
    chown 7:8 group && chmod 2775 group && chmod 1777 sticky && touch group/inherits && mkdir group/dir
RUN chown 9 /d/a; chmod u+s /d/b; chmod g-s /d/c; chown 0:0 /d/group
COPY --chmod=6755 --chown=12:13 a /e
RUN chmod 4711 /e; mv /e /d/f; cp -p /d/f /d/g
""", {"a": "a\n"}),
    Case("writing takes set-id bits and capabilities", """
FROM tools
RUN cd /opt && touch a b c && chmod 6755 a && setcap cap_net_raw+ep b && chmod 4755 c
RUN echo x >>/opt/a; echo x >>/opt/b; chown 5:5 /opt/c
""", lacks={"chroot": "who is root outside of user namespaces keeps the set-id bits of what he writes"}),
    Case("file capabilities", """
FROM tools
RUN cp /bin/true /usr/local/bin/raw && setcap cap_net_raw+ep /usr/local/bin/raw
RUN cp /bin/true /opt/more && chown 5:5 /opt/more && setcap cap_net_bind_service,cap_chown=eip /opt/more
RUN setcap cap_net_raw+ep /usr/local/bin/raw
RUN setcap -r /usr/local/bin/raw; cp -a /opt/more /opt/copy; mv /opt/more /opt/moved
RUN getcap /opt/copy | grep -q eip
"""),
    Case("capabilities in an archive", """
FROM tools
ADD a.tar /added/
RUN getcap /added/capable | grep -q net && mv /added/capable /added/moved && chown 7 /added/other
RUN : >>/added/moved; chmod 755 /added/moved
""", {"a.tar": [member("capable", content=b"x", mode=0o755, xattrs={"security.capability": "\x01\x00\x00\x02\x00\x20" + 14 * "\x00"}),
                member("other", content=b"y", mode=0o755, owner=(5, 6),
                       xattrs={"security.capability": "\x01\x00\x00\x02\x00\x20" + 14 * "\x00"})]}),
    Case("ADD of an archive with owners", """
FROM plain
ADD a.tar /added/
ADD --chown=3:4 a.tar /chowned/
RUN echo more >>/added/dir/file; chmod 700 /added/dir; cp -a /chowned/dir /copied; rm /added/link; mv /added/set /moved
""", {"a.tar": [member("dir", tarfile.DIRTYPE, mode=0o2750, owner=(1000, 1001)), member("dir/file", content=b"x", owner=(70000, 70001)),
                member("link", tarfile.SYMTYPE, target="dir/file", owner=(5, 6)), member("other", content=b"y", owner=(5, 6)),
                member("second", tarfile.LNKTYPE, target="other"), member("set", content=b"x", mode=0o6755, owner=(7, 8)), member("all", content=b"x", mode=0o6755, owner=(4294967294, 65536))]}),
    Case("devices and FIFOs in an archive", """
FROM plain
ADD a.tar /added/
RUN ls -l /added | wc -l; mv /added/pipe /added/moved; touch /added/new; chown 9:9 /added/other
RUN rm /added/null
""", {"a.tar": [member("null", tarfile.CHRTYPE, mode=0o666, dev=(1, 3)), member("loop", tarfile.BLKTYPE, mode=0o660, dev=(7, 0), owner=(0, 6)),
                member("pipe", tarfile.FIFOTYPE, mode=0o640), member("other", tarfile.FIFOTYPE, mode=0o640, owner=(5, 6))]}),
    Case("links and FIFOs of somebody are renamed", """
FROM plain
RUN mkdir /d && cd /d && ln -s a l && mkfifo p && ln -s b m && chown -h 5:6 l p m
RUN cd /d && mv l l2 && mv p p2 && touch -h -d @1000000000 m
""", lacks={"one": "where links and FIFOs hold no attribute, a rename loses their owner (docs/owners.md)"}),
    Case("devices by mknod", """
FROM plain
RUN mkdir /d && mknod -m 620 /d/c c 5 1 && mknod /d/b b 7 3 && mknod /d/p p && chown 0:5 /d/c
RUN chmod 666 /d/c; mv /d/b /d/moved; rm /d/p
""", lacks={"root": NO_DEVICES, "many": NO_DEVICES,
           "chroot": "where the machine's disks could be opened, as here, a step makes no devices"}),
    Case("COPY --from with owners", """
FROM plain AS one
RUN mkdir -p /d/sub && cd /d && touch a sub/b && chown 5:6 a && chown -R 7:8 sub && ln a c && ln -s a l && chown -h 9:9 l && chmod 4755 a
ADD a.tar /t/
FROM plain
COPY --from=one /d /d
COPY --from=one --chown=11:12 /d/ /e/
COPY --from=one /t /t
RUN echo x >>/d/sub/b; chown 0 /t/file
""", {"a.tar": [member("file", content=b"x", owner=(3, 4)), member("null", tarfile.CHRTYPE, mode=0o666, dev=(1, 3))]}),
    Case("COPY --link", """
FROM plain
RUN mkdir -p /a/b && chown 5:6 /a /a/b && chmod 700 /a
COPY --link --chown=7:8 a /a/b/
COPY --link --chmod=600 dir /a/c/
RUN echo x >>/a/b/a; ls -ln /a /a/b | wc -l
""", {"a": "a\n", "dir/b": "b\n"}),
    Case("WORKDIR of a user", """
FROM plain
RUN echo app:x:1234:1234::/home/app:/bin/sh >>/etc/passwd && echo app:x:1234: >>/etc/group
USER app
WORKDIR /home/app/one/two
WORKDIR ../three
RUN pwd >where
USER 55:66
WORKDIR /elsewhere/x
RUN rmdir /elsewhere/x 2>/dev/null; true
RUN pwd
"""),
    Case("ONBUILD triggers", """
FROM plain AS first
ONBUILD COPY --chown=5:6 a /triggered/
ONBUILD RUN id -u >/triggered/id; chown 7 /triggered/id
FROM first
RUN chmod 600 /triggered/a
""", {"a": "a\n"}),
    Case("useradd, groupmod and su", """
FROM tools
ENV TZ=UTC
RUN useradd -m -u 1500 -s /bin/sh app && groupadd -g 1600 crew && usermod -aG crew app && sed -i 's/^\\(app:!:\\)[0-9]*/\\11/' /etc/shadow
RUN su app -c 'echo mine >~/file; mkdir ~/dir; umask 027; echo x >~/dir/x' && su -s /bin/sh nobody -c 'echo n >/tmp/n'
RUN setpriv --reuid 1500 --regid 1600 --clear-groups sh -c 'echo x >/tmp/x' && chown app:crew /home/app/file && chmod g+s /home/app
RUN userdel app && groupdel crew; rm -rf /home/app/dir
"""),
    Case("install and cp with owners", """
FROM tools
RUN install -d -o 5 -g 6 -m 2750 /srv/a/b && install -o 7 -g 8 -m 4755 /bin/true /srv/a/t && cp -a /srv/a /srv/c && \\
    tar -C /srv -cf /tmp/t.tar a && mkdir /srv/x && tar -C /srv/x -xpf /tmp/t.tar && rm /tmp/t.tar
RUN cp -a /srv/a/. /srv/c/ && chown --reference=/srv/a/t /srv/c && touch -r /srv/a/t /srv/c /srv
"""),
]
