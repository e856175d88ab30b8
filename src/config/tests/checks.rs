//! Each check of a value, and of two values against each other.

use super::*;

#[test]
fn scopes_are_split_and_an_empty_one_is_none() {
    let scope = |value: &str| {
        let text = good_with("[tokens.api]", &format!("scope = {value}"));
        load_text(&text).unwrap().settings.tokens["api"].server().unwrap().request.scope.clone()
    };
    assert_eq!(scope("\"orders:read  orders:write\""), ["orders:read", "orders:write"]);
    assert_eq!(scope("[\"a b\", \"c\"]"), ["a", "b", "c"]);
    assert!(scope("\"\"").is_empty() && scope("[]").is_empty() && scope("\" \"").is_empty());
}

#[test]
fn a_listener_that_others_can_reach_needs_the_word() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
        let line = format!("[server]\nlisten = \"{address}\"\n");
        one_error(&format!("{line}{GOOD}"), "server.listen", &["other machines", "allow_remote = true"]);
        assert!(load_text(&format!("{line}allow_remote = true\n{GOOD}")).is_ok());
        one_error(
            &format!("[server]\nlisten = \"127.0.0.1:1\"\n[control]\nlisten = \"{address}\"\n{GOOD}"),
            "control.listen",
            &["changes state"],
        );
        assert!(
            load_text(&format!(
                "[server]\nlisten = \"127.0.0.1:1\"\n[health]\nlisten = \"{address}\"\n{GOOD}"
            ))
            .is_ok()
        );
    }
    for address in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80"] {
        assert!(load_text(&format!("[server]\nlisten = \"{address}\"\n{GOOD}")).is_ok(), "{address}");
    }
}

#[test]
fn a_mend_of_an_address_is_not_the_one_of_another_listener() {
    for (section, usual) in
        [("server", "localhost:8080"), ("health", "127.0.0.1:9901"), ("control", "localhost:9902")]
    {
        for address in ["unix:/run/x.sock", "nowhere"] {
            if section != "health" && address.starts_with("unix:") {
                continue;
            }
            let text = format!("[{section}]\nlisten = \"{address}\"\n{GOOD}");
            one_error(&text, &format!("{section}.listen"), &[&format!("\"{usual}\"")]);
        }
    }
}

#[test]
fn localhost_or_a_bare_port_is_the_loopback_of_both_families() {
    let both = |port: u16| {
        [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
            .map(|address| crate::proxy::ListenAddress::Tcp(address.parse().unwrap()))
    };
    for address in ["localhost:9000", "LocalHost:9000", "9000"] {
        let text = format!("[server]\nlisten = \"{address}\"\n[control]\nlisten = \"none\"\n{GOOD}");
        assert_eq!(load_text(&text).unwrap().settings.server.listen, both(9000), "{address}");
    }
    assert_eq!(load_text(GOOD).unwrap().settings.server.listen, both(8080));
    let text = format!("[server]\nlisten = \"127.0.0.1:9000\"\n{GOOD}");
    assert_eq!(load_text(&text).unwrap().settings.server.listen, both(9000)[..1], "what it says");
}

#[test]
fn two_listeners_may_each_have_a_free_port() {
    let text = format!("[health]\nlisten = \"127.0.0.1:0\"\n[control]\nlisten = \"127.0.0.1:0\"\n{GOOD}");
    assert!(load_text(&text).is_ok());
}

#[test]
fn a_drain_may_take_no_time() {
    assert!(load_text(&format!("[server]\ndrain_timeout = \"0s\"\n{GOOD}")).is_ok());
}

#[test]
fn what_would_go_out_in_the_clear_is_refused_unless_it_stays_here() {
    for (from, to, key) in [
        ("https://api.example.com/base", "http://api.example.com", "upstreams.api.url"),
        ("https://api.example.com/base", "http://127.0.0.1.example.com", "upstreams.api.url"),
        ("https://api.example.com/base", "http://10.0.0.1", "upstreams.api.url"),
        ("https://login.example.com/", "http://login.example.com/", "tokens.api.issuer"),
    ] {
        let text = GOOD.replace(from, to);
        one_error(&text, key, &["must be https", "--insecure-plaintext"]);
        let options = Options { insecure_plaintext: true };
        let loaded = load(&source(&text), [("ORDERS_SECRET".into(), "x".into())], options).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{}", loaded.warnings);
    }
    for here in ["http://localhost:1", "http://127.0.0.1:1", "http://127.8.8.8", "http://[::1]:1"] {
        assert!(load_text(&GOOD.replace("https://login.example.com/", here)).is_ok(), "{here}");
    }
}

#[test]
fn a_metadata_server_at_a_link_local_address_may_be_plain_http_where_no_secret_goes_there() {
    let by_get = "token_method = \"GET\"\ngrant_type = \"\"";
    let secret = "client_id = \"x\"\nclient_secret_env = \"ORDERS_SECRET\"";
    for at in ["169.254.169.254", "[fe80::a9fe:a9fe]"] {
        let endpoint = format!("token_endpoint = \"http://{at}/token\"");
        let text = token_of(&format!("{endpoint}\n{by_get}"));
        assert!(load_text(&text).is_ok(), "{text}");
        one_error(
            &token_of(&format!("{endpoint}\n{secret}")),
            "tokens.api.token_endpoint",
            &["must be https"],
        );
    }
}

#[test]
fn urls_carry_no_user_no_fragment_and_no_stray_query() {
    for (url, word) in [
        ("https://user:pass@api.example.com", "user name"),
        ("https://user@api.example.com", "user name"),
        ("https://api.example.com/#x", "fragment"),
        ("https://api.example.com/?x=1", "query"),
        ("ftp://api.example.com", "https://"),
        ("api.example.com", "scheme"),
        ("https://", "not a URL"),
    ] {
        one_error(&GOOD.replace("https://api.example.com/base", url), "upstreams.api.url", &[word]);
        one_error(&GOOD.replace("https://login.example.com/", url), "tokens.api.issuer", &[word]);
        assert!(!refused(&GOOD.replace("https://login.example.com/", url)).to_string().contains("pass@"));
    }
    let all = GOOD.replace("https://api.example.com/base", "http://user:pass@api.example.com/?q=1#f");
    let problems = refused(&all);
    assert_eq!(problems.len(), 4, "{problems}");
    for word in ["user name", "query", "fragment", "must be https"] {
        assert!(problems.to_string().contains(word), "{word} in {problems}");
    }
    let endpoint =
        GOOD.replace("issuer = \"https://login.example.com/", "token_endpoint = \"https://a/t?x=1");
    assert!(load_text(&endpoint).is_ok());
}

#[test]
fn an_upstream_may_be_another_port_of_this_machine() {
    assert!(load_text(&GOOD.replace("https://api.example.com/base", "http://127.0.0.1:8081")).is_ok());
}

#[test]
fn a_token_endpoint_wins_over_an_issuer_and_one_of_them_must_be_there() {
    let both = good_with("[tokens.api]", "token_endpoint = \"https://login.example.com/token\"");
    let location = load_text(&both).unwrap().settings.tokens["api"].server().unwrap().server.location.clone();
    assert_eq!(location.token_endpoint.unwrap().path(), "/token");
    let neither = GOOD.replace("issuer = \"https://login.example.com/\"", "");
    assert_eq!(places(&refused(&neither)), ["5:1 tokens.api.issuer"]);
}

#[test]
fn a_secret_file_may_come_later_and_is_looked_for_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let text = GOOD.replace("client_secret_env = \"ORDERS_SECRET\"", "client_secret_file = \"the-secret\"");
    std::fs::write(&config, text).unwrap();
    let load_file = || load(&Source::File(config.clone()), [], Options::default());
    let loaded = load_file().unwrap();
    assert_eq!(loaded.warnings.len(), 1, "{}", loaded.warnings);
    assert_eq!(loaded.files, [config.clone(), dir.path().join("the-secret")]);
    write_private(&dir.path().join("the-secret"), "s3cret\n");
    assert!(load_file().unwrap().warnings.is_empty());
    std::fs::write(dir.path().join("the-secret"), [0xff]).unwrap();
    assert!(load_file().unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn parameters_that_the_protocol_does_not_know_are_sent() {
    let text = good_with("[tokens.api]", "params = { organization = \"org 1\" }");
    let params = load_text(&text).unwrap().settings.tokens["api"].server().unwrap().request.params.clone();
    assert_eq!(params, [("organization".to_owned(), "org 1".to_owned())]);
}

#[test]
fn a_token_may_go_in_another_field_without_a_scheme() {
    let text = good_with("[tokens.api]", "header = \"X-Api-Key\"\nscheme = \"\"\nresource = \"urn:a:b\"");
    assert!(load_text(&text).is_ok());
}

#[test]
fn a_renewal_is_within_the_lifetime_and_its_delays_in_order() {
    for (jitter, help) in [(0.5, "0.025"), (2.0, "0.025")] {
        let with = |jitter: &str| good_with("[tokens.api]", &format!("renew_at = 0.05\njitter = {jitter}"));
        one_error(&with(&jitter.to_string()), "tokens.api.jitter", &[help]);
        assert!(load_text(&with(help)).is_ok(), "the help is right");
    }
    let text = good_with("[tokens.api]", "renew_at = 1\njitter = 0\nexpiry_margin = \"0s\"\nwait = \"0s\"");
    assert!(load_text(&text).is_ok());
}

#[test]
fn a_file_of_authorities_must_hold_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let text = good_with("[upstreams.api]", &format!("ca_file = {:?}", file.to_str().unwrap()));
    one_error(&text, "upstreams.api.ca_file", &["does not exist"]);
    std::fs::write(&file, "no certificate\n").unwrap();
    one_error(&text, "upstreams.api.ca_file", &["holds no certificate"]);
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    one_error(&text, "upstreams.api.ca_file", &["malformed"]);
    let certificate = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap().cert;
    std::fs::write(&file, certificate.pem()).unwrap();
    assert_eq!(load_text(&text).unwrap().files, std::slice::from_ref(&file));
    let token = good_with("[tokens.api]", &format!("ca_file = {:?}", dir.path().to_str().unwrap()));
    one_error(&token, "tokens.api.ca_file", &["not a file"]);
}

#[test]
fn a_routes_path_means_one_thing_only() {
    for path in ["/", "/v1", "/v1/x.y;z=1", "/a%20b", "/..a", "/@x:y"] {
        assert!(load_text(&good_with("[[routes]]", &format!("path = \"{path}\""))).is_ok(), "{path}");
    }
}

#[test]
fn hosts_origins_and_methods_are_what_a_request_says() {
    let text = good_with("[[routes]]", "host = \"Orders.LOCAL\"\nmethods = [\"GET\", \"PURGE\"]");
    let route = load_text(&text).unwrap().settings.routes.remove(0);
    assert_eq!((route.host.as_deref(), route.methods.len()), (Some("orders.local"), 2));
    let text = format!("[guard]\nallowed_origins = [\"https://a.com\", \"http://localhost:3000\"]\n{GOOD}");
    assert!(load_text(&text).is_ok());
}

#[test]
fn a_route_names_what_is_there() {
    let no_token = load_text(&GOOD.replace("token = \"api\"", "token = \"none\"")).unwrap();
    assert_eq!(no_token.settings.routes[0].token, None);
    assert_eq!(no_token.warnings.len(), 1, "the token is not used: {}", no_token.warnings);
    let without = GOOD.split("[[routes]]").next().unwrap();
    one_error(without, "routes", &["there is no route"]);
}

#[test]
fn a_name_is_fit_for_a_label() {
    for name in ["\"a b\"", "\"\"", "\"a.b\"", "none"] {
        let text = format!(
            "{GOOD}\n[tokens.{name}]\nissuer = \"https://a\"\nclient_id = \"a\"\nclient_secret_env = \"ORDERS_SECRET\""
        );
        assert!(refused(&text).to_string().contains("a name has"), "{name}");
    }
}

#[test]
fn a_route_that_nothing_reaches_is_warned_about() {
    let second = |first: &str, second: &str| {
        good_with("[[routes]]", first)
            + &format!("\n[[routes]]\nupstream = \"api\"\ntoken = \"api\"\n{second}")
    };
    for (first, then) in [
        ("", "path = \"/v1\""),
        ("path = \"/v1\"", "path = \"/v1/x\"\nhost = \"a\""),
        ("path = \"/v1\"\nmethods = [\"GET\", \"HEAD\"]", "path = \"/v1\"\nmethods = \"GET\""),
        ("host = \"a\"", "host = \"A\""),
    ] {
        one_warning(&second(first, then), "routes[1]", "routes[0] matches them all");
    }
    for (first, then) in [
        ("path = \"/v1\"", "path = \"/v10\""),
        ("path = \"/v1/x\"", "path = \"/v1\""),
        ("methods = \"GET\"", ""),
        ("host = \"a\"", ""),
        ("host = \"a\"", "host = \"b\""),
    ] {
        assert!(load_text(&second(first, then)).unwrap().warnings.is_empty(), "{first} {then}");
    }
}

#[test]
fn what_nothing_uses_is_warned_about() {
    let text = format!("{GOOD}\n[upstreams.spare]\nurl = \"https://a\"\n");
    one_warning(&text, "upstreams.spare", "no route uses it");
}

#[test]
fn a_level_may_be_that_of_a_target() {
    assert!(load_text(&format!("[log]\nlevel = \"cupbearer=debug,warn\"\n{GOOD}")).is_ok());
}
