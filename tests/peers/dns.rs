//! Names and addresses, in a network namespace with a name server of its own and the resolv.conf of a pod: mute name servers,
//! addresses that change or are dead, and which stage of a connection is what took too long.

use std::time::Duration;

use cupbearer_testing::{Program, repository};

/// Runs a scenario in Python, beside `tests/peers/dns/stage.py`; it fails by an `assert` of its own.
async fn scenario(script: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("scenario.py"), format!("from stage import *\n{script}")).unwrap();
    // Asked for first, so that a missing peer is what a failure names.
    for (program, package) in [("ip", "iproute2"), ("python3", "python3"), ("unshare", "util-linux")] {
        drop(Program::peer(program, package));
    }
    let peers = repository().join("tests/peers/dns");
    let mut command = Program::peer("bash", "bash");
    command.arg(peers.join("enter.sh")).arg("scenario.py").current_dir(dir.path());
    command.env("PYTHONPATH", &peers).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("NGINX", Program::peer("nginx", "nginx").as_std().get_program());
    command.env("CUPBEARER", env!("CARGO_BIN_EXE_cupbearer")).env("HOME", dir.path());
    let output = tokio::time::timeout(Duration::from_secs(150), command.kill_on_drop(true).output()).await;
    let log = std::fs::read_to_string(dir.path().join("run.log")).unwrap_or_default();
    let output = output.unwrap_or_else(|_| panic!("it never ended:\n{log}")).unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success() && out.contains("done"), "{out}\n{err}\n{log}");
    println!("{out}");
}

#[tokio::test]
async fn a_mute_name_server_costs_one_thread_and_one_burst_of_queries_for_each_name() {
    scenario(
        r#"
names = NameServer()
names.records = {"api.test": ["10.0.0.1"], "well.test": ["10.0.0.2"], "new.test": ["10.0.0.1"]}
Api("10.0.0.1", close=True); Api("10.0.0.2")
proxy = Cupbearer(config({
    "api": 'url = "http://api.test"', "well": 'url = "http://well.test"',
    "new": 'url = "http://new.test"\nconnect_timeout = "2s"'}))
assert proxy.get("/api")[0] == 200 and proxy.get("/well")[0] == 200
threads = proxy.threads()
time.sleep(1.5)
names.mute, names.queries = True, []
requests, most, end = 0, 0, time.monotonic() + 8
while time.monotonic() < end:
    # Each opens a connection: the last good address is what they go to.
    responses = burst(proxy, "/api", 20)
    assert all(response == (200, None, "10.0.0.1") for response in responses), responses
    assert proxy.get("/well")[0] == 200
    requests, most = requests + 20, max(most, proxy.threads())
    time.sleep(0.2)
assert requests >= 100, requests
queries = names.queries.count("api.test.default.svc.cluster.local") + names.queries.count("api.test")
assert queries <= 30, f"{queries} queries for {requests} requests"
# A name that was never resolved has no last address; all who wait share one lookup.
responses = burst(proxy, "/new", 100)
most = max(most, proxy.threads())
for status, kind, body in responses:
    assert (status, kind) == (504, "connect_timeout"), (status, kind, body)
    assert "the name of the upstream was not resolved within connect_timeout" in body, body
assert most == threads, f"{threads} threads before, {most} meanwhile"
assert "was not resolved within connect_timeout" in proxy.log() and "/etc/resolv.conf" in proxy.log(), proxy.log()
names.mute = False
until("the new name works", lambda: proxy.get("/new")[0] == 200)
assert proxy.get("/api")[0] == 200
print(requests, "requests", queries, "queries", most, "threads; done")
"#,
    )
    .await;
}

#[tokio::test]
async fn a_name_that_is_gone_for_a_moment_is_not_missed_and_comes_back() {
    scenario(
        r#"
names = NameServer()
names.records = {"api.test": ["10.0.0.1"]}
Api("10.0.0.1", close=True)
proxy = Cupbearer(config({"api": 'url = "http://api.test"', "absent": 'url = "http://absent.test"'}))
status, kind, body = proxy.get("/absent")
assert (status, kind) == (502, "upstream_unreachable") and "know no address of it" in body, (status, kind, body)
assert proxy.get("/api")[0] == 200
names.records = {}
for _ in range(8):
    time.sleep(0.5)
    assert proxy.get("/api")[0] == 200
assert "api.test" in names.queries
assert proxy.log().count("the last good addresses are used for now") == 1, proxy.log()
names.records = {"api.test": ["10.0.0.1"], "absent.test": ["10.0.0.1"]}
until("the other name is there", lambda: proxy.get("/absent")[0] == 200)
until("it is resolved again", lambda: proxy.get("/api")[0] == 200 and "name resolved again" in proxy.log())
print("done")
"#,
    )
    .await;
}

#[tokio::test]
async fn every_address_of_a_name_is_tried_and_used() {
    scenario(
        r#"
names = NameServer()
names.records = {"half.test": ["10.0.0.1", "10.0.0.2"], "both.test": ["10.0.0.3", "10.0.0.4"]}
held = deaf("10.0.0.1"); Api("10.0.0.2", close=True)
names.records["as.test"] = ["10.0.0.1", "10.0.0.2"]
held += deaf("10.0.0.1", 9400); server = Api("10.0.0.2", 9400)
both = [Api(address, close=True) for address in ("10.0.0.3", "10.0.0.4")]
proxy = Cupbearer(config({"half": 'url = "http://half.test"', "both": 'url = "http://both.test"'},
    TOKEN + '[tokens.late]\ntoken_endpoint = "http://as.test:9400/token"\nclient_id = "a"\nclient_secret = "b"\n'))
for _ in range(6):
    response = proxy.get("/half")
    assert response == (200, None, "10.0.0.2"), response
for _ in range(10):
    assert proxy.get("/both")[0] == 200
until("a token comes from the address that accepts", lambda: server.tokens >= 1)
assert all(api.requests >= 3 for api in both), [api.requests for api in both]
print("done")
"#,
    )
    .await;
}

#[tokio::test]
async fn connections_follow_a_name_to_its_new_address_and_what_is_under_way_ends_in_peace() {
    scenario(
        r#"
names = NameServer()
names.records = {"api.test": ["10.0.0.1"], "as.test": ["10.0.0.3"]}
apis = {address: Api(address) for address in ("10.0.0.1", "10.0.0.2")}
servers = {address: Api(address, 9400, lifetime=2) for address in ("10.0.0.3", "10.0.0.4")}
nginx = Nginx("".join(f"server {{ listen 10.0.0.{number}:8002 http2; location / {{ return 200 10.0.0.{number}; }} }} "
                      for number in (1, 2)))
token = 'token_endpoint = "http://as.test:9400/token"\nclient_id = "a"\nclient_secret = "b"\n'
proxy = Cupbearer(config({
    "http1": 'url = "http://api.test"\nresponse_header_timeout = "60s"',
    "http2": 'url = "http://api.test:8002"\nhttp2 = "prior_knowledge"'}, f"[tokens.api]\n{token}"))
try:
    until("both work", lambda: proxy.get("/http1")[2] == "10.0.0.1" == proxy.get("/http2")[2])
    assert apis["10.0.0.1"].connections <= 3
    slow = []
    download = threading.Thread(target=lambda: slow.append(proxy.get("/http1/slow")))
    download.start()
    until("the download is under way", lambda: apis["10.0.0.1"].requests >= 2)
    names.records = {"api.test": ["10.0.0.2"], "as.test": ["10.0.0.4"]}
    changed = time.monotonic()
    both = ("/http1", "/http2")
    until("both are at the new address", lambda: all(proxy.get(path)[2] == "10.0.0.2" for path in both))
    followed = time.monotonic() - changed
    for _ in range(20):
        # The other worker's connections, too.
        until("they stay there", lambda: all(proxy.get(path)[2] == "10.0.0.2" for path in both))
        time.sleep(0.1)
    for _ in range(20):
        assert [proxy.get(path)[2] for path in both] == ["10.0.0.2"] * 2
    until("tokens come from the new address", lambda: servers["10.0.0.4"].tokens >= 1)
    old = servers["10.0.0.3"].tokens
    until("and go on to", lambda: servers["10.0.0.4"].tokens >= 3)
    assert servers["10.0.0.3"].tokens == old
    download.join()
    assert slow == [(200, None, "x" * 20)], slow
finally:
    nginx.kill()
print(f"followed within {followed:.1f} s; done")
"#,
    )
    .await;
}

#[tokio::test]
async fn a_connection_is_replaced_at_its_greatest_age_and_what_is_under_way_ends_in_peace() {
    scenario(
        r#"
names = NameServer()
names.records = {"api.test": ["10.0.0.1"]}
api = Api("10.0.0.1")
with open("large", "w") as file:
    file.write("x" * 60_000)
nginx = Nginx("server { listen 10.0.0.1:8002 http2; "
              f"location / {{ root {os.getcwd()}; limit_rate 10k; }} location /http2/which {{ return 200 $connection; }} "
              f"location /http2/large {{ alias {os.getcwd()}/large; limit_rate 10k; }} }}")
proxy = Cupbearer(config({
    "http1": 'url = "http://api.test"\nmax_connection_age = "2s"',
    "http2": 'url = "http://api.test:8002"\nhttp2 = "prior_knowledge"\nmax_connection_age = "2s"'}))
until("several connections were used", lambda: proxy.get("/http1")[0] == 200 and api.connections >= 5)
assert api.requests > api.connections, (api.requests, api.connections)
large, used = [], set()
download = threading.Thread(target=lambda: large.append(proxy.get("/http2/large")))
download.start()
while download.is_alive():
    used.add(proxy.get("/http2/which")[2])
    time.sleep(0.1)
assert large == [(200, None, "x" * 60_000)], (large[0][:2], len(large[0][2]))
assert len(used) >= 2, used
nginx.kill()
print("done")
"#,
    )
    .await;
}

#[tokio::test]
async fn what_took_too_long_is_named_in_the_response_the_log_and_the_check() {
    scenario(
        r#"
names = NameServer()
names.mute = True
held = [deaf("10.0.0.1"), silent("10.0.0.2", 443), silent("10.0.0.3", 3128)]
stages = {
    "lookup": ('url = "http://api.test"', "the name of the upstream was not resolved", "/etc/resolv.conf"),
    "tcp": ('url = "http://10.0.0.1"', "the upstream did not accept a connection", "firewall"),
    "tls": ('url = "https://10.0.0.2"\nca_file = "ca.pem"', "did not complete the TLS handshake", "speaks TLS"),
    "proxy": ('url = "http://10.0.0.1"\nproxy = "http://10.0.0.3:3128"', "the HTTP proxy on the way did not respond to CONNECT", "HTTP proxy"),
    "proxyname": ('url = "http://10.0.0.1"\nproxy = "http://proxy.test:3128"', "the name of the HTTP proxy on the way was not resolved", "/etc/resolv.conf"),
    "deafproxy": ('url = "http://10.0.0.2"\nproxy = "http://10.0.0.1:80"', "the HTTP proxy on the way did not accept a connection", "proxy"),
}
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "ca.pem",
                "-days", "2", "-subj", "/CN=test"], check=True, capture_output=True)
text = config({name: keys + '\nconnect_timeout = "1s"' for name, (keys, _, _) in stages.items()})
text += '[tokens.mute]\ntoken_endpoint = "http://as.test:9400/token"\nclient_id = "a"\nclient_secret = "b"\nconnect_timeout = "1s"\n'
text += '[tokens.tls]\ntoken_endpoint = "https://10.0.0.2/token"\nca_file = "ca.pem"\nclient_id = "a"\nclient_secret = "b"\nconnect_timeout = "1s"\n'
for name in ("proxy", "proxyname", "deafproxy"):
    way = stages[name][0].split("\n")[1]
    text += f'[tokens.{name}]\ntoken_endpoint = "https://10.0.0.2/token"\n{way}\nca_file = "ca.pem"\nclient_id = "a"\nclient_secret = "b"\nconnect_timeout = "1s"\n'
proxy = Cupbearer(text)
for name in ("proxy", "proxyname", "deafproxy"):
    sentence = "https://10.0.0.2/token: " + stages[name][1]
    until(f"the failure of a token names its {name}", lambda: sentence in proxy.log())
for name, (_, sentence, advice) in stages.items():
    status, kind, body = proxy.get(f"/{name}")
    assert (status, kind) == (504, "connect_timeout"), (name, status, kind, body)
    assert sentence in body and "within connect_timeout" in body, (name, body)
    line = next(line for line in map(json.loads, proxy.log().splitlines()) if sentence in json.dumps(line))
    assert advice in json.dumps(line), line
until("the token's state names the lookup", lambda: "the host name was not resolved within" in proxy.status())
until("and that of the other the handshake", lambda: "the TLS handshake was not complete within" in proxy.status())
assert "firewall" not in proxy.status(), proxy.status()
check = subprocess.run([os.environ["CUPBEARER"], "check", "--online", "--insecure-plaintext", "--config", "config.toml"],
                       capture_output=True, text=True, check=False)
said = check.stdout + check.stderr
for name, (_, sentence, advice) in stages.items():
    found = said[said.index(f"upstreams.{name}:"):]
    found = found[:found.index("\n", found.index("\n") + 1)]
    assert sentence in found and advice in found, (name, found)
assert "tokens.mute" in said and "the host name was not resolved within" in said, said
print("done")
"#,
    )
    .await;
}

#[tokio::test]
async fn tokens_stay_alive_where_the_machine_has_no_thread_left_and_the_name_server_is_mute() {
    scenario(
        r#"
group = f"/sys/fs/cgroup/pids/cupbearer-test-{os.getpid()}"
if not os.path.isdir("/sys/fs/cgroup/pids"):
    group = f"/sys/fs/cgroup/cupbearer-test-{os.getpid()}"
try:
    os.mkdir(group)
except OSError as error:
    raise SystemExit(f"this test needs a pids cgroup: run it as root where {os.path.dirname(group)} is writable ({error})")
names = NameServer()
names.records = {"api.test": ["10.0.0.1"], "as.test": ["10.0.0.2"]}
Api("10.0.0.1", close=True)
server = Api("10.0.0.2", 9400, lifetime=3)
open("secret", "w").write("b")
tokens = ('[tokens.api]\ntoken_endpoint = "http://as.test:9400/token"\nclient_id = "a"\nclient_secret_file = "secret"\n'
          '[tokens.helper]\ngrant = "command"\ncommand = ["echo", "from-a-helper"]\ndefault_lifetime = "2s"\n'
          'retry = { initial = "200ms", max = "1s" }\n')
proxy = Cupbearer(config({"api": 'url = "http://api.test"', "new": 'url = "http://new.test"\nconnect_timeout = "1s"'}, tokens))
try:
    until("it works", lambda: proxy.get("/api")[0] == 200)
    until("the helper's token is there", lambda: proxy.status().count('"valid"') >= 2)
    threads = proxy.threads()
    assert threads <= 24, threads
    open(f"{group}/cgroup.procs", "w").write(str(proxy.process.pid))
    # Not one more: no thread, and no process.
    open(f"{group}/pids.max", "w").write(str(threads))
    names.mute = True
    memory, before, end = proxy.of_proc("VmRSS"), server.tokens, time.monotonic() + 10
    while time.monotonic() < end:
        assert all(response[0] == 200 for response in burst(proxy, "/api", 20))
        assert all(response[1] == "connect_timeout" for response in burst(proxy, "/new", 20))
    assert server.tokens - before >= 3, f"{server.tokens - before} renewals in 10 s"
    assert proxy.lives() and proxy.threads() == threads
    assert proxy.of_proc("VmRSS") - memory < 16 * 1024, (memory, proxy.of_proc("VmRSS"))
    until("what is lacking is named", lambda: "this machine has no process left for the helper program echo" in proxy.log())
    assert "panic" not in proxy.log() and "defect" not in proxy.log(), proxy.log()
    for line in proxy.log().splitlines():
        json.loads(line)
    open(f"{group}/pids.max", "w").write("max")
    until("the helper runs again", lambda: '"status": "valid"' in proxy.status().split('"helper"')[1])
finally:
    proxy.process.kill()
    proxy.process.wait()
    os.rmdir(group)
print(server.tokens, "tokens", threads, "threads; done")
"#,
    )
    .await;
}
