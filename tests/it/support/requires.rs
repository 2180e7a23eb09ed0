//! Abilities of the host: a test that lacks one is skipped, unless `MUST` names it (or is `all`); then it fails.

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

/// Whether this host can do `ability`. Panics where `MUST` demands it.
pub fn have(ability: &str) -> bool {
    let able = match ability {
        "root" => is_root(),
        // Being the plain user half of a pair of runs is not an ability: never demanded.
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
    // Nor is the tunnel device one of a plain user, whatever namespace he is root of: of most hosts it is root's alone.
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

/// Whether they run as the root of the first user namespace, which has all ids.
fn is_hosts_root() -> bool {
    let all = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    is_root() && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(all)
}

/// Whether a program is in the usual places.
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

/// RUN needs namespaces: root has them, a plain user needs a user namespace with subordinate ids.
fn userns() -> bool {
    static ABLE: OnceLock<bool> = OnceLock::new();
    *ABLE.get_or_init(|| {
        if is_root() {
            return succeeds(&["unshare", "--mount", "--pid", "--fork", "true"]);
        }
        find("newuidmap") && succeeds(&["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "true"])
    })
}

/// Whether files for tests can have extended attributes.
fn attributes() -> bool {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    succeeds(&["setfattr", "-n", "user.a", "-v", "b", path])
}

fn overlay() -> bool {
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|f| f.contains("\toverlay\n"))
        || succeeds(&["modprobe", "overlay"])
}
