//! Programs that people run against APIs which speak of themselves, in addresses that their clients follow: package
//! managers, registries, uploads, pages, files. Each API refuses what comes without the token, so that an address which
//! leads past the proxy is a failure.

mod api;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use self::api::{Api, listens};
use cupbearer_testing::{
    CREDENTIALS, Config, Message, Origin, Program, Proxy, Reply, curl, free_address, node, podman, python,
    repository, run, token_at, upstream_at,
};

/// The proxy in front of an API, with keys for its upstream; and the authorization server.
async fn proxy(url: &str, keys: &str) -> (Proxy, Origin) {
    let server = Origin::issuing(300).await;
    let upstream = upstream_at(url) + keys;
    (Proxy::start(Config::one_route(&upstream, &token_at(&server.url()))).await, server)
}

/// A proxy whose authorization server is not there.
async fn without_token() -> Proxy {
    let config = Config::one_route(&upstream_at("http://127.0.0.1:9"), &token_at("http://127.0.0.1:9"))
        .environment("CUPBEARER__TOKENS__API__WAIT", "100ms");
    Proxy::start_live(config).await
}

/// Whether a program succeeds, and what it writes.
async fn outcome(command: &mut Command) -> (bool, String) {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// npm, with a home of its own in `dir`.
fn npm(dir: &Path, registry: &str, words: &[&str]) -> Command {
    let mut npm = Program::peer("npm", "npm");
    npm.current_dir(dir).env("HOME", dir).args(words).arg(format!("--registry={registry}/"));
    npm.args(["--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=0"]);
    npm.arg(format!("--cache={}", dir.join("cache").display()));
    npm
}

async fn verdaccio(dir: &Path) -> (Program, Api) {
    let address = free_address();
    let file = dir.join("verdaccio.yaml");
    let rules = "packages: { '**': { access: $all, publish: $all } }\nlog: { type: stdout, level: warn }\n";
    fs::write(&file, format!("storage: {}\nuplinks: {{}}\n{rules}", dir.join("packages").display())).unwrap();
    let mut command = node("programs/node_modules/verdaccio/bin/verdaccio", None);
    command.current_dir(dir).arg("--config").arg(&file).args(["--listen", &address.to_string()]);
    let mut program = Program::spawn("verdaccio", command, dir);
    program.until("listening", || listens(address)).await;
    (program, Api::before(address).await)
}

#[tokio::test]
async fn npm_installs_a_package_and_what_it_needs_from_a_registry_that_writes_its_own_address() {
    let dir = tempfile::tempdir().unwrap();
    let (_verdaccio, api) = verdaccio(dir.path()).await;
    let (proxy, _server) = proxy(&api.url(), "host = \"client\"\n").await;
    for (name, needs) in [("inner", json!({})), ("outer", json!({ "inner": "1.0.0" }))] {
        let package = dir.path().join(name);
        fs::create_dir(&package).unwrap();
        let manifest = json!({ "name": name, "version": "1.0.0", "dependencies": needs });
        fs::write(package.join("package.json"), manifest.to_string()).unwrap();
        // npm publishes nothing without a token of its own, whatever it is.
        let own = format!("--//{}/:_authToken=unused", proxy.listen());
        let (done, text) = outcome(&mut npm(&package, &proxy.url(""), &["publish", &own])).await;
        assert!(done, "{text}\n{}", proxy.log());
    }
    for (registry, installs) in [(api.url(), false), (api.by_nginx(), true), (proxy.url(""), true)] {
        let (home, before) = (tempfile::tempdir().unwrap(), api.refused());
        fs::write(home.path().join("package.json"), "{}").unwrap();
        let (done, text) = outcome(&mut npm(home.path(), &registry, &["install", "outer"])).await;
        assert_eq!((done, api.refused() == before), (installs, installs), "{registry}: {text}");
        assert_eq!(
            home.path().join("node_modules/inner/package.json").is_file(),
            installs,
            "{registry}: {text}"
        );
    }
}

#[tokio::test]
async fn podman_pushes_an_image_and_pulls_it() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let file = dir.path().join("registry.yml");
    let storage = dir.path().join("data");
    fs::write(
        &file,
        format!(
            "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '{address}' }}\n",
            storage.display()
        ),
    )
    .unwrap();
    let mut command = Program::peer("docker-registry", "docker-registry");
    command.arg("serve").arg(&file);
    let mut registry = Program::spawn("docker-registry", command, dir.path());
    registry.until("listening", || listens(address)).await;
    let api = Api::before(address).await;
    let (proxy, _server) = proxy(&api.url(), "").await;

    let image = Image::new(dir.path()).await;
    for (at, takes) in [(api.url(), false), (api.by_nginx(), true), (proxy.url(""), true)] {
        let (at, before) = (at.trim_start_matches("http://"), api.refused());
        let remote = image.at(at);
        let (done, text) = outcome(podman().args(["push", "--tls-verify=false", &image.0, &remote])).await;
        assert_eq!((done, api.refused() == before), (takes, takes), "{at}: {text}\n{}", proxy.log());
        if takes {
            let (done, text) = outcome(podman().args(["pull", "--tls-verify=false", &remote])).await;
            assert!(done, "{at}: {text}");
        }
    }

    // A layer of another repository of the registry, by its address there.
    let repository = proxy.url(&format!("/v2/{}", image.repository()));
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    let docker = "Accept: application/vnd.docker.distribution.manifest.v2+json";
    let manifest = curl(&["-H", accept, "-H", docker, &format!("{repository}/manifests/1")]).await.json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let mount = format!("/v2/other/blobs/uploads/?mount={layer}&from={}", image.repository());
    let mounted = curl(&["-X", "POST", &proxy.url(&mount)]).await;
    assert_eq!(mounted.status, 201, "{mounted:?}");
    let location = mounted.field("location").unwrap();
    assert_eq!(location, proxy.url(&format!("/v2/other/blobs/{layer}")));
    assert_eq!(curl(&["--head", location]).await.status, 200);
}

/// An image of one file, known to podman alone; its names go with it.
struct Image(String);

impl Image {
    async fn new(dir: &Path) -> Self {
        fs::write(dir.join("file"), "contents").unwrap();
        let archive = dir.join("image.tar");
        let mut tar = Program::peer("tar", "tar");
        let (done, text) = outcome(tar.arg("-C").arg(dir).arg("-cf").arg(&archive).arg("file")).await;
        assert!(done, "{text}");
        let image = Self(format!("localhost/programs-{}:1", free_address().port()));
        let (done, text) = outcome(podman().arg("import").arg(&archive).arg(&image.0)).await;
        assert!(done, "{text}");
        image
    }

    fn repository(&self) -> &str {
        self.0.trim_start_matches("localhost/").trim_end_matches(":1")
    }

    fn at(&self, registry: &str) -> String {
        format!("{registry}/{}:1", self.repository())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // By its id, so that the names which the pulls gave it go, too.
        let mut podman = podman();
        let found = podman.as_std_mut().args(["images", "--quiet", "--no-trunc", &self.0]).output();
        let id =
            found.map(|found| String::from_utf8_lossy(&found.stdout).trim().to_owned()).unwrap_or_default();
        let mut podman = cupbearer_testing::podman();
        let _ = podman.as_std_mut().args(["rmi", "--force", &id]).output();
    }
}

#[tokio::test]
async fn a_resumable_upload_goes_on_at_the_address_that_its_server_gave() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut command = node("programs/tus-server.mjs", Some("@tus/server"));
    command.arg(dir.path().join("uploads")).arg(address.to_string());
    let mut server = Program::spawn("tus-server", command, dir.path());
    server.until("listening", || listens(address)).await;
    let api = Api::before(address).await;
    let (proxy, _server) = proxy(&api.url(), "").await;
    let upload = async |at: &str| {
        let mut client = node("programs/tus-client.mjs", Some("tus-js-client"));
        client.arg(format!("{at}/uploads"));
        run(client).await.remove(0)
    };
    assert_eq!(upload(&api.url()).await["status"], 401);
    for at in [api.by_nginx(), proxy.url("")] {
        let before = api.refused();
        let told = upload(&at).await;
        let url = told["url"].as_str().unwrap_or_else(|| panic!("{at}: {told}"));
        assert!(url.starts_with(&format!("{at}/uploads/")), "{told}");
        assert_eq!(curl(&[url]).await.body.len(), 300_000);
        assert_eq!(api.refused(), before);
    }
}

/// A list of four pages, whose links have the API's own address, as GitHub's have.
fn pages(request: &Message, _: usize) -> Reply {
    if request.field("authorization").as_deref() != Some(CREDENTIALS) {
        return Reply::json(401, "{}");
    }
    let target = request.target();
    if target.starts_with("/api/v3/repos/o/r/issues?") || target.starts_with("/api/v3/repositories/7/issues?")
    {
        let page = target.split_once("&page=").map_or(1, |(_, page)| page.parse().unwrap());
        let host = request.field("host").unwrap();
        let at = |page: u32| format!("<http://{host}/api/v3/repositories/7/issues?per_page=1&page={page}>");
        let next = format!("{}; rel=\"next\", {}; rel=\"last\"", at(page + 1), at(4));
        let links = [("content-type", "application/json"), ("link", next.as_str())];
        let links = if page < 4 { &links[..] } else { &links[..1] };
        return Reply::new(200, links, format!("[{{\"number\":{page}}}]"));
    }
    Reply::json(404, "{}")
}

#[tokio::test]
async fn octokit_follows_the_pages_of_a_list_to_the_last() {
    let api = Origin::start(pages).await;
    let (whole, _server) = proxy(&api.url(), "").await;
    let server = Origin::issuing(300).await;
    let route = "[[routes]]\npath = \"/github\"\nstrip_prefix = true\nupstream = \"api\"\ntoken = \"api\"\n";
    let config = upstream_at(&(api.url() + "/api/v3")) + &token_at(&server.url()) + route;
    let below = Proxy::start(Config::new(config)).await;
    for (base, told) in [
        (api.url() + "/api/v3", json!({ "status": 401 })),
        (whole.url("/api/v3"), json!({ "items": [1, 2, 3, 4] })),
        (below.url("/github"), json!({ "items": [1, 2, 3, 4] })),
    ] {
        let mut client = node("programs/pages.mjs", Some("@octokit/core"));
        client.arg(&base);
        assert_eq!(run(client).await, [told], "{base}");
    }
}

#[tokio::test]
async fn rclone_copies_moves_and_deletes_files_of_a_webdav_server() {
    let api = Api::webdav().await;
    let (proxy, _server) = proxy(&api.url(), "").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file").display().to_string();
    fs::write(&file, "contents").unwrap();
    let rclone = async |at: &str, words: &[&str]| {
        let mut rclone = Program::peer("rclone", "rclone");
        rclone.env("HOME", dir.path()).args([
            "--config",
            "/dev/null",
            "--retries=1",
            "--low-level-retries=1",
        ]);
        outcome(rclone.args(["--webdav-vendor=other", "--webdav-url", at]).args(words)).await
    };
    assert!(!rclone(&api.url(), &["copyto", &file, ":webdav:a/one"]).await.0);
    for at in [api.by_nginx(), proxy.url("")] {
        let before = api.refused();
        for words in [
            &["copyto", &file, ":webdav:a/one"][..],
            &["moveto", ":webdav:a/one", ":webdav:a/two 2"],
            &["copyto", ":webdav:a/two 2", ":webdav:b/three"],
            &["moveto", ":webdav:a", ":webdav:c"],
            &["deletefile", ":webdav:b/three"],
        ] {
            let (done, text) = rclone(&at, words).await;
            assert!(done, "{at}: {words:?}: {text}");
        }
        let (_, list) = rclone(&at, &["lsf", "--recursive", "--files-only", ":webdav:"]).await;
        assert_eq!(list, "c/two 2\n", "{at}");
        assert_eq!(api.refused(), before, "{at}");
        assert!(rclone(&at, &["purge", ":webdav:c"]).await.0);
    }
    let moves = api.seen().iter().filter(|line| line.starts_with("20") && line.contains(" MOVE /a")).count();
    assert_eq!(moves, 4, "by the server, and not by a copy through rclone: {:#?}", api.seen());
}

/// A client that resolves no dot segments, built where that takes longer than its run.
fn paths(language: &str) -> Command {
    let peers = repository().join("tests/peers/programs");
    if language == "java" {
        let mut java = Program::peer("java", "default-jdk-headless");
        java.arg(peers.join("Paths.java"));
        java
    } else {
        let mut go = Program::peer("go", "golang-go");
        go.env("GOCACHE", repository().join(".peers/go")).env("GOFLAGS", "-mod=mod").arg("run");
        go.arg(peers.join("paths.go"));
        go
    }
}

#[tokio::test]
async fn java_and_go_send_paths_that_were_put_together_from_strings() {
    let api = Origin::start(|request, _| Reply::new(200, &[], request.target())).await;
    let (proxy, _server) = proxy(&api.url(), "").await;
    let targets = [
        ("/cargo/./x", "/cargo/x"),
        ("/a/../b/s?q=../z", "/b/s?q=../z"),
        ("/a/%2e/b", "/a/b"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/b/..", "/a/"),
    ];
    for language in ["java", "go"] {
        let mut client = paths(language);
        client.args(targets.map(|(path, _)| proxy.url(path)));
        let told = run(client).await;
        let expected: Vec<Value> =
            targets.iter().map(|(_, sent)| json!({ "status": 200, "body": sent })).collect();
        assert_eq!(told, expected, "{language}");
    }
    assert_eq!(api.authorizations().into_iter().collect::<Vec<_>>(), [(CREDENTIALS.to_owned(), 10)]);
}

/// A person sees of a failure what the tool shows: each has its own place for it.
#[tokio::test]
async fn tools_show_which_failure_of_the_proxy_it_was() {
    let proxy = without_token().await;
    let detail = curl(&[&proxy.url("/")]).await.json()["detail"].as_str().unwrap().to_owned();
    let mut by_node = node("programs/openai.mjs", Some("openai"));
    by_node.arg(proxy.url("/v1"));
    let mut by_python = python("programs/openai_sdk.py");
    by_python.arg(proxy.url("/v1"));
    for client in [by_node, by_python] {
        let told = run(client).await.remove(0);
        assert_eq!((&told["status"], &told["code"]), (&json!(503), &json!("token_unavailable")), "{told}");
        assert!(told["message"].as_str().is_some_and(|message| message.contains(&detail)), "{told}");
    }
    let home = TempDir::new().unwrap();
    let (_, text) = outcome(&mut npm(home.path(), &proxy.url(""), &["view", "left-pad"])).await;
    assert!(text.contains("503 Service Unavailable (cupbearer: token_unavailable)"), "{text}");
}
