//! Proofs of the host: whether the launcher's signed word agrees with what was decided.

use store::SessionRow;
use warrant::proof::{Fact, PROOF_MAX, Proof};
use warrant::{PublicKey, Signed, VerifyError, hex, sha256, unhex};
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
        (Report::Refused { stage, .. }, Fact::Refused { stage: proved, .. }) => same("stage", proved, stage),
        (Report::Ended { .. }, Fact::Ended { .. }) => Ok(()),
        _ => Err(ProofError::OtherFact),
    }
}

/// Where a session's proof stands: whoever may read the launcher's log on the host finds the same line there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct ProofView {
    /// The host's public key, which signed it.
    pub(crate) host_key: String,
    pub(crate) log_sequence: u64,
    /// Of the chain up to this record, as the log has it.
    sha256: String,
}

/// The proof of who a session ran as, or that it was refused, if there is one that `key` signed. That it ended proves
/// nothing about that.
pub(crate) fn view(row: &SessionRow, key: &PublicKey) -> Option<ProofView> {
    let bytes = unhex(row.proof_started.as_ref().or(row.proof_ended.as_ref())?)?;
    let signed = Signed::decode(&bytes, PROOF_MAX).ok()?;
    let proof = Proof::open(&signed, std::slice::from_ref(key)).ok()?;
    if matches!(proof.fact, Fact::Ended { .. }) {
        return None;
    }
    Some(ProofView {
        host_key: hex(&key.to_bytes()),
        log_sequence: proof.log_sequence,
        sha256: hex(&sha256(&[&proof.log_previous, &bytes])),
    })
}

/// The process that a session began with, as its proof has it. The proof was checked when it was kept.
pub(crate) fn proved_pid(row: &SessionRow) -> Option<u32> {
    let signed = Signed::decode(&unhex(row.proof_started.as_ref()?)?, PROOF_MAX).ok()?;
    match Proof::read_unchecked(&signed).ok()?.fact {
        Fact::Started { pid, .. } => Some(pid),
        _ => None,
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
