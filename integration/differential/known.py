"""Differences that are known and justified: a reason for each, shown in the report.

An entry that matches nothing in a run of all the cases it is about fails the run, so that this list stays true.
"""

import fnmatch
import re


class Known:
    """`field` and `case` are shell patterns; `peer` is its name. `test`, if there is one, is a function of
    lapstrake's value and the peer's. `before` is the first version of the peer without the difference; `mode`
    is who builds with lapstrake where that matters: many, one or root."""

    def __init__(self, peer, field, reason, case="*", test=None, before=None, mode=None):
        self.peer, self.field, self.reason, self.case, self.test = peer, field, reason, case, test
        self.before, self.mode = before, mode
        self.count, self.cases = 0, set()

    def applies(self, peer, mode):
        return (self.peer == peer.name and (self.before is None or peer.version < self.before)
                and (self.mode is None or mode in self.mode))

    def covers(self, case, one):
        return (fnmatch.fnmatchcase(case.title, self.case) and fnmatch.fnmatchcase(one.field, self.field)
                and (self.test is None or self.test(one.ours, one.theirs)))


def old(field, reason, case="*", test=None):
    """A difference to the BuildKit in docker 20.10, which later ones do not have."""
    return Known("docker", field, reason, case, test, before=(23, 0))


def without_owners(text):
    return re.sub(r" --ch(own|mod)=\S+", "", text)


def without_arguments(text):
    return re.sub(r"^RUN \|\d+ .*? (/bin/sh|true)", r"RUN \1", text)


def buildah(field, reason, case="*", test=None):
    return Known("buildah", field, reason, case, test)


# What buildah does otherwise everywhere. Its history has a form of its own, so that none of it is compared.
BUILDAH = [
    buildah("history*", "its history has a form of its own"),
    buildah("config/Hostname", "it writes the name of a container", test=lambda a, b: a is None),
    buildah("config/Entrypoint", "none is an empty one", test=lambda a, b: not a and not b),
    buildah("config/Cmd", "none is an empty one", test=lambda a, b: not a and not b),
    buildah("config/ArgsEscaped", "it does not set it", test=lambda a, b: a is True and b is None),
    buildah("config/WorkingDir", "it is empty in place of /", test=lambda a, b: (a, b) == ("/", "")),
    buildah("config/Env", "what is set again goes to the end", test=lambda a, b: sorted(a) == sorted(b)),
    buildah("files/*:dir-mtime", "times of directories are another matter there"),
    buildah("files/etc/*:present", "what its sandbox needed stays", test=lambda a, b: a == "nothing"),
    buildah("files/run*:present", "what its sandbox needed stays", test=lambda a, b: a == "nothing"),
    buildah("files/*:content/HOSTNAME", "it gives RUN a HOSTNAME"),
    buildah("layers/*[+]/run*", "what its sandbox needed stays"),
    buildah("layers/*[+]/etc/*", "what its sandbox needed stays"),
    buildah("layers:count", "WORKDIR makes no layer there"),
    buildah("files/data:present", "a VOLUME becomes a directory there"),
    buildah("layers/*[+]/data", "a VOLUME becomes a directory there"),
    buildah("files/*:mode", "set-uid and set-gid bits are lost there", test=lambda a, b: a[0] in "246" and b == "0" + a[1:]),
    buildah("files/*:mtime", "it rounds times up", case="s06*", test=lambda a, b: (a, b) == (1, 2)),
    buildah("files/*:mode", "--chmod is not about parents and the destination there", case="s0[26]*",
            test=lambda a, b: b == "0755"),
    buildah("refused", "a name that --chown does not find is an error there", case="s06*: --chown*"),
    buildah("files/*:owner", "its ADD --chown is not about what is unpacked", case="s07*: --chown of an archive"),
    buildah("files/*:mode", "an archive's ./ changes the destination there", case="s07*", test=lambda a, b: (a, b) == ("0755", "0700")),
    buildah("files/*:owner", "an archive's ./ changes the destination there", case="s07*", test=lambda a, b: b == "9:9"),
    buildah("layers/*~/odd/full", "an archive's ./ changes the destination there", case="s07*"),
    buildah("refused", "the name of a stage has one case there", case="s05*: * in a* case"),
    buildah("config/ExposedPorts", "ranges of ports stay ranges there", test=lambda a, b: any("-" in p for p in b)),
    buildah("config/Env", "a doubled escape is a continuation there", case="s01*: doubled escape at line end"),
    buildah("refused", "escapes in words are always the backslash there", case="*escape*"),
    *[buildah("refused", "it takes what BuildKit refuses", case=f"{group}*: refused: {name}") for group, name in (
        ("s01", "* before FROM"), ("s01", "ENV with an empty name"), ("s01", "a line of 70000 bytes"),
        ("s01", "ENTRYPOINT of a trailing flag"), ("s01", "ONBUILD of something unknown"), ("s03", "empty braces"),
        ("s05", "a bad stage name"), ("s05", "a stage name that begins with a digit"), ("s06", "a mode over 7777"),
        ("s06", "a file over a directory, nested"), ("s06", "a directory over a nested *"))],
    buildah("files/env:content/*", "ENV is stronger than ARG there, in any order", case="s04*", test=lambda a, b: a.split("=")[0] == b.split("=")[0]),
    buildah("files/env:content/X", "an ARG of the parent stage is not seen there", case="s04*: ARG of the parent stage"),
    buildah("files/env:content/*_proxy", "proxy arguments are given in the case they came in there", case="s04*"),
    buildah("files/env:content/no_proxy", "a step of another build with a proxy argument is found in its cache", case="s09*"),
    buildah("config/WorkingDir", "it cleans the path of WORKDIR", test=lambda a, b: a.rstrip("/") == b),
    buildah("*", "a destination that is a link is replaced there", case="*over a link"),
    buildah("*", "a destination that is a link is replaced there", case="s06*: a destination that *"),
    buildah("files/w:owner", "WORKDIR does not make directories before a step needs them", case="s05*: a stage of a stage"),
    buildah("config/Env", "a variable of the base is lost there", test=lambda a, b: set(a) - set(b) == {"FROM_BASE=full"}),
    buildah("config/Entrypoint", "an array with something after it is an array there", case="s01*: what looks like JSON and is not"),
    buildah("config/Entrypoint", "SHELL is not about ENTRYPOINT and CMD there", test=lambda a, b: b[:2] == ["/bin/sh", "-c"]),
    buildah("config/Cmd", "SHELL is not about ENTRYPOINT and CMD there", case="s09*", test=lambda a, b: b[:2] == ["/bin/sh", "-c"]),
    buildah("config/Cmd", "SHELL is not about ENTRYPOINT and CMD there", case="s10*: SHELL*"),
    buildah("config/Cmd", "no text is no argument there", case="s10*: CMD with no text"),
    buildah("config/Labels", "a dollar before a sign that is no name stays there", case="s03*: names of one sign and of digits"),
    buildah("config/Labels", "ENV is stronger than ARG there, in any order, and an ARG does not reach far", case="s04*"),
    buildah("files/*:xattrs", "extended attributes of contexts and archives are kept there", test=lambda a, b: a == {}),
    buildah("refused", "an empty flag is a value there", case="s06*: flags with empty values"),
    buildah("*", "the dot in /new/. is not seen there", case="s06*: a file to slash and dot"),
    buildah("*", "several sources make a directory there", case="s06*: several sources, no slash"),
    buildah("refused", "a pattern must match something there", case="s06*: a wildcard with no match"),
    buildah("refused", "a pattern must match something there", case="s06*: a double star is a star"),
    buildah("*/s*", "sockets are left out there", case="s06*: a socket in the context"),
    buildah("refused", "an entry's name that leads upwards is refused, as by GNU tar", case="s07*: a name that climbs"),
    buildah("*/t/dir*", "hidden directories are not looked into there", case="s08*: an exception with a wildcard"),
    buildah("*/a.txt*", "\\a is the letter of a regular expression there", case="s08*: escaped signs"),
    buildah("*", "signs of regular expressions have a meaning in patterns there", case="s08*: a plus and other signs of expressions"),
    buildah("files/e:content/*", "a step has one more descriptor there", case="s09*: umask, limits, descriptors"),
    buildah("files/*caps:content/*", "the default capabilities are podman's, which are fewer", case="s09*: capabilities"),
    buildah("files/name:content/*", "the host's name is the container's", case="s09*: host name"),
    buildah("files/copy*:content/*", "/etc/hosts and /etc/hostname are others there", case="s09*: hosts"),
    buildah("refused", "there is no /dev/mqueue in a chroot", case="s09*: devices"),
    buildah("files/mounts.txt:content/*", "a chroot shows the machine's mounts", case="s09*: mount*"),
    buildah("files/pid:content/*", "a chroot shows the machine's processes", case="s09*: process ids"),
    buildah("*late*", "what a step leaves behind runs on in a chroot", case="s09*: orphans and exit"),
    buildah("files/ls:content/*", "what its sandbox needed is seen", case="s09*: /etc is the image's own"),
    buildah("files/tmp/ls:content/*", "what its sandbox needed is seen", case="s09*: no files of the sandbox stay"),
    buildah("refused", "it has no RUN --network", case="s09*: --network=none"),
    buildah("files/*:present", "WORKDIR does not make directories before a step needs them", case="s10*",
            test=lambda a, b: a.startswith("dir") and b == "nothing"),
    buildah("files/*:present", "changes below a VOLUME are lost there", case="s10*: *VOLUME*"),
    buildah("layers/*/v/*", "changes below a VOLUME are lost there", case="s10*: *VOLUME*"),
    buildah("layers/*/data/x", "changes below a VOLUME are lost there", case="s10*: VOLUME of a base"),
    buildah("layers/*/more", "a VOLUME becomes a directory there", case="s10*: VOLUME of a base"),
    buildah("config/ExposedPorts", "EXPOSE is not understood there", case="s10*: EXPOSE*"),
    buildah("refused", "it does not take an interval of zero for the default", case="s10*: HEALTHCHECK zero"),
    buildah("refused", "--from in a trigger is not a stage there", case="s10*: ONBUILD with COPY --from"),
    buildah("refused", "a pattern must match something there", case="s10*: history of COPY and ADD"),
    buildah("refused", "it takes what BuildKit refuses", case="s10*: refused: *"),
    buildah("files/*:present", "directories that its runtime needed stay in an image that had none",
            case="s12*: /proc, /sys and /dev in scratch", test=lambda a, b: a == "nothing"),
    buildah("layers/1:*", "directories that its runtime needed stay in an image that had none",
            case="s12*: /proc, /sys and /dev in scratch"),
    buildah("unbuilt", "neither the kernel nor a chroot lets a step make devices", case="s09*: mknod, chown, chroot"),
    buildah("unbuilt", "neither the kernel nor a chroot lets a step make devices", case="s12*: special files"),
    buildah("files/ls:content/hidden", "the ignore file is not about mounts there", case="s09_mounts: bind of the context"),
    buildah("files/out2:content/*", "what is written to a bind mount stays there", case="s09_mounts: bind rw is dropped"),
    buildah("files/out:content/*", "mounts show the machine's owners there", case="s09_mounts: bind owners and modes"),
    buildah("files/*:present", "the places of its mounts stay in the image", case="s09_mounts*",
            test=lambda a, b: a == "nothing" and b == "dir 0755 0:0"),
    buildah("layers/*[+]/*", "the places of its mounts stay in the image", case="s09_mounts*", test=lambda a, b: not a and b),
    buildah("*/odd/*", "it removes a directory that a mount covered", case="s09_mounts: a stub that was there stays"),
    buildah("*/odd/*", "it removes a directory that a mount covered", case="s09_mounts: tmpfs"),
    *[buildah("refused", "RUN --mount knows less there", case=f"s09_mounts: {name}") for name in (
        "bind over a directory that has files", "bind relative to WORKDIR", "cache with initial content", "cache sharing",
        "secret relative to WORKDIR", "refused: a source that is missing")],
    buildah("*", "a name that a pattern gave is taken for a pattern there", case="s08*: a wildcard finds only what is left"),
]

KNOWN = BUILDAH + [
    old("files/etc:dir-mtime", "it leaves the time that its stubs of /etc/hosts and /etc/resolv.conf gave /etc"),
    old("files/*:dir-mtime", "directories it copies get the time of the build, later ones have the source's",
        test=lambda ours, theirs: theirs == "now"),
    old("history/COPY/*:created_by", "it does not record --chown and --chmod", test=lambda a, b: without_owners(a) == b),
    old("history/ADD/*:created_by", "it does not record --chown and --chmod", test=lambda a, b: without_owners(a) == b),
    old("history/EXPOSE/*:created_by", "the form of the entry has changed",
        test=lambda a, b: a == re.sub(r":\{\}", "", b).replace("map", "")),
    old("history/HEALTHCHECK/*:created_by", "the form of the entry has changed",
        test=lambda a, b: b.startswith("HEALTHCHECK &{")),
    old("history/ARG/*:created_by", "it records the text, later ones the value",
        test=lambda a, b: a.split("=")[0] == b.split("=")[0]),
    old("history/RUN/*:created_by", "it records an ARG as often as it stands there, and none of a parent stage's",
        test=lambda a, b: without_arguments(a) == without_arguments(b)),
    old("files/*:content/uid", "the primary group is not among its supplementary ones",
        test=lambda a, b: b.split(" groups=")[0] == a.split(" groups=")[0]),
    old("*", "it takes an array with something after it for an array", case="s01*: what looks like JSON and is not"),
    old("refused", "it does not look at what a trigger says", case="s01*: refused: ONBUILD of something unknown"),
    old("refused", "it does not look at what a trigger says", case="s10*: refused: a COPY trigger of nothing"),
    old("files/t*:mode", "its --chmod is not about the parents it makes", case="s02*: COPY of a heredoc with modes and owners"),
    old("config/WorkingDir", "it cleans the path of WORKDIR", case="*WORKDIR*"),
    old("history/WORKDIR/*", "it cleans the path of WORKDIR", case="*WORKDIR*"),
    old("files/b:mode", "it does not expand --chmod", case="s03*: flags of COPY"),
    old("*", "items of one ARG do not see each other", case="s04*: items of one ARG see each other"),
    old("files/*:present", "it cannot copy a fifo", test=lambda a, b: a.startswith("fifo") and b == "nothing"),
    old("files/*:kind", "it copies a device as an empty file", test=lambda a, b: a.startswith("char") and b.startswith("file")),
    old("layers/*fifo", "it cannot copy a fifo"),
    old("layers/*/f", "it cannot copy a fifo", case="s06*: a fifo in the context"),
    old("files/t*:owner", "a group it does not find is the user's", case="s06*: --chown of an unknown group"),
    old("files/t:owner", "a group it does not find is the user's", case="s06*: --chown of three parts"),
    old("files/h:owner", "a group it does not find is the user's", case="s10*: WORKDIR of a user nobody knows"),
    old("files/*:mode", "its --chmod has nine bits, and is not about the destination", case="s06*: --chmod[= ]*"),
    old("files/odd/sticky:dir-mtime", "a destination that is there keeps its time", case="s06*: the top directory keeps its mode"),
    Known("docker", "files/odd/shared/new:*", "a new destination takes after its set-gid parent there, and is 0:0 and 0755 by rule",
          case="s06*: in a directory with set-gid"),
    old("*/t/dir*", "it does not look into a hidden directory for what a pattern with a wildcard lets through",
        case="s08*: an exception with a wildcard"),
    old("refused", "it takes any number for a mode", case="s06*: refused: a mode *"),
    old("*", "it does not see the dot in /new/.", case="s06*: a file to slash and dot"),
    Known("docker", "refused", "ids beyond 2147483647 are refused: some runtimes take them for root",
          case="s06*: --chown of the largest number"),
    Known("docker", "refused", "a pattern that is none matches nothing there; a mistake should be told",
          case="s06*: refused: a bad pattern"),
    old("files/*:owner", "its ADD --chown is not about what is unpacked", case="s07*: --chown of an archive"),
    Known("docker", "refused", "an entry's name that leads upwards is refused, as by GNU tar", case="s07*: a name that climbs"),
    Known("docker", "*/a.txt*", "it takes \\a for the letter of a regular expression, which no name has",
          case="s08*: escaped signs"),
    old("*", "signs of regular expressions have a meaning in its patterns", case="s08*: a plus and other signs of expressions"),
    Known("docker", "files/dev.txt:content/*", "devices are the machine's own, whose root is nobody here",
          case="s09*: devices", mode=("many", "one")),
    Known("docker", "files/mounts.txt:content/*", "without root, devices are mounts of the machine's, and more is covered",
          case="s09*: mounts"),
    Known("docker", "files/pid:content/*", "a step has an init process, which reaps what is left behind", case="s09*: process ids"),
    Known("docker", "refused", "no device can be made in a user namespace, which root builds in, too",
          case="s09*: mknod, chown, chroot"),
    Known("docker", "refused", "no device can be made in a user namespace, which root builds in, too",
          case="s12*: special files"),
    old("refused", "it does not take an interval of zero for the default", case="s10*: HEALTHCHECK zero"),
    old("refused", "--from in a trigger is not a stage there", case="s10*: ONBUILD with COPY --from"),
    old("files/*:present", "the places of its mounts stay in the image", case="s09_mounts*",
        test=lambda a, b: a == "nothing" and b == "dir 0755 0:0"),
    old("layers/*[+]/*", "the places of its mounts stay in the image", case="s09_mounts*", test=lambda a, b: not a and b),
    old("files/gone:content/*", "the places of its mounts stay in the image", case="s09_mounts*"),
    Known("docker", "files/*:present", "directories that its runtime needed stay in an image that had none",
          case="s12*: /proc, /sys and /dev in scratch"),
    Known("docker", "layers/1:*", "directories that its runtime needed stay in an image that had none",
          case="s12*: /proc, /sys and /dev in scratch"),
]


class Judge:
    """Tells the known differences from the others, and the entries that were of no use."""

    def __init__(self, peer, mode):
        self.entries = [k for k in KNOWN if k.applies(peer, mode)]

    def unknown(self, case, differences):
        """The differences that no entry covers."""
        out = []
        for one in differences:
            found = [k for k in self.entries if k.covers(case, one)]
            for entry in found[:1]:
                entry.count += 1
                entry.cases.add(case.title)
            if not found:
                out.append(one)
        return out

    def useless(self, compared, all_cases):
        """Entries that matched nothing although every case they are about was compared."""
        done = {c.title for c in compared}
        return [k for k in self.entries if not k.count
                and all(c.title in done for c in all_cases if fnmatch.fnmatchcase(c.title, k.case))]
