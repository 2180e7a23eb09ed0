//! Published ports: forwards connections from the host into the command's network.
//!
//! **Order.** kiln itself listens, in the host's network namespace, so that the ports are known before the command
//! starts. It sends the sockets to the warden, whose forwarder enters the command's network namespace and connects to
//! the ports there.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::LinkNameSpaceType;

use super::error::Error;
use super::failure::Stage;
use super::hint::Hint;
use super::problem::{Context, Problem, StepResult};
use super::spec::Publish;
use super::wire::Wire;

/// Connections that are forwarded at the same time; further ones wait.
const LIMIT: usize = 256;
/// How long connections may last after the command has ended.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// How many free ports are tried, because a port may be in use for the other address family.
const TRIES: usize = 16;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Listening ports of the host.
#[derive(Debug, Default)]
pub struct Ports(Vec<Port>);

/// One listening address of the host and its port in the sandbox.
#[derive(Debug)]
struct Port {
    listener: TcpListener,
    inside: u16,
}

impl Ports {
    /// Ok: kiln listens on every port of `publish`; connections wait.
    pub fn listen(publish: &[Publish]) -> Result<Self, Error> {
        let mut ports = Self::default();
        // Free ports are chosen last, so that none takes a port that is requested by number.
        for chosen in [true, false] {
            for one in publish.iter().filter(|one| one.host.is_some() == chosen) {
                let listeners = listen(one).map_err(|problem| Error::Setup(problem.at(Stage::Network)))?;
                ports.0.extend(listeners.into_iter().map(|listener| Port { listener, inside: one.inside }));
            }
        }
        Ok(ports)
    }

    /// The listening addresses of the host, each with its port in the sandbox.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, u16)> {
        self.0.iter().filter_map(|port| Some((port.listener.local_addr().ok()?, port.inside)))
    }

    /// Whether no port is published.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ports in the sandbox.
    pub(super) fn inside(&self) -> Vec<u16> {
        self.0.iter().map(|port| port.inside).collect()
    }

    /// Sends them to the process that [receives](Self::receive) them.
    pub(super) fn send(self, wire: &Wire) -> io::Result<()> {
        self.0.iter().try_for_each(|port| wire.send_fd(port.listener.as_fd()))
    }

    /// Receives the sockets for these ports.
    pub(super) fn receive(wire: &Wire, inside: &[u16]) -> io::Result<Self> {
        let port = |&inside| Ok(Port { listener: TcpListener::from(wire.receive_fd()?), inside });
        inside.iter().map(port).collect::<io::Result<_>>().map(Self)
    }
}

/// Listens on every address of `publish`.
fn listen(publish: &Publish) -> StepResult<Vec<TcpListener>> {
    let refused = |address: IpAddr| {
        move |e: io::Error| {
            let at = SocketAddr::new(address, publish.host.unwrap_or(0));
            let problem = Problem::host(format!("listen on {at}"), &e).requested();
            match e.kind() {
                io::ErrorKind::AddrInUse => problem.hint(Hint::PortInUse),
                io::ErrorKind::AddrNotAvailable => problem.hint(Hint::NoSuchAddress),
                io::ErrorKind::PermissionDenied => problem.hint(Hint::PrivilegedPort),
                _ => problem,
            }
        }
    };
    if let Some(address) = publish.address {
        let at = SocketAddr::new(address, publish.host.unwrap_or(0));
        return Ok(vec![TcpListener::bind(at).map_err(refused(address))?]);
    }
    let (v4, v6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    for left in (0..TRIES).rev() {
        let first = TcpListener::bind((v4, publish.host.unwrap_or(0))).map_err(refused(v4.into()))?;
        let port = first.local_addr().context(|| "find a free port".to_owned())?.port();
        match listen_v6(port) {
            Ok(second) => return Ok(std::iter::once(first).chain(second).collect()),
            Err(e) if publish.host.is_none() && left > 0 && e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(refused(v6.into())(e)),
        }
    }
    Err(Problem::request("cannot find a free port on the host"))
}

/// Listens on every IPv6 address and on no IPv4 address. None: the host has no IPv6.
fn listen_v6(port: u16) -> io::Result<Option<TcpListener>> {
    use rustix::io::Errno;
    let absent = |e: Errno| match e {
        Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => Ok(None),
        e => Err(e.into()),
    };
    let made = rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket: OwnedFd = match made {
        Ok(socket) => socket,
        Err(e) => return absent(e),
    };
    sockopt::set_ipv6_v6only(&socket, true)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    match rustix::net::bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)) {
        Ok(()) => {}
        Err(e) => return absent(e),
    }
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(Some(TcpListener::from(socket)))
}

/// The forwarder: waits for one byte, enters the parent's network namespace, and forwards connections until the parent
/// closes its end; open ones last up to [`GRACE`] longer. Returns the exit code.
pub(super) fn forward(ports: Ports, mut go: io::PipeReader) -> i32 {
    if go.read_exact(&mut [0]).is_err() || enter_network_of_parent().is_err() {
        return 1;
    }
    let open = Arc::new(());
    // The number of references while no connection is open: one per port's thread, and this one.
    let idle = ports.0.len() + 1;
    for Port { listener, inside } in ports.0 {
        let open = open.clone();
        std::thread::spawn(move || carry(&listener, inside, &open, idle));
    }
    let _ = go.read(&mut [0]);
    let began = Instant::now();
    while Arc::strong_count(&open) > idle && began.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(1));
    }
    0
}

fn enter_network_of_parent() -> StepResult<()> {
    let parent = rustix::process::getppid().ok_or_else(|| Problem::request("the warden is gone"))?;
    let path = format!("/proc/{}/ns/net", parent.as_raw_nonzero());
    let netns = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open the network namespace".to_owned())?;
    rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .context(|| "enter the network namespace".to_owned())
}

/// Forwards every connection to one port.
fn carry(listener: &TcpListener, port: u16, open: &Arc<()>, idle: usize) {
    loop {
        let Ok((outer, _)) = listener.accept() else {
            // Probably out of descriptors: waits for other connections to end.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        while Arc::strong_count(open) >= idle + LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        let held = open.clone();
        let spawned = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
            let _held = held;
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            // If nothing listens yet, the client sees its connection closed.
            if let Ok(inner) = TcpStream::connect(to) {
                let _ = both_ways(&outer, &inner);
            }
        });
        // If no thread could be made, dropping `outer` closes the connection.
        drop(spawned);
    }
}

fn both_ways(outer: &TcpStream, inner: &TcpStream) -> io::Result<()> {
    std::thread::scope(|scope| {
        scope.spawn(|| one_way(outer, inner));
        one_way(inner, outer);
    });
    Ok(())
}

/// Copies bytes until the end of the stream, then closes the other one.
fn one_way(mut from: &TcpStream, to: &TcpStream) {
    let Ok(copy) = to.as_fd().try_clone_to_owned() else { return };
    let _ = io::copy(&mut from, &mut File::from(copy));
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
