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


KNOWN = [
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
    Known("docker", "refused", "the kernel lets nobody but root make devices", case="s09*: mknod, chown, chroot",
          mode=("many", "one")),
    Known("docker", "refused", "the kernel lets nobody but root make devices", case="s12*: special files", mode=("many", "one")),
    old("refused", "it does not take an interval of zero for the default", case="s10*: HEALTHCHECK zero"),
    old("refused", "--from in a trigger is not a stage there", case="s10*: ONBUILD with COPY --from"),
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
