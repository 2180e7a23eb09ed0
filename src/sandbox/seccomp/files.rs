//! The system calls that change files or names, and where their operands are.
//!
//! **Not here.** Calls that only create new files, and calls that write through a descriptor, which were stopped when
//! it was opened for writing.

use serde::{Deserialize, Serialize};

use super::program::{ALLOW, AND, ANY_BIT, EQUAL, NOTIFY, NUMBER, answer, argument, jump, load, per_arch};
use super::rule::NO;
use super::table::Arch;
use crate::sandbox::sys::{Instruction, Notification};

/// What a call does to a name, or to the file that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOperation {
    /// The file's content or attributes change, or it gets another hard link.
    Modify,
    /// The name is moved.
    Rename,
    /// The name is removed, or replaced by another file.
    Unlink,
}

/// Which calls are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchScope {
    /// All that change files or names.
    All,
    /// Only those that rename.
    Renames,
}

/// How a call names its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Operand {
    /// A descriptor.
    Fd(i32),
    /// A path at this address, relative to a directory. `empty`: an empty path means the descriptor of that directory.
    /// `resolve` as in `struct open_how`.
    Path { dir: i32, address: u64, follow: bool, empty: bool, resolve: u64 },
}

/// What the arguments mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `(path, …)`
    Path,
    /// `(path, …)`; a symbolic link is not followed.
    Itself,
    /// `(fd, …)`
    Fd,
    /// `(dir, path, …)`, with `AT_*` flags in an argument or without any.
    At(Option<usize>),
    /// `(path, flags)`
    Open,
    /// `(dir, path, flags)`
    OpenAt,
    /// `(dir, path, how)`
    OpenAt2,
    /// `(old, new)`
    Link,
    /// `(dir, old, dir, new, flags)`
    LinkAt,
    /// `(old, new)`
    Rename,
    /// `(dir, old, dir, new)`
    RenameAt,
    /// `(dir, old, dir, new, flags)`
    RenameAt2,
    /// `(path)`
    Unlink,
    /// `(dir, path, flags)`
    UnlinkAt,
}

impl Shape {
    fn renames(self) -> bool {
        matches!(self, Shape::Rename | Shape::RenameAt | Shape::RenameAt2)
    }

    fn replaces(self) -> bool {
        self.renames() || matches!(self, Shape::Unlink | Shape::UnlinkAt)
    }
}

/// Name, numbers for x86-64, i386, aarch64, arm, and shape.
#[rustfmt::skip]
const CALLS: &[(&str, [u32; 4], Shape)] = &[
    ("chmod", [90, 15, NO, 15], Shape::Path),
    ("chown", [92, 182, NO, 182], Shape::Path),
    ("chown32", [NO, 212, NO, 212], Shape::Path),
    ("creat", [85, 8, NO, 8], Shape::Path),
    ("fchmod", [91, 94, 52, 94], Shape::Fd),
    ("fchmodat", [268, 306, 53, 333], Shape::At(None)),
    ("fchmodat2", [452, 452, 452, 452], Shape::At(Some(3))),
    ("fchown", [93, 95, 55, 95], Shape::Fd),
    ("fchown32", [NO, 207, NO, 207], Shape::Fd),
    ("fchownat", [260, 298, 54, 325], Shape::At(Some(4))),
    ("file_setattr", [469, 469, 469, 469], Shape::At(Some(4))),
    ("fremovexattr", [199, 237, 16, 237], Shape::Fd),
    ("fsetxattr", [190, 228, 7, 228], Shape::Fd),
    ("futimesat", [261, 299, NO, 326], Shape::At(None)),
    ("lchown", [94, 16, NO, 16], Shape::Itself),
    ("lchown32", [NO, 198, NO, 198], Shape::Itself),
    ("link", [86, 9, NO, 9], Shape::Link),
    ("linkat", [265, 303, 37, 330], Shape::LinkAt),
    ("lremovexattr", [198, 236, 15, 236], Shape::Itself),
    ("lsetxattr", [189, 227, 6, 227], Shape::Itself),
    ("open", [2, 5, NO, 5], Shape::Open),
    ("openat", [257, 295, 56, 322], Shape::OpenAt),
    ("openat2", [437, 437, 437, 437], Shape::OpenAt2),
    ("removexattr", [197, 235, 14, 235], Shape::Path),
    ("removexattrat", [466, 466, 466, 466], Shape::At(Some(2))),
    ("rename", [82, 38, NO, 38], Shape::Rename),
    ("renameat", [264, 302, 38, 329], Shape::RenameAt),
    ("renameat2", [316, 353, 276, 382], Shape::RenameAt2),
    ("setxattr", [188, 226, 5, 226], Shape::Path),
    ("setxattrat", [463, 463, 463, 463], Shape::At(Some(2))),
    ("truncate", [76, 92, 45, 92], Shape::Path),
    ("truncate64", [NO, 193, NO, 193], Shape::Path),
    ("unlink", [87, 10, NO, 10], Shape::Unlink),
    ("unlinkat", [263, 301, 35, 328], Shape::UnlinkAt),
    ("utime", [132, 30, NO, NO], Shape::Path),
    ("utimensat", [280, 320, 88, 348], Shape::At(Some(3))),
    ("utimensat_time64", [NO, 412, NO, 412], Shape::At(Some(3))),
    ("utimes", [235, 271, NO, 269], Shape::Path),
];

/// `O_WRONLY | O_RDWR | O_TRUNC`.
const WRITES: u32 = 0x203;
/// `O_CREAT | O_EXCL`: the file must be new.
const NEW: u32 = 0xC0;

/// Whether a call moves or removes names.
pub(in crate::sandbox) fn replaces_names(call: &Notification) -> bool {
    shape_of(call).is_some_and(Shape::replaces)
}

/// Whether a call of this name does.
pub(super) fn is_replacing(name: &str) -> bool {
    CALLS.iter().any(|(known, _, shape)| *known == name && shape.replaces())
}

fn shape_of(call: &Notification) -> Option<Shape> {
    let arch = Arch::native().iter().find(|arch| arch.audit() == call.arch)?;
    let known = CALLS.iter().find(|(_, numbers, _)| numbers[arch.column()] == call.number);
    known.map(|(_, _, shape)| *shape)
}

/// The program that stops the calls of `scope` until the holder of its listener has replied.
pub(in crate::sandbox) fn program(scope: WatchScope) -> Vec<Instruction> {
    let mut out = per_arch(Arch::native(), |arch| body(arch, scope));
    out.push(answer(ALLOW));
    out
}

fn body(arch: Arch, scope: WatchScope) -> Vec<Instruction> {
    let mut out = vec![load(NUMBER)];
    for (_, numbers, shape) in CALLS.iter().filter(|(_, _, shape)| scope == WatchScope::All || shape.renames()) {
        let number = numbers[arch.column()];
        if number == NO {
            continue;
        }
        let stop: &[Instruction] = match shape {
            Shape::Open => &opening(1),
            Shape::OpenAt => &opening(2),
            Shape::UnlinkAt => {
                &[argument(2), jump(ANY_BIT, libc::AT_REMOVEDIR as u32, 0, 1), answer(ALLOW), answer(NOTIFY)]
            }
            _ => &[answer(NOTIFY)],
        };
        out.push(jump(EQUAL, number, 0, stop.len() as u8));
        out.extend_from_slice(stop);
    }
    out.push(answer(ALLOW));
    out
}

fn opening(flags: u32) -> [Instruction; 7] {
    [
        argument(flags),
        Instruction { code: AND, jt: 0, jf: 0, k: NEW },
        jump(EQUAL, NEW, 2, 0),
        argument(flags),
        jump(ANY_BIT, WRITES, 1, 0),
        answer(ALLOW),
        answer(NOTIFY),
    ]
}

/// The operands of a stopped call, in order, with what it does to each; `None`: the call fails if that name exists.
/// `how` reads flags and resolve flags of the `struct open_how` at an address.
pub(in crate::sandbox) fn decode(
    call: &Notification,
    how: impl FnOnce(u64) -> Option<(u64, u64)>,
) -> Vec<(Option<FileOperation>, Operand)> {
    let args = call.args;
    let Some(shape) = shape_of(call) else { return Vec::new() };
    let fd = |at: usize| args[at] as i32;
    let path =
        |dir: i32, at: usize, follow: bool| Operand::Path { dir, address: args[at], follow, empty: false, resolve: 0 };
    let change = |operand: Operand| vec![(Some(FileOperation::Modify), operand)];
    // A null path means the descriptor.
    let at = |dir: usize, flags: i32, follow: bool| match args[dir + 1] {
        0 => Operand::Fd(fd(dir)),
        address => {
            let empty = flags & libc::AT_EMPTY_PATH != 0;
            Operand::Path { dir: fd(dir), address, follow, empty, resolve: 0 }
        }
    };
    let link = |old: Operand, new: Operand| vec![(None, new), (Some(FileOperation::Modify), old)];
    let here = libc::AT_FDCWD;
    match shape {
        Shape::Path => change(path(here, 0, true)),
        Shape::Itself => change(path(here, 0, false)),
        Shape::Fd => change(Operand::Fd(fd(0))),
        Shape::At(flags) => {
            let flags = flags.map_or(0, |flags| args[flags] as i32);
            change(at(0, flags, flags & libc::AT_SYMLINK_NOFOLLOW == 0))
        }
        Shape::Open => opened(here, args[0], args[1], 0),
        Shape::OpenAt => opened(fd(0), args[1], args[2], 0),
        Shape::OpenAt2 => how(args[2]).map_or_else(Vec::new, |(flags, resolve)| opened(fd(0), args[1], flags, resolve)),
        Shape::Link => link(path(here, 0, false), path(here, 1, false)),
        Shape::LinkAt => {
            let flags = args[4] as i32;
            link(at(0, flags, flags & libc::AT_SYMLINK_FOLLOW != 0), path(fd(2), 3, false))
        }
        Shape::Rename => renamed(path(here, 0, false), path(here, 1, false), 0),
        Shape::RenameAt => renamed(path(fd(0), 1, false), path(fd(2), 3, false), 0),
        Shape::RenameAt2 => renamed(path(fd(0), 1, false), path(fd(2), 3, false), args[4]),
        Shape::Unlink => vec![(Some(FileOperation::Unlink), path(here, 0, false))],
        Shape::UnlinkAt => vec![(Some(FileOperation::Unlink), path(fd(0), 1, false))],
    }
}

/// The operands of a call that opens a path with these flags.
fn opened(dir: i32, address: u64, flags: u64, resolve: u64) -> Vec<(Option<FileOperation>, Operand)> {
    let flags = flags as u32;
    if flags & libc::O_PATH as u32 != 0 || flags & NEW == NEW || flags & WRITES == 0 {
        return Vec::new();
    }
    let follow = flags & libc::O_NOFOLLOW as u32 == 0;
    vec![(Some(FileOperation::Modify), Operand::Path { dir, address, follow, empty: false, resolve })]
}

/// The operands of a call that renames `old` to `new`.
fn renamed(old: Operand, new: Operand, flags: u64) -> Vec<(Option<FileOperation>, Operand)> {
    let exchange = flags as u32 & libc::RENAME_EXCHANGE != 0;
    if flags as u32 & libc::RENAME_NOREPLACE != 0 {
        return vec![(None, new), (Some(FileOperation::Rename), old)];
    }
    let replaced = if exchange { FileOperation::Rename } else { FileOperation::Unlink };
    vec![(Some(FileOperation::Rename), old), (Some(replaced), new)]
}

/// A call's number.
#[cfg(test)]
pub(super) fn number(name: &str, arch: Arch) -> Option<u32> {
    CALLS.iter().find(|(known, ..)| *known == name).map(|(_, numbers, _)| numbers[arch.column()])
}
