"""What a step does to what is there, and what it only seems to do."""

from ..case import Case, member

SETUP = """
FROM {}
RUN mkdir -p /d/sub/deep /d/other && cd /d && echo one >a && echo two >b && echo x >sub/x && echo y >sub/deep/y && \\
    ln -s a l && mkfifo p && chown 5:6 a sub sub/x && find /d -exec touch -h -d @1000000000 {} +
"""


def case(name, *steps, base="plain", **kw):
    return Case(name, SETUP.replace("FROM {}", f"FROM {base}") + "\n".join(steps), **kw)


CASES = [
    case("opened for writing and unchanged", "RUN : >>/d/a", "RUN exec 3<>/d/b; exec 4>>/d/sub/x", "RUN dd if=/dev/null of=/d/a conv=notrunc"),
    case("locked only", "RUN flock /d/a true; flock -s /d/b true", "RUN exec 9>>/d/sub/deep/y; flock 9", base="tools"),
    case("mode and owner set to what they are", "RUN chmod 644 /d/a; chmod 755 /d/sub; chmod -R u+rw /d", "RUN chown -R --from=root 0 /d 2>/dev/null; chown 5:6 /d/a /d/sub",
         "RUN chown -h 0:0 /d/l; chown 0 /d/p; chgrp -R 0 /bin"),
    case("times set to what they are", "RUN touch -d @1000000000 /d/a /d/sub", "RUN touch -r /d/a /d/b /d/sub/x; touch -h -d @1000000000 /d/l"),
    case("written again with the same", "RUN cat /d/a >/tmp/a && cat /tmp/a >/d/a && rm /tmp/a", "RUN echo two >/d/b && touch -d @1000000000 /d/b",
         "RUN echo twO >/d/b && touch -d @1000000000 /d/b"),
    case("removed and made again the same", "RUN cp -p /d/a /a && rm /d/a && cp -p /a /d/a && rm /a && touch -d @1000000000 /d",
         "RUN rm /d/l && ln -s a /d/l && touch -h -d @1000000000 /d/l /d", "RUN rm /d/p && mkfifo /d/p && touch -d @1000000000 /d/p"),
    case("a directory removed and made again", "RUN cp -a /d/sub /c && rm -r /d/sub && cp -a /c /d/sub && rm -r /c",
         "RUN rm -r /d/sub && mkdir /d/sub && echo new >/d/sub/x", "RUN rm -r /d/sub; mkdir -p /d/sub/deep"),
    case("a directory moved away and back", "RUN mv /d/sub /e && mv /e /d/sub", "RUN mv /d/sub /e && rm /e/x && echo n >/e/n && mv /e /d/sub"),
    case("a directory replaced by a file and back", "RUN rm -r /d/sub && echo file >/d/sub", "RUN rm /d/sub && mkdir /d/sub && echo x >/d/sub/new",
         "RUN rm -r /d/sub && ln -s other /d/sub", "RUN rm /d/sub; mkfifo /d/sub"),
    case("deletions", "RUN rm /d/a /d/l /d/p", "RUN rm -r /d/sub", "RUN rm -r /d/other /d/b; mkdir /d/other", "RUN echo again >/d/a; rm -rf /d"),
    case("made and deleted in one step", "RUN echo x >/d/new; rm /d/new; mkdir /d/sub/n; rmdir /d/sub/n", "RUN mkdir -p /n/o/p && rm -r /n"),
    case("renames of lower directories", "RUN mv /d/sub /d/moved", "RUN mv /d/moved/deep /d/deep; mv /d/a /d/deep/a", "RUN mv /d /e; mkdir /d",
         "RUN mv /e/deep /d/; mv /d/deep/y /y"),
    case("renames of files", "RUN mv /d/a /d/aa; mv /d/l /d/ll; mv /d/p /d/pp", "RUN mv /d/b /d/aa; mv /d/ll /l", "RUN mv /d/sub/x /d/sub/y; mv /d/sub/y /d/sub/x"),
    case("symbolic links among parents", "RUN ln -s sub /d/to && echo n >/d/to/n; chmod 700 /d/to/deep", "RUN rm /d/to/x; rm /d/to; ln -s other /d/to; echo o >/d/to/o",
         "RUN rm /d/other/o; ln -sfn ../d/sub /d/to; touch -d @1000000000 /d/to/deep/y"),
    case("truncated, extended and written at the end", "RUN truncate -s 2 /d/a; truncate -s 100000 /d/b; echo more >>/d/sub/x", "RUN truncate -s 0 /d/b; : >/d/sub/deep/y"),
    case("nothing at all", "RUN true", "RUN cat /d/a /d/sub/deep/y >/dev/null; ls -lR /d >/dev/null", "RUN touch -c /nowhere"),
    case("hard links in one layer", "RUN cd /d && ln a a2 && ln a sub/a3 && ln b /b2; chown 7 b", "RUN cat /d/a2 >/dev/null; rm /d/a2", "RUN echo x >>/d/sub/a3"),
    case("hard links across layers", "RUN ln /d/a /d/a2; ln /d/sub/x /x2", "RUN echo more >>/d/a2", "RUN chown -R 9:9 /d/sub /x2", "RUN ln /d/a2 /d/a4; rm /d/a"),
    case("hard links opened and unchanged", "RUN ln /d/a /d/a2; ln /d/b /d/b2", "RUN : >>/d/a2; chmod 644 /d/b", "RUN mv /d/a2 /d/a; ln -f /d/b /d/b2"),
    case("a copy without its links", "RUN ln /d/a /d/a2", "RUN cp /d/a /d/c; cp /d/a2 /d/c2; mkdir /f; for f in a a2 b; do cat /d/$f >/f/$f; done"),
    Case("odd names", """
FROM tools
RUN mkdir /o && cd /o && touch "$(printf 'bad\\377name')" "$(printf 'new\\nline')" "with space" 'back\\slash' 'percent%41' "$(printf %0255d 7)" -- -dash .wh && \\
    d=$(printf %0200d 1) && mkdir -p $d/$d && echo x >$d/$d/f && ln -s $d/$d/f "$(printf 'l\\351')" && ln $d/$d/f ümlaut
RUN cd /o && : >>"$(printf 'bad\\377name')"; rm "$(printf 'new\\nline')"; chown 5:5 "$(printf 'l\\351')" "$(printf %0255d 7)"; mv ümlaut ünlaut
"""),
    Case("sparse and large files", """
FROM tools
RUN truncate -s 30M /s && echo end >>/s && truncate -s 5M /hole && dd if=/dev/zero of=/zeros bs=1M count=3 2>/dev/null
RUN : >>/s; printf x | dd of=/hole bs=1 seek=1000000 conv=notrunc 2>/dev/null
RUN cp --sparse=always /s /t && cp --sparse=never /hole /full
"""),
    Case("times before 1970, with fractions, and late", """
FROM tools
RUN cd /opt && touch -d 1960-01-02T03:04:05Z old && touch -d 2001-02-03T04:05:06.123456789Z fraction && touch -d 1969-12-31T23:59:59.5Z edge && \\
    touch -d 2500-01-01T00:00:00Z late && mkdir dir && ln -s x link && touch -h -d 1950-01-01T00:00:00Z link && touch -d 1955-05-05T00:00:00.25Z dir
RUN cp -p /opt/fraction /opt/copy; touch -r /opt/edge /opt/old; touch -r /opt/dir /opt/dir; : >>/opt/fraction
RUN touch -d 2001-02-03T04:05:06.123456788Z /opt/fraction
"""),
    Case("access lists and attributes of users", """
FROM tools
RUN mkdir /x && cd /x && touch a b && mkdir dir && setfacl -m g::rwx,m::r a && setfattr -n user.note -v text b && setfacl -d -m u::rwx,g::rx,o::- dir
RUN setfattr -n user.note -v text /x/b; setfacl -m m::r /x/a; touch /x/dir/inherits
RUN setfattr -n user.note -v other /x/b; getfattr --only-values -n user.note /x/b
RUN setfattr -x user.note /x/b; setfacl -b /x/a
"""),
    Case("access lists of users and groups", """
FROM tools
RUN mkdir /x && cd /x && touch a && mkdir dir && setfacl -m u:1000:rw,g:50:r a && setfacl -d -m u:1000:rwx dir
RUN touch /x/dir/inherits; cp -a /x/a /x/copy; getfacl -n /x/a | grep -q user:1000:rw-
RUN setfacl -m u:1000:rw /x/a; setfacl -x u:1000 /x/copy
""", lacks={"one": "the kernel takes no access list with ids that the namespace has not"}),
    Case("empty directories and files", """
FROM plain
RUN mkdir -p /e/a/b/c /e/d && touch /e/f && chmod 500 /e/d
RUN rmdir /e/a/b/c; : >/e/f; chmod 700 /e/d; chmod 500 /e/d
RUN rmdir /e/d && mkdir -m 500 /e/d
FROM scratch
COPY --from=0 /e /e
COPY --from=0 /e /e
"""),
    Case("copied twice", """
FROM plain
COPY a dir /c/
COPY a dir /c/
COPY --chown=5:5 a /c/
COPY --chmod=600 --chown=5:5 a /c/
RUN : >>/c/a
COPY a /c/
ADD t.tar /t/
ADD t.tar /t/
""", {"a": "a\n", "dir/b": "b\n", "dir/deep/c": "c\n",
        "t.tar": [member("x", content=b"x", owner=(5, 6)), member("y/z", content=b"z", owner=(7, 8), mtime=-5)]}),
    Case("ten thousand files", """
FROM tools
RUN mkdir /m && cd /m && seq 10000 | split -l 1 -a 4 - f && mkdir d && mv faaa* d
RUN chown -R 5:5 /m/d; rm /m/fb*; chmod -R go-w /m
RUN find /m -type f | sort | tail -n 500 | while read f; do echo x >>$f; done
"""),
]
