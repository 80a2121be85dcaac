//! The words of the tables are themselves and no others: found wanting by a mutation trial.

use policy::{GrantState, JobNames, Kind};

#[test]
fn every_word_is_itself_and_no_other_is_one() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
    }
    for state in GrantState::ALL {
        assert_eq!(GrantState::parse(state.as_str()), Some(state));
    }
    for word in ["", "Login", "proxy ", "any"] {
        assert_eq!((Kind::parse(word), GrantState::parse(word)), (None, None), "{word:?}");
    }
}

#[test]
fn names_of_jobs_are_said_as_they_were_written() {
    let (all, some) = (JobNames::parse("").expect("all"), JobNames::parse("shot-*, comp-?").expect("some"));
    assert_eq!((all.is_all(), some.is_all()), (true, false));
    assert_eq!((all.to_string(), some.to_string()), (String::new(), "shot-*,comp-?".to_owned()));
}
