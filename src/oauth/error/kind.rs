//! What can go wrong on the way to a token, each with the sentence that an operator reads.
//!
//! Closed sets, all of them: of what a server wrote, a status, a registered error code and the word for a token type get in
//! here. What else it says of a refusal stands beside the kind, in an error's details. `error` says what follows from each.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

use crate::machine::{Lack, Unreadable};
use crate::net::proxy_fault::{ProxyFault, ProxyStage};
use crate::net::resolver::LookupError;
use crate::net::threads::NotDone;
use crate::net::tls_fault::TlsFault;
use crate::secret::{SecretError, SecretSource};

use crate::oauth::discovery::role::Role;
use crate::oauth::error::interruption::Interruption;
use crate::oauth::error::login_end::LoginEnd;
use crate::oauth::error::place::Place;
use crate::oauth::error::refusal::Sentence;
use crate::oauth::jose::key::KeyError;

mod code;
mod found;
mod frame;
mod local;
mod public;

pub(crate) use code::Code;
pub(crate) use found::FoundIssuer;
pub(crate) use frame::FrameFault;
pub(in crate::oauth) use local::class_of_file;
pub(crate) use local::{CommandFault, Holder, Said, TextFlaw};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kind {
    #[error("{0}; no token request was made")]
    Secret(SecretError),
    #[error("{0} is no key to sign with: {1}; no token request was made")]
    Key(Held, KeyError),
    #[error("{0} is a JSON file of Google's, but {1}; no token request was made")]
    GoogleKey(Held, GoogleFault),
    #[error("the certificate file {path} {fault}; no token request was made", path = .0.display(), fault = .1)]
    Certificate(PathBuf, CertificateFault),
    #[error(
        "the client secret is shorter than client_secret_jwt needs, which is 32 bytes with HS256, 48 with HS384 and 64 with HS512; have a longer one made, or take client_secret_basic"
    )]
    ShortSecret,
    #[error(
        "the client's assertion is for the issuer and none is configured; set `issuer`, or `client_assertion_audience = \"endpoint\"`"
    )]
    NoIssuer,
    #[error("the host name does not resolve; check its spelling and this machine's DNS")]
    Dns,
    #[error("the host name cannot be looked up: {0}; {help}", help = .0.help())]
    Lookup(LookupError),
    #[error("{0}, so there is no connection; {help}", help = .0.help())]
    Lacking(Lack),
    #[error("no connection ({0}); check host, port and firewall")]
    Connect(io::ErrorKind),
    #[error("{0}; {help}", help = .0.help())]
    Proxy(ProxyFault),
    #[error("TLS failed: {0}; {help}", help = .0.help())]
    Tls(TlsFault),
    #[error("{0}")]
    Timeout(Phase),
    #[error("the connection was closed before the answer was complete")]
    Reset,
    #[error("it responded with {}, a redirect; a secret follows none, so configure the final address", .0.as_u16())]
    Redirect(StatusCode),
    #[error("{}", Sentence { status: *.0, code: None, details: None })]
    Status(StatusCode),
    #[error("{}", Sentence { status: *.0, code: Some(*.1), details: None })]
    Denied(StatusCode, Code),
    #[error("the answer is larger than {} KiB", crate::oauth::endpoint::body::MAX_BODY_BYTES / 1024)]
    TooLarge,
    #[error("{0}")]
    Malformed(Flaw),
    #[error("the token is not of the type Bearer")]
    TokenType,
    #[error(
        "a token bound to our key (DPoP) was asked for and the server gave one that is not; have it demand DPoP of this client, or take `dpop` away"
    )]
    Unbound,
    #[error(
        "the metadata there are for another issuer, {0}; `issuer` must equal the document's to the letter, a final slash included"
    )]
    OtherIssuer(FoundIssuer),
    #[error("nothing says where the {0} is; set `{0}`, or an `issuer` whose metadata name it")]
    NoEndpoint(Role),
    #[error("the token endpoint is plain http on another machine; a secret goes there by https alone")]
    InsecureEndpoint,
    #[error(
        "the token had expired when it arrived; compare the clocks of this machine and the authorization server"
    )]
    Stale,
    #[error(
        "the server says `expires_in` {0}, so that the token is over when it comes; have the server give it a lifetime, or leave `expires_in` out"
    )]
    NoTime(i64),
    #[error("the response took {} s, and the token lives for {} s", .took.as_secs(), .lives.as_secs())]
    Slow { took: Duration, lives: Duration },
    #[error(
        "the password was sent twice and brought no token, so it is not sent again: a protection against guessing locks the account"
    )]
    Withheld {
        /// With what the server refused it last; `None`: this process did not see it.
        last: Option<Box<Self>>,
        /// Whether it was sent just now.
        sent: bool,
    },
    #[error(
        "the token just issued is not active, says introspection; let this client introspect its own tokens, or take `introspection_endpoint` away"
    )]
    Inactive,
    #[error("the token request was given up: it outlived every timeout")]
    Stalled,
    #[error("{0}; {help}; no token request was made", help = help_of_machine(*.0))]
    Machine(NotDone),
    #[error("the token request ended in a defect of this program; please report it")]
    Panicked,
    #[error("the token and the configured scheme do not make a header value")]
    Unusable,
    #[error(
        "it was logged out; a new login, or `cupbearer renew` where the grant needs none, brings it back"
    )]
    LoggedOut,
    #[error("another process holds the lease of this token; see whether it hangs")]
    StoreBusy,
    #[error("the token store cannot be used, and no refresh token is spent without it; the log says why")]
    Store,
    /// Why, as the store has it.
    #[error("the token store still holds it, and a restart brings it back: {0}")]
    StillStored(Box<str>),
    /// The same.
    #[error("the token store cannot be read, so that nothing could be revoked: {0}")]
    Unread(Box<str>),
    #[error("the request is refused, or the login has ended: cupbearer login")]
    LoginDoubtful,
    #[error("the authorization server sent the browser back with the error `{}`", .0.as_str())]
    Authorization(Code),
    #[error("{0}; the code was not redeemed, so begin again")]
    Callback(CallbackFault),
    #[error(
        "the code was refused: it counts once and for a minute or so, for one client and one redirect URI; begin again"
    )]
    CodeRefused,
    #[error("the ID token {0}; the login was not kept")]
    IdToken(IdTokenFault),
    #[error(
        "it waits for an open dashboard to renew it in; open the control address in the browser that logged in"
    )]
    BrowserAbsent,
    #[error("{0}")]
    Frame(FrameFault),
    #[error(
        "the browser is logged in at the authorization server as somebody else by now, {0}; log in again as the one whose token it is to be"
    )]
    OtherUser(String),
    #[error("nobody is logged in: there is no refresh token; log in, or put one in its place")]
    LoginRequired,
    #[error("the login has ended: {}; {}", .0.reason(), .0.help())]
    LoginEnded(LoginEnd),
    #[error(
        "{0}, and the refresh token is not accepted any more: a server without a grace period ends the login then; \
         log in, or put a new refresh token in its place"
    )]
    LoginInterrupted(Interruption),
    #[error("{0}")]
    Command(CommandFault),
    #[error("{0}; the token is to be there")]
    TokenFile(SecretError),
    #[error("{0} {1}")]
    Text(Holder, TextFlaw),
    #[error("{0} has expired; {help}", help = .0.renewal())]
    Spent(Holder),
    /// What a file, a program or the configuration holds is unchanged since the API refused it.
    #[error("{} still {} the token that the API refuses; {}", .0.name(), .0.verb(), .0.replacement())]
    StillRefused(Holder),
    #[error("the token {0}, which is traded in for this one, is not to be had; its own state says why")]
    Subject(String),
    #[error("the token to trade in has expired, so it was not sent")]
    SubjectExpired,
    /// What a file holds says itself that it has expired; `told` is the file and the date.
    #[error(
        "the {what} in the file {told}; see why nothing writes another one, and compare the clock; no token request was made"
    )]
    Outdated { what: &'static str, told: Box<str> },
    #[error(
        "it responded with {status}, a redirect to {1}, which no secret follows: configure the final address; where that is a page to log in at, the server does not serve this endpoint",
        status = .0.as_u16()
    )]
    RedirectTo(StatusCode, Place),
    #[error(
        "the metadata name no method S256 for PKCE (`code_challenge_methods_supported`), and a login here uses no other; switch it on at the authorization server, or set `pkce = \"none\"` for a client that authenticates"
    )]
    NoPkce,
    #[error("this token is traded for the one that a caller brings; without a caller there is none")]
    NoCaller,
}

/// What to do about what this machine lacks.
const fn help_of_machine(not_done: NotDone) -> &'static str {
    match not_done {
        NotDone::NoThread => "raise the limit of processes (pids.max of the cgroup, ulimit -u)",
        NotDone::Full | NotDone::Panicked => "see which file hangs",
    }
}

/// Where a key is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Held {
    #[error("the key in the configuration")]
    Configuration,
    #[error("the environment variable {0}")]
    Variable(String),
    #[error("the key file {}", .0.display())]
    File(PathBuf),
}

impl Held {
    pub(crate) fn by(source: &SecretSource) -> Self {
        match source {
            SecretSource::Inline(_) => Self::Configuration,
            SecretSource::Env(name) => Self::Variable(name.clone()),
            SecretSource::File(path) => Self::File(path.clone()),
        }
    }
}

/// What is wrong with a key file of Google's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GoogleFault {
    #[error("not of a service account; make a key for one, or take another grant")]
    Type,
    #[error("it has no `{0}`; download it again")]
    Missing(&'static str),
}

/// What is wrong with what a browser brought back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallbackFault {
    #[error(
        "the answer that the browser brought does not say who gave it (`iss`), and this server promised to"
    )]
    NoIssuer,
    #[error(
        "the answer that the browser brought is another authorization server's: its `iss` is {found}, and the configured issuer is \"{configured}\""
    )]
    OtherIssuer { found: FoundIssuer, configured: String },
    #[error("the answer that the browser brought has no code")]
    NoCode,
}

/// Why an ID token is not taken (OpenID Connect Core 1.0 section 3.1.3.7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdTokenFault {
    #[error("is missing although the scope has `openid`")]
    Missing,
    #[error("is no JWT")]
    Malformed,
    #[error("is of another issuer, {0}")]
    Issuer(FoundIssuer),
    #[error("is for another client")]
    Audience,
    #[error("is of another login: its nonce is not ours")]
    Nonce,
    #[error("had expired {0} s ago when it came; set this machine's clock right")]
    Expired(u64),
    #[error("comes from {0} s in the future; set this machine's clock right")]
    Future(u64),
}

/// What is wrong with the certificate whose thumbprint an assertion names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateFault {
    #[error("{0}")]
    Unreadable(Unreadable),
    #[error("holds no certificate in PEM")]
    NoCertificate,
}

/// Which time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Phase {
    #[error("the host name was not resolved within `connect_timeout`; {help}", help = LookupError::Unanswered.help())]
    Lookup,
    #[error("no connection within `connect_timeout`; check host, port and firewall")]
    Connect,
    #[error("{0}; {help}", help = .0.help())]
    Proxy(ProxyStage),
    #[error(
        "the TLS handshake was not complete within `connect_timeout`; check that the port speaks TLS, and what stands in front of the server"
    )]
    Tls,
    #[error("no complete answer within `timeout`")]
    Answer,
}

/// What is wrong with an answer that says it is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("the answer is not HTTP; check the port")]
    NotHttp,
    #[error("the answer has an empty body")]
    Empty,
    #[error("the response is not a JSON object; check the address")]
    NotJson,
    #[error(
        "the response is an HTML page; check the address, and what stands in front of the server (a login page)"
    )]
    Page,
    #[error("the response begins as a JSON object and is none: it is cut off or malformed")]
    BrokenJson,
    #[error("the response has a member twice, so that it is not clear which one counts (RFC 8259 section 4)")]
    Twice,
    #[error("the response is compressed in a way that was not asked for and cannot be read")]
    Encoding,
    #[error(
        "the answer has no `access_token`; where the token stands elsewhere in it, set `response = {{ access_token = \"...\" }}`"
    )]
    NoAccessToken,
    #[error("the answer's `access_token` is not a string of visible ASCII")]
    AccessToken,
    #[error("the answer's `expires_in` is not a number")]
    ExpiresIn,
    #[error("the answer to a pushed authorization request has no `request_uri`")]
    NoRequestUri,
    #[error("the answer to a device authorization request has no {0} that can be used")]
    Device(&'static str),
    #[error("the answer does not say whether the token is `active`; check `introspection_endpoint`")]
    NoActive,
}

impl Flaw {
    /// Whether it is the lifetime that cannot be read.
    pub(crate) const fn is_expiry(self) -> bool {
        matches!(self, Self::ExpiresIn)
    }
}
