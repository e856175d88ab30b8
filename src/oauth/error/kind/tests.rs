//! Each kind has an example, a sentence for applications that names the party at fault, and a row in the documentation.

use std::io;
use std::path::PathBuf;

use crate::machine::Lack;
use crate::net::outbound_proxy::{ProxyFlaw, Unusable};
use crate::net::proxy_fault::{ProxyFault, ProxyStage};
use crate::net::resolver::LookupError;
use crate::net::threads::NotDone;
use crate::net::tls_fault::TlsFault;
use crate::oauth::discovery::role::Role;
use crate::oauth::error::Error;
use crate::oauth::error::place::Place;
use crate::oauth::error::sentences::{Party, all_documented, documentation, judge, variants};
use crate::oauth::jose::key::KeyError;
use crate::secret::SecretError;

use super::code::CODES;
use super::*;

variants!(Kinds of ErrorKind {
    Request Transport Response Authorization Status Denied Withheld LoginDoubtful LoginEnded
});
variants!(RequestFaults of RequestFault {
    Secret Key GoogleKey Certificate ShortSecret NoIssuer NoEndpoint InsecureEndpoint Machine Outdated Panicked
});
variants!(TransportFaults of TransportFault { Dns Lookup Lacking Connect Proxy Tls Timeout Reset });
variants!(ResponseFaults of ResponseFault {
    Redirect RedirectTo TooLarge Malformed TokenType Unbound OtherIssuer NoTime Inactive NoPkce
});
variants!(AuthorizationFaults of AuthorizationFault { Denied Callback CodeRefused IdToken });
variants!(Flaws of ResponseFlaw {
    NotHttp Empty NotJson Page BrokenJson Twice Encoding NoAccessToken AccessToken ExpiresIn NoRequestUri Device
    NoActive
});
variants!(Phases of TransportPhase { Lookup Connect Proxy Tls Answer });
variants!(ProxyStages of ProxyStage { Lookup Tcp Tunnel });
variants!(ProxyFaults of ProxyFault { Name Unreachable Refused Responded Broken Unusable });
variants!(LoginEnds of LoginEnd { Reused User Consent Expired Interaction Unknown });
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

fn kinds() -> Vec<(ErrorKind, Party)> {
    let parties = [
        (here(), Party::Here),
        (server(), Party::Server),
        (between(), Party::Between),
        (people(), Party::Person),
    ];
    parties.into_iter().flat_map(|(kinds, party)| kinds.into_iter().map(move |kind| (kind, party))).collect()
}

fn here() -> Vec<ErrorKind> {
    let path = || PathBuf::from("/sentinel/path");
    let held = || Held::Variable("SENTINEL".into());
    let fault = || SecretError::Missing(path());
    vec![
        ErrorKind::Request(RequestFault::Secret(fault())),
        ErrorKind::Request(RequestFault::Key(held(), KeyError::Malformed)),
        ErrorKind::Request(RequestFault::GoogleKey(held(), GoogleFault::Type)),
        ErrorKind::Request(RequestFault::Certificate(path(), CertificateFault::NoCertificate)),
        ErrorKind::Request(RequestFault::ShortSecret),
        ErrorKind::Request(RequestFault::NoIssuer),
        ErrorKind::Request(RequestFault::NoEndpoint(Role::Token)),
        ErrorKind::Request(RequestFault::InsecureEndpoint),
        ErrorKind::Request(RequestFault::Panicked),
        ErrorKind::Request(RequestFault::Machine(NotDone::NoThread)),
        ErrorKind::Transport(TransportFault::Lacking(Lack::Ports)),
        ErrorKind::Request(RequestFault::Secret(SecretError::Lacking(path(), Lack::Descriptors))),
        ErrorKind::Request(RequestFault::Outdated { what: "assertion", told: "sentinel".into() }),
        ErrorKind::Request(RequestFault::Outdated { what: "token to trade in", told: "sentinel".into() }),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::OwnExpired)),
    ]
}

fn server() -> Vec<ErrorKind> {
    let status = StatusCode::BAD_REQUEST;
    let mut all = vec![
        ErrorKind::Response(ResponseFault::Redirect(status)),
        ErrorKind::Response(ResponseFault::RedirectTo(
            status,
            Place::of(&"https://sentinel.example/login".parse().unwrap()),
        )),
        ErrorKind::Response(ResponseFault::NoPkce),
        ErrorKind::Status(status),
        ErrorKind::Response(ResponseFault::TooLarge),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NotHttp)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Empty)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NotJson)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Page)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::BrokenJson)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Twice)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Encoding)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NoAccessToken)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::AccessToken)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::ExpiresIn)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NoRequestUri)),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::Device("sentinel"))),
        ErrorKind::Response(ResponseFault::Malformed(ResponseFlaw::NoActive)),
        ErrorKind::Response(ResponseFault::TokenType),
        ErrorKind::Response(ResponseFault::Unbound),
        ErrorKind::Response(ResponseFault::OtherIssuer(FoundIssuer::of(Some("sentinel")))),
        ErrorKind::Response(ResponseFault::NoTime(0)),
        ErrorKind::Withheld { last: None, sent: false },
        ErrorKind::Response(ResponseFault::Inactive),
        ErrorKind::Authorization(AuthorizationFault::CodeRefused),
        ErrorKind::LoginEnded(LoginEnd::Reused),
        ErrorKind::LoginEnded(LoginEnd::User),
        ErrorKind::LoginEnded(LoginEnd::Consent),
        ErrorKind::LoginEnded(LoginEnd::Expired),
        ErrorKind::LoginEnded(LoginEnd::Interaction),
        ErrorKind::LoginEnded(LoginEnd::Unknown),
        ErrorKind::LoginDoubtful,
        ErrorKind::Authorization(AuthorizationFault::Denied(Code::AccessDenied)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::UnknownIssuer)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::SelfSigned)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::WrongName)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::NoName)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::Expired)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::NotYetValid)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::Revoked)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::Algorithm)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::Purpose)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::Certificate)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::CertificateWanted)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::CertificateRefused)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::NoVersion)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::NoCipher)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::NoProtocol)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::UnknownName)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::Alert)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::Closed)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::Handshake)),
        ErrorKind::Transport(TransportFault::Tls(TlsFault::NotTls)),
    ];
    all.extend(CODES.into_iter().chain([Code::Other]).map(|code| ErrorKind::Denied(status, code)));
    all
}

fn between() -> Vec<ErrorKind> {
    vec![
        ErrorKind::Transport(TransportFault::Dns),
        ErrorKind::Transport(TransportFault::Connect(io::ErrorKind::ConnectionRefused)),
        ErrorKind::Transport(TransportFault::Connect(io::ErrorKind::HostUnreachable)),
        ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Refused(407))),
        ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Responded(503))),
        ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Unreachable)),
        ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Unusable(Unusable {
            by: "HTTPS_PROXY",
            flaw: ProxyFlaw::Malformed,
        }))),
        ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Broken)),
        ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Name(LookupError::Unanswered))),
        ErrorKind::Transport(TransportFault::Reset),
        ErrorKind::Transport(TransportFault::Lookup(LookupError::Unanswered)),
        ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Lookup)),
        ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Connect)),
        ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Proxy(ProxyStage::Lookup))),
        ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Proxy(ProxyStage::Tcp))),
        ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Proxy(ProxyStage::Tunnel))),
        ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Tls)),
        ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Answer)),
    ]
}

fn people() -> Vec<ErrorKind> {
    vec![
        ErrorKind::Authorization(AuthorizationFault::Callback(CallbackFault::NoCode)),
        ErrorKind::Authorization(AuthorizationFault::IdToken(IdTokenFault::Nonce)),
    ]
}

#[test]
fn each_kind_of_failure_has_an_example() {
    let mut lacking: std::collections::BTreeSet<(&str, &str)> = std::collections::BTreeSet::new();
    let lists = [
        ("ErrorKind", Kinds::ALL),
        ("RequestFault", RequestFaults::ALL),
        ("TransportFault", TransportFaults::ALL),
        ("ResponseFault", ResponseFaults::ALL),
        ("AuthorizationFault", AuthorizationFaults::ALL),
        ("ResponseFlaw", Flaws::ALL),
        ("TransportPhase", Phases::ALL),
        ("ProxyStage", ProxyStages::ALL),
        ("ProxyFault", ProxyFaults::ALL),
        ("LoginEnd", LoginEnds::ALL),
        ("TlsFault", TlsFaults::ALL),
        ("Meaning", Meanings::ALL),
    ];
    for (of, all) in lists {
        lacking.extend(all.iter().map(|name| (of, *name)));
    }
    for (kind, _) in kinds() {
        lacking.remove(&("ErrorKind", Kinds::of(&kind)));
        match &kind {
            ErrorKind::Request(fault) => lacking.remove(&("RequestFault", RequestFaults::of(fault))),
            ErrorKind::Transport(fault) => lacking.remove(&("TransportFault", TransportFaults::of(fault))),
            ErrorKind::Response(fault) => lacking.remove(&("ResponseFault", ResponseFaults::of(fault))),
            ErrorKind::Authorization(fault) => {
                lacking.remove(&("AuthorizationFault", AuthorizationFaults::of(fault)))
            }
            _ => true,
        };
        let inner = match &kind {
            ErrorKind::Response(ResponseFault::Malformed(flaw)) => ("ResponseFlaw", Flaws::of(flaw)),
            ErrorKind::Transport(TransportFault::Timeout(phase)) => {
                if let TransportPhase::Proxy(stage) = phase {
                    lacking.remove(&("ProxyStage", ProxyStages::of(stage)));
                }
                ("TransportPhase", Phases::of(phase))
            }
            ErrorKind::Transport(TransportFault::Proxy(fault)) => ("ProxyFault", ProxyFaults::of(fault)),
            ErrorKind::Transport(TransportFault::Tls(fault)) => ("TlsFault", TlsFaults::of(fault)),
            ErrorKind::LoginEnded(end) => ("LoginEnd", LoginEnds::of(end)),
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
        judge(&said, party);
        assert!(
            !said.contains("refuses the token request") || matches!(kind, ErrorKind::Denied(..)),
            "{kind:?}"
        );
    }
}

#[test]
fn what_was_never_sent_is_said_to_be_so() {
    let unsent = [
        ErrorKind::Request(RequestFault::Key(Held::Configuration, KeyError::Malformed)),
        ErrorKind::Request(RequestFault::Certificate(PathBuf::new(), CertificateFault::NoCertificate)),
        ErrorKind::Request(RequestFault::Secret(SecretError::Missing(PathBuf::new()))),
        ErrorKind::Request(RequestFault::ShortSecret),
        ErrorKind::Request(RequestFault::NoIssuer),
        ErrorKind::Request(RequestFault::NoEndpoint(Role::Token)),
        ErrorKind::Request(RequestFault::InsecureEndpoint),
        ErrorKind::Request(RequestFault::Outdated { what: "assertion", told: "sentinel".into() }),
    ];
    for kind in unsent {
        assert!(kind.public_reason().contains("no token request was sent"), "{kind:?}");
    }
    let endpoint = ErrorKind::Request(RequestFault::NoEndpoint(Role::Token)).public_reason();
    assert!(endpoint.contains("token_endpoint"), "{endpoint}");
}

/// The table is checked against the code, so that it lacks no failure and no word of it is out of date.
#[test]
fn every_failure_is_in_the_documentation_with_cause_class_and_sentence() {
    all_documented(kinds().into_iter().map(|(kind, _)| {
        let error = Error::here(kind);
        (error.cause(), error.class().as_str(), error.public_reason())
    }));
    // Prose is wrapped: a sentence of it may go over lines.
    let prose = documentation().split_whitespace().collect::<Vec<_>>().join(" ");
    for reason in MEANINGS.map(Meaning::public_reason) {
        assert!(prose.contains(reason), "docs/errors.md lacks: {reason}");
    }
}
