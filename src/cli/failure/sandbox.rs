//! What would help against a failure of the sandbox, in words.

use crate::sandbox::userns::{ENOUGH_IDS, NamespaceObstacle, Powerless, SingleIdReason};
use crate::sandbox::{ExecObstacle, Hint, NoPrivateNetwork};

/// The remedy for line ends of Windows.
pub(super) const CRLF: &str = "save the file with LF line ends (dos2unix, or `*.sh text eol=lf` in .gitattributes)";

/// A hint of the sandbox.
pub(in crate::cli) fn hint(hint: &Hint) -> String {
    match hint {
        Hint::SearchPath(path) => format!("install it, or give its path; PATH is {path}"),
        Hint::NoSuchFile => "check the path: the root has no such file".to_owned(),
        Hint::CannotStart { file, obstacle: Some(obstacle) } => format!("{file} {}", exec_obstacle(obstacle)),
        Hint::CannotStart { file, obstacle: None } => format!("{file} cannot be started"),
        Hint::UnknownFormat => {
            "it is a program for another architecture, or a script without a `#!` line; for a script, name its shell"
                .to_owned()
        }
        Hint::NotExecutable(file) => format!("make {file} executable for this user"),
        Hint::KnownNames { names, more } => known_names(names, *more),
        Hint::SingleId(reason) => format!("an id is not available here: {}", single_id(reason)),
        Hint::UnmappedId => {
            "an id is not mapped in kiln's user namespace: give the user a range that covers it in /etc/subuid and \
             /etc/subgid"
                .to_owned()
        }
        Hint::Obstacle(obstacle) => namespace_obstacle(*obstacle).to_owned(),
        Hint::MapCapabilities => "give root CAP_SETUID, CAP_SETGID and CAP_SETFCAP".to_owned(),
        Hint::SymlinkInSource => "name a source that does not lead through a symbolic link".to_owned(),
        Hint::EmptyCache => {
            "make the directory in an earlier RUN that mounts the whole cache: a cache starts empty".to_owned()
        }
        Hint::KindMismatch => "mount a directory over a directory, and a file over a file".to_owned(),
        Hint::NoTargetInMount => "make the target in what is mounted around it".to_owned(),
        Hint::KernelLog(text) => format!("the kernel says: {text}"),
        Hint::NoOverlayfs => "load overlayfs (modprobe overlay)".to_owned(),
        _ => other(hint),
    }
}

/// Hints about limits and networks.
fn other(hint: &Hint) -> String {
    match hint {
        Hint::KnownLimits(names) => format!("known limits: {}", names.join(" ")),
        Hint::HardLimit => "run kiln as root of the host to raise a limit above its hard value".to_owned(),
        Hint::SoftAboveHard => "give a soft value that does not exceed the hard one".to_owned(),
        Hint::ProcessLimit(limit) => format!("allow more than {limit} processes: the command cannot start with so few"),
        Hint::NoNetworkHelper => "install the package passt or slirp4netns, or use --network host or none".to_owned(),
        Hint::NoTunDevice => "load the tun driver: there is no /dev/net/tun (modprobe tun)".to_owned(),
        Hint::NetworkHelperFailed { helper, output } if output.is_empty() => {
            format!("make /dev/net/tun readable and writable: {} gave up", helper.name())
        }
        Hint::NetworkHelperFailed { helper, output } => {
            format!("{} says: {output}; /dev/net/tun must be readable and writable", helper.name())
        }
        Hint::NetworkHelperSlow { helper, seconds } => {
            format!("{} set up no route within {seconds} s", helper.name())
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

/// Why a file cannot be started and what to do; follows the file's path.
pub(in crate::cli) fn exec_obstacle(obstacle: &ExecObstacle) -> String {
    match obstacle {
        ExecObstacle::CarriageReturn => format!("has a first line that ends in a carriage return: {CRLF}"),
        ExecObstacle::NoInterpreter(name) => {
            format!("names the interpreter {name}, which the image lacks: install it, or change the first line")
        }
        ExecObstacle::NoLoader(name) => {
            format!("needs the loader {name}, which the image lacks: build it for the image's C library, or statically")
        }
        ExecObstacle::Machine(name) => format!("is a program for {name}: copy the one for this platform"),
        ExecObstacle::Empty => "is empty".to_owned(),
    }
}

/// What to do about something that refuses namespaces.
fn namespace_obstacle(obstacle: NamespaceObstacle) -> &'static str {
    match obstacle {
        NamespaceObstacle::CloneSysctl => "as root, run sysctl -w kernel.unprivileged_userns_clone=1",
        NamespaceObstacle::NoNamespaces => "as root, run sysctl -w user.max_user_namespaces=15000",
        NamespaceObstacle::Limit => "as root, raise it with sysctl -w user.max_user_namespaces=NUMBER",
        NamespaceObstacle::Filter => {
            "a container around kiln refuses this system call: run it with seccomp and AppArmor unconfined, or with a \
             profile that allows the call"
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
    match reason {
        SingleIdReason::StartedInside => {
            "the user namespace that kiln was started in has one (start kiln outside of it, or make it with unshare \
             --map-root-user --map-auto)"
                .to_owned()
        }
        SingleIdReason::HelperMissing { name } => {
            format!("{name} is not installed (package uidmap or shadow-utils)")
        }
        SingleIdReason::NoRange { file, user, named, free } => {
            let range = format!("{free}-{}", free + ENOUGH_IDS - 1);
            let add = match named {
                true => format!("usermod --add-subuids {range} --add-subgids {range} {user}"),
                // usermod wants a name.
                false => format!("echo {user}:{free}:{ENOUGH_IDS} | tee -a /etc/subuid /etc/subgid"),
            };
            format!("{file} has no line for {user} (as root: {add})")
        }
        SingleIdReason::HelperFailed { program, error } => format!("{program}: {error}"),
        SingleIdReason::HelperRefused { program, output, powerless } => {
            let also = powerless.map(|why| format!("; {}", no_rights(why, program))).unwrap_or_default();
            format!("{program} refused: {output}{also}")
        }
    }
}

fn no_rights(why: Powerless, program: &str) -> String {
    match why {
        Powerless::NoNewPrivileges => "no_new_privs is set, with which it has no rights of its own: leave out \
                                       NoNewPrivileges= of systemd, no-new-privileges of docker, or set \
                                       allowPrivilegeEscalation: true in a pod"
            .to_owned(),
        Powerless::NotSetuid => format!("it is not setuid and has no capabilities (as root: chmod u+s {program})"),
    }
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
