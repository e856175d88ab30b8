//! The way to the API: Unix sockets, HTTP proxies, names in TLS, sessions, and authorities that are replaced.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use cupbearer_testing::{
    CREDENTIALS, Certificates, Config, Origin, Program, Proxy, Tinyproxy, curl, eventually, free_address,
    h2load, run_nginx, token_at, upstream_at,
};

/// nginx on two Unix sockets and two ports, with a certificate for each of two names. Each connection is good for so many
/// requests.
struct Api {
    _program: Program,
    dir: TempDir,
    plain: SocketAddr,
    tls: SocketAddr,
    outer: Certificates,
    inner: Certificates,
}

impl Api {
    async fn start(requests_per_connection: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [plain, tls] = [free_address(), free_address()];
        let certificates = ["localhost", "inner.test"].map(|name| {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            Certificates::for_names(&[name], &folder)
        });
        let at = dir.path().display();
        let common = r#"
            add_header Saw-Authorization $http_authorization; add_header Saw-Host $http_host;
            add_header Saw-Proxy-Authorization $http_proxy_authorization;
            add_header Saw-Protocol $server_protocol; add_header Saw-Name $ssl_server_name;
            add_header Saw-Session $ssl_session_reused;
            location / { return 200 "$request_method $request_uri\n"; }
            location = /token {
                default_type application/json;
                return 200 '{"access_token":"token-0","token_type":"Bearer","expires_in":300}';
            }"#;
        let server = |name: &str, files: &Certificates, default: &str| {
            format!(
                "server {{ server_name {name}; listen {plain} {default}; listen {tls} ssl http2 {default}; \
                 listen unix:{at}/plain.sock {default}; listen unix:{at}/tls.sock ssl http2 {default}; \
                 ssl_certificate {}; ssl_certificate_key {}; {common} \
                 location /slow/ {{ alias {at}/; limit_rate 64k; }} }}",
                files.certificate.display(),
                files.key.display(),
            )
        };
        let configuration = format!(
            "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log; \
             events {{ worker_connections 1024; }} \
             http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; \
             fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi; \
             keepalive_requests {requests_per_connection}; {} {} }}",
            server("localhost", &certificates[0], "default_server"),
            server("inner.test", &certificates[1], ""),
        );
        fs::File::create(dir.path().join("file")).unwrap().set_len(256 * 1024).unwrap();
        let program = run_nginx(dir.path(), &configuration, &[tls]).await;
        let [outer, inner] = certificates;
        Self { _program: program, dir, plain, tls, outer, inner }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its address over TLS, with the authority of its certificate.
    fn tls_upstream(&self) -> String {
        upstream_at(&format!("https://localhost:{}", self.tls.port())) + &ca(&self.outer.ca)
    }
}

fn ca(file: &Path) -> String {
    format!("ca_file = '{}'\n", file.display())
}

/// A proxy with a token before this upstream, and the authorization server.
async fn before(upstream: &str) -> (Origin, Proxy) {
    let server = Origin::issuing(300).await;
    let proxy = Proxy::start(Config::one_route(upstream, &token_at(&server.url()))).await;
    (server, proxy)
}

/// An HTTP proxy of the test's own: it sends every tunnel to one address, whatever name was asked for.
struct Detour {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Detour {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = client.read_u8().await else { return };
                        head.push(byte);
                    }
                    record.lock().unwrap().push(String::from_utf8(head).unwrap());
                    let mut target = TcpStream::connect(target).await.unwrap();
                    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut target).await;
                });
            }
        });
        Self { address, asked, task }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn an_api_on_a_unix_socket_is_spoken_to_as_its_url_says() {
    let api = Api::start(1000).await;
    let socket = |name: &str| format!("socket = '{}'\n", api.socket(name).display());
    let upstream = upstream_at("http://api.internal/base") + &socket("plain.sock");
    let (_server, proxy) = before(&upstream).await;
    let answer = proxy.get("/orders?a").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /base/orders?a\n"), "{answer:?}");
    assert_eq!(answer.field("saw-authorization"), Some(CREDENTIALS));
    assert_eq!(answer.field("saw-host"), Some("api.internal"));
    h2load(&["--h1", "-n2000", "-c16", &proxy.url("/")]).await.assert_flawless(2000);
    let check = proxy.command(&["check", "--online"]).await;
    assert!(String::from_utf8_lossy(&check.stdout).contains("took a connection"), "{check:?}");

    let upstream = upstream_at("https://inner.test") + &ca(&api.inner.ca) + &socket("tls.sock");
    let (_server, proxy) = before(&upstream).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status, answer.field("saw-protocol")), (200, Some("HTTP/2.0")), "{answer:?}");
    assert_eq!(answer.field("saw-name"), Some("inner.test"));
}

#[tokio::test]
async fn a_socket_where_nobody_listens_says_so_and_counts_as_soon_as_somebody_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let upstream = upstream_at("http://api.internal") + &format!("socket = '{}'\n", path.display());
    let (_server, proxy) = before(&upstream).await;
    proxy.get("/").await.assert_proxy_error(502);
    assert!(proxy.log().contains("its Unix socket does not exist"), "{}", proxy.log());
    let api = Api::start(1000).await;
    fs::rename(api.socket("plain.sock"), &path).unwrap();
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn a_named_proxy_is_asked_for_a_tunnel_and_never_sees_a_request() {
    let api = Api::start(1000).await;
    let way = Tinyproxy::start(&[api.tls.port(), api.plain.port()]).await;
    let proxy_line = format!("proxy = \"{}\"\n", way.url("alice:wonderland"));
    let (_server, proxy) = before(&(api.tls_upstream() + &proxy_line)).await;
    let answer = proxy.get("/orders").await;
    assert_eq!((answer.status, answer.field("saw-protocol")), (200, Some("HTTP/2.0")), "{answer:?}");
    assert_eq!(answer.field("saw-authorization"), Some(CREDENTIALS));
    assert_eq!(answer.field("saw-proxy-authorization"), None);
    h2load(&["--h1", "-n1000", "-c8", &proxy.url("/")]).await.assert_flawless(1000);
    eventually("the proxy has a line for the tunnel", || async {
        way.log().contains(&format!("CONNECT localhost:{}", api.tls.port()))
    })
    .await;
    assert!(proxy.log().contains("through an HTTP proxy") && !proxy.log().contains("wonderland"));

    // In the clear it is a tunnel too.
    let (_server, proxy) = before(&(upstream_at(&format!("http://{}", api.plain)) + &proxy_line)).await;
    assert_eq!(proxy.get("/orders").await.text(), "GET /orders\n");
    eventually("that is a tunnel", || async { way.log().contains(&format!("CONNECT {}", api.plain)) }).await;
    assert!(!way.log().contains("GET"), "{}", way.log());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_of_by_its_status() {
    let api = Api::start(1000).await;
    let way = Tinyproxy::start(&[1]).await;
    for (url, words) in [
        (way.url("alice:sentinel"), "the HTTP proxy on the way demands other credentials (status 40"),
        (
            way.url("alice:wonderland"),
            "the HTTP proxy on the way does not allow this destination (status 403)",
        ),
        (format!("http://{}", free_address()), "the HTTP proxy on the way cannot be reached"),
        (format!("http://{}", api.tls), "the HTTP proxy on the way did not respond in HTTP"),
    ] {
        let (_server, proxy) = before(&(api.tls_upstream() + &format!("proxy = \"{url}\"\n"))).await;
        let answer = proxy.get("/").await;
        answer.assert_proxy_error(502);
        assert_eq!(answer.proxy_error(), Some("upstream_unreachable"), "{url}");
        let log = proxy.log();
        // What speaks TLS may answer in the clear that it does.
        let other =
            url.ends_with(&api.tls.to_string()) && log.contains("refused to open a tunnel (status 400)");
        assert!(log.contains(words) || other, "{words} in {log}");
        assert!(!log.contains("sentinel") && !log.contains("wonderland"), "{log}");
    }
}

#[tokio::test]
async fn the_environments_proxy_counts_except_where_it_says_otherwise_and_for_this_machine() {
    let api = Api::start(1000).await;
    let way = Detour::to(api.tls).await;
    let variable = format!("http://alice:wonder%20land@{}", way.address);
    let run = |upstream: String, variables: &'static [(&'static str, &'static str)]| {
        let variable = variable.clone();
        async move {
            let server = Origin::issuing(300).await;
            let mut config = Config::one_route(&upstream, &token_at(&server.url()));
            config = config.environment("HTTPS_PROXY", &variable);
            for (name, value) in variables {
                config = config.environment(name, value);
            }
            let proxy = Proxy::start(config).await;
            (proxy.get("/").await, server, proxy)
        }
    };
    let upstream = upstream_at("https://inner.test") + &ca(&api.inner.ca);
    let (answer, ..) = run(upstream.clone(), &[]).await;
    assert_eq!((answer.status, answer.field("saw-host")), (200, Some("inner.test")), "{answer:?}");
    let asked = way.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    // alice:wonder land
    assert_eq!(
        asked[0],
        "CONNECT inner.test:443 HTTP/1.1\r\nHost: inner.test:443\r\n\
         proxy-authorization: Basic YWxpY2U6d29uZGVyIGxhbmQ=\r\n\r\n"
    );
    let (answer, ..) = run(upstream.clone(), &[("NO_PROXY", "example.com, .test")]).await;
    answer.assert_proxy_error(502);
    let (answer, ..) = run(upstream + "proxy = \"none\"\n", &[]).await;
    answer.assert_proxy_error(502);
    let (answer, ..) = run(api.tls_upstream(), &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(way.asked().len(), 1, "{:?}", way.asked());
}

#[tokio::test]
async fn tokens_take_the_proxies_of_the_environment_as_upstreams_do() {
    let server = Api::start(1000).await;
    let api = Origin::ok().await;
    let way = Detour::to(server.tls).await;
    let token = token_at("https://inner.test/token") + &ca(&server.inner.ca);
    let variable = format!("http://alice:wonder%20land@{}", way.address);
    let tried = |token: String, variables: &'static [(&'static str, &'static str)]| {
        let mut config = Config::one_route(&upstream_at(&api.url()), &token);
        for name in ["HTTPS_PROXY", "https_proxy"] {
            if variables.iter().all(|(set, _)| *set != name) {
                config = config.environment(name, &variable);
            }
        }
        for (name, value) in variables {
            config = config.environment(name, value);
        }
        async move { config.checked_online().await.1 }
    };
    let works = |said: &str| said.contains("the authorization server gave a token");
    for variables in [&[("HTTPS_PROXY", "")], &[("https_proxy", "")]] {
        let said = tried(token.clone(), variables).await;
        assert!(works(&said), "{said}");
    }
    let asked = way.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].starts_with("CONNECT inner.test:443 HTTP/1.1\r\n"), "{asked:?}");
    // alice:wonder land
    assert!(asked[0].contains("proxy-authorization: Basic YWxpY2U6d29uZGVyIGxhbmQ=\r\n"), "{asked:?}");
    for variables in [&[("NO_PROXY", "example.com, .test")], &[("no_proxy", "inner.test")]] {
        let said = tried(token.clone(), variables).await;
        assert!(said.contains("the host name does not resolve"), "{said}");
    }
    let said = tried(token.clone() + "proxy = \"none\"\n", &[]).await;
    assert!(said.contains("the host name does not resolve"), "{said}");
    assert!(!said.contains("wonder"), "{said}");
    // Never for this machine.
    let near = token_at(&format!("https://localhost:{}/token", server.tls.port())) + &ca(&server.outer.ca);
    let said = tried(near, &[]).await;
    assert!(works(&said), "{said}");
    assert_eq!(way.asked().len(), 2);
    // What is no proxy does not count as none.
    let said = tried(token, &[("HTTPS_PROXY", "socks5://127.0.0.1:1")]).await;
    assert!(said.contains("HTTPS_PROXY names a SOCKS proxy"), "{said}");
}

#[tokio::test]
async fn all_proxy_counts_where_no_other_variable_names_a_proxy() {
    let api = Api::start(1000).await;
    let [way, other] = [Detour::to(api.tls).await, Detour::to(api.tls).await];
    let keys = ca(&api.inner.ca);
    let upstream = upstream_at("https://inner.test") + &keys;
    let token = token_at("https://inner.test/token") + &keys;
    let config = || {
        let config = Config::one_route(&upstream, &token);
        config.environment("ALL_PROXY", &format!("http://{}", way.address))
    };
    for config in [config(), config().environment("HTTP_PROXY", &format!("http://{}", other.address))] {
        let said = config.checked_online().await.1;
        assert!(said.contains("the configuration is good and works"), "{said}");
    }
    assert_eq!((way.asked().len(), other.asked().len()), (4, 0));
    let named = config().environment("HTTPS_PROXY", &format!("http://{}", other.address));
    let said = named.checked_online().await.1;
    assert!(said.contains("the configuration is good and works"), "{said}");
    assert_eq!((way.asked().len(), other.asked().len()), (4, 2));
    for spared in ["other.test:443,inner.test:443", "a.test *.test", "Inner.Test."] {
        let said = config().environment("NO_PROXY", spared).checked_online().await.1;
        for words in ["the host name does not resolve", "its name cannot be resolved"] {
            assert!(said.contains(words), "{spared}: {said}");
        }
    }
    assert_eq!((way.asked().len(), other.asked().len()), (4, 2));
}

#[tokio::test]
async fn a_proxy_between_is_worded_alike_for_tokens_and_upstreams() {
    let api = Api::start(1000).await;
    let nowhere = free_address().port();
    let way = Tinyproxy::start(&[api.tls.port(), nowhere]).await;
    let closed = Tinyproxy::start(&[1]).await;
    let run = |port: u16, proxy: String| {
        let keys = ca(&api.outer.ca) + &format!("proxy = \"{proxy}\"\n");
        let at = format!("https://localhost:{port}");
        let config =
            Config::one_route(&(upstream_at(&at) + &keys), &(token_at(&format!("{at}/token")) + &keys));
        async move { config.checked_online().await.1 }
    };
    let said = run(api.tls.port(), way.url("alice:wonderland")).await;
    assert!(said.contains("the configuration is good and works"), "{said}");
    eventually("tunnels alone", || async { way.log().matches("CONNECT localhost").count() == 2 }).await;
    for (port, proxy, what) in [
        (api.tls.port(), way.url("alice:sentinel"), "demands other credentials (status 40"),
        (api.tls.port(), closed.url("alice:wonderland"), "does not allow this destination (status 403)"),
        (nowhere, way.url("alice:wonderland"), "has no connection to the destination (status 50"),
        (api.tls.port(), format!("http://{}", free_address()), "cannot be reached"),
    ] {
        let said = run(port, proxy).await;
        let what = format!("the HTTP proxy on the way {what}");
        assert_eq!(said.matches(&what).count(), 2, "{what} in {said}");
        assert!(!said.contains("sentinel") && !said.contains("wonderland"), "{said}");
    }
}

#[tokio::test]
async fn another_server_name_is_asked_for_and_checked() {
    let api = Api::start(1000).await;
    let url = upstream_at(&format!("https://localhost:{}", api.tls.port())) + &ca(&api.inner.ca);
    let (_server, proxy) = before(&(url.clone() + "server_name = \"inner.test\"\n")).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status, answer.field("saw-name")), (200, Some("inner.test")), "{answer:?}");
    assert_eq!(answer.field("saw-host"), Some(format!("localhost:{}", api.tls.port()).as_str()));
    // The certificate that comes is for another name.
    let url = upstream_at(&format!("https://localhost:{}", api.tls.port())) + &ca(&api.outer.ca);
    let (_server, proxy) = before(&(url + "server_name = \"elsewhere.test\"\n")).await;
    proxy.get("/").await.assert_proxy_error(502);
    assert!(proxy.log().contains("the certificate is for another name"), "{}", proxy.log());
}

#[tokio::test]
async fn tls_sessions_are_resumed_by_whichever_worker() {
    let api = Api::start(1).await;
    for http2 in ["never", "auto"] {
        let upstream = api.tls_upstream() + &format!("http2 = \"{http2}\"\n");
        let server = Origin::issuing(300).await;
        let config = Config::one_route(&upstream, &token_at(&server.url())).server("workers = 3");
        let proxy = Proxy::start(config).await;
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..30 {
            let answer = proxy.get("/").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            *kinds.entry(answer.field("saw-session").unwrap_or("").to_owned()).or_default() += 1;
        }
        println!("{http2}: {kinds:?}");
        assert!(kinds.get("r").is_some_and(|resumed| *resumed >= 25), "{http2}: {kinds:?}");
    }
}

#[tokio::test]
async fn authorities_are_replaced_without_a_request_dropped_and_bad_ones_keep_the_old() {
    let api = Api::start(1000).await;
    let file = api.dir.path().join("trusted.pem");
    fs::copy(&api.outer.ca, &file).unwrap();
    let upstream = upstream_at(&format!("https://localhost:{}", api.tls.port())) + &ca(&file);
    let (_server, proxy) = before(&upstream).await;
    assert_eq!(proxy.get("/").await.status, 200);

    let url = proxy.url("/slow/file");
    let slow = tokio::spawn(async move { curl(&[&url]).await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    fs::write(&file, "no certificate").unwrap();
    eventually("the bad one is refused", || async { proxy.log().contains("the old one stays in force") })
        .await;
    assert!(proxy.log().contains("upstreams.api.ca_file"), "{}", proxy.log());
    assert_eq!(proxy.get("/").await.status, 200);

    fs::copy(&api.inner.ca, &file).unwrap();
    eventually("new connections trust the other", || async { proxy.get("/").await.status == 502 }).await;
    let both = [&api.inner.ca, &api.outer.ca].map(|file| fs::read_to_string(file).unwrap()).concat();
    fs::write(&file, both).unwrap();
    eventually("and both", || async { proxy.get("/").await.status == 200 }).await;
    let slow = slow.await.unwrap();
    assert_eq!((slow.status, slow.body.len()), (200, 256 * 1024), "{}", proxy.log());
}

#[tokio::test]
async fn a_token_outlives_the_change_of_its_servers_authorities_while_the_server_is_down() {
    let (server, api) = (Api::start(1000).await, Origin::ok().await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trusted.pem");
    fs::copy(&server.outer.ca, &file).unwrap();
    let token = token_at(&format!("https://localhost:{}/token", server.tls.port())) + &ca(&file);
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token)).await;
    assert_eq!(proxy.get("/").await.status, 200);
    let other = fs::read(&server.inner.ca).unwrap();
    drop(server);
    fs::write(&file, other).unwrap();
    eventually("the change counts", || async { proxy.log().contains("the configuration was reloaded") })
        .await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    }
    eventually("the new way was tried", || async {
        proxy.metric("cupbearer_token_renewals_total", &["result=\"error\""]).await > 0.0
            || proxy.log().contains("renewal failed")
            || proxy.status().await.to_string().contains("degraded")
    })
    .await;
    assert_eq!(api.authorizations().into_keys().collect::<Vec<_>>(), [CREDENTIALS]);
}
