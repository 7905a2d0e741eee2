"""Programs that people run in Dockerfiles."""

from ..case import Case

CONTROL = """Package: {name}
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@example.invalid>
Description: owners and modes
"""
# Makes packages below /p and a package NAME with files, owners and scripts.
PACKAGE = """
FROM tools AS made
COPY control postinst postrm /p/DEBIAN/
RUN chmod 755 /p/DEBIAN/post* && mkdir -p /p/usr/bin /p/var/lib/demo /p/etc/demo && cp /bin/true /p/usr/bin/demo && chmod 4755 /p/usr/bin/demo && \\
    echo conf >/p/etc/demo/conf && echo /etc/demo/conf >/p/DEBIAN/conffiles && ln /p/usr/bin/demo /p/usr/bin/demo2 && \\
    find /p -exec touch -h -d @1300000000 {} + && SOURCE_DATE_EPOCH=1400000000 dpkg-deb --root-owner-group -b /p /demo.deb
FROM tools
COPY --from=made /demo.deb /tmp/
"""
LOGS = "rm -rf /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/apt/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /tmp/*"
POSTINST = """#!/bin/sh
set -e
adduser --system --group --no-create-home --home /var/lib/demo demo >/dev/null
chown demo:demo /var/lib/demo
chmod 2750 /var/lib/demo
chown root:demo /usr/bin/demo
chmod 2755 /usr/bin/demo
setcap cap_net_bind_service+ep /usr/bin/demo
setfacl -m g::r /etc/demo/conf
sed -i 's/^\\(demo:[^:]*:\\)[0-9]*/\\11/' /etc/shadow
"""
POSTRM = "#!/bin/sh\nset -e\nif [ \"$1\" = purge ]; then rm -rf /var/lib/demo; fi\n"
FILES = {"control": CONTROL.format(name="demo"), "postinst": POSTINST, "postrm": POSTRM}

CASES = [
    Case("dpkg installs, removes and purges", PACKAGE + f"""
RUN dpkg -i /tmp/demo.deb && {LOGS}
RUN echo more >>/etc/demo/conf; touch /var/lib/demo/state && chown demo /var/lib/demo/state
RUN dpkg -r demo && {LOGS}
RUN dpkg -P demo && {LOGS}
""", FILES),
    Case("apt-get installs a file", PACKAGE + f"""
RUN apt-get -qq install -y /tmp/demo.deb >/dev/null && {LOGS}
RUN apt-get -qq purge -y demo >/dev/null && {LOGS}
""", FILES),
    Case("dpkg looks only", f"""
FROM tools
RUN dpkg -l >/dev/null; dpkg --configure -a; dpkg --audit; {LOGS}
RUN dpkg -s libc6 >/dev/null && dpkg -S /bin/sh >/dev/null; true
RUN flock /var/lib/dpkg/lock-frontend true; flock /var/lib/dpkg/lock true
"""),
    Case("dpkg-statoverride and diversions", f"""
FROM tools
RUN dpkg-statoverride --update --add root daemon 2755 /usr/bin/who 2>/dev/null; dpkg-divert --rename --add /usr/bin/users >/dev/null; {LOGS}
RUN dpkg-divert --rename --remove /usr/bin/users >/dev/null; {LOGS}
"""),
    Case("python compiles", """
FROM tools
COPY m.py pkg /srv/app/
RUN cd /srv/app && python3 -c 'import py_compile; py_compile.compile("m.py")' && python3 -c 'import py_compile; py_compile.compile("sub/x.py")' && chown -R 5:5 /srv/app
RUN python3 -c 'import sys; sys.path.insert(0, "/srv/app"); import m'
RUN python3 - <<END
import os
os.chown("/srv/app/m.py", 7, 8)
os.setxattr("/srv/app/m.py", "user.x", b"y")
fd = os.open("/srv/app/sub/x.py", os.O_RDWR)
os.fchmod(fd, 0o4750)
os.fchown(fd, 9, 10)
os.utime(fd, ns=(1, 1234567891234567891))
os.mkfifo("/srv/app/pipe")
os.link("/srv/app/m.py", "/srv/app/linked.py")
os.symlink("m.py", "/srv/app/to")
os.lchown("/srv/app/to", 11, 12)
END
""", {"m.py": "import os\nVALUE = 5\n", "pkg/sub/x.py": "print(1)\n"}),
    Case("perl and sed in place", """
FROM tools
RUN mkdir /w && cd /w && seq 100 >a && cp a b && cp a c && chown 5:6 a && chmod 4755 b && touch -d @1000000000 a b c
RUN cd /w && sed -i s/1/2/ a && perl -pi -e s/1/3/ b && sed -i s/nothing/else/ c
RUN cd /w && cp --preserve=all a d && mv d a && touch -r b c
"""),
    Case("tar packs and unpacks", """
FROM tools
RUN mkdir -p /w/d && cd /w && echo a >a && ln a b && ln -s a l && mkfifo p && chown 5:6 a && chown -h 7:8 l && chmod 1777 d && touch -h -d @1000000000.5 a l d p . && \\
    tar --sort=name --xattrs --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -cf /t.tar . && mkdir /x && tar --xattrs -C /x -xpf /t.tar
RUN tar -C /w -xpf /t.tar; tar -C /x --overwrite -xpf /t.tar && rm /t.tar
"""),
    Case("ldconfig, update-alternatives and symlinks", f"""
FROM tools
RUN update-alternatives --install /usr/bin/thing thing /bin/true 10 --slave /usr/bin/other other /bin/false >/dev/null && {LOGS}
RUN update-alternatives --install /usr/bin/thing thing /bin/false 20 >/dev/null; {LOGS}
RUN update-alternatives --remove thing /bin/false >/dev/null; {LOGS}
"""),
    Case("sockets, orphans and temporary files", """
FROM tools
RUN python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("/run/s")' && mktemp -d >/dev/null; rm -rf /tmp/*
RUN (sleep 100 >/dev/null 2>&1 &); exec 3>/tmp/x; rm /tmp/x; echo y >&3
RUN rm -f /run/s; echo x | tee /run/t >/dev/null
"""),
]
