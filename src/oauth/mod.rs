//! The protocol alone: what to send to an authorization server and what its answers mean, never when.
//!
//! A file per idea of the RFCs. Nothing here knows schedules, storage or requests that pass through the proxy.

mod client;
mod discovery;
mod dpop;
mod endpoint;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod grant;
mod jose;
#[cfg(test)]
mod peer;

pub(crate) use client::assertion::AssertionTerms;
pub(crate) use client::secret_file::{blocking, read};
pub(crate) use client::{AssertionAudience, KeySettings};
pub(crate) use client::{Client, ClientAuth};
pub(crate) use discovery::server::ServerError;
pub(crate) use discovery::server::{Location, ServerSettings, Transport};
#[cfg(test)]
pub(crate) use dpop::DPOP_NONCE;
pub(crate) use dpop::Dpop;
pub(crate) use dpop::challenge::{
    BINDING_HELP, ChallengeVerdict, Incurable, challenge_verdict, demands_binding, demands_nonce,
};
pub(crate) use dpop::{Nonce, Target, token_hash};
pub(crate) use endpoint::AuthorizationServer;
pub(crate) use endpoint::dialect::Dialect;
pub(crate) use endpoint::dialect::{MemberPath, RequestFormat, ResponsePaths, TokenMethod};
pub(crate) use endpoint::failure::{Issued, TokenFailure};
pub(crate) use endpoint::number::MAX_LIFETIME;
pub(crate) use endpoint::remark::is_token_letter;
pub(crate) use endpoint::response::Oddity;
pub(crate) use endpoint::response::{Lifetime, TokenResponse, TokenType};
pub(crate) use endpoint::response::{jwt_expiry, parse_bare, parse_json};
pub(crate) use endpoint::revocation::TokenHint;
pub(crate) use endpoint::timestamp::rfc3339;
pub(crate) use error::Error;
pub(crate) use error::class::Class;
pub(crate) use error::interruption::Interruption;
#[cfg(test)]
pub(crate) use error::kind::AuthorizationFault;
pub(crate) use error::kind::Code as ErrorCode;
#[cfg(test)]
pub(crate) use error::kind::TransportFault;
pub(crate) use error::kind::{ErrorKind, Held, RequestFault, ResponseFault};
#[cfg(test)]
pub(crate) use error::login_end::LoginEnd;
#[cfg(test)]
pub(crate) use error::place::Place;
#[cfg(test)]
pub(crate) use error::sentences;
pub(crate) use grant::TokenRequest;
pub(crate) use grant::authorization_code::{Authorization, AuthorizationRequest, Manner, Pending, Pkce};
pub(crate) use grant::bearer::{AssertionUse, Bearer};
pub(crate) use grant::callback::Callback;
pub(crate) use grant::device_code::DeviceAuthorization;
pub(crate) use grant::google::GoogleKey;
pub(crate) use grant::id_token::Identity;
pub(crate) use grant::id_token::jwt_subject;
pub(crate) use grant::login::{LoginFailure, LoginWay};
pub(crate) use grant::redirect_uri::RedirectUri;
pub(crate) use grant::{Exchange, Grant, TypedToken};
pub(crate) use jose::jws::HmacAlgorithm;
pub(crate) use jose::jwt_facts::JwtFacts;
pub(crate) use jose::jwt_facts::{still_good, unquoted};
pub(crate) use jose::key::SigningKey;
pub(crate) use jose::key::{Algorithm, KeyError};
