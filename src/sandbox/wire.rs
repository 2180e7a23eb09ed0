//! Framed messages over a socket: four bytes of length, then JSON.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The maximum length of a message in bytes; a spec with its secrets is much shorter.
const LONGEST: usize = 256 << 20;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Wire(File);

impl Wire {
    /// Over a connected stream socket.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(File::from(socket))
    }

    /// Both ends of a new connection; close-on-exec.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Self::new(one), Self::new(other)))
    }

    /// The socket itself.
    pub(super) fn into_socket(self) -> OwnedFd {
        self.0.into()
    }

    /// Ok: the message is in the socket.
    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        (&self.0).write_all(&frame(message)?)
    }

    /// Waits for one message.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<T> {
        let mut length = [0u8; 4];
        (&self.0).read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut json = vec![0; length];
        (&self.0).read_exact(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// Sends one byte with a descriptor attached.
    pub(super) fn send_fd(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.send_bytes_with(b"F", fd)
    }

    /// Sends a message with a descriptor attached.
    pub(super) fn send_with(&self, message: &impl Serialize, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.send_bytes_with(&frame(message)?, fd)
    }

    fn send_bytes_with(&self, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let sent = rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        (&self.0).write_all(&bytes[sent..])
    }

    /// Receives the descriptor that [`Wire::send_fd`] sent; close-on-exec.
    pub(super) fn receive_fd(&self) -> io::Result<OwnedFd> {
        self.read(&mut [0])?.1.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads the bytes that have arrived, and a descriptor if one came with them (close-on-exec). 0 bytes: the other
    /// end is closed.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(into)];
        let read = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok((read.bytes, fd))
    }
}

fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let mut frame = Vec::with_capacity(json.len() + 4);
    frame.extend_from_slice(&(json.len() as u32).to_le_bytes());
    frame.extend_from_slice(&json);
    Ok(frame)
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Assembles messages from the bytes that a socket returns.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(length) = self.0.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(json) = self.0.get(4..4 + length) else { return Ok(None) };
        let message = serde_json::from_slice(json)?;
        self.0.drain(..4 + length);
        Ok(Some(message))
    }
}
