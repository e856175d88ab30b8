//! Some thousand tokens on real sockets: each gets its own, and their server never sees more at once than it may.

use std::sync::Arc;
use std::time::Duration;

use super::counted_source::{CountedSource, Load, client_credentials};
use super::{
    Attachment, CONCURRENT_REQUESTS, Limits, Origin, Policy, Renewer, ServerSource, TokenHandle,
    TokenRegistry, TokenSettings,
};
use crate::clock::BootInstant;
use crate::demo::{AuthorizationServer as Peer, Options};
use crate::lifecycle::DrainTrigger;
use crate::metrics::Metrics;
use crate::oauth::AuthorizationServer;

#[tokio::test]
async fn three_thousand_clients_get_a_token_each_and_their_server_is_not_overrun() {
    let peer =
        Peer::start(Options { lifetime: Duration::from_hours(1), ..Options::default() }).await.unwrap();
    let first = client_credentials(&peer.token_endpoint(), "c");
    let server = Arc::new(AuthorizationServer::new(&first.server).unwrap());
    let settings = Arc::new(TokenSettings {
        origin: Origin::Server(Box::new(first)),
        attachment: Attachment { header: http::header::AUTHORIZATION, scheme: "Bearer".into() },
        policy: Policy::default(),
        required: true,
        revoke_on_exit: false,
    });
    let (_trigger, drain) = DrainTrigger::new();
    let metrics = Metrics::new();
    let renewer = Renewer::spawn(Limits::default(), drain, &metrics);
    let load = Load::default();
    let pool = Arc::from("crowd");
    let tokens: Vec<TokenHandle> = (0..CLIENTS)
        .map(|n| {
            let inner = ServerSource::new(
                Arc::clone(&server),
                client_credentials(&peer.token_endpoint(), &format!("client-{n}")),
                TokenRegistry::default(),
            );
            let source = CountedSource::new(inner, &load);
            renewer.add_to_pool(&pool, format!("client-{n}"), Arc::clone(&settings), Arc::new(source))
        })
        .collect();
    let began = BootInstant::now();
    while tokens.iter().any(|token| token.load().credentials.is_none()) {
        assert!(began.elapsed() < Duration::from_mins(2), "they do not all get one");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut values: Vec<_> =
        tokens.iter().map(|token| token.load().credentials.as_ref().unwrap().value.clone()).collect();
    values.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    values.dedup();
    assert_eq!(values.len(), CLIENTS, "each has its own");
    assert_eq!(peer.request_count(), CLIENTS as u64, "one request for each");
    assert!(load.most() <= CONCURRENT_REQUESTS);
}

const CLIENTS: usize = 3000;
