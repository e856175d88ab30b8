//! Silent renewal in Chromium where the login application has another origin than the issuer.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::api;
use super::hydra::Hydra;
use cupbearer_testing::{Chrome, Config, Proxy, clock, free_address, upstream_at};

#[tokio::test]
async fn a_hidden_frame_renews_through_a_login_page_of_another_origin() {
    let hydra = Hydra::start("12s").await;
    let callback = format!("http://{}/callback", free_address());
    // The dashboard's address is known before the client is registered.
    let control = free_address();
    let client = hydra
        .register(json!({
            "token_endpoint_auth_method": "none", "grant_types": ["authorization_code"],
            "redirect_uris": [callback, format!("http://{control}/silent")],
        }))
        .await;
    let api = api::introspecting(hydra.introspection()).await;
    let config = Config::new(format!(
        "{}[tokens.api]\nissuer = \"{}\"\ngrant = \"authorization_code\"\nclient_id = \"{client}\"\n\
         client_auth = \"none\"\nscope = \"openid\"\nrenew_via = \"browser\"\nredirect_uri = \"{callback}\"\n\
         [[routes]]\nupstream = \"api\"\ntoken = \"api\"\n\
         [store]\nkind = \"memory\"\n",
        upstream_at(&api.url()),
        hydra.issuer()
    ))
    .control(&format!("listen = \"{control}\""));
    let proxy = Proxy::start_live(config).await;
    let mut chrome = Chrome::start().await;
    chrome.open("desk", &format!("http://{control}/")).await;
    chrome.wait("desk", "button:text-is('Log in')").await;
    chrome.click("desk", "button:text-is('Log in')").await;
    chrome.until("desk-tab", "document.body.innerText.includes('You are logged in')").await;
    chrome.order(json!({ "do": "close", "page": "desk-tab" })).await;

    let status = || async {
        let status = cupbearer_testing::curl(&[&format!("http://{control}/status")]).await.json();
        status["tokens"][0].clone()
    };
    let start = clock::now();
    while status().await["status"] != "valid" {
        assert!(start.elapsed() < Duration::from_mins(1), "{}\n{}", status().await, proxy.log());
        sleep(Duration::from_millis(100)).await;
    }
    let before = status().await["renewals"].as_u64().unwrap();
    let start = clock::now();
    let mut served = 0;
    while status().await["renewals"].as_u64().unwrap() < before + 3 {
        let token = status().await;
        let looked = chrome.order(json!({ "do": "look", "page": "desk" })).await;
        assert!(start.elapsed() < Duration::from_secs(90), "{token}\n{}\n{}", looked["wrong"], proxy.log());
        let response = proxy.get("/").await;
        assert_eq!(
            response.status,
            200,
            "{}\n{token}\n{}\n{}",
            response.text(),
            looked["wrong"],
            proxy.log()
        );
        served += 1;
        sleep(Duration::from_millis(300)).await;
    }
    println!("| silent renewal through another origin | {served} | {served} x 200 | - |");
}
