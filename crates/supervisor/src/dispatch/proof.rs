//! Proofs of the host: whether the launcher's signed word agrees with what was decided.

use store::SessionRow;
use warrant::proof::{Fact, PROOF_MAX, Proof};
use warrant::{PublicKey, Signed, VerifyError, unhex};
use wire::{Account, Report};

/// Why a proof is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("there is no proof")]
    Missing,
    #[error("the host's key is not the one this worker was first seen with")]
    Key,
    #[error("it can't be read")]
    Malformed,
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("it is about {what} {proved}, not {expected}")]
    Differs { what: &'static str, proved: String, expected: String },
    #[error("it proves something else")]
    OtherFact,
}

/// Checks the proof that a report brings against the session it is about.
pub(crate) fn check(report: &Report, row: &SessionRow, key: Option<&PublicKey>) -> Result<(), ProofError> {
    let (Report::Started { proof, .. } | Report::Ended { proof, .. } | Report::Refused { proof, .. }) = report else {
        return Ok(());
    };
    let proof = open(proof.as_deref().ok_or(ProofError::Missing)?, key.ok_or(ProofError::Key)?)?;
    same("worker", &proof.worker, &row.worker)?;
    same("session", proof.session, row.id)?;
    same("job", proof.job, row.job)?;
    match (report, &proof.fact) {
        (Report::Started { run_as, .. }, Fact::Started { login_user, user, mode, run_as: proved, .. }) => {
            same("login user", login_user, &row.login_user)?;
            same("user", user, &row.user)?;
            same("mode", mode, &row.mode)?;
            let proved =
                Account { name: proved.name.clone(), uid: proved.uid, gid: proved.gid, groups: proved.groups.clone() };
            same("account", format!("{proved:?}"), format!("{run_as:?}"))?;
            if row.account != "throwaway" {
                same("account", &proved.name, &row.account)?;
            }
            if proved.uid == 0 {
                return Err(ProofError::Differs {
                    what: "uid",
                    proved: "0".to_owned(),
                    expected: "an account's".to_owned(),
                });
            }
            Ok(())
        }
        (Report::Refused { .. }, Fact::Refused { .. }) | (Report::Ended { .. }, Fact::Ended { .. }) => Ok(()),
        _ => Err(ProofError::OtherFact),
    }
}

fn open(hex: &str, key: &PublicKey) -> Result<Proof, ProofError> {
    let bytes = unhex(hex).ok_or(ProofError::Malformed)?;
    let signed = Signed::decode(&bytes, PROOF_MAX).map_err(|_| ProofError::Malformed)?;
    Ok(Proof::open(&signed, std::slice::from_ref(key))?)
}

fn same<T: PartialEq<U> + ToString, U: ToString>(what: &'static str, proved: T, expected: U) -> Result<(), ProofError> {
    if proved == expected {
        return Ok(());
    }
    Err(ProofError::Differs { what, proved: proved.to_string(), expected: expected.to_string() })
}
