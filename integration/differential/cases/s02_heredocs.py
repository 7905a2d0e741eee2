"""S2: heredocs. Peers that have none build a twin that makes the same files in the old way."""

import time

from differential.case import Case, File



def made(text):
    """A file of the twin's that is as new as a heredoc."""
    return File(text, mtime=time.time())


CASES = [
    Case("RUN of a heredoc alone", "FROM shelf\nRUN <<EOF\necho one > /a\nX=2\necho $X \"$(echo three)\" > /b\nEOF\n",
         feature="heredoc", twin="FROM shelf\nRUN echo one > /a; X=2; echo $X \"$(echo three)\" > /b\n"),
    Case("RUN of a quoted heredoc", "FROM shelf\nENV X=env\nRUN <<'EOF'\necho \"$X\" \\$X > /a\nEOF\n",
         feature="heredoc", twin="FROM shelf\nENV X=env\nRUN echo \"$X\" \\$X > /a\n"),
    Case("RUN of a heredoc with a shebang",
         "FROM shelf\nRUN <<EOF\n#!/bin/ash -e\necho $0 > /a\necho \"$-\" | grep -c e >> /a\nEOF\n",
         feature="heredoc", twin="FROM shelf\nRUN echo /dev/pipes/EOF > /a; echo 1 >> /a\n"),
    Case("RUN with a command and a heredoc",
         "FROM shelf\nENV X=1\nRUN cat <<EOF > /a\n$X and \\$X\nEOF\nRUN cat > /b <<'END'\n$X\nEND\n",
         feature="heredoc", twin="FROM shelf\nENV X=1\nRUN echo '1 and $X' > /a\nRUN echo '$X' > /b\n"),
    Case("RUN with two heredocs", "FROM shelf\nRUN cat /dev/fd/3 3<<A - <<B > /a\nfrom a\nA\nfrom b\nB\n",
         feature="heredoc", twin="FROM shelf\nRUN printf 'from a\\nfrom b\\n' > /a\n"),
    Case("RUN with leading tabs removed", "FROM shelf\nRUN <<-EOF\n\tcat <<-IN > /a\n\t\tdeep\n\tIN\n\tEOF\n",
         feature="heredoc", twin="FROM shelf\nRUN echo deep > /a\n"),
    Case("RUN heredoc with a comment and continuation",
         "FROM shelf\nRUN <<EOF\n# comment\necho a \\\n  b > /a\nEOF\n", feature="heredoc",
         twin="FROM shelf\nRUN echo a b > /a\n"),
    Case("RUN heredoc fails with its last command", "FROM shelf\nRUN <<EOF\ntrue\nfalse\nEOF\n",
         fails="exit|status|1"),
    Case("RUN heredoc under SHELL",
         "FROM shelf\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN <<EOF\necho 1 > /a\nfalse || true\necho $- | grep -c e >> /a\nEOF\n",
         feature="heredoc", twin="FROM shelf\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo 1 > /a; echo 1 >> /a\n"),
    Case("COPY of an expanded heredoc",
         "FROM shelf\nENV X=1\nCOPY <<EOF /a\na $X ${Y:-d} \"q\" 's'\n\\$X \\\\ \\n\nEOF\n", feature="heredoc",
         twin="FROM shelf\nENV X=1\nRUN printf '%s\\n' \"a 1 d \\\"q\\\" 's'\" '$X \\ n' > /a\n"),
    Case("COPY of a quoted heredoc",
         "FROM shelf\nENV X=1\nCOPY <<\"EOF\" /a\na $X ${Y:-d} \"q\"\n\\$X \\\\ \\n\nEOF\n", feature="heredoc",
         twin="FROM shelf\nENV X=1\nCOPY body /a\n", files={"body": made('a $X ${Y:-d} "q"\n\\$X \\\\ \\n\n')}),
    Case("COPY of several heredocs and a file",
         "FROM shelf\nCOPY <<one f <<-two /t/\nfirst\none\n\t\tsecond\n\ttwo\n",
         {"f": "file\n", "one": made("first\n"), "two": made("second\n")}, feature="heredoc",
         twin="FROM shelf\nCOPY f one two /t/\n"),
    Case("COPY of a heredoc with modes and owners",
         "FROM shelf\nCOPY --chmod=750 --chown=mona:crew <<x /t/y/\nhi\nx\n", {"x": made("hi\n")}, feature="heredoc",
         twin="FROM shelf\nCOPY --chmod=750 --chown=mona:crew x /t/y/\n"),
    Case("ADD of a heredoc", "FROM shelf\nWORKDIR /w\nADD <<x .\nhi\nx\n", {"x": made("hi\n")}, feature="heredoc",
         twin="FROM shelf\nWORKDIR /w\nADD x .\n"),
    Case("an empty heredoc", "FROM shelf\nCOPY <<x /a\nx\n", {"x": made("")}, feature="heredoc",
         twin="FROM shelf\nCOPY x /a\n"),
    Case("a heredoc with CRLF", "FROM shelf\nCOPY <<x /a\none\r\ntwo\r\nx\n", {"x": made("one\r\ntwo\r\n")},
         feature="heredoc", twin="FROM shelf\nCOPY x /a\n"),
    Case("ONBUILD with a heredoc", "FROM shelf\nONBUILD COPY <<x /a\nhi $BASE_ONE\nx\n", feature="heredoc",
         twin=None),
    Case("COPY into a file over a link", "FROM shelf\nCOPY <<x /odd/to-file\nhi\nx\n", {"x": made("hi\n")},
         feature="heredoc", twin="FROM shelf\nCOPY x /odd/to-file\n"),
    Case("refused: no end", "FROM shelf\nRUN <<EOF\necho\n", fails="EOF"),
    Case("refused: a heredoc as destination", "FROM shelf\nCOPY a <<EOF\nx\nEOF\n", fails="destination|heredoc"),
]
