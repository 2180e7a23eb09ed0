//! Hints for failures of the sandbox.

use crate::sandbox::userns::{ENOUGH_IDS, NamespaceObstacle, Powerless, SingleIdReason};
use crate::sandbox::{ExecObstacle, Hint, NoPrivateNetwork};

/// The remedy for line ends of Windows.
pub(super) const CRLF: &str = "save the file with LF line ends (dos2unix, or `*.sh text eol=lf` in .gitattributes)";

/// The text of a sandbox hint.
pub(in crate::cli) fn hint(hint: &Hint) -> String {
    match hint {
        Hint::SearchPath(path) => format!("install it, or give its path; PATH is {path}"),
        Hint::NoSuchFile => "check the path: the root has no such file".to_owned(),
        Hint::CannotStart { file, obstacle: Some(obstacle) } => exec_obstacle(file, obstacle),
        Hint::CannotStart { file, obstacle: None } => format!("check the interpreter and the format of {file}"),
        Hint::UnknownFormat => {
            "use a program for this architecture, or name the shell of a script that has no `#!` line".to_owned()
        }
        Hint::NotExecutable(file) => format!("make {file} executable for this user"),
        Hint::KnownNames { names, more } => known_names(names, *more),
        Hint::SingleId(reason) => more_ids(reason, "an id is not available here"),
        Hint::UnmappedId => {
            "add a range to /etc/subuid and /etc/subgid that covers the id: kiln's user namespace does not map it"
                .to_owned()
        }
        Hint::Obstacle(obstacle) => namespace_obstacle(*obstacle).to_owned(),
        Hint::MapCapabilities => "give root CAP_SETUID, CAP_SETGID and CAP_SETFCAP".to_owned(),
        Hint::SymlinkInSource => "name a source that does not lead through a symbolic link".to_owned(),
        Hint::EmptyCache => {
            "create the directory in an earlier RUN that mounts the whole cache: a cache starts empty".to_owned()
        }
        Hint::KindMismatch => "mount a directory over a directory, and a file over a file".to_owned(),
        Hint::NoTargetInMount => "create the target in the mount that contains it".to_owned(),
        Hint::KernelLog(text) => format!("check the kernel's message: {text}"),
        Hint::NoOverlayfs => "load overlayfs with modprobe overlay".to_owned(),
        _ => other(hint),
    }
}

/// Hints about limits and networks.
fn other(hint: &Hint) -> String {
    match hint {
        Hint::KnownLimits(names) => format!("use one of {}", names.join(", ")),
        Hint::HardLimit => "run kiln as root of the host to raise a limit above its hard value".to_owned(),
        Hint::SoftAboveHard => "choose a soft limit that does not exceed the hard one".to_owned(),
        Hint::ProcessLimit(limit) => format!("allow more than {limit} processes: the command cannot start with so few"),
        Hint::NoNetworkHelper => "install the package passt or slirp4netns, or use --network host or none".to_owned(),
        Hint::NoTunDevice => "load the tun driver with modprobe tun: there is no /dev/net/tun".to_owned(),
        Hint::NetworkHelperFailed { output, .. } if output.is_empty() => {
            "make /dev/net/tun readable and writable".to_owned()
        }
        Hint::NetworkHelperFailed { helper, output } => {
            format!("make /dev/net/tun readable and writable ({}: {output})", helper.name())
        }
        Hint::NetworkHelperSlow { helper, seconds } => {
            format!("use --network host or none: {} set up no route within {seconds} s", helper.name())
        }
        Hint::PortInUse => "choose another port: another program listens there".to_owned(),
        Hint::NoSuchAddress => "choose an address of this host".to_owned(),
        Hint::PrivilegedPort => {
            "choose a higher port: those below net.ipv4.ip_unprivileged_port_start are for root".to_owned()
        }
        _ => String::new(),
    }
}

/// `use one of root, app, www-data and 12 more, or a numeric id`.
fn known_names(names: &[String], more: usize) -> String {
    match (names, more) {
        ([], _) => "use a numeric id".to_owned(),
        (names, 0) => format!("use one of {}, or a numeric id", names.join(", ")),
        (names, more) => format!("use one of {} and {more} more, or a numeric id", names.join(", ")),
    }
}

/// What to do about `file`, which cannot be started, and why it cannot.
pub(super) fn exec_obstacle(file: &str, obstacle: &ExecObstacle) -> String {
    match obstacle {
        ExecObstacle::CarriageReturn => format!("{CRLF}: the first line of {file} ends in a carriage return"),
        ExecObstacle::NoInterpreter(name) => {
            format!("install {name}, or change the first line of {file}: the image lacks this interpreter")
        }
        ExecObstacle::NoLoader(name) => {
            format!("build {file} for the image's C library, or statically: the image lacks its loader {name}")
        }
        ExecObstacle::Machine(name) => format!("copy the {file} of this platform: it is a program for {name}"),
        ExecObstacle::Empty => format!("replace {file}: it is empty"),
    }
}

/// What to do about something that refuses namespaces.
fn namespace_obstacle(obstacle: NamespaceObstacle) -> &'static str {
    match obstacle {
        NamespaceObstacle::CloneSysctl => "as root, run sysctl -w kernel.unprivileged_userns_clone=1",
        NamespaceObstacle::NoNamespaces => "as root, run sysctl -w user.max_user_namespaces=15000",
        NamespaceObstacle::Limit => "as root, raise it with sysctl -w user.max_user_namespaces=NUMBER",
        NamespaceObstacle::Filter => {
            "run the container around kiln with seccomp and AppArmor unconfined, or with a profile that allows this \
             system call"
        }
        NamespaceObstacle::AppArmor => {
            "as root, give kiln a profile with `userns,`, or run sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0"
        }
        NamespaceObstacle::Unknown => {
            "enter a chroot with pivot_root instead, or allow user namespaces in the host's security module"
        }
        NamespaceObstacle::Kernel => "use a kernel that is built with CONFIG_USER_NS",
    }
}

/// Why there is a single id, and what to do.
pub(in crate::cli) fn single_id(reason: &SingleIdReason) -> String {
    match remedy(reason) {
        Some(remedy) => format!("{} ({remedy})", cause(reason)),
        None => cause(reason),
    }
}

/// A hint to get more ids; `need` says what needs them.
pub(super) fn more_ids(reason: &SingleIdReason, need: &str) -> String {
    let remedy = remedy(reason).unwrap_or_else(|| "run kiln as a user with subordinate ids".to_owned());
    format!("{remedy}: {need}, because {}", cause(reason))
}

fn cause(reason: &SingleIdReason) -> String {
    match reason {
        SingleIdReason::StartedInside => "the user namespace that kiln was started in has a single id".to_owned(),
        SingleIdReason::HelperMissing { name } => format!("{name} is not installed"),
        SingleIdReason::NoRange { file, user, .. } => format!("{file} has no line for {user}"),
        SingleIdReason::HelperFailed { program, error } => format!("{program} failed: {error}"),
        SingleIdReason::HelperRefused { program, output, powerless } => match powerless {
            Some(Powerless::NoNewPrivileges) => format!("{program} refused: {output}; no_new_privs is set"),
            Some(Powerless::NotSetuid) => format!("{program} refused: {output}; it is not setuid"),
            None => format!("{program} refused: {output}"),
        },
    }
}

fn remedy(reason: &SingleIdReason) -> Option<String> {
    Some(match reason {
        SingleIdReason::StartedInside => {
            "start kiln outside of that user namespace, or create it with unshare --map-root-user --map-auto".to_owned()
        }
        SingleIdReason::HelperMissing { .. } => "install the package uidmap or shadow-utils".to_owned(),
        SingleIdReason::NoRange { user, named, free, .. } => {
            let range = format!("{free}-{}", free + ENOUGH_IDS - 1);
            let add = match named {
                true => format!("usermod --add-subuids {range} --add-subgids {range} {user}"),
                // usermod wants a name.
                false => format!("echo {user}:{free}:{ENOUGH_IDS} | tee -a /etc/subuid /etc/subgid"),
            };
            format!("as root, run {add}")
        }
        SingleIdReason::HelperRefused { program, powerless: Some(Powerless::NotSetuid), .. } => {
            format!("as root, run chmod u+s {program}")
        }
        SingleIdReason::HelperRefused { powerless: Some(Powerless::NoNewPrivileges), .. } => {
            "remove NoNewPrivileges= of systemd or no-new-privileges of docker, or set allowPrivilegeEscalation: true \
             in a pod"
                .to_owned()
        }
        SingleIdReason::HelperFailed { .. } | SingleIdReason::HelperRefused { powerless: None, .. } => return None,
    })
}

/// What a private network lacks, and what to do.
pub(in crate::cli) fn no_private_network(lack: &NoPrivateNetwork) -> String {
    match lack {
        NoPrivateNetwork::NoHelper => {
            "neither pasta nor slirp4netns is installed (packages passt and slirp4netns)".to_owned()
        }
        NoPrivateNetwork::NoTunDevice => "there is no /dev/net/tun (modprobe tun)".to_owned(),
        NoPrivateNetwork::TunDenied(error) => {
            format!("/dev/net/tun: {error} (as root: chmod 666 /dev/net/tun)")
        }
    }
}
