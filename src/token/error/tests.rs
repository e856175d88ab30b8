//! Each fault has an example, a sentence for applications that names the party at fault, and a row in the documentation.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use crate::oauth::sentences::{Party, all_documented, judge, variants};
use crate::token::store::StoreError;

use super::*;

variants!(Attempts of AttemptFault { Stalled Panicked Stale Slow Unusable });
variants!(Commands of CommandFault {
    NoProcess Missing Forbidden Start TimedOut Exit Signal Silent TooMuch
});
variants!(Frames of FrameFault { Lost CookiesWithheld });
variants!(Interruptions of Interruption { Lost Unread Failed });
variants!(Holders of TokenHolder { Command File Configuration });
variants!(Logins of LoginFault { LoggedOut Required Unrenewable Interrupted OtherUser BrowserAbsent Frame });
variants!(Sources of SourceFault { Command File Text Spent StillRefused });
variants!(Storage of StorageFault { Busy Unusable StillStored Unread });
variants!(Subjects of SubjectTokenFault { Unavailable Expired NoCaller });

fn faults() -> Vec<(Error, Party)> {
    let parties = [(here(), Party::Here), (server(), Party::Server), (people(), Party::Person)];
    parties
        .into_iter()
        .flat_map(|(errors, party)| errors.into_iter().map(move |error| (error, party)))
        .collect()
}

fn here() -> Vec<Error> {
    let said = || Said::new(b"sentinel", b"");
    let store = || StoreError::NotAFolder(PathBuf::from("/sentinel"));
    let commands = [
        CommandFault::NoProcess("sentinel".into()),
        CommandFault::Missing("sentinel".into()),
        CommandFault::Forbidden("sentinel".into()),
        CommandFault::Start("sentinel".into(), io::ErrorKind::Other),
        CommandFault::Signal(9, said()),
        CommandFault::TooMuch(9),
        CommandFault::TimedOut(said()),
        CommandFault::Exit(1, said()),
        CommandFault::Silent(said()),
    ];
    let mut all: Vec<Error> = commands.into_iter().map(|fault| SourceFault::Command(fault).into()).collect();
    for holder in [TokenHolder::Command, TokenHolder::File, TokenHolder::Configuration] {
        all.push(SourceFault::Text(holder, TextFlaw::Empty).into());
        all.push(SourceFault::Spent(holder).into());
        all.push(SourceFault::StillRefused(holder).into());
    }
    all.push(SourceFault::File(SecretError::Missing(PathBuf::from("/sentinel"))).into());
    all.extend(
        [
            StorageFault::Busy,
            StorageFault::Unusable,
            StorageFault::StillStored(store()),
            StorageFault::Unread(store()),
        ]
        .map(Error::from),
    );
    all.extend(
        [SubjectTokenFault::Unavailable("sentinel".into()), SubjectTokenFault::Expired].map(Error::from),
    );
    all.extend([AttemptFault::Unusable, AttemptFault::Stalled, AttemptFault::Panicked].map(Error::from));
    all
}

fn server() -> Vec<Error> {
    let slow = AttemptFault::Slow { took: Duration::from_secs(2), lives: Duration::from_secs(1) };
    vec![AttemptFault::Stale.into(), slow.into()]
}

fn people() -> Vec<Error> {
    let (page, server) = (|| "sentinel".to_owned(), || "sentinel".to_owned());
    vec![
        LoginFault::LoggedOut.into(),
        LoginFault::Required.into(),
        LoginFault::Unrenewable.into(),
        LoginFault::Interrupted(Interruption::Lost).into(),
        LoginFault::Interrupted(Interruption::Unread).into(),
        LoginFault::Interrupted(Interruption::Failed).into(),
        LoginFault::BrowserAbsent.into(),
        LoginFault::Frame(FrameFault::Lost { server: server() }).into(),
        LoginFault::Frame(FrameFault::CookiesWithheld { page: page(), server: server() }).into(),
        LoginFault::OtherUser("sentinel".into()).into(),
        SubjectTokenFault::NoCaller.into(),
    ]
}

#[test]
fn each_fault_has_an_example() {
    let mut lacking: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (of, all) in [
        ("AttemptFault", Attempts::ALL),
        ("CommandFault", Commands::ALL),
        ("FrameFault", Frames::ALL),
        ("Interruption", Interruptions::ALL),
        ("LoginFault", Logins::ALL),
        ("SourceFault", Sources::ALL),
        ("StorageFault", Storage::ALL),
        ("SubjectTokenFault", Subjects::ALL),
        ("Text", Holders::ALL),
        ("Spent", Holders::ALL),
        ("StillRefused", Holders::ALL),
    ] {
        lacking.extend(all.iter().map(|name| (of, *name)));
    }
    for (error, _) in faults() {
        let fault = match &error {
            Error::OAuth(_) => continue,
            Error::Source(fault) => ("SourceFault", Sources::of(fault)),
            Error::Store(fault) => ("StorageFault", Storage::of(fault)),
            Error::Login(fault) => ("LoginFault", Logins::of(fault)),
            Error::Subject(fault) => ("SubjectTokenFault", Subjects::of(fault)),
            Error::Attempt(fault) => ("AttemptFault", Attempts::of(fault)),
        };
        lacking.remove(&fault);
        let inner = match &error {
            Error::Source(SourceFault::Command(fault)) => ("CommandFault", Commands::of(fault)),
            Error::Source(SourceFault::Text(holder, _)) => ("Text", Holders::of(holder)),
            Error::Source(SourceFault::Spent(holder)) => ("Spent", Holders::of(holder)),
            Error::Source(SourceFault::StillRefused(holder)) => ("StillRefused", Holders::of(holder)),
            Error::Login(LoginFault::Frame(fault)) => ("FrameFault", Frames::of(fault)),
            Error::Login(LoginFault::Interrupted(how)) => ("Interruption", Interruptions::of(how)),
            _ => continue,
        };
        lacking.remove(&inner);
    }
    assert!(lacking.is_empty(), "without an example, and so perhaps in no document: {lacking:?}");
}

#[test]
fn each_sentence_names_the_party_at_fault_and_nothing_else() {
    for (error, party) in faults() {
        judge(&error.public_reason(), party);
    }
    assert!(SubjectTokenFault::Expired.public_reason().contains("no token request was sent"));
}

#[test]
fn every_failure_is_in_the_documentation_with_cause_class_and_sentence() {
    let faults = faults();
    all_documented(
        faults.iter().map(|(error, _)| (error.cause(), error.class().as_str(), error.public_reason())),
    );
}

#[test]
fn a_request_that_outlived_its_timeouts_may_have_spent_the_refresh_token_and_no_other_fault_has() {
    for (error, _) in faults() {
        let lost = matches!(error, Error::Attempt(AttemptFault::Stalled | AttemptFault::Panicked));
        assert_eq!((error.may_have_spent().is_some(), error.was_not_sent()), (lost, !lost), "{error}");
    }
}

#[test]
fn what_a_person_is_needed_for_is_refused_and_never_tried_again() {
    assert_eq!(Error::from(LoginFault::Required).class(), Class::Refused);
}
