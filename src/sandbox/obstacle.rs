//! What keeps this process from making a namespace.

use std::fmt;
use std::path::Path;

use crate::base::fs;

/// Something that refuses namespaces, and can be told to allow them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// `kernel.unprivileged_userns_clone` is 0.
    CloneSysctl,
    /// `user.max_user_namespaces` is 0.
    NoNamespaces,
    /// As many as `user.max_user_namespaces` allows exist, or they are nested too deep.
    Limit,
    /// A system call filter: the profile of a container around kiln, or of the service that started it.
    Filter,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmor,
    /// A chroot, or a security module of which nothing is known.
    Unknown,
    /// The kernel has no user namespaces.
    Kernel,
}

/// What decides between obstacles.
#[derive(Debug, Clone, Default)]
struct Facts {
    clone_sysctl: String,
    max_namespaces: String,
    apparmor: String,
    filtered: bool,
}

impl Facts {
    fn read() -> Self {
        let value = |path: &str| text(path).trim().to_owned();
        Self {
            clone_sysctl: value("/proc/sys/kernel/unprivileged_userns_clone"),
            max_namespaces: value("/proc/sys/user/max_user_namespaces"),
            apparmor: value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            filtered: !text("/proc/self/status").contains("\nSeccomp:\t0\n"),
        }
    }

    /// What answers the wish for a user namespace with `errno`.
    fn to_users(&self, errno: i32) -> Option<Obstacle> {
        match errno {
            libc::EPERM if self.clone_sysctl == "0" => Some(Obstacle::CloneSysctl),
            libc::ENOSPC if self.max_namespaces == "0" => Some(Obstacle::NoNamespaces),
            libc::ENOSPC | libc::EUSERS => Some(Obstacle::Limit),
            // A filter may answer either, whatever the kernel has.
            libc::EPERM | libc::ENOSYS if self.filtered => Some(Obstacle::Filter),
            libc::EPERM | libc::EACCES if self.apparmor == "1" => Some(Obstacle::AppArmor),
            libc::EPERM | libc::EACCES => Some(Obstacle::Unknown),
            libc::EINVAL | libc::ENOSYS => Some(Obstacle::Kernel),
            _ => None,
        }
    }

    /// What answers any other call of a process that has the rights for it.
    fn to_call(&self, errno: i32) -> Option<Obstacle> {
        (self.filtered && matches!(errno, libc::EPERM | libc::ENOSYS)).then_some(Obstacle::Filter)
    }
}

impl Obstacle {
    /// What refuses a user namespace, found in the places where distributions and administrators put it (N-51).
    pub(super) fn to_users(errno: i32) -> Option<Self> {
        Facts::read().to_users(errno)
    }

    /// What refuses another call, should it be a filter.
    pub(super) fn to_call(errno: i32) -> Option<Self> {
        Facts::read().to_call(errno)
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::CloneSysctl => "as root, run sysctl -w kernel.unprivileged_userns_clone=1",
            Self::NoNamespaces => "as root, run sysctl -w user.max_user_namespaces=15000",
            Self::Limit => "as root, raise it with sysctl -w user.max_user_namespaces=NUMBER",
            Self::Filter => {
                "a container around kiln refuses this system call: run that one with seccomp and AppArmor unconfined, or \
                 give it a profile that allows the call"
            }
            Self::AppArmor => {
                "as root, give kiln a profile with `userns,`, or run sysctl -w \
                 kernel.apparmor_restrict_unprivileged_userns=0"
            }
            Self::Unknown => {
                "enter a chroot with pivot_root instead, or allow user namespaces in the host's security module"
            }
            Self::Kernel => "use a kernel that is built with CONFIG_USER_NS",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CloneSysctl => "kernel.unprivileged_userns_clone is 0",
            Self::NoNamespaces => "user.max_user_namespaces is 0",
            Self::Limit => "the limit of user namespaces is reached",
            Self::Filter => "a system call filter is in force (Seccomp in /proc/self/status)",
            Self::AppArmor => "AppArmor restricts unprivileged user namespaces",
            Self::Unknown => "a chroot or a security module of this host forbids it",
            Self::Kernel => "this kernel is built without user namespaces",
        })
    }
}

fn text(path: &str) -> String {
    fs::read_opt(Path::new(path)).ok().flatten().map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obstacle_is_the_one_that_gives_such_an_answer_n_51() {
        let facts = |clone: &str, max: &str, apparmor: &str, filtered| Facts {
            clone_sysctl: clone.to_owned(),
            max_namespaces: max.to_owned(),
            apparmor: apparmor.to_owned(),
            filtered,
        };
        let free = facts("1", "9", "0", false);
        let filtered = facts("", "9", "1", true);
        for (facts, errno, want) in [
            (&facts("0", "9", "", true), libc::EPERM, Some(Obstacle::CloneSysctl)),
            (&facts("", "0", "", true), libc::ENOSPC, Some(Obstacle::NoNamespaces)),
            (&free, libc::ENOSPC, Some(Obstacle::Limit)),
            (&free, libc::EUSERS, Some(Obstacle::Limit)),
            (&filtered, libc::EPERM, Some(Obstacle::Filter)),
            (&filtered, libc::ENOSYS, Some(Obstacle::Filter)),
            (&facts("", "9", "1", false), libc::EPERM, Some(Obstacle::AppArmor)),
            (&filtered, libc::EACCES, Some(Obstacle::AppArmor)),
            (&free, libc::EPERM, Some(Obstacle::Unknown)),
            (&free, libc::EINVAL, Some(Obstacle::Kernel)),
            (&free, libc::ENOSYS, Some(Obstacle::Kernel)),
            (&free, libc::ENOMEM, None),
        ] {
            assert_eq!(facts.to_users(errno), want, "{facts:?} {errno}");
        }
        assert_eq!(filtered.to_call(libc::EPERM), Some(Obstacle::Filter));
        assert_eq!(filtered.to_call(libc::EIO), None);
        assert_eq!(free.to_call(libc::EPERM), None);
    }
}
