//! The command line: each command as a person or a script meets it.

use std::fs;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use cupbearer_testing::{
    Config, Origin, Program, Proxy, Reply, SECRET, Stage, clock, cupbearer, curl, eventually, free_address,
    repository, token_at, upstream_at,
};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn both(output: &Output) -> String {
    out(output) + &String::from_utf8_lossy(&output.stderr)
}

/// `check` on a text.
async fn check(text: &str, words: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let output = cupbearer().arg("check").arg("--config").arg(&file).args(words).output().await.unwrap();
    (output.status.code(), both(&output))
}

fn good(api: &str, server: &str) -> String {
    upstream_at(api) + &token_at(server) + "[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n"
}

#[tokio::test]
async fn check_takes_what_is_right_and_the_repositorys_own_reference() {
    let (code, said) = check(&good("https://api.example.com", "https://login.example.com/token"), &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("client_secret") && !said.contains(SECRET),
        "an inline secret is warned about: {said}"
    );
    let output =
        cupbearer().args(["check", "--config", "config.toml"]).current_dir(repository()).output().await;
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
}

#[tokio::test]
async fn check_tells_every_problem_at_once_with_line_key_and_mend() {
    let text = r#"[server]
listen = ["0.0.0.0:8080", "nonsense"]
drain_timeout = 25
max_conections = 5

[guard]
allowed_origins = ["app.example.com/path"]

[upstreams.api]
url = "http://api.example.com"
http2 = "always"

[tokens.api]
issuer = "http://login.example.com/"
client_auth = "client_secret_bsaic"
client_secret = "s3cr3t"
renew_at = 7.5
params = { grant_type = "password" }

[[routes]]
path = "orders"
upstream = "apj"
token = "none"
"#;
    let (code, said) = check(text, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    let mut missing = Vec::new();
    for (line, key, help) in [
        (2, "listen", "allow_remote"),
        (2, "listen", "an IP address and a port"),
        (3, "drain_timeout", "\""),
        (4, "max_conections", "max_connections"),
        (7, "allowed_origins", "http"),
        (10, "url", "https"),
        (11, "http2", "prior_knowledge"),
        (14, "issuer", "https"),
        (15, "client_auth", "client_secret_basic"),
        (17, "renew_at", "1"),
        (18, "grant_type", "grant"),
        (21, "path", "/"),
        (22, "upstream", "api"),
    ] {
        let told =
            said.contains(&format!("config.toml:{line}:")) && said.contains(key) && said.contains(help);
        if !told {
            missing.push(format!("line {line}, {key}, {help}"));
        }
    }
    // Tokens without a client id: a key that is not there has no line of its own.
    if !said.contains("client_id") {
        missing.push("client_id".to_owned());
    }
    assert!(missing.is_empty(), "not told: {missing:#?}\nsaid:\n{said}");
    assert!(!said.contains("s3cr3t"), "{said}");
    let (all, warnings) = (said.matches("    help: ").count(), said.matches(": warning: ").count());
    let count = format!("\n{} problems and {warnings} warning", all - warnings);
    assert!(warnings > 0 && said.contains(&count), "{count:?}: {said}");
}

#[tokio::test]
async fn run_refuses_a_broken_configuration_in_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, "[server]\nlisten = [\"nonsense\"]\n[unknown]\n").unwrap();
    let run = cupbearer().arg("run").arg("--config").arg(&file).output().await.unwrap();
    let check = cupbearer().arg("check").arg("--config").arg(&file).output().await.unwrap();
    assert!(!run.status.success() && !check.status.success());
    let told = both(&run);
    for line in both(&check).lines().filter(|line| line.contains("config.toml:")) {
        assert!(told.contains(line.trim()), "check says {line:?}, run says:\n{told}");
    }
    assert!(told.contains("config.toml:2:") && told.contains("config.toml:3:"), "{told}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    for command in ["run", "check"] {
        let output = cupbearer().args([command, "--config", "/nowhere/config.toml"]).output().await.unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
        let said = both(&output);
        assert!(said.contains("/nowhere/config.toml") && !said.contains("panicked"), "{said}");
    }
    for text in ["[server", "\u{feff}[server]\nlisten = 1", "a = \"\\x\"", "[tokens.api]\n[tokens.api]\n"] {
        let (code, said) = check(text, &[]).await;
        assert!(code == Some(1) && said.contains("config.toml:"), "{text:?}: {code:?} {said}");
    }
}

#[tokio::test]
async fn plaintext_beyond_loopback_is_refused() {
    let (code, said) = check(&good("http://api.example.com", "https://login.example.com/token"), &[]).await;
    assert!(code == Some(1) && said.contains("https"), "{said}");
    let (code, said) = check(&good("https://api.example.com", "http://login.example.com/token"), &[]).await;
    assert!(code == Some(1) && said.contains("https"), "{said}");
    let (code, said) = check(&good("http://127.0.0.1:1", "http://localhost:1/token"), &[]).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn wait_ends_when_the_proxy_is_ready_and_says_no_in_time() {
    let server = Origin::start(|_, _| Reply::token("token", 300).after(Duration::from_secs(2))).await;
    let api = Origin::ok().await;
    let proxy =
        Proxy::start_live(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let start = clock::now();
    let no = proxy.command(&["wait", "--timeout", "300ms"]).await;
    assert_eq!(no.status.code(), Some(1), "{}", both(&no));
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(both(&no).contains("api"), "it says what is missing: {}", both(&no));
    let yes = proxy.command(&["wait", "--timeout", "10s"]).await;
    assert_eq!(yes.status.code(), Some(0), "{}", both(&yes));
}

#[tokio::test]
async fn wait_waits_for_a_proxy_that_is_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let rest = good("http://127.0.0.1:1", "http://127.0.0.1:1");
    fs::write(&file, format!("[health]\nlisten = \"{}\"\n{rest}", free_address())).unwrap();
    let start = clock::now();
    let output =
        cupbearer().args(["wait", "--timeout", "500ms", "--config"]).arg(&file).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn status_tells_people_and_machines_how_each_token_stands() {
    let stage = Stage::plain().await;
    let text = stage.proxy.command(&["status"]).await;
    assert_eq!(text.status.code(), Some(0), "{}", both(&text));
    assert!(out(&text).contains("api"), "{}", both(&text));
    let json = stage.proxy.command(&["status", "--json"]).await;
    let status: Value = serde_json::from_slice(&json.stdout).unwrap();
    let token = &status["tokens"][0];
    assert_eq!((token["name"].as_str(), token["status"].as_str()), (Some("api"), Some("valid")), "{status}");
    assert!((200..=300).contains(&token["expires_in_seconds"].as_u64().unwrap()), "{status}");
    assert!(!both(&json).contains("token-0") && !both(&text).contains("token-0"), "it holds no token");
}

#[tokio::test]
async fn renew_brings_a_new_token_at_once() {
    let stage = Stage::plain().await;
    stage.proxy.get("/").await;
    for words in [&["renew"][..], &["renew", "api"]] {
        let output = stage.proxy.command(words).await;
        assert_eq!(output.status.code(), Some(0), "{}", both(&output));
        assert_eq!(out(&output), "api: renewed, expires in 5m00s\n");
    }
    stage.proxy.get("/").await;
    let sent: Vec<_> =
        stage.api.seen().iter().map(|request| request.all("authorization").join("|")).collect();
    assert_eq!((sent[0].as_str(), sent[1].as_str()), ("Bearer token-0", "Bearer token-2"));
    let unknown = stage.proxy.command(&["renew", "nobody"]).await;
    assert!(matches!(unknown.status.code(), Some(1 | 2)), "{unknown:?}");
    assert!(both(&unknown).contains("Configured: api"), "what there is instead: {}", both(&unknown));
}

#[tokio::test]
async fn renew_says_why_it_could_not() {
    let server = Origin::start(|_, before| match before {
        0 => Reply::token("first", 300),
        _ => Reply::json(401, r#"{"error":"invalid_client","error_description":"mark-of-the-description"}"#),
    })
    .await;
    let api = Origin::ok().await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    let output = proxy.command(&["renew"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(
        both(&output).contains("invalid_client")
            && both(&output).contains("the server says: \"mark-of-the-description\""),
        "{}",
        both(&output)
    );
    assert_eq!(proxy.get("/").await.status, 200, "the valid token stays");
}

#[tokio::test]
async fn token_prints_the_token_and_nothing_else() {
    let stage = Stage::plain().await;
    let output = stage.proxy.command(&["token"]).await;
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "token-0\n"), "{}", both(&output));
}

#[tokio::test]
async fn commands_for_a_running_proxy_say_where_they_looked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let control = free_address();
    let rest = good("http://127.0.0.1:1", "http://127.0.0.1:1");
    fs::write(&file, format!("[control]\nlisten = \"{control}\"\n{rest}")).unwrap();
    for command in ["status", "renew"] {
        let output = cupbearer().args([command, "--config"]).arg(&file).output().await.unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
        assert!(both(&output).contains(&control.to_string()), "{}", both(&output));
    }
}

#[tokio::test]
async fn commands_go_where_the_environment_moved_the_listeners() {
    let stage = Stage::plain().await;
    let elsewhere = tempfile::tempdir().unwrap();
    for (words, variable, address) in [
        (&["status"][..], "CUPBEARER__CONTROL__LISTEN", stage.proxy.control()),
        (&["renew"], "CUPBEARER__CONTROL__LISTEN", stage.proxy.control()),
        (&["token"], "CUPBEARER__CONTROL__LISTEN", stage.proxy.control()),
        (&["wait", "--timeout", "5s"], "CUPBEARER__HEALTH__LISTEN", stage.proxy.health_address()),
    ] {
        let mut command = cupbearer();
        command.args(words).current_dir(elsewhere.path()).env(variable, address.to_string());
        let output = command.output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", both(&output));
    }
    let localhost = format!("localhost:{}", stage.proxy.control().port());
    let output = cupbearer().args(["status", "--control", &localhost]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    let output = cupbearer().args(["status", "--control", "example.com:1"]).output().await.unwrap();
    assert!(output.status.code() == Some(2) && both(&output).contains("127.0.0.1:9902"), "{}", both(&output));
}

#[tokio::test]
async fn a_configuration_that_does_not_say_where_its_proxy_is_leads_to_no_other_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.toml");
    fs::write(&broken, "[control]\nlisten = 9902\n\n[health]\nlisten = 9901\n").unwrap();
    let missing = dir.path().join("missing.toml");
    for (file, why) in [(&broken, "broken.toml:"), (&missing, "there is no such file")] {
        for (words, flag) in
            [(&["status"][..], "--control"), (&["renew"], "--control"), (&["wait"], "--health")]
        {
            let mut command = cupbearer();
            let output = command.args(words).env("CUPBEARER_CONFIG", file).output().await.unwrap();
            assert_eq!(output.status.code(), Some(2), "{words:?}: {}", both(&output));
            assert!(both(&output).contains(why) && both(&output).contains(flag), "{}", both(&output));
        }
    }
}

#[tokio::test]
async fn a_watched_status_ends_with_the_proxy() {
    let stage = Stage::plain().await;
    let mut command = cupbearer();
    command.args(["status", "--watch", "--control", &stage.proxy.control().to_string()]);
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Program::spawn("status", command, dir.path());
    eventually("three tables are printed", || async { watch.log().matches("LAST RENEWAL").count() >= 3 })
        .await;
    assert!(watch.log().contains("\n\nTOKEN") && !watch.log().contains('\u{1b}'), "{}", watch.log());
    stage.proxy.terminate().await;
    assert_eq!(watch.ended(Duration::from_secs(10)).await.code(), Some(1), "{}", watch.log());
}

#[tokio::test]
async fn of_several_tokens_one_must_be_named() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let config = upstream_at(&api.url())
        + &token_at(&server.url())
        + &token_at(&server.url()).replace("[tokens.api]", "[tokens.other]")
        + "[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"api\"\n";
    let proxy = Proxy::start(Config::new(config)).await;
    for command in ["renew", "token"] {
        let output = proxy.command(&[command]).await;
        assert_eq!(output.status.code(), Some(2), "{}", both(&output));
        let said = "there are several tokens; name one of api, other";
        assert!(both(&output).contains(said), "{}", both(&output));
        let named = proxy.command(&[command, "other"]).await;
        assert_eq!(named.status.code(), Some(0), "{}", both(&named));
    }
}

#[tokio::test]
async fn schema_speaks_of_every_section() {
    let output = cupbearer().arg("schema").output().await.unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    for section in ["server", "health", "control", "guard", "upstreams", "tokens", "routes", "log"] {
        assert!(schema["properties"][section].is_object(), "{section} is missing from {schema}");
    }
}

#[tokio::test]
async fn completions_and_the_manual_page_come_from_the_same_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = cupbearer().args(["completions", shell]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0));
        for command in ["run", "check", "status", "renew", "token", "wait", "schema"] {
            assert!(out(&output).contains(command), "{shell}: {command}");
        }
    }
    let page = cupbearer().arg("man").output().await.unwrap();
    assert!(out(&page).contains(".TH") && out(&page).contains("cupbearer"), "{}", both(&page));
}

#[tokio::test]
async fn wrong_usage_ends_with_2_and_help_with_0() {
    for (words, code) in [
        (&["--help"][..], 0),
        (&["run", "--help"], 0),
        (&["--version"], 0),
        (&["frobnicate"], 2),
        (&["run", "--no-such-flag"], 2),
        (&["wait", "--timeout", "soon"], 2),
        (&["completions"], 2),
    ] {
        let output = cupbearer().args(words).output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", both(&output));
    }
}

/// From flags alone; the environment gives what the flags do not.
#[tokio::test]
async fn it_runs_from_flags_alone() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "s\n").unwrap();
    let [listen, health, control] = [free_address(), free_address(), free_address()];
    let mut command = cupbearer();
    command
        .current_dir(dir.path())
        .arg("run")
        .args(["--listen", &listen.to_string(), "--upstream", &api.url(), "--client-id", "orders"])
        .args(["--token-endpoint", &format!("{}/token", server.url()), "--scope", "a b"])
        .arg("--client-secret-file")
        .arg(&secret)
        .env("CUPBEARER_AUDIENCE", "https://api.example.com")
        .env("CUPBEARER__HEALTH__LISTEN", health.to_string())
        .env("CUPBEARER__CONTROL__LISTEN", control.to_string());
    let mut program = Program::spawn("cupbearer", command, dir.path());
    let ready = format!("http://{health}/readyz");
    program.until("ready", || async { curl(&[&ready]).await.status == 200 }).await;
    assert_eq!(curl(&[&format!("http://{listen}/x")]).await.status, 200);
    assert_eq!(api.only().all("authorization"), ["Bearer token-0"]);
    let form = server.only().form();
    for (name, value) in [("scope", "a b"), ("audience", "https://api.example.com")] {
        assert!(form.contains(&(name.to_owned(), value.to_owned())), "{form:?}");
    }
    let status: Value = curl(&[&format!("http://{control}/status")]).await.json();
    assert_eq!(status["tokens"][0]["name"], "default", "{status}");
}

#[tokio::test]
async fn the_environment_overrides_any_key() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let elsewhere = Origin::ok().await;
    let config = Config::one_route(&upstream_at(&elsewhere.url()), &token_at(&server.url()))
        .environment("CUPBEARER__UPSTREAMS__API__URL", &api.url())
        .environment("CUPBEARER__TOKENS__API__SCOPE", "from:environment");
    let proxy = Proxy::start(config).await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!((api.seen().len(), elsewhere.seen().len()), (1, 0));
    assert!(server.only().form().contains(&("scope".to_owned(), "from:environment".to_owned())));

    let mut command = cupbearer();
    command.args(["check", "--config"]).arg(proxy.dir().join("config.toml"));
    let output = command.env("CUPBEARER__SERVER__LISTN", "x").output().await.unwrap();
    assert!(
        output.status.code() == Some(1) && both(&output).contains("CUPBEARER__SERVER__LISTN"),
        "{}",
        both(&output)
    );
}

#[tokio::test]
async fn the_log_is_json_off_a_terminal_and_text_where_it_is_asked_for() {
    let stage = Stage::plain().await;
    let log = stage.proxy.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let access = Stage::with(Origin::ok().await, "", "[log]\nformat = \"text\"\naccess = true").await;
    access.proxy.get("/orders/7?key=hidden-in-the-query").await;
    eventually("the request has its line", || async { access.proxy.log().contains("/orders/7") }).await;
    let log = access.proxy.log();
    assert!(!log.contains("hidden-in-the-query"), "no query in a log: {log}");
    assert!(serde_json::from_str::<Value>(log.lines().next().unwrap()).is_err(), "{log}");
}
