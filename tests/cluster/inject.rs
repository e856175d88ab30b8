//! `cupbearer inject`, as a platform team meets it.

use std::fs;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use cupbearer_testing::{cupbearer, python, repository};

const ORDERS: &str = "# The shop's orders.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: orders # its name
  namespace: shop
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata:
      labels: {app: orders}
    spec:
      # What the team wrote.
      containers:
      - name: app
        image: orders:1
        ports:
        - containerPort: 9000
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {ports: [{port: 80}]}
";

/// Exit code, standard output and standard error of `inject`, with `text` on its standard input.
pub(super) async fn inject(words: &[&str], text: &[u8]) -> (Option<i32>, String, String) {
    let mut command = cupbearer();
    command.arg("inject").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // Whoever refuses its words reads nothing.
    let _ = input.write_all(text).await;
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn inject_adds_lines_and_changes_none_and_takes_them_out_again() {
    let (code, injected, said) = inject(&[], ORDERS.as_bytes()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Deployment shop/orders: the sidecar was added"), "{said}");
    assert!(
        said.contains("note: the Secret cupbearer is not in this file: it must be in the namespace shop"),
        "{said}"
    );
    // Each line of before is there, in its order.
    let mut lines = injected.lines();
    for line in ORDERS.lines() {
        assert!(lines.any(|injected| injected == line), "{line} is gone from {injected}");
    }
    assert!(
        injected.contains("      initContainers:\n      - name: cupbearer\n        image: cupbearer:"),
        "{injected}"
    );
    let (code, again, said) = inject(&[], injected.as_bytes()).await;
    assert_eq!((code, again.as_str()), (Some(0), injected.as_str()));
    assert!(said.contains("has it already"), "{said}");
    let (code, out, said) = inject(&["--uninject"], injected.as_bytes()).await;
    assert_eq!((code, out.as_str()), (Some(0), ORDERS), "{said}");
    // Other words take the place of what was said before.
    let words =
        ["--mode", "plain", "--port", "8081", "--no-secret", "--image", "registry.example.com/cupbearer:2"];
    let (_, other, said) = inject(&words, injected.as_bytes()).await;
    assert!(said.contains("Deployment shop/orders: the sidecar it had was replaced"), "{said}");
    assert!(
        other.contains("registry.example.com/cupbearer:2") && other.contains("localhost:8081"),
        "{other}"
    );
    assert!(!other.contains("initContainers") && !other.contains("cupbearer-secret"), "{other}");
    let (_, out, _) = inject(&["--uninject"], other.as_bytes()).await;
    assert_eq!(out, ORDERS);
}

#[tokio::test]
async fn inject_reads_a_file_and_says_what_it_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.json");
    let agent = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "agent" },
          "spec": { "template": { "spec": { "hostNetwork": true, "containers": [{ "name": "agent" }] } } } },
        { "apiVersion": "example.com/v1", "kind": "Deployment", "metadata": { "name": "not-ours" }, "spec": "whatever" } ] });
    fs::write(&file, serde_json::to_string_pretty(&agent).unwrap()).unwrap();
    let (code, out, said) = inject(&[file.to_str().unwrap()], b"").await;
    assert_eq!((code, out), (Some(0), fs::read_to_string(&file).unwrap()));
    assert!(said.contains("DaemonSet agent: left alone: it is on the node's own network"), "{said}");
    // It would be the Deployment's annotation, and nobody's who reads pods.
    let misplaced = ORDERS.replacen(
        "  namespace: shop\n",
        "  namespace: shop\n  annotations: {cupbearer.dev/port: \"9001\"}\n",
        1,
    );
    let (_, _, said) = inject(&[], misplaced.as_bytes()).await;
    let says = "note: cupbearer.dev/port of the Deployment shop/orders itself says nothing of its pods: theirs are in spec.template.metadata";
    assert!(said.contains(says), "{said}");
    let (code, out, said) = inject(&[], b"kind: Service\napiVersion: v1\n").await;
    assert_eq!((code, out.as_str()), (Some(0), "kind: Service\napiVersion: v1\n"));
    assert!(said.contains("there is no pod in it"), "{said}");
}

#[tokio::test]
async fn where_anything_is_wrong_nothing_is_written_and_everything_is_named() {
    let taken = ORDERS.replace("9000", "4280");
    let two = format!("{taken}---\n{}", ORDERS.replace("containers:", "containers: {}\n      other:"));
    let secret = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cupbearer, namespace: shop}\ndata:\n  config.toml: |\n    [tokens.api]\n    \
                  client_secret_file = \"/run/secrets/cupbearer/password\"\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: cupbearer, namespace: shop}\n\
                  stringData: {client_secret: x}\n---\n";
    let with_secret = secret.to_owned() + ORDERS;
    for (words, text, says) in [
        (
            &[][..],
            taken.as_str(),
            &[
                "document 1, Deployment shop/orders: spec.template.spec.containers[0].ports[0].containerPort: 4280 is",
                "--port",
            ][..],
        ),
        (
            &[],
            &two,
            &[
                "document 1, Deployment shop/orders",
                "document 3, Deployment shop/orders: spec.template.spec.containers: it must be a list",
            ],
        ),
        (&[], "a: [1\n", &["standard input: document 1: line"]),
        (
            &[],
            &with_secret,
            &[
                "document 1, ConfigMap shop/cupbearer: data[config.toml], tokens.api.client_secret_file: the Secret cupbearer has no key password",
            ],
        ),
        (&["--no-secret"], &with_secret, &["the sidecar gets none: name it by --secret"]),
        (
            &["--mode", "plain"],
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
            &["Job j: spec.template.spec: a Job with a plain sidecar never completes"],
        ),
    ] {
        let (code, out, said) = inject(words, text.as_bytes()).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        for says in says {
            assert!(said.contains(says), "{says} is not in {said}");
        }
    }
    for (words, text, says) in [
        (
            &["--health-port", "4280"][..],
            &b""[..],
            "--health-port: 4280 cannot be the port of health: the proxy uses it",
        ),
        (&["--port", "0"], b"", "--port: 0 is not a port"),
        (&["--port", "x"], b"", "a port is a number from 1 to 65535, or config"),
        (&["--mode", "mesh"], b"", "native or plain"),
        (&["--secret", "My_Secret"], b"", "--secret: \"My_Secret\" is no name"),
        (&["/nowhere/at/all.yaml"], b"", "cannot read /nowhere/at/all.yaml: No such file"),
        (&["/"], b"", "/ is a folder; help: join them"),
    ] {
        let (code, out, said) = inject(words, text).await;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: app, image: a:1, ports: [{containerPort: 80}]}]}\n";

#[tokio::test]
async fn what_is_no_manifest_that_can_be_read_is_refused_with_document_object_and_field() {
    let pod = |from: &str, to: &str| {
        assert!(POD.contains(from));
        POD.replace(from, to)
    };
    for (text, says) in [
        (pod("kind: Pod\n", ""), "document 1, a: kind: it is missing"),
        (pod("kind: Pod", "kind: [Pod]"), "document 1, a: kind: it must be a word"),
        (pod("apiVersion: v1\n", ""), "document 1, Pod a: apiVersion: it is missing: that of a Pod is v1"),
        (pod("apiVersion: v1", "apiVersion: 1"), "document 1, Pod a: apiVersion: it must be a word"),
        (format!("{POD}---\nonly words\n"), "document 2: it must be an object"),
        (
            "apiVersion: v1\nkind: List\nitems: x\n".to_owned(),
            "document 1, List (without a name): items: it must be a list",
        ),
        ("apiVersion: v1\nkind: List\nitems: [x]\n".to_owned(), "items[0]: it must be an object"),
        ("kind: DeploymentList\nitems: []\n".to_owned(), "apiVersion: it is missing"),
        (pod("[{containerPort: 80}]", "x"), "document 1, Pod a: spec.containers[0].ports: it must be a list"),
        (
            pod("80", "'8080'"),
            "spec.containers[0].ports[0].containerPort: it must be a number: 8080, without quotes",
        ),
        (pod("80", "http"), "spec.containers[0].ports[0].containerPort: it must be a number from 1 to 65535"),
        (pod("name: app, ", ""), "spec.containers[0].name: a container must have a name"),
        (pod("spec: {", "spec: {<<: x, "), "line 4, column 8: << merges mappings"),
        (
            pod("a:1", "{{ .Values.image }}"),
            "render it first, as in `helm template CHART | cupbearer inject`",
        ),
        (
            pod("{name: a}", "{name: a, annotations: {cupbearer.dev/inject: false}}"),
            "metadata.annotations[cupbearer.dev/inject]: it must be \"true\" or \"false\", in quotes",
        ),
        (
            pod("{name: a}", "{name: a, annotations: {cupbearer.dev/memory-limit: 8Mi}}"),
            "metadata.annotations[cupbearer.dev/memory-limit]: \"8Mi\" is less than the 16Mi",
        ),
    ] {
        let (code, out, said) = inject(&[], text.as_bytes()).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{text}{said}");
        assert!(said.contains(says) && said.contains("nothing was written"), "{says} is not in {said}");
    }
    for (text, says) in [
        (&b"a: b\nc: \xff\n"[..], "standard input: line 2: it is not in UTF-8"),
        (b"\xff\xfea\0:", "standard input: it begins as UTF-16 and is broken"),
    ] {
        let (code, out, said) = inject(&[], text).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn the_port_of_a_configuration_in_the_same_file_is_the_one_that_must_be_free() {
    let map = |namespace: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: cupbearer, namespace: {namespace}}}\n\
             data:\n  config.toml: |\n    [server]\n    listen = \"127.0.0.1:9000\"\n"
        )
    };
    let both = ORDERS.to_owned() + &map("shop");
    let (code, out, said) = inject(&["--port", "config"], both.as_bytes()).await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
    let says = "document 1, Deployment shop/orders: spec.template.spec.containers[0].ports[0].containerPort: 9000 is the port that the \
                sidecar listens on (server.listen in the ConfigMap shop/cupbearer, document 3)";
    assert!(said.contains(says), "{said}");
    // The usual port is free then; a map of another namespace, or what is said of the pod, leaves it so.
    for (words, text) in [
        (&["--port", "config"][..], ORDERS.replace("9000", "4280") + &map("shop")),
        (&["--port", "config"], ORDERS.to_owned() + &map("other")),
        (&["--port", "9001"], both.clone()),
        (&[], both.clone()),
    ] {
        let (code, out, said) = inject(words, text.as_bytes()).await;
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(out.contains("CUPBEARER__SERVER__LISTEN"), words != ["--port", "config"], "{out}");
    }
    let (_, _, said) = inject(&[], both.as_bytes()).await;
    let says = "note: server.listen in the ConfigMap shop/cupbearer does not count: the sidecar of the Deployment shop/orders \
                listens on localhost:4280; help: cupbearer.dev/port: \"config\"";
    assert!(said.contains(says), "{said}");
}

#[tokio::test]
async fn what_runs_or_belongs_to_a_controller_is_left_alone() {
    let owned = "metadata: {name: a, ownerReferences: [{kind: ReplicaSet, name: r, controller: true}]}";
    for (text, says) in [
        (POD.replace("metadata: {name: a}", owned), "a controller owns it"),
        (POD.replace("spec: {", "spec: {nodeName: node-1, "), "its spec.nodeName binds it to a node"),
        (
            POD.replace("{name: a}", "{name: a, uid: u}").replace("spec: {", "spec: {nodeName: node-1, "),
            "it runs already",
        ),
        (POD.to_owned() + "status: {phase: Running}\n", "it runs already"),
        (POD.replace("spec: {", "spec: {os: {name: windows}, "), "it is for Windows"),
    ] {
        for words in [&[][..], &["--uninject"]] {
            let (code, out, said) = inject(words, text.as_bytes()).await;
            assert_eq!((code, &out), (Some(0), &text), "{said}");
            assert!(!words.is_empty() || said.contains(&format!("Pod a: left alone: {says}")), "{said}");
        }
    }
    // Whoever owns it without controlling it makes no other of it.
    let (_, out, _) =
        inject(&[], POD.replace("metadata: {name: a}", &owned.replace("true", "false")).as_bytes()).await;
    assert!(out.contains("cupbearer.dev/status"), "{out}");
}

#[tokio::test]
async fn a_document_that_cannot_be_edited_is_written_anew_and_that_is_said() {
    let shared = "apiVersion: v1\nkind: List # one\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n  \
                  spec: &s {containers: [{name: app, image: a:1}], priority: 0x1F}\n- apiVersion: example.com/v1\n  kind: Shape\n  spec: *s\n  \
                  more: {day: 08, n: .nan, y: no, big: 123456789012345678901234567890}\n";
    let text = format!("{POD}# two\n---\n{shared}");
    let (code, out, said) = inject(&[], text.as_bytes()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("note: document 2 was written anew, without its comments and anchors"), "{said}");
    assert!(!said.contains("document 1 was"), "{said}");
    assert!(out.contains("# two") && !out.contains("# one"), "{out}");
    for kept in ["priority: 0x1F", "day: 08", "n: .nan", "y: no", "big: 123456789012345678901234567890"] {
        assert!(out.contains(kept), "{kept} is not in {out}");
    }
    let (_, again, said) = inject(&[], out.as_bytes()).await;
    assert_eq!(again, out, "{said}");
}

#[tokio::test]
async fn manifests_of_every_style_are_read_changed_and_changed_back_as_another_reader_sees() {
    let mut judge = python("kubernetes/inject.py");
    judge.arg(env!("CARGO_BIN_EXE_cupbearer")).arg(repository().join("tests/manifests"));
    let output = judge.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" 0 faults"), "{said}");
}

const PLAIN_POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: app, image: a}]}\n";

fn with_config(config: &str) -> String {
    let lines = format!("    {}\n", config.trim_end().replace('\n', "\n    "));
    format!(
        "{PLAIN_POD}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: cupbearer}}\ndata:\n  config.toml: |\n{lines}"
    )
}

#[tokio::test]
async fn a_configuration_beside_the_pod_that_cannot_start_is_noted() {
    let good = "[upstreams.api]\nurl = 'https://api.example.com'\nca_file = '/etc/ssl/extra/ca.crt'\n[tokens.api]\n\
                token_endpoint = 'https://login.example.com/token'\nclient_id = 'orders'\n\
                client_secret_file = '/run/secrets/cupbearer/client_secret'\n[[routes]]\nupstream = 'api'\ntoken = 'api'\n";
    let (code, _, said) = inject(&[], with_config(good).as_bytes()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("cupbearer check"), "files are in the container, not here: {said}");
    for (broken, first) in [
        (good.replace("client_id = 'orders'\n", ""), "client_id"),
        (good.replace("url = ", "uri = "), "upstreams.api.uri"),
    ] {
        let (code, _, said) = inject(&[], with_config(&broken).as_bytes()).await;
        assert_eq!(code, Some(0), "{said}");
        let note = said
            .lines()
            .find(|line| line.contains("`cupbearer check` finds"))
            .unwrap_or_else(|| panic!("{said}"));
        assert!(note.contains("in the ConfigMap cupbearer") && said.contains(first), "{said}");
    }
}

#[tokio::test]
async fn a_file_in_utf_16_with_its_mark_is_read_and_written_in_utf_8() {
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let text: Vec<u8> = format!("\u{feff}{PLAIN_POD}").encode_utf16().flat_map(bytes).collect();
        let (code, injected, said) = inject(&[], &text).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("note: it is in UTF-16, and is written in UTF-8"), "{said}");
        assert_eq!(injected, inject(&[], PLAIN_POD.as_bytes()).await.1);
    }
    let cut = inject(&[], b"\xff\xfea").await;
    assert_eq!(cut.0, Some(1), "{}", cut.2);
}

#[tokio::test]
async fn what_is_no_manifest_of_a_pod_yet_is_left_alone_and_strict_says_so() {
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 3}\n";
    let workflow = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  templates:\n  - name: a\n    \
                    container: {image: a}\n";
    let task = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: t}\nspec:\n  steps:\n  - {name: a, image: a}\n";
    for (object, says) in [
        (patch, "Deployment a: left alone: it has no pod template"),
        (workflow, "Workflow w: left alone: inject does not know this kind"),
        (task, "Task t: left alone: inject does not know this kind"),
    ] {
        let both = format!("{object}---\n{PLAIN_POD}");
        let (code, injected, said) = inject(&[], both.as_bytes()).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(says) && said.contains("Pod a: the sidecar was added"), "{said}");
        assert!(injected.starts_with(object), "{injected}");
        assert_eq!(inject(&["--strict"], both.as_bytes()).await.0, Some(1));
    }
}

#[tokio::test]
async fn several_files_and_a_folder_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, PLAIN_POD).unwrap();
    let (file, folder) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
    for (words, says) in [
        (vec![file, file], "inject reads one file at a time"),
        (vec![folder], "is a folder; help: join them"),
    ] {
        let (code, written, said) = inject(&words, b"").await;
        assert_eq!((code, written.as_str()), (Some(2), ""), "{said}");
        assert!(said.contains(says) && said.contains("kubectl kustomize"), "{said}");
    }
}
