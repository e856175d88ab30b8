//! Until when the client certificates of a configuration are valid, for the metrics. The listeners' own certificate is
//! `net::acceptor`'s.

use crate::config::Settings;
use crate::metrics::{CertificateUse, Metrics, Validity};
use crate::net::certificate::{self, ClientCertificate};
use crate::oauth::{Client, ClientAuth};
use crate::token::TokenSettings;

/// Shows the certificates that `settings` present to authorization servers and APIs. Blocks for a small read of each
/// certificate that client assertions name.
pub(super) fn show(settings: &Settings, metrics: &Metrics) {
    let tokens = settings.tokens.values().filter_map(TokenSettings::server);
    let shown = tokens.flat_map(|origin| {
        let transport = origin.server.transport.certificate.as_ref();
        transport.and_then(ClientCertificate::validity).into_iter().chain(named(&origin.client))
    });
    metrics.certificates(CertificateUse::Token).set(shown);
    let upstreams = settings.upstreams.values().filter_map(|upstream| upstream.certificate.as_ref());
    let shown = upstreams.filter_map(ClientCertificate::validity);
    metrics.certificates(CertificateUse::Upstream).set(shown);
}

/// The certificate that assertions name, which a server refuses once it has expired.
fn named(client: &Client) -> Option<Validity> {
    let ClientAuth::PrivateKeyJwt { key, .. } = &client.auth else { return None };
    certificate::validity_in(key.certificate.as_deref()?)
}
