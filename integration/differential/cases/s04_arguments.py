"""S4: ARG and ENV: order, scope, platform and proxy arguments."""

from differential.case import Case

SHOW = "RUN env | sort > /env\n"
CASES = [
    Case("ARG and ENV in both orders", f"FROM shelf\nARG A=arg\nENV A=env\nENV B=env\nARG B=arg\nARG BASE_ONE=arg\nLABEL a=$A b=$B c=$BASE_ONE\n{SHOW}"),
    Case("build arguments over both", f"FROM shelf\nARG A=arg\nENV A=env\nENV B=env\nARG B=arg\nLABEL a=$A b=$B\n{SHOW}",
         args=["--build-arg", "A=cli", "--build-arg", "B=cli"]),
    Case("a bare ARG keeps an earlier ENV", f"FROM shelf\nENV A=env\nARG A\nLABEL a=$A\n{SHOW}"),
    Case("a bare ARG given on the command line", f"FROM shelf\nENV A=env\nARG A\nLABEL a=$A\n{SHOW}", args=["--build-arg", "A=cli"]),
    Case("an empty build argument", f"FROM shelf\nARG A=default\nARG B\nLABEL a=${{A:-none}} b=${{B:-none}}\n{SHOW}",
         args=["--build-arg", "A=", "--build-arg", "B="]),
    Case("ARG again", f"FROM shelf\nARG A=1\nARG A\nARG A=2\nARG B=1\nARG B\nLABEL a=$A b=$B\n{SHOW}"),
    Case("items of one ARG see each other", f"FROM shelf\nARG A=1 B=${{A}}2 C=$B$A\nLABEL a=$C\n{SHOW}"),
    Case("ENV overrides an inherited one in place", "FROM shelf\nENV BASE_TWO=changed NEW=1\nENV BASE_ONE=also\n"),
    Case("ENV with the empty value", f"FROM shelf\nENV BASE_ONE= X=\n{SHOW}"),
    Case("global ARG is not in a stage", f"ARG A=global\nFROM shelf\nLABEL a=$A\n{SHOW}"),
    Case("global ARG fetched into a stage", f"ARG A=global\nARG B=${{A}}-b\nFROM shelf\nARG A\nARG B=own\nLABEL a=$A b=$B\n{SHOW}"),
    Case("global ARG replaced on the command line", f"ARG A=global\nARG B=${{A}}-b\nFROM shelf\nARG A\nARG B\nLABEL a=$A b=$B\n{SHOW}",
         args=["--build-arg", "A=cli"]),
    Case("ARG of the parent stage", f"FROM shelf AS a\nARG X=1\nENV Y=$X\nFROM a AS b\nLABEL x=${{X:-gone}} y=$Y\n{SHOW}"),
    Case("ARG of a sibling stage", f"FROM shelf AS a\nARG X=1\nRUN echo $X > /x\nFROM shelf\nLABEL x=${{X:-unset}}\nCOPY --from=a /x /x\n{SHOW}"),
    Case("an undeclared build argument", f"FROM shelf\nLABEL a=${{NOPE:-unset}}\n{SHOW}", args=["--build-arg", "NOPE=1"]),
    Case("platform arguments", "FROM shelf\nARG TARGETPLATFORM\nARG TARGETOS\nARG TARGETARCH\nARG TARGETVARIANT\nARG BUILDPLATFORM\n"
         f"ARG BUILDOS\nARG BUILDARCH\nARG BUILDVARIANT\nLABEL all=$TARGETPLATFORM,$TARGETOS,$TARGETARCH,$TARGETVARIANT,$BUILDPLATFORM\n{SHOW}"),
    Case("platform arguments with defaults of their own", f"FROM shelf\nARG TARGETOS=mine\nARG TARGETARCH=${{TARGETOS}}x\n{SHOW}"),
    Case("platform arguments are not there undeclared", f"FROM shelf\nLABEL a=x$TARGETOS\n{SHOW}"),
    Case("platform arguments in FROM", "FROM --platform=$BUILDPLATFORM shelf AS b\nRUN echo hi > /a\nFROM --platform=${TARGETPLATFORM} shelf\nCOPY --from=b /a /a\n"),
    Case("TARGETSTAGE", f"FROM shelf AS one\nARG TARGETSTAGE\n{SHOW}", args=["--target", "one"], feature="targetstage",
         twin=f"FROM shelf AS one\nARG TARGETSTAGE=one\n{SHOW}"),
    Case("proxy arguments", f"FROM shelf\n{SHOW}", args=["--build-arg", "HTTP_PROXY=http://p.example:1", "--build-arg", "no_proxy=localhost"]),
    Case("a declared proxy argument", f"FROM shelf\nARG HTTP_PROXY\nLABEL p=$HTTP_PROXY\n{SHOW}", args=["--build-arg", "HTTP_PROXY=http://p.example:1"]),
    Case("a base without PATH", f"FROM bare\n{SHOW}"),
    Case("scratch", "FROM scratch\nENV A=1\nLABEL p=$PATH\n"),
    Case("PATH changed", f"FROM shelf\nENV PATH=/opt/x:$PATH\n{SHOW}"),
    Case("history of arguments", "FROM shelf\nARG A=1\nARG B\nARG C=\"x y\"\nRUN true\nENV A=2\nRUN true\nARG A=3\nRUN [\"true\"]\n",
         args=["--build-arg", "B=cli"]),
    Case("labels of the command line", "FROM shelf\nLABEL a=file b=file\n", args=["--label", "a=cli", "--label", "c=x=y", "--label", "base=cli"]),
    Case("ENV of a base with everything", f"FROM full\nENV FROM_BASE=changed\nUSER root\n{SHOW}"),
    Case("an ENV in a RUN assignment", "FROM shelf\nENV A=1\nRUN export A=2; echo $A > /a\nRUN echo $A > /b\n"),
    Case("ARG in a default's default", f"ARG V=1.2\nFROM shelf\nARG V\nARG URL=http://x/${{V}}/${{V}}.tar\nENV URL=${{URL}}\n{SHOW}"),
]
