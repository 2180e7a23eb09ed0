//! The system call filter of a sandboxed command.
//!
//! **Holds.** Docker's default seccomp profile ([`table`]) as a classic BPF program: what the profile does not allow is
//! EPERM; `clone` may not make namespaces; `clone3`, whose flags a filter cannot see, does not exist (libc falls back to
//! `clone`); calls newer than the profile do not exist; the x32 interface does not exist; a program of the kernel's
//! 32-bit interface meets the same rules with its own numbers. Numbers are found by binary search.
//! Beside it the calls that the warden takes note of ([`notices`]), and the tables of a second filter, which stops calls
//! that change files until somebody has looked at them.
//! **Not here.** What capabilities, namespaces and read-only mounts already forbid is not forbidden twice, except where
//! the profile does so. `socketcall` of the 32-bit interface is allowed as in the profile: a filter cannot see which
//! socket it asks for.

mod notices;
mod table;
#[cfg(test)]
mod tests;
mod watched;

pub use notices::Notice;
pub(super) use notices::{Limits, notice};
use rustix::thread::CapabilitySet;
use table::{Arch, Condition, NEWEST, Rule};
pub use watched::Deed;
pub(super) use watched::{Operand, decode, program as watching};

use super::sys::Instruction;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K

const ALLOW: u32 = 0x7FFF_0000;
const NOTIFY: u32 = 0x7FC0_0000;
const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program for this machine and a command with these capabilities; with `limits`, one that needs a listener.
pub(super) fn filter(capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Instruction> {
    program(Arch::native(), capabilities, limits)
}

/// The program for a kernel that runs `archs`.
fn program(archs: &[Arch], capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Instruction> {
    let mut out = per_arch(archs, |arch| body(arch, capabilities, limits));
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
        out.push(over(body.len()));
        out.extend(body);
    }
    out
}

/// The rules of one architecture; every path returns.
fn body(arch: Arch, capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Instruction> {
    let mut out = vec![load(NUMBER)];
    out.extend(search(&ranges(arch, capabilities, limits)));
    out
}

/// Numbers from the first one on, up to the next range, are answered so.
type Range = (u32, Vec<Instruction>);

/// All numbers, in ranges with one answer each, sorted. Those of x32 carry a bit that makes them newer than any.
fn ranges(arch: Arch, capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Range> {
    let mut points = vec![(0, vec![answer(EPERM)]), (NEWEST + 1, vec![answer(ENOSYS)])];
    let mut calls: Vec<(u32, Vec<Instruction>)> = arch
        .calls()
        .map(|(name, number, rule)| match rule {
            Rule::Allow => {
                (number, limits.map_or_else(|| vec![answer(ALLOW)], |limits| notices::noticed(name, limits)))
            }
            rule => (number, answers(rule, capabilities)),
        })
        .collect();
    calls.sort_by_key(|(number, _)| *number);
    for (i, (number, answers)) in calls.iter().enumerate() {
        points.push((*number, answers.clone()));
        if calls.get(i + 1).is_none_or(|(next, _)| *next > number + 1) {
            let beyond = if *number < NEWEST { EPERM } else { ENOSYS };
            points.push((number + 1, vec![answer(beyond)]));
        }
    }
    // Of two at one number the later one holds.
    points.sort_by_key(|(number, _)| *number);
    let mut out: Vec<Range> = Vec::new();
    for (number, answers) in points {
        if out.last().is_some_and(|(last, _)| *last == number) {
            out.pop();
        }
        if out.last().is_none_or(|(_, last)| *last != answers) {
            out.push((number, answers));
        }
    }
    out
}

/// What a rule is for a command with these capabilities.
fn answers(rule: Rule, capabilities: CapabilitySet) -> Vec<Instruction> {
    let test = match rule {
        Rule::Allow => return vec![answer(ALLOW)],
        Rule::Hidden => return vec![answer(ENOSYS)],
        Rule::With(any) => return vec![answer(if any.intersects(capabilities) { ALLOW } else { EPERM })],
        Rule::If(test) => test,
    };
    let mut out = vec![argument(0)];
    // Whether a hit is what is wanted, and what is looked for.
    let (code, values, wanted) = match test {
        Condition::NoBits(ref bits) => (ANY_BIT, std::slice::from_ref(bits), false),
        Condition::OneOf(values) => (EQUAL, values, true),
        Condition::NoneOf(values) => (EQUAL, values, false),
    };
    for (i, value) in values.iter().enumerate() {
        // To the last answer.
        out.push(jump(code, *value, (values.len() - i) as u8, 0));
    }
    let (missed, hit) = if wanted { (EPERM, ALLOW) } else { (ALLOW, EPERM) };
    out.extend([answer(missed), answer(hit)]);
    out
}

/// Finds the range of the loaded number.
fn search(ranges: &[Range]) -> Vec<Instruction> {
    if let [(_, answers)] = ranges {
        return answers.clone();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (search(low), search(high));
    let first = high.first().map_or(0, |(first, _)| *first);
    let mut out = match u8::try_from(below.len()) {
        Ok(near) => vec![jump(AT_LEAST, first, near, 0)],
        Err(_) => vec![jump(AT_LEAST, first, 0, 1), over(below.len())],
    };
    out.extend(below);
    out.extend(above);
    out
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

/// The low half of an argument (both supported families are little-endian). The kernel looks at no more of those that are
/// tested here.
fn argument(number: u32) -> Instruction {
    load(ARGUMENTS + 8 * number)
}

fn answer(value: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: value }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Goes on behind the next `count` instructions.
fn over(count: usize) -> Instruction {
    Instruction { code: JUMP, jt: 0, jf: 0, k: count as u32 }
}
