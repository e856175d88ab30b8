//! The stored source against a server that rotates refresh tokens, and a store that fails.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use tokio::time::sleep;

use super::*;
use crate::metrics::Metrics;
use crate::oauth::{Class, ErrorCode, ErrorKind, Issued, TokenResponse, TransportFault};
use crate::secret::SecretSource;
use crate::token::settings::FolderSettings;
use crate::token::store::{
    FileStore, Flaw, Lease, MemoryStore, Pending, StoreAlarm, StoredAccess, TokenStore,
};

mod authority;
mod earned;
mod logout;
mod recorder;

use authority::Authority;
use recorder::Recorder;

/// What happened, in its order: at the server and in the store.
type Journal = Arc<Mutex<Vec<String>>>;

const HOUR: Duration = Duration::from_hours(1);

fn invalid_grant() -> Error {
    Error::from(ErrorKind::Denied(StatusCode::BAD_REQUEST, ErrorCode::InvalidGrant))
}

fn full_disk() -> StoreError {
    StoreError::Io { what: "written", path: "/full".into(), kind: std::io::ErrorKind::StorageFull }
}

fn print(text: &str) -> Fingerprint {
    Fingerprint::of([text.as_bytes()])
}

fn key() -> Key {
    Key { name: "api".to_owned(), client: print("client") }
}

fn seed(text: &str) -> Spends {
    Spends::RefreshToken(Some(SecretSource::Inline(Secret::new(text.to_owned()))))
}

fn source(authority: &Arc<Authority>, store: &Store, spends: Spends) -> Stored<Arc<Authority>> {
    source_for(authority, store, spends, "request")
}

fn source_for(
    authority: &Arc<Authority>,
    store: &Store,
    spends: Spends,
    request: &str,
) -> Stored<Arc<Authority>> {
    Stored::new(Arc::clone(authority), store.clone(), key(), print(request), spends, Policy::default(), None)
}

fn recorded(authority: &Authority) -> (Arc<Recorder>, Store) {
    let recorder = Arc::new(Recorder { journal: Arc::clone(&authority.journal), ..Recorder::default() });
    let store = Store::new(Arc::clone(&recorder) as Arc<dyn TokenStore>, alarm());
    (recorder, store)
}

fn alarm() -> StoreAlarm {
    StoreAlarm::new(&Metrics::new())
}

fn files(path: &Path) -> Store {
    let settings = FolderSettings { path: path.to_owned(), encryption_key: None };
    Store::new(Arc::new(FileStore::open(&settings).unwrap()), alarm())
}

async fn entry(store: &Store) -> Entry {
    store.load(&key(), None).await.unwrap().unwrap()
}

fn access(outcome: &Result<Fetched, Error>) -> &str {
    outcome.as_ref().unwrap().response.access_token.expose()
}

fn refresh(entry: &Entry) -> Option<&str> {
    entry.refresh_token.as_ref().map(|token| token.expose().as_str())
}

fn cause(outcome: &Result<Fetched, Error>) -> (&'static str, Class) {
    let error = outcome.as_ref().unwrap_err();
    (error.cause(), error.class())
}

const LOGIN: (&str, Class) = ("login_required", Class::Refused);

#[tokio::test]
async fn a_rotated_refresh_token_is_written_before_its_access_token_is_handed_out() {
    let authority = Arc::new(Authority::new());
    let (_, store) = recorded(&authority);
    let source = source(&authority, &store, seed("seed"));
    assert_eq!(access(&source.fetch().await), "access-1");
    assert_eq!(refresh(&entry(&store).await), Some("refresh-1"));
    assert_eq!(access(&source.fetch().await), "access-2");
    let journal = authority.journal.lock().unwrap().join(" ");
    assert_eq!(journal, "look lease load ask write look lease load ask write");
    assert_eq!(entry_generation(&store).await, 2);
}

async fn entry_generation(store: &Store) -> u64 {
    entry(store).await.generation
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let authority = Arc::new(Authority { rotates: false, ..Authority::new() });
    let store = Store::memory();
    let source = source(&authority, &store, seed("seed"));
    for call in 1..=3 {
        assert_eq!(access(&source.fetch().await), format!("access-{call}"));
        assert_eq!(refresh(&entry(&store).await), Some("seed"));
    }
}

#[tokio::test]
async fn a_restart_uses_the_stored_token_without_a_call_and_knows_when_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new());
    let before = clock::wall() - Duration::from_secs(1);
    let first = source(&authority, &files(folder.path()), seed("seed")).fetch().await.unwrap();
    let again = source(&authority, &files(folder.path()), seed("seed"));
    let adopted = again.fetch().await.unwrap();
    assert_eq!(adopted.response.access_token, first.response.access_token);
    let asked = adopted.asked.unwrap();
    assert!(before <= asked && asked <= clock::wall());
    assert!(
        matches!(adopted.response.lifetime, Lifetime::ExpiresAt(at) if at.duration_since(asked).unwrap() == HOUR)
    );
    assert_eq!(authority.calls(), 1);
    // When that one is due, it is renewed with the refresh token that was stored.
    assert_eq!(access(&again.fetch().await), "access-2");
    assert_eq!(authority.calls(), 2);
}

#[tokio::test]
async fn a_stored_token_that_is_over_or_for_another_request_is_not_used() {
    let authority = Arc::new(Authority::new());
    let store = Store::memory();
    source(&authority, &store, seed("seed")).fetch().await.unwrap();
    let other = source_for(&authority, &store, seed("seed"), "another scope");
    assert_eq!(access(&other.fetch().await), "access-2");
    for (asked, expires) in [
        // Over; over but for the margin; asked for in an hour from now.
        (clock::wall() - 2 * HOUR, Some(clock::wall() - HOUR)),
        (clock::wall() - HOUR, Some(clock::wall() + Duration::from_secs(5))),
        (clock::wall() + HOUR, Some(clock::wall() + 2 * HOUR)),
        // Nothing says for how long: the default of five minutes.
        (clock::wall() - Duration::from_mins(6), None),
    ] {
        let lease = store.lease(&key()).await.unwrap();
        let mut old = entry(&store).await;
        let calls = authority.calls();
        let request = print("request");
        let kept = old.access.take().unwrap();
        old.access = Some(StoredAccess { request, asked, expires, ..kept });
        store.keep(&key(), old, None, &lease).await;
        drop(lease);
        source(&authority, &store, seed("seed")).fetch().await.unwrap();
        assert_eq!(authority.calls(), calls + 1, "{expires:?}");
    }
}

#[tokio::test]
async fn two_processes_on_one_folder_make_one_refresh() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority { takes: Duration::from_millis(150), ..Authority::new() });
    let sources: Vec<_> = (0..8).map(|_| source(&authority, &files(folder.path()), seed("seed"))).collect();
    for round in 1..=3 {
        let outcomes = futures_util::future::join_all(sources.iter().map(Source::fetch)).await;
        for outcome in &outcomes {
            assert_eq!(access(outcome), format!("access-{round}"));
        }
        assert_eq!(authority.calls(), round);
    }
}

#[tokio::test]
async fn a_refused_refresh_token_is_not_sent_again_not_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new());
    let first = source(&authority, &files(folder.path()), seed("seed"));
    first.fetch().await.unwrap();
    authority.refuse();
    assert_eq!(cause(&first.fetch().await), LOGIN);
    assert_eq!(authority.calls(), 2);
    assert_eq!(cause(&first.fetch().await), LOGIN);
    let restarted = source_for(&authority, &files(folder.path()), seed("seed"), "anew");
    assert_eq!(cause(&restarted.fetch().await), LOGIN);
    assert_eq!(authority.calls(), 2, "no call is made with what was refused");
    // A new one in the configuration.
    authority.state.lock().unwrap().valid = "new".to_owned();
    let mended = source(&authority, &files(folder.path()), seed("new"));
    // The access token of before is still good, and is used first.
    assert_eq!(access(&mended.fetch().await), "access-1");
    assert_eq!(access(&mended.fetch().await), "access-3");
}

#[tokio::test]
async fn a_login_of_another_process_brings_the_token_back() {
    let authority = Arc::new(Authority::new());
    let store = Store::memory();
    let source = source(&authority, &store, Spends::RefreshToken(None));
    assert_eq!(cause(&source.fetch().await), LOGIN);
    assert_eq!(authority.calls(), 0, "without a refresh token there is nothing to send");
    let lease = store.lease(&key()).await.unwrap();
    let login = Entry { refresh_token: Some(Secret::new("seed".to_owned())), ..Entry::empty(key().client) };
    store.keep(&key(), login, None, &lease).await;
    drop(lease);
    assert_eq!(access(&source.fetch().await), "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_came_meanwhile_is_used_instead_of_the_refused_one() {
    let authority = Arc::new(Authority::new());
    let store = Store::memory();
    let first = source(&authority, &store, seed("seed"));
    first.fetch().await.unwrap();
    // Someone who knows no lease writes while the request is under way.
    let mut newer = entry(&store).await;
    let slow = Arc::new(Authority { takes: Duration::from_millis(100), ..Authority::new() });
    slow.state.lock().unwrap().valid = "login".to_owned();
    let second = Arc::new(source_for(&slow, &store, seed("seed"), "anew"));
    let fetch = tokio::spawn(async move { second.fetch().await });
    sleep(Duration::from_millis(30)).await;
    newer.refresh_token = Some(Secret::new("login".to_owned()));
    newer.generation += 1;
    store.keep(&key(), newer, None, &Lease::new(())).await;
    slow.state.lock().unwrap().valid = "login".to_owned();
    sleep(Duration::from_millis(90)).await;
    slow.state.lock().unwrap().valid = "login".to_owned();
    assert_eq!(access(&fetch.await.unwrap()), "access-2");
}

#[tokio::test]
async fn a_refused_new_seed_leaves_the_stored_login_alone() {
    let authority = Arc::new(Authority { rotates: false, ..Authority::new() });
    let store = Store::memory();
    source(&authority, &store, seed("seed")).fetch().await.unwrap();
    authority.next.lock().unwrap().push(invalid_grant().into());
    let mistyped = source_for(&authority, &store, seed("typo"), "anew");
    assert_eq!(access(&mistyped.fetch().await), "access-2");
    assert_eq!(access(&mistyped.fetch().await), "access-3");
    assert_eq!(authority.calls(), 4);
}

#[tokio::test]
async fn a_refusal_without_a_word_buries_no_refresh_token() {
    let authority = Arc::new(Authority::new());
    let store = Store::memory();
    let source = source(&authority, &store, seed("seed"));
    source.fetch().await.unwrap();
    authority.next.lock().unwrap().push(Error::from(ErrorKind::LoginDoubtful).into());
    assert_eq!(cause(&source.fetch().await), ("login_doubtful", Class::Doubtful));
    assert_eq!(refresh(&entry(&store).await), Some("refresh-1"));
    assert_eq!(access(&source.fetch().await), "access-2");
}

#[tokio::test]
async fn a_server_that_is_down_does_not_bury_a_refresh_token() {
    let authority = Arc::new(Authority::new());
    let store = Store::memory();
    let source = source(&authority, &store, seed("seed"));
    for error in [
        Error::from(TransportFault::Reset),
        Error::from(ErrorKind::Status(StatusCode::BAD_GATEWAY)),
        // Busy, whatever its body says.
        Error::from(ErrorKind::Denied(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::InvalidGrant)),
        Error::from(ErrorKind::Denied(StatusCode::UNAUTHORIZED, ErrorCode::InvalidClient)),
    ] {
        authority.next.lock().unwrap().push(error.clone().into());
        assert_eq!(source.fetch().await, Err(error));
    }
    assert_eq!(access(&source.fetch().await), "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_raises_the_alarm_and_is_written_later() {
    let authority = Arc::new(Authority::new());
    let (recorder, store) = recorded(&authority);
    let source = source(&authority, &store, seed("seed"));
    source.fetch().await.unwrap();
    *recorder.unwritable.lock().unwrap() = Some(full_disk());
    // The refresh token in memory wins over the older one in the store.
    assert_eq!(access(&source.fetch().await), "access-2");
    assert_eq!(store.alarm().faults().len(), 1);
    assert_eq!(access(&source.fetch().await), "access-3");
    let on_disk = recorder.memory.load(&key(), None).await.unwrap().unwrap();
    assert_eq!(refresh(&on_disk), Some("refresh-1"));
    // A reload makes another source of the same store.
    let reloaded = source_for(&authority, &store, seed("seed"), "anew");
    assert_eq!(access(&reloaded.fetch().await), "access-4");
    *recorder.unwritable.lock().unwrap() = None;
    sleep(Duration::from_mins(3)).await;
    assert_eq!(store.alarm().faults(), []);
    let on_disk = recorder.memory.load(&key(), None).await.unwrap().unwrap();
    assert_eq!(refresh(&on_disk), Some("refresh-4"));
    assert_eq!(authority.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_program_writes_what_could_not_be_written() {
    let authority = Arc::new(Authority { takes: Duration::from_secs(2), ..Authority::new() });
    let (recorder, store) = recorded(&authority);
    let source = source(&authority, &store, seed("seed"));
    // No caller waits any more: the request is on its way, and its answer counts all the same.
    assert!(timeout(Duration::from_secs(1), source.fetch()).await.is_err());
    drop(source);
    *recorder.unwritable.lock().unwrap() = Some(full_disk());
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(store.alarm().faults().len(), 1);
    *recorder.unwritable.lock().unwrap() = None;
    store.flush(Duration::from_secs(5)).await;
    let on_disk = recorder.memory.load(&key(), None).await.unwrap().unwrap();
    assert_eq!(refresh(&on_disk), Some("refresh-1"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_waits_for_any_more_is_kept() {
    let authority = Arc::new(Authority { takes: Duration::from_secs(2), ..Authority::new() });
    let store = Store::memory();
    let first = source(&authority, &store, seed("seed"));
    assert!(timeout(Duration::from_secs(1), first.fetch()).await.is_err());
    store.flush(Duration::from_secs(10)).await;
    assert_eq!(refresh(&entry(&store).await), Some("refresh-1"));
    let second = source(&authority, &store, seed("seed"));
    assert_eq!(access(&second.fetch().await), "access-1");
    assert_eq!(authority.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_holds_is_waited_for_and_then_given_up() {
    let authority = Arc::new(Authority::new());
    let store = Store::memory();
    let held = store.lease(&key()).await.unwrap();
    let source = source(&authority, &store, seed("seed"));
    assert_eq!(cause(&source.fetch().await), ("store_busy", Class::Transient));
    assert_eq!(authority.calls(), 0);
    drop(held);
    assert_eq!(access(&source.fetch().await), "access-1");
}

#[tokio::test]
async fn a_store_that_is_gone_spends_no_refresh_token_and_stops_no_client_credentials() {
    for gone in [true, false] {
        let authority = Arc::new(Authority::new());
        let (recorder, store) = recorded(&authority);
        let fault = if gone { &recorder.unleasable } else { &recorder.unreadable };
        *fault.lock().unwrap() = Some(full_disk());
        let source = source(&authority, &store, seed("seed"));
        assert_eq!(cause(&source.fetch().await), ("store", Class::Transient));
        assert_eq!(authority.calls(), 0);
        assert_eq!(store.alarm().faults().len(), 1);
        let harmless = source_for(&authority, &store, Spends::Nothing, "request");
        assert_eq!(access(&harmless.fetch().await), "access-1");
        assert_eq!(access(&harmless.fetch().await), "access-2");
    }
}

#[tokio::test]
async fn client_credentials_outlive_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new());
    let make = || source(&authority, &files(folder.path()), Spends::Nothing);
    assert_eq!(access(&make().fetch().await), "access-1");
    let source = make();
    assert_eq!(access(&source.fetch().await), "access-1");
    assert_eq!(access(&source.fetch().await), "access-2");
}

#[tokio::test]
async fn to_forget_gives_back_the_refresh_token_first_and_deletes_whatever_the_server_says() {
    for down in [false, true] {
        let authority = Arc::new(Authority::new());
        let (_, store) = recorded(&authority);
        let source = source(&authority, &store, seed("seed"));
        source.fetch().await.unwrap();
        authority.journal.lock().unwrap().clear();
        if down {
            authority.next.lock().unwrap().push(Error::from(TransportFault::Dns).into());
        }
        assert_eq!(source.forget(Some(Secret::new("access-1".to_owned()))).await.is_err(), down);
        let journal = authority.journal.lock().unwrap().join(", ");
        assert_eq!(
            journal,
            "lease, load, revoke RefreshToken refresh-1, revoke AccessToken access-1, delete, write"
        );
        let left = entry(&store).await;
        assert!(left.refresh_token.is_none() && left.access.is_none());
        // The configured one does not log in again by itself.
        assert_eq!(cause(&source.fetch().await), LOGIN);
        assert_eq!(authority.calls(), 1);
    }
}

#[tokio::test]
async fn what_is_damaged_is_set_aside_and_the_seed_tried() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new());
    let file = folder.path().join("api.token");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(&file, "{\"version\":1,\"cli").unwrap();
    assert_eq!(access(&source(&authority, &files(folder.path()), seed("seed")).fetch().await), "access-1");
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().any(|name| name.starts_with("api.token.corrupt-")), "{names:?}");
    assert!(crate::token::store::decode(&std::fs::read(&file).unwrap()) != Err(Flaw::Corrupt));
}

#[tokio::test]
async fn a_key_that_was_made_outlives_the_process_with_its_login() {
    let folder = tempfile::tempdir().unwrap();
    let bound = || Arc::new(Authority { bound: true, rotates: false, ..Authority::new() });
    let first = source(&bound(), &files(folder.path()), seed("seed")).fetch().await.unwrap();
    let key = first.dpop.unwrap().thumbprint();
    let restarted = bound();
    let source = source(&restarted, &files(folder.path()), seed("seed"));
    for call in [0, 1] {
        let fetched = source.fetch().await.unwrap();
        assert_eq!(fetched.dpop.unwrap().thumbprint(), key);
        assert_eq!(restarted.calls(), call);
    }
    // A stored token that is bound is worth nothing to a client that binds none.
    let unbound = Arc::new(Authority { rotates: false, ..Authority::new() });
    let source = source_for(&unbound, &files(folder.path()), seed("seed"), "request");
    source.fetch().await.unwrap();
    assert_eq!(unbound.calls(), 1);
}
