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
    search(&ranges(arch, capabilities, limits), &mut out);
    out
}

/// What becomes of a call: every way through it returns. Nearly all are one instruction, which takes no memory of its
/// own: the program is made anew for every command.
#[derive(Clone, PartialEq, Eq)]
enum Answer {
    /// Always the same.
    Always(u32),
    /// That depends on arguments.
    Tested(Vec<Instruction>),
}

impl Answer {
    fn len(&self) -> usize {
        if let Self::Tested(instructions) = self { instructions.len() } else { 1 }
    }
}

/// Numbers from the first one on, up to the next range, are answered so.
type Range = (u32, Answer);

/// All numbers, in ranges with one answer each, sorted. Those of x32 carry a bit that makes them newer than any.
fn ranges(arch: Arch, capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Range> {
    let mut points = vec![(0, Answer::Always(EPERM)), (NEWEST + 1, Answer::Always(ENOSYS))];
    let mut calls: Vec<Range> = arch
        .calls()
        .map(|(name, number, rule)| match rule {
            Rule::Allow => (number, limits.map_or(Answer::Always(ALLOW), |limits| notices::noticed(name, limits))),
            rule => (number, answers(rule, capabilities)),
        })
        .collect();
    calls.sort_by_key(|(number, _)| *number);
    for (i, (number, answer)) in calls.iter().enumerate() {
        points.push((*number, answer.clone()));
        if calls.get(i + 1).is_none_or(|(next, _)| *next > number + 1) {
            let beyond = if *number < NEWEST { EPERM } else { ENOSYS };
            points.push((number + 1, Answer::Always(beyond)));
        }
    }
    // Of two at one number the later one holds.
    points.sort_by_key(|(number, _)| *number);
    let mut out: Vec<Range> = Vec::new();
    for (number, answer) in points {
        if out.last().is_some_and(|(last, _)| *last == number) {
            out.pop();
        }
        if out.last().is_none_or(|(_, last)| *last != answer) {
            out.push((number, answer));
        }
    }
    out
}

/// What a rule is for a command with these capabilities.
fn answers(rule: Rule, capabilities: CapabilitySet) -> Answer {
    let test = match rule {
        Rule::Allow => return Answer::Always(ALLOW),
        Rule::Hidden => return Answer::Always(ENOSYS),
        Rule::With(any) => return Answer::Always(if any.intersects(capabilities) { ALLOW } else { EPERM }),
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
    Answer::Tested(out)
}

/// Adds instructions that find the range of the loaded number.
fn search(ranges: &[Range], out: &mut Vec<Instruction>) {
    match ranges {
        [(_, Answer::Always(value))] => return out.push(answer(*value)),
        [(_, Answer::Tested(instructions))] => return out.extend_from_slice(instructions),
        _ => {}
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = length(low);
    let first = high.first().map_or(0, |(first, _)| *first);
    match u8::try_from(below) {
        Ok(near) => out.push(jump(AT_LEAST, first, near, 0)),
        Err(_) => out.extend([jump(AT_LEAST, first, 0, 1), over(below)]),
    }
    search(low, out);
    search(high, out);
}

/// How many instructions [`search`] adds.
fn length(ranges: &[Range]) -> usize {
    if let [(_, answer)] = ranges {
        return answer.len();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let below = length(low);
    let jumps = if below > usize::from(u8::MAX) { 2 } else { 1 };
    jumps + below + length(high)
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
