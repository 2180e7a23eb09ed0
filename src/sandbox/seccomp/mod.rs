//! The system call filter of a sandboxed command.
//!
//! **Holds.** Docker's default behaviour for a container without extra capabilities, as a classic BPF program: what the
//! tables refuse is EPERM; `clone` may not make namespaces; `clone3`, whose flags a filter cannot see, does not exist
//! (libc falls back to `clone`); calls newer than the tables do not exist; the x32 interface does not exist; a program of
//! the kernel's 32-bit interface meets the same rules with its own numbers.
//! Beside it the tables of a second filter, which stops calls that change files until somebody has looked at them.
//! **Not here.** What capabilities, namespaces and read-only mounts already forbid is not forbidden twice, except where
//! the call itself is the danger.

mod table;
#[cfg(test)]
mod tests;
mod watched;

use std::sync::OnceLock;

use table::{Arch, NEWEST};
pub use watched::Deed;
pub(super) use watched::{Operand, decode, program as watching};

use super::sys::Instruction;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA

const ALLOW: u32 = 0x7FFF_0000;
const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The bit that marks calls of the x32 interface.
const X32: u32 = 0x4000_0000;
/// `CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}`.
const NAMESPACES: u32 = 0x7E02_0000;
/// What `personality` may be: Linux, 32-bit Linux, both without a fixed address layout's effect on names, and the query.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];
const AF_VSOCK: u32 = 40;

/// The program for this machine; built once.
pub(super) fn filter() -> &'static [Instruction] {
    static FILTER: OnceLock<Vec<Instruction>> = OnceLock::new();
    FILTER.get_or_init(|| program(Arch::native()))
}

/// The program for a kernel that runs `archs`.
fn program(archs: &[Arch]) -> Vec<Instruction> {
    let mut out = per_arch(archs, body);
    // An interface the tables do not know.
    out.push(answer(ENOSYS));
    out
}

/// To each architecture its rules; others go past the end.
fn per_arch(archs: &[Arch], body: impl Fn(Arch) -> Vec<Instruction>) -> Vec<Instruction> {
    let mut out = vec![load(ARCH)];
    for &arch in archs {
        let body = body(arch);
        // A body is longer than a conditional jump reaches.
        out.push(jump(EQUAL, arch.audit(), 1, 0));
        out.push(Instruction { code: JUMP, jt: 0, jf: 0, k: body.len() as u32 });
        out.extend(body);
    }
    out
}

/// The rules of one architecture; every path returns.
fn body(arch: Arch) -> Vec<Instruction> {
    let [clone, clone3, personality, socket] = arch.special();
    let mut out = vec![load(NUMBER)];
    if arch == Arch::X86_64 {
        out.extend([jump(ANY_BIT, X32, 0, 1), answer(ENOSYS)]);
    }
    // ARM has a few private calls far above all others (cache flush, TLS), which programs need.
    let newest = if arch == Arch::Arm { 0x000F_0005 } else { NEWEST };
    out.extend([jump(GREATER, newest, 0, 1), answer(ENOSYS)]);
    out.extend([jump(EQUAL, clone3, 0, 1), answer(ENOSYS)]);
    out.extend([jump(EQUAL, clone, 0, 4), argument(0), jump(ANY_BIT, NAMESPACES, 0, 1), answer(EPERM), answer(ALLOW)]);
    let count = PERSONALITIES.len() as u8;
    out.extend([jump(EQUAL, personality, 0, count + 3), argument(0)]);
    for (i, allowed) in PERSONALITIES.into_iter().enumerate() {
        // To ALLOW, just behind the refusal.
        out.push(jump(EQUAL, allowed, count - i as u8, 0));
    }
    out.extend([answer(EPERM), answer(ALLOW)]);
    out.extend([jump(EQUAL, socket, 0, 4), argument(0), jump(EQUAL, AF_VSOCK, 0, 1), answer(EPERM), answer(ALLOW)]);
    for (_, number) in arch.refused() {
        out.extend([jump(EQUAL, number, 0, 1), answer(EPERM)]);
    }
    out.push(answer(ALLOW));
    out
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

/// The low half of an argument (both supported families are little-endian).
fn argument(number: u32) -> Instruction {
    load(ARGUMENTS + 8 * number)
}

fn answer(value: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: value }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}
