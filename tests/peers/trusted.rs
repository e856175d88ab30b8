//! What proxies that people trust let through: the same requests sent through this one, nginx, HAProxy and nghttpx, each
//! before an origin that reads to the letter. `tests/peers/TABLE.md` has what came of them.
//!
//! What the others do is a record and no demand: another release may do otherwise, and only prints a line here.
//! `CUPBEARER_WRITE_TABLE=1` writes the table anew.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use cupbearer_testing::{Config, Origin, Program, Proxy, Record, Recorder, Wire};
use cupbearer_testing::{free_address, repository, token_at, upstream_at};

/// A request, and what this proxy must make of it.
struct Row {
    name: &'static str,
    request: &'static str,
    /// A field that the origin is to see or not; `None`: it is about the whole request.
    field: Option<&'static str>,
    ours: &'static str,
}

const ROWS: [Row; 10] = [
    Row {
        name: "a field that `Connection` names",
        request: "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: x-private\r\nX-Private: 1\r\n\r\n",
        field: Some("x-private"),
        ours: "removes it",
    },
    Row {
        name: "`Proxy-Authorization`",
        request: "GET / HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic eDp5\r\n\r\n",
        field: Some("proxy-authorization"),
        ours: "removes it",
    },
    Row {
        name: "`Upgrade: h2c`",
        request: "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                  HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        field: Some("upgrade"),
        ours: "removes it",
    },
    Row {
        name: "`OPTIONS` with `Max-Forwards: 0`",
        request: "OPTIONS / HTTP/1.1\r\nHost: {host}\r\nMax-Forwards: 0\r\n\r\n",
        field: None,
        ours: "answers it, 200",
    },
    Row {
        name: "`TRACE`",
        request: "TRACE / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        field: None,
        ours: "refuses, 405",
    },
    Row {
        name: "absolute-form for another host",
        request: "GET http://another.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
        field: None,
        ours: "refuses, 421",
    },
    Row {
        name: "a folded line (obs-fold)",
        request: "GET / HTTP/1.1\r\nHost: {host}\r\nX-A: 1\r\n 2\r\n\r\n",
        field: None,
        ours: "refuses, 400",
    },
    Row {
        name: "bare LF for line ends",
        request: "GET / HTTP/1.1\nHost: {host}\n\n",
        field: None,
        ours: "refuses, 400",
    },
    Row {
        name: "a chunk size with a space behind it",
        request: "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        field: None,
        ours: "refuses, 400",
    },
    Row {
        name: "both `Content-Length` and `Transfer-Encoding`",
        request: "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        field: None,
        ours: "refuses, 400",
    },
];

/// A proxy before an origin of its own.
struct Peer {
    name: &'static str,
    address: SocketAddr,
    origin: Recorder,
    _alive: Alive,
}

/// What ends with the peer.
enum Alive {
    Ours { _proxy: Box<Proxy>, _server: Origin },
    Theirs { _program: Program, _dir: TempDir },
}

impl Peer {
    async fn ours() -> Self {
        let (origin, server) = (Recorder::raw().await, Origin::issuing(300).await);
        let config = Config::one_route(&upstream_at(&origin.url()), &token_at(&server.url()));
        let proxy = Proxy::start(config).await;
        let address = proxy.listen();
        Self {
            name: "Cupbearer",
            address,
            origin,
            _alive: Alive::Ours { _proxy: Box::new(proxy), _server: server },
        }
    }

    /// A program with the configuration that `write` makes for an address to listen on and the origin's; `{at}` in it is
    /// its folder.
    async fn theirs(
        name: &'static str,
        [program, package]: [&'static str; 2],
        write: impl FnOnce(SocketAddr, &str) -> String,
        arguments: &[&str],
    ) -> Self {
        let (origin, dir, address) = (Recorder::raw().await, tempfile::tempdir().unwrap(), free_address());
        let file = dir.path().join("proxy.conf");
        let at = dir.path().display().to_string();
        fs::write(&file, write(address, &origin.authority()).replace("{at}", &at)).unwrap();
        let mut command: Command = Program::peer(program, package);
        command.args(arguments.iter().map(|word| word.replace("{file}", &file.display().to_string())));
        let mut running = Program::spawn(program, command, dir.path());
        running.until("listening", || async move { TcpStream::connect(address).await.is_ok() }).await;
        Self { name, address, origin, _alive: Alive::Theirs { _program: running, _dir: dir } }
    }

    async fn nginx() -> Self {
        let write = |address, origin: &str| {
            format!(
                "daemon off; master_process off; pid {{at}}/pid; error_log {{at}}/error.log;\n\
                 events {{ worker_connections 64; }}\n\
                 http {{ access_log off; client_body_temp_path {{at}}/a; proxy_temp_path {{at}}/b;\n\
                 fastcgi_temp_path {{at}}/c; uwsgi_temp_path {{at}}/d; scgi_temp_path {{at}}/e;\n\
                 server {{ listen {address}; location / {{ proxy_pass http://{origin}; proxy_http_version 1.1; }} }} }}\n"
            )
        };
        Self::theirs("nginx", ["nginx", "nginx"], write, &["-c", "{file}", "-e", "stderr"]).await
    }

    async fn haproxy() -> Self {
        let write = |address, origin: &str| {
            format!(
                "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
                 frontend all\n  bind {address}\n  default_backend origin\nbackend origin\n  server origin {origin}\n"
            )
        };
        Self::theirs("HAProxy", ["haproxy", "haproxy"], write, &["-db", "-f", "{file}"]).await
    }

    async fn nghttpx() -> Self {
        let write = |address: SocketAddr, origin: &str| {
            let (host, port) = origin.split_once(':').unwrap();
            format!(
                "frontend=127.0.0.1,{};no-tls\nbackend={host},{port}\nworkers=1\nerrorlog-file=/dev/stderr\n",
                address.port()
            )
        };
        Self::theirs("nghttpx", ["nghttpx", "nghttp2-proxy"], write, &["--conf={file}"]).await
    }

    /// What it makes of a request.
    async fn takes(&self, row: &Row) -> String {
        let from = self.origin.seen().len();
        let mut wire = Wire::connect(self.address).await;
        wire.send(row.request.replace("{host}", &self.address.to_string())).await;
        let status = wire.status(row.request.split(' ').next().unwrap_or_default()).await;
        // An origin that will not read a request writes that down as the connection ends.
        if !(200..400).contains(&status) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let seen = self.origin.seen().split_off(from);
        match (seen.iter().find(|record| **record != Record::Aborted), row.field) {
            (Some(Record::Malformed(_)), _) => "forwards it as it is, malformed".to_owned(),
            (Some(record), Some(field)) if record.all(field).is_empty() => "removes it".to_owned(),
            (Some(_), _) => "forwards it".to_owned(),
            (None, _) if (200..400).contains(&status) => format!("answers it, {status}"),
            (None, _) if status < 200 => "closes the connection".to_owned(),
            (None, _) => format!("refuses, {status}"),
        }
    }
}

#[tokio::test]
async fn what_trusted_proxies_get_wrong_is_right_here() {
    let peers = [Peer::ours().await, Peer::nginx().await, Peer::haproxy().await, Peer::nghttpx().await];
    let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
    let mut table = format!("{HEADER}\n| | {} |\n|---|---|---|---|---|\n", names.join(" | "));
    let mut wrong = Vec::new();
    for row in &ROWS {
        let mut cells = Vec::new();
        for peer in &peers {
            cells.push(peer.takes(row).await);
        }
        if cells[0] != row.ours {
            wrong.push(format!("{}: it {} and should be: {}", row.name, cells[0], row.ours));
        }
        writeln!(table, "| {} | {} |", row.name, cells.join(" | ")).unwrap();
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    let file = repository().join("tests/peers/TABLE.md");
    if std::env::var_os("CUPBEARER_WRITE_TABLE").is_some() {
        fs::write(&file, &table).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap();
    let rows = |table: &str| table.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows(&kept).len(), rows(&table).len(), "rows were added or taken away: write the table anew");
    for (kept, now) in rows(&kept).iter().zip(rows(&table)).filter(|(kept, now)| *kept != now) {
        let ours = |line: &str| line.split(" | ").take(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ours(kept), ours(&now), "what is ours differs from the table: write it anew");
        println!("another release of theirs does otherwise:\n  {kept}\n  {now}");
    }
}

const HEADER: &str = "# What proxies make of requests that are odd, out of date or wrong

Each request was sent to each proxy, in its plainest configuration, before an origin that reads HTTP/1.1 to the letter.
`tests/peers/trusted.rs` does it again in each run, and fails where the first column differs. The others are of the
releases in Debian 12; `CUPBEARER_WRITE_TABLE=1 cargo test --features peers --test peers what_trusted_proxies` writes the table anew.
";
