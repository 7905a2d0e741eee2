"""S8: .dockerignore."""

from differential.case import Case

FILES = {n: n + "\n" for n in (
    "a", "a.txt", "b.txt", "c.md", "README.md", "dir/a.txt", "dir/b.md", "dir/sub/a.txt", "dir/sub/keep/x", "dir/sub/keep/y", "node_modules/m/i.js",
    "src/node_modules/n/j.js", "src/main.c", "src/main.o", ".git/config", ".hidden", "x[1].txt", "x1.txt", "w x", "sp/ace d/f", "deep/1/2/3/f", "ab/cd", "acd/e")}


def case(name, text, dockerfile="FROM scratch\nCOPY . /t/\n", **more):
    return Case(name, dockerfile, {**FILES, ".dockerignore": text}, **more)


CASES = [
    case("names and directories", "a\ndir\n.git\n"),
    case("comments, blanks, carriage returns", "# c\n\n  a.txt  \r\n #x\n\tdir/sub\t\r\n"),
    case("leading and trailing slashes", "/a.txt\ndir/\n/src/\n"),
    case("stars", "*.txt\n*/*.md\n"),
    case("a question mark and classes", "?.md\n[ab].txt\nx[[]1].txt\n"),
    case("double stars", "**/*.txt\n**/node_modules\n"),
    case("double star at the end", "dir/**\ndeep/**/f\n"),
    case("double star in the middle", "deep/**/3\n**/sub/**/x\n"),
    case("everything", "*\n"),
    case("everything but", "*\n!src\n!a.txt\n"),
    case("everything but a deep one", "*\n!dir/sub/keep/x\n"),
    case("exceptions in order", "*.txt\n!a.txt\na.*\n!a.txt\nb.txt\n"),
    case("an exception below a hidden directory", "dir\n!dir/sub/keep\n"),
    case("an exception with a wildcard", "**\n!**/*.md\n"),
    case("an exception with a slash", "dir/*\n!/dir/sub/\n"),
    case("a dot and dots", "./a.txt\ndir/../b.txt\ndir/./b.md\n../a\n"),
    case("escaped signs", "x\\[1\\].txt\n\\a.txt\n"),
    case("names with blanks", "w x\nsp/ace d\n"),
    case("dots are letters", "a.txt\n*.m.\n.h*\n"),
    case("a byte order mark", "\ufeffa.txt\nb.txt\n"),
    case("an indented comment is a pattern", "  #x\na\n"),
    case("an empty file", ""),
    case("itself and the Dockerfile", ".dockerignore\nDockerfile\n", inside=True),
    case("a plus and other signs of expressions", "a+\n(a)\n^a\na$\na|b\n.hidden\n"),
    case("a single file of a hidden directory", "dir/*\n!dir/a.txt\n", "FROM scratch\nCOPY dir /t/\n"),
    case("a wildcard finds only what is left", "a*\n", "FROM scratch\nCOPY *.txt /t/\n"),
    case("stages are not filtered", "*\n!a\n",
         "FROM shelf AS s\nRUN echo x > /dir\nFROM scratch\nCOPY --from=s /dir /b.txt\nCOPY a /\n"),
    case("ADD is filtered", "dir/sub\n*.md\n", "FROM scratch\nADD . /t/\n"),
    case("everything by slash", "/\n"),
    case("a dot", ".\n"),
    case("a star and slash", "*/\n"),
    Case("a file of the Dockerfile's own name", "FROM scratch\nCOPY . /t/\n", {**FILES, ".dockerignore": "*\n"},
         beside={"Dockerfile.lapstrake.dockerignore": "a\n", "Dockerfile.docker.dockerignore": "a\n", "Dockerfile.buildah.dockerignore": "a\n"}),
    case("refused: a hidden file", "a.txt\n", "FROM scratch\nCOPY a.txt /t\n", fails="a.txt"),
    case("refused: a bad pattern", "[a\n", fails="\\[a"),
    case("refused: an exclamation mark alone", "!\n", fails="!"),
]
