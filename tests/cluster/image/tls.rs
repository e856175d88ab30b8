//! TLS from inside a container: by authorities that are mounted, and by those of the image.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::Container;
use cupbearer_testing::{Answer, Config, Nginx, OidcProvider, SECRET, curl, eventually, upstream_at};

/// An API and an authorization server, each by a private authority of its own, and the folder that is mounted.
struct Peers {
    api: Nginx,
    server: OidcProvider,
    dir: TempDir,
}

impl Peers {
    async fn start() -> Self {
        let (api, server) = tokio::join!(Nginx::start(), OidcProvider::start_tls(60));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("client_secret"), SECRET).unwrap();
        let [of_api, of_server] =
            [api.ca(), server.certificates().ca.display().to_string()].map(|ca| fs::read(ca).unwrap());
        fs::write(dir.path().join("api.pem"), &of_api).unwrap();
        fs::write(dir.path().join("login.pem"), &of_server).unwrap();
        fs::write(dir.path().join("both.pem"), [of_api, of_server].concat()).unwrap();
        Self { api, server, dir }
    }

    /// The program in front of them, with more lines for the upstream and the token, and more words for podman.
    async fn proxy(&self, upstream: &str, token: &str, more: &[&str]) -> Proxy {
        let upstream = upstream_at(&self.api.tls_url()) + upstream;
        let token = self.server.token(
            "api",
            &format!(
                "grant = \"client_credentials\"\nclient_id = \"orders\"\nclient_auth = \"client_secret_basic\"\n\
                 client_secret_file = \"client_secret\"\nwait = \"500ms\"\n{token}"
            ),
        );
        let open = "[[routes]]\npath = \"/open\"\nupstream = \"api\"\ntoken = \"none\"\n";
        let config = Config::one_route(&upstream, &(token + open));
        let (container, listen) = Container::with(&config, self.dir.path(), more).await;
        eventually("it listens", || async { TcpStream::connect(listen).await.is_ok() }).await;
        Proxy { container, listen }
    }
}

struct Proxy {
    container: Container,
    listen: SocketAddr,
}

impl Proxy {
    async fn get(&self, path: &str) -> Answer {
        curl(&[&format!("http://{}{path}", self.listen)]).await
    }

    /// Both are spoken to.
    async fn assert_trusting(&self) {
        self.container.wait().await;
        let answer = self.get("/").await;
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.container.log().await);
        assert!(answer.field("saw-authorization").is_some_and(|sent| sent.starts_with("Bearer ")));
    }
}

#[tokio::test]
async fn private_authorities_are_trusted_by_the_files_that_are_mounted() {
    let peers = Peers::start().await;
    let proxy = peers.proxy("ca_file = \"api.pem\"\n", "ca_file = \"login.pem\"\n", &[]).await;
    proxy.assert_trusting().await;
}

#[tokio::test]
async fn whom_the_image_s_authorities_do_not_vouch_for_is_refused_by_name() {
    let peers = Peers::start().await;
    let proxy = peers.proxy("", "", &[]).await;
    let answer = proxy.get("/open").await;
    answer.assert_proxy_error(502);
    assert_eq!(answer.proxy_error(), Some("upstream_tls"));
    proxy.get("/").await.assert_proxy_error(503);
    let log = proxy.container.log().await;
    assert!(
        log.contains("the certificate comes from an unknown issuer; name its authority in `ca_file`"),
        "{log}"
    );
    assert_eq!(peers.server.token_requests().await, 0, "no secret goes to a server that is not trusted");
}

#[tokio::test]
async fn without_a_ca_file_the_authorities_at_debian_s_place_in_the_image_are_the_ones_that_count() {
    let peers = Peers::start().await;
    let bundle = peers.dir.path().join("both.pem");
    let instead = format!("--volume={}:/etc/ssl/certs/ca-certificates.crt:ro", bundle.display());
    let proxy = peers.proxy("", "", &[&instead]).await;
    proxy.assert_trusting().await;
}
