"""S10: the instructions that set the configuration, ONBUILD and HEALTHCHECK; S11: the history of them."""

from differential.case import Case


def case(name, *lines, base="shelf", files=None, **more):
    return Case(name, f"FROM {base}\n" + "".join(line + "\n" for line in lines), files, **more)


CASES = [
    case("WORKDIR makes directories", "WORKDIR /a/b/c", "WORKDIR d", "WORKDIR ../e"), case("WORKDIR as a user", "USER mona", "WORKDIR /a/b", "WORKDIR /home/mona/x/y", "USER 7:8", "WORKDIR /seven", "USER jack:crew", "WORKDIR /crew", "USER 1001", "WORKDIR /number", "USER 4321", "WORKDIR /nobody"),
    case("WORKDIR of a user nobody knows", "USER ghost", "WORKDIR /g", "USER mona:ghosts", "WORKDIR /h"), case("WORKDIR that is there", "WORKDIR /odd/full", "WORKDIR /odd/sticky", "WORKDIR /home/mona"), case("WORKDIR unclean", "WORKDIR /x/../y/", "WORKDIR /tmp/", "WORKDIR //a//b"), case("WORKDIR of the root", "WORKDIR /", "WORKDIR .", "WORKDIR /a", "WORKDIR .."),
    case("WORKDIR with blanks", "WORKDIR /a b/c", "RUN pwd > /tmp/p"), case("WORKDIR in quotes", 'WORKDIR "/q q"', "WORKDIR 'single'"), case("WORKDIR through links", "WORKDIR /odd/to-dir/new", "WORKDIR /odd/dangling"), case("WORKDIR in scratch", "WORKDIR /w", "COPY a .", base="scratch", files={"a": "1"}),
    case("WORKDIR of a number in scratch", "USER 5", "WORKDIR /w", base="scratch"), case("refused: WORKDIR of a name in scratch", "USER mona", "WORKDIR /w", base="scratch", fails="mona"), case("WORKDIR of a base", "WORKDIR sub", "RUN pwd > /tmp/p", base="full"), case("WORKDIR alone at the end", "WORKDIR /only/this"),
    case("USER as written", "USER mona", "USER 1:2", "USER  mona:crew "), case("USER nobody knows, without RUN", "USER ghost:ghosts"), case("USER of a base", "RUN id > /tmp/id", "USER root", base="full"),
    case("EXPOSE", "EXPOSE 80 443/TCP 53/udp 8000-8003 9000-9001/sctp", "EXPOSE 80/tcp", "EXPOSE 22"), case("EXPOSE of a mapping", "EXPOSE 8080:80"), case("EXPOSE of a base", "EXPOSE 81", base="full"),
    case("VOLUME", "VOLUME /a /b/c", 'VOLUME ["/d", "/e f"]', "VOLUME /a"), case("changes below a VOLUME stay", "RUN mkdir /v && echo 1 > /v/a", "VOLUME /v", "RUN echo 2 > /v/b; rm /v/a", "COPY f /v/c", files={"f": "3"}),
    case("VOLUME of a base", "VOLUME /more", "USER 0", "RUN mkdir -p /data && echo x > /data/x", base="full"), case("CMD and ENTRYPOINT", 'CMD ["a", "b c"]', 'ENTRYPOINT ["e"]'), case("ENTRYPOINT clears the base's CMD", 'ENTRYPOINT ["e"]'),
    case("ENTRYPOINT after CMD keeps it", 'CMD ["c"]', 'ENTRYPOINT ["e"]', 'ENTRYPOINT ["f"]'), case("CMD after ENTRYPOINT", 'ENTRYPOINT ["e"]', 'CMD ["c"]', base="full"), case("CMD twice", "CMD one", 'CMD ["two"]'), case("CMD with no text", "CMD"), case("ENTRYPOINT of an empty text", 'ENTRYPOINT [""]', 'CMD ["", ""]'),
    case("SHELL before and after", "CMD before", 'SHELL ["/bin/other", "-x"]', "ENTRYPOINT after"), case("SHELL of a base in CMD", "CMD text", base="full"), case("STOPSIGNAL", "STOPSIGNAL SIGTERM", "STOPSIGNAL 9"), case("STOPSIGNAL without SIG", "STOPSIGNAL kill"), case("STOPSIGNAL of real time", "STOPSIGNAL SIGRTMIN+3"),
    case("LABEL", "LABEL a=1 b=2", "LABEL b=3", 'LABEL base="changed" "c d"="e f"', "LABEL empty="), case("LABEL of a base", "LABEL override=own", base="full"), case("MAINTAINER twice", "MAINTAINER one", "MAINTAINER two"),
    case("HEALTHCHECK CMD", "HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --retries=4 CMD curl -f http://localhost/ || exit 1"), case("HEALTHCHECK exec form", 'HEALTHCHECK CMD ["a", "b c"]'), case("HEALTHCHECK NONE", "HEALTHCHECK NONE", base="full"), case("HEALTHCHECK in small letters", "HEALTHCHECK none"), case("HEALTHCHECK of a base", "USER 0", base="full"),
    case("HEALTHCHECK twice", "HEALTHCHECK --retries=2 CMD a", "HEALTHCHECK --interval=100ms CMD b"), case("HEALTHCHECK zero", "HEALTHCHECK --interval=0s --retries=0 CMD a"), case("HEALTHCHECK --start-interval", "HEALTHCHECK --start-interval=2s CMD a", feature="start-interval"),
    case("HEALTHCHECK under SHELL", 'SHELL ["/bin/other", "-c"]', "HEALTHCHECK CMD text $X"), case("ONBUILD is stored", "ONBUILD RUN echo  two  blanks", "ONBUILD COPY a /b", "onbuild env A=$B", 'ONBUILD CMD ["x"]', "ONBUILD ADD --chown=1 x /y"),
    case("ONBUILD of a base", "RUN cat /trigger/ran > /own", base="triggers", files={"trigger.txt": "t"}), case("ONBUILD of a base with an argument", "LABEL x=$TRIGGER_ARG", base="triggers", files={"trigger.txt": "t"}, args=["--build-arg", "TRIGGER_ARG=cli"]),
    Case("ONBUILD between stages", "FROM shelf AS a\nONBUILD RUN echo ran >> /ran\nONBUILD ENV X=1\nONBUILD WORKDIR /triggered\nFROM a AS b\nRUN pwd > /tmp/p\nFROM b\nLABEL x=$X\n"),
    Case("ONBUILD of a base twice removed", "FROM triggers AS a\nFROM a\nRUN cat /trigger/ran > /own\n", {"trigger.txt": "t"}), Case("ONBUILD with COPY --from", "FROM shelf AS a\nRUN echo x > /x\nFROM shelf AS b\nONBUILD COPY --from=a /x /from-a\nFROM b\n"),
    Case("ONBUILD order", "FROM shelf AS a\nONBUILD ENV O=1\nONBUILD ENV O=${O}2\nFROM a\nENV O=${O}3\n"), case("ENV overrides", "ENV BASE_ONE=1", "ENV NEW=2", "ENV BASE_ONE=3 NEW=4"),
    case("a base with everything", "ENV X=1", "LABEL y=2", base="full"), case("everything at once", "ENV A=1", "LABEL b=2", "EXPOSE 1", "VOLUME /v", "USER mona", "WORKDIR /w", 'CMD ["c"]', 'ENTRYPOINT ["e"]', "STOPSIGNAL 2", 'SHELL ["/s"]', "HEALTHCHECK NONE", "ONBUILD RUN x", "MAINTAINER m", "ARG G=h"),
    case("history of RUN", "RUN echo  'two  blanks' \\", "    && true", 'RUN ["true", "a b"]', "ARG A=1", "RUN true", 'SHELL ["/bin/sh", "-ec"]', "RUN true"),
    case("history of COPY and ADD", "COPY a b /t/", "COPY --chown=mona:crew a /u", "COPY --chmod=600 a /v", "COPY --from=shelf /etc/passwd /w", "ADD a /x", 'COPY ["a", "/y z"]', "WORKDIR /w2", "COPY a rel", "COPY *.none /q/", files={"a": "1", "b": "2"}),
    case("history of the rest", "ENV A=1 B='2 3'", 'LABEL x="y z" q=1', "EXPOSE 443 80", "VOLUME /b /a", "USER x", "WORKDIR /w", "CMD text here", 'ENTRYPOINT ["a", "b c"]', "STOPSIGNAL SIGINT", 'SHELL ["/s", "-c"]', "HEALTHCHECK --interval=3s CMD x y", "HEALTHCHECK NONE", "ARG G", "ARG H=1", "MAINTAINER me"),
    *[case(f"refused: {name}", *lines, fails=says) for name, lines, says in [
        ("EXPOSE of a word", ["EXPOSE http"], "http"), ("EXPOSE of too large a number", ["EXPOSE 70000"], "70000"), ("EXPOSE of an unknown protocol", ["EXPOSE 80/icmp"], "icmp"), ("EXPOSE of a range backwards", ["EXPOSE 90-80"], "90-80"),
        ("HEALTHCHECK of something else", ["HEALTHCHECK RUN x"], "RUN"), ("HEALTHCHECK NONE with more", ["HEALTHCHECK NONE x"], "NONE"), ("HEALTHCHECK with a short interval", ["HEALTHCHECK --interval=1us CMD x"], "interval"), ("HEALTHCHECK with a bad duration", ["HEALTHCHECK --interval=5 CMD x"], "interval|duration|5"), ("HEALTHCHECK with negative retries", ["HEALTHCHECK --retries=-1 CMD x"], "retries"), ("HEALTHCHECK CMD of nothing", ["HEALTHCHECK CMD"], "HEALTHCHECK|CMD"),
        ("VOLUME of an empty text", ['VOLUME [""]'], "VOLUME"), ("a COPY trigger of nothing", ["ONBUILD COPY a"], "COPY"), ("WORKDIR over a file", ["WORKDIR /etc/passwd"], "passwd"),
    ]],
    case("refused: a trigger that fails", "ENV A=1", base="triggers", fails="trigger.txt"), case("an empty STOPSIGNAL of zero", "STOPSIGNAL 0", fails="0"),
]
