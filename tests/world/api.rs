//! Protected APIs: one reads a token's expiry, the other introspects each token (RFC 7662).

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use tokio::net::TcpStream;

use cupbearer_testing::{Message, Origin, Reply, Wire, clock};

/// Where tokens are introspected, and by whom.
#[derive(Clone, Debug)]
pub(crate) struct Introspection {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// Client identifier and secret; empty where the endpoint needs none.
    pub(crate) client: (&'static str, &'static str),
}

/// Accepts any JWT that has not expired, as an API with cached keys does.
pub(crate) async fn reading() -> Origin {
    Origin::start(|request, _| {
        let claims = bearer(request).and_then(|token| claims(&token));
        let expiry = claims.and_then(|claims| claims["exp"].as_u64()).unwrap_or(0);
        response(if expiry > clock::unix_seconds() { 200 } else { 401 })
    })
    .await
}

/// Accepts what the authorization server calls active at that moment.
pub(crate) async fn introspecting(at: Introspection) -> Origin {
    let at = Arc::new(at);
    Origin::scripted(move |mut wire| {
        let at = Arc::clone(&at);
        async move {
            if let Some(request) = wire.request().await {
                let status = match bearer(&request) {
                    Some(token) => at.status(&token).await,
                    None => 401,
                };
                wire.send(response(status).into_bytes()).await;
            }
        }
    })
    .await
}

impl Introspection {
    /// 200 for an active token, 401 for another one, 500 where the server gives no usable response.
    async fn status(&self, token: &str) -> u16 {
        let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish();
        let credentials = STANDARD.encode([self.client.0, ":", self.client.1].concat());
        let fields = format!(
            "content-type: application/x-www-form-urlencoded\r\nauthorization: Basic {credentials}\r\n"
        );
        let response = call(self.address, "POST", &self.path, &fields, &form).await;
        let body = response.and_then(|response| serde_json::from_slice::<Value>(&response.body).ok());
        match body.and_then(|body| body["active"].as_bool()) {
            Some(true) => 200,
            Some(false) => 401,
            None => 500,
        }
    }
}

/// One request on a connection of its own; `None` where no whole response comes.
pub(crate) async fn call(
    address: SocketAddr,
    method: &str,
    target: &str,
    fields: &str,
    body: &str,
) -> Option<Message> {
    let mut wire = Wire::new(TcpStream::connect(address).await.ok()?);
    let length = body.len();
    wire.send(format!(
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
    ))
    .await;
    wire.response(method).await
}

fn bearer(request: &Message) -> Option<String> {
    Some(request.field("authorization")?.strip_prefix("Bearer ")?.to_owned())
}

fn claims(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn response(status: u16) -> Reply {
    // Each request has a connection of its own: none is idle for longer than the test's end waits.
    let close = ("connection", "close");
    let reply = match status {
        401 => Reply::new(401, &[("www-authenticate", "Bearer error=\"invalid_token\""), close], "refused"),
        _ => Reply::new(status, &[close], "done"),
    };
    reply.closing()
}
