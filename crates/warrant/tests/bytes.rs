//! What is signed comes back as it was, and nothing else does.

use proptest::prelude::*;
use warrant::launcher_wire::{FromLauncher, HostAbilities, RefusalKind, ToLauncher};
use warrant::session_wire::{Event, Events, ItemEnd, Orders, Stream, ToSession};
use warrant::{
    Account, AccountName, Batch, Domain, Fact, File, Item, ItemKind, Limits, LoginUser, Mode, Proof, PublicKey,
    Purpose, Renewal, RunAs, SealError, SealingKey, SealingKeyOf, Secret, SecretKey, SessionEnd, Signed, TaskRef, User,
    VerifyError, WARRANT_MAX, Warrant, hex, seal, sha256,
};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn warrant() -> Warrant {
    Warrant {
        farm: [1; 16],
        worker: "w1".into(),
        incarnation: [2; 16],
        sequence: 3,
        not_after: 4,
        lease_until: 5,
        purpose: Purpose::Run,
        session: 6,
        job: 7,
        login_user: LoginUser::parse("ada").expect("name"),
        user: User::parse("render").expect("name"),
        account: Account::Named { name: AccountName::parse("render").expect("name"), uid: Some(1501) },
        mode: Mode::User,
        shared: true,
        grant: Some(9),
        policy_version: [8; 32],
        limits: Limits { memory: 1 << 30, cpu_milli: 1500, pids: 100 },
        umask: 0o022,
        submitter_signature: vec![],
        password: None,
    }
}

#[test]
fn a_warrant_comes_back_only_under_the_key_that_signed_it() {
    let signed = warrant().sign(&key(1));
    assert_eq!(Warrant::open(&signed, &[key(2).public(), key(1).public()]), Ok(warrant()));
    assert_eq!(Warrant::open(&signed, &[key(2).public()]), Err(VerifyError::UnknownKey(key(1).public().id())));
    let impostor = Signed { key: key(2).public().id(), ..signed };
    assert_eq!(Warrant::open(&impostor, &[key(2).public()]), Err(VerifyError::BadSignature));
}

#[test]
fn a_signature_for_one_purpose_is_none_for_another() {
    let signed = key(1).sign(Domain::Batch, warrant().sign(&key(1)).bytes);
    assert_eq!(Warrant::open(&signed, &[key(1).public()]), Err(VerifyError::BadSignature));
}

#[test]
fn the_weak_keys_that_verify_anything_are_no_keys() {
    assert!(PublicKey::from_bytes(&[0; 32]).is_none());
    let mut one = [0; 32];
    one[0] = 1;
    assert!(PublicKey::from_bytes(&one).is_none());
}

#[test]
fn the_largest_warrant_fits_its_limit() {
    let long = "a".repeat(warrant::names::NAME_MAX);
    let largest = Warrant {
        worker: long.clone(),
        login_user: LoginUser::parse(&long).expect("name"),
        user: User::parse(&long).expect("name"),
        account: Account::Named { name: AccountName::parse(&long).expect("name"), uid: Some(u32::MAX) },
        submitter_signature: vec![0; 512],
        password: Some(vec![0; warrant::BOX_MAX]),
        ..warrant()
    };
    assert!(largest.sign(&key(1)).encode().len() <= WARRANT_MAX);
}

#[test]
fn a_password_travels_in_one_warrant_and_opens_in_no_other() {
    let (launcher, secret) = (SealingKey::from_seed(&[5; 32]), || Secret::new(b"hunter2".to_vec()).expect("password"));
    let entropy = zeroize::Zeroizing::new([6; 32]);
    let sealed = seal(&secret(), &launcher.public(), &warrant().password_context(), entropy).expect("sealed");
    let with = Warrant { password: Some(sealed.clone()), ..warrant() };
    let got = Warrant::open(&with.sign(&key(1)), &[key(1).public()]).expect("opened");
    assert_eq!(got, with);
    assert_eq!(launcher.open(&sealed, &got.password_context()).expect("ours").expose(), b"hunter2");

    type Change = fn(&mut Warrant);
    let others: [(&str, Change); 8] = [
        ("farm", |w| w.farm = [9; 16]),
        ("worker", |w| w.worker = "w2".into()),
        ("incarnation", |w| w.incarnation = [9; 16]),
        ("sequence", |w| w.sequence += 1),
        ("session", |w| w.session += 1),
        ("job", |w| w.job += 1),
        ("account", |w| w.account = Account::Named { name: AccountName::parse("bob").expect("name"), uid: Some(1501) }),
        ("throwaway", |w| w.account = Account::Throwaway),
    ];
    for (what, change) in others {
        let mut other = with.clone();
        change(&mut other);
        let opened = launcher.open(&sealed, &other.password_context());
        assert_eq!(opened.err(), Some(SealError::NotForUs), "another {what}");
    }
}

#[test]
fn a_warrant_without_a_password_is_written_as_in_the_first_release() {
    let (without, with) = (warrant(), Warrant { password: Some(vec![1]), ..warrant() });
    let (without, with) = (without.sign(&key(1)).bytes, with.sign(&key(1)).bytes);
    assert_eq!((without[0], with[0]), (1, 2));
    assert_eq!(hex(&sha256(&[&without])), include_str!("warrant-1.sha256").trim());
    assert_eq!(with[1..without.len()], without[1..]);
}

fn task() -> TaskRef {
    TaskRef { step: 1, index: 1 << 40, epoch: 2 }
}

fn batch() -> Batch {
    let file = |path: &str| File { path: path.into(), data: b"#!/bin/sh\n".to_vec(), executable: true };
    let item = |kind| Item {
        kind,
        argv: vec![b"echo".to_vec(), vec![0xff, b'x']],
        env: vec![(b"A".to_vec(), b"b".to_vec())],
        files: vec![file("task.sh")],
        timeout_ms: 5,
        grace_ms: 6,
    };
    Batch {
        farm: [1; 16],
        session: 6,
        sequence: 1,
        job: 7,
        not_after: 10,
        env: vec![(b"HOME".to_vec(), b"/".to_vec())],
        cwd: Some(b"/shared".to_vec()),
        files: vec![file("env.sh")],
        items: vec![
            item(ItemKind::Enter { name: "blender".into() }),
            item(ItemKind::Task(task())),
            item(ItemKind::Exit { name: "blender".into() }),
        ],
    }
}

fn proofs() -> Vec<Proof> {
    let proof = |fact| Proof {
        worker: "w1".into(),
        incarnation: [2; 16],
        session: 6,
        job: 7,
        fact,
        at_us: 11,
        log_sequence: 12,
        log_previous: [3; 32],
    };
    let run_as = RunAs { name: "ada".into(), uid: 1501, gid: 1501, groups: vec![1501, 1600] };
    vec![
        proof(Fact::Started {
            login_user: "ada".into(),
            user: "ada".into(),
            mode: "user".into(),
            run_as,
            warrant: [4; 32],
            pid: 99,
            pid_start: 100,
        }),
        proof(Fact::Refused { stage: "setuid".into(), errno: 11, text: "try again".into(), warrant: [4; 32] }),
        proof(Fact::Ended { end: SessionEnd::Signalled(9), cpu_us: 1, max_rss: 2 }),
    ]
}

#[test]
fn every_message_comes_back() {
    let keys = [key(1).public()];
    assert_eq!(Batch::open(&batch().sign(&key(1)), &keys), Ok(batch()));
    for proof in proofs() {
        assert_eq!(Proof::open(&proof.sign(&key(1)), &keys), Ok(proof));
    }
    let renewal = Renewal { farm: [1; 16], worker: "w1".into(), session: 6, lease_until: 7 };
    assert_eq!(Renewal::open(&renewal.sign(&key(1)), &keys), Ok(renewal.clone()));
    let orders = Orders {
        farm: [1; 16],
        session: 6,
        job: 7,
        keys: vec![[5; 32]],
        desktop: true,
        lease_until: 8,
        orphan_limit_ms: 9,
    };
    assert_eq!(Orders::decode(&orders.encode()), Ok(orders));
    for m in to_session() {
        assert_eq!(ToSession::decode(&m.encode()), Ok(m));
    }
    let events = Events { first: 9, events: events() };
    assert_eq!(Events::decode(&events.encode()), Ok(events));
    for m in to_launcher() {
        assert_eq!(ToLauncher::decode(&m.encode()), Ok(m));
    }
    for m in from_launcher() {
        assert_eq!(FromLauncher::decode(&m.encode()), Ok(m));
    }
}

fn to_session() -> Vec<ToSession> {
    vec![
        ToSession::Attach { acked: 1 },
        ToSession::Ack { through: 2 },
        ToSession::Batch,
        ToSession::Cancel { task: task() },
        ToSession::Recall { through: u64::MAX, number: 12 },
        ToSession::Suspend,
        ToSession::Resume,
        ToSession::Finish,
        ToSession::Renew(key(1).sign(Domain::Renewal, vec![1, 2])),
        ToSession::Ping,
    ]
}

fn events() -> Vec<Event> {
    let end = |end| Event::TaskEnded { task: task(), end, started_us: 1, ended_us: 2, cpu_us: 3, max_rss: 4 };
    vec![
        Event::Ready { pid: 5 },
        Event::TaskStarted { task: task(), at_us: 6 },
        Event::Output { task: task(), stream: Stream::Stderr, offset: 7, data: vec![0, 255] },
        Event::Progress { task: task(), hundredths: 10_000 },
        Event::Status { task: task(), text: "rendering".into() },
        end(ItemEnd::Exited(3)),
        end(ItemEnd::Signalled(9)),
        end(ItemEnd::TimedOut),
        end(ItemEnd::Cancelled),
        end(ItemEnd::CannotStart { stage: "cwd".into(), errno: 13, text: "no".into() }),
        end(ItemEnd::Failed { text: "said so".into() }),
        Event::EnvironmentOutput { name: "e".into(), data: vec![1] },
        Event::EnvironmentEnded { name: "e".into(), entered: true, end: ItemEnd::Exited(0) },
        Event::BatchDone { sequence: 1 },
        Event::Recalled { tasks: vec![task()], answers: 12 },
        Event::BatchRefused { text: "late".into() },
        Event::Stuck,
        Event::Leaving { text: "finished".into() },
    ]
}

fn to_launcher() -> Vec<ToLauncher> {
    vec![
        ToLauncher::Hello { id: 1 },
        ToLauncher::Launch { id: 2, warrant: warrant().sign(&key(1)) },
        ToLauncher::Attach { id: 3, session: 4 },
        ToLauncher::Kill { id: 5, session: 6 },
        ToLauncher::Renew { id: 7, renewal: key(1).sign(Domain::Renewal, vec![1, 2]) },
        ToLauncher::Forget { id: 8, session: 9 },
    ]
}

fn from_launcher() -> Vec<FromLauncher> {
    vec![
        FromLauncher::Welcome {
            id: 1,
            incarnation: [2; 16],
            tick: 3,
            host_key: [4; 32],
            abilities: HostAbilities { cgroup_kill: true, throwaway: true, ..HostAbilities::default() },
            sealing_key: None,
            sessions: vec![5, 6],
        },
        FromLauncher::Welcome {
            id: 1,
            incarnation: [2; 16],
            tick: 3,
            host_key: [4; 32],
            abilities: HostAbilities::default(),
            sealing_key: Some(SealingKeyOf { incarnation: [2; 16], public: [7; 32] }.sign(&key(1))),
            sessions: vec![5, 6],
        },
        FromLauncher::Launched { id: 1, session: 2 },
        FromLauncher::Refused {
            id: 1,
            session: 2,
            kind: RefusalKind::Stage,
            stage: "setuid".into(),
            errno: 1,
            text: "no".into(),
            hint: "yes".into(),
        },
        FromLauncher::Attached { id: 1, session: 2 },
        FromLauncher::Done { id: 1 },
        FromLauncher::NoSession { id: 1, session: 2 },
        FromLauncher::Ended { session: 2 },
    ]
}

proptest! {
    #[test]
    fn no_changed_byte_of_a_warrant_is_accepted(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut bytes = warrant().sign(&key(1)).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let opened = Signed::decode(&bytes, WARRANT_MAX).map(|s| Warrant::open(&s, &[key(1).public()]));
        prop_assert!(!matches!(opened, Ok(Ok(_))));
    }

    #[test]
    fn a_warrant_cut_or_lengthened_is_refused(cut in 0..300usize, tail in proptest::collection::vec(any::<u8>(), 1..9)) {
        let bytes = warrant().sign(&key(1)).bytes;
        let resigned = |bytes: Vec<u8>| Warrant::open(&key(1).sign(Domain::Warrant, bytes), &[key(1).public()]);
        prop_assert!(resigned(bytes[..cut.min(bytes.len() - 1)].to_vec()).is_err());
        prop_assert!(resigned([bytes, tail].concat()).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = (ToSession::decode(&bytes), Events::decode(&bytes), ToLauncher::decode(&bytes));
        let _ = (FromLauncher::decode(&bytes), Orders::decode(&bytes), Signed::decode(&bytes, WARRANT_MAX));
        let keys = [key(1).public()];
        let _ = Batch::open(&key(1).sign(Domain::Batch, bytes.clone()), &keys);
        let _ = Proof::open(&key(1).sign(Domain::Proof, bytes), &keys);
    }

    #[test]
    fn only_plain_names_are_names(text in "\\PC{0,70}") {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-@\\".contains(c);
        let fits = (1..=64).contains(&text.len()) && text.chars().all(plain)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        prop_assert_eq!(AccountName::parse(&text).is_ok(), fits);
    }
}

#[test]
fn names_that_mean_something_else_are_refused() {
    for text in ["", "-rf", ".", "..", "../x", "a b", "a\n", "a\0", "a/b", "#0", "+0", "$(id)", "a;b", "ä", "a:b"] {
        assert!(AccountName::parse(text).is_err(), "{text:?}");
    }
    for text in ["ada", "_apt", "1001", "bob.smith", "FARM\\bob", "bob@farm.test", "a-b"] {
        assert!(AccountName::parse(text).is_ok(), "{text:?}");
    }
}
