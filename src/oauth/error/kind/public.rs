//! What an application may know of a token that could not be had: one sentence for each kind, which names the party at
//! fault and neither a place, a name nor a word of a server's beyond status and registered code.

use std::borrow::Cow;
use std::io;

use super::{CommandFault, Flaw, Holder, Kind, Phase};
use crate::net::tls_fault::TlsFault;
use crate::oauth::error::interruption::Interruption;
use crate::oauth::error::refusal::Meaning;
use crate::secret::SecretError;

impl Kind {
    /// Printable ASCII without a percent sign, as `grpc-message` needs it.
    pub(in crate::oauth) fn public_reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            // This machine, before anything is sent.
            Self::Secret(SecretError::Lacking(..)) | Self::Machine(_) | Self::Lacking(_) => {
                "this machine lacks what a token request takes, so none was sent"
            }
            Self::Secret(_) => {
                "a secret or an assertion that the configuration names cannot be read, so no token request was sent"
            }
            Self::Key(..) | Self::GoogleKey(..) => {
                "the client's key cannot be used for signing, so no token request was sent"
            }
            Self::Certificate(..) => {
                "the client's certificate file cannot be used, so no token request was sent"
            }
            Self::StoreBusy => "another process holds the lease of this token in the token store",
            Self::Store | Self::StillStored(_) | Self::Unread(_) => "the token store cannot be used",
            Self::Stalled => "the token request did not end within any timeout and was cancelled",
            Self::Panicked => "an internal error of this proxy",
            // The configuration.
            Self::ShortSecret => {
                "the client's secret is too short for client_secret_jwt, so no token request was sent"
            }
            Self::NoIssuer => {
                "the configuration names no issuer for the client's assertion, so no token request was sent"
            }
            Self::NoEndpoint(role) => {
                return Cow::Owned(format!(
                    "neither the configuration nor the authorization server's metadata name the {role}, so no token request was sent"
                ));
            }
            Self::InsecureEndpoint => {
                "the token endpoint is plain http on another machine, so no token request was sent"
            }
            Self::Unusable => "the token does not fit the header field and scheme that are configured",
            Self::NoCaller => "it exists for a caller's own token alone, and this request brings none",
            // The network between.
            Self::Dns => "the authorization server cannot be reached: its name does not resolve",
            Self::Lookup(_) => "the authorization server cannot be reached: its name cannot be looked up",
            Self::Connect(io::ErrorKind::ConnectionRefused) => {
                "the authorization server cannot be reached: it refuses the connection"
            }
            Self::Connect(_) => "the authorization server cannot be reached",
            Self::Proxy(fault) => return unreachable(fault),
            Self::Reset => {
                "the connection to the authorization server broke before its response was complete"
            }
            Self::Timeout(Phase::Proxy(stage)) => return unreachable(stage),
            Self::Timeout(phase) => phase.public_reason(),
            Self::Tls(fault) => return public_reason_of_tls(*fault),
            // The authorization server.
            Self::Redirect(_) | Self::RedirectTo(..) => {
                "the authorization server responds with a redirect, which is never followed"
            }
            Self::NoPkce => "the authorization server does not offer PKCE with S256",
            Self::Status(status) => {
                return format!("the authorization server responds with the status {}", status.as_u16())
                    .into();
            }
            Self::Denied(status, code) => {
                let meaning = Meaning::of(*status, Some(*code), None);
                return Cow::Owned(format!("{} ({})", meaning.public_reason(), code.as_str()));
            }
            Self::TooLarge => "the authorization server's response is too large",
            Self::Malformed(flaw) => flaw.public_reason(),
            Self::TokenType => "the authorization server's token is not of the type Bearer",
            Self::Unbound => "the authorization server's token is not bound to the client's key (DPoP)",
            Self::OtherIssuer(_) => {
                "the authorization server's metadata are for another issuer than the configured one"
            }
            Self::Stale => "the authorization server's token had expired when it arrived",
            Self::NoTime(_) => "the authorization server says that its token lives for no time",
            Self::Slow { .. } => "the authorization server took longer to respond than its token lives",
            Self::Withheld { .. } => {
                "the authorization server gave no token for the password twice, and it is not sent again"
            }
            Self::Inactive => "the authorization server says that the token just issued is not active",
            Self::CodeRefused => "the authorization server refused the code of the login",
            Self::LoginRequired => "nobody is logged in",
            Self::LoginEnded(end) => end.public_reason(),
            Self::LoginInterrupted(how) => how.public_reason(),
            Self::LoginDoubtful => {
                "the authorization server refuses to refresh it, and it may be that the login has ended"
            }
            Self::Authorization(code) => {
                return format!("the authorization server did not complete the login ({})", code.as_str())
                    .into();
            }
            Self::Callback(_) => "the browser did not bring a usable authorization response",
            Self::IdToken(_) => "the ID token of the login is not acceptable",
            // People.
            Self::LoggedOut => "it was logged out",
            Self::BrowserAbsent => "no dashboard is open in the browser that renews it",
            Self::Frame(fault) => fault.public_reason(),
            Self::OtherUser(_) => "another user is logged in at the authorization server in that browser",
            // Where else a token comes from.
            Self::Command(fault) => fault.public_reason(),
            Self::TokenFile(_) => "the token file cannot be read",
            Self::Text(holder, _) => holder.unusable(),
            Self::Spent(holder) => holder.spent(),
            Self::StillRefused(holder) => holder.still_refused(),
            Self::Subject(_) => "the token that is exchanged for it is not available",
            Self::SubjectExpired => "the token to exchange for it has expired, so no token request was sent",
            Self::Outdated { what, .. } => return outdated(what),
        })
    }
}

impl Holder {
    const fn unusable(self) -> &'static str {
        match self {
            Self::Command => "what the helper program printed is not a usable token",
            Self::File => "the token file holds no usable token",
            Self::Configuration => "the configured token is not usable",
        }
    }

    const fn spent(self) -> &'static str {
        match self {
            Self::Command => "the token that the helper program printed has expired",
            Self::File => "the token in the token file has expired",
            Self::Configuration => "the configured token has expired",
        }
    }

    const fn still_refused(self) -> &'static str {
        match self {
            Self::Command => "the helper program still prints the token that the API refuses",
            Self::File => "the token file still holds the token that the API refuses",
            Self::Configuration => "the configuration still holds the token that the API refuses",
        }
    }
}

impl Interruption {
    const fn public_reason(self) -> &'static str {
        match self {
            Self::Lost => {
                "the login has ended: the last refresh was interrupted, and the authorization server does not accept its refresh token any more"
            }
            Self::Failed => {
                "the login has ended: the last refresh ended in a failure of the authorization server or of a gateway, and the authorization server does not accept its refresh token any more"
            }
            Self::Unread => {
                "the login has ended: the response to the last refresh could not be read, and the authorization server does not accept its refresh token any more"
            }
        }
    }
}

impl Phase {
    const fn public_reason(self) -> &'static str {
        match self {
            Self::Lookup => {
                "the authorization server cannot be reached: its name was not resolved within connect_timeout"
            }
            Self::Connect => {
                "the authorization server cannot be reached: no connection within connect_timeout"
            }
            Self::Proxy(_) => {
                "the authorization server cannot be reached: the HTTP proxy on the way is too slow"
            }
            Self::Tls => {
                "the authorization server cannot be reached: no TLS handshake was complete within connect_timeout"
            }
            Self::Answer => "the authorization server did not respond within timeout",
        }
    }
}

fn unreachable(why: &impl std::fmt::Display) -> Cow<'static, str> {
    Cow::Owned(format!("the authorization server cannot be reached: {why}"))
}

fn outdated(what: &str) -> Cow<'static, str> {
    Cow::Owned(format!("the configured {what} has expired, so no token request was sent"))
}

fn public_reason_of_tls(fault: TlsFault) -> Cow<'static, str> {
    use TlsFault as F;
    Cow::Borrowed(match fault {
        F::UnknownIssuer
        | F::SelfSigned
        | F::WrongName
        | F::NoName
        | F::Expired
        | F::NotYetValid
        | F::Revoked
        | F::Algorithm
        | F::Purpose
        | F::Certificate => "the authorization server's certificate is not accepted",
        F::CertificateWanted => {
            "the authorization server demands a client certificate, and none is configured"
        }
        F::OwnExpired => "this client's certificate for the authorization server has expired",
        F::CertificateRefused => "the authorization server refuses this client's certificate",
        F::NotTls => "the authorization server does not speak TLS at its address",
        F::NoVersion | F::NoCipher | F::NoProtocol | F::UnknownName | F::Alert | F::Closed | F::Handshake => {
            "the TLS handshake with the authorization server failed"
        }
    })
}

impl Flaw {
    const fn public_reason(self) -> &'static str {
        match self {
            Self::NotHttp => "the authorization server does not speak HTTP at its address",
            Self::Page => "the authorization server's address responds with a page for people",
            Self::Empty
            | Self::NotJson
            | Self::BrokenJson
            | Self::Twice
            | Self::Encoding
            | Self::NoAccessToken
            | Self::AccessToken
            | Self::ExpiresIn => "the authorization server's response holds no usable token",
            Self::NoRequestUri | Self::Device(_) | Self::NoActive => {
                "the authorization server's response cannot be used"
            }
        }
    }
}

impl CommandFault {
    const fn public_reason(&self) -> &'static str {
        match self {
            Self::NoProcess(_) => "this machine has no process left for the helper program",
            Self::Missing(_) | Self::Forbidden(_) | Self::Start(..) => "the helper program cannot be started",
            Self::TimedOut(_) => "the helper program did not end within command_timeout",
            Self::Exit(..) | Self::Signal(..) => "the helper program failed",
            Self::Silent(_) | Self::TooMuch(_) => "the helper program printed no usable token",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use http::StatusCode;

    use super::super::{
        CallbackFault, CertificateFault, FoundIssuer, FrameFault, GoogleFault, Held, IdTokenFault, Place,
        Said, TextFlaw,
    };
    use super::*;
    use crate::machine::Lack;
    use crate::net::outbound_proxy::{ProxyFlaw, Unusable};
    use crate::net::proxy_fault::{ProxyFault, ProxyStage};
    use crate::net::resolver::LookupError;
    use crate::net::threads::NotDone;
    use crate::oauth::discovery::role::Role;
    use crate::oauth::error::Error;
    use crate::oauth::error::kind::code::{CODES, Code};
    use crate::oauth::error::login_end::LoginEnd;
    use crate::oauth::jose::key::KeyError;

    /// Who can do something about it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Party {
        /// This machine, its configuration, its files.
        Here,
        Server,
        Between,
        Person,
    }

    /// The names of all variants of an enum, and which one a value is. A variant that is not in the list does not compile,
    /// and one without an example fails [`each_kind_of_failure_has_an_example`].
    macro_rules! variants {
        ($name:ident of $of:ty { $($variant:ident)* }) => {
            struct $name;
            impl $name {
                const ALL: &[&str] = &[$(stringify!($variant)),*];

                fn of(value: &$of) -> &'static str {
                    type Of = $of;
                    match value {
                        $(Of::$variant { .. } => stringify!($variant),)*
                    }
                }
            }
        };
    }

    variants!(Kinds of Kind {
        Secret Key GoogleKey Certificate ShortSecret NoIssuer Dns Lookup Connect Proxy Tls Timeout Reset Redirect Status
        Denied TooLarge Malformed TokenType Unbound OtherIssuer NoEndpoint InsecureEndpoint Stale NoTime Slow Withheld
        Inactive Stalled Machine Lacking Panicked Unusable LoggedOut StoreBusy Store StillStored Unread LoginDoubtful
        Authorization Callback CodeRefused IdToken BrowserAbsent Frame OtherUser LoginRequired LoginEnded
        LoginInterrupted Command TokenFile Text Spent StillRefused Subject SubjectExpired Outdated RedirectTo NoPkce
        NoCaller
    });
    variants!(Flaws of Flaw {
        NotHttp Empty NotJson Page BrokenJson Twice Encoding NoAccessToken AccessToken ExpiresIn NoRequestUri Device
        NoActive
    });
    variants!(Phases of Phase { Lookup Connect Proxy Tls Answer });
    variants!(ProxyStages of ProxyStage { Lookup Tcp Tunnel });
    variants!(ProxyFaults of ProxyFault { Name Unreachable Refused Responded Broken Unusable });
    variants!(CommandFaults of CommandFault {
        NoProcess Missing Forbidden Start TimedOut Exit Signal Silent TooMuch
    });
    variants!(FrameFaults of FrameFault { Lost CookiesWithheld });
    variants!(LoginEnds of LoginEnd { Reused User Consent Expired Interaction Unknown Unrenewable });
    variants!(Interruptions of Interruption { Lost Unread Failed });
    variants!(Holders of Holder { Command File Configuration });
    variants!(TlsFaults of TlsFault {
        UnknownIssuer SelfSigned WrongName NoName Expired NotYetValid Revoked Algorithm Purpose Certificate
        CertificateWanted CertificateRefused OwnExpired NoVersion NoCipher NoProtocol UnknownName Alert Closed Handshake
        NotTls
    });
    variants!(Meanings of Meaning {
        Client Grant NoGrant Spent Person Exchange Scope Target Proof ProofDemanded Nonce Push RedirectUri Declined Forbidden
        Login Consent Interaction Late Https Request Address Gate Foreign Unattributed Busy Failure Pending Unexplained
    });

    const MEANINGS: [Meaning; 29] = [
        Meaning::Person,
        Meaning::Foreign,
        Meaning::Unattributed,
        Meaning::Client,
        Meaning::Grant,
        Meaning::NoGrant,
        Meaning::Spent,
        Meaning::Exchange,
        Meaning::Scope,
        Meaning::Target,
        Meaning::Proof,
        Meaning::ProofDemanded,
        Meaning::Nonce,
        Meaning::Push,
        Meaning::RedirectUri,
        Meaning::Declined,
        Meaning::Forbidden,
        Meaning::Login,
        Meaning::Consent,
        Meaning::Interaction,
        Meaning::Late,
        Meaning::Https,
        Meaning::Request,
        Meaning::Address,
        Meaning::Gate,
        Meaning::Busy,
        Meaning::Failure,
        Meaning::Pending,
        Meaning::Unexplained,
    ];

    fn kinds() -> Vec<(Kind, Party)> {
        let parties = [
            (here(), Party::Here),
            (server(), Party::Server),
            (between(), Party::Between),
            (people(), Party::Person),
        ];
        parties
            .into_iter()
            .flat_map(|(kinds, party)| kinds.into_iter().map(move |kind| (kind, party)))
            .collect()
    }

    fn here() -> Vec<Kind> {
        let path = || PathBuf::from("/sentinel/path");
        let held = || Held::Variable("SENTINEL".into());
        let said = || Said::new(b"sentinel", b"");
        let fault = || SecretError::Missing(path());
        vec![
            Kind::Secret(fault()),
            Kind::Key(held(), KeyError::Malformed),
            Kind::GoogleKey(held(), GoogleFault::Type),
            Kind::Certificate(path(), CertificateFault::NoCertificate),
            Kind::ShortSecret,
            Kind::NoIssuer,
            Kind::NoEndpoint(Role::Token),
            Kind::InsecureEndpoint,
            Kind::Unusable,
            Kind::StoreBusy,
            Kind::Store,
            Kind::StillStored("sentinel".into()),
            Kind::Unread("sentinel".into()),
            Kind::Stalled,
            Kind::Panicked,
            Kind::Machine(NotDone::NoThread),
            Kind::Lacking(Lack::Ports),
            Kind::Secret(SecretError::Lacking(path(), Lack::Descriptors)),
            Kind::Command(CommandFault::NoProcess("sentinel".into())),
            Kind::Command(CommandFault::Missing("sentinel".into())),
            Kind::Command(CommandFault::Forbidden("sentinel".into())),
            Kind::Command(CommandFault::Start("sentinel".into(), io::ErrorKind::Other)),
            Kind::Command(CommandFault::Signal(9, said())),
            Kind::Command(CommandFault::TooMuch(9)),
            Kind::Command(CommandFault::TimedOut(said())),
            Kind::Command(CommandFault::Exit(1, said())),
            Kind::Command(CommandFault::Silent(said())),
            Kind::TokenFile(fault()),
            Kind::Text(Holder::Command, TextFlaw::Empty),
            Kind::Text(Holder::File, TextFlaw::Denied),
            Kind::Text(Holder::Configuration, TextFlaw::NotAWord),
            Kind::Spent(Holder::Command),
            Kind::Spent(Holder::File),
            Kind::Spent(Holder::Configuration),
            Kind::Subject("sentinel".into()),
            Kind::SubjectExpired,
            Kind::Outdated { what: "assertion", told: "sentinel".into() },
            Kind::Outdated { what: "token to trade in", told: "sentinel".into() },
            Kind::StillRefused(Holder::Command),
            Kind::StillRefused(Holder::File),
            Kind::StillRefused(Holder::Configuration),
            Kind::Tls(TlsFault::OwnExpired),
        ]
    }

    fn server() -> Vec<Kind> {
        let status = StatusCode::BAD_REQUEST;
        let mut all = vec![
            Kind::Redirect(status),
            Kind::RedirectTo(status, Place::of(&"https://sentinel.example/login".parse().unwrap())),
            Kind::NoPkce,
            Kind::Status(status),
            Kind::TooLarge,
            Kind::Malformed(Flaw::NotHttp),
            Kind::Malformed(Flaw::Empty),
            Kind::Malformed(Flaw::NotJson),
            Kind::Malformed(Flaw::Page),
            Kind::Malformed(Flaw::BrokenJson),
            Kind::Malformed(Flaw::Twice),
            Kind::Malformed(Flaw::Encoding),
            Kind::Malformed(Flaw::NoAccessToken),
            Kind::Malformed(Flaw::AccessToken),
            Kind::Malformed(Flaw::ExpiresIn),
            Kind::Malformed(Flaw::NoRequestUri),
            Kind::Malformed(Flaw::Device("sentinel")),
            Kind::Malformed(Flaw::NoActive),
            Kind::TokenType,
            Kind::Unbound,
            Kind::OtherIssuer(FoundIssuer::of(Some("sentinel"))),
            Kind::Stale,
            Kind::NoTime(0),
            Kind::Slow { took: Duration::from_secs(2), lives: Duration::from_secs(1) },
            Kind::Withheld { last: None, sent: false },
            Kind::Inactive,
            Kind::CodeRefused,
            Kind::LoginEnded(LoginEnd::Reused),
            Kind::LoginEnded(LoginEnd::User),
            Kind::LoginEnded(LoginEnd::Consent),
            Kind::LoginEnded(LoginEnd::Expired),
            Kind::LoginEnded(LoginEnd::Interaction),
            Kind::LoginEnded(LoginEnd::Unknown),
            Kind::LoginDoubtful,
            Kind::Authorization(Code::AccessDenied),
            Kind::Tls(TlsFault::UnknownIssuer),
            Kind::Tls(TlsFault::SelfSigned),
            Kind::Tls(TlsFault::WrongName),
            Kind::Tls(TlsFault::NoName),
            Kind::Tls(TlsFault::Expired),
            Kind::Tls(TlsFault::NotYetValid),
            Kind::Tls(TlsFault::Revoked),
            Kind::Tls(TlsFault::Algorithm),
            Kind::Tls(TlsFault::Purpose),
            Kind::Tls(TlsFault::Certificate),
            Kind::Tls(TlsFault::CertificateWanted),
            Kind::Tls(TlsFault::CertificateRefused),
            Kind::Tls(TlsFault::NoVersion),
            Kind::Tls(TlsFault::NoCipher),
            Kind::Tls(TlsFault::NoProtocol),
            Kind::Tls(TlsFault::UnknownName),
            Kind::Tls(TlsFault::Alert),
            Kind::Tls(TlsFault::Closed),
            Kind::Tls(TlsFault::Handshake),
            Kind::Tls(TlsFault::NotTls),
        ];
        all.extend(CODES.into_iter().chain([Code::Other]).map(|code| Kind::Denied(status, code)));
        all
    }

    fn between() -> Vec<Kind> {
        vec![
            Kind::Dns,
            Kind::Connect(io::ErrorKind::ConnectionRefused),
            Kind::Connect(io::ErrorKind::HostUnreachable),
            Kind::Proxy(ProxyFault::Refused(407)),
            Kind::Proxy(ProxyFault::Responded(503)),
            Kind::Proxy(ProxyFault::Unreachable),
            Kind::Proxy(ProxyFault::Unusable(Unusable { by: "HTTPS_PROXY", flaw: ProxyFlaw::Malformed })),
            Kind::Proxy(ProxyFault::Broken),
            Kind::Proxy(ProxyFault::Name(LookupError::Unanswered)),
            Kind::Reset,
            Kind::Lookup(LookupError::Unanswered),
            Kind::Timeout(Phase::Lookup),
            Kind::Timeout(Phase::Connect),
            Kind::Timeout(Phase::Proxy(ProxyStage::Lookup)),
            Kind::Timeout(Phase::Proxy(ProxyStage::Tcp)),
            Kind::Timeout(Phase::Proxy(ProxyStage::Tunnel)),
            Kind::Timeout(Phase::Tls),
            Kind::Timeout(Phase::Answer),
        ]
    }

    fn people() -> Vec<Kind> {
        vec![
            Kind::LoggedOut,
            Kind::LoginRequired,
            Kind::LoginInterrupted(Interruption::Lost),
            Kind::LoginInterrupted(Interruption::Unread),
            Kind::LoginInterrupted(Interruption::Failed),
            Kind::LoginEnded(LoginEnd::Unrenewable),
            Kind::BrowserAbsent,
            Kind::Frame(FrameFault::Lost { server: "sentinel".into() }),
            Kind::Frame(FrameFault::CookiesWithheld { page: "sentinel".into(), server: "sentinel".into() }),
            Kind::OtherUser("sentinel".into()),
            Kind::Callback(CallbackFault::NoCode),
            Kind::IdToken(IdTokenFault::Nonce),
            Kind::NoCaller,
        ]
    }

    #[test]
    fn each_kind_of_failure_has_an_example() {
        let mut lacking: std::collections::BTreeSet<(&str, &str)> = std::collections::BTreeSet::new();
        let lists = [
            ("Kind", Kinds::ALL),
            ("Flaw", Flaws::ALL),
            ("Phase", Phases::ALL),
            ("ProxyStage", ProxyStages::ALL),
            ("ProxyFault", ProxyFaults::ALL),
            ("CommandFault", CommandFaults::ALL),
            ("FrameFault", FrameFaults::ALL),
            ("LoginEnd", LoginEnds::ALL),
            ("Interruption", Interruptions::ALL),
            ("TlsFault", TlsFaults::ALL),
            ("Text", Holders::ALL),
            ("Spent", Holders::ALL),
            ("StillRefused", Holders::ALL),
            ("Meaning", Meanings::ALL),
        ];
        for (of, all) in lists {
            lacking.extend(all.iter().map(|name| (of, *name)));
        }
        for (kind, _) in kinds() {
            lacking.remove(&("Kind", Kinds::of(&kind)));
            let inner = match &kind {
                Kind::Malformed(flaw) => ("Flaw", Flaws::of(flaw)),
                Kind::Timeout(phase) => {
                    if let Phase::Proxy(stage) = phase {
                        lacking.remove(&("ProxyStage", ProxyStages::of(stage)));
                    }
                    ("Phase", Phases::of(phase))
                }
                Kind::Proxy(fault) => ("ProxyFault", ProxyFaults::of(fault)),
                Kind::Command(fault) => ("CommandFault", CommandFaults::of(fault)),
                Kind::Frame(fault) => ("FrameFault", FrameFaults::of(fault)),
                Kind::LoginEnded(end) => ("LoginEnd", LoginEnds::of(end)),
                Kind::LoginInterrupted(how) => ("Interruption", Interruptions::of(how)),
                Kind::Tls(fault) => ("TlsFault", TlsFaults::of(fault)),
                Kind::Text(holder, _) => ("Text", Holders::of(holder)),
                Kind::Spent(holder) => ("Spent", Holders::of(holder)),
                Kind::StillRefused(holder) => ("StillRefused", Holders::of(holder)),
                _ => continue,
            };
            lacking.remove(&inner);
        }
        for meaning in MEANINGS {
            lacking.remove(&("Meaning", Meanings::of(&meaning)));
        }
        assert!(lacking.is_empty(), "without an example, and so perhaps in no document: {lacking:?}");
    }

    #[test]
    fn each_sentence_names_the_party_at_fault_and_nothing_else() {
        for (kind, party) in kinds() {
            let said = kind.public_reason();
            let blames_the_server = said.starts_with("the authorization server")
                || said.starts_with("the TLS handshake with the authorization server");
            let names_the_way = said.contains("cannot be reached")
                || said.contains("on the way to")
                || said.starts_with("the connection to")
                || said.contains("did not respond within");
            let right = match party {
                Party::Server => blames_the_server,
                Party::Between => names_the_way,
                Party::Here | Party::Person => !blames_the_server && !names_the_way,
            };
            assert!(right, "{kind:?}: {said}");
            assert!(
                !said.contains("refuses the token request") || matches!(kind, Kind::Denied(..)),
                "{kind:?}"
            );
            assert!(said.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'%'), "{said}");
            assert!(!said.to_lowercase().contains("sentinel"), "{said}");
        }
    }

    #[test]
    fn what_was_never_sent_is_said_to_be_so() {
        let unsent = [
            Kind::Key(Held::Configuration, KeyError::Malformed),
            Kind::Certificate(PathBuf::new(), CertificateFault::NoCertificate),
            Kind::Secret(SecretError::Missing(PathBuf::new())),
            Kind::ShortSecret,
            Kind::NoIssuer,
            Kind::NoEndpoint(Role::Token),
            Kind::InsecureEndpoint,
            Kind::SubjectExpired,
            Kind::Outdated { what: "assertion", told: "sentinel".into() },
        ];
        for kind in unsent {
            assert!(kind.public_reason().contains("no token request was sent"), "{kind:?}");
        }
        let endpoint = Kind::NoEndpoint(Role::Token).public_reason();
        assert!(endpoint.contains("token_endpoint"), "{endpoint}");
    }

    /// The table is checked against the code, so that it lacks no failure and no word of it is out of date.
    #[test]
    fn every_failure_is_in_the_documentation_with_cause_class_and_sentence() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut missing = std::collections::BTreeSet::new();
        for (kind, _) in kinds() {
            let error = Error::here(kind);
            let (cause, class, reason) = (error.cause(), error.class().as_str(), error.public_reason());
            let row = format!("| `{cause}` | {class} | {reason} |");
            if !text.lines().any(|line| line.starts_with(&row)) {
                missing.insert(row);
            }
        }
        // Prose is wrapped: a sentence of it may go over lines.
        let prose = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for meaning in
            MEANINGS.map(Meaning::public_reason).into_iter().filter(|reason| !prose.contains(reason))
        {
            missing.insert(meaning.to_owned());
        }
        let missing: Vec<_> = missing.into_iter().collect();
        assert!(missing.is_empty(), "docs/errors.md lacks:\n{}", missing.join("\n"));
    }
}
