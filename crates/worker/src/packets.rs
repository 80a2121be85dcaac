//! One end of a SEQPACKET socket: whole packets with descriptors beside them, without blocking.

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use warrant::session_wire::PACKET_MAX;

/// Descriptors taken with one packet; more are a protocol error.
const FDS_MAX: usize = 4;

/// One packet as it arrived.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(crate) struct Packets {
    fd: AsyncFd<OwnedFd>,
    /// Where a packet lands before its length is known; only ever locked for one call.
    landing: Mutex<Vec<u8>>,
}

impl Packets {
    /// Wraps a socket. It needs no `O_NONBLOCK`, which whoever shares it would get too: each call says so itself.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: watched(fd)?, landing: Mutex::new(vec![0; PACKET_MAX]) })
    }

    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Self::new(fd)
    }

    /// The uid of the process at the other end, as the kernel recorded it.
    pub(crate) fn peer_uid(&self) -> io::Result<u32> {
        Ok(rustix::net::sockopt::socket_peercred(self.fd.get_ref())?.uid.as_raw())
    }

    /// The next packet; `None` when the other end is closed.
    pub(crate) async fn recv(&self) -> io::Result<Option<Packet>> {
        self.fd.async_io(Interest::READABLE, |_| self.try_recv()).await
    }

    /// What is there already: `Err(WouldBlock)` when nothing is.
    pub(crate) fn try_recv(&self) -> io::Result<Option<Packet>> {
        match self.recv_now(self.fd.get_ref()) {
            // Said once, before what is still to be read, by a peer that closed without reading all of ours.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => self.recv_now(self.fd.get_ref()),
            other => other,
        }
    }

    pub(crate) async fn send(&self, bytes: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
        let fd = fd.map(OwnedFd::as_fd);
        self.fd.async_io(Interest::WRITABLE, |socket| send_now(socket, bytes, fd.as_slice())).await
    }

    #[cfg(test)]
    pub(crate) async fn send_two(&self, bytes: &[u8], one: &OwnedFd, two: &OwnedFd) -> io::Result<()> {
        let fds = [one.as_fd(), two.as_fd()];
        self.fd.async_io(Interest::WRITABLE, |socket| send_now(socket, bytes, &fds)).await
    }

    fn recv_now(&self, socket: &OwnedFd) -> io::Result<Option<Packet>> {
        let mut landing = self.landing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut landing)], &mut control, flags)?;
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet is over the limit"));
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        let bytes = landing.get(..got.bytes).unwrap_or_default().to_vec();
        let fds = control
            .drain()
            .filter_map(|m| if let RecvAncillaryMessage::ScmRights(fds) = m { Some(fds) } else { None })
            .flatten()
            .collect();
        Ok(Some(Packet { bytes, fds }))
    }
}

/// A descriptor whose readiness can be waited for.
#[expect(
    deprecated,
    reason = "its replacement is unsafe for the sake of types that lend descriptors; this one owns it"
)]
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

fn send_now(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}

/// A pair for a worker and a session of its own.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Bytes in memory that nobody can change any more, to be passed beside a packet.
pub(crate) fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    use std::io::Write as _;
    let mut file = std::fs::File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Reads what another process passed in a memfd, from its start, wherever its offset stands.
pub(crate) fn read_sealed(fd: OwnedFd, max: usize) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::from(fd);
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if size > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes are over the limit of {max}")));
    }
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_keep_their_borders_and_carry_descriptors() {
        let (a, b) = pair().expect("pair");
        let (a, b) = (Packets::new(a).expect("a"), Packets::new(b).expect("b"));
        a.send(b"one", None).await.expect("send");
        a.send(b"two", Some(&sealed("t", b"hidden").expect("memfd"))).await.expect("send");
        assert_eq!(b.recv().await.expect("recv").expect("packet").bytes, b"one");
        let mut two = b.try_recv().expect("recv").expect("packet");
        assert_eq!((two.bytes.as_slice(), two.fds.len()), (&b"two"[..], 1));
        assert_eq!(read_sealed(two.fds.remove(0), 6).expect("read"), b"hidden");
        assert_eq!(b.try_recv().expect_err("nothing left").kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(b.recv().await.expect("recv").is_none());
    }

    #[tokio::test]
    async fn what_was_sent_is_read_though_the_sender_left_unread_packets() {
        let (a, b) = pair().expect("pair");
        let (a, b) = (Packets::new(a).expect("a"), Packets::new(b).expect("b"));
        b.send(b"never read", None).await.expect("send");
        a.send(b"last word", None).await.expect("send");
        drop(a);
        assert_eq!(b.recv().await.expect("recv").expect("packet").bytes, b"last word");
        assert!(b.recv().await.expect("recv").is_none());
    }

    #[tokio::test]
    async fn a_packet_over_the_limit_is_refused() {
        let (a, b) = pair().expect("pair");
        let (a, b) = (Packets::new(a).expect("a"), Packets::new(b).expect("b"));
        a.send(&vec![1; PACKET_MAX + 1], None).await.expect("send");
        assert_eq!(b.recv().await.expect_err("too long").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn sealed_bytes_stay_as_they_are() {
        use std::io::Write as _;
        let fd = sealed("t", b"fixed").expect("memfd");
        let mut file = std::fs::File::from(fd.try_clone().expect("dup"));
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert_eq!(read_sealed(fd.try_clone().expect("dup"), 5).expect("read"), b"fixed");
        assert!(read_sealed(fd, 4).is_err());
    }
}
