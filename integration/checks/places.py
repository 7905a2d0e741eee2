"""The examples of docs/places: that they are well formed, and say what lapstrake understands."""

import functools
import os
import re
import shlex
import textwrap

from harness import kinds
from harness.cli import Bench
from harness.report import Skip, expect, same

try:
    import yaml
except ImportError:
    yaml = None

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.path.join(TOP, "examples", "places")
PAGES = os.path.join(TOP, "docs", "places")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
# A word that stands for one of the reader's: `$(params.X)` of Tekton, `${{ x }}` of GitHub.
TEMPLATE = re.compile(r"\$\{\{.*?\}\}|\$\((?:params|results|workspaces)\.[^)]*\)")


def files(*ends):
    """{path below examples/places: text}"""
    found = {}
    for top, _, leaves in os.walk(EXAMPLES):
        for leaf in leaves:
            path = os.path.relpath(os.path.join(top, leaf), EXAMPLES)
            if not ends or path.endswith(ends):
                with open(os.path.join(top, leaf)) as f:
                    found[path] = f.read()
    expect(found, f"no example ends with {ends}")
    return found


def pages(*under):
    """{path below the repository: text} of every page, or of those in a directory; not what scenarios build from."""
    found = {}
    for start in under or ("README.md", "CONTRIBUTING.md", "docs", "examples", "integration"):
        start = os.path.join(TOP, start)
        walk = os.walk(start) if os.path.isdir(start) else [(TOP, [], [os.path.basename(start)])]
        for top, inner, leaves in walk:
            if top == os.path.join(TOP, "integration"):
                inner.remove("scenarios")
            for leaf in leaves:
                if leaf.endswith(".md"):
                    path = os.path.join(top, leaf)
                    with open(path) as f:
                        found[os.path.relpath(path, TOP)] = f.read()
    return found


def documents(text):
    if yaml is None:
        raise Skip("not installed: python3-yaml")

    class Loader(yaml.SafeLoader):
        """A key given twice is an error, and `on` is a word, as GitHub has it."""

    def mapping(loader, node):
        keys = [key.value for key, _ in node.value]
        same(sorted(keys), sorted(set(keys)), "keys of one object")
        return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return list(yaml.load_all(text, Loader))


def forms(env):
    """Every YAML file has the fields of its kind."""
    for path, text in files(".yaml", ".yml").items():
        for number, document in enumerate(documents(text)):
            schema = {"github": kinds.WORKFLOW, "gitlab": kinds.GITLAB}.get(path.split("/")[0])
            wrong = kinds.wrong(document, schema) if schema else kinds.wrong_manifest(document)
            same(wrong, [], f"what is wrong in {path}, document {number}")


def forms_are_looked_at(env):
    """The check of the fields finds what it is for."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [
        {"name": "x", "env": [{"name": "A", "value": 1}], "securityContext": {"runAsuser": 0},
         "command": "sleep"}]}}
    same(len(kinds.wrong_manifest(pod)), 3, "faults found of a number, a misspelt field and a list that is none")
    same(len(kinds.wrong_manifest({**pod, "apiVersion": "v2"})), 1, "faults found of an unknown version")


def volumes_are_there(env):
    """What a container mounts is a volume of its pod; what "baseline" and "restricted" forbid is not in their manifests."""
    for path, text in files(".yaml").items():
        for pod in [p for d in documents(text) for p in kinds.pods(d)]:
            volumes = {v["name"] for v in pod.get("volumes", [])}
            for container in pod["containers"] + pod.get("initContainers", []):
                mounted = {m["name"] for m in container.get("volumeMounts", [])}
                expect(mounted <= volumes, f"{path}: no volume {mounted - volumes}")
                if path == "kubernetes/restricted-localhost.yaml":
                    restricted(path, pod, container.get("securityContext", {}))
                if path in ("kubernetes/baseline.yaml", "kubernetes/host-users-false.yaml", "jenkins/build-pod.yaml"):
                    baseline(path, container.get("securityContext", {}))


def baseline(path, security):
    added = set(security.get("capabilities", {}).get("add", []))
    expect(added <= kinds.BASELINE, f"{path}: baseline forbids {added - kinds.BASELINE}")
    profiles = [security.get(p, {}).get("type") for p in ("seccompProfile", "appArmorProfile")]
    expect("Unconfined" not in profiles and not security.get("privileged"), f"{path}: forbidden by baseline")


def restricted(path, pod, own):
    """As the Pod Security Standard "restricted" has it; what the pod says holds where the container says nothing."""
    both = {**pod.get("securityContext", {}), **own}
    wanted = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    same({k: both.get(k) for k in wanted}, wanted, f"what {path} says of a container")
    expect(both.get("runAsUser") != 0 and "privileged" not in both, f"{path}: forbidden by restricted")
    expect(both["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost"), f"{path}: filter")
    expect(both.get("appArmorProfile", {}).get("type") != "Unconfined", f"{path}: AppArmor")


def commands(env):
    """The builds of the manifests are understood by lapstrake: checked, with a Dockerfile in the place of theirs."""
    bench = Bench(env)
    context = bench.folder("places", {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    found = 0
    for path, text in files(".yaml").items():
        for pod in [p for d in documents(text) for p in kinds.pods(d)]:
            for args in [c["args"] for c in pod["containers"] if c.get("args", [""])[0] == "build"]:
                expect(args[-1].startswith("/"), f"{path}: the context {args[-1]} is no absolute path")
                bench.call("build", "--check", *args[1:-1], context)
                found += 1
    expect(found >= 5, f"only {found} manifests build something")


def scripts(env):
    """The lines for a shell are ones, and have only flags that the commands have."""
    bench = Bench(env)
    for path, text in shells().items():
        text = TEMPLATE.sub("X", text)
        same(bench.user.run(["sh", "-n", "-c", text]).stderr.decode(), "", f"what sh says to {path}")
        for words in calls(text):
            known(bench, words, path)


def shells():
    """{where: lines for a shell} of all examples."""
    found = dict(files(".sh", ".sbatch"))
    for path, text in files("Jenkinsfile").items():
        found[path] = textwrap.dedent(re.search(r"sh '''(.*?)'''", text, re.S)[1])
    for path, text in files(".yaml", ".yml").items():
        for document in documents(text):
            for number, lines in enumerate(in_document(path, document)):
                found[f"{path} {number}"] = lines
    return found


def in_document(path, document):
    if path.startswith("gitlab/"):
        return [line for job in document.values() for line in job["script"]]
    if path.startswith("github/"):
        return [s["run"] for job in document["jobs"].values() for s in job["steps"] if "run" in s]
    if document["kind"] == "Task":
        return [step["script"] for step in document["spec"]["steps"]]
    return []


def calls(text):
    """The words of each call of lapstrake in lines for a shell, without redirections and what follows."""
    text = text.replace("\\\n", " ")
    for line in text.splitlines():
        for call in re.findall(r"(?<![\w/.-])lapstrake ((?:build|run|login|push|save|load|prune|check) [^|;&]*)", line):
            try:
                yield shlex.split(call)
            except ValueError:
                yield call.split()


@functools.cache
def flags(bench, command):
    text = bench.call(command, "--help").stdout.decode()
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text))


def known(bench, words, where):
    for word in words[1:]:
        flag = word.partition("=")[0]
        if re.fullmatch(r"--?[a-zA-Z][\w-]*", flag):
            expect(flag in flags(bench, words[0]), f"{where}: lapstrake {words[0]} has no {flag}")


def commands_in_pages(env):
    """Calls of lapstrake in the pages have only flags that there are; so has the right side of docs/migrating.md."""
    bench = Bench(env)
    for path, text in pages("README.md", "docs").items():
        for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)) + [b for _, b in FENCE.findall(text)]:
            for words in calls(code):
                known(bench, words, path)
    with open(os.path.join(TOP, "docs", "migrating.md")) as f:
        rows = [line.replace("\\|", "/") for line in f if line.startswith("|")]
    ours = [flag for row in rows for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", row.split("|")[2])]
    expect(len(ours) > 20, f"only {len(ours)} flags in docs/migrating.md")
    for flag in ours:
        expect(flag in flags(bench, "build"), f"docs/migrating.md: lapstrake build has no {flag}")


def shown(env):
    """What the pages show of the examples is what is in the files, and every file is named by a page."""
    texts = {path: squeezed(text) for path, text in files().items()}
    everything = pages("docs/places")
    for path, text in everything.items():
        for language, block in FENCE.findall(text):
            if language in ("yaml", "toml", "groovy", "text") or block.startswith("#!"):
                expect(any(squeezed(block) in whole for whole in texts.values()),
                       f"{path} shows what is in no example:\n{block[:300]}")
    for path in texts:
        expect(any(f"examples/places/{path}" in text for text in everything.values()), f"no page names {path}")


def squeezed(text):
    """Without indentation and line ends."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def links(env):
    """Links within the repository lead to a file, and to a heading in it."""
    everything = pages()
    for path, text in everything.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, heading = target.partition("#")
            full = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
            expect(os.path.exists(os.path.join(TOP, full)), f"{path}: {target} leads nowhere")
            if heading:
                expect(heading in headings(everything[full]), f"{path}: no heading {target}")


def headings(text):
    lines = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def image_has_the_toolchain(env):
    """The Dockerfile's toolchain is the one that is pinned."""
    with open(os.path.join(TOP, "rust-toolchain.toml")) as f:
        pinned = re.search(r'channel = "(.*)"', f.read())[1]
    with open(os.path.join(TOP, "Dockerfile")) as f:
        same(re.search(r"^ARG RUST=.*/rust:([0-9.]+)-", f.read(), re.M)[1], pinned, "toolchain of the Dockerfile")


CHECKS = [
    ("places: manifests have the fields of their kinds", forms),
    ("places: faults in manifests are found", forms_are_looked_at),
    ("places: volumes are there, and the standards are kept", volumes_are_there),
    ("places: the builds of the manifests are understood", commands),
    ("places: scripts are well formed, and their flags exist", scripts),
    ("places: flags in the pages exist", commands_in_pages),
    ("places: the pages show the examples as they are", shown),
    ("places: links lead somewhere", links),
    ("places: the image's toolchain is the pinned one", image_has_the_toolchain),
]
