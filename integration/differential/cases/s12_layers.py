"""S12: what is in a layer: deletions, replaced directories, links, special files."""

from differential.case import Case


def case(name, *lines, base="shelf", files=None, **more):
    return Case(name, f"FROM {base}\n" + "".join(line + "\n" for line in lines), files, **more)


CASES = [
    case("files deleted", "RUN rm /odd/full/one /odd/private /etc/shadow"), case("a directory deleted", "RUN rm -r /odd/full", "RUN ls /odd > /ls"), case("deleted and made again", "RUN rm /odd/full/one", "RUN echo again > /odd/full/one"),
    case("deleted and made again in one step", "RUN rm -r /odd/full && mkdir /odd/full && echo new > /odd/full/new"), case("a directory replaced twice", "RUN rm -r /odd/full && mkdir /odd/full && echo a > /odd/full/a", "RUN rm -r /odd/full && mkdir /odd/full && echo b > /odd/full/b", "COPY f /odd/full/", files={"f": "1"}),
    case("made and deleted later", "RUN mkdir -p /d/e && echo > /d/e/f", "RUN rm /d/e/f", "RUN rmdir /d/e", "RUN rmdir /d"), case("made and deleted in one step", "RUN echo > /a && rm /a && mkdir /b && rmdir /b"), case("file becomes directory and back", "RUN rm /odd/private && mkdir /odd/private && echo > /odd/private/x", "RUN rm -r /odd/private && echo file > /odd/private"),
    case("directory becomes link", "RUN rm -r /odd/full && ln -s empty /odd/full"), case("link becomes directory", "RUN rm /odd/to-dir && mkdir /odd/to-dir && echo > /odd/to-dir/x"), case("everything in a directory deleted", "RUN rm -r /odd/full/* /odd/full/.[a-z]* 2>/dev/null; ls -a /odd/full > /ls"),
    case("renamed file and directory", "RUN mv /odd/full/one /odd/full/uno; mv /odd/full /odd/moved; mv /odd/empty /odd/leer"), case("swapped names", "RUN cd /odd/full && mv one x && mv two one && mv x two"),
    case("modes and owners only", "RUN chmod 600 /odd/full/one && chown mona:crew /odd/full/two && chmod 700 /odd/full && chown jack /odd/empty"), case("times only", "RUN touch -d @1400000000 /odd/full/one /odd/full"), case("nothing but reading", "RUN cat /odd/full/* > /dev/null 2>&1; ls -R / > /dev/null; true"),
    case("the same bytes again", "RUN cp -p /odd/full/one /tmp/x && cat /tmp/x > /odd/full/one && rm /tmp/x"), case("appended", "RUN echo more >> /odd/full/one", "RUN echo more >> /odd/full/one"), case("hardlinks made", "RUN echo x > /a && ln /a /b && mkdir /c && ln /a /c/d && ln /odd/full/two /odd/two"),
    case("hardlinks across layers", "RUN echo x > /a", "RUN ln /a /b", "RUN echo y >> /b"), case("a hardlink of the base changed", "RUN echo more >> /odd/hard1"), case("a hardlink of the base deleted", "RUN rm /odd/hard1", "RUN rm /odd/hard2"), case("symbolic links", "RUN ln -s /nowhere /l1; ln -s ../x /odd/l2; ln -sf l3 /odd/to-file; ln -s . /odd/self"),
    case("special files", "RUN mkfifo /f && mknod /c c 5 1 && mknod /b b 7 7 && chmod 600 /f"), case("a socket is dropped", "RUN nc -l -U /s & sleep 0.3; ls / > /dev/null; kill $! 2>/dev/null; true"), case("extended attributes of a step", "RUN cp -p /odd/capable /new && chown 5 /odd/setuid"),
    case("set-uid and sticky", "RUN chmod 4711 /odd/full/one; chmod 1777 /odd/empty; chmod 2755 /odd/full; mkdir /odd/shared/sub; touch /odd/shared/f"), case("odd names", "RUN cd /tmp && touch 'a b' \"$(printf 'new\\nline')\" '*' '\\\\' \"'\" '-n' 'ü' .wx; mkdir ' '"), case("names that are not UTF-8", "RUN cd /tmp && touch \"$(printf '\\377\\376')\""),
    case("long names and deep paths", "RUN n=$(printf %0200d 1); mkdir -p /tmp/$n/$n/$n && touch /tmp/$n/$n/$n/$n && ln -s $n/$n/$n /tmp/link"), case("many files", "RUN mkdir /m && cd /m && for i in $(seq 300); do echo $i > $i; done", "RUN cd /m && rm 1* && echo x > 2"),
    case("a large and a sparse file", "RUN dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null; dd if=/dev/zero of=/sparse bs=1 count=1 seek=5M 2>/dev/null"), case("big owners", "RUN touch /a /b && chown 60000:60001 /a"), case("the root's own mode", "RUN chmod 711 /", "RUN chown 0:5 /"),
    case("/proc, /sys and /dev in scratch", 'COPY --from=shelf /bin/busybox /bin/busybox', 'RUN ["/bin/busybox", "touch", "/a"]', base="scratch"), case("COPY over deleted", "RUN rm -r /odd/full", "COPY d /odd/full", files={"d/one": "mine"}),
    case("deleted in a stage and built on", "RUN rm -r /odd", "RUN mkdir /odd && echo 1 > /odd/one", 'RUN ls -A /odd > /ls'), Case("deletions before COPY --from", "FROM shelf AS a\nRUN rm -r /odd/full && mkdir /odd/full && echo 1 > /odd/full/n\nRUN rm /odd/hard1\nFROM scratch\nCOPY --from=a /odd /odd\n"),
    case("a directory emptied by COPY and RUN", "COPY d /d", "RUN rm /d/*", "COPY d /d", files={"d/a": "1", "d/b": "2"}), case("metadata of a replaced directory", "RUN mv /odd/full /odd/x && mkdir -m 700 /odd/full && chown 9:9 /odd/full", "RUN mv /odd/x/* /odd/full/"),
    case("/etc/hosts and /etc/resolv.conf of the step's own", "RUN mkdir -p /etc/sub && echo x > /etc/sub/hosts", "RUN ls /etc | grep -E 'hosts|resolv' > /ls; true"), case("a file over a whiteout name", "RUN touch /odd/wh..x /odd/.w"), case("rename over a file", "RUN echo new > /odd/tmpfile && mv /odd/tmpfile /odd/full/one"),
    case("a step without changes between others", "RUN echo 1 > /a", "RUN true", "RUN echo 2 > /b"), case("/tmp and /run", "RUN mkdir -p /run/lock && touch /run/x /tmp/y /var/tmp/z"), case("mtimes of parents", "RUN touch /odd/full/deep/new", "COPY f /odd/full/deep/", files={"f": "1"}),
]
