//! Published ports: connections to the host that continue inside a command's own network.
//!
//! **Order.** Listening begins before the namespace exists, in the host's network; the forwarder then moves into the
//! command's network, where it connects to what listens there.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::thread::LinkNameSpaceType;

use super::problem::{Doing, Problem, Step};
use super::spec::Publish;

/// Connections that are carried at once; more wait.
const LIMIT: usize = 256;
/// How long the last bytes of a command that has ended may take to arrive.
pub(super) const GRACE: Duration = Duration::from_millis(200);

/// Takes every port of the host that is asked for. Ok: what connects to them waits for [`forward`].
pub(super) fn listen(publish: &[Publish]) -> Step<Vec<(TcpListener, u16)>> {
    publish
        .iter()
        .map(|one| {
            let listener = TcpListener::bind(one.host).map_err(|e| {
                let problem = Problem::host(format!("listen on {} of the host", one.host), &e).requested();
                match e.kind() {
                    io::ErrorKind::AddrInUse => problem.hint("something else listens there; choose another port"),
                    io::ErrorKind::PermissionDenied => problem
                        .hint("ports below net.ipv4.ip_unprivileged_port_start are for root; choose a higher one"),
                    _ => problem,
                }
            })?;
            Ok((listener, one.port))
        })
        .collect()
}

/// The forwarder's whole life: waits for the word, moves into the parent's network, carries connections until the
/// parent closes its end, and what is still under way for a moment longer.
pub(super) fn forward(listeners: Vec<(TcpListener, u16)>, mut go: io::PipeReader) -> i32 {
    if go.read_exact(&mut [0]).is_err() || move_into_parents_network().is_err() {
        return 1;
    }
    let open = Arc::new(());
    for (listener, port) in listeners {
        let open = open.clone();
        std::thread::spawn(move || carry(&listener, port, &open));
    }
    let ports = Arc::strong_count(&open);
    let _ = go.read(&mut [0]);
    let began = Instant::now();
    while Arc::strong_count(&open) > ports && began.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(1));
    }
    0
}

fn move_into_parents_network() -> Step<()> {
    let parent = rustix::process::getppid().ok_or_else(|| Problem::request("the warden is gone"))?;
    let path = format!("/proc/{}/ns/net", parent.as_raw_nonzero());
    let netns = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "open the network namespace".to_owned())?;
    rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .doing(|| "enter the network namespace".to_owned())
}

/// Every connection to one port.
fn carry(listener: &TcpListener, port: u16, open: &Arc<()>) {
    loop {
        let Ok((outer, _)) = listener.accept() else {
            // Out of descriptors, most likely: others must end first.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        while Arc::strong_count(open) > LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        let held = open.clone();
        let spawned = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
            let _held = held;
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            // Nobody listens (yet): the caller sees its connection closed.
            if let Ok(inner) = TcpStream::connect(to) {
                let _ = both_ways(&outer, &inner);
            }
        });
        // No thread: the connection is closed with `outer`.
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

/// Passes bytes on until their end, and then the end.
fn one_way(mut from: &TcpStream, to: &TcpStream) {
    let Ok(copy) = to.as_fd().try_clone_to_owned() else { return };
    let _ = io::copy(&mut from, &mut File::from(copy));
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
