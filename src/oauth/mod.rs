//! The protocol alone: what to send to an authorization server and what its answers mean, never when.
//!
//! A file per idea of the RFCs. Nothing here knows schedules, storage or requests that pass through the proxy.

mod assertion;
mod authentication;
mod authorization_code;
mod bearer;
mod callback;
mod challenge;
mod client;
mod connections;
mod details;
mod device_code;
mod dialect;
mod directory;
mod document;
mod dpop;
mod encoding;
mod endpoint;
mod error;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod google;
mod grant;
mod id_token;
mod introspection;
mod jws;
mod jwt_facts;
mod key;
mod kind;
mod login;
mod login_end;
mod members;
mod mention;
mod metadata;
#[cfg(test)]
mod peer;
mod random;
mod redirect_uri;
mod refusal;
mod remark;
mod report;
mod response;
mod revocation;
mod salvage;
mod server;
mod server_clock;
mod situation;
mod timestamp;
mod token_type;
mod transport;
mod write;

pub use assertion::AssertionTerms;
pub use authorization_code::{Authorization, AuthorizationRequest, Manner, Pending, Pkce};
pub use bearer::{AssertionUse, Bearer};
pub use callback::Callback;
pub use challenge::{
    BINDING_HELP, ChallengeVerdict, Incurable, challenge_verdict, demands_binding, demands_nonce,
};
pub use client::{AssertionAudience, Client, ClientAuth, KeySettings};
pub use device_code::DeviceAuthorization;
pub use dialect::{Dialect, MemberPath, RequestFormat, ResponsePaths, TokenMethod};
pub use dpop::{DPOP, DPOP_NONCE, Dpop, Nonce, Target, token_hash};
pub use endpoint::AuthorizationServer;
pub(crate) use endpoint::{blocking, read};
pub use error::{Class, Error};
pub use failure::{Issued, TokenFailure};
pub(crate) use google::GoogleKey;
pub use grant::{Exchange, Grant, TokenRequest, TypedToken};
pub use id_token::Identity;
pub(crate) use id_token::jwt_subject;
pub use jws::HmacAlgorithm;
pub use jwt_facts::JwtFacts;
pub(crate) use jwt_facts::{still_good, unquoted};
pub use key::{Algorithm, Curve, KeyError, KeyKind, SigningKey};
pub(crate) use kind::Code as ErrorCode;
#[cfg(test)]
pub(crate) use kind::Place;
pub(crate) use kind::{
    CommandFault, FrameFault, Held, Holder, Interruption, Kind as ErrorKind, Said, TextFlaw,
};
pub use login::{LoginFailure, LoginWay};
pub(crate) use login_end::LoginEnd;
pub use redirect_uri::RedirectUri;
pub use response::{Lifetime, MAX_LIFETIME, Oddity, TokenResponse, TokenType};
pub(crate) use response::{jwt_expiry, parse_bare, parse_json};
pub use revocation::TokenHint;
pub use server::{Issuer, Location, ServerSettings, Transport};
pub(crate) use timestamp::rfc3339;
pub use transport::ServerError;
