"""`cupbearer inject` on manifests as people write them, judged by PyYAML and by Kubernetes' schemas.

inject.py PROGRAM FOLDER     each file as it is, and written anew in four other styles

What was injected must be read by PyYAML, differ from the original in nothing but what inject adds, keep its comments, and be valid where the original
was; injecting it again must change no byte; taken out again it must mean what it meant, and have all comments. A file that says that it cannot be edited
may be written anew, and then comments may be gone. A line for each fault, then one that counts. Exit code 1 where there is a fault.
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
OURS = {"cupbearer-config", "cupbearer-secret", "cupbearer-identity", "cupbearer-store", "cupbearer-empty"}


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
    # PyYAML does not put characters together that JSON has in two halves.
    try:
        return [json.loads(text)]
    except ValueError:
        return list(yaml.load_all(text.decode("utf-8-sig"), Reader))


def comments(text):
    """Each comment: what begins with # in the gaps between what YAML reads."""
    text, found, at = text.decode("utf-8-sig"), [], 0
    for token in yaml.scan(text):
        gap = text[at:token.start_mark.index]
        # A block scalar's own header may have one.
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
            gap += " " + text[token.start_mark.index:].splitlines()[0]
        at = max(at, token.end_mark.index)
        found += re.findall(r"(?:^|(?<=\s))#[^\r\n]*", gap, re.M)
    return found + re.findall(r"(?:^|(?<=\s))#[^\r\n]*", text[at:], re.M)


def objects(document):
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        for item in document.get("items") or []:
            yield from objects(item)
    elif isinstance(document, dict):
        yield document


def holders(document):
    """The objects of a document that hold a pod, each with it."""
    for fields in objects(document):
        group = str(fields.get("apiVersion", "")).rpartition("/")[0]
        match (group, fields.get("kind")):
            case ("", "Pod"):
                yield fields, fields
            case ("", "PodTemplate"):
                yield fields, fields["template"]
            case ("apps", _) | ("batch", "Job") | ("", "ReplicationController"):
                yield fields, fields["spec"]["template"]
            case ("batch", "CronJob"):
                yield fields, fields["spec"]["jobTemplate"]["spec"]["template"]


def gets_it(fields, pod):
    """Whether the sidecar has a place in the pod of `fields`."""
    spec = pod["spec"]
    runs = fields["kind"] == "Pod" and (spec.get("nodeName") or (fields.get("status") or {}).get("phase"))
    owned = any(owner.get("controller") for owner in (fields.get("metadata") or {}).get("ownerReferences") or [])
    windows = "windows" in ((spec.get("os") or {}).get("name"), (spec.get("nodeSelector") or {}).get("kubernetes.io/os"))
    by_hand = any(container["name"] == "cupbearer" for container in spec["containers"])
    opted_out = ((pod.get("metadata") or {}).get("annotations") or {}).get("cupbearer.dev/inject") == "false"
    return not (runs or owned or windows or by_hand or opted_out or spec.get("hostNetwork"))


def stripped(documents):
    """Without what inject adds, and without what is empty: to the API server `volumes: []` is no volumes."""
    documents = copy.deepcopy(documents)
    for document in documents:
        for _, pod in holders(document):
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


LIVE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
GENERATED = ("controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name")


def cleaned(documents):
    """Without what a cluster has added to objects that get the sidecar: inject drops it."""
    documents = copy.deepcopy(documents)
    for document in documents:
        for fields, pod in holders(document):
            metadata = fields.get("metadata") or {}
            if not gets_it(fields, pod) or not (metadata.get("uid") or metadata.get("resourceVersion")):
                continue
            fields.pop("status", None)
            for key in LIVE:
                metadata.pop(key, None)
            selector = fields["spec"].get("selector") if fields["kind"] == "Job" else None
            if selector and any("controller-uid" in label for label in selector["matchLabels"]):
                del fields["spec"]["selector"]
                for holder in (metadata, pod["metadata"]):
                    labels = {key: value for key, value in holder.pop("labels", {}).items() if key not in GENERATED}
                    if labels:
                        holder["labels"] = labels
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


count = faults = same = anew = 0
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), "rb") as file:
        original = file.read()
    for style, text in styles(original):
        count += 1
        found = []
        before = read(text)
        was_invalid = invalid(before)
        code, injected, said = run(text)
        if code != 0:
            print(f"{name}, {style}: refused: {said}")
            faults += 1
            continue
        after = read(injected)
        had = comments(text)
        kept = "was written anew" not in said
        if not kept and b"# cannot be edited" not in original:
            found.append("written anew")
        if kept and had != comments(injected):
            found.append(f"of {len(had)} comments {len(comments(injected))} are there")
        before = cleaned(before)
        if stripped(after) != stripped(before):
            found.append("something else has changed")
        wanted = sum(gets_it(*held) for document in before for held in holders(document))
        has = sum((pod["spec"].get("initContainers") or [{}])[0].get("name") == "cupbearer"
                  for document in after for _, pod in holders(document))
        if has != wanted:
            found.append(f"{has} of {wanted} pods have the sidecar")
        if not was_invalid and invalid(after):
            found.append(f"not valid any more: {invalid(after)}")
        if run(injected)[1] != injected:
            found.append("a second time changes it")
        code, out, said = run(injected, "--uninject")
        # What was empty before is gone afterwards, for nobody knows then that it was there; else it is the same to the letter.
        gone = read(out) if code == 0 else None
        if gone != before and (stripped(before) == before or stripped(gone) != stripped(before)):
            found.append("taken out it does not mean what it did")
        if kept and "was written anew" not in said and had != comments(out):
            found.append(f"taken out, of {len(had)} comments {len(comments(out))} are there")
        same += out == text
        anew += not kept
        for says in found:
            print(f"{name}, {style}: {says}")
        faults += len(found)
print(f"{count} manifests, {faults} faults; {same} are byte for byte the original after --uninject, {anew} were written anew")
sys.exit(bool(faults) or count < 100)
