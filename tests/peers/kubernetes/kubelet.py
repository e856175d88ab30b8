"""A stand-in for the kubelet and the Job controller: one pod of a manifest, its containers as processes of this machine.

kubelet.py PLAN.json

It keeps to what Kubernetes documents: native sidecars start before what follows them and are waited for until their startup probe
has passed, a probe that fails too often ends its container, a container that ended starts again at once and then after 10 s, doubled
up to 5 min (a run of 10 min resets that), and a Job fails once its pod has restarted `backoffLimit` containers (`OnFailure`) or that
many pods have failed (`Never`). Images, volumes and network policies are not its affair: the plan says what each container runs.

PLAN: manifest (YAML of a Deployment or a Job), factor (how much faster than the wall its clock runs), programs (container: {argv, env}),
ports (a probe's port: where it is on loopback). Each event is a JSON object a line, `at` in seconds of its clock.
"""
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time

import yaml

FIRST_BACK_OFF, LONGEST_BACK_OFF, RESET_AFTER = 10, 300, 600
with open(sys.argv[1]) as plan_file:
    PLAN = json.load(plan_file)
FACTOR = PLAN["factor"]
BEGIN = time.monotonic()
SAYING = threading.Lock()


def now():
    return (time.monotonic() - BEGIN) * FACTOR


def pause(seconds):
    time.sleep(seconds / FACTOR)


def say(event, **more):
    with SAYING:
        print(json.dumps({"at": round(now(), 1), "event": event, **more}), flush=True)


class Container(threading.Thread):
    """One container of a pod, through all its runs."""

    def __init__(self, pod, spec, policy):
        super().__init__(daemon=True)
        self.pod, self.spec, self.policy, self.name = pod, spec, policy, spec["name"]
        self.restarts, self.process = 0, None
        self.started, self.ended, self.stopping = threading.Event(), threading.Event(), threading.Event()
        self.code = None

    def run(self):
        back_off, last = 0, None
        while not self.stopping.is_set():
            begin = now()
            self.live()
            if self.stopping.is_set():
                break
            if self.policy == "Never" or self.policy == "OnFailure" and self.code == 0:
                break
            if now() - begin >= RESET_AFTER:
                back_off = 0
            say("waits", container=self.name, seconds=back_off)
            if self.stopping.wait(back_off / FACTOR):
                break
            back_off = min(back_off * 2, LONGEST_BACK_OFF) or FIRST_BACK_OFF
            self.restarts += 1
            self.pod.restarted()
        self.ended.set()
        self.pod.changed.set()

    def live(self):
        """One run, from the start of its process to its end."""
        program = PLAN["programs"][self.name]
        said = {variable["name"]: variable["value"] for variable in self.spec.get("env", []) if "value" in variable}
        environment = {"PATH": os.environ["PATH"], **said, **program.get("env", {})}
        # A test that ends takes everything with it.
        argv = ["setpriv", "--pdeathsig", "KILL", "--", *program["argv"]]
        self.process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        say("runs", container=self.name, restarts=self.restarts)
        startup = self.spec.get("startupProbe")
        if startup is None or self.passes(startup):
            say("started", container=self.name)
            self.started.set()
            self.pod.changed.set()
            liveness = self.spec.get("livenessProbe")
            while self.process.poll() is None:
                if liveness and not self.passes(liveness, until_failing=True):
                    break
                time.sleep(0.02)
        self.end()
        self.code = self.process.returncode
        say("ended", container=self.name, code=self.code)

    def passes(self, probe, until_failing=False):
        """Whether the probe passes before it has failed too often; with `until_failing` it looks on until it fails or there is nothing to look at."""
        period, threshold = probe.get("periodSeconds", 10), probe.get("failureThreshold", 3)
        self.sleep(probe.get("initialDelaySeconds", 0))
        since = None
        while self.process.poll() is None and not self.stopping.is_set():
            if asked(probe):
                since = None
                if not until_failing:
                    return True
            else:
                since = now() if since is None else since
                # Counted by time: a clock that runs fast makes fewer requests, not another verdict.
                if now() - since >= period * (threshold - 1):
                    say("probe failed", container=self.name)
                    return False
            self.sleep(max(period, 0.1 * FACTOR))
        return until_failing and not self.stopping.is_set() and self.process.poll() is not None

    def sleep(self, seconds):
        end = time.monotonic() + seconds / FACTOR
        while time.monotonic() < end and self.process.poll() is None and not self.stopping.is_set():
            time.sleep(min(0.02, max(0, end - time.monotonic())))

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(max(5, self.pod.grace / FACTOR))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def stop(self):
        self.stopping.set()
        self.ended.wait()


def asked(probe):
    at = probe["httpGet"]
    connection = http.client.HTTPConnection("127.0.0.1", PLAN["ports"][str(at["port"])], timeout=probe.get("timeoutSeconds", 1))
    try:
        connection.request("GET", at["path"])
        return 200 <= connection.getresponse().status < 400
    except OSError:
        return False
    finally:
        connection.close()


class Pod:
    """A pod, from its first init container to its end."""

    def __init__(self, spec, most_restarts):
        self.spec, self.most_restarts = spec, most_restarts
        self.grace = spec.get("terminationGracePeriodSeconds", 30)
        self.policy = spec.get("restartPolicy", "Always")
        self.containers, self.changed, self.too_many = [], threading.Event(), threading.Event()

    def restarted(self):
        count = sum(container.restarts for container in self.containers)
        if self.policy == "OnFailure" and self.most_restarts is not None and count >= max(1, self.most_restarts):
            self.too_many.set()
            self.changed.set()

    def launch(self, spec, policy):
        container = Container(self, spec, policy)
        self.containers.append(container)
        container.start()
        return container

    def until(self, holds):
        """Waits until it holds, or the Job has given the pod up."""
        while not holds() and not self.too_many.is_set():
            self.changed.wait(0.1)
            self.changed.clear()
        return holds() and not self.too_many.is_set()

    def run(self):
        """Its phase at the end."""
        phase = self.live()
        # What ends last was there first: sidecars outlive what they serve.
        for container in reversed(self.containers):
            container.stop()
        return phase

    def live(self):
        for spec in self.spec.get("initContainers", []):
            sidecar = spec.get("restartPolicy") == "Always"
            retries = "Never" if self.policy == "Never" else "OnFailure"
            container = self.launch(spec, "Always" if sidecar else retries)
            if not self.until(container.started.is_set if sidecar else container.ended.is_set):
                return "Failed"
            if not sidecar and container.code != 0:
                return "Failed"
        main = [self.launch(spec, self.policy) for spec in self.spec["containers"]]
        if not self.until(lambda: all(container.ended.is_set() for container in main)):
            return "Failed"
        return "Succeeded" if all(container.code == 0 for container in main) else "Failed"


def run_job(job):
    limit, failed = job["spec"].get("backoffLimit", 6), 0
    template = job["spec"]["template"]["spec"]
    while True:
        phase = Pod(template, limit).run()
        say("pod", phase=phase)
        if phase == "Succeeded":
            return say("job", condition="Complete")
        failed += 1
        if template["restartPolicy"] == "OnFailure" or failed > limit:
            return say("job", condition="Failed", reason="BackoffLimitExceeded")
        pause(min(FIRST_BACK_OFF * 2 ** (failed - 1), 2 * LONGEST_BACK_OFF))


with open(PLAN["manifest"]) as manifest:
    (workload,) = [document for document in yaml.safe_load_all(manifest) if document["kind"] in ("Deployment", "Job")]
if workload["kind"] == "Job":
    run_job(workload)
else:
    Pod(workload["spec"]["template"]["spec"], None).run()
