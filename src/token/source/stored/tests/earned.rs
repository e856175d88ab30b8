//! Refresh tokens that come with a flaw, or by a grant that can be repeated.

use super::*;
use crate::oauth::{
    self, ErrorKind, Identity, Interruption, LoginEnd, Place, ResponseFault, TokenFailure, TransportFault,
};
use crate::token::error::{AttemptFault, LoginFault};
use crate::token::store::SpentMark;

fn flawed(refresh_token: &str) -> ExchangeFailure {
    let issued = Issued { refresh_token: Secret::new(refresh_token.to_owned()), scope: None, id_token: None };
    TokenFailure::from(oauth::Error::here(ResponseFault::TokenType)).with(Some(issued)).into()
}

fn denied(code: ErrorCode) -> ExchangeFailure {
    Error::from(ErrorKind::Denied(StatusCode::BAD_REQUEST, code)).into()
}

/// An authority that takes this one as the refresh token of the next request.
fn expecting(refresh_token: &str) -> Arc<Authority> {
    let authority = Authority::new();
    authority.state.lock().unwrap().valid = refresh_token.to_owned();
    Arc::new(authority)
}

#[tokio::test]
async fn a_refresh_token_beside_a_flaw_is_written_before_the_flaw_is_reported() {
    let authority = expecting("next");
    let (_, store) = recorded(&authority);
    let source = source(&authority, &store, seed("seed"));
    authority.next.lock().unwrap().push(flawed("next"));
    assert_eq!(cause(&source.fetch().await), ("token_type", Class::Misconfigured));
    let journal = authority.journal.lock().unwrap().join(" ");
    assert_eq!(journal, "look lease load ask write");
    assert_eq!(refresh(&entry(&store).await), Some("next"));
    assert_eq!(access(&source.fetch().await), "access-1");
}

#[tokio::test]
async fn a_flaw_leaves_the_access_token_of_before_in_the_store() {
    let authority = expecting("seed");
    let store = Store::memory();
    let source = source(&authority, &store, seed("seed"));
    source.fetch().await.unwrap();
    authority.next.lock().unwrap().push(flawed("next"));
    source.fetch().await.unwrap_err();
    let left = entry(&store).await;
    assert_eq!(left.access.unwrap().token.expose(), "access-1");
}

#[tokio::test]
async fn what_a_grant_earned_is_spent_and_the_grant_repeated_where_that_is_refused() {
    let authority = Arc::new(Authority { gives: true, ..Authority::new() });
    let store = Store::memory();
    let source = source(&authority, &store, Spends::Earned);
    assert_eq!(access(&source.fetch().await), "access-1");
    assert_eq!(access(&source.fetch().await), "access-2");
    assert_eq!(authority.spent(), [None, Some("refresh-1".to_owned())]);
    authority.refuse();
    // The third was refused, and the fourth is the grant itself: in one attempt.
    assert_eq!(access(&source.fetch().await), "access-4");
    assert_eq!(authority.spent()[2..], [Some("refresh-2".to_owned()), None]);
    assert_eq!(refresh(&entry(&store).await), Some("refresh-4"));
}

#[tokio::test]
async fn a_flaw_in_what_a_grant_brought_begins_no_second_session() {
    let authority = Arc::new(Authority { gives: true, ..Authority::new() });
    authority.state.lock().unwrap().valid = "next".to_owned();
    let store = Store::memory();
    let source = source(&authority, &store, Spends::Earned);
    authority.next.lock().unwrap().push(flawed("next"));
    source.fetch().await.unwrap_err();
    assert_eq!(access(&source.fetch().await), "access-1");
    assert_eq!(authority.spent(), [None, Some("next".to_owned())]);
}

#[tokio::test]
async fn a_client_that_may_not_refresh_repeats_its_grant_and_does_not_try_again() {
    let authority = Arc::new(Authority { gives: true, ..Authority::new() });
    let store = Store::memory();
    let source = source(&authority, &store, Spends::Earned);
    source.fetch().await.unwrap();
    authority.next.lock().unwrap().push(denied(ErrorCode::UnauthorizedClient));
    assert_eq!(access(&source.fetch().await), "access-2");
    assert_eq!(access(&source.fetch().await), "access-3");
    assert_eq!(authority.spent(), [None, Some("refresh-1".to_owned()), None, None]);
}

#[tokio::test]
async fn a_server_that_is_down_does_not_lead_to_the_grant() {
    let authority = Arc::new(Authority { gives: true, ..Authority::new() });
    let store = Store::memory();
    let source = source(&authority, &store, Spends::Earned);
    source.fetch().await.unwrap();
    for error in [
        Error::from(TransportFault::Reset).into(),
        denied(ErrorCode::InvalidClient),
        Error::from(ErrorKind::Status(StatusCode::BAD_GATEWAY)).into(),
    ] {
        authority.next.lock().unwrap().push(error.clone());
        assert_eq!(source.fetch().await, Err(error.into()));
    }
    assert_eq!(authority.spent().iter().filter(|spent| spent.is_none()).count(), 1);
}

#[tokio::test]
async fn neither_a_login_spends_what_a_grant_earned_nor_a_grant_a_login() {
    let authority = Arc::new(Authority { gives: true, ..Authority::new() });
    let store = Store::memory();
    source(&authority, &store, Spends::Earned).fetch().await.unwrap();
    // The same token, configured as a login.
    let login = source_for(&authority, &store, Spends::RefreshToken(None), "anew");
    assert_eq!(cause(&login.fetch().await), LOGIN);
    let another = source_for(&authority, &store, Spends::Earned, "anew");
    another.fetch().await.unwrap();
    assert_eq!(authority.spent(), [None, None]);

    let lease = store.lease(&key()).await.unwrap();
    let person =
        Entry { refresh_token: Some(Secret::new("a login's".to_owned())), ..Entry::empty(key().client) };
    store.keep(&key(), person, None, &lease).await;
    drop(lease);
    source_for(&authority, &store, Spends::Earned, "third").fetch().await.unwrap();
    assert_eq!(authority.spent(), [None, None, None]);
}

#[tokio::test]
async fn a_grant_whose_store_is_gone_is_asked_for_all_the_same() {
    let authority = Arc::new(Authority { gives: true, ..Authority::new() });
    let (recorder, store) = recorded(&authority);
    *recorder.unleasable.lock().unwrap() = Some(full_disk());
    let source = source(&authority, &store, Spends::Earned);
    assert_eq!(access(&source.fetch().await), "access-1");
    assert_eq!(access(&source.fetch().await), "access-2");
}

#[tokio::test]
async fn to_forget_what_a_grant_earned_gives_back_its_refresh_token() {
    let authority = Arc::new(Authority { gives: true, ..Authority::new() });
    let store = Store::memory();
    let source = source(&authority, &store, Spends::Earned);
    source.fetch().await.unwrap();
    authority.journal.lock().unwrap().clear();
    source.forget(None).await.unwrap();
    let journal = authority.journal.lock().unwrap().join(", ");
    assert_eq!(journal, "revoke RefreshToken refresh-1, revoke AccessToken access-1");
    assert_eq!(store.load(&key(), None).await, Ok(None));
}

#[tokio::test]
async fn a_refresh_that_was_interrupted_is_named_where_its_token_is_refused_and_only_there() {
    for interrupted in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::new());
        let store = files(folder.path());
        source(&authority, &store, seed("seed")).fetch().await.unwrap();
        if interrupted {
            let lease = store.lease(&key()).await.unwrap();
            let token = Fingerprint::of([b"refresh-1".as_slice()]);
            store.spending(&key(), Spending::Of(SpentMark::begun(token)), &lease).await;
        }
        authority.refuse();
        let again = source_for(&authority, &store, seed("seed"), "anew");
        let want = if interrupted { LOST } else { LoginFault::Required };
        assert_eq!(again.fetch().await, Err(Error::from(want.clone())));
        // And at each start after that.
        let later = source_for(&authority, &files(folder.path()), seed("seed"), "anew");
        assert_eq!(later.fetch().await, Err(Error::from(want)));
        assert_eq!(authority.calls(), 2);
    }
}

#[tokio::test]
async fn what_the_server_says_of_a_refresh_token_wins_over_an_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new());
    let store = files(folder.path());
    source(&authority, &store, seed("seed")).fetch().await.unwrap();
    let lease = store.lease(&key()).await.unwrap();
    let mark = SpentMark::begun(Fingerprint::of([b"refresh-1".as_slice()]));
    store.spending(&key(), Spending::Of(mark), &lease).await;
    drop(lease);
    let place = Place::of(&"https://as.example/token".parse().unwrap());
    let disabled: Error = oauth::Error::at(place, ErrorKind::LoginEnded(LoginEnd::User)).into();
    authority.next.lock().unwrap().push(disabled.clone().into());
    let again = source_for(&authority, &store, seed("seed"), "anew");
    assert_eq!(again.fetch().await, Err(disabled));
    // Found here, without a request: no request has failed.
    let later =
        source_for(&authority, &files(folder.path()), seed("seed"), "anew").fetch().await.unwrap_err();
    assert_eq!((later.is_counted(), authority.calls()), (false, 2));
    assert_eq!(later, Error::from(LOST));
}

#[tokio::test]
async fn the_store_says_whose_login_has_ended_and_until_when_its_token_was_good() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority { lives: Duration::from_secs(1), ..Authority::new() });
    let store = files(folder.path());
    source(&authority, &store, seed("seed")).fetch().await.unwrap();
    let lease = store.lease(&key()).await.unwrap();
    let base = entry(&store).await;
    let alice = Identity::stored("Alice", "1".to_owned());
    let named = Entry { user: Some(alice.clone()), ..base.clone() };
    store.keep(&key(), named, Some(&base), &lease).await;
    drop(lease);
    authority.refuse();
    sleep(Duration::from_secs(1)).await;
    let again = source(&authority, &files(folder.path()), seed("seed"));
    again.fetch().await.unwrap_err();
    let access = base.access.unwrap();
    let (asked, until) = (Some(access.asked), access.expires);
    assert!(until.is_some());
    assert_eq!(again.past(), Past { user: Some(alice), asked, until });
    again.forget(None).await.unwrap();
    assert_eq!(again.past(), Past::default());
}

const LOST: LoginFault = LoginFault::Interrupted(Interruption::Lost);
const UNREAD: LoginFault = LoginFault::Interrupted(Interruption::Unread);
const FAILED: LoginFault = LoginFault::Interrupted(Interruption::Failed);

#[tokio::test]
async fn a_lost_response_is_told_from_one_that_could_not_be_read_and_a_lost_connection_is_neither() {
    for (errors, want) in [
        (vec![TransportFault::Reset.into()], LOST),
        (vec![ResponseFault::TooLarge.into()], UNREAD),
        // What came of the last one that was sent counts.
        (vec![ResponseFault::TooLarge.into(), TransportFault::Dns.into()], UNREAD),
        (vec![ResponseFault::TooLarge.into(), AttemptFault::Stalled.into()], LOST),
        (vec![TransportFault::Reset.into(), ResponseFault::TooLarge.into()], UNREAD),
        (vec![TransportFault::Dns.into()], LoginFault::Required),
        // A server or a gateway that fails may have lost what it sent, and one that is busy takes nothing of that back.
        (vec![ErrorKind::Status(StatusCode::BAD_GATEWAY).into()], FAILED),
        (vec![ErrorKind::Denied(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::ServerError).into()], FAILED),
        (vec![TransportFault::Reset.into(), ErrorKind::Status(StatusCode::SERVICE_UNAVAILABLE).into()], LOST),
        (
            vec![
                ResponseFault::TooLarge.into(),
                ErrorKind::Denied(StatusCode::TOO_MANY_REQUESTS, ErrorCode::SlowDown).into(),
                ErrorKind::Status(StatusCode::SERVICE_UNAVAILABLE).into(),
            ],
            UNREAD,
        ),
        (vec![ErrorKind::Status(StatusCode::SERVICE_UNAVAILABLE).into()], LoginFault::Required),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::new());
        let source = source(&authority, &files(folder.path()), seed("seed"));
        source.fetch().await.unwrap();
        for error in errors {
            authority.next.lock().unwrap().push(Error::into(error));
            source.fetch().await.unwrap_err();
        }
        authority.refuse();
        assert_eq!(source.fetch().await, Err(Error::from(want.clone())));
        // And at each start after that.
        let later = source_for(&authority, &files(folder.path()), seed("seed"), "anew");
        assert_eq!(later.fetch().await, Err(Error::from(want)));
    }
}
