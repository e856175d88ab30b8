//! The network goes and comes back, in a network namespace of the test's own.

use std::time::Duration;

use cupbearer_testing::{Program, repository};

/// What goes on inside: the authorization server listens everywhere, and its address is not there until the network is.
const SCRIPT: &str = r#"
set -eu
PATH="$PATH:/usr/sbin:/sbin"
ip link set lo up
node "$PEER" & server=$!
"$CUPBEARER" run --config config.toml --insecure-plaintext > run.log 2>&1 & proxy=$!
trap 'kill $server $proxy' EXIT
until "$CUPBEARER" status --config config.toml --json 2>/dev/null | grep -q '"cause": "connect"'; do sleep 0.05; done
"$CUPBEARER" status --config config.toml --json | grep -E 'next_attempt_in_seconds|"failures"'
ip address add 10.9.0.1/32 dev lo
until "$CUPBEARER" status --config config.toml --json | grep -q '"status": "valid"'; do sleep 0.05; done
echo back
curl -s http://127.0.0.1:8080/ http://127.0.0.1:8080/
# A network that flaps costs the server nothing where a token is held.
for i in 1 2 3 4 5 6 7 8 9 10; do ip address add 10.9.1.$i/32 dev lo; sleep 0.1; done
until curl -s http://127.0.0.1:8080/ | grep 'connection [2-9]'; do sleep 0.2; done
"$CUPBEARER" status --config config.toml --json | grep -E '"(renewals|failures)"'
"#;

#[tokio::test]
async fn a_token_is_had_as_soon_as_the_network_is_back_and_not_when_its_backoff_ends() {
    let dir = tempfile::tempdir().unwrap();
    // A required token that was never there has no long backoff.
    let config = "[server]\nlisten = [\"127.0.0.1:8080\"]\nworkers = 1\n[upstreams.api]\nurl = \"http://127.0.0.1:9401\"\n\
        [tokens.api]\ntoken_endpoint = \"http://10.9.0.1:9400/token\"\nclient_id = \"a\"\nclient_secret = \"b\"\n\
        required = false\nretry = { initial = \"1h\", max = \"1h\" }\n[[routes]]\nupstream = \"api\"\ntoken = \"api\"\n";
    std::fs::write(dir.path().join("config.toml"), config).unwrap();
    std::fs::write(dir.path().join("script.sh"), SCRIPT).unwrap();
    let mut command = Program::peer("bash", "bash");
    // As whoever may make a namespace here: any user, or root alone.
    let inside = "own='unshare --user --map-root-user --net'; $own true 2>/dev/null || own='unshare --net'; exec $own bash script.sh";
    command.args(["-c", inside]).current_dir(dir.path());
    command.env("PEER", repository().join("tests/peers/network/server.mjs"));
    command.env("CUPBEARER", env!("CARGO_BIN_EXE_cupbearer")).env("HOME", dir.path());
    let output = tokio::time::timeout(Duration::from_mins(1), command.kill_on_drop(true).output()).await;
    let log = || std::fs::read_to_string(dir.path().join("run.log")).unwrap_or_default();
    let output = output.unwrap_or_else(|_| panic!("it never came back:\n{}", log())).unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("back"), "{said}\n{}", log());
    let number = |name: &str, nth: usize| -> u64 {
        let lines = said.lines().filter(|line| line.contains(name));
        let line = lines.clone().nth(nth).unwrap_or_else(|| panic!("{name}: {said}"));
        line.rsplit(' ').next().unwrap().trim_end_matches(',').parse().unwrap()
    };
    assert_eq!(said.matches("connection 1\n").count(), 2, "one connection is kept: {said}");
    assert!(said.contains("connection 2\n"), "but not over a change of the network: {said}");
    assert!(number("next_attempt_in_seconds", 0) > 60, "the backoff was long: {said}");
    assert_eq!(number("renewals", 0), 1, "{said}");
    assert!(number("failures", 1) <= number("failures", 0) + 2, "no hot loop: {said}");
}
