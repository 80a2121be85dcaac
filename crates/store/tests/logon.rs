//! Passwords that accounts are logged on with: one per name, each version once, and all sealed anew or none.

mod common;

use common::*;
use store::{LogonName, LogonState, LogonWord, ResealError, Sealed, Store};

fn name(account: &str, domain: &str) -> LogonName {
    LogonName { account: account.to_owned(), domain: domain.to_owned() }
}

async fn put(store: &Store, account: &str, now: i64) -> u64 {
    let seal = |version: u64| Some(Sealed { key_id: "k1".to_owned(), bytes: version.to_le_bytes().to_vec() });
    store.put_logon(name(account, ""), seal, "ada", None, now).await.expect("kept")
}

#[tokio::test]
async fn what_can_not_be_sealed_is_not_kept_and_replaces_nothing() {
    let farm = Farm::fresh().await;
    let kept = put(&farm.store, "ada", T0).await;
    let refused = farm.store.put_logon(name("ada", ""), |_| None, "ada", None, T0).await;
    assert!(matches!(refused, Err(store::StoreError::NotSealed)), "{refused:?}");
    let row = farm.store.logon(&name("ada", "")).await.expect("read").expect("the former one");
    assert_eq!((row.version, row.sealed.is_empty()), (kept, false));
}

fn word(state: LogonState, text: &str) -> LogonWord {
    LogonWord { state, by: "w1".to_owned(), text: Some(text.to_owned()) }
}

#[tokio::test]
async fn a_version_is_used_once_and_what_was_sealed_with_it_comes_back() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let first = put(store, "ada", 1).await;
    let second = put(store, "ada", 2).await;
    let row = store.logon(&name("ada", "")).await.expect("read").expect("there");
    assert_eq!((row.version, row.sealed, row.state), (second, second.to_le_bytes().to_vec(), LogonState::Unproved));
    assert_eq!((row.set_by.as_str(), row.set_at, row.said_at), ("ada", 2, None));
    assert_eq!(store.logon(&name("ada", "STUDIO")).await.expect("read"), None, "another domain is another account");
    assert_eq!(store.logon(&name("Ada", "")).await.expect("read"), None, "names are compared exactly");
    assert!(store.delete_logon(name("ada", ""), None).await.expect("deleted"));
    assert!(!store.delete_logon(name("ada", ""), None).await.expect("nothing left"));
    assert!(put(store, "ada", 3).await > second && second > first, "not even after it was deleted");
    assert_eq!(store.logons().await.expect("read").len(), 1);
}

#[tokio::test]
async fn what_is_bad_stays_bad_until_it_is_set_or_checked() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    let version = put(store, "ada", 1).await;
    let state = async || store.logon(&name("ada", "")).await.expect("read").expect("there").state;
    assert!(store.logon_said(version, word(LogonState::Good, ""), false, 2).await.expect("kept"));
    assert!(store.logon_said(version, word(LogonState::Bad, "wrong"), false, 3).await.expect("kept"));
    assert!(!store.logon_said(version, word(LogonState::Good, ""), false, 4).await.expect("not kept"));
    let row = store.logon(&name("ada", "")).await.expect("read").expect("there");
    assert_eq!((row.state, row.said_at, row.said_by.as_deref()), (LogonState::Bad, Some(3), Some("w1")));
    assert!(store.logon_said(version, word(LogonState::Good, ""), true, 5).await.expect("checked"));
    assert_eq!(state().await, LogonState::Good);
    put(store, "ada", 6).await;
    assert!(!store.logon_said(version, word(LogonState::Bad, "late"), false, 7).await.expect("of the former one"));
    assert_eq!(state().await, LogonState::Unproved);
}

#[tokio::test]
async fn all_are_sealed_anew_or_none() {
    let farm = Farm::fresh().await;
    let store = &farm.store;
    for (n, account) in ["ada", "bob", "eve"].into_iter().enumerate() {
        put(store, account, i64::try_from(n).expect("few")).await;
    }
    let before = store.logons().await.expect("read");
    let all_but_eve = |row: &store::LogonRow| match row.name.account.as_str() {
        "eve" => Err("torn"),
        _ => Ok(Sealed { key_id: "k2".to_owned(), bytes: vec![9] }),
    };
    let failed = store.reseal_logons(all_but_eve, ("password_key", "k2"), None).await;
    assert!(matches!(failed, Err(ResealError::Seal { name, error: "torn" }) if name.account == "eve"));
    assert_eq!(store.logons().await.expect("read"), before);
    assert_eq!(store.meta("password_key").await.expect("read"), None);

    let all = |_: &store::LogonRow| Ok::<_, ()>(Sealed { key_id: "k2".to_owned(), bytes: vec![9] });
    assert_eq!(store.reseal_logons(all, ("password_key", "k2"), None).await.expect("done"), 3);
    let after = store.logons().await.expect("read");
    assert!(after.iter().all(|row| row.key_id == "k2" && row.sealed == [9]));
    assert!(after.iter().zip(&before).all(|(a, b)| (a.version, a.set_at) == (b.version, b.set_at)));
    assert_eq!(store.meta("password_key").await.expect("read").as_deref(), Some("k2"));
}
