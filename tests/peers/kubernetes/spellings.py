"""`cupbearer inject` on a pod in every spelling of YAML that kubectl and PyYAML read, judged by PyYAML.

spellings.py PROGRAM

Each text must be read, mean to PyYAML what it meant and the sidecar besides, and be the same bytes once the sidecar is taken out again. A line for each fault, then
one that counts. Exit code 1 where there is a fault.
"""
import json
import subprocess
import sys

import yaml

program = sys.argv[1]
HEAD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n"
POD = HEAD + "spec:\n  containers:\n  - name: app\n    image: a:1\n"


def field(text):
    return POD + text


# Read alike by PyYAML and by kubectl (`kubectl label --local -f FILE`), which only refuses content behind the mark of a document, and a mark behind JSON.
BOTH = {
    "a bracket at the key's column": field('    args: [\n      "-x", "1",\n    ]\n'),
    "a brace at the key's column": field("    resources: {\n      limits: {cpu: 1}\n    }\n"),
    "items at the key's column": field('    args: [\n    "a",\n    "b"\n    ]\n'),
    "items left of the key": field('    args: [\n  "a",\n"b"\n]\n'),
    "everything in column 0": "apiVersion: v1\nkind: Pod\nmetadata: {\nname: a\n}\nspec: {\ncontainers: [\n{name: app, image: x}\n]\n}\n",
    "a list on the next line, in flow": field('    args:\n      [ "a",\n    "b" ]\n'),
    "comments between items": field("    args: [ # one\n      a, # two\n      # three\n      b # four\n    ] # five\n"),
    "a comment right behind a comma": field("    args: [a,#b\n    c]\n"),
    "a comment right behind a bracket": field("    args: [#b\n    c]\n"),
    "comments around dashes": field("    args: # c\n    # d\n    - # e\n      a\n    #f\n    - b\n  # g\n# h\n"),
    "comments in column 0": "apiVersion: v1\nkind: Pod\n# c\nmetadata:\n# d\n  name: a\nspec:\n# e\n  containers:\n# f\n  - name: app\n# g\n    image: a:1\n",
    "a comment behind a block scalar": field("    args:\n    - |\n      a\n    # not in it\n    - |\n      b\n      # in it\n"),
    "comments behind headers": field("    args:\n    - | # c\n      a\n    - >- # d\n      b\n"),
    "anchors and aliases": field("    args: &x [a]\n    command: *x\n"),
    "an anchor on its own line": field("    args: &x\n    - a\n    command: *x\n"),
    "an anchor of another document": "kind: &x A\n---\n" + field("    args: &x [b]\n    command: *x\n"),
    "a merge": HEAD + "x: &d\n  image: a:1\nspec:\n  containers:\n  - <<: *d\n    name: app\n",
    "merges in a list": HEAD + "x: &d {image: a:1}\nz: &e {image: b, tty: true}\nspec:\n  containers:\n  - <<: [*d, *e]\n    name: app\n",
    "merges twice": HEAD + "x: &d {image: a:1}\nz: &e {tty: true}\nspec:\n  containers:\n  - <<: *d\n    <<: *e\n    name: app\n",
    "a tag and an anchor": field("    workingDir: !!str &w /x\n    args: [*w, !!str 1]\n"),
    "a key twice": field("    image: b\n"),
    "a key twice, in flow": HEAD + "spec: {containers: [{name: app, image: x, \"image\": z}]}\n",
    "quoted keys": "\"apiVersion\": v1\n'kind': Pod\n? \"metadata\"\n: name: a\nspec:\n  'containers':\n  - \"name\" : app\n    'image'  : a\n",
    "marked keys": "? apiVersion\n: v1\n? kind\n: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - ? name\n    : app\n",
    "a long key": HEAD + "  annotations:\n    " + "k" * 900 + ": v\nspec:\n  containers:\n  - name: app\n",
    "CRLF": POD.replace("\n", "\r\n"),
    "CRLF in a block scalar": field("    args:\n    - |\n      a\n      b\n").replace("\n", "\r\n"),
    "CR alone": POD.replace("\n", "\r"),
    "a byte order mark": "\ufeff" + POD,
    "a byte order mark before a mark of documents": "\ufeff---\n" + POD,
    "content behind the mark": '--- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: app}]}}\n',
    "a tag behind the mark": "--- !!map\n" + POD,
    "an anchor behind the mark": "--- &x\n" + POD,
    "a comment behind the mark": "--- # c\n" + POD,
    "a space behind the mark": "kind: A\n--- \n" + POD,
    "empty documents": "---\n---\n\n---\n# only\n---\n" + POD + "---\n",
    "an end of a document": "kind: A\n...\n---\n" + POD + "...\n",
    "what helm template writes": "\n---\n# Source: x\nkind: A\n\n---\n# Source: y\n\n---\n" + POD,
    "an indentation indicator": field("    args:\n    - |2\n        a\n       b\n"),
    "an indicator, keeping": field("    args:\n    - |2+\n        a\n\n    - >1-\n      x\n"),
    "an indicator behind the plus": field("    args:\n    - |+2\n        a\n\n"),
    "a block scalar that begins empty": field("    args:\n    - |\n\n\n      x\n"),
    "a block scalar without an end of line": field("    args:\n    - |\n      x"),
    "folded lines": field("    args:\n    - >\n      x\n      y\n\n      z\n        w\n"),
    "a tab in a block scalar": field("    args:\n    - |\n      a\n      \tb\n      c\td\n"),
    "a quoted scalar over lines": field('    args: ["a\n  b", \'c\n\n  d\']\n'),
    "a quoted scalar down to column 0": field('    workingDir: "x\ny"\n'),
    "a plain scalar over lines": field("    workingDir: a\n      b\n      c\n"),
    "escapes": field('    args: ["\\x41\\u00e9\\U0001F600\\t\\e\\ \\_\\"\\\\", "a\\\n      b"]\n'),
    "trailing spaces": field("    workingDir:   /x   \n    tty:  \n      true\n"),
    "colons and hashes in words": field("    args: [a:b, http://x:80/c, d#e]\n    workingDir: x{y}[z]\n"),
    "an empty value in flow": HEAD + "spec: {containers: [{name: app, image: a, args: }], volumes: }\n",
    "a list under its key": "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n  spec:\n    containers:\n    - name: app\n",
    "dashes in a row": field("    command:\n    -   sh\n    -\n      -c\n"),
    "deep and shallow": HEAD + "spec:\n        containers:\n        -       name: app\n                image: a\n        restartPolicy: Always\n",
    "pretty JSON": json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"restartPolicy": "Always", "containers": [{"name": "app"}]}}, indent=2) + "\n",
    "JSON on one line": json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "app"}]}}, separators=(",", ":")),
    "JSON with lists line by line": '{\n  "apiVersion": "v1",\n  "kind": "Pod",\n  "metadata": {"name": "a"},\n  "spec": {\n    "restartPolicy": "Always",\n    "containers": [\n      {"name": "app", "image": "a:1"}\n    ],\n    "volumes": [\n      {"name": "v"}\n    ]\n  }\n}\n',
    "JSON in two documents": '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"app"}]}}\n---\n{"kind":"B"}\n',
}

# Read by kubectl alone, with what it reads.
KUBECTL = {
    "tabs before items": (field('    args: [\n\t\t"a",\n\t\t"b"\n\t]\n'), field('    args: ["a", "b"]\n')),
    "a tab behind a colon": (field("    workingDir:\t/x\n"), field("    workingDir: /x\n")),
    "a tab at a line's end": (field("    workingDir: /x\t\n"), field("    workingDir: /x\n")),
    "a tab before a comment": (field("    workingDir: /x\t# c\n"), field("    workingDir: /x\n")),
    "a tab behind the mark": ("kind: A\n---\t\n" + POD, "kind: A\n---\n" + POD),
    "an anchor twice": (field("    args: [&x a, *x, &x b, *x]\n"), field("    args: [a, a, b, b]\n")),
    "pretty JSON with tabs": ('{\n\t"apiVersion": "v1",\n\t"kind": "Pod",\n\t"metadata": {"name": "a"},\n\t"spec": {\n\t\t"tty": true,\n\t\t"containers": [\n\t\t\t{"name": "app"}\n\t\t]\n\t}\n}\n',
                              HEAD + "spec:\n  tty: true\n  containers: [{name: app}]\n"),
    "JSON without anything between": ('{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"app"}]}}\n{"kind":"B"}\n',
                                      HEAD + "spec:\n  containers: [{name: app}]\n---\nkind: B\n"),
    "a byte order mark of the second file": ("kind: A\n---\n\ufeff" + POD, "kind: A\n---\n" + POD),
}

# Read by neither, with the line that is to be named.
NEITHER = {
    "tabs for indentation": (POD + "---\na:\n\tb: 1\n---\n" + POD, "document 2: line 11, column"),
    "a list that is not closed": (POD + "---\na: [1\n---\n" + POD, "document 2: line 1"),
    "two colons": (POD + "---\na: b: c\n", "document 2: line 10"),
    "a key left of its mapping": (POD + "---\na:\n  b: 1\n c: 2\n", "document 2: line 12"),
    "an alias of another document": ("a: &x 1\n---\nb: *x\n", "document 2: line 3"),
    "an unknown escape": ('a: 1\n---\nb: "\\q"\n', "document 2: line 3"),
    "a reserved letter": ("a: @x\n", "document 1: line 1"),
    "two that cannot be read": ("a: [1\n---\nb: 1\n---\nc: @x\n", "document 3: line 5"),
}


def run(text, *words):
    done = subprocess.run([program, "inject", *words], input=text, capture_output=True)
    return done.returncode, done.stdout, done.stderr.decode()


def read(text):
    return [document for document in yaml.safe_load_all(text) if document is not None]


def pods(documents):
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from pods(document["items"])
        elif isinstance(document, dict) and document.get("kind") == "Pod":
            yield document


def stripped(documents):
    """Without the sidecar, and how many there were."""
    count = 0
    for pod in pods(documents):
        spec = pod["spec"]
        count += sum(container["name"] == "cupbearer" for container in spec.pop("initContainers", []))
        spec["volumes"] = [volume for volume in spec.get("volumes") or [] if not volume["name"].startswith("cupbearer-")]
        if not spec["volumes"]:
            del spec["volumes"]
        annotations = pod["metadata"].get("annotations") or {}
        annotations.pop("cupbearer.dev/status", None)
        if not annotations:
            pod["metadata"].pop("annotations", None)
    return documents, count


faults = 0


def fault(name, says):
    global faults
    faults += 1
    print(f"{name}: {says}")


def judge(name, text, before):
    text = text.encode()
    code, injected, said = run(text)
    if code != 0:
        return fault(name, f"refused: {said}")
    # Of what PyYAML does not read, what is written is read by the next run.
    if name not in KUBECTL:
        after, count = stripped(read(injected))
        if count != 1:
            fault(name, f"{count} sidecars")
        if after != stripped(before)[0]:
            fault(name, f"something else has changed: {injected.decode()}")
    elif "the sidecar was added" not in said:
        fault(name, f"no sidecar: {said}")
    again = run(injected)
    if again[1] != injected or "has it already" not in again[2]:
        fault(name, f"a second time it is another: {again[2]}")
    code, out, said = run(injected, "--uninject")
    if code != 0 or out != text and "written anew" not in again[2] + said and name != "an empty value in flow":
        fault(name, f"taken out it is not what it was: {out.decode()}{said}")
    if name in KUBECTL and stripped(read(before))[1] != 0:
        fault(name, "the right value has a sidecar")


for name, text in BOTH.items():
    judge(name, text, read(text.encode()))
for name, (text, means) in KUBECTL.items():
    try:
        read(text)
        # As a word of its own, which kubectl takes for the mark that it is.
        if "byte order mark" not in name:
            fault(name, "PyYAML reads it, too")
    except yaml.YAMLError:
        pass
    # The same pods as those of what it means: each has the sidecar, and the objects are named alike.
    theirs, ours = run(means.encode()), run(text.encode())
    if (theirs[0], theirs[2]) != (ours[0], ours[2]):
        fault(name, f"{ours[2]} is not {theirs[2]}")
    judge(name, text, means)
for name, (text, says) in NEITHER.items():
    code, out, said = run(text.encode())
    if code != 1 or out or says not in said or "help:" not in said:
        fault(name, f"{says} is not in: {said}")
print(f"{len(BOTH) + len(KUBECTL) + len(NEITHER)} texts, {faults} faults")
sys.exit(bool(faults))
