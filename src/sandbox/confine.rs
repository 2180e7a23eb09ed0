//! Restricts the command: user, capabilities, resource limits, system calls.
//!
//! **Order.** The bounding set shrinks while that is permitted; then the user changes and keeps the capabilities that
//! the filter needs; then the filter is installed; then the remaining capabilities are dropped. What follows (fork,
//! signals, exec) needs none of them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit as Limit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::hint::Hint;
use super::problem::{Context, Problem, StepResult};
use super::seccomp::{self, Limits};
use super::spec::{Rlimit, Security};
use super::supervise;
use super::sys;
use super::user::Identity;

/// Docker's default set: enough for package managers, without power beyond the container.
pub(super) const DEFAULT_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Becomes `identity` with the capabilities that `security` allows. no-new-privs stays off, as in other builders:
/// `RUN sudo …` works, within the bounding set.
///
/// `Some`: the listener of calls that cannot work within `limits`; a process must reply to them.
pub(super) fn confine(
    identity: &Identity,
    extra_groups: &[u32],
    security: Security,
    limits: Limits,
) -> StepResult<Option<OwnedFd>> {
    let now = rustix::thread::capabilities(None).context(|| "read capabilities".to_owned())?;
    let keep = match security {
        Security::Sandbox => DEFAULT_CAPABILITIES & now.permitted,
        Security::Insecure => now.permitted,
    };
    if security == Security::Sandbox {
        shrink_bounding_set(keep)?;
    }
    // Changing the uid would drop every capability; the filter still needs one.
    rustix::thread::set_keep_capabilities(true).context(|| "keep capabilities".to_owned())?;
    become_user(identity, extra_groups)?;
    sys::new_session_keyring().or_else(|e| match e.raw_os_error() {
        // A kernel without keyrings has none to leak; a filter around kiln that forbids the call forbids every use.
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EDQUOT) => Ok(()),
        _ => Err(Problem::host("create a session keyring", &e)),
    })?;
    let all =
        CapabilitySets { effective: now.permitted, permitted: now.permitted, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, all).context(|| "raise capabilities".to_owned())?;
    let listener = match security {
        Security::Sandbox => install_filter(keep, limits).context(|| "install the system call filter".to_owned())?,
        Security::Insecure => None,
    };
    rustix::thread::set_keep_capabilities(false).context(|| "stop keeping capabilities".to_owned())?;
    let keep = if identity.uid == 0 { keep } else { CapabilitySet::empty() };
    let last = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, last).context(|| "drop capabilities".to_owned())?;
    Ok(listener)
}

/// Installs the filter, with a listener if this kernel can continue reported calls and no other filter has one.
fn install_filter(capabilities: CapabilitySet, limits: Limits) -> io::Result<Option<OwnedFd>> {
    if supervise::can_continue_calls()
        && let Ok(listener) = sys::install_filter_with_listener(&seccomp::filter(capabilities, Some(limits)))
    {
        return Ok(Some(listener));
    }
    sys::install_filter(&seccomp::filter(capabilities, None)).map(|()| None)
}

fn shrink_bounding_set(keep: CapabilitySet) -> StepResult<()> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Beyond the kernel's last capability.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(Problem::host("shrink the bounding set", &e.into())),
        }
    }
    // Kernels before 4.3 have no ambient set.
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(e) => Err(Problem::host("clear the ambient set", &e.into())),
    }
}

fn become_user(identity: &Identity, extra_groups: &[u32]) -> StepResult<()> {
    let mut groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    groups.extend(extra_groups.iter().map(|gid| Gid::from_raw(*gid)));
    match rustix::thread::set_thread_groups(&groups) {
        Ok(()) => {}
        // With a single mapped id the call is always denied; root keeps the groups it has.
        Err(Errno::PERM) if identity.uid == 0 && identity.gid == 0 && extra_groups.is_empty() => {}
        Err(e) => {
            return Err(Problem::host(
                format!("set groups {:?}", [&identity.groups, extra_groups].concat()),
                &e.into(),
            )
            .about_ids());
        }
    }
    let gid = Gid::from_raw(identity.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .context(|| format!("set group {}", identity.gid))
        .map_err(Problem::about_ids)?;
    let uid = Uid::from_raw(identity.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .context(|| format!("set user {}", identity.uid))
        .map_err(Problem::about_ids)
}

/// Sets the requested limits. Core files are off unless requested, because they would end up in the layer. The limit of
/// processes is only raised here: [`limit_processes`] sets it after the fork, which it might forbid.
pub(super) fn limit(limits: &[Rlimit]) -> StepResult<()> {
    if !limits.iter().any(|limit| limit.name == "core") {
        let hard = rustix::process::getrlimit(Resource::Core).maximum;
        let none = Limit { current: Some(0), maximum: hard };
        // A filter around kiln may refuse it; then core files are written.
        let _ = rustix::process::setrlimit(Resource::Core, none);
    }
    for Rlimit { name, soft, hard } in limits {
        let resource =
            resource(name).ok_or_else(|| Problem::request(format!("unknown limit {name:?}")).hint(known_limits()))?;
        let mut wanted = Limit { current: *soft, maximum: *hard };
        if resource == Resource::Nproc {
            let now = rustix::process::getrlimit(resource);
            wanted = Limit { current: larger(now.current, *soft), maximum: larger(now.maximum, *hard) };
        }
        rustix::process::setrlimit(resource, wanted).map_err(|e| {
            let problem = Problem::host(format!("set limit {name}"), &e.into());
            match e {
                Errno::PERM => problem.hint(Hint::HardLimit),
                Errno::INVAL => problem.requested().hint(Hint::SoftAboveHard),
                _ => problem,
            }
        })?;
    }
    Ok(())
}

/// The larger of two limits; `None` is unlimited.
fn larger(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one?.max(other?))
}

/// Sets the process limit, if requested.
pub(super) fn limit_processes(limits: &[Rlimit]) -> StepResult<()> {
    for limit in limits.iter().filter(|limit| limit.name == "nproc") {
        let wanted = Limit { current: limit.soft, maximum: limit.hard };
        rustix::process::setrlimit(Resource::Nproc, wanted).context(|| "set limit nproc".to_owned())?;
    }
    Ok(())
}

/// The limits that options name.
const LIMITS: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

fn known_limits() -> Hint {
    Hint::KnownLimits(LIMITS.iter().map(|(name, _)| (*name).to_owned()).collect())
}

fn resource(name: &str) -> Option<Resource> {
    LIMITS.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
}
