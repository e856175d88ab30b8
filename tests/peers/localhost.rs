//! `localhost` as programs have it: Node.js 17 to 19, and others, try `::1` and nothing else.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};

use serde_json::Value;

use cupbearer_testing::{
    Config, Origin, Program, Proxy, cupbearer, curl, free_address, token_at, upstream_at,
};

const SERVER: &str = "CUPBEARER__SERVER__LISTEN";
const CONTROL: &str = "CUPBEARER__CONTROL__LISTEN";

async fn between() -> (Origin, Origin, Config) {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    (api, server, config)
}

/// What Node.js gets for `http://localhost:port/path` where it tries the address of `family` alone. Not every machine's
/// `/etc/hosts` has localhost in both families.
async fn node(family: u8, port: u16, path: &str) -> (u16, String) {
    let script = "const [family, port, path] = process.argv.slice(1);\n\
        const host = family === '6' ? '::1' : '127.0.0.1';\n\
        const headers = { host: 'localhost:' + port };\n\
        require('node:http').get({ host, port, path, headers }, (response) => {\n\
            let text = '';\n\
            response.on('data', (part) => { text += part; });\n\
            response.on('end', () => console.log(JSON.stringify([response.statusCode, text])));\n\
        });";
    let mut command = Program::peer("node", "nodejs");
    let output =
        command.args(["-e", script, &family.to_string(), &port.to_string(), path]).output().await.unwrap();
    let read: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (u16::try_from(read[0].as_u64().unwrap()).unwrap(), read[1].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_program_that_tries_one_family_alone_reaches_proxy_and_control_at_localhost() {
    let (_api, _server, config) = between().await;
    let (port, control) = (free_address().port(), free_address().port());
    let config =
        config.environment(SERVER, &format!("localhost:{port}")).environment(CONTROL, &control.to_string());
    let proxy = Proxy::start(config).await;
    for family in [4, 6] {
        assert_eq!(node(family, port, "/").await, (200, "ok".to_owned()), "{family}: {}", proxy.log());
        let (status, shown) = node(family, control, "/status").await;
        assert!(status == 200 && shown.contains("\"valid\""), "{family}: {shown}");
    }
    // What the guard refuses it refuses at both.
    for host in ["127.0.0.1", "[::1]"] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(curl(&[&url, "--header", "Origin: http://elsewhere.example"]).await.status, 403, "{host}");
        assert_eq!(curl(&[&url, "--header", "Host: elsewhere.example"]).await.status, 421, "{host}");
    }
    let control_urls =
        [format!("127.0.0.1:{control}"), format!("[::1]:{control}"), format!("localhost:{control}")];
    for address in &control_urls {
        let output = cupbearer().args(["status", "--control", address]).output().await.unwrap();
        assert!(output.status.success(), "{address}: {output:?}");
    }
    let (status, log) = proxy.terminate().await;
    assert_eq!(status.code(), Some(0), "{log}");
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("[::1]:{control}")] {
        assert!(log.contains(&address), "{address} is printed: {log}");
    }
}

#[tokio::test]
async fn an_explicit_address_is_that_address_alone() {
    let (_api, _server, config) = between().await;
    let proxy = Proxy::start(config).await;
    for port in [proxy.listen().port(), proxy.control().port()] {
        let other = std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port));
        assert!(other.is_err(), "{port}: {other:?}");
    }
}

#[tokio::test]
async fn localhost_is_taken_where_another_program_has_one_of_its_addresses() {
    let (_api, _server, config) = between().await;
    let other = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, config.render([free_address(), free_address(), free_address()])).unwrap();
    for variable in [SERVER, CONTROL] {
        let mut command = cupbearer();
        command.args(["run", "--config"]).arg(&file).env(variable, format!("localhost:{port}"));
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(&format!("[::1]:{port}")), "{said}");
        assert!(said.to_lowercase().contains("in use"), "{said}");
    }
}

#[tokio::test]
async fn without_ipv6_localhost_is_127_0_0_1_alone_and_the_log_says_so() {
    let (api, server) = ("http://127.0.0.1:9401", "http://127.0.0.1:9402");
    let config = Config::one_route(&upstream_at(api), &token_at(server)).text();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let script = "ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 || exit 9\n\
        \"$0\" run --config config.toml >log 2>&1 & pid=$!\n\
        for _ in $(seq 200); do curl -s -o /dev/null http://127.0.0.1:9901/livez && break; sleep 0.1; done\n\
        curl -s -o /dev/null -w '%{http_code} ' http://localhost:8080/ http://localhost:9902/status\n\
        kill $pid; wait $pid; cat log";
    let mut command = Program::peer("unshare", "util-linux");
    command.args(["--net", "sh", "-c", script, env!("CARGO_BIN_EXE_cupbearer")]).current_dir(dir.path());
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // Without a token: the proxy's own response. Of two addresses curl writes the body of the second.
    assert!(said.starts_with("503 "), "{said} {output:?}");
    assert!(said.contains("200 "), "{said}");
    for address in ["[::1]:8080", "[::1]:9902"] {
        let line =
            said.lines().find(|line| line.contains(address)).unwrap_or_else(|| panic!("{address}: {said}"));
        assert!(line.contains("there is no loopback of IPv6 here"), "{line}");
    }
}
