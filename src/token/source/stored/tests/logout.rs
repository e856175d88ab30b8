//! A logout that the store does not carry out at once.

use super::*;

#[tokio::test]
async fn whoever_logs_out_is_told_of_what_a_store_does_not_delete_or_show() {
    let authority = Arc::new(Authority::new());
    let (recorder, store) = recorded(&authority);
    let kept = source(&authority, &store, Spends::Nothing);
    kept.fetch().await.unwrap();
    *recorder.unreadable.lock().unwrap() = Some(full_disk());
    authority.journal.lock().unwrap().clear();
    let error = kept.forget(None).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read") && error.to_string().contains("storage"), "{error}");
    assert_eq!(authority.journal.lock().unwrap().join(", "), "lease, load, delete");

    *recorder.unreadable.lock().unwrap() = None;
    *recorder.unwritable.lock().unwrap() = Some(full_disk());
    let error = kept.forget(None).await.unwrap_err();
    assert!(error.is_still_stored() && error.to_string().contains("storage"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_the_store_refuses_is_done_as_soon_as_it_can_be() {
    for spends in [seed("seed"), Spends::Nothing, Spends::Earned] {
        let authority = Arc::new(Authority::new());
        let (recorder, store) = recorded(&authority);
        let source = source(&authority, &store, spends.clone());
        source.fetch().await.unwrap();
        *recorder.unwritable.lock().unwrap() = Some(full_disk());
        assert!(source.forget(None).await.unwrap_err().is_still_stored());
        let pending = || store.alarm().faults().iter().map(|fault| fault.pending).collect::<Vec<_>>();
        assert_eq!(pending(), [Pending::Deletion]);
        let holds =
            |entry: Option<Entry>| entry.is_some_and(|e| e.access.is_some() || e.refresh_token.is_some());
        assert!(!holds(store.load(&key(), None).await.unwrap()), "it is used no more");
        assert!(holds(recorder.memory.load(&key(), None).await.unwrap()));
        assert_eq!(pending(), [Pending::Deletion], "what stands there is older");
        *recorder.unwritable.lock().unwrap() = None;
        sleep(Duration::from_mins(3)).await;
        assert_eq!(pending(), []);
        let left = recorder.memory.load(&key(), None).await.unwrap();
        assert_eq!(left.is_some(), spends == seed("seed"));
        assert!(!holds(left));
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_follows_a_logout_the_store_refused_is_kept() {
    let authority = Arc::new(Authority::new());
    let (recorder, store) = recorded(&authority);
    let source = source(&authority, &store, Spends::Nothing);
    source.fetch().await.unwrap();
    *recorder.unwritable.lock().unwrap() = Some(full_disk());
    source.forget(None).await.unwrap_err();
    // By another process.
    let newer = Entry { generation: 7, ..Entry::empty(key().client) };
    recorder.memory.replace(&key(), &newer, &Lease::new(())).await.unwrap();
    *recorder.unwritable.lock().unwrap() = None;
    sleep(Duration::from_mins(3)).await;
    assert_eq!(store.alarm().faults(), []);
    assert_eq!(recorder.memory.load(&key(), None).await.unwrap().unwrap().generation, 7);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_when_it_was_logged_out_is_deleted_later() {
    let authority = Arc::new(Authority::new());
    let (recorder, store) = recorded(&authority);
    let source = source(&authority, &store, Spends::Nothing);
    source.fetch().await.unwrap();
    *recorder.unreadable.lock().unwrap() = Some(full_disk());
    *recorder.unwritable.lock().unwrap() = Some(full_disk());
    source.forget(None).await.unwrap_err();
    *recorder.unwritable.lock().unwrap() = None;
    sleep(Duration::from_mins(3)).await;
    assert_eq!(store.alarm().faults(), []);
    assert_eq!(recorder.memory.load(&key(), None).await.unwrap(), None);
}
