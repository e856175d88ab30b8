//! A source for tests that gives the same token each time.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;

use super::Sources;
use super::token_source::{Fetched, Source};
use crate::clock;
use crate::metrics::Metrics;
use crate::net::outbound_proxy::OutboundProxy;
use crate::oauth::{
    AssertionTerms, Client, ClientAuth, Dialect, KeySettings, Lifetime, Location, ServerSettings,
    TokenRequest, TokenResponse, Transport,
};
use crate::secret::{Secret, SecretSource};
use crate::token::error::Error;
use crate::token::{
    BearerAssertion, FolderSettings, GrantSettings, ServerOrigin, StoreAlarm, StoreSettings, TokenRegistry,
    open_store,
};

/// Gives a token that lives for an hour.
pub(in crate::token) struct Scripted {
    takes: Duration,
}

impl Scripted {
    pub(in crate::token) fn after(takes: Duration) -> Arc<Self> {
        Arc::new(Self { takes })
    }
}

pub(in crate::token) fn response(token: &str, lives: Duration) -> TokenResponse {
    TokenResponse::bearer(Secret::new(token.to_owned()), Lifetime::ExpiresIn(lives))
}

/// A JWT that says of itself only when it ends.
pub(in crate::token) fn jwt(seconds_from_now: i64) -> String {
    let exp = clock::unix_seconds().cast_signed() + seconds_from_now;
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{exp}}}"#)))
}

/// An authorization server that is not called.
pub(in crate::token) fn origin(grant: GrantSettings) -> ServerOrigin {
    let transport = Transport {
        ca_file: None,
        certificate: None,
        proxy: OutboundProxy::Direct,
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    ServerOrigin {
        refresh_scope: true,
        server: ServerSettings {
            location: Location::default(),
            transport,
            token_type: None,
            dialect: Dialect::default(),
        },
        client: Client { id: "c".into(), auth: ClientAuth::None },
        grant,
        request: TokenRequest { scope: vec![], audience: None, resource: vec![], params: vec![] },
        dpop: None,
    }
}

impl Source for Scripted {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            tokio::time::sleep(self.takes).await;
            Ok(response("scripted", Duration::from_hours(1)).into())
        })
    }

    fn patience(&self) -> Duration {
        Duration::from_hours(2)
    }
}

#[test]
fn a_token_outlives_a_restart_only_where_the_configuration_says_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let settings = FolderSettings { path: folder.path().to_owned(), encryption_key: None };
    let alarm = StoreAlarm::new(&Metrics::new());
    let store = open_store(&StoreSettings::File(settings), &alarm).unwrap();
    let sources = Sources::new(TokenRegistry::default(), store);
    let signed = |issuer: Option<&str>| {
        let key = SecretSource::File("service-account.json".into());
        let key = KeySettings { key, key_id: None, algorithm: None, certificate: None };
        let issuer = issuer.map(str::to_owned);
        GrantSettings::JwtBearer(BearerAssertion {
            key,
            issuer,
            subject: None,
            audience: None,
            terms: AssertionTerms::default(),
        })
    };
    for (grant, kept) in
        [(GrantSettings::ClientCredentials, true), (signed(Some("orders")), true), (signed(None), false)]
    {
        assert_eq!(sources.kept(&origin(grant)).is_some_and(|(_, store)| store.is_durable()), kept);
    }
}
