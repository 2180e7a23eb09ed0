//! Abilities of the host. A test that lacks one is skipped, or fails if `MUST` names the ability or is `all`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `requires!(userns, overlay)` at the start of a test.
#[macro_export]
macro_rules! requires {
    ($($ability:ident),+ $(,)?) => {
        $(if !$crate::support::requires::have(stringify!($ability)) {
            return;
        })+
    };
}

/// Whether this host has `ability`. Panics if it lacks one that `MUST` demands.
pub fn have(ability: &str) -> bool {
    let able = match ability {
        "root" => is_root(),
        // Running as a plain user is never demanded: `scripts/test` runs the tests once as each user.
        "plain_user" => !is_root(),
        "kiln_test" => {
            std::fs::read_to_string("/etc/passwd").is_ok_and(|p| p.lines().any(|l| l.starts_with("kiln-test:")))
        }
        "userns" => userns(),
        "overlay" => overlay(),
        "tun" => std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok(),
        "attributes" => attributes(),
        tool => find(&tool.replace('_', "-")),
    };
    // On most hosts, only host root can open the tunnel device, so it is not demanded from others.
    let demanded = !matches!(ability, "plain_user" | "root")
        && (ability != "tun" || is_hosts_root())
        && std::env::var("MUST").is_ok_and(|m| m.split(',').any(|m| m == "all" || m == ability));
    assert!(able || !demanded, "this host lacks `{ability}`, and MUST demands it");
    if !able {
        eprintln!("skipped: this host lacks `{ability}`");
    }
    able
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether the tests run as root of the initial user namespace, which has all ids.
fn is_hosts_root() -> bool {
    let all = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    is_root() && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(all)
}

/// Whether a program is in PATH or an sbin directory.
pub fn find(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(tool).is_file())
}

fn succeeds(command: &[&str]) -> bool {
    Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Whether RUN has its namespaces: root can create them, a plain user needs a user namespace with subordinate ids.
fn userns() -> bool {
    static ABLE: OnceLock<bool> = OnceLock::new();
    *ABLE.get_or_init(|| {
        if is_root() {
            return succeeds(&["unshare", "--mount", "--pid", "--fork", "true"]);
        }
        find("newuidmap") && succeeds(&["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "true"])
    })
}

/// Whether test files can have extended attributes.
fn attributes() -> bool {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    succeeds(&["setfattr", "-n", "user.a", "-v", "b", path])
}

fn overlay() -> bool {
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|f| f.contains("\toverlay\n"))
        || succeeds(&["modprobe", "overlay"])
}
