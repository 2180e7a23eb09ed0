//! A proxy for an SSH agent: a command can list keys and have data signed, nothing else (O-34).
//!
//! **On disk.** A socket in a scratch directory, mounted in the sandbox as `Source::Socket`; the agent's own socket is
//! not visible there. The kernel limits the length of socket paths, so both are opened through a descriptor of their
//! directory.
//! **Order.** One proxy per mount. Dropping it closes the socket; connections end when the command ends.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};

/// The agent protocol's own limit.
const LONGEST: usize = 256 << 10;
/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const ALLOWED: [u8; 2] = [11, 13];
/// A whole `SSH_AGENT_FAILURE` message.
const REFUSED: [u8; 5] = [0, 0, 0, 1, 5];

/// A socket that passes allowed requests to an agent.
#[derive(Debug)]
pub(crate) struct AgentProxy {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AgentProxy {
    /// Ok: `dir/agent` is a socket that proxies the agent at `agent` until this is dropped.
    pub(crate) fn start(agent: &Path, dir: &Path) -> io::Result<Self> {
        // Fails now rather than in the middle of a command.
        drop(connect(agent)?);
        let (path, agent) = (dir.join("agent"), agent.to_owned());
        let listener = {
            let (_dir, short) = through_directory(&path)?;
            UnixListener::bind(short)?
        };
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        let thread = std::thread::Builder::new().name("ssh-agent".to_owned()).spawn(move || {
            while let Ok((inner, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let agent = agent.clone();
                // If no thread can be made, the connection is closed.
                let _ = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
                    if let Ok(outer) = connect(&agent) {
                        let _ = carry(inner, outer);
                    }
                });
            }
        })?;
        Ok(Self { path, ended, thread: Some(thread) })
    }

    /// The path of the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AgentProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections; it holds the socket.
        let woken = connect(&self.path).is_ok();
        if let (Some(thread), true) = (self.thread.take(), woken) {
            let _ = thread.join();
        }
        let _ = rustix::fs::unlink(&self.path);
    }
}

/// Ok: an agent accepts connections at `path`. A new agent's socket exists slightly earlier.
pub(crate) fn agent_listens(path: &Path) -> io::Result<()> {
    connect(path).map(drop)
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_dir, short) = through_directory(path)?;
    UnixStream::connect(short)
}

/// The path through a descriptor of its directory, valid as long as the descriptor is open.
fn through_directory(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let dir = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((dir, short))
}

/// One connection: the agent answers allowed requests, the others are refused here.
fn carry(mut inner: impl Read + Write, mut outer: impl Read + Write) -> io::Result<()> {
    loop {
        let request = message(&mut inner)?;
        if request.get(4).is_some_and(|kind| ALLOWED.contains(kind)) {
            outer.write_all(&request)?;
            let answer = message(&mut outer)?;
            inner.write_all(&answer)?;
        } else {
            inner.write_all(&REFUSED)?;
        }
    }
}

/// Reads one message, including its length prefix.
fn message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let size = u32::from_be_bytes(length) as usize;
    if size == 0 || size > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut whole = Vec::with_capacity(size + 4);
    whole.extend_from_slice(&length);
    whole.resize(size + 4, 0);
    from.read_exact(&mut whole[4..])?;
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every message with the message's type.
    fn agent(dir: &Path) -> PathBuf {
        let path = dir.join("real");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    while let Ok(request) = message(&mut stream) {
                        stream.write_all(&[0, 0, 0, 2, 99, request[4]]).unwrap();
                    }
                });
            }
        });
        path
    }

    fn ask(path: &Path, kind: u8) -> io::Result<Vec<u8>> {
        let mut stream = connect(path)?;
        stream.write_all(&[0, 0, 0, 3, kind, 1, 2])?;
        message(&mut stream)
    }

    #[test]
    fn proxy_passes_only_listing_and_signing() {
        // O-34, M-17
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let proxy = AgentProxy::start(&agent(dir.path()), &long).unwrap();
        for kind in 0..=255 {
            let answer = ask(proxy.path(), kind).unwrap();
            match ALLOWED.contains(&kind) {
                true => assert_eq!(answer, [0, 0, 0, 2, 99, kind]),
                false => assert_eq!(answer, REFUSED, "{kind}"),
            }
        }
        let mut stream = connect(proxy.path()).unwrap();
        stream.write_all(&[0xff, 0xff, 0xff, 0xff]).unwrap();
        assert!(message(&mut stream).is_err(), "a message that is too long ends the connection");
    }

    #[test]
    fn dropping_proxy_removes_its_socket() {
        // M-18
        let dir = tempfile::tempdir().unwrap();
        let proxy = AgentProxy::start(&agent(dir.path()), dir.path()).unwrap();
        let path = proxy.path().to_owned();
        drop(proxy);
        assert!(!path.exists() && ask(&path, 11).is_err());
        assert!(AgentProxy::start(Path::new("/nonexistent/agent"), dir.path()).is_err());
    }
}
