"""S1: how a Dockerfile's text becomes instructions."""

from differential.case import Case

CASES = [
    Case("comments, blank lines, trailing blanks",
         "# first\n\n   # indented\nFROM shelf   \n\n\tENV A=1\t\nRUN echo $A > /a  \n"),
    Case("keywords in any case", "from shelf\nenv A=1\nRun echo $A > /a\ncMd [\"x\"]\nlabel l=1\n"),
    Case("CRLF line ends", "FROM shelf\r\nENV A=1 \\\r\n  B=2\r\nRUN echo \"[$A]\" > /a\r\nLABEL x=y\r\n"),
    Case("a byte order mark", b"\xef\xbb\xbfFROM shelf\nENV A=1\n"),
    Case("no newline at the end", "FROM shelf\nENV A=end"),
    Case("continuation, comments and blanks inside", """FROM shelf
RUN echo one \\
    # a comment
    two \\

  three > /a
ENV A=1 \\
# another
    B=2 \\
    C="x \\
y"
LABEL a=b\\
c=d
"""),
    Case("continuation with blanks after the escape", "FROM shelf\nRUN echo one \\   \n two \\\t\n three > /a\n"),
    Case("doubled escape at line end", "FROM shelf\nENV A=x\\\\\nENV B=y\n"),
    Case("end of file inside a continuation", "FROM shelf\nENV A=1 \\\n"),
    Case("escape directive", "# escape=`\nFROM shelf\nENV A=`$B C=\\x D=\"a`\"b\" `\n  E=2\nRUN echo one `\n two > /a\n"
         "LABEL w=C:\\dir\\`\nmore\n"),
    Case("directives in any case and only at the top",
         "# Escape = `\n# just a comment\n# escape=\\\nFROM shelf\nENV A=1 `\n B=2\n"),
    Case("a directive after a comment is a comment", "# hello\n# escape=`\nFROM shelf\nENV A=1 \\\n B=2\n"),
    Case("hash inside an instruction",
         "FROM shelf\nENV A=#x B=y#z\nRUN echo a # not in the file > /a\nLABEL l=\"# no comment\"\n"),
    Case("JSON forms", """FROM shelf
RUN ["/bin/sh", "-c", "echo \\"json\\" > /a"]
RUN [ "/bin/sh" , "-c" , "echo spaced > /b" ]
ENTRYPOINT ["/e", "a b", "", "\\u00e9", "tab\\t"]
CMD [ "x", "y z" ]
"""),
    Case("what looks like JSON and is not", """FROM shelf
CMD ['single', 'quotes']
ENTRYPOINT ["a"] trailing
"""),
    Case("an unfinished array is a shell form", "FROM shelf\nCMD [\"a\", \nENTRYPOINT [\"a\" \"b\"]\n"),
    Case("empty arrays", "FROM full\nCMD []\nENTRYPOINT []\n"),
    Case("shell forms of CMD and ENTRYPOINT",
         "FROM shelf\nCMD echo  two   blanks  $HOME\nENTRYPOINT exec x \"y z\"\n"),
    Case("JSON of COPY, ADD and VOLUME", """FROM shelf
COPY ["with space", "/t/a b"]
ADD ["with space", "/t/c d"]
VOLUME ["/v one", "/v2"]
""", {"with space": "content"}),
    Case("old ENV and LABEL forms", """FROM shelf
ENV OLD some words   and  blanks
ENV QUOTED "in quotes" and more
ENV ESCAPED a\\ b
LABEL old a value with blanks
"""),
    Case("ENV and LABEL words", """FROM shelf
ENV A="a b" B='c d' C=e\\ f D="x"'y'z E= F="" G=a=b=c
LABEL "key with blank"="v" k2='single $A' k3="double $A" multi="a\\
b" k.4-x_y/z=1
"""),
    Case("quotes in words",
         "FROM shelf\nENV A=\"it's\" B='say \"x\"' C=\\\"q\\\" D=\\'s\\' E=\"a\\\\b\" F='a\\b' G=a\\b H=\"a\\b\"\n"),
    Case("ARG with several names", "FROM shelf\nARG A=1 B=\"two words\" C\nRUN echo \"$A|$B|${C:-none}\" > /a\n"),
    Case("MAINTAINER", "FROM shelf\nMAINTAINER A. N. Other <a@example.org>\n"),
    Case("heredoc signs that are none",
         "FROM shelf\nRUN echo $((1<<2)) > /a\nRUN echo \"<<EOF\" > /b\nENV A=<<EOF\n"),
    Case("a long line", "FROM shelf\nENV A=" + "x" * 30000 + "\n"),
    Case("UTF-8 in values", "FROM shelf\nENV X=ü\nLABEL größe=\"日本\"\nRUN echo ñandú > /ñ\n"),
]
CASES += [Case(f"refused: {name}", text, fails=says) for name, text, says in [
    ("unknown instruction", "FROM shelf\nRUNN x\n", "RUNN"),
    ("empty file", "", "no instruction|empty"),
    ("comments only", "# nothing\n", "no instruction|empty"),
    ("RUN before FROM", "RUN x\nFROM shelf\n", "FROM"),
    ("ENV before FROM", "ENV A=1\nFROM shelf\n", "FROM"),
    ("no FROM", "ARG A=1\n", "FROM"),
    ("FROM without an image", "FROM\n", "FROM"),
    ("FROM with two words", "FROM shelf x\n", "FROM"),
    ("ENV without a value", "FROM shelf\nENV A\n", "ENV"),
    ("ENV with a word without =", "FROM shelf\nENV A=1 B\n", "ENV|="),
    ("ENV with an empty name", "FROM shelf\nENV =1\n", "ENV|name"),
    ("LABEL without a value", "FROM shelf\nLABEL a\n", "LABEL"),
    ("COPY with one word", "FROM shelf\nCOPY a\n", "COPY"),
    ("WORKDIR without a path", "FROM shelf\nWORKDIR\n", "WORKDIR"),
    ("EXPOSE without a port", "FROM shelf\nEXPOSE\n", "EXPOSE"),
    ("USER without a name", "FROM shelf\nUSER\n", "USER"),
    ("VOLUME without a path", "FROM shelf\nVOLUME\n", "VOLUME"),
    ("SHELL that is no array", "FROM shelf\nSHELL /bin/sh -c\n", "SHELL"),
    ("an array of numbers", "FROM shelf\nCMD [1, 2]\n", "CMD|string"),
    ("unknown flag", "FROM shelf\nCOPY --chwon=1 a /b\n", "chwon"),
    ("repeated flag", "FROM shelf\nCOPY --chown=1 --chown=2 a /b\n", "chown"),
    ("flag without a value", "FROM shelf\nCOPY --from a /b\n", "from"),
    ("flag of another instruction", "FROM shelf\nRUN --chown=1 x\n", "chown"),
    ("a second escape directive", "# escape=`\n# escape=`\nFROM shelf\n", "escape"),
    ("an escape that is none", "# escape=x\nFROM shelf\n", "escape"),
    ("a line of 70000 bytes", "FROM shelf\nENV A=" + "x" * 70000 + "\n", "line|long|65"),
    ("STOPSIGNAL without a signal", "FROM shelf\nSTOPSIGNAL\n", "STOPSIGNAL"),
    ("STOPSIGNAL that is none", "FROM shelf\nSTOPSIGNAL SIGNOPE\n", "SIGNOPE"),
    ("ENTRYPOINT of a trailing flag", "FROM shelf\nENTRYPOINT --x [\"a\"]\n", "x"),
    ("ONBUILD of ONBUILD", "FROM shelf\nONBUILD ONBUILD RUN x\n", "ONBUILD"),
    ("ONBUILD of FROM", "FROM shelf\nONBUILD FROM shelf\n", "FROM"),
    ("ONBUILD of MAINTAINER", "FROM shelf\nONBUILD MAINTAINER x\n", "MAINTAINER"),
    ("ONBUILD of nothing", "FROM shelf\nONBUILD\n", "ONBUILD"),
    ("ONBUILD of something unknown", "FROM shelf\nONBUILD NOPE x\n", "NOPE"),
]]
