//! Finds what refuses namespaces to this process (N-51).

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::fs;

/// A setting of the host, or of a container around kiln, that refuses namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceObstacle {
    /// `kernel.unprivileged_userns_clone` is 0.
    CloneSysctl,
    /// `user.max_user_namespaces` is 0.
    NoNamespaces,
    /// `user.max_user_namespaces` is reached, or they are nested too deep.
    Limit,
    /// A system call filter: the profile of a container around kiln, or of the service that started it.
    Filter,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmor,
    /// A chroot, or an unknown security module.
    Unknown,
    /// The kernel has no user namespaces.
    Kernel,
}

/// The settings that tell obstacles apart.
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

    /// What makes the creation of a user namespace fail with `errno`.
    fn to_users(&self, errno: i32) -> Option<NamespaceObstacle> {
        match errno {
            libc::EPERM if self.clone_sysctl == "0" => Some(NamespaceObstacle::CloneSysctl),
            libc::ENOSPC if self.max_namespaces == "0" => Some(NamespaceObstacle::NoNamespaces),
            libc::ENOSPC | libc::EUSERS => Some(NamespaceObstacle::Limit),
            // A filter may return either, whatever the kernel supports.
            libc::EPERM | libc::ENOSYS if self.filtered => Some(NamespaceObstacle::Filter),
            libc::EPERM | libc::EACCES if self.apparmor == "1" => Some(NamespaceObstacle::AppArmor),
            libc::EPERM | libc::EACCES => Some(NamespaceObstacle::Unknown),
            libc::EINVAL | libc::ENOSYS => Some(NamespaceObstacle::Kernel),
            _ => None,
        }
    }

    /// What makes another call of a process with the necessary rights fail with `errno`.
    fn to_call(&self, errno: i32) -> Option<NamespaceObstacle> {
        (self.filtered && matches!(errno, libc::EPERM | libc::ENOSYS)).then_some(NamespaceObstacle::Filter)
    }
}

impl NamespaceObstacle {
    /// What made the creation of a user namespace fail with `errno`, from the settings that distributions and
    /// administrators use.
    pub(super) fn of_user_namespace(errno: i32) -> Option<Self> {
        Facts::read().to_users(errno)
    }

    /// What made another call fail with `errno`, if it was a filter.
    pub(super) fn of_call(errno: i32) -> Option<Self> {
        Facts::read().to_call(errno)
    }
}

impl fmt::Display for NamespaceObstacle {
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
    fn obstacle_is_found_from_errno_and_settings() {
        let facts = |clone: &str, max: &str, apparmor: &str, filtered| Facts {
            clone_sysctl: clone.to_owned(),
            max_namespaces: max.to_owned(),
            apparmor: apparmor.to_owned(),
            filtered,
        };
        let free = facts("1", "9", "0", false);
        let filtered = facts("", "9", "1", true);
        for (facts, errno, want) in [
            (&facts("0", "9", "", true), libc::EPERM, Some(NamespaceObstacle::CloneSysctl)),
            (&facts("", "0", "", true), libc::ENOSPC, Some(NamespaceObstacle::NoNamespaces)),
            (&free, libc::ENOSPC, Some(NamespaceObstacle::Limit)),
            (&free, libc::EUSERS, Some(NamespaceObstacle::Limit)),
            (&filtered, libc::EPERM, Some(NamespaceObstacle::Filter)),
            (&filtered, libc::ENOSYS, Some(NamespaceObstacle::Filter)),
            (&facts("", "9", "1", false), libc::EPERM, Some(NamespaceObstacle::AppArmor)),
            (&filtered, libc::EACCES, Some(NamespaceObstacle::AppArmor)),
            (&free, libc::EPERM, Some(NamespaceObstacle::Unknown)),
            (&free, libc::EINVAL, Some(NamespaceObstacle::Kernel)),
            (&free, libc::ENOSYS, Some(NamespaceObstacle::Kernel)),
            (&free, libc::ENOMEM, None),
        ] {
            assert_eq!(facts.to_users(errno), want, "{facts:?} {errno}");
        }
        assert_eq!(filtered.to_call(libc::EPERM), Some(NamespaceObstacle::Filter));
        assert_eq!(filtered.to_call(libc::EIO), None);
        assert_eq!(free.to_call(libc::EPERM), None);
    }
}
