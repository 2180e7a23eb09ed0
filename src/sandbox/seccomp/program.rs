//! Building blocks of classic BPF programs over `struct seccomp_data`.

use super::table::Arch;
use crate::sandbox::sys::Instruction;

pub(super) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(super) const RETURN: u16 = 0x06; // BPF_RET | BPF_K
pub(super) const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
pub(super) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(super) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K

pub(super) const ALLOW: u32 = 0x7FFF_0000;
pub(super) const NOTIFY: u32 = 0x7FC0_0000;
pub(super) const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
pub(super) const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

/// The answer to a call; every path returns. Nearly all answers are one instruction, which needs no allocation: the
/// program is built for every command.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Always the same.
    Always(u32),
    /// Depends on arguments.
    Tested(Vec<Instruction>),
}

impl Answer {
    /// How many instructions it takes.
    pub(super) fn len(&self) -> usize {
        if let Self::Tested(instructions) = self { instructions.len() } else { 1 }
    }
}

/// The rules of each architecture; calls of others reach the end.
pub(super) fn per_arch(archs: &[Arch], body: impl Fn(Arch) -> Vec<Instruction>) -> Vec<Instruction> {
    let mut out = vec![load(ARCH)];
    for &arch in archs {
        let body = body(arch);
        // A body is longer than a conditional jump reaches.
        out.push(jump(EQUAL, arch.audit(), 1, 0));
        out.push(over(body.len()));
        out.extend(body);
    }
    out
}

pub(super) fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

/// Loads the low half of an argument (all supported architectures are little-endian). The kernel uses only this half of
/// the arguments that are tested.
pub(super) fn argument(number: u32) -> Instruction {
    load(ARGUMENTS + 8 * number)
}

pub(super) fn answer(value: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: value }
}

pub(super) fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Skips the next `count` instructions.
pub(super) fn over(count: usize) -> Instruction {
    Instruction { code: JUMP, jt: 0, jf: 0, k: count as u32 }
}
