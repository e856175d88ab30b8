//! `[tokens.NAME]`: a file here for each question of it.

mod attachment;
mod client;
mod dialect;
pub(super) mod exchange;
mod grant;
mod jwt;
mod key;
mod local;
mod login;
mod meaning;
mod policy;
mod request;
mod server;
mod terms;

use crate::config::Options;
use crate::config::file::{Grant, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::secret_ref::{Need, Variables, Wanted, Written};
use crate::oauth::ClientAuth;
use crate::token::{DpopSettings, Origin, ServerOrigin, TokenSettings};

/// Resolves the token at `path`; what is wrong goes to `review`. `None` only where something was.
pub(super) fn resolve(
    path: &KeyPath,
    token: &Token,
    options: Options,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<TokenSettings> {
    // Each part is looked at, whatever the one before it had.
    meaning::check(path, token, review);
    let origin = origin(path, token, options, variables, review);
    let attachment = attachment::resolve(path, token, review);
    let policy = policy::resolve(path, token, review);
    let per_caller = exchange::is_per_caller(token);
    if per_caller {
        for (key, set, what) in [
            (
                "required",
                token.required,
                "there is no token before a caller comes, so that readiness cannot wait for it",
            ),
            ("revoke_on_exit", token.revoke_on_exit, "the tokens of callers are not given back"),
        ] {
            let key = path.key(key);
            if set && review.is_given(&key) {
                review.error(&key, what, "take it out");
            }
        }
    }
    Some(TokenSettings {
        origin: origin?,
        attachment: attachment?,
        policy,
        required: token.required && !per_caller,
        revoke_on_exit: token.revoke_on_exit,
    })
}

fn origin(
    path: &KeyPath,
    token: &Token,
    options: Options,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<Origin> {
    // An unknown grant does not tell what is missing; what is there is checked all the same.
    let unknown = review.is_spoken_for(&path.key("grant"));
    match token.grant {
        Grant::Command => return local::command(path, token, review).map(Origin::Command),
        Grant::File => return local::file(path, token, variables, review).map(Origin::File),
        Grant::Static => return local::fixed(path, token, variables, review).map(Origin::Static),
        Grant::SelfSigned => {
            let signed = grant::self_signed(path, token, variables, review);
            return signed.map(|signed| Origin::SelfSigned(Box::new(signed)));
        }
        _ => {}
    }
    let certificates = client::certificates(path, token, review);
    let transport = certificates.as_ref().and_then(|these| these.transport.clone());
    let granted = grant::resolve(path, token, variables, review);
    let server = if unknown && token.issuer.is_none() && token.token_endpoint.is_none() {
        None
    } else {
        server::resolve(path, token, transport, granted.token_uri, options, review)
    };
    let has_secret = token.client_secret_file.is_some() || token.client_secret.is_some();
    let client = if unknown && !has_secret {
        None
    } else {
        client::resolve(path, token, certificates.as_ref(), variables, review)
    };
    let request = request::resolve(path, token, review);
    let dpop = dpop(path, token, variables, review);
    let origin = ServerOrigin {
        server: server?,
        client: client?,
        grant: granted.grant.filter(|_| !unknown)?,
        request: request?,
        refresh_scope: token.refresh_scope,
        dpop: dpop.ok()?,
    };
    if origin.client.auth == ClientAuth::Tls
        && origin.server.location.token_endpoint.as_ref().is_some_and(|url| url.scheme() != "https")
    {
        let what =
            "must be https: the certificate of client_auth = \"tls_client_auth\" is shown in TLS alone";
        review.error(&path.key("token_endpoint"), what, "use https");
    }
    Some(Origin::Server(Box::new(origin)))
}

/// The key that tokens are bound to. `Err`: something was reported.
fn dpop(
    path: &KeyPath,
    token: &Token,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Result<Option<DpopSettings>, ()> {
    if !token.dpop {
        return Ok(None);
    }
    let keys = vec![("dpop_key_file", Written::File(token.dpop_key_file.as_deref()))];
    let wanted = Wanted { noun: "private key", owner: "DPoP", keys };
    let found = wanted.resolve(path, Need::Optional, variables, review)?;
    let key = match found {
        Some(found) => Some(key::Spec::bare(path).check(found, review).ok_or(())?.settings.key),
        None => None,
    };
    Ok(Some(DpopSettings { key }))
}
