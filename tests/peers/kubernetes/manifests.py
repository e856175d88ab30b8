"""What Kubernetes says of manifests: its schemas of three versions, and its restricted Pod Security Standard.

manifests.py validate FILE...          each document of each file, by the schemas and by the standard
manifests.py chart CHART [VALUES]      lints and renders a chart with Helm's own library; what it renders goes to standard output

A line for each problem, "FILE: KIND NAME: what is wrong"; then one that counts. Exit code 1 where there is a problem.
"""
import json
import sys

import yaml

VERSIONS = ["1.29", "1.33", "1.37"]
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


def names(pod):
    """Rules of the API server that its schemas do not say: IANA_SVC_NAME of ports, and that mounts have volumes."""
    volumes = {volume["name"] for volume in pod.get("volumes") or []}
    for part in ("initContainers", "containers"):
        for container in pod.get(part) or []:
            for port in container.get("ports") or []:
                if len(port.get("name", "")) > 15:
                    yield f"{container['name']}: the port's name {port['name']} is longer than 15"
            for mount in container.get("volumeMounts") or []:
                if mount["name"] not in volumes:
                    yield f"{container['name']}: there is no volume {mount['name']}"


def validate(files):
    import kubernetes_validate

    objects = problems = 0
    for file in files:
        documents = [document for document in yaml.safe_load_all(open(file, encoding="utf-8")) if document]
        accounts = {document["metadata"]["name"] for document in documents if document.get("kind") == "ServiceAccount"}
        for document in documents:
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
            for pod in pods(document):
                found += [*restricted(pod), *names(pod)]
                if pod.get("serviceAccountName", "default") not in {"default", *accounts}:
                    found.append(f"there is no ServiceAccount {pod['serviceAccountName']}")
            for says in found:
                problems += 1
                print(f"{file}: {document['kind']} {document['metadata']['name']}: {says}")
    print(f"{objects} objects, {problems} problems")
    return problems


def chart(path, values):
    import helm_python

    values = json.load(open(values)) if values else {}
    report = helm_python.lint(path, values, strict=True, namespace="shop")
    if report["errors"]:
        print(report["errors"], file=sys.stderr)
        return 1
    try:
        rendered = helm_python.Chart.load(path).render(values, name="rel", namespace="shop")
    except Exception as error:
        print(error, file=sys.stderr)
        return 1
    for name, text in sorted(rendered.items()):
        if text.strip() and name.endswith(".yaml"):
            print(f"---\n# Source: {name}\n{text.strip()}")
        elif name.endswith("NOTES.txt"):
            print("".join(f"# {line}\n" for line in text.strip().splitlines()), end="")
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["validate", *files]:
            sys.exit(bool(validate(files)))
        case ["chart", path, *values]:
            sys.exit(chart(path, values[0] if values else None))
    sys.exit(__doc__)
