//! The farm's HTTP over its unix socket, by one connection that stays open: what a program that submits often would
//! do. Blocking, and just enough of HTTP/1.1.

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::{Gid, Uid, setegid, seteuid};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

/// The argument that makes this program a [`hold`]er.
pub(crate) const HOLD: &str = "hold";

/// A connection, of whoever it was opened as: the kernel vouches for that account as long as it lives.
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
    /// Who connected, where that was done by another process: the supervisor asks the kernel about it.
    holder: Option<(Child, UnixStream)>,
}

impl Connection {
    /// Connects as an account of the farm's own machine: by a process in its namespaces, since a supervisor answers
    /// nobody whose process it cannot see. That process hands the connection over and then only lives.
    pub(crate) fn of(farm: &e2e::Farm, who: &str) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let program = std::env::current_exe()?;
        let name = program.file_name().and_then(|n| n.to_str()).context("this program's name")?;
        let mut holder = farm.command_as(who, name);
        holder.args([HOLD, &format!("{}/run/socket", farm.data())]);
        let child = holder.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).spawn()?;
        drop(holder);
        let stream = UnixStream::from(received(&ours).with_context(|| format!("failed to connect as {who}"))?);
        Ok(Self { stream: BufReader::new(stream), holder: Some((child, ours)) })
    }

    /// Connects with this effective uid (and a gid of the same number).
    pub(crate) fn open(socket: &Path, uid: u32) -> Result<Self> {
        // By a descriptor: not every account may take the way there, and the way may be too long for an address.
        let folder = std::fs::File::open(socket.parent().context("a folder")?)?;
        let name = socket.file_name().context("a name")?;
        let address = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        let connected = known_as(uid, || UnixStream::connect(&address))?;
        let stream = connected.with_context(|| format!("failed to connect to {} as {uid}", socket.display()))?;
        Ok(Self { stream: BufReader::new(stream), holder: None })
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.ask("GET", path, b"")?)?)
    }

    pub(crate) fn text(&mut self, path: &str) -> Result<String> {
        Ok(String::from_utf8(self.ask("GET", path, b"")?)?)
    }

    /// Submits; returns the job's number when it is durable.
    pub(crate) fn submit(&mut self, spec: &job::JobSpec) -> Result<u64> {
        self.submit_body(&body_of(spec))
    }

    pub(crate) fn submit_body(&mut self, body: &[u8]) -> Result<u64> {
        let answer: Value = serde_json::from_slice(&self.ask("POST", "/api/v1/jobs", body)?)?;
        answer["job"].as_u64().with_context(|| format!("no job in {answer}"))
    }

    pub(crate) fn kill(&mut self, job: u64) -> Result<()> {
        self.ask("POST", &format!("/api/v1/jobs/{job}/kill"), b"{}").map(drop)
    }

    /// Waits for the job's end, which must be a good one.
    pub(crate) fn complete(&mut self, job: u64) -> Result<()> {
        loop {
            let view = self.get(&format!("/api/v1/jobs/{job}/wait?timeout_s=30"))?;
            match view["state"].as_str().unwrap_or_default() {
                "complete" => return Ok(()),
                "failed" | "killed" | "badlogin" | "blocked" => bail!("a measured job did not complete: {view}"),
                _ => {}
            }
        }
    }

    /// Has Qube!'s files read again; the answer comes when all workers go by them.
    pub(crate) fn reload(&mut self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.ask("POST", "/api/v1/configuration/reload", b"{}")?)?)
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let status = self.line()?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            } else if let Some(n) = line.strip_prefix("content-length:") {
                length = n.trim().parse()?;
            } else if line.starts_with("transfer-encoding:") {
                chunked = line.contains("chunked");
            }
        }
        let bytes = if chunked { self.chunks()? } else { self.exactly(length)? };
        let good = status.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
        ensure!(good, "{method} {path}: {status}: {}", String::from_utf8_lossy(&bytes));
        Ok(bytes)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let size = usize::from_str_radix(self.line()?.trim(), 16)?;
            all.append(&mut self.exactly(size)?);
            self.line()?;
            if size == 0 {
                return Ok(all);
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the supervisor closed the connection");
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some((mut child, word)) = self.holder.take() {
            drop(word);
            drop(child.wait());
        }
    }
}

/// What this program is on the farm's machine: connects to `socket`, sends the connection over its standard input and
/// lives until that is closed.
pub(crate) fn hold(socket: &str) -> Result<()> {
    let connected = UnixStream::connect(socket).with_context(|| format!("failed to connect to {socket}"))?;
    let word = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let descriptors = [connected.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&word, &[IoSlice::new(b"c")], &mut control, SendFlags::empty())?;
    drop(connected);
    (&word).read_to_end(&mut Vec::new()).context("failed to wait for the end")?;
    Ok(())
}

fn received(from: &UnixStream) -> Result<OwnedFd> {
    let (mut byte, mut space) = ([0], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    descriptors.next().and_then(|mut d| d.next()).context("no connection was handed over")
}

/// Does what makes the kernel note who this is: it keeps a socket's peer as it was when it connected.
#[expect(clippy::disallowed_methods, reason = "root for a moment as many people; nothing is executed as them")]
pub(crate) fn known_as<T>(uid: u32, connect: impl FnOnce() -> T) -> Result<T> {
    setegid(Gid::from_raw(uid))?;
    seteuid(Uid::from_raw(uid))?;
    let connected = connect();
    seteuid(Uid::from_raw(0))?;
    setegid(Gid::from_raw(0))?;
    Ok(connected)
}

pub(crate) fn body_of(spec: &job::JobSpec) -> Vec<u8> {
    json!({ "spec": spec }).to_string().into_bytes()
}
