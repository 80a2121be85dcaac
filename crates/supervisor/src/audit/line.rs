//! The bytes of a record: one line of JSON, `{"seq":…,…,"prev":HASH,"hash":HASH}`, where `hash` is SHA-256 over the line
//! up to `,"hash"` and `prev` the `hash` of the line before. A checkpoint has `"signature"` before its hash: Ed25519 over
//! a label and the line up to `,"signature"`.

use super::act::{Act, Outcome};
use super::record::{Channel, Record};
use crate::clock;
use serde::{Deserialize, Serialize};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};
use serde_json::{Map, Value};
use std::io::{self, Write};
use warrant::{Domain, PublicKey, SecretKey, Signed, hex, sha256, unhex};

const HASH: &str = ",\"hash\":\"";
const SIGNATURE: &str = ",\"signature\":\"";
/// No record is longer: its values are capped.
pub(super) const LINE_MAX: u64 = 4 << 20;

/// The end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) sequence: u64,
    pub(super) hash: [u8; 32],
}

impl Tail {
    pub(super) const START: Self = Self { sequence: 0, hash: [0; 32] };
}

/// Where the same record stands in the chain of all records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Of {
    pub(super) seq: u64,
    pub(super) hash: String,
}

#[derive(Serialize)]
struct Out<'a> {
    seq: u64,
    time: &'a str,
    act: &'a str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_as: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<&'a str>,
    channel: Channel,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    happened: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<&'a Of>,
    prev: &'a str,
}

/// Appends the line that follows `tail` to `out`; returns the new end.
pub(super) fn write(
    record: &Record,
    now: i64,
    of: Option<&Of>,
    tail: Tail,
    signer: Option<&SecretKey>,
    out: &mut Vec<u8>,
) -> io::Result<Tail> {
    let actor = &record.actor;
    let line = Out {
        seq: tail.sequence + 1,
        time: &clock::rfc3339(now),
        act: record.act.as_str(),
        outcome: record.outcome,
        login_user: actor.login_user.as_deref(),
        user: actor.user.as_deref(),
        run_as: record.run_as.as_deref(),
        grant: actor.grant,
        policy_version: record.policy_version.as_deref(),
        channel: actor.channel,
        client: actor.client.as_deref(),
        credential: actor.credential,
        job: record.job,
        object: record.object.as_deref(),
        happened: record.happened.map(clock::rfc3339),
        details: &record.details,
        of,
        prev: &hex(&tail.hash),
    };
    let mut body = Vec::with_capacity(512);
    line.serialize(&mut serde_json::Serializer::with_formatter(&mut body, Harmless))?;
    body.pop();
    if let Some(key) = signer {
        let signed = key.sign(Domain::Checkpoint, body.clone());
        write!(body, "{SIGNATURE}{}\"", hex(&signed.signature))?;
    }
    let hash = sha256(&[&body]);
    out.extend_from_slice(&body);
    writeln!(out, "{HASH}{}\"}}", hex(&hash))?;
    Ok(Tail { sequence: tail.sequence + 1, hash })
}

/// What a record says, without where it stands.
pub(super) fn content(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (rest, _) = text.rsplit_once(",\"prev\":\"")?;
    let rest = rest.rsplit_once(",\"of\":{").map_or(rest, |(rest, _)| rest);
    rest.split_once(',').map(|(_, content)| content)
}

/// Appends the record of another chain's line as the one that follows `tail`.
pub(super) fn copy(bytes: &[u8], of: &Of, tail: Tail, out: &mut Vec<u8>) -> io::Result<Tail> {
    let content = content(bytes).ok_or_else(|| io::Error::other("a record can't be copied"))?;
    let (sequence, of) = (tail.sequence + 1, serde_json::to_string(of)?);
    let body = format!("{{\"seq\":{sequence},{content},\"of\":{of},\"prev\":\"{}\"", hex(&tail.hash));
    let hash = sha256(&[body.as_bytes()]);
    writeln!(out, "{body}{HASH}{}\"}}", hex(&hash))?;
    Ok(Tail { sequence, hash })
}

/// JSON in which no character can act on a terminal or turn the direction of a line.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| acts_on_text(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            write!(out, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        CompactFormatter.write_char_escape(out, escape)
    }
}

fn acts_on_text(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A line as it was read: well formed by itself, and has the hash it says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Line {
    pub(crate) seq: u64,
    pub(crate) time: String,
    pub(crate) act: String,
    #[serde(default)]
    pub(crate) outcome: String,
    pub(crate) login_user: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) run_as: Option<String>,
    pub(crate) grant: Option<u64>,
    pub(crate) object: Option<String>,
    pub(crate) job: Option<u64>,
    #[serde(default)]
    pub(crate) details: Map<String, Value>,
    pub(super) of: Option<Of>,
    prev: String,
    #[serde(skip)]
    pub(super) previous: [u8; 32],
    #[serde(skip)]
    pub(super) hash: [u8; 32],
    signature: Option<String>,
}

/// What is wrong with a line by itself; the line, where it can be read all the same.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) what: String,
    pub(super) line: Option<Box<Line>>,
}

impl Line {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Bad> {
        let bad = |what: &str| Bad { what: what.to_owned(), line: None };
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not text (UTF-8)"))?;
        let text = text.strip_suffix('\n').ok_or_else(|| bad("it is cut short"))?;
        let text = text.strip_suffix("\"}").ok_or_else(|| bad("it doesn't end as a record does"))?;
        let (body, hash) = text.rsplit_once(HASH).ok_or_else(|| bad("it has no hash"))?;
        let mut line: Self =
            serde_json::from_str(&format!("{body}}}")).map_err(|e| bad(&format!("it is no record: {e}")))?;
        line.previous = fixed(&line.prev).ok_or_else(|| bad("it has no hash of the record before"))?;
        let said = fixed(hash);
        line.hash = sha256(&[body.as_bytes()]);
        if said != Some(line.hash) {
            let what = "it was changed: it doesn't have the hash it says".to_owned();
            if let Some(said) = said {
                line.hash = said;
            }
            return Err(Bad { what, line: Some(Box::new(line)) });
        }
        Ok(line)
    }

    pub(super) fn tail(&self) -> Tail {
        Tail { sequence: self.seq, hash: self.hash }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.details.get(key).and_then(Value::as_str)
    }

    pub(super) fn is(&self, act: Act) -> bool {
        self.act == act.as_str()
    }

    pub(super) fn is_proxied(&self) -> bool {
        matches!((&self.login_user, &self.user), (Some(login), Some(user)) if login != user)
    }

    pub(super) fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }
}

/// Whether the line `bytes` holds a signature of `key`.
pub(super) fn is_signed_by(bytes: &[u8], key: &PublicKey) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let parts = || {
        let (body, rest) = text.rsplit_once(SIGNATURE)?;
        let signature = unhex(rest.split('"').next()?)?.try_into().ok()?;
        Some(Signed { key: key.id(), bytes: body.as_bytes().to_vec(), signature })
    };
    parts().is_some_and(|s| s.verify(Domain::Checkpoint, std::slice::from_ref(key)).is_ok())
}

/// Exactly as `hex` writes it.
pub(super) fn fixed(text: &str) -> Option<[u8; 32]> {
    unhex(text).filter(|b| text == hex(b)).and_then(|b| b.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped_and_reads_back() {
        let name = "a\nb\u{1b}[31m\u{7f}\u{9b}x\u{202e}y\u{2028}|\"\\\0é";
        let mut out = Vec::new();
        let record = Record::new(Act::Submit).with("name", name).object(name);
        let tail = write(&record, 0, None, Tail::START, None, &mut out).expect("written");
        let text = String::from_utf8(out.clone()).expect("text");
        assert_eq!(text.lines().count(), 1);
        assert!(text.trim_end().chars().all(|c| !acts_on_text(c)), "{text}");
        let line = Line::read(&out).expect("whole");
        assert_eq!((line.text("name"), line.tail()), (Some(name), tail));
    }
}
