"""S3: words with variables. A label per expression; what old peers do not know has its value in the twin."""

from differential.case import Case

HEAD = "FROM shelf\nENV SET=value EMPTY= PATHLIKE=/usr/local/lib/x.tar.gz WITH='a b' GLOB='a*b?c' DIGIT=1\nARG ARGUED=arg\nARG UNSET\n"


def labels(name, expressions, values=None, feature=None):
    """A label per expression; `values` are those that an old peer gets instead."""
    def text(items):
        return HEAD + "".join(f"LABEL l{n:02}={item}\n" for n, item in enumerate(items))
    twin = None if values is None else text(["'" + v.replace("'", "'\\''") + "'" for v in values])
    return Case(name, text(expressions), feature=feature, twin=twin)


CASES = [
    labels("plain forms", ["$SET", "${SET}", "x$SET", "${SET}x", "$SET.x", "$SET-x", "$SETx", "$SET$SET", "${SET}${EMPTY}z",
                           "$UNSET", "${UNSET}x", "$ARGUED", "/$SET/$ARGUED", "$BASE_TWO", "$PATH"]),
    labels("a dollar that is none",
           ["a$", "\"a$\"", "$.", "a$/b", "$,x", "\\$SET", "a\\$b", "\"\\$SET\"", "'$SET'", "$%"]),
    labels("names of one sign and of digits",
           ["x$$y", "x$@y", "x$*y", "x$#y", "x$?y", "x$-y", "x$!y", "x$0y", "x$1y", "x$12y", "x${1}y"]),
    labels("default", ["${SET:-d}", "${EMPTY:-d}", "${UNSET:-d}", "${UNSET:-}", "${UNSET:-$SET}", "${UNSET:-${EMPTY:-deep}}",
                       "${UNSET:-a/b.c}", "\"${UNSET:-a b}\"", "${UNSET:-\"q q\"}", "${UNSET:-'s s'}", "${UNSET:-a:b}", "${UNSET:-\\}}"]),
    labels("alternative", ["${SET:+a}", "${EMPTY:+a}", "${UNSET:+a}", "${SET:+$ARGUED}", "${SET:+${SET}}", "${SET:+}", "\"${SET:+x y}\"",
                           "\"${SET:+'q'}\""]),
    labels("without the colon",
           ["${SET-d}", "${EMPTY-d}", "${UNSET-d}", "${SET+a}", "${EMPTY+a}", "${UNSET+a}", "${UNSET-$SET}"],
           ["value", "", "d", "a", "a", "", "value"], "dash"),
    labels("required and there", ["${SET:?no}", "${SET?no}", "${EMPTY?no}"], ["value", "value", ""], "dash"),
    labels("prefixes and suffixes", ["${PATHLIKE#*/}", "${PATHLIKE##*/}", "${PATHLIKE%.*}", "${PATHLIKE%%.*}", "${SET#v?l}", "${SET%lu*}",
                                     "${SET#nothing}", "${EMPTY#x}", "${UNSET#x}", "${GLOB#a\\*}", "${GLOB%\\?c}", "${PATHLIKE#/usr}",
                                     "${SET#$DIGIT}", "${SET##*}", "${SET%%*}"], ["usr/local/lib/x.tar.gz", "x.tar.gz", "/usr/local/lib/x.tar", "/usr/local/lib/x", "ue", "va", "value", "", "",
            "b?c", "a*b", "/local/lib/x.tar.gz", "value", "", ""], "trim"),
    labels("replacing", ["${SET/a/A}", "${SET//[a]/A}", "${PATHLIKE/\\//-}", "${PATHLIKE//\\//-}", "${SET/l*/!}", "${SET/u/}", "${SET//?/x}",
                         "${SET/nothing/x}", "${SET/a/$DIGIT}", "\"${WITH/ /_}\""],
           ["vAlue", "value", "-usr/local/lib/x.tar.gz", "-usr-local-lib-x.tar.gz", "va!", "vale", "xxxxx", "value", "v1lue", "a_b"],
           "trim"),
    labels("quotes and escapes", ["\"$SET\"", "\"a $SET b\"", "a\"b $SET\"c", "'a'\"$SET\"b", "\\a\\b", "\"\\a\\\"\"", "a\\\\b", "'\\'", "\"\"",
                                  "''", "\"a\\nb\"", "\"$WITH\"", "$WITH", "x$WITH"]),
    Case("ENV of its own line sees the old values", "FROM shelf\nENV A=1\nENV A=2 B=$A C=${A}x\nENV D=$B$C\n"),
    Case("ENV and LABEL keys", "FROM shelf\nENV K=KEY\nENV X_$K=1 ${K}_Y=2\nLABEL $K.label=1 \"a$K\"=2\n"),
    Case("paths of COPY and WORKDIR", """FROM shelf
ENV D=dir F=file EMPTY=
WORKDIR /$D/${F:-x}/
COPY $F $D/
COPY ${F}2 /t/$F-x
ADD ${NONE:-file} "/t/$D"
COPY ["$F", "/t/json $F"]
WORKDIR $EMPTY
""", {"file": "1", "file2": "2"}),
    Case("USER, VOLUME, EXPOSE, STOPSIGNAL", """FROM shelf
ENV U=mona G=crew V=/vol P=80 RANGE=8000-8002 LIST="1 2/udp" S=SIGUSR1
USER $U:${G}
VOLUME $V ${V}2
VOLUME ["$V/json"]
EXPOSE $P $RANGE/udp ${P}80
STOPSIGNAL $S
"""),
    Case("EXPOSE is split again", "FROM shelf\nENV LIST=\"1 2/udp\"\nEXPOSE $LIST 3\n"),
    Case("no expansion in commands", """FROM shelf
ENV A=1
CMD echo $A
ENTRYPOINT ["$A", "${A}"]
HEALTHCHECK CMD echo $A
RUN ["/bin/echo", "$A"]
SHELL ["/bin/sh", "-c"]
MAINTAINER $A
ONBUILD RUN echo $A
"""),
    Case("flags of COPY",
         "FROM shelf\nARG O=mona\nENV M=600\nCOPY --chown=$O:${G:-crew} a /a\nCOPY --chmod=$M a /b\n", {"a": "x"}),
    Case("RUN leaves variables to the shell",
         "FROM shelf\nENV A=env\nRUN A=shell; echo $A ${A} \"$A\" '$A' \\$A > /a\n"),
    Case("FROM of global arguments",
         "ARG NAME=sh\nARG TAG\nFROM ${NAME}elf:${TAG:-latest} AS named\nRUN echo $NAME > /a\n"),
    Case("under another escape", "# escape=`\nFROM shelf\nENV A=1 B=`$A C=\"`$A\" D=\\$A E='`$A'\nCOPY dir`x /a\n",
         {"dirx": "1"}),
]
CASES += [Case(f"refused: {name}", f"FROM shelf\nENV SET=1\nLABEL a={word}\n", fails=says) for name, word, says in [
    ("empty braces", "${}", "\\$\\{|substitution|name"),
    ("no closing brace", "${SET", "\\{|brace|SET"),
    ("a sub-string", "${SET:0:3}", "modifier|SET"),
    ("a length", "${#SET}", "\\$|modifier"),
    ("an unknown modifier", "${SET:=x}", "modifier|SET"),
    ("braces in braces", "${{SET}}", "\\{"),
    ("required and not there", "${NOPE:?is needed}", "NOPE.*is needed"),
    ("required and empty", "${NOPE?}", "NOPE"),
    ("an open quote", "\"abc", "quote"),
    ("an open single quote", "'abc", "quote"),
    ("a replacement with one slash", "${SET/b}", "SET|/"),
]]
