//! Test `--network private` and published ports end to end: with each helper, as root and as a plain user.
//!
//! The "host" is a network namespace with a dummy address, so that the test does not need the network of the machine.

use std::process::Command;

use crate::support::TestEnv;
use crate::support::env::{PLAIN_USER, binary};

/// `$1`: the helper to hide. `$2`: the store. The rest: the command that starts kiln.
const HOST: &str = r#"
set -e
hide=$1 KILN_ROOT=$2; shift 2
export KILN_ROOT
b() { busybox "$@"; }
b ip link set lo up
b tunctl -t up0 >/dev/null
b ip addr add 192.0.2.1/24 dev up0; b ip link set up0 up; b ip route add default via 192.0.2.254
b ip addr add 198.51.100.1/32 dev lo
mount -t tmpfs none /mnt
mkdir /mnt/up /mnt/work /mnt/web /mnt/own
mount -t overlay -o lowerdir=/usr/bin,upperdir=/mnt/up,workdir=/mnt/work none /usr/bin
for name in $hide; do rm /usr/bin/$name; done
# For the plain user, who may not open the machine's.
mknod -m 666 /mnt/tun c 10 200; mount --bind /mnt/tun /dev/net/tun
echo public > /mnt/web/index.html; echo hidden > /mnt/own/index.html
busybox httpd -f -p 198.51.100.1:8000 -h /mnt/web & one=$!
busybox httpd -f -p 127.0.0.1:8001 -h /mnt/own & two=$!
trap 'kill $one $two' EXIT
echo 'nameserver 127.0.0.53' > /mnt/resolv.conf; mount --bind /mnt/resolv.conf /etc/resolv.conf
n=0
until b wget -q -O /dev/null http://198.51.100.1:8000/ 2>/dev/null; do n=$((n + 1)); [ $n -lt 200 ]; sleep 0.05; done

inside='
echo "out: $(timeout 5 wget -q -O - http://198.51.100.1:8000/)"
for host in 127.0.0.1 10.0.2.2 192.0.2.254; do
    echo "$host: $(timeout 1 wget -q -O - http://$host:8001/ 2>/dev/null || echo none)"
done
echo "names: $(cat /etc/resolv.conf)"'
"$@" run --network private busybox sh -c "$inside"
"$@" run --network private -p 127.0.0.1:9000:80 busybox \
    sh -c 'mkdir /w; echo served > /w/index.html; exec httpd -f -p 80 -h /w' &
run=$!
n=0
until page=$(b wget -q -O - http://127.0.0.1:9000/ 2>/dev/null); do n=$((n + 1)); [ $n -lt 200 ]; sleep 0.05; done
echo "in: $page"
kill $run
wait $run || true
b wget -q -O - http://127.0.0.1:9000/ 2>/dev/null || echo "closed"
sleep 0.2
for process in /proc/[0-9]*; do
    case $(cat $process/comm 2>/dev/null) in
        pasta*|slirp4netns) [ "$(readlink $process/ns/net)" != "$(readlink /proc/self/ns/net)" ] || echo "left: $process" ;;
    esac
done
"#;

/// Checks that the helper that is not hidden forwards traffic both ways, and that the host's loopback is unreachable.
fn check_helper(hide: &str, env: &TestEnv, user: Option<&str>) {
    let kiln = match user {
        Some(_) => env.dir().join("kiln"),
        None => binary(),
    };
    let as_user = user.map(|user| ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--inh-caps=-all"]);
    let out = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c", HOST, "sh", hide])
        .arg(env.store())
        .args(as_user.iter().flatten())
        .arg(kiln)
        .env("HOME", env.dir().join("home"))
        .output()
        .expect("run unshare");
    let said = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    for line in ["out: public", "127.0.0.1: none", "10.0.2.2: none", "192.0.2.254: none", "in: served", "closed"] {
        assert!(said.lines().any(|one| one == line), "{user:?} without {hide}: no {line:?} in\n{said}");
    }
    assert!(!said.contains("left: "), "{said}");
    assert!(said.contains("names: nameserver ") && !said.contains("127.0.0.53"), "{said}");
}

#[test]
fn network_helpers_carry_both_ways_but_not_host_loopback() {
    // R-8, S-76
    requires!(root, userns, overlay, pasta, slirp4netns, busybox, tun);
    let env = TestEnv::with_busybox();
    check_helper("slirp4netns", &env, None);
    check_helper("pasta", &env, None);
    requires!(kiln_test);
    let env = TestEnv::of_plain_user();
    env.import("busybox");
    check_helper("slirp4netns", &env, Some(PLAIN_USER));
    check_helper("pasta", &env, Some(PLAIN_USER));
}
