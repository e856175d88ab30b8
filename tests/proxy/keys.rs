//! Providers that deviate from the protocol, by the general keys alone: each server here takes nothing but the request that
//! its provider documents, byte for byte.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use cupbearer_testing::{
    Config, Key, LoginCommand, Message, Origin, Proxy, Reply, SECRET, clock::unix_seconds, curl, eventually,
    login_command, repository, upstream_at,
};

/// A token endpoint that responds with `token` where `request` finds nothing to object to, else with what it misses.
async fn strict(
    request: impl Fn(&Message) -> Result<(), String> + Send + Sync + 'static,
    token: impl Fn(usize) -> String + Send + Sync + 'static,
) -> Origin {
    Origin::start(move |message, before| match request(message) {
        Ok(()) => Reply::json(200, &token(before)),
        Err(why) => {
            let body = json!({"error": "invalid_request", "error_description": why});
            Reply::json(400, &body.to_string())
        }
    })
    .await
}

/// What a request must be, and is not.
fn same(what: &str, got: impl Into<String>, want: &str) -> Result<(), String> {
    let got = got.into();
    if got == want { Ok(()) } else { Err(format!("{what} is {got} and not {want}")) }
}

fn token_lines(lines: &str) -> String {
    format!("[tokens.api]\n{lines}\n")
}

/// A proxy with one token of these lines, whose API takes everything.
async fn proxy(lines: &str) -> (Origin, Proxy) {
    let api = Origin::ok().await;
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_lines(lines))).await;
    (api, proxy)
}

async fn credentials(api: &Origin, proxy: &Proxy) -> String {
    assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    api.seen().last().unwrap().field("authorization").unwrap()
}

/// A part of a JWT.
fn part(jwt: &str, index: usize) -> Value {
    let part = jwt.split('.').nth(index).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap_or_default()).unwrap_or_default()
}

#[tokio::test]
async fn another_grant_type_and_its_parameters_bring_a_token() {
    // As Zoom's server-to-server applications have it.
    let server = strict(
        |request| {
            same("the request", request.start(), "POST /oauth/token HTTP/1.1")?;
            let form = "application/x-www-form-urlencoded";
            same("the content type", request.field("content-type").unwrap_or_default(), form)?;
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("orders:{SECRET}"));
            same("Authorization", request.field("authorization").unwrap_or_default(), &format!("Basic {basic}"))?;
            same("the body", request.text(), "grant_type=account_credentials&account_id=A1%3D")
        },
        |_| r#"{"access_token":"zoom","token_type":"bearer","expires_in":3599,"scope":"a:b","api_url":"https://api.zoom.us"}"#.to_owned(),
    )
    .await;
    let (api, proxy) = proxy(&format!(
        "token_endpoint = \"{}/oauth/token\"\ngrant_type = \"account_credentials\"\nclient_id = \"orders\"\n\
         client_secret = \"{SECRET}\"\nparams = {{ account_id = \"A1=\" }}",
        server.url()
    ))
    .await;
    assert_eq!(credentials(&api, &proxy).await, "Bearer zoom");
}

#[tokio::test]
async fn an_api_key_is_sent_under_the_servers_own_name_and_its_expiry_is_found() {
    // As IBM Cloud's IAM has it: no client at all.
    let end = unix_seconds() + 3000;
    let server = strict(
        |request| {
            same("the request", request.start(), "POST /identity/token HTTP/1.1")?;
            same("Authorization", request.field("authorization").unwrap_or_default(), "")?;
            let body =
                format!("grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey={SECRET}");
            same("the body", request.text(), &body)
        },
        move |_| format!(r#"{{"access_token":"ibm","refresh_token":"not_supported","token_type":"Bearer","expiration":{end}}}"#),
    )
    .await;
    let (api, proxy) = proxy(&format!(
        "token_endpoint = \"{}/identity/token\"\ngrant_type = \"urn:ibm:params:oauth:grant-type:apikey\"\n\
         client_auth = \"client_secret_post\"\nclient_secret = \"{SECRET}\"\nparameter_names = {{ client_secret = \"apikey\" }}",
        server.url()
    ))
    .await;
    assert_eq!(credentials(&api, &proxy).await, "Bearer ibm");
    let left = proxy.status().await["tokens"][0]["expires_in_seconds"].as_u64().unwrap();
    assert!((2700..=3000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_json_endpoint_gets_json_and_its_members_are_read_where_they_stand() {
    // As Feishu has it.
    let server = strict(
        |request| {
            same("the request", request.start(), "POST /auth/v3/tenant_access_token HTTP/1.1")?;
            same("the content type", request.field("content-type").unwrap_or_default(), "application/json")?;
            same("X-Version", request.all("x-version").join(","), "7")?;
            let body = format!(r#"{{"app_id":"orders","app_secret":"{SECRET}"}}"#);
            same("the body", request.text(), &body)
        },
        |before| {
            format!(r#"{{"code":0,"msg":"ok","expire":2,"data":{{"tokens":[{{"value":"t-{before}"}}]}}}}"#)
        },
    )
    .await;
    let (api, proxy) = proxy(&format!(
        "token_endpoint = \"{}/auth/v3/tenant_access_token\"\ngrant_type = \"\"\nclient_id = \"orders\"\n\
         client_auth = \"client_secret_post\"\nclient_secret = \"{SECRET}\"\nrequest_format = \"json\"\n\
         parameter_names = {{ client_id = \"app_id\", client_secret = \"app_secret\" }}\ntoken_headers = {{ X-Version = \"7\" }}\n\
         response = {{ access_token = \"data.tokens.0.value\", expires_in = \"expire\" }}",
        server.url()
    ))
    .await;
    assert!(credentials(&api, &proxy).await.starts_with("Bearer t-"));
    eventually("it is renewed by the lifetime that was found", || async { server.seen().len() >= 3 }).await;
    assert_eq!(proxy.status().await["tokens"][0]["failures"], 0);
}

#[tokio::test]
async fn a_metadata_server_is_asked_by_get_with_its_field() {
    // As Azure's instance metadata service has it: numbers are strings, and there is no client.
    let server = strict(
        |request| {
            let target = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.example HTTP/1.1";
            same("the request", request.start(), target)?;
            same("Metadata", request.field("metadata").unwrap_or_default(), "true")?;
            for field in ["authorization", "content-type", "transfer-encoding"] {
                same(field, request.field(field).unwrap_or_default(), "")?;
            }
            same("the body", request.text(), "")
        },
        |_| r#"{"access_token":"imds","expires_in":"3599","expires_on":"1506484173","resource":"r","token_type":"Bearer"}"#.to_owned(),
    )
    .await;
    let (api, proxy) = proxy(&format!(
        "token_endpoint = \"{}/metadata/identity/oauth2/token?api-version=2018-02-01\"\ngrant_type = \"\"\n\
         token_method = \"GET\"\ntoken_headers = {{ Metadata = \"true\" }}\nresource = \"https://vault.example\"",
        server.url()
    ))
    .await;
    assert_eq!(credentials(&api, &proxy).await, "Bearer imds");
}

#[tokio::test]
async fn a_refresh_goes_to_its_own_address_in_the_servers_names() {
    let server = strict(
        |request| {
            same("the request", request.start(), "POST /refresh?v=2 HTTP/1.1")?;
            let body = request.form();
            let names: Vec<_> = body.iter().map(|(name, _)| name.as_str()).collect();
            same("the parameters", names.join(" "), "grant_type refresh_token client_key client_secret")?;
            same("client_key", body[2].1.clone(), "orders")
        },
        |before| {
            format!(r#"{{"access_token":"a-{before}","refresh_token":"r-{before}","expires_in":2,"token_type":"Bearer"}}"#)
        },
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("refresh");
    fs::write(&file, "r-first").unwrap();
    let (api, proxy) = proxy(&format!(
        "token_endpoint = \"{url}/token\"\nrefresh_endpoint = \"{url}/refresh?v=2\"\ngrant = \"refresh_token\"\n\
         refresh_token_file = '{}'\nclient_id = \"orders\"\nclient_auth = \"client_secret_post\"\nclient_secret = \"{SECRET}\"\n\
         parameter_names = {{ client_id = \"client_key\" }}",
        file.display(),
        url = server.url()
    ))
    .await;
    assert!(credentials(&api, &proxy).await.starts_with("Bearer a-"));
    eventually("it is refreshed again", || async { server.seen().len() >= 3 }).await;
    let spent: Vec<_> = server.seen().iter().map(|request| request.form()[1].1.clone()).collect();
    assert_eq!(spent[..3], ["r-first", "r-0", "r-1"]);
}

#[tokio::test]
async fn an_assertion_says_what_the_server_wants_and_lives_no_longer_than_it_allows() {
    // As Box has it: 60 seconds at most, from `iat` too.
    let server = strict(
        |request| {
            let form = request.form();
            let (_, assertion) =
                form.iter().find(|(name, _)| name == "assertion").ok_or("there is no assertion")?;
            let (header, claims) = (part(assertion, 0), part(assertion, 1));
            same("alg", header["alg"].to_string(), "\"RS512\"")?;
            same("box_sub_type", claims["box_sub_type"].to_string(), "\"enterprise\"")?;
            same("sub", claims["sub"].to_string(), "\"627\"")?;
            let (iat, exp) = (claims["iat"].as_u64().unwrap_or(0), claims["exp"].as_u64().unwrap_or(0));
            if exp > iat + 60 || exp > unix_seconds() + 60 {
                Err("exp is too far away".to_owned())
            } else {
                Ok(())
            }
        },
        |_| r#"{"access_token":"box","expires_in":3600,"token_type":"bearer","restricted_to":[]}"#.to_owned(),
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    fs::write(&file, Key::new("RS512").await.pem).unwrap();
    let (api, proxy) = proxy(&format!(
        "token_endpoint = \"{}/oauth2/token\"\ngrant = \"jwt_bearer\"\nclient_id = \"orders\"\n\
         client_auth = \"client_secret_post\"\nclient_secret = \"{SECRET}\"\nkey_file = '{}'\nkey_algorithm = \"RS512\"\n\
         subject = \"627\"\nassertion_claims = {{ box_sub_type = \"enterprise\" }}\nassertion_lifetime = \"45s\"",
        server.url(),
        file.display()
    ))
    .await;
    assert_eq!(credentials(&api, &proxy).await, "Bearer box");
}

#[tokio::test]
async fn a_token_that_the_api_itself_verifies_is_signed_here_and_renewed_by_time() {
    // As App Store Connect has it: no authorization server, `ES256` with a key's name, 20 minutes at most, no `sub`.
    let api = Origin::start(|request, _| {
        let token = request.field("authorization").unwrap_or_default();
        let token = token.trim_start_matches("Bearer ").to_owned();
        let (header, claims) = (part(&token, 0), part(&token, 1));
        let lives = claims["exp"].as_u64().unwrap_or(0) - claims["iat"].as_u64().unwrap_or(0);
        let good = header == json!({"alg": "ES256", "typ": "JWT", "kid": "2X9R4HXF34"})
            && claims["iss"] == "57246542"
            && claims["aud"] == "appstoreconnect-v1"
            && claims["scope"] == json!(["GET /v1/apps"])
            && claims.get("sub").is_none()
            && claims["exp"].as_u64().unwrap_or(0) > unix_seconds()
            && (1..=1200).contains(&lives);
        if good { Reply::ok() } else { Reply::json(401, r#"{"errors":[{"code":"NOT_AUTHORIZED"}]}"#) }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("AuthKey.p8");
    fs::write(&file, Key::new("ES256").await.pem).unwrap();
    let lines = |lifetime: &str| {
        let lines = token_lines(&format!(
            "grant = \"self_signed\"\nkey_file = '{}'\nkey_id = \"2X9R4HXF34\"\nissuer_claim = \"57246542\"\n\
             audience_claim = \"appstoreconnect-v1\"\nassertion_claims = {{ scope = [\"GET /v1/apps\"] }}\n\
             assertion_lifetime = \"{lifetime}\"\nexpiry_margin = \"0s\"\nrenew_at = 0.3\njitter = 0.0",
            file.display()
        ));
        Config::one_route(&upstream_at(&api.url()), &lines)
    };
    let proxy = Proxy::start(lines("10s")).await;
    assert_eq!(proxy.get("/v1/apps").await.status, 200);
    eventually("another is signed in time", || async {
        proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap() >= 2
    })
    .await;
    assert_eq!(proxy.get("/v1/apps").await.status, 200);
    assert!(api.authorizations().len() >= 2, "it is another one by then");
    let token = proxy.status().await["tokens"][0].clone();
    assert_eq!((&token["grant"], &token["status"]), (&json!("self_signed"), &json!("valid")));
    let (code, said) = lines("20m").checked_online().await;
    assert!(code == Some(0) && said.contains("the key gave a token"), "{code:?} {said}");
}

#[tokio::test]
async fn a_callers_token_is_the_assertion_of_an_on_behalf_of_request() {
    // As Entra has it.
    let server = strict(
        |request| {
            let form = request.form();
            let pairs: Vec<_> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let caller = form.iter().find(|(name, _)| name == "assertion").map(|(_, value)| value.clone());
            let caller = caller.filter(|caller| caller.starts_with("caller-")).ok_or("no caller's token")?;
            let want = [
                "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned(),
                format!("assertion={caller}"),
                "scope=api://orders/.default".to_owned(),
                "requested_token_use=on_behalf_of".to_owned(),
                "client_id=orders".to_owned(),
                format!("client_secret={SECRET}"),
            ];
            same("the form", pairs.join("&"), &want.join("&"))
        },
        |before| format!(r#"{{"access_token":"obo-{before}","token_type":"Bearer","expires_in":3599,"ext_expires_in":3599}}"#),
    )
    .await;
    let api = Origin::ok().await;
    let lines = token_lines(&format!(
        "token_endpoint = \"{}/oauth2/v2.0/token\"\ngrant = \"jwt_bearer\"\nsubject_token = \"incoming\"\n\
         client_id = \"orders\"\nclient_auth = \"client_secret_post\"\nclient_secret = \"{SECRET}\"\n\
         scope = \"api://orders/.default\"\nparams = {{ requested_token_use = \"on_behalf_of\" }}",
        server.url()
    ));
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &lines)).await;
    let call = |token: &'static str| {
        let url = proxy.url("/");
        async move { curl(&["--header", &format!("Authorization: Bearer {token}"), &url]).await.status }
    };
    for caller in ["caller-a", "caller-b", "caller-a"] {
        assert_eq!(call(caller).await, 200, "{}", proxy.log());
    }
    let seen: Vec<_> = api.seen().iter().map(|request| request.field("authorization").unwrap()).collect();
    assert_eq!(seen, ["Bearer obo-0", "Bearer obo-1", "Bearer obo-0"], "each caller has their own");
    assert_eq!(proxy.get("/").await.status, 401, "there is none without a caller");
}

#[tokio::test]
async fn a_persons_nested_token_comes_by_an_encrypted_redirect_that_is_pasted() {
    // As Slack has it: an https redirect URI, no PKCE, the person's token within `authed_user`, a refresh in the usual form.
    let server = strict(
        |request| {
            same("the request", request.start(), "POST /api/oauth.v2.access HTTP/1.1")?;
            let form = request.form();
            let names: Vec<_> = form.iter().map(|(name, _)| name.as_str()).collect();
            match form[0].1.as_str() {
                "authorization_code" => {
                    same("the parameters", names.join(" "), "grant_type code redirect_uri client_id client_secret")?;
                    same("redirect_uri", form[2].1.clone(), "https://orders.example/slack?app=1")
                }
                _ => same("the parameters", names.join(" "), "grant_type refresh_token client_id client_secret"),
            }
        },
        |before| match before {
            0 => r#"{"ok":true,"access_token":"xoxb","token_type":"bot","refresh_token":"bot-refresh","expires_in":43200,
                "authed_user":{"id":"U1","scope":"chat:write","access_token":"xoxp-0","token_type":"user",
                "refresh_token":"user-0","expires_in":2}}"#
                .to_owned(),
            n => format!(
                r#"{{"ok":true,"access_token":"xoxp-{n}","token_type":"user","refresh_token":"user-{n}","expires_in":3}}"#
            ),
        },
    )
    .await;
    let api = Origin::ok().await;
    let lines = token_lines(&format!(
        "token_endpoint = \"{url}/api/oauth.v2.access\"\nauthorization_endpoint = \"{url}/oauth/v2/authorize\"\n\
         grant = \"authorization_code\"\nclient_id = \"orders\"\nclient_auth = \"client_secret_post\"\n\
         client_secret = \"{SECRET}\"\nredirect_uri = \"https://orders.example/slack?app=1\"\npkce = \"none\"\n\
         authorization_params = {{ user_scope = \"chat:write\" }}\ntoken_type = \"user\"\n\
         response = {{ access_token = \"authed_user.access_token\" }}",
        url = server.url()
    ));
    let config = Config::one_route(&upstream_at(&api.url()), &lines).and("[store]\nkind = \"memory\"\n");
    let proxy = Proxy::start_live(config).await;
    assert!(proxy.log().contains("pkce"), "the start warns: {}", proxy.log());
    let mut command = LoginCommand::start(login_command(&proxy.config_file(), &["--no-browser"]));
    let address = command.address("/authorize?").await;
    assert!(!address.contains("code_challenge") && address.contains("user_scope=chat%3Awrite"), "{address}");
    let state = address.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let said = command.said();
    assert!(said.contains("https://orders.example/slack") && said.contains("paste it here"), "{said}");
    let stdin = command.child.stdin.as_mut().unwrap();
    let last = format!("https://orders.example/slack?app=1&code=c1&state={state}\n");
    stdin.write_all(last.as_bytes()).await.unwrap();
    let (code, said) = command.ended().await;
    assert!(code == 0 && said.contains("api: logged in"), "{code} {said}");
    assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    let seen = api.seen().last().unwrap().field("authorization").unwrap();
    assert!(seen.starts_with("Bearer xoxp-"), "the person's, and not the bot's: {seen}");
    eventually("it is refreshed by the person's refresh token", || async {
        server.seen().iter().any(|request| request.text().contains("refresh_token=user-1"))
    })
    .await;
    assert!(server.seen()[1].text().contains("refresh_token=user-0"), "{}", server.seen()[1].text());
}

#[tokio::test]
async fn a_token_for_another_host_than_every_upstream_is_warned_about_once() {
    // As Salesforce and Zoho have it.
    for (member, elsewhere) in [("instance_url", true), ("api_domain", true), ("instance_url", false)] {
        let host = if elsewhere { "https://acme.example.com" } else { "http://127.0.0.1:1" };
        let server = strict(
            |_| Ok(()),
            move |_| {
                format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":1,"{member}":"{host}"}}"#)
            },
        )
        .await;
        let (api, proxy) = proxy(&format!(
            "token_endpoint = \"{}\"\nclient_id = \"orders\"\nclient_secret = \"{SECRET}\"",
            server.url()
        ))
        .await;
        credentials(&api, &proxy).await;
        eventually("it is renewed", || async { server.seen().len() >= 3 }).await;
        let log = proxy.log();
        let lines = log.lines().filter(|line| line.contains("names another host for the API")).count();
        assert_eq!(lines, usize::from(elsewhere), "{log}");
        assert!(!elsewhere || log.contains("acme.example.com"), "{log}");
    }
}

/// The script of a recipe under `deploy/`.
fn recipe(name: &str) -> String {
    repository().join("deploy/recipes").join(name).join("token.sh").display().to_string()
}

#[tokio::test]
async fn the_recipe_for_an_installation_of_a_github_app_brings_its_token() {
    let github = strict(
        |request| {
            same("the request", request.start(), "POST /app/installations/42/access_tokens HTTP/1.1")?;
            same("the body", request.text(), "")?;
            same("Accept", request.all("accept").join(","), "application/vnd.github+json")?;
            let jwt = request.field("authorization").unwrap_or_default();
            let jwt = jwt.trim_start_matches("Bearer ");
            same("alg", part(jwt, 0)["alg"].to_string(), "\"RS256\"")?;
            let claims = part(jwt, 1);
            same("iss", claims["iss"].to_string(), "\"Iv1\"")?;
            let (iat, exp) = (claims["iat"].as_u64().unwrap_or(0), claims["exp"].as_u64().unwrap_or(0));
            if exp <= iat + 600 && exp > unix_seconds() { Ok(()) } else { Err(claims.to_string()) }
        },
        |_| {
            r#"{"token":"ghs_1","expires_at":"2099-07-11T22:14:10Z","permissions":{"contents":"read"}}"#
                .to_owned()
        },
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.pem");
    fs::write(&file, Key::new("RS256").await.pem).unwrap();
    let (api, proxy) = proxy(&format!(
        "grant = \"command\"\ncommand = [\"env\", \"GITHUB_API={}\", \"GITHUB_CLIENT_ID=Iv1\", \"GITHUB_INSTALLATION_ID=42\", \
         \"GITHUB_KEY_FILE={}\", \"{}\"]",
        github.url(),
        file.display(),
        recipe("github-app")
    ))
    .await;
    assert_eq!(credentials(&api, &proxy).await, "Bearer ghs_1");
    assert!(proxy.status().await["tokens"][0]["expires_in_seconds"].as_u64().unwrap() > 86_400);
}

#[tokio::test]
async fn the_recipe_for_impersonation_at_google_brings_the_other_accounts_token() {
    let google = strict(
        |request| {
            let target = "POST /v1/projects/-/serviceAccounts/robot@p.example:generateAccessToken HTTP/1.1";
            same("the request", request.start(), target)?;
            same("Authorization", request.field("authorization").unwrap_or_default(), "Bearer ya29.own")?;
            same("the content type", request.field("content-type").unwrap_or_default(), "application/json")?;
            same("the body", request.text(), r#"{"scope":["a","b"],"lifetime":"3600s"}"#)
        },
        |_| r#"{"accessToken":"ya29.robot","expireTime":"2099-07-11T22:14:10.123456789Z"}"#.to_owned(),
    )
    .await;
    let (api, proxy) = proxy(&format!(
        "grant = \"command\"\ncommand = [\"env\", \"GOOGLE_IAM_API={}\", \"GOOGLE_SERVICE_ACCOUNT=robot@p.example\", \
         \"GOOGLE_SCOPE=a b\", \"GOOGLE_SOURCE_TOKEN=echo ya29.own\", \"{}\"]",
        google.url(),
        recipe("google-impersonation")
    ))
    .await;
    assert_eq!(credentials(&api, &proxy).await, "Bearer ya29.robot");
}
