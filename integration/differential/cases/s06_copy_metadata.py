"""S6: COPY: modes, owners, times, attributes, and the flags that change them."""

from differential.case import THEN, Case, Dir, Fifo, File, Hard, Link

CAPABILITY = {"security.capability": bytes.fromhex("0100000200040000000000000000000000000000")}
TREE = {
    "file": "f\n", "x": File("x", 0o755), "setuid": File("s", 0o4755), "setgid": File("g", 0o2711), "private": File("p", 0o600),
    "none": File("n", 0o444), "wide": File("w", 0o666), "new": File("later", mtime=THEN + 5000), "old": File("old", mtime=1.75),
    "dir/one": "1", "dir/sub/two": File("2", 0o640), "dir/sub": Dir(0o700, THEN + 7), "dir/sticky": Dir(0o1777), "dir/sgid": Dir(0o2755),
    "dir/link": Link("one"), "empty": Dir(0o750, THEN + 9),
}


def case(name, *lines, files=TREE, base="shelf", **more):
    return Case(name, f"FROM {base}\n" + "".join(line + "\n" for line in lines), files, **more)


def newer(name, feature, lines, old, **more):
    return case(name, *lines, feature=feature, twin=f"FROM {more.get('base', 'shelf')}\n" + "".join(l + "\n" for l in old), **more)


CASES = [
    case("modes and times", "COPY . /t/"),
    case("modes of directories that exist", "RUN mkdir -p -m 711 /t/sub /t/dir/sub && chown 5:6 /t /t/sub",
         "COPY dir /t"),
    case("the top directory keeps its mode", "COPY empty /odd/sticky", "COPY dir /odd/shared"),
    case("in a directory with set-gid", "COPY file /odd/shared/", "COPY dir /odd/shared/new/"),
    case("attributes in the context", "COPY . /t",
         files={"u": File("u", xattrs={"user.test": b"value"}), "c": File("c", 0o755, xattrs=CAPABILITY)}),
    case("attributes from a stage", "COPY --from=shelf /odd/capable /c", "COPY --from=shelf /odd /odd",
         base="scratch"),
    case("owners from a stage", "COPY --from=shelf /home /home", "COPY --from=shelf /odd/private /p", base="scratch"),
    case("USER does not matter", "USER mona", "COPY file /t/", "COPY dir /u", "COPY --from=shelf /odd/private /p"),
    case("parents belong to root", "USER mona", "WORKDIR /home/mona", "COPY file a/b/c", "RUN ls -ln > /tmp/ls"),
    *[case(f"--chown={who}", f"COPY --chown={who} file /t/new/", f"COPY --chown={who} dir /u") for who in
      ("mona", "mona:crew", "jack", "1234", "1234:5678", "mona:77", "77:crew", "root", "root:wheel", "nobody:nobody", "1003", "0:0", "2147483646:1")],
    case("--chown of a group alone", "COPY --chown=:crew file /t/"),
    case("--chown of an unknown name", "COPY --chown=ghost file /t/"),
    case("--chown of the largest number", "COPY --chown=4294967294:1 file /t/"),
    case("--chown of three parts", "COPY --chown=1:2:3 file /t"),
    case("--chown of an unknown group", "COPY --chown=mona:ghosts file /t/"),
    case("--chown from a stage", "COPY --chown=mona --from=shelf /odd /t", base="bare"),
    case("--chown of a name, users made by RUN", "RUN echo 'late:x:777:888::/:/bin/sh' >> /etc/passwd",
         "COPY --chown=late file /t/"),
    case("--chown into an existing directory", "COPY --chown=mona:crew dir /odd/full",
         "COPY --chown=7:8 file /odd/empty/"),
    case("--chown keeps set-uid", "COPY --chown=mona setuid setgid /t/"),
    case("--chown of links", "COPY --chown=mona dir /t", "COPY --chown=5 . /u"),
    case("--chown with capabilities", "COPY --chown=mona --from=shelf /odd/capable /c"),
    case("ADD --chown", "ADD --chown=mona:crew dir /t", "ADD --chown=5 file /u/"),
    case("--chown over passwd that is a link", "RUN mv /etc/passwd /etc/real && ln -s /etc/real /etc/passwd",
         "COPY --chown=mona file /t/"),
    *[case(f"--chmod={mode}", f"COPY --chmod={mode} file /t/new/f", f"COPY --chmod={mode} dir /u") for mode in
      ("755", "0644", "4755", "1777", "2750", "700", "07777")],
    case("--chmod of a mode without search", "COPY --chmod=600 file /t/new/f"),
    case("--chmod on existing directories", "COPY --chmod=700 dir /odd/full", "COPY --chmod=640 file /odd/empty"),
    case("--chmod and --chown", "COPY --chmod=711 --chown=mona dir /t", "ADD --chmod=600 --chown=5:6 file /u"),
    case("--chmod from a stage", "COPY --chmod=0755 --from=shelf /odd/full /t", base="scratch"),
    newer("--chmod in letters", "symbolic-chmod",
          ["COPY --chmod=u+x,go= file /t", "COPY --chmod=go-rx,u=rwX dir /u", "COPY --chmod=a+X dir /v"], ["COPY --chmod=700 file /t", "COPY dir /u", "RUN x=$(stat -c %Y /u/sub); cd /u && for f in one sub/two; do chmod go-rx,u=rw $f; done && chmod 600 sub/two && chmod 700 sub && chmod 1722 sticky && chmod 2700 sgid && touch -d @$x .; touch -d @1600000000 .",
           "COPY dir /v", "RUN chmod 711 /v/sub"]),
    newer("--link", "link",
          ["COPY --link file /t/", "COPY --link dir /u/v", "COPY --link --chown=5:6 file /odd/new/"],
          ["COPY file /t/", "COPY dir /u/v", "COPY --chown=5:6 file /odd/new/", "RUN chown 5:6 /odd"]),
    newer("--link from a stage", "link", ["COPY --link --from=shelf /odd/full /t", "ADD --link file /a/b"],
          ["COPY --from=shelf /odd/full /t", "ADD file /a/b"], base="scratch"),
    newer("--link twice into a directory", "link", ["COPY --link file /t/", "COPY --link x /t/", "RUN ls /t > /ls"],
          ["COPY file /t/", "COPY x /t/", "RUN ls /t > /ls"]),
    newer("--parents", "parents",
          ["COPY --parents dir/one dir/sub/two /t/", "COPY --parents dir/./sub/two /u/", "COPY --parents dir /v/"],
          ["COPY dir/one /t/dir/", "COPY dir/sub/two /t/dir/sub/", "RUN chmod 700 /t/dir/sub", "COPY dir/sub/two /u/sub/", "RUN chmod 700 /u/sub", "COPY dir /v/dir"]),
    newer("--parents with patterns", "parents",
          ["COPY --parents **/two /t/", "COPY --parents di*/o* /u/", "COPY --parents *.none /v/"],
          ["COPY dir/sub/two /t/dir/sub/", "RUN chmod 700 /t/dir/sub", "COPY dir/one /u/dir/", "RUN mkdir /v"]),
    newer("--exclude", "exclude", ["COPY --exclude=*.md --exclude=sub dir /t"],
          ["COPY dir/one /t/", "RUN touch -d @1600000000 /t"],
          files={"dir/one": "1", "dir/a.md": "2", "dir/sub/x": "3"}),
    newer("--exclude with an exception", "exclude", ["COPY --exclude=sub/* --exclude=!sub/keep . /t"],
          ["COPY . /t", "RUN rm /t/sub/drop; touch -d @1600000000 /t/sub"],
          files={"one": "1", "sub/keep": "2", "sub/drop": "3"}),
    case("times of a copied directory", "COPY dir /t", "RUN touch /t/one", "COPY dir /t"),
    case("sub-second and old times", "COPY old new /t/"),
    case("unreadable to others", "USER mona", "COPY private none /t/",
         "RUN cat /t/private > /tmp/x 2>/dev/null || echo no > /tmp/x"),
    case("ADD of a directory with modes", "ADD . /t/"),
    case("setuid from a stage", "COPY --from=shelf /odd/setuid /odd/setgid /odd/unreadable /odd/closed /t/",
         base="scratch"),
    case("the modes of directories from a stage", "COPY --from=shelf /odd/sticky /a",
         "COPY --from=shelf /odd/closed /b", "COPY --from=shelf /root /c", base="scratch"),
    case("flags with empty values", "COPY --chown= --from= file /t/"),
    case("--chown without users", "COPY --chown=5 file /t", "COPY --chown=0:7 file /u", base="scratch"),
]
CASES += [case(f"refused: {name}", *lines, base=base, fails=says) for name, lines, base, says in [
    ("a name in scratch", ["COPY --chown=mona file /t"], "scratch", "mona"),
    ("a mode over 7777", ["COPY --chmod=17777 file /t"], "shelf", "17777"),
    ("a mode with a nine", ["COPY --chmod=799 file /t"], "shelf", "799"), 
    ("--link with a name", ["COPY --link --chown=mona file /t"], "shelf", "mona|link"),
    ("ADD --from", ["ADD --from=shelf /etc/passwd /t"], "shelf", "from"),
    ("--checksum of a file", ["ADD --checksum=sha256:" + "0" * 64 + " file /t"], "shelf", "checksum"),
]]
