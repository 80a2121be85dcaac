//! People of real directories: the host's own files, OpenLDAP, a Samba domain.

use e2e::{Ad, Directory, Ldap, Local, PASSWORD, Stage, Verdict, servers_or_skip};

/// Right and wrong passwords, nobody, a locked account, an expired one.
#[track_caller]
fn signs_in_only_whom_it_should(directory: &impl Directory) {
    let who = directory.somebody();
    assert_eq!(directory.ask(who, PASSWORD), Verdict::Right);
    for wrong in ["wrong", "", "right-1!pw"] {
        assert_eq!(directory.ask(who, wrong), Verdict::No, "{wrong:?}");
    }
    assert_eq!(directory.ask("no-such-person", PASSWORD), Verdict::No);
    directory.lock(who);
    assert_eq!(directory.ask(who, PASSWORD), Verdict::No, "locked");
    directory.unlock(who);
    assert_eq!(directory.ask(who, PASSWORD), Verdict::Right, "unlocked again");
    directory.expire(who);
    assert_eq!(directory.ask(who, PASSWORD), Verdict::No, "expired");
}

#[test]
fn local_accounts_sign_in() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    signs_in_only_whom_it_should(&Local::start(&stage));
}

#[test]
fn ldap_accounts_sign_in() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut ldap = Ldap::start(&stage);
    signs_in_only_whom_it_should(&ldap);
    ldap.stop_server();
    assert_eq!(ldap.ask("otto", PASSWORD), Verdict::Unavailable);
    ldap.stop_client();
    assert_eq!(ldap.ask("otto", PASSWORD), Verdict::Unavailable);
}

#[test]
fn accounts_of_a_domain_sign_in() {
    if !servers_or_skip() {
        return;
    }
    let stage = Stage::raise_with_servers();
    let mut domain = Ad::start(&stage);
    signs_in_only_whom_it_should(&domain);
    domain.stop_controller();
    assert_eq!(domain.ask("otto", PASSWORD), Verdict::Unavailable);
}
