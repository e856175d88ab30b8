//! What `cupbearer check` finds out before anything is spent: what files say of themselves, what a login will need, what a
//! server ignored, where a redirect leads.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use cupbearer_testing::{Config, Origin, Proxy, Reply, clock, eventually, token_at, upstream_at};

fn jwt(claims: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

/// An authorization server with metadata of these members, whose token endpoint gives `token`.
async fn server(members: &'static str, token: String) -> Origin {
    Origin::start(move |request, _| {
        let issuer = format!("http://{}", request.field("host").unwrap());
        match request.target().as_str() {
            "/.well-known/oauth-authorization-server" => Reply::json(
                200,
                &format!(r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/token"{members}}}"#)
                    .replace("ISSUER", &issuer),
            ),
            "/token" => Reply::token(&token, 300),
            "/moved" => Reply::new(302, &[("location", "/login?state=sentinel")], ""),
            _ => Reply::new(404, &[], ""),
        }
    })
    .await
}

fn login(server: &Origin, grant: &str) -> String {
    format!(
        "[tokens.api]\nissuer = \"{}\"\ngrant = \"{grant}\"\nclient_id = \"orders\"\nclient_auth = \"none\"\n",
        server.url()
    )
}

#[tokio::test]
async fn a_login_that_nobody_has_made_yet_is_a_note_and_what_it_will_need_is_looked_for() {
    let api = Origin::ok().await;
    for (grant, members, code, what) in [
        ("device_code", "", 1, "device_authorization_endpoint"),
        (
            "device_code",
            r#","device_authorization_endpoint":"ISSUER/device""#,
            0,
            "note: no user is logged in yet",
        ),
        ("authorization_code", "", 1, "authorization_endpoint"),
        ("authorization_code", r#","authorization_endpoint":"ISSUER/authorize""#, 0, "cupbearer login api"),
        (
            "authorization_code",
            r#","authorization_endpoint":"ISSUER/authorize","code_challenge_methods_supported":["plain"]"#,
            1,
            "code_challenge_methods_supported",
        ),
        (
            "authorization_code",
            r#","authorization_endpoint":"ISSUER/authorize","require_pushed_authorization_requests":true"#,
            1,
            "pushed_authorization_request_endpoint",
        ),
    ] {
        let server = server(members, "t".to_owned()).await;
        let config = Config::one_route(&upstream_at(&api.url()), &login(&server, grant));
        for store in ["kind = \"memory\"", "kind = \"file\"\npath = \"store\""] {
            let (status, said) = config.clone().and(&format!("[store]\n{store}")).checked_online().await;
            assert_eq!(status, Some(code), "{grant} {members} {store}: {said}");
            assert!(said.contains(what), "{what} in {said}");
            for untrue in ["log in again", "would spend"] {
                assert!(!said.contains(untrue), "{said}");
            }
        }
        assert!(server.seen().iter().all(|request| request.target() != "/token"), "nothing was spent");
    }
}

#[tokio::test]
async fn an_audience_that_the_server_ignored_is_a_note() {
    let api = Origin::ok().await;
    for (aud, is_noted) in [(r#""account""#, true), (r#"["account","https://orders.example/"]"#, false)] {
        let server = server("", jwt(&format!(r#"{{"aud":{aud},"exp":4000000000}}"#))).await;
        let token = token_at(&format!("{}/token", server.url())) + "audience = \"https://orders.example\"\n";
        let (status, said) = Config::one_route(&upstream_at(&api.url()), &token).checked_online().await;
        assert_eq!(status, Some(0), "{said}");
        assert_eq!(said.contains("note: `audience` asks for \"https://orders.example\""), is_noted, "{said}");
        assert_eq!(said.contains("for \"account\""), is_noted, "{said}");
        assert_eq!(said.contains("is good and works\n"), !is_noted, "{said}");
    }
}

#[tokio::test]
async fn a_redirect_says_where_it_leads() {
    let api = Origin::ok().await;
    let server = server("", "t".to_owned()).await;
    let token = token_at(&format!("{}/moved", server.url()));
    let (status, said) = Config::one_route(&upstream_at(&api.url()), &token).checked_online().await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("302, a redirect to {}/login, which", server.url())), "{said}");
    assert!(!said.contains("sentinel"), "{said}");
}

#[tokio::test]
async fn an_assertion_that_says_it_has_expired_is_not_sent_and_a_new_one_counts_at_once() {
    let api = Origin::ok().await;
    let server = server("", "t0ken".to_owned()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("assertion");
    let at = server.url();
    fs::write(&file, jwt(&format!(r#"{{"iss":"ci","sub":"job","aud":"{at}","exp":1700000000}}"#))).unwrap();
    let token = format!(
        "[tokens.api]\nissuer = \"{at}\"\nclient_id = \"orders\"\nclient_auth = \"assertion_file\"\n\
         assertion_file = '{}'\nretry = {{ initial = \"50ms\", max = \"200ms\" }}\n",
        file.display()
    );
    let config = Config::one_route(&upstream_at(&api.url()), &token);
    let (status, said) = config.checked_online().await;
    assert_eq!(status, Some(1), "{said}");
    let expired =
        format!("the assertion in the file {} expired at Tue, 14 Nov 2023 22:13:20 GMT", file.display());
    assert_eq!(said.matches(&expired).count(), 2, "a warning and the outcome: {said}");
    assert!(said.contains("issued by \"ci\", about \"job\""), "{said}");
    let proxy = Proxy::start_live(config).await;
    eventually("the program says so", || async { proxy.log().contains(&expired) }).await;
    assert!(server.seen().iter().all(|request| request.target() != "/token"), "it was not sent");
    let exp = clock::unix_seconds() + 600;
    // With the quotes that a program printed around it.
    fs::write(&file, format!("\"{}\"\n", jwt(&format!(r#"{{"aud":"{at}","exp":{exp}}}"#)))).unwrap();
    eventually("the new one counts", || async { proxy.get("/").await.status == 200 }).await;
    let sent = server.seen().into_iter().find(|request| request.target() == "/token").unwrap();
    let body = String::from_utf8_lossy(&sent.body).into_owned();
    assert!(body.contains("client_assertion=e30.") && !body.contains("%22"), "{body}");
}

#[tokio::test]
async fn a_subject_token_that_is_for_its_own_issuer_alone_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let api = Origin::ok().await;
    let server = server("", "t".to_owned()).await;
    let token = format!(
        "[tokens.api]\nissuer = \"{}\"\ngrant = \"token_exchange\"\nclient_id = \"orders\"\nclient_auth = \"none\"\n\
         subject_token_file = '{}'\n",
        server.url(),
        file.display()
    );
    let config = Config::one_route(&upstream_at(&api.url()), &token);
    for (claims, is_warned) in [
        // The default token of a Kubernetes service account.
        (
            r#"{"iss":"https://kubernetes.default.svc","aud":["https://kubernetes.default.svc"],"sub":"system:serviceaccount:a:b"}"#,
            true,
        ),
        (r#"{"iss":"https://kubernetes.default.svc","aud":["SERVER"]}"#, false),
        (r#"{"iss":"SERVER","aud":"SERVER/"}"#, false),
        (r#"{"iss":"https://other.example","aud":"orders"}"#, false),
    ] {
        fs::write(&file, jwt(&claims.replace("SERVER", &server.url()))).unwrap();
        let (_, said) = config.checked_online().await;
        let warning = "warning: tokens.api.subject_token_file: the token to trade in is for its own issuer";
        assert_eq!(said.contains(warning), is_warned, "{claims}: {said}");
    }
}

#[tokio::test]
async fn an_assertion_for_another_server_or_another_client_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("assertion");
    let api = Origin::ok().await;
    let server = server("", "t".to_owned()).await;
    let token = format!(
        "[tokens.api]\nissuer = \"{}\"\nclient_id = \"orders\"\nclient_auth = \"assertion_file\"\nassertion_file = '{}'\n",
        server.url(),
        file.display()
    );
    let config = Config::one_route(&upstream_at(&api.url()), &token);
    for (claims, what) in [
        (
            r#"{"aud":"https://other.example/token"}"#,
            "is for \"https://other.example/token\" and not for this",
        ),
        (
            r#"{"iss":"billing","sub":"billing","aud":"SERVER"}"#,
            "is of the client billing, and `client_id` is orders",
        ),
        (r#"{"aud":"api://AzureADTokenExchange","iss":"x","sub":"y"}"#, ""),
    ] {
        fs::write(&file, jwt(&claims.replace("SERVER", &server.url()))).unwrap();
        let (_, said) = config.checked_online().await;
        assert!(said.contains(what), "{said}");
        assert_eq!(
            said.contains("warning: tokens.api.assertion_file: the assertion is"),
            !what.is_empty(),
            "{said}"
        );
    }
}
