"""Runs one pod as Kubernetes does (1.29 and later), by podman: what a machine without a cluster can show of it.

kubelet.py MANIFESTS NAME   the pod of the one Job in MANIFESTS, with the ConfigMaps and Secrets in it; NAME begins its containers' names.

Init containers start one after another: a sidecar (restartPolicy Always) lets the next one start once its startup probe has passed, any other once it has ended
well. When the last of the other containers has ended, the sidecars are told to end, the last one first. Tells what happens, a JSON object a line.

https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
"""
import base64
import json
import os
import subprocess
import sys
import tempfile
import time

import yaml

manifests, prefix = sys.argv[1:]
with open(manifests) as file:
    objects = list(yaml.safe_load_all(file))
[job] = [one for one in objects if one["kind"] == "Job"]
spec = job["spec"]["template"]["spec"]
grace = spec.get("terminationGracePeriodSeconds", 30)
folder = tempfile.TemporaryDirectory()


def podman(*words):
    done = subprocess.run(["podman", "--runtime", "runc", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"podman {words}: {done.stderr}")
    return done.stdout.strip()


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def find(kind, name):
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def files(volume):
    """What is in a volume; `None`: memory of the pod's own."""
    if "configMap" in volume:
        return find("ConfigMap", volume["configMap"]["name"])["data"]
    if "secret" in volume:
        data = find("Secret", volume["secret"]["secretName"])["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}
    if "projected" in volume:
        return {one["serviceAccountToken"]["path"]: "a projected token" for one in volume["projected"]["sources"]}
    return None


def mounts(container):
    for mount in container.get("volumeMounts", []):
        [volume] = [one for one in spec["volumes"] if one["name"] == mount["name"]]
        content = files(volume)
        if content is None:
            yield f"--tmpfs={mount['mountPath']}:mode=0777,size=1m"
            continue
        at = os.path.join(folder.name, volume["name"])
        os.makedirs(at, exist_ok=True)
        for name, text in content.items():
            with open(os.path.join(at, name), "w") as file:
                file.write(text)
            os.chmod(os.path.join(at, name), 0o444)
        os.chmod(folder.name, 0o755)
        yield f"--volume={at}:{mount['mountPath']}:ro"


def start(container):
    name = f"{prefix}-{container['name']}"
    # All share the first one's network, which is its loopback alone.
    network = "none" if not start.first else f"container:{start.first}"
    start.first = start.first or name
    words = ["run", "--detach", "--pull=never", "--name", name, f"--network={network}", *mounts(container)]
    security = container.get("securityContext", {})
    if security.get("readOnlyRootFilesystem"):
        words += ["--read-only", "--read-only-tmpfs=false"]
    if "runAsUser" in security:
        words += [f"--user={security['runAsUser']}:{security['runAsGroup']}"]
    words += [f"--cap-drop={one}" for one in security.get("capabilities", {}).get("drop", [])]
    if security.get("allowPrivilegeEscalation") is False:
        words.append("--security-opt=no-new-privileges")
    limit = container.get("resources", {}).get("limits", {}).get("memory")
    words += [f"--memory={limit.removesuffix('Mi')}m"] if limit else []
    words += [f"--env={one['name']}={one['value']}" for one in container.get("env", [])]
    if "command" in container:
        words.append(f"--entrypoint={json.dumps(container['command'])}")
    podman(*words, container["image"], *container.get("args", []))
    tell("started", container=container["name"])
    return name


start.first = None


def passes(name, container, probe):
    """The kubelet asks by the pod's address; this pod has only its loopback, so the question is asked in there."""
    port = probe["httpGet"]["port"]
    [port] = [one["containerPort"] for one in container["ports"] if port in (one.get("name"), one["containerPort"])]
    pid = podman("inspect", "--format", "{{.State.Pid}}", name)
    url = f"http://127.0.0.1:{port}{probe['httpGet']['path']}"
    asked = subprocess.run(["nsenter", f"--target={pid}", "--net", "curl", "-sf", "-o", os.devnull, "--max-time", "1", url])
    return asked.returncode == 0


def started(name, container):
    probe = container.get("startupProbe")
    for _ in range(probe.get("failureThreshold", 3) if probe else 0):
        if passes(name, container, probe):
            return tell("startup probe passed", container=container["name"])
        time.sleep(probe.get("periodSeconds", 10))
    if probe:
        sys.exit(f"{name}: its startup probe never passed\n{podman('logs', name)}")


def ended(name, container):
    code = int(podman("wait", name))
    output = subprocess.run(["podman", "--runtime", "runc", "logs", name], capture_output=True, text=True)
    tell("ended", container=container["name"], code=code, log=output.stdout + output.stderr)
    return code


sidecars = []
for container in spec.get("initContainers", []):
    name = start(container)
    if container.get("restartPolicy") == "Always":
        started(name, container)
        sidecars.append((name, container))
    elif ended(name, container):
        sys.exit(f"{name} failed")
codes = [ended(start(container), container) for container in spec["containers"]]
for name, container in reversed(sidecars):
    begun = time.monotonic()
    podman("stop", f"--time={grace}", name)
    tell("told to end", container=container["name"], seconds=time.monotonic() - begun)
    ended(name, container)
tell("phase", phase="Failed" if any(codes) else "Succeeded")
