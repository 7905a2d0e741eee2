"""S9: RUN: who it runs as, what it sees, and what it may do."""

from differential.case import Case

WHO = "RUN (id -u; id -g; id -G; echo $HOME) > /tmp/who\n"


def case(name, *lines, base="shelf", files=None, **more):
    return Case(name, f"FROM {base}\n" + "".join(line + "\n" for line in lines), files, **more)


def users(name, *specs, head=""):
    body = "".join(f"USER {spec}\nRUN (id -u; id -g; id -G; echo $HOME) > /tmp/who{n}\n" for n, spec in enumerate(specs))
    return Case(name, f"FROM shelf\n{head}{body}")


CASES = [
    case("the environment", "RUN env | sort > /env", "ENV A=1", "USER mona", "RUN env | sort > /tmp/env"),
    case("the environment of an exec form", 'RUN ["/bin/sh", "-c", "env | sort > /env; echo $0 $# > /argv"]',
         'RUN ["touch", "/made-by-path"]'),
    users("users by name and number", "root", "mona", "jack", "1000", "1001", "nobody", "homeless"),
    users("users with groups", "mona:crew", "mona:0", "1000:2000", "1234:5678", "jack:mona", "root:crew", "0:2001"),
    users("numbers nobody has", "4321", "4321:9"),
    users("a number that is a name", "1003"),
    users("a group alone", ":crew", ":77"),
    users("users with blanks", "mona ", " mona"),
    case("no users at all", "USER 1000:1000", "RUN test $(id -u):$(id -g):$HOME = 1000:1000:/", base="bare"),
    case("users changed on the way", "RUN sed -i s/^mona:x:1000/mona:x:1500/ /etc/passwd", "USER mona",
         "RUN id -u > /tmp/who"),
    case("HOME of the image", "ENV HOME=/elsewhere", "USER mona", "RUN echo $HOME > /tmp/home"),
    case("HOME as an argument", "ARG HOME=/argued", "RUN echo $HOME > /tmp/home"),
    case("working directories", "RUN pwd > /tmp/a", "WORKDIR /x/y", "RUN pwd > /tmp/b; echo $PWD >> /tmp/b",
         "WORKDIR z", "RUN cd ..; pwd > /tmp/c", "RUN pwd > /tmp/d"),
    case("a working directory nobody may enter", "WORKDIR /odd/closed", "RUN pwd > /tmp/a"),
    case("umask, limits, descriptors",
         "RUN umask > /a; touch /b; mkdir /c; umask 077; touch /d; ls /proc/self/fd | wc -l > /e; ulimit -c > /f",
         "RUN read x; echo $? > /stdin; tty > /tty; true"),
    case("capabilities",
         "RUN grep ^Cap /proc/self/status > /caps; grep NoNewPrivs /proc/self/status >> /caps; grep Seccomp: /proc/self/status >> /caps",
         "USER mona", "RUN grep ^Cap /proc/self/status > /tmp/caps"),
    case("host name",
         "RUN hostname > /name; cat /proc/sys/kernel/hostname >> /name; cat /proc/sys/kernel/domainname >> /name"),
    case("hosts", "RUN grep -v ip6 /etc/hosts > /copy; cat /etc/hostname > /copy2 2>&1 || true"),
    case("--add-host", "RUN grep -E 'one|two' /etc/hosts > /copy",
         args=["--add-host", "one.test:10.0.0.1", "--add-host", "two.test:10.0.0.2"]),
    case("devices",
         "RUN ls -l /dev | grep -v total | awk '{print $1, $3, $4, $NF}' | sort > /dev.txt; ls /dev/shm /dev/pts /dev/mqueue > /dev2.txt"),
    case("mounts", "RUN awk '{print $2, $3}' /proc/mounts | sort > /mounts.txt"),
    case("mount flags",
         "RUN awk '$2 ~ /^.(dev|proc|sys)$/ || $2 ~ /dev.(shm|pts|mqueue)/ {print $2, $4}' /proc/mounts | sed -E 's/,(size|uid|gid|mode|inode64|ptmxmode|relatime)[^,]*//g' | sort > /mounts.txt"),
    case("masked and read-only paths", "RUN for p in /proc/kcore /proc/keys /proc/timer_list /proc/sys /proc/sysrq-trigger /proc/irq /proc/bus /sys /sys/firmware /proc/scsi /proc/acpi; do "
         "if [ -e $p ]; then echo $p there; fi; [ -d $p ] && ls $p | head -1 | wc -l; [ -w $p ] && test -d $p && (touch $p/x 2>/dev/null && echo writes $p || echo read-only $p); done > /masked; true"),
    case("process ids", "RUN echo $$ > /pid; ls -d /proc/[0-9]* | wc -l >> /pid", "RUN sleep 300 & echo left > /a"),
    case("mknod, chown, chroot",
         "RUN mknod /n c 1 3 && mknod /p p && chown 5:6 /n && chroot / /bin/true && echo yes > /ok"),
    case("what needs more",
         "RUN (mount -t tmpfs x /mnt || echo no mount; date -s 1999-01-01 || echo no date; hostname x || echo no hostname) 2>/dev/null > /a; true"),
    case("shell forms and signs",
         "RUN echo 'a  b' \"c\" d\\ e `echo f` $(echo g) > /a; echo '#h' >> /a && echo i | cat >> /a",
         "RUN true; :; false || true"),
    case("SHELL", 'SHELL ["/bin/sh", "-exc"]', "RUN echo $- > /a", 'SHELL ["/bin/busybox", "sh", "-c"]',
         "RUN echo $0 > /b", "CMD x y", 'ENTRYPOINT a "b"'),
    case("a SHELL that is no shell", 'SHELL ["/bin/echo", "-n"]', "RUN this is text > /nowhere"),
    case("the SHELL of a base", "USER 0", "RUN echo $- > /a", "CMD hello", base="full"),
    case("the entry point is not used", 'ENTRYPOINT ["/bin/false"]', "RUN echo 1 > /a"),
    case("an empty step", "RUN true", "RUN :"),
    case("an old array that is text", "RUN [ -e /etc ] && echo yes > /a"),
    case("orphans and exit", "RUN (sleep 0.2; echo late > /late) & exit 0"),
    case("/etc is the image's own", "RUN rm -f /etc/hosts2; ls /etc > /ls; echo x > /etc/x"),
    case("a sticky /tmp", "USER mona", "RUN touch /tmp/mine; ls -ld /tmp | cut -c1-10 > /tmp/mode", "USER jack",
         "RUN rm -f /tmp/mine 2>/dev/null; ls /tmp > /tmp/ls"),
    case("resolv.conf does not stay", "RUN test -s /etc/resolv.conf",
         "RUN test ! -s /etc/hosts && echo bad > /bad; true"),
    case("no files of the sandbox stay", "RUN ls -a / > /tmp/ls"),
    case("times set by a step",
         "RUN touch -d @1234567890 /a; mkdir /d; touch -d @1111111111 /d; touch -h -d @1222222222 /d/l 2>/dev/null; true"),
    case("--network=none", "RUN --network=none ip -o link 2>/dev/null | wc -l > /a; ls /sys/class/net > /b",
         feature="run-network"),
    *[case(f"refused: {name}", *lines, fails=says) for name, lines, says in [
        ("a failing command", ["RUN exit 3"], "3"),
        ("an unknown command", ["RUN no-such-program"], "127|no-such"),
        ("an exec form of nothing there", ['RUN ["/nope"]'], "nope"),
        ("an unknown user", ["USER ghost", "RUN true"], "ghost"),
        ("an unknown group", ["USER mona:ghosts", "RUN true"], "ghosts"),
        ("a signal", ["RUN sh -c 'kill -9 $$'; exit $?"], "137|9|signal"),
        ("no shell", ['SHELL ["/no/shell"]', "RUN true"], "no/shell"),
        ("a bad network", ["RUN --network=nope true"], "nope"),
        ("a bad security", ["RUN --security=nope true"], "nope"),
    ]],
    case("refused: scratch has no shell", "RUN true", base="scratch", fails="sh"),
]
