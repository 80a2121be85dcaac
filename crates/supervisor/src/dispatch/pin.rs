//! Whose worker a name is: the account that first said hello under it. No field of a message takes part; the kernel
//! says which uid is at the other end. Who may knock at all is `listen`'s.

use super::Dispatcher;
use super::place::HelloError;
use store::{SessionRow, Store, StoreError};
use warrant::{PublicKey, unhex};
use wire::Hello;

/// What a session answers of a file has room in it.
const DESK_MESSAGE_MAX: usize = 8 << 20;

/// Why word of a session is not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error("worker {0} has not said hello yet: once it has, try again")]
    NotSeen(String),
    #[error("worker {worker} is uid {owner}'s, and this is uid {uid}")]
    NotYours { worker: String, owner: u32, uid: u32 },
    #[error("uid {0} is not on the list of those who may run a desktop worker here, or a job started this process")]
    Unlisted(u32),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Dispatcher {
    /// Whether what comes from there is a worker's word at all, as things are now.
    pub(crate) fn may_bring(&self, uid: u32, is_free: bool) -> Result<(), PinError> {
        if self.0.doorkeeper.may_bring(uid, is_free) { Ok(()) } else { Err(PinError::Unlisted(uid)) }
    }

    pub(crate) fn is_service(&self, uid: u32) -> bool {
        self.0.doorkeeper.is_service(uid)
    }

    /// How large a message of that account's worker may be: files come from the farm's own, and from a desktop in pieces.
    pub(crate) fn message_max(&self, uid: u32) -> usize {
        if self.0.doorkeeper.is_service(uid) { wire::FRAME_MAX } else { DESK_MESSAGE_MAX }
    }

    /// Whether a session is that worker's. What isn't a person's is not there for them: numbers of others' sessions
    /// say nothing.
    pub(crate) async fn is_session_from(&self, row: &SessionRow, uid: u32) -> Result<(), PinError> {
        match self.is_from(&row.worker, uid).await {
            Err(PinError::NotYours { .. }) if !self.is_service(uid) => {
                Err(PinError::Store(StoreError::NoSuchSession(row.id)))
            }
            is_from => is_from,
        }
    }

    /// Whether the worker of that name is the peer's.
    async fn is_from(&self, worker: &str, uid: u32) -> Result<(), PinError> {
        match self.owner_of(worker).await?.ok_or_else(|| PinError::NotSeen(worker.to_owned()))? {
            owner if owner == uid => Ok(()),
            owner => Err(PinError::NotYours { worker: worker.to_owned(), owner, uid }),
        }
    }

    /// The same of one whose word is taken in.
    pub(super) async fn uid_of(&self, worker: &str) -> Result<u32, PinError> {
        self.owner_of(worker).await?.ok_or_else(|| PinError::NotSeen(worker.to_owned()))
    }

    /// The uid a worker's name was first seen with. It never changes: it is read once.
    async fn owner_of(&self, worker: &str) -> Result<Option<u32>, StoreError> {
        if let Some(uid) = self.farm().owners.get(worker) {
            return Ok(Some(*uid));
        }
        let uid = self.store().meta(&entry(worker)).await?.and_then(|uid| uid.parse().ok());
        if let Some(uid) = uid {
            self.farm().owners.insert(worker.to_owned(), uid);
        }
        Ok(uid)
    }

    /// Lets nobody take another account's worker's place, or another person's for a desktop's owner.
    pub(super) async fn check_peer(&self, hello: &Hello, uid: u32, is_free: bool) -> Result<(), HelloError> {
        let stored = |e: StoreError| HelloError::Store(e.to_string());
        if !self.is_service(uid) {
            let desks = self.record_desks().await.map_err(|e| HelloError::Store(e.to_string()))?;
            self.0.doorkeeper.check(&desks, hello, uid, is_free)?;
        }
        if hello.mode == "desktop" {
            self.check_desktop(hello, uid).await?;
            self.check_is_a_persons(hello, uid).await.map_err(stored)??;
        }
        let name = &hello.name;
        let known = self.store().workers().await.map_err(stored)?.into_iter().find(|w| w.name == *name);
        let changes = known.filter(|k| (k.mode == "desktop") != (hello.mode == "desktop"));
        if let Some(known) = changes
            && self.pinned_key(name).await.map_err(stored)?.is_some()
        {
            return Err(HelloError::Changes { name: name.clone(), from: known.mode, to: hello.mode.clone() });
        }
        let owner = self.store().claim_meta(&entry(name), &uid.to_string()).await.map_err(stored)?;
        if owner == uid.to_string() { Ok(()) } else { Err(HelloError::NotYours { name: name.clone(), owner, uid }) }
    }

    async fn check_desktop(&self, hello: &Hello, uid: u32) -> Result<(), HelloError> {
        let owner = hello.owner.as_ref().ok_or(HelloError::NoOwner)?;
        let peer = self.0.owners.login_user(uid).await.map_err(HelloError::Peer)?;
        if owner.uid == uid && owner.name == peer.as_str() {
            return Ok(());
        }
        let (owner, owner_uid) = (owner.name.clone(), owner.uid);
        Err(HelloError::Owner { owner, owner_uid, peer: peer.to_string(), uid })
    }

    /// The host's key that the worker was first seen with.
    pub(super) async fn pinned_key(&self, worker: &str) -> Result<Option<PublicKey>, StoreError> {
        pinned_key(self.store(), worker).await
    }
}

fn entry(worker: &str) -> String {
    format!("peer_uid/{worker}")
}

/// The host's key that a worker was first seen with, if it is one.
pub(crate) async fn pinned_key(store: &Store, worker: &str) -> Result<Option<PublicKey>, StoreError> {
    let pinned = store.meta(&format!("host_key/{worker}")).await?;
    let bytes = pinned.and_then(|hex| unhex(&hex)?.try_into().ok());
    Ok(bytes.and_then(|bytes| PublicKey::from_bytes(&bytes)))
}
