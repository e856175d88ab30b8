//! What a JWT in a file says of itself, compared with the clock and with the configuration before anything is sent.

use url::Url;

use crate::config::file::Token;
use crate::config::findings::Review;
use crate::config::problem::Shown;
use crate::config::secret_ref::Found;
use crate::oauth::JwtFacts;

/// Warns of one that has expired. `what` it is, in a sentence.
pub(super) fn review(what: &str, found: &Found, review: &mut Review<'_>) {
    let facts = found.now.as_ref().and_then(|token| JwtFacts::read(token.expose()));
    let (Some(facts), Some(file)) = (facts, found.source.file()) else { return };
    if let Some(at) = facts.expired() {
        let at = httpdate::fmt_http_date(at);
        let what = format!("the {what} in the file {} expired at {at}: it is not sent", file.display());
        review.warning(&found.key, what, "see why nothing writes another one, and compare the clock");
    }
}

/// Warns of a subject token that is for its own issuer alone, and that is another server: a Kubernetes service account's
/// default token, say. Whom else a subject token may be for is the server's to decide (RFC 8693 section 2.1).
pub(super) fn review_subject(found: &Found, token: &Token, review: &mut Review<'_>) {
    let Some(facts) = found.now.as_ref().and_then(|text| JwtFacts::read(text.expose())) else { return };
    let Some(issuer) = facts.issuer() else { return };
    let is_its_issuers = matches!(facts.audience(), [only] if is_same(only, issuer));
    let is_ours = token.issuer.as_deref().is_none_or(|own| is_same(own, issuer));
    if is_its_issuers && !is_ours {
        let what = format!(
            "the token to trade in is for its own issuer, {}, and not for this authorization server",
            Shown(issuer)
        );
        let help = "have one issued whose `aud` names this authorization server, or what it expects there";
        review.warning(&found.key, what, help);
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// Warns of a client assertion that is for another server, or about another client.
pub(super) fn review_client_assertion(found: &Found, token: &Token, review: &mut Review<'_>) {
    let Some(facts) = found.now.as_ref().and_then(|text| JwtFacts::read(text.expose())) else { return };
    let own: Vec<_> = [&token.issuer, &token.token_endpoint].into_iter().flatten().collect();
    let is_elsewhere = |audience: &str| {
        Url::parse(audience).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && own.iter().filter_map(|own| Url::parse(own).ok()).all(|own| own.origin() != url.origin())
        })
    };
    // What is no URL may be a name that this server has (Entra's `api://AzureADTokenExchange`).
    if let [first, ..] = facts.audience()
        && facts.audience().iter().all(|audience| is_elsewhere(audience))
    {
        let what = format!("the assertion is for {} and not for this authorization server", Shown(first));
        review.warning(&found.key, what, "have one issued whose `aud` is the issuer, or its token endpoint");
    }
    if let (Some(about), Some(client_id)) = (facts.client(), &token.client_id)
        && about != client_id
    {
        let what = format!(
            "the assertion is of the client {}, and `client_id` is {}",
            Shown(about),
            Shown(client_id)
        );
        review.warning(&found.key, what, "have one made for this client, or set `client_id` to that one");
    }
}
