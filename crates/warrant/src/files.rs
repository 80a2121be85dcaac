//! File work of a session that was opened for it ([`crate::Purpose::Read`]): what it is asked, signed by the supervisor as
//! batches are, and what it answers. No request names a command, and none reaches root.
//!
//! A request is in a sealed memfd beside its packet; an answer comes in packets of its own ([`Piece`]), which stand beside
//! the session's numbered events and are kept nowhere: whoever asked asks again.

use crate::codec::{DecodeError, Reader, Writer};
use crate::sign::{Domain, PublicKey, SecretKey, Signed, VerifyError};
use crate::warrant::{unknown, version, write_version};

/// Most bytes of a file in one request or answer.
pub const DATA_MAX: usize = 256 << 10;
/// Longest path: the kernel's own limit.
pub const PATH_MAX: usize = 4096;
/// Most entries of a folder in one answer.
pub const ENTRIES_MAX: usize = 500;
/// Longest name of an entry, as text.
const NAME_MAX: usize = 1024;
/// Longest sentence of a refusal.
const TEXT_MAX: usize = 1024;
/// Most bytes of a signed request.
pub const REQUEST_MAX: usize = DATA_MAX + 4 * PATH_MAX;
/// Most bytes of an answer: a session that sends more breaks the protocol.
pub const ANSWER_MAX: usize = 1 << 20;
/// Most bytes of an answer in one packet.
pub const PIECE_MAX: usize = 48 << 10;
/// What a packet of an answer begins with, where packets of events have the number of the first one, from 1.
const MARK: u64 = 0;

/// Where paths begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// The folder of the job that the session was opened for.
    Job,
    /// The account's home.
    Home,
}

/// One request for one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    pub farm: [u8; 16],
    pub session: u64,
    /// Ascending within the session; each is done at most once.
    pub sequence: u64,
    /// Boot-time clock of the host, in ms, after which it is no longer begun.
    pub not_after: u64,
    pub root: Root,
    pub work: FileWork,
}

/// What is to be done. Paths are relative to the root; the empty one is the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileWork {
    /// Entries of a folder by name, after `after`.
    List {
        path: String,
        after: String,
        limit: u32,
    },
    Stat {
        path: String,
    },
    /// A part of a file.
    Read {
        path: String,
        offset: u64,
        length: u32,
    },
    /// A part of a file; `new`: the file must not be there yet.
    Write {
        path: String,
        offset: u64,
        new: bool,
        data: Vec<u8>,
    },
    MakeFolder {
        path: String,
    },
    /// `replace`: a file at `to` goes.
    Rename {
        from: String,
        to: String,
        replace: bool,
    },
    /// A file, a symbolic link itself, or an empty folder.
    Remove {
        path: String,
    },
}

impl FileWork {
    /// Whether something is otherwise afterwards.
    #[must_use]
    pub fn changes(&self) -> bool {
        !matches!(self, Self::List { .. } | Self::Stat { .. } | Self::Read { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Folder,
    Link,
    /// A pipe, a socket, a device: never opened.
    Other,
}

impl EntryKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Link => "link",
            Self::Other => "other",
        }
    }
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As text; of a name that is no UTF-8 what can be shown of it.
    pub name: String,
    pub kind: EntryKind,
    pub size: u64,
    /// µs since 1970; 0 before that.
    pub modified_us: u64,
    /// Permission bits.
    pub mode: u32,
}

/// Why something was not done, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileRule {
    /// The request itself: not signed, not for this session, late.
    Request,
    /// The path is none.
    Path,
    /// It leads out of the root.
    LeadsOut,
    /// Not a file, or not a folder.
    Kind,
    Missing,
    Exists,
    /// The account may not.
    Denied,
    /// The root itself can't be opened.
    Root,
    /// Whatever else the operating system says.
    System,
}

impl FileRule {
    const ALL: [(u8, Self, &str); 9] = [
        (1, Self::Request, "file_request"),
        (2, Self::Path, "file_path"),
        (3, Self::LeadsOut, "file_leads_out"),
        (4, Self::Kind, "file_kind"),
        (5, Self::Missing, "file_missing"),
        (6, Self::Exists, "file_exists"),
        (7, Self::Denied, "file_denied"),
        (8, Self::Root, "file_root"),
        (9, Self::System, "file_system"),
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, rule, _)| *rule == self).map_or("file_system", |(_, _, word)| word)
    }

    fn number(self) -> u8 {
        Self::ALL.iter().find(|(_, rule, _)| *rule == self).map_or(9, |(number, ..)| *number)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = r.u8()?;
        let rule = Self::ALL.iter().find(|(n, ..)| *n == number).map(|(_, rule, _)| *rule);
        rule.ok_or_else(|| unknown("rule", number))
    }
}

/// The account's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAnswer {
    Entries {
        entries: Vec<Entry>,
        more: bool,
    },
    Entry(Entry),
    /// `size`: of the whole file, when it was read.
    Data {
        data: Vec<u8>,
        size: u64,
    },
    Done,
    Refused {
        rule: FileRule,
        text: String,
    },
}

impl FileRequest {
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> Signed {
        key.sign(Domain::Files, self.encode())
    }

    /// The only way to get a request out of received bytes.
    pub fn open(signed: &Signed, keys: &[PublicKey]) -> Result<Self, VerifyError> {
        Ok(Self::decode(signed.verify(Domain::Files, keys)?)?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        write_version(&mut w);
        w.fixed(&self.farm).u64(self.session).u64(self.sequence).u64(self.not_after);
        w.u8(match self.root {
            Root::Job => 1,
            Root::Home => 2,
        });
        match &self.work {
            FileWork::List { path, after, limit } => w.u8(1).str(path).str(after).u32(*limit),
            FileWork::Stat { path } => w.u8(2).str(path),
            FileWork::Read { path, offset, length } => w.u8(3).str(path).u64(*offset).u32(*length),
            FileWork::Write { path, offset, new, data } => w.u8(4).str(path).u64(*offset).bool(*new).bytes(data),
            FileWork::MakeFolder { path } => w.u8(5).str(path),
            FileWork::Rename { from, to, replace } => w.u8(6).str(from).str(to).bool(*replace),
            FileWork::Remove { path } => w.u8(7).str(path),
        };
        w.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let request = Self {
            farm: r.fixed()?,
            session: r.u64()?,
            sequence: r.u64()?,
            not_after: r.u64()?,
            root: match r.u8()? {
                1 => Root::Job,
                2 => Root::Home,
                other => return Err(unknown("root", other)),
            },
            work: match r.u8()? {
                1 => FileWork::List { path: path(&mut r)?, after: r.str("after", NAME_MAX)?, limit: r.u32()? },
                2 => FileWork::Stat { path: path(&mut r)? },
                3 => FileWork::Read { path: path(&mut r)?, offset: r.u64()?, length: r.u32()? },
                4 => FileWork::Write {
                    path: path(&mut r)?,
                    offset: r.u64()?,
                    new: r.bool("new")?,
                    data: r.bytes("data", DATA_MAX)?.to_vec(),
                },
                5 => FileWork::MakeFolder { path: path(&mut r)? },
                6 => FileWork::Rename { from: path(&mut r)?, to: path(&mut r)?, replace: r.bool("replace")? },
                7 => FileWork::Remove { path: path(&mut r)? },
                other => return Err(unknown("file work", other)),
            },
        };
        r.finish()?;
        Ok(request)
    }
}

fn path(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    r.str("path", PATH_MAX)
}

impl FileAnswer {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Entries { entries, more } => w.u8(1).list(entries, write_entry).bool(*more),
            Self::Entry(entry) => {
                w.u8(2);
                write_entry(&mut w, entry);
                &mut w
            }
            Self::Data { data, size } => w.u8(3).bytes(data).u64(*size),
            Self::Done => w.u8(4),
            Self::Refused { rule, text } => w.u8(5).u8(rule.number()).str(text),
        };
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let answer = match r.u8()? {
            1 => Self::Entries { entries: r.list("entries", ENTRIES_MAX, read_entry)?, more: r.bool("more")? },
            2 => Self::Entry(read_entry(&mut r)?),
            3 => Self::Data { data: r.bytes("data", DATA_MAX)?.to_vec(), size: r.u64()? },
            4 => Self::Done,
            5 => Self::Refused { rule: FileRule::read(&mut r)?, text: r.str("text", TEXT_MAX)? },
            other => return Err(unknown("answer", other)),
        };
        r.finish()?;
        Ok(answer)
    }
}

fn write_entry(w: &mut Writer, entry: &Entry) {
    w.str(&entry.name).u8(match entry.kind {
        EntryKind::File => 1,
        EntryKind::Folder => 2,
        EntryKind::Link => 3,
        EntryKind::Other => 4,
    });
    w.u64(entry.size).u64(entry.modified_us).u32(entry.mode);
}

fn read_entry(r: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    Ok(Entry {
        name: r.str("name", NAME_MAX)?,
        kind: match r.u8()? {
            1 => EntryKind::File,
            2 => EntryKind::Folder,
            3 => EntryKind::Link,
            4 => EntryKind::Other,
            other => return Err(unknown("entry kind", other)),
        },
        size: r.u64()?,
        modified_us: r.u64()?,
        mode: r.u32()?,
    })
}

/// A part of an answer, as a packet of the session's channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The request's number.
    pub sequence: u64,
    pub last: bool,
    pub data: Vec<u8>,
}

impl Piece {
    /// The packets of an answer.
    #[must_use]
    pub fn all(sequence: u64, answer: &[u8]) -> Vec<Vec<u8>> {
        let count = answer.len().div_ceil(PIECE_MAX).max(1);
        let piece = |n: usize| {
            let data = answer.get(n * PIECE_MAX..answer.len().min((n + 1) * PIECE_MAX)).unwrap_or_default();
            let mut w = Writer::new();
            w.u64(MARK).u64(sequence).bool(n + 1 == count).bytes(data);
            w.into_bytes()
        };
        (0..count).map(piece).collect()
    }

    /// Whether a packet is one of an answer, and not of events.
    #[must_use]
    pub fn is(packet: &[u8]) -> bool {
        packet.starts_with(&MARK.to_le_bytes())
    }

    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        if r.u64()? != MARK {
            return Err(DecodeError::Unknown { field: "mark", value: 1 });
        }
        let piece = Self { sequence: r.u64()?, last: r.bool("last")?, data: r.bytes("piece", PIECE_MAX)?.to_vec() };
        r.finish()?;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(work: FileWork) -> FileRequest {
        FileRequest { farm: [7; 16], session: 3, sequence: 1, not_after: 99, root: Root::Job, work }
    }

    fn works() -> Vec<FileWork> {
        let path = || "a/b".to_owned();
        vec![
            FileWork::List { path: String::new(), after: "x".into(), limit: 10 },
            FileWork::Stat { path: path() },
            FileWork::Read { path: path(), offset: 1 << 40, length: 5 },
            FileWork::Write { path: path(), offset: 0, new: true, data: vec![0; DATA_MAX] },
            FileWork::MakeFolder { path: path() },
            FileWork::Rename { from: path(), to: "c".into(), replace: false },
            FileWork::Remove { path: path() },
        ]
    }

    #[test]
    fn requests_are_read_as_they_were_signed_and_by_no_other_name() {
        let key = SecretKey::from_seed(&[5; 32]);
        for work in works() {
            let asked = request(work);
            let signed = asked.sign(&key);
            assert!(signed.encode().len() <= REQUEST_MAX);
            assert_eq!(FileRequest::open(&signed, &[key.public()]), Ok(asked.clone()));
            assert!(crate::Batch::open(&signed, &[key.public()]).is_err(), "a request is no batch");
            let other = key.sign(Domain::Batch, asked.encode());
            assert!(FileRequest::open(&other, &[key.public()]).is_err(), "what was signed as a batch is no request");
            for cut in 0..signed.bytes.len().min(60) {
                let cut = key.sign(Domain::Files, signed.bytes[..cut].to_vec());
                assert!(FileRequest::open(&cut, &[key.public()]).is_err());
            }
        }
    }

    #[test]
    fn only_looking_changes_nothing() {
        let changes: Vec<bool> = works().iter().map(FileWork::changes).collect();
        assert_eq!(changes, [false, false, false, true, true, true, true]);
    }

    #[test]
    fn answers_come_back_from_their_pieces() {
        let entry = Entry { name: "n".into(), kind: EntryKind::Link, size: 1, modified_us: 2, mode: 0o644 };
        let long = Entry { name: "x".repeat(NAME_MAX), ..entry.clone() };
        let answers = [
            FileAnswer::Entries { entries: vec![long; ENTRIES_MAX], more: true },
            FileAnswer::Entry(entry),
            FileAnswer::Data { data: vec![9; DATA_MAX], size: 1 << 50 },
            FileAnswer::Data { data: Vec::new(), size: 0 },
            FileAnswer::Done,
            FileAnswer::Refused { rule: FileRule::Denied, text: "no".into() },
        ];
        for answer in answers {
            let bytes = answer.encode();
            assert!(bytes.len() <= ANSWER_MAX, "{}", bytes.len());
            let mut whole = Vec::new();
            let packets = Piece::all(4, &bytes);
            for (n, packet) in packets.iter().enumerate() {
                assert!(Piece::is(packet) && packet.len() <= crate::session_wire::PACKET_MAX);
                let piece = Piece::decode(packet).expect("piece");
                assert_eq!((piece.sequence, piece.last), (4, n + 1 == packets.len()));
                whole.extend(piece.data);
            }
            assert_eq!(FileAnswer::decode(&whole), Ok(answer));
        }
    }

    #[test]
    fn a_packet_of_events_is_no_piece() {
        let events = crate::session_wire::Events { first: 1, events: Vec::new() }.encode();
        assert!(!Piece::is(&events) && Piece::decode(&events).is_err());
    }
}
