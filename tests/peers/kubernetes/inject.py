"""`cupbearer inject` on manifests as people write them, judged by PyYAML and by Kubernetes' schemas.

inject.py PROGRAM FOLDER     each file as it is, and written anew in four other styles

What was injected must be read by PyYAML, differ from the original in nothing but what inject adds, and be valid where the original was; injecting it
again must change no byte; taken out again it must mean what it meant. A line for each fault, then one that counts. Exit code 1 where there is a fault.
"""
import copy
import json
import os
import re
import subprocess
import sys

import kubernetes_validate
import yaml

program, folder = sys.argv[1:]
OURS = {"cupbearer-config", "cupbearer-secret", "cupbearer-identity", "cupbearer-store"}


class Reader(yaml.SafeLoader):
    """YAML 1.1 as Kubernetes reads it: dates are text, and 0o444 is octal."""


Reader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Reader.add_implicit_resolver("!octal", re.compile("^0o[0-7]+$"), ["0"])
Reader.add_constructor("!octal", lambda loader, node: int(node.value[2:], 8))


def run(text, *words):
    done = subprocess.run([program, "inject", *words], input=text, capture_output=True)
    return done.returncode, done.stdout, done.stderr.decode()


def read(text):
    return list(yaml.load_all(text.decode("utf-8-sig"), Reader))


def objects(document):
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        for item in document.get("items") or []:
            yield from objects(item)
    elif isinstance(document, dict):
        yield document


def templates(document):
    """The pods in an object, as (metadata, spec) of what holds them."""
    for fields in objects(document):
        group = str(fields.get("apiVersion", "")).rpartition("/")[0]
        match (group, fields.get("kind")):
            case ("", "Pod"):
                yield fields
            case ("", "PodTemplate"):
                yield fields["template"]
            case ("apps", _) | ("batch", "Job") | ("", "ReplicationController"):
                yield fields["spec"]["template"]
            case ("batch", "CronJob"):
                yield fields["spec"]["jobTemplate"]["spec"]["template"]


def stripped(documents):
    """Without what inject adds, and without what is empty: to the API server `volumes: []` is no volumes."""
    documents = copy.deepcopy(documents)
    for document in documents:
        for pod in templates(document):
            metadata, spec = pod.setdefault("metadata", {}), pod["spec"]
            ours = bool((metadata.get("annotations") or {}).pop("cupbearer.dev/status", None))
            for key in ("initContainers", "containers", "volumes"):
                gone = OURS if key == "volumes" else {"cupbearer"}
                items = [item for item in spec.get(key) or [] if not (ours and item["name"] in gone)]
                spec[key] = items
                if not items:
                    del spec[key]
            if not metadata.get("annotations"):
                metadata.pop("annotations", None)
            if not metadata:
                del pod["metadata"]
    return documents


def invalid(documents):
    found = []
    for document in documents:
        for fields in objects(document):
            try:
                kubernetes_validate.validate(fields, "1.33", strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                pass
            except Exception as error:  # its other kinds have nothing in common
                found.append(str(error).splitlines()[0])
    return found


def styles(text):
    """The same, as others would have written it."""
    yield "as it is", text
    documents = read(text)
    yield "sorted", yaml.safe_dump_all(documents, explicit_start=True).encode()
    yield "in flow style", yaml.safe_dump_all(documents, default_flow_style=True, width=100000, sort_keys=False).encode()
    yield "with CRLF", text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if len(documents) == 1:
        yield "in JSON", json.dumps(documents[0], indent=1).encode()


count = faults = same = 0
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), "rb") as file:
        original = file.read()
    for style, text in styles(original):
        count += 1
        found = []
        # PyYAML does not put characters together that JSON has in two halves.
        before = [json.loads(text)] if style == "in JSON" else read(text)
        code, injected, said = run(text)
        if code != 0:
            print(f"{name}, {style}: refused: {said}")
            faults += 1
            continue
        after = read(injected)
        if stripped(after) != stripped(before):
            found.append("something else has changed")
        wanted = sum(1 for document in before for pod in templates(document)
                     if not pod["spec"].get("hostNetwork") and all(c["name"] != "cupbearer" for c in pod["spec"]["containers"])
                     and (pod.get("metadata", {}).get("annotations") or {}).get("cupbearer.dev/inject") != "false")
        has = sum(1 for document in after for pod in templates(document)
                  if (pod["spec"].get("initContainers") or [{}])[0].get("name") == "cupbearer")
        if has != wanted:
            found.append(f"{has} of {wanted} pods have the sidecar")
        if not invalid(before) and invalid(after):
            found.append(f"not valid any more: {invalid(after)}")
        if run(injected)[1] != injected:
            found.append("a second time changes it")
        code, out, said = run(injected, "--uninject")
        if code != 0 or stripped(read(out)) != stripped(before):
            found.append("taken out it does not mean what it did")
        same += out == text
        for says in found:
            print(f"{name}, {style}: {says}")
        faults += len(found)
print(f"{count} manifests, {faults} faults; {same} are byte for byte the original after --uninject")
sys.exit(bool(faults) or count < 100)
