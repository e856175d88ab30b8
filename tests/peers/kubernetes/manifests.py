"""What Kubernetes says of manifests: its schemas of four versions, its restricted Pod Security Standard, and whether the API
server keeps each field as it is written.

manifests.py validate FILE...           each document of each file
manifests.py json FILE                  the documents as one JSON array
manifests.py chart CHART [VALUES]       lints and renders a chart with Helm's own library; what it renders goes to standard output
manifests.py charts CHART FOLDER VALUES...
                                        the same for each file of values; NAME-values.yaml becomes FOLDER/NAME.yaml

A line for each problem, "FILE: KIND NAME: what is wrong"; then one that counts. Exit code 1 where there is a problem.
"""
import fractions
import functools
import json
import pathlib
import re
import sys

import yaml

VERSIONS = ["1.29", "1.31", "1.34", "1.37"]
# Of other projects: Kubernetes has no schema of theirs.
OTHERS = {"cert-manager.io/v1", "monitoring.coreos.com/v1"}


def pods(document):
    """The pod specs in an object."""
    spec = document.get("spec", {})
    match document.get("kind"):
        case "Pod":
            yield spec
        case "CronJob":
            yield spec["jobTemplate"]["spec"]["template"]["spec"]
        case "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job":
            yield spec["template"]["spec"]


SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}
ALLOWED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def restricted(pod):
    """What the restricted standard of Linux pods has against a pod: https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is not allowed"
    for volume in pod.get("volumes") or []:
        for kind in volume.keys() - {"name"} - ALLOWED_VOLUMES:
            yield f"a volume of the type {kind} is not allowed"
    of_pod = pod.get("securityContext") or {}
    for sysctl in of_pod.get("sysctls") or []:
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"the sysctl {sysctl['name']} is not allowed"
    if of_pod.get("runAsUser") == 0:
        yield "runAsUser must not be 0"
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(part) or []:
            own = container.get("securityContext") or {}
            said = {**of_pod, **own}
            name = container["name"]
            selinux = said.get("seLinuxOptions") or {}
            if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
                yield f"{name}: these seLinuxOptions are not allowed"
            if (said.get("appArmorProfile") or {}).get("type") == "Unconfined":
                yield f"{name}: appArmorProfile must not be Unconfined"
            if (said.get("windowsOptions") or {}).get("hostProcess"):
                yield f"{name}: hostProcess is not allowed"
            if own.get("privileged"):
                yield f"{name}: privileged is not allowed"
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{name}: allowPrivilegeEscalation must be false"
            if said.get("runAsNonRoot") is not True:
                yield f"{name}: runAsNonRoot must be true"
            if said.get("runAsUser") == 0:
                yield f"{name}: runAsUser must not be 0"
            capabilities = own.get("capabilities") or {}
            if "ALL" not in (capabilities.get("drop") or []):
                yield f"{name}: capabilities.drop must have ALL"
            if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
                yield f"{name}: capabilities must not be added"
            if (said.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
                yield f"{name}: seccompProfile must be RuntimeDefault or Localhost"
            if (own.get("procMount") or "Default") != "Default":
                yield f"{name}: procMount must be Default"
            if any(port.get("hostPort") for port in container.get("ports") or []):
                yield f"{name}: hostPort is not allowed"


def twice(values):
    values = list(values)
    return sorted({value for value in values if values.count(value) > 1})


def names(pod):
    """Rules of the API server that its schemas do not say: IANA_SVC_NAME of ports, and that mounts have volumes."""
    volumes = [volume["name"] for volume in pod.get("volumes") or []]
    for name in twice(volumes):
        yield f"there are two volumes {name}"
    every = [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]
    for name in twice(container["name"] for container in every):
        yield f"there are two containers {name}"
    for container in every:
        for port in container.get("ports") or []:
            if len(port.get("name", "")) > 15:
                yield f"{container['name']}: the port's name {port['name']} is longer than 15"
        for mount in container.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                yield f"{container['name']}: there is no volume {mount['name']}"
        for path in twice(mount["mountPath"] for mount in container.get("volumeMounts") or []):
            yield f"{container['name']}: two volumes are mounted at {path}"
        for name in twice(variable["name"] for variable in container.get("env") or []):
            yield f"{container['name']}: two variables are called {name}"
        named = {port.get("name") for other in every for port in other.get("ports") or []}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = ((container.get(probe) or {}).get("httpGet") or {}).get("port")
            if isinstance(port, str) and port not in named:
                yield f"{container['name']}: there is no port {port}"


# Objects that say something by being empty.
MAY_BE_EMPTY = {"emptyDir", "downwardAPI", "podSelector", "namespaceSelector", "securityContext", "resources"}
# Maps of text, where an empty one is kept.
TEXTS = {"labels", "annotations", "matchLabels", "nodeSelector", "data", "binaryData", "stringData", "parameters"}
# Fields without a pointer: the API server does not tell "false" or 0 from nothing.
DROPPED = {
    "hostNetwork", "hostPID", "hostIPC", "readOnly", "stdin", "stdinOnce", "tty", "paused", "publishNotReadyAddresses",
    "initialDelaySeconds", "minReadySeconds",
}
QUANTITIES = {"limits", "requests"}
BINARY, DECIMAL = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]


def canonical(quantity):
    """A quantity as the API server writes it: the largest unit in which it is a whole number."""
    if not isinstance(quantity, str):
        return None
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity).groups()
    value = fractions.Fraction(number)
    if unit in BINARY:
        at = BINARY.index(unit)
        value *= 1024 ** (at + 1)
        if value.denominator == 1 and value >= 1024:
            units = 0
            while units < len(BINARY) and value % 1024 == 0:
                value, units = value / 1024, units + 1
            return f"{value}{BINARY[units - 1] if units else ''}"
        at = DECIMAL.index("")
    else:
        at = DECIMAL.index(unit)
    value *= fractions.Fraction(1000) ** at
    at = 0
    while value and at < len(DECIMAL) - 1 and value % 1000 == 0:
        value, at = value / 1000, at + 1
    return f"{value}{DECIMAL[at]}" if value else "0"


def kept(value, path=()):
    """What the API server writes otherwise than it is written here: `kubectl apply` would report "configured" for ever."""
    at = ".".join(map(str, path))
    key = path[-1] if path else ""
    text = len(path) > 1 and path[-2] in TEXTS
    if value is None:
        yield f"{at} is null, which is not kept"
    elif value == [] or value == {} and key not in MAY_BE_EMPTY and not isinstance(key, int):
        yield f"{at} is empty, which is not kept"
    elif value == "" and not text and not isinstance(key, int):
        yield f"{at} is an empty text, which is not kept"
    elif key in DROPPED and not value:
        yield f"{at} is {json.dumps(value)}, which is not kept"
    elif len(path) > 1 and path[-2] in QUANTITIES or key == "sizeLimit":
        if canonical(value) != value:
            yield f"{at} is {json.dumps(value)}, which is kept as {canonical(value)}"
    elif key == "serviceAccountToken" and "expirationSeconds" not in value:
        yield f"{at} has no expirationSeconds, which is added"
    if isinstance(value, dict):
        if key == "spec" and "podSelector" in value:
            for rule in [*(value.get("ingress") or []), *(value.get("egress") or [])]:
                for port in rule.get("ports") or []:
                    if "protocol" not in port:
                        yield f"{at}: the port {port.get('port')} has no protocol, which is added"
        for name, child in value.items():
            yield from kept(child, (*path, name))
    elif isinstance(value, list):
        for at, child in enumerate(value):
            yield from kept(child, (*path, at))


class Strict(yaml.SafeLoader):
    """YAML as the API server takes it strictly: a key twice is an error."""

    def construct_mapping(self, node, deep=False):
        for key in twice(key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"):
            raise yaml.constructor.ConstructorError(None, None, f"the key {key} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def documents(file):
    with open(file, encoding="utf-8") as text:
        return [document for document in yaml.load_all(text, Strict) if document]


def validate(files):
    import kubernetes_validate
    from kubernetes_validate import utils

    # Each schema is read once, not for each document.
    utils.schema_contents = functools.cache(utils.schema_contents)
    objects = problems = 0
    for file in files:
        every = documents(file)
        accounts = {document["metadata"]["name"] for document in every if document.get("kind") == "ServiceAccount"}
        for document in every:
            if document.get("apiVersion", "").startswith("kustomize.config.k8s.io"):
                continue
            objects += 1
            found = []
            if document["apiVersion"] not in OTHERS:
                for version in VERSIONS:
                    try:
                        kubernetes_validate.validate(document, version, strict=True)
                    except Exception as error:  # its kinds of errors have nothing in common
                        found.append(f"{version}: {str(error).splitlines()[0]}")
                found += kept(document)
            for pod in pods(document):
                found += [*restricted(pod), *names(pod)]
                if pod.get("serviceAccountName", "default") not in {"default", *accounts}:
                    found.append(f"there is no ServiceAccount {pod['serviceAccountName']}")
            for says in found:
                problems += 1
                print(f"{file}: {document['kind']} {document['metadata']['name']}: {says}")
    print(f"{objects} objects, {problems} problems")
    return problems


def chart(path, file=None):
    """What a chart renders for a file of values, notes as comments; or an error."""
    import helm_python

    values = yaml.safe_load(open(file, encoding="utf-8")) if file else {}
    report = helm_python.lint(path, values, strict=True, namespace="shop")
    if report["errors"]:
        raise ValueError(report["errors"])
    text = []
    for name, part in sorted(helm_python.Chart.load(path).render(values, name="rel", namespace="shop").items()):
        if part.strip() and name.endswith(".yaml"):
            text.append(f"---\n# Source: {name}\n{part.strip()}\n")
        elif name.endswith("NOTES.txt"):
            text += [f"# {line}\n" for line in part.strip().splitlines()]
    return "".join(text)


def charts(path, folder, files):
    for file in files:
        name = pathlib.Path(file).name.removesuffix("-values.yaml")
        try:
            rendered = chart(path, file)
        except Exception as error:
            print(f"{file}: {error}", file=sys.stderr)
            return 1
        pathlib.Path(folder, name + ".yaml").write_text(rendered, encoding="utf-8")
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["validate", *files]:
            sys.exit(bool(validate(files)))
        case ["json", file]:
            sys.exit(print(json.dumps(documents(file), default=str)))
        case ["chart", path, *values]:
            try:
                sys.exit(print(chart(path, *values), end=""))
            except Exception as error:
                sys.exit(str(error))
        case ["charts", path, folder, *files]:
            sys.exit(charts(path, folder, files))
    sys.exit(__doc__)
