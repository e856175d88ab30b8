//! The protocol alone: what to send to an authorization server and what its answers mean, never when.
//!
//! A file per idea of the RFCs. Nothing here knows schedules, storage or requests that pass through the proxy.

mod assertion;
mod authentication;
mod authorization_code;
mod bearer;
mod body;
mod callback;
mod challenge;
mod class;
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
mod interruption;
mod introspection;
mod json_body;
mod jws;
mod jwt_facts;
mod key;
mod kind;
mod login;
mod login_end;
mod members;
mod mention;
mod metadata;
mod number;
#[cfg(test)]
mod peer;
mod place;
mod random;
mod redirect_uri;
mod refusal;
mod refused_refresh;
mod remark;
mod report;
mod response;
mod revocation;
mod role;
mod salvage;
mod secret_file;
mod server;
mod server_clock;
mod situation;
mod timestamp;
mod token_type;
mod transport;
mod write;

pub(crate) use assertion::AssertionTerms;
pub(crate) use authorization_code::{Authorization, AuthorizationRequest, Manner, Pending, Pkce};
pub(crate) use bearer::{AssertionUse, Bearer};
pub(crate) use callback::Callback;
pub(crate) use challenge::{
    BINDING_HELP, ChallengeVerdict, Incurable, challenge_verdict, demands_binding, demands_nonce,
};
pub(crate) use class::Class;
pub(crate) use client::{AssertionAudience, KeySettings};
pub(crate) use client::{Client, ClientAuth};
pub(crate) use device_code::DeviceAuthorization;
pub(crate) use dialect::Dialect;
pub(crate) use dialect::{MemberPath, RequestFormat, ResponsePaths, TokenMethod};
#[cfg(test)]
pub(crate) use dpop::DPOP_NONCE;
pub(crate) use dpop::Dpop;
pub(crate) use dpop::{Nonce, Target, token_hash};
pub(crate) use endpoint::AuthorizationServer;
pub(crate) use error::Error;
pub(crate) use failure::{Issued, TokenFailure};
pub(crate) use google::GoogleKey;
pub(crate) use grant::TokenRequest;
pub(crate) use grant::{Exchange, Grant, TypedToken};
pub(crate) use id_token::Identity;
pub(crate) use id_token::jwt_subject;
pub(crate) use interruption::Interruption;
pub(crate) use jws::HmacAlgorithm;
pub(crate) use jwt_facts::JwtFacts;
pub(crate) use jwt_facts::{still_good, unquoted};
pub(crate) use key::SigningKey;
pub(crate) use key::{Algorithm, KeyError};
pub(crate) use kind::Code as ErrorCode;
pub(crate) use kind::{CommandFault, FrameFault, Held, Holder, Kind as ErrorKind, Said, TextFlaw};
pub(crate) use login::{LoginFailure, LoginWay};
pub(crate) use login_end::LoginEnd;
pub(crate) use number::MAX_LIFETIME;
#[cfg(test)]
pub(crate) use place::Place;
pub(crate) use redirect_uri::RedirectUri;
pub(crate) use response::Oddity;
pub(crate) use response::{Lifetime, TokenResponse, TokenType};
pub(crate) use response::{jwt_expiry, parse_bare, parse_json};
pub(crate) use revocation::TokenHint;
pub(crate) use secret_file::{blocking, read};
pub(crate) use server::ServerError;
pub(crate) use server::{Location, ServerSettings, Transport};
pub(crate) use timestamp::rfc3339;
