//! The protected API: nginx, which demands a bearer token and tells what it saw.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::certificate::Certificates;
use super::program::{Program, free_address};

/// A running nginx, in the clear and over TLS.
#[derive(Debug)]
pub struct Nginx {
    program: Program,
    processes: Processes,
    dir: TempDir,
    plain: SocketAddr,
    tls: SocketAddr,
    h2c: SocketAddr,
    certificates: Certificates,
}

/// How many processes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Processes {
    One,
    Master,
}

/// One request as nginx logged it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it ended, in seconds since 1970.
    pub at: f64,
    pub status: u16,
    /// The serial number of its connection.
    pub connection: u64,
    /// The `Authorization` field; `-`: none.
    pub authorization: String,
}

/// Runs nginx in `dir` by this `configuration`, and waits until it listens at all `addresses`.
pub async fn run_nginx(dir: &Path, configuration: &str, addresses: &[SocketAddr]) -> Program {
    let file = dir.join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Program::peer("nginx", "nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&file);
    let mut program = Program::spawn("nginx", command, dir);
    for address in addresses {
        program.until("listening", || async move { TcpStream::connect(address).await.is_ok() }).await;
    }
    program
}

/// Room for any head that the proxy lets through.
const LARGE_HEADS: &str = "large_client_header_buffers 8 64k;";

impl Nginx {
    /// With idle connections kept for long.
    pub async fn start() -> Self {
        Self::keeping_alive("75s").await
    }

    /// With idle connections closed after `keepalive_timeout`.
    pub async fn keeping_alive(keepalive_timeout: &str) -> Self {
        Self::launch(keepalive_timeout, Processes::One, LARGE_HEADS).await
    }

    /// With a master process and workers, as it runs in production: it can be [reloaded](Self::reload).
    pub async fn reloadable() -> Self {
        Self::launch("75s", Processes::Master, LARGE_HEADS).await
    }

    /// With lines of the test's own, and its own limits of a request's head.
    pub async fn with(lines: &str) -> Self {
        Self::launch("75s", Processes::One, lines).await
    }

    async fn launch(keepalive_timeout: &str, processes: Processes, lines: &str) -> Self {
        let (master, user) = match processes {
            Processes::One => ("off", ""),
            // Its workers write into the test's folder, which is the user's own.
            Processes::Master if rustix::process::getuid().is_root() => ("on", "user root;"),
            Processes::Master => ("on", ""),
        };
        let dir = tempfile::tempdir().unwrap();
        let [plain, tls, h2c] = [free_address(), free_address(), free_address()];
        let certificates = Certificates::for_loopback(dir.path());
        fs::create_dir(dir.path().join("www")).unwrap();
        let at = dir.path().display();
        // A directive may stand once.
        let keepalive_requests =
            if lines.contains("keepalive_requests") { "" } else { "keepalive_requests 100000000;" };
        let configuration = format!(
            r#"
            daemon off; master_process {master}; pid {at}/nginx.pid; error_log {at}/error.log;
            {user}
            events {{ worker_connections 8192; }}
            http {{
                log_format seen '$msec $status $connection $http_authorization';
                access_log {at}/access.log seen;
                client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
                uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                keepalive_timeout {keepalive_timeout}; {keepalive_requests} client_max_body_size 0;
                {lines}
                map $http_authorization $let_in {{ default 0; "~^Bearer [A-Za-z0-9._~+/-]+=*$" 1; }}
                server {{
                    listen {plain} backlog=4096;
                    listen {tls} ssl http2 backlog=4096;
                    listen {h2c} http2;
                    ssl_certificate {certificate}; ssl_certificate_key {key};
                    add_header Saw-Authorization $http_authorization;
                    add_header Saw-Protocol $server_protocol;
                    add_header Saw-Host $http_host;
                    add_header Saw-Via $http_via;
                    add_header Saw-Connection $connection;
                    if ($let_in = 0) {{ return 401; }}
                    location / {{ return 200 "$request_method $request_uri\n"; }}
                    location = /empty {{ return 204; }}
                    location = /unchanged {{ return 304; }}
                    location = /moved {{ return 302 http://elsewhere.example/; }}
                    location = /forbidden {{ return 403; }}
                    location = /small {{ client_max_body_size 1k; return 200; }}
                    location = /chunked {{
                        alias {at}/www/pieces; default_type text/plain;
                        sub_filter_types text/plain; sub_filter 'part' 'piece'; sub_filter_once off;
                    }}
                    location /gzip/ {{
                        alias {at}/www/; default_type text/plain; gzip on; gzip_types text/plain; gzip_min_length 1;
                    }}
                    location /gzip-proxied/ {{
                        alias {at}/www/; default_type text/plain; gzip on; gzip_types text/plain; gzip_min_length 1;
                        gzip_proxied any;
                    }}
                    location /dav/ {{
                        root {at}/www; dav_methods PUT DELETE MKCOL COPY MOVE; create_full_put_path on;
                    }}
                    location /slow/ {{ alias {at}/www/; limit_rate 10k; }}
                    location /files/ {{ alias {at}/www/; dav_methods PUT; }}
                }}
            }}
            "#,
            certificate = certificates.certificate.display(),
            key = certificates.key.display(),
        );
        fs::write(dir.path().join("www/pieces"), "part 0\npart 1\npart 2\n").unwrap();
        let program = run_nginx(dir.path(), &configuration, &[plain, tls]).await;
        Self { program, processes, dir, plain, tls, h2c, certificates }
    }

    /// Its address in the clear.
    pub fn url(&self) -> String {
        format!("http://{}", self.plain)
    }

    /// Its address over TLS, which needs [`Self::ca`].
    pub fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.tls.port())
    }

    /// Its address for HTTP/2 without asking.
    pub fn h2c_url(&self) -> String {
        format!("http://{}", self.h2c)
    }

    /// The authority of its certificate.
    pub fn ca(&self) -> String {
        self.certificates.ca.display().to_string()
    }

    /// New workers take the place of the old ones, which end once they have answered what they have.
    pub fn reload(&self) {
        self.program.signal(Signal::HUP);
    }

    /// A file of so many bytes at `/files/NAME`.
    pub fn add_file(&self, name: &str, bytes: u64) {
        fs::File::create(self.dir.path().join("www").join(name)).unwrap().set_len(bytes).unwrap();
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines()
            .map(|line| {
                let mut words = line.splitn(4, ' ');
                let mut next = || words.next().unwrap_or_else(|| panic!("half a line: {line:?}"));
                Seen {
                    at: next().parse().unwrap(),
                    status: next().parse().unwrap(),
                    connection: next().parse().unwrap(),
                    authorization: next().to_owned(),
                }
            })
            .collect()
    }
}

impl Drop for Nginx {
    /// A master that is killed leaves its workers behind; asked to end, it ends them.
    fn drop(&mut self) {
        if self.processes == Processes::Master {
            self.program.end_in_order();
        }
    }
}
