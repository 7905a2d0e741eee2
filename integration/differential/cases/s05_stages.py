"""S5: stages and what they take of each other."""

from differential.case import Case, File

FILES = {"a": "a\n", "b": "b\n"}
CASES = [
    Case("two stages", "FROM shelf AS one\nRUN echo built > /out\nFROM shelf\nCOPY --from=one /out /in\n"),
    Case("stages by number", "FROM shelf\nRUN echo 0 > /out\nFROM shelf\nRUN echo 1 > /out\nFROM shelf\nCOPY --from=0 /out /a\nCOPY --from=1 /out /b\n"),
    Case("numbers when an unused stage is skipped", "FROM shelf\nRUN false\nFROM shelf\nRUN echo 1 > /out\nFROM shelf\nCOPY --from=1 /out /b\n"),
    Case("an unused stage with an unknown image", "FROM nowhere.invalid/x AS unused\nRUN x\nFROM shelf\nENV A=1\n"),
    Case("names in any case", "FROM shelf AS OnE\nRUN echo built > /out\nFROM one AS two\nCOPY --from=ONE /out /again\nFROM two\n"),
    Case("a name twice", "FROM shelf AS x\nRUN echo first > /out\nFROM shelf AS x\nRUN echo second > /out\nFROM shelf\nCOPY --from=x /out /out\n"),
    Case("a stage of a stage", "FROM full AS a\nENV X=1\nWORKDIR /w\nUSER jack\nLABEL a=1\nFROM a AS b\nRUN id > /tmp/id && pwd >> /tmp/id\nFROM b\nCMD [\"own\"]\n"),
    Case("CMD of the parent stage and ENTRYPOINT of the child", "FROM shelf AS a\nCMD [\"parent\"]\nFROM a\nENTRYPOINT [\"child\"]\n"),
    Case("target", "FROM shelf AS one\nRUN echo 1 > /a\nFROM one AS two\nRUN false\n", args=["--target", "one"]),
    Case("target in another case", "FROM shelf AS one\nRUN echo 1 > /a\nFROM one AS two\nRUN false\n", args=["--target", "ONE"]),
    Case("target in the middle", "FROM shelf AS one\nRUN echo 1 > /a\nFROM shelf AS two\nCOPY --from=one /a /b\nFROM shelf\nRUN false\n", args=["--target", "two"]),
    Case("COPY from an image", "FROM scratch\nCOPY --from=shelf /odd/full /full\nCOPY --from=shelf:latest /etc/passwd /p\n"),
    Case("scratch alone with files", "FROM scratch\nCOPY a b /\nENV X=1\n", FILES),
    Case("scratch with nothing", "FROM scratch\nCMD [\"x\"]\n"),
    Case("a base with no layers", "FROM hollow\nCOPY a /a\n", FILES),
    Case("FROM alone", "FROM full\n"),
    Case("a diamond", "FROM shelf AS base\nRUN echo base > /base\nFROM base AS l\nRUN echo l > /l\nFROM base AS r\nRUN echo r > /r\nFROM scratch\nCOPY --from=l /base /l /\nCOPY --from=r /r /base /x/\n"),
    Case("what a stage deleted is not copied", "FROM shelf AS a\nRUN rm -r /odd/full/deep /odd/full/one && echo new > /odd/full/new\nFROM scratch\nCOPY --from=a /odd/full /full\n"),
    Case("many stages", "".join(f"FROM shelf AS s{n}\nRUN echo {n} > /n{n}\n" for n in range(6)) + "FROM scratch\n" + "".join(f"COPY --from=s{n} /n{n} /\n" for n in range(6))),
    Case("names with signs", "FROM shelf AS a.b-c_1\nRUN echo 1 > /a\nFROM scratch\nCOPY --from=a.b-c_1 /a /a\n"),
    Case("platform named on the command line", "FROM shelf\nRUN echo 1 > /a\n", args=["--platform", "linux/amd64"]),
]
CASES += [Case(f"refused: {name}", text, FILES, fails=says, args=args) for name, text, says, args in [
    ("a later stage", "FROM shelf AS a\nCOPY --from=b /x /x\nFROM shelf AS b\nRUN echo > /x\n", "b", ["--target", "a"]),
    ("a stage of itself", "FROM shelf AS a\nCOPY --from=a /x /x\n", "a", []),
    ("a number that is too large", "FROM shelf\nCOPY --from=7 /x /x\n", "7", []),
    ("an unknown target", "FROM shelf AS a\n", "nope", ["--target", "nope"]),
    ("a bad stage name", "FROM shelf AS a/b\n", "a/b", []),
    ("a stage name that begins with a digit", "FROM shelf AS 1a\n", "1a", []),
    ("a variable for a stage", "ARG S=a\nFROM shelf AS a\nFROM shelf\nARG S=a\nCOPY --from=$S /x /y\n", "from|\\$S", []),
    ("no image of that name", "FROM nowhere-to-be-found\n", "nowhere-to-be-found", []),
    ("an empty image name", "ARG X\nFROM $X\n", "empty|FROM|X", []),
    ("an image name with capitals", "FROM ShElF\n", "ShElF", []),
    ("a bad platform", "FROM --platform=nope/nope/nope/nope shelf\n", "nope", []),
]]
