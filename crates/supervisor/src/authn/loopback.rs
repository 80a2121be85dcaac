//! Whose the other end of a connection on this machine's own loopback is: the kernel's table of sockets says so
//! (sock_diag(7)), by the four numbers of the connection.
//!
//! It proves that a program of that account connected; for people's identities it is nothing: it tells apart where
//! guesses come from, and whether a session is shown by the account it was made for.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const HEADER: usize = 16;
/// What is asked, and what is answered, without its header.
const QUESTION: usize = 56;
const ANSWER: usize = 72;
const IPPROTO_TCP: u8 = 6;
const LISTEN: u8 = 10;
/// Of ids that can't be mapped.
const OVERFLOW: u32 = 65_534;

/// The account whose socket is `client`, connected to `own`. `None`: the kernel doesn't say.
pub(crate) fn uid_of(client: SocketAddr, own: SocketAddr) -> Option<u32> {
    let (client, own) = (canonical(client), canonical(own));
    if !client.ip().is_loopback() {
        return None;
    }
    let question = question(client, own)?;
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkSockDiag,
    )
    .ok()?;
    send(kernel.as_raw_fd(), &question, MsgFlags::empty()).ok()?;
    // It is there when the question has been sent.
    let mut answer = [0; 1024];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty()).ok()?;
    understood(answer.get(..length)?, client.port(), own.port())
}

/// A client that speaks version 6 to an address of version 4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `nlmsghdr` and `inet_diag_req_v2`, for this one socket.
fn question(client: SocketAddr, own: SocketAddr) -> Option<Vec<u8>> {
    let family = match (client.ip(), own.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => AddressFamily::Inet,
        (IpAddr::V6(_), IpAddr::V6(_)) => AddressFamily::Inet6,
        _ => return None,
    };
    let length = u32::try_from(HEADER + QUESTION).ok()?;
    let mut q = Vec::with_capacity(HEADER + QUESTION);
    q.extend(length.to_ne_bytes());
    q.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    q.extend(NLM_F_REQUEST.to_ne_bytes());
    // Its number, and whose it is: this socket asks nothing else.
    q.extend([0; 8]);
    q.extend([u8::try_from(family as i32).ok()?, IPPROTO_TCP, 0, 0]);
    // In any state.
    q.extend([0xff; 4]);
    q.extend(client.port().to_be_bytes());
    q.extend(own.port().to_be_bytes());
    q.extend(sixteen(client.ip()));
    q.extend(sixteen(own.ip()));
    // On any interface; no cookie.
    q.extend([0; 4]);
    q.extend([0xff; 8]);
    Some(q)
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

/// `nlmsghdr` and `inet_diag_msg`.
fn understood(answer: &[u8], client: u16, own: u16) -> Option<u32> {
    let message = answer.get(HEADER..HEADER + ANSWER)?;
    let number = |at: usize| message.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let port = |at: usize| message.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    // Where there is no such connection, a socket that listens there is named.
    if kind != SOCK_DIAG_BY_FAMILY || message[1] == LISTEN || (port(4)?, port(6)?) != (client, own) {
        return None;
    }
    let (uid, inode) = (number(64)?, number(68)?);
    // One that was closed already is nobody's any more, which reads as root's.
    (inode != 0 && uid != OVERFLOW && uid != u32::MAX).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// The listener and its end, the client's, and where they are.
    fn connected(at: &str) -> ((TcpListener, TcpStream), TcpStream, SocketAddr, SocketAddr) {
        let listener = TcpListener::bind(at).expect("bound");
        let own = listener.local_addr().expect("address");
        let client = TcpStream::connect(own).expect("connected");
        let (accepted, address) = listener.accept().expect("accepted");
        ((listener, accepted), client, address, own)
    }

    #[test]
    fn the_kernel_says_whose_socket_it_is_while_it_is_somebodys() {
        let me = nix::unistd::geteuid().as_raw();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let (_ours, client, address, own) = connected(at);
            assert_eq!(uid_of(address, own), Some(me), "{at}");
            let other = SocketAddr::new(address.ip(), own.port());
            assert_eq!(uid_of(other, own), None, "{at}: who listens is not who connected");
            client.shutdown(std::net::Shutdown::Write).expect("half closed");
            assert_eq!(uid_of(address, own), Some(me), "{at}: it is somebody's yet");
            drop(client);
            assert_eq!(uid_of(address, own), None, "{at}: nobody's, and not root's");
        }
        let far = "192.0.2.7:1".parse().expect("address");
        assert_eq!(uid_of(far, "127.0.0.1:1".parse().expect("address")), None);
    }

    #[test]
    fn what_is_not_an_answer_says_nothing() {
        let mut good = vec![0; HEADER + ANSWER];
        good[4] = 20;
        good[HEADER + 1] = 1;
        good[HEADER + 4..HEADER + 8].copy_from_slice(&[0, 1, 0, 2]);
        good[HEADER + 64..HEADER + 68].copy_from_slice(&1501_u32.to_ne_bytes());
        good[HEADER + 68..].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(understood(&good, 1, 2), Some(1501));
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut answer = good.clone();
            change(&mut answer);
            understood(&answer, 1, 2)
        };
        assert_eq!(understood(&good, 2, 1), None);
        assert_eq!(with(&|a| a[4] = 2), None, "an error");
        assert_eq!(with(&|a| a[HEADER + 1] = LISTEN), None);
        assert_eq!(with(&|a| a[HEADER + 68..].fill(0)), None, "no inode");
        assert_eq!(with(&|a| a[HEADER + 64..HEADER + 68].copy_from_slice(&OVERFLOW.to_ne_bytes())), None);
        for length in 0..good.len() {
            assert_eq!(understood(&good[..length], 1, 2), None, "{length}");
        }
    }
}
