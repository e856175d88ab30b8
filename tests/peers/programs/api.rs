//! A server of others' making as a protected API: behind an nginx that takes no request without the token.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use cupbearer_testing::{CREDENTIALS, Program, free_address, run_nginx};

/// The running API.
pub(super) struct Api {
    _program: Program,
    dir: TempDir,
    demanding: SocketAddr,
    attaching: SocketAddr,
}

impl Api {
    /// In front of the server at `address`.
    pub(super) async fn before(address: SocketAddr) -> Self {
        let passed = "proxy_set_header Host $http_host; proxy_set_header Authorization \"\";";
        Self::start("", &format!("proxy_pass http://{address}; {passed}")).await
    }

    /// nginx itself, as a server of `WebDAV` with listings.
    pub(super) async fn webdav() -> Self {
        let module = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so";
        assert!(
            Path::new(module).is_file(),
            "{module} is missing, and this test needs it: apt-get install libnginx-mod-http-dav-ext"
        );
        let methods = "dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS;";
        Self::start(
            &format!("load_module {module};"),
            &format!("root www; {methods} create_full_put_path on;"),
        )
        .await
    }

    async fn start(module: &str, location: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [demanding, attaching] = [free_address(), free_address()];
        let at = dir.path().display();
        let location = location.replace("root www", &format!("root {at}/www"));
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let configuration = format!(
            r#"
            {module} {user} daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;
            events {{ }}
            http {{
                log_format seen '$status $request_method $request_uri';
                client_body_temp_path {at}/www/.body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
                uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi; client_max_body_size 0;
                proxy_http_version 1.1; proxy_request_buffering off;
                map $http_authorization $let_in {{ default 0; "{CREDENTIALS}" 1; }}
                server {{
                    listen {demanding};
                    access_log {at}/access.log seen;
                    if ($let_in = 0) {{ return 401; }}
                    location / {{ {location} }}
                }}
                server {{
                    listen {attaching};
                    access_log off;
                    location / {{
                        proxy_pass http://{demanding};
                        proxy_set_header Host $http_host;
                        proxy_set_header Authorization "{CREDENTIALS}";
                    }}
                }}
            }}
            "#,
        );
        fs::create_dir(dir.path().join("www")).unwrap();
        let program = run_nginx(dir.path(), &configuration, &[demanding, attaching]).await;
        Self { _program: program, dir, demanding, attaching }
    }

    /// Its address.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.demanding)
    }

    /// The address of an nginx that attaches the token and passes the application's Host.
    pub(super) fn by_nginx(&self) -> String {
        format!("http://{}", self.attaching)
    }

    /// Its requests so far: status, method and target.
    pub(super) fn seen(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().map(ToOwned::to_owned).collect()
    }

    /// How many requests it refused so far, as the token was missing.
    pub(super) fn refused(&self) -> usize {
        self.seen().iter().filter(|line| line.starts_with("401 ")).count()
    }
}

/// Whether a server is there.
pub(super) async fn listens(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}
