//! Calls that cannot work on this host: those with unmapped ids, and those that create devices.
//!
//! **Holds.** The filter reports them, so that a failure of the command can be explained without guessing from its
//! output (N-53, N-55).

use super::files::is_replacing;
use super::program::{ALLOW, AND, AT_LEAST, Answer, EQUAL, NOTIFY, answer, argument, jump};
use super::table::Arch;
use crate::sandbox::sys::{Instruction, Notification};

use serde::{Deserialize, Serialize};

/// A call that a command tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Notice {
    /// Using a user or group id that is not mapped in kiln's user namespace, or setting groups where that is denied.
    ForeignId,
    /// Creating a device node.
    Device,
}

/// What is reported: the limits of kiln's own user namespace, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Limits {
    /// Ids from this one on are not mapped.
    pub(in crate::sandbox) ids: u32,
    /// Whether groups can be set.
    pub(in crate::sandbox) groups: bool,
    /// Whether calls that move or remove names are reported, too.
    pub(in crate::sandbox) names: bool,
}

/// The arguments of each call that are ids.
const IDS: &[(&str, &[u32])] = &[
    ("chown", &[1, 2]),
    ("chown32", &[1, 2]),
    ("fchown", &[1, 2]),
    ("fchown32", &[1, 2]),
    ("fchownat", &[2, 3]),
    ("lchown", &[1, 2]),
    ("lchown32", &[1, 2]),
    ("setgid", &[0]),
    ("setgid32", &[0]),
    ("setregid", &[0, 1]),
    ("setregid32", &[0, 1]),
    ("setresgid", &[0, 1, 2]),
    ("setresgid32", &[0, 1, 2]),
    ("setresuid", &[0, 1, 2]),
    ("setresuid32", &[0, 1, 2]),
    ("setreuid", &[0, 1]),
    ("setreuid32", &[0, 1]),
    ("setuid", &[0]),
    ("setuid32", &[0]),
];
/// The argument of each call that is the mode.
const DEVICES: &[(&str, u32)] = &[("mknod", 1), ("mknodat", 2)];
const GROUPS: &[&str] = &["setgroups", "setgroups32"];

/// What the filter does with an allowed call.
pub(super) fn noticed(name: &str, limits: Limits) -> Answer {
    let mut out = Vec::new();
    if let Some((_, ids)) = IDS.iter().find(|(known, _)| *known == name)
        && limits.ids < u32::MAX
    {
        for id in *ids {
            // The largest id means "unchanged".
            out.extend([argument(*id), jump(AT_LEAST, limits.ids, 0, 2), jump(EQUAL, u32::MAX, 1, 0), answer(NOTIFY)]);
        }
    }
    if let Some((_, mode)) = DEVICES.iter().find(|(known, _)| *known == name) {
        out.extend([
            argument(*mode),
            Instruction { code: AND, jt: 0, jf: 0, k: libc::S_IFMT },
            jump(EQUAL, libc::S_IFCHR, 1, 0),
            jump(EQUAL, libc::S_IFBLK, 0, 1),
            answer(NOTIFY),
        ]);
    }
    if limits.names && is_replacing(name) {
        return Answer::Always(NOTIFY);
    }
    if !limits.groups && GROUPS.contains(&name) {
        return Answer::Always(NOTIFY);
    }
    if out.is_empty() {
        return Answer::Always(ALLOW);
    }
    out.push(answer(ALLOW));
    Answer::Tested(out)
}

/// What a reported call tried.
pub(in crate::sandbox) fn notice(call: &Notification) -> Notice {
    let arch = Arch::native().iter().find(|arch| arch.audit() == call.arch);
    let device = arch.is_some_and(|arch| {
        arch.calls().any(|(name, number, _)| number == call.number && DEVICES.iter().any(|(known, _)| *known == name))
    });
    if device { Notice::Device } else { Notice::ForeignId }
}
