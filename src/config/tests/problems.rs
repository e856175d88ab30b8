//! Every mistake is found, in one run, where it stands, with what to do about it.

use super::*;
use crate::proxy::ListenAddress;

#[test]
fn a_file_with_many_mistakes_reports_each_where_it_stands() {
    let text = r#"[server]
listen = ["127.0.0.1:8080", "0.0.0.0:8081"]
workers = "four"
drain_timeout = 25
max_hedaers = 5

[control]
listen = "0.0.0.0:9902"

[upstreams.api]
url = "http://api.example.com"
  idle_timeout = "5 minutes"

[tokens.api]
issuer = "https://login.example.com/?tenant=1"
client_id = "orders"
client_secret_file = "missing.txt"
renew_at = 1.5
identities_file = "x"
params = { grant_type = "x", fine = "y" }

[[routes]]
path = "v1"
upstream = "apy"
token = "api"

[store]
kind = "redis"
"#;
    let problems = refused(text);
    assert_eq!(
        places(&problems),
        [
            "2:29 server.listen[1]",
            "3:11 server.workers",
            "4:17 server.drain_timeout",
            "5:1 server.max_hedaers",
            "8:10 control.listen",
            "11:7 upstreams.api.url",
            "12:18 upstreams.api.idle_timeout",
            "15:10 tokens.api.issuer",
            "17:22 tokens.api.client_secret_file",
            "18:12 tokens.api.renew_at",
            "19:1 tokens.api.identities_file",
            "20:25 tokens.api.params.grant_type",
            "23:8 routes[0].path",
            "24:12 routes[0].upstream",
            "28:8 store.kind",
        ],
        "{problems}"
    );
    let shown = problems.to_string();
    for part in [
        "t:18:12: tokens.api.renew_at: must be above 0 and at most 1, not 1.5\n    help: set it to 0.75\n",
        "server.max_hedaers: unknown key\n    help: did you mean `max_headers`?",
        "server.workers: must be a whole number of 0 or more, not a string",
        "server.drain_timeout: must be a duration in quotes such as",
        "tokens.api.identities_file: this version does not support this key yet",
        "store.kind: this version does not support redis yet",
        "--insecure-plaintext",
        "there is no [upstreams.apy]\n    help: did you mean \"api\"?",
        "warning: tokens.api.client_secret_file: the secret file missing.txt does not exist",
    ] {
        assert!(shown.contains(part), "{part}\nin:\n{shown}");
    }
}

#[test]
fn syntax_errors_and_other_mistakes_come_together() {
    let text = "[server]\nworkers = four\nlisten = 5\n\n[log\nlevel = \"info\"\n\n[upstreams.api]\nurl = 7\n";
    let problems = refused(text);
    assert_eq!(
        places(&problems),
        ["2:11 ", "3:10 server.listen", "5:5 ", "9:7 upstreams.api.url"],
        "{problems}"
    );
}

#[test]
fn a_good_file_means_what_it_says() {
    let Loaded { settings, warnings, files } = load_text(GOOD).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    assert!(files.is_empty());
    let both = ["127.0.0.1:8080", "[::1]:8080"].map(|address| ListenAddress::Tcp(address.parse().unwrap()));
    assert_eq!(settings.server.listen, both);
    assert_eq!((settings.server.workers, settings.server.max_header_size), (None, 64 * 1024));
    assert_eq!(settings.upstreams["api"].url.as_str(), "https://api.example.com/base");
    let token = &settings.tokens["api"];
    assert_eq!(token.policy, crate::token::Policy::default());
    assert_eq!(
        (token.attachment.header.as_str(), token.attachment.scheme.as_str()),
        ("authorization", "Bearer")
    );
    assert!(
        token.required
            && token.server().unwrap().request.scope.is_empty()
            && token.server().unwrap().request.params.is_empty()
    );
    assert_eq!((settings.routes[0].path.as_str(), settings.routes[0].token.as_deref()), ("/", Some("api")));
}

#[test]
fn the_keys_of_a_section_are_listed_once_and_first() {
    let text = good_with("[tokens.api]", "zzz = 1\nqqq = 2\nrenew = 0.5\nxxx = 3");
    let problems = refused(&format!("{text}[log]\nyyy = 1\n"));
    let helps: Vec<_> = problems.iter().map(|p| p.help.as_str()).collect();
    assert_eq!(helps.len(), 5, "{problems}");
    assert!(helps[0].contains("known here: issuer, "), "{problems}");
    assert!(helps[1].contains("the list above") && helps[3].contains("the list above"), "{problems}");
    assert_eq!(helps[2], "did you mean `renew_at`?");
    assert_eq!(helps[4], "leave it out; known here: format, level, access, access_sample, access_slow");
}

#[test]
fn an_inline_secret_is_warned_about_and_never_shown() {
    let text = GOOD.replace("client_secret_env = \"ORDERS_SECRET\"", "client_secret = \"sentinel\"");
    let loaded = load_text(&text).unwrap();
    assert!(!format!("{loaded:?}").contains("sentinel"));
    assert!(!format!("{:?}", source(&text)).contains("sentinel"));
}

#[test]
fn a_secret_of_the_wrong_shape_or_at_the_wrong_key_is_never_shown() {
    for line in [
        "client_secret = 8675309867",
        "client_secret = [\"sentinel\"]",
        "client_secret = { value = \"sentinel\" }",
        "client_secret = sentinel",
        "client_secret = \"sentinel",
        "client_secret = 'sentinel' 8675309867",
        "client_secert = \"sentinel\"",
        "client_secret_file = [\"sentinel\"]",
        "client_secret_env = \"sentinel=8675309867\"",
        "client_id = [\"sentinel\"]",
        "params = { a = 8675309867 }",
        "params = \"sentinel\"",
        "proxy = \"ftp://u:sentinel@p\"",
        "audience = 8675309867",
        "renew_at = \"sentinel\"",
        "wait = \"sentinel\"",
        "grant = 8675309867",
        "scope = \"sentinel\\u00e9\"",
        "resource = \"sentinel\"",
        "header = \"sentinel sentinel\"",
        "scheme = \"sentinel sentinel\"",
        "issuer = \"https://u:sentinel@p\"",
    ] {
        let text = good_with("[tokens.api]", line);
        let problems = refused(&text);
        let shown = format!("{problems} {problems:?}");
        assert!(!shown.contains("sentinel") && !shown.contains("8675309867"), "{line}:\n{shown}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| load(&Source::File(dir.path().join(name)), [], Options::default()).unwrap_err();
    let missing = read("gone.toml");
    assert_eq!(missing.len(), 1);
    assert!(
        missing.to_string().contains("--config") && missing.to_string().contains("--upstream"),
        "{missing}"
    );
    assert!(read("").to_string().contains("directory"));
    std::fs::write(dir.path().join("bytes"), b"[log]\nlevel = \"\xff\"\n").unwrap();
    assert!(read("bytes").to_string().contains("bytes:2:10: is not UTF-8"), "{}", read("bytes"));
    std::fs::write(dir.path().join("large"), vec![b'#'; (10 << 20) + 1]).unwrap();
    assert!(read("large").to_string().contains("larger than 10 MiB"));
}

#[test]
fn many_warnings_refuse_nothing_and_many_errors_are_cut() {
    let tokens = |id: &str| {
        (0..700)
            .map(|n| format!("[tokens.t{n}]\nissuer = \"https://a\"\n{id}\nclient_secret = \"x\"\n"))
            .collect::<Vec<_>>()
            .concat()
    };
    let loaded = load_text(&format!("{GOOD}{}", tokens("client_id = \"a\""))).unwrap();
    assert_eq!(loaded.warnings.len(), 1400);
    let problems = refused(&format!("{GOOD}{}", tokens("")));
    assert!(problems.to_string().contains("there may be more problems"));
    assert!(problems.len() < 1100, "{}", problems.len());
}
