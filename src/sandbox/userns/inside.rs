//! The inner process, which [`enter`](fn@super::enter) started: it creates the namespace and continues as its root.

use std::ffi::OsString;
use std::io;

use nix::sys::signal::SigSet;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::UnshareFlags;

use super::handshake::Handshake;
use super::origin::Origin;
use crate::sandbox::process::name_process;
use crate::sandbox::sys;
use crate::sandbox::wire::Wire;

/// Creates the namespace. `Some`: this process is its root, and continues with this command line (program name first).
/// `None`: it is not, and the outer process has been told why.
pub(in crate::sandbox) fn inside(mut argv: Vec<OsString>) -> Option<Vec<OsString>> {
    // `enter` blocked signals for itself.
    let _ = SigSet::empty().thread_set_mask();
    let number = argv.get(2).and_then(|arg| arg.to_str()).and_then(|arg| arg.parse().ok());
    let socket = number.and_then(sys::inherited_socket)?;
    become_root(&Wire::new(socket)).ok()?;
    argv.drain(..3);
    Some(argv)
}

fn become_root(wire: &Wire) -> io::Result<()> {
    let outer_uid = rustix::process::getuid().as_raw();
    let namespaces = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    if let Err(e) = sys::unshare(namespaces) {
        return wire.send(&Handshake::Refused(e.raw_os_error().unwrap_or(0))).and(Err(e));
    }
    wire.send(&Handshake::Ready)?;
    let Handshake::Mapped { single_id, payload } = wire.receive()? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    if single_id.is_none() {
        rustix::thread::set_thread_groups(&[gid])?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Origin { uid: outer_uid, single_id, payload }.keep();
    // After the ids, because changing them clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Otherwise the name would be `exe`, the link it was started through.
    name_process("kiln".as_ref());
    Ok(())
}
