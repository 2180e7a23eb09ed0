//! Docker's default profile as a program.
//!
//! **Holds.** Calls that the profile does not allow fail with EPERM; `clone` may not create namespaces. `clone3`, whose
//! flags a filter cannot see, fails with ENOSYS (libc falls back to `clone`), as do calls newer than the profile and
//! the x32 interface. Programs of the kernel's 32-bit interface get the same rules with their own numbers. Numbers are
//! found by binary search.
//! **Not here.** What capabilities, namespaces and read-only mounts already forbid is not forbidden again, unless the
//! profile does so. `socketcall` of the 32-bit interface is allowed as in the profile: a filter cannot see which kind
//! of socket it creates.

use rustix::thread::CapabilitySet;

use super::notices::{Limits, noticed};
use super::program::{
    ALLOW, ANY_BIT, AT_LEAST, Answer, ENOSYS, EPERM, EQUAL, NUMBER, answer, argument, jump, load, over, per_arch,
};
use super::rule::{Condition, Rule};
use super::table::{Arch, NEWEST};
use crate::sandbox::sys::Instruction;

/// The program for this machine and a command with these capabilities. With `limits` it reports calls and needs a
/// listener.
pub(in crate::sandbox) fn filter(capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Instruction> {
    program(Arch::native(), capabilities, limits)
}

/// The program for a kernel that runs `archs`.
pub(super) fn program(archs: &[Arch], capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Instruction> {
    let mut out = per_arch(archs, |arch| body(arch, capabilities, limits));
    // An architecture that the tables do not have.
    out.push(answer(ENOSYS));
    out
}

/// The rules of one architecture; every path returns.
fn body(arch: Arch, capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Instruction> {
    let mut out = vec![load(NUMBER)];
    search(&ranges(arch, capabilities, limits), &mut out);
    out
}

/// The answer to numbers from this one up to the next range.
type Range = (u32, Answer);

/// All numbers, in sorted ranges with one answer each. Numbers of x32 have a high bit that makes them newer than any.
fn ranges(arch: Arch, capabilities: CapabilitySet, limits: Option<Limits>) -> Vec<Range> {
    let mut points = vec![(0, Answer::Always(EPERM)), (NEWEST + 1, Answer::Always(ENOSYS))];
    let mut calls: Vec<Range> = arch
        .calls()
        .map(|(name, number, rule)| match rule {
            Rule::Allow => (number, limits.map_or(Answer::Always(ALLOW), |limits| noticed(name, limits))),
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
    // Of two ranges with the same start, the later one counts.
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

/// The answer of a rule for a command with these capabilities.
fn answers(rule: Rule, capabilities: CapabilitySet) -> Answer {
    let test = match rule {
        Rule::Allow => return Answer::Always(ALLOW),
        Rule::Hidden => return Answer::Always(ENOSYS),
        Rule::With(any) => return Answer::Always(if any.intersects(capabilities) { ALLOW } else { EPERM }),
        Rule::If(test) => test,
    };
    let mut out = vec![argument(0)];
    // The test, and whether a match allows the call.
    let (code, values, wanted) = match test {
        Condition::NoBits(ref bits) => (ANY_BIT, std::slice::from_ref(bits), false),
        Condition::OneOf(values) => (EQUAL, values, true),
        Condition::NoneOf(values) => (EQUAL, values, false),
    };
    for (i, value) in values.iter().enumerate() {
        // Jumps to the last answer.
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
