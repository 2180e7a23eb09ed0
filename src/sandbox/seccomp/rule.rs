//! The rules and numbers in a row of the table of calls.

use rustix::thread::CapabilitySet as Cap;

/// No such call on this architecture.
pub(super) const NO: u32 = u32::MAX;

/// Numbers for x86-64, i386, aarch64, arm.
pub(super) type Numbers = [u32; 4];

/// When a call is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Always.
    Allow,
    /// To a command that has one of these capabilities.
    With(Cap),
    /// If its first argument meets the condition.
    If(Condition),
    /// Never; it fails with ENOSYS, because a filter cannot see its arguments and libc falls back to another call.
    Hidden,
}

/// A condition on the lower half of an argument.
#[derive(Debug, Clone, Copy)]
pub(super) enum Condition {
    /// None of these bits is set.
    NoBits(u32),
    /// One of these.
    OneOf(&'static [u32]),
    /// None of these.
    NoneOf(&'static [u32]),
}
