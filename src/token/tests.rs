//! Some thousand tokens on real sockets: each gets its own, and their server never sees more at once than it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{
    Attachment, CONCURRENT_REQUESTS, Fetched, GrantSettings, Limits, Origin, Policy, Renewer, Roster,
    ServerOrigin, ServerSource, Source, TokenHandle, TokenSettings,
};
use crate::clock::BootInstant;
use crate::demo::{AuthorizationServer as Peer, Options};
use crate::lifecycle::DrainTrigger;
use crate::metrics::Metrics;
use crate::net::outbound_proxy::OutboundProxy;
use crate::oauth::{
    AuthorizationServer, Client, ClientAuth, Dialect, Location, ServerSettings, TokenRequest, Transport,
};
use crate::secret::{Secret, SecretSource};
use crate::token::error::Error;
use futures_util::future::BoxFuture;

/// Counts how many ask at once.
struct Counted {
    inner: ServerSource,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Source for Counted {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(under_way, Ordering::SeqCst);
            let outcome = self.inner.fetch().await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            outcome
        })
    }
}

fn origin(endpoint: &str, client: String) -> ServerOrigin {
    let transport = Transport {
        ca_file: None,
        certificate: None,
        proxy: OutboundProxy::Direct,
        connect_timeout: Duration::from_secs(10),
        timeout: Duration::from_mins(1),
    };
    ServerOrigin {
        refresh_scope: true,
        server: ServerSettings {
            location: Location::endpoint(endpoint.parse().expect("a URL")),
            transport,
            token_type: None,
            dialect: Dialect::default(),
        },
        client: Client {
            id: client,
            auth: ClientAuth::SecretBasic(SecretSource::Inline(Secret::new("a secret".into()))),
        },
        grant: GrantSettings::ClientCredentials,
        request: TokenRequest { scope: Vec::new(), audience: None, resource: Vec::new(), params: Vec::new() },
        dpop: None,
    }
}

#[tokio::test]
async fn three_thousand_clients_get_a_token_each_and_their_server_is_not_overrun() {
    let peer =
        Peer::start(Options { lifetime: Duration::from_hours(1), ..Options::default() }).await.unwrap();
    let first = origin(&peer.token_endpoint(), "c".into());
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
    let (under_way, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let pool = Arc::from("crowd");
    let tokens: Vec<TokenHandle> = (0..CLIENTS)
        .map(|n| {
            let inner = ServerSource::new(
                Arc::clone(&server),
                origin(&peer.token_endpoint(), format!("client-{n}")),
                Roster::default(),
            );
            let source = Counted { inner, under_way: Arc::clone(&under_way), most: Arc::clone(&most) };
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
    assert!(most.load(Ordering::SeqCst) <= CONCURRENT_REQUESTS);
}

const CLIENTS: usize = 3000;
