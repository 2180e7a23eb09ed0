//! Test the identity and privileges of commands as seen from the host, and that entitlements are enforced everywhere.
//! Real builds, as root and as a plain user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln::sandbox::{Network, Security};

use super::{TestRoot, put_probe, root_only};
use crate::support::TestEnv;
use crate::support::env::each_user;
use crate::support::requires::is_root;

/// Builds an image `probed` with the probe program, and setuid and setgid copies of it.
fn probed(env: &TestEnv) {
    let dir = env.context(
        "-- Dockerfile --\nFROM busybox\nCOPY probe /bin/probe\n\
         RUN cp /bin/probe /bin/su-probe && chmod 4755 /bin/su-probe && cp /bin/su-probe /bin/sg-probe && \
         chmod 2755 /bin/sg-probe\n",
    );
    put_probe(&dir.join("probe"));
    env.build(&["-t", "probed"], &dir).ok();
}

/// The owner of the store.
fn owner(env: &TestEnv) -> u32 {
    fs::metadata(env.store()).expect("the store").uid()
}

fn files(dir: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.path().to_owned(), entry.metadata().ok()?)))
        .filter(|(_, metadata)| metadata.is_file())
        .collect()
}

#[test]
fn setuid_program_is_root_only_in_its_namespace() {
    // S-80, S-81
    requires!(userns, overlay, cc);
    for env in each_user() {
        probed(&env);
        // A file that only its owner may read.
        let private = env.dir().join("private");
        fs::write(&private, "x").expect("write");
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("chmod");
        let volume = format!("{}:/private:ro", private.display());
        let tried = |user: &str, program: &str| {
            let line = ["run", "-v", &volume, "-u", user, "probed", program, "setuid", "/private"];
            env.kiln(&line).ok().stdout.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let default = "CapEff:\t00000000a80425fb";
        // A setuid program can read it if the root of its namespace owns it.
        let may = if is_root() && owner(&env) == 0 || !is_root() { "ok" } else { "EACCES" };
        assert_eq!(tried("app", "probe"), ["1000 1000", "EACCES", "CapEff:\t0000000000000000"]);
        assert_eq!(tried("app", "su-probe"), ["1000 0", may, default]);
        assert_eq!(tried("0", "su-probe"), ["0 0", may, default]);
        let done = env.kiln(&["run", "-u", "app", "probed", "sg-probe", "setuid"]).ok();
        done.says("1000 1000").says("CapEff:\t0000000000000000");
        // Host root uses no user namespace; a plain user is root of a new one.
        let map = env.kiln(&["run", "probed", "cat", "/proc/self/uid_map"]).ok();
        let words = |map: &str| map.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if is_root() && owner(&env) == 0 {
            assert_eq!(words(&map), words(&fs::read_to_string("/proc/self/uid_map").expect("read")));
        } else {
            assert_eq!(words(&map)[..2], ["0".to_owned(), owner(&env).to_string()]);
        }
    }
}

#[test]
fn setuid_files_in_store_give_no_host_privilege() {
    // S-29
    requires!(userns, overlay, cc);
    for env in each_user() {
        probed(&env);
        // Setuid files copied up by changing times, by writing and by setting an attribute; and file capabilities.
        let lines = "FROM probed\nRUN touch /bin/su-probe && cp /bin/su-probe /new && chmod 6755 /new\n\
                     RUN probe setcap /bin/probe && probe setcap /bin/sg-probe && chmod 4755 /bin/probe\n\
                     RUN test -u /bin/su-probe && test -u /new && test -g /new && test -u /bin/probe\n";
        env.build(&["-t", "app"], &env.context(&format!("-- Dockerfile --\n{lines}"))).ok();
        let store = fs::metadata(env.store()).expect("the store");
        assert_eq!(store.mode() & 0o777, 0o700, "nobody else comes near");
        let mut found = 0;
        for (path, metadata) in files(&env.store()) {
            if metadata.mode() & 0o6000 == 0 {
                continue;
            }
            found += 1;
            assert_eq!(metadata.uid(), owner(&env), "{}", path.display());
            if is_root() && owner(&env) != 0 {
                assert_ne!((metadata.uid(), metadata.gid()), (0, 0), "{}", path.display());
            }
            if is_root() {
                // Through a shell: setpriv itself would open the file with capabilities of root.
                let tried = Command::new("setpriv")
                    .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", "exec \"$0\" setuid"])
                    .arg(&path)
                    .output()
                    .expect("run setpriv");
                let said = String::from_utf8_lossy(&tried.stderr);
                assert!(tried.stdout.is_empty() && said.contains("Permission denied"), "{}: {said}", path.display());
            }
            // File capabilities are valid in one namespace only: version 3 records its root.
            let mut value = [0; 64];
            if let Ok(size) = rustix::fs::getxattr(&path, "security.capability", &mut value) {
                let version = value[3];
                assert!(owner(&env) == 0 || (version, size) == (3, 24) || !is_root(), "{}", path.display());
            }
        }
        assert!(found >= 4, "only {found} set-uid files were found");
        // In the image the files have the modes that the command set.
        let tree = env.image("app").tree();
        assert_eq!((tree["new"].mode, tree["new"].uid, tree["bin/su-probe"].mode), (0o6755, 0, 0o4755));
        assert_eq!(tree["bin/sg-probe"].xattrs["security.capability"].len(), 40);
    }
}

#[test]
fn command_gets_new_namespaces() {
    // S-70
    root_only!();
    let root = TestRoot::new();
    let inside = |network, security| {
        let mut spec = root.sh("for n in mnt pid ipc uts cgroup net; do readlink /proc/self/ns/$n; done");
        (spec.network, spec.security) = (network, security);
        root.succeeds(&spec).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let outside = ["mnt", "pid", "ipc", "uts", "cgroup", "net"]
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).expect("a link").display().to_string());
    for security in [Security::Sandbox, Security::Insecure] {
        let (alone, host) = (inside(Network::None, security), inside(Network::Host, security));
        for (i, own) in outside.iter().enumerate() {
            assert_ne!(&alone[i], own);
            assert_eq!(&host[i] == own, i == 5, "{own}");
        }
    }
    let said = root.says("readlink /proc/self/ns/pid; readlink /proc/self/ns/pid_for_children");
    assert_eq!(said.lines().next(), said.lines().nth(1));
}

#[test]
fn entitlements_are_enforced_for_every_form_of_run() {
    // S-4, R-9
    requires!(userns, overlay);
    for env in each_user() {
        let build = |args: &[&str], text: &str| env.build(args, &env.context(&format!("-- Dockerfile --\n{text}\n")));
        build(
            &["-t", "parent"],
            "FROM busybox\nONBUILD RUN --security=insecure touch /x\nONBUILD RUN --network=host touch /x",
        )
        .ok();
        let forms = [
            "FROM busybox\nRUN --security=insecure touch /x",
            "FROM busybox\nARG S=insecure\nRUN --security=insecure <<EOF\ntouch /x\nEOF",
            "FROM busybox AS a\nRUN --security=insecure touch /x\nFROM busybox\nCOPY --from=a /x /",
            "FROM parent",
        ];
        for text in forms {
            let refused = build(&["--allow", "network.host"], text).fails(1);
            refused.says("RUN --security=insecure is not allowed in this build").says("--allow security.insecure");
            assert!(!refused.stderr.contains("touch /x\n["), "nothing has run: {refused}");
            build(&["--allow", "security.insecure", "--on-failure", "report"], text).output().never_says("why: never");
        }
        // The host network needs an entitlement if the build uses another network.
        let host = "FROM busybox\nRUN --network=host true";
        build(&["--network", "none"], host).fails(1).says("--allow network.host");
        build(&["--network", "none", "--allow", "network.host"], host).ok();
        build(&["--allow", "everything"], host)
            .fails(2)
            .says("want network.host, security.insecure, device or device=NAME");
        // A step cached with an entitlement still needs it.
        build(&["--allow", "security.insecure"], forms[0]).ok();
        build(&[], forms[0]).fails(1).says("not allowed");
        env.kiln(&["run", "--privileged", "busybox", "true"]).fails(125);
        env.kiln(&["run", "--security", "insecure", "busybox", "true"]).fails(125);
    }
}

#[test]
fn only_insecure_run_has_all_privileges() {
    //
    requires!(userns, overlay);
    for env in each_user() {
        let caps = "grep -E '^(CapEff|Seccomp):' /proc/self/status | tr -d '\\t' > /said; ls /dev >> /said; \
                    mount -t tmpfs none /mnt 2>/dev/null && echo mounted >> /said; true";
        let text = format!("-- Dockerfile --\nFROM busybox\nRUN --security=insecure {caps}\n");
        env.build(&["-t", "all", "--allow", "security.insecure"], &env.context(&text)).ok();
        env.build(&["-t", "few"], &env.context(&text.replace("--security=insecure ", "--security=sandbox "))).ok();
        let said = |name: &str| String::from_utf8(env.image(name).content("said")).expect("UTF-8");
        let (all, few) = (said("all"), said("few"));
        assert!(few.starts_with("CapEff:00000000a80425fb\nSeccomp:2\n") && !few.contains("mounted"), "{few}");
        assert!(all.contains("Seccomp:0\n") && all.contains("mounted"), "{all}");
        let bits = |said: &str| u64::from_str_radix(&said["CapEff:".len()..][..16], 16).expect("hexadecimal");
        assert_eq!(bits(&all) & 1 << 21, 1 << 21, "CAP_SYS_ADMIN");
        // Host devices exist only in the insecure command.
        for name in ["loop-control", "fuse", "kmsg"].iter().filter(|name| Path::new("/dev").join(name).exists()) {
            assert!(all.lines().any(|line| line == *name) && !few.lines().any(|line| line == *name), "{name}");
        }
    }
}

#[test]
fn working_directory_cannot_be_a_process_descriptor() {
    // S-1
    requires!(userns, overlay);
    for env in each_user() {
        for n in 0..64 {
            let cwd = format!("/proc/self/fd/{n}");
            let done = env.kiln(&["run", "-w", &cwd, "busybox", "sh", "-c", "pwd; ls ../../.."]).output();
            assert!(done.code == 125 && done.stdout.is_empty(), "{done}");
            done.says("working directory");
        }
        for at in
            ["/proc/self/fd/3", "/proc/self/fd/7/../..", "/proc/1/root", "/proc/self/cwd/..", "/proc/thread-self/fd/4"]
        {
            let text = format!("-- Dockerfile --\nFROM busybox\nWORKDIR {at}\nRUN pwd; ls ..; cat etc/shadow\n");
            let done = env.build(&["--progress", "plain"], &env.context(&text)).output();
            assert!(done.code != 0 || done.stderr.contains(&format!("| {at}")), "{done}");
            let shown = done.stderr.lines().filter(|line| line.contains("] |"));
            assert_eq!(shown.filter(|line| line.contains("kiln-it-") || line.contains("root:")).count(), 0, "{done}");
        }
        // The fourth descriptor is the listed directory.
        assert_eq!(env.kiln(&["run", "busybox", "ls", "/proc/self/fd"]).ok().stdout, "0\n1\n2\n3\n");
    }
}

#[test]
fn environment_of_caller_cannot_be_read() {
    // S-15, R-2
    requires!(userns, overlay);
    for env in each_user() {
        let canary = crate::support::canary::text();
        let look = "set; cat /proc/*/environ /proc/*/cmdline /proc/*/task/*/environ | tr '\\0' '\\n'; ps; true";
        let text = format!("-- Dockerfile --\nFROM busybox\nARG NOTHING\nRUN {look}\nRUN [\"env\"]\n");
        let names = ["SSH_AUTH_SOCK", "LD_PRELOAD_X", "GITHUB_TOKEN", "TERM", "AWS_SECRET_ACCESS_KEY"];
        let with =
            |kiln: crate::support::env::Kiln<'_>| names.iter().fold(kiln, |kiln, name| kiln.env(name, &canary)).ok();
        with(env.build(&["--progress", "plain"], &env.context(&text))).says("PATH=").never_says(&canary);
        with(env.kiln(&["run", "busybox", "sh", "-c", look])).says("PATH=").never_says(&canary);
    }
}

#[test]
fn commands_cannot_change_lower_layers() {
    // S-78
    requires!(userns, overlay);
    for env in each_user() {
        let text = "-- Dockerfile --\nFROM busybox AS one\nRUN mkdir /d && echo one > /d/f && ln /d/f /d/g\n\
                    FROM one\nRUN echo two > /d/f; chmod 0 /d; rm -rf /bin/true; mv /d /e; ln -sf / /etc/passwd\n\
                    FROM one\nRUN cat /d/f /d/g > /seen; stat -c %a /d >> /seen; ls /bin/true >> /seen\n\
                    COPY --from=1 /e/g /g\n";
        env.build(&["-t", "app", "--no-cache"], &env.context(text)).ok();
        assert_eq!(env.image("app").content("seen"), b"one\none\n755\n/bin/true\n");
        assert!(!env.image("app").tree().has("e"));
        // Neither the store nor other layers can be found.
        let look = "find / -xdev -name blobs -o -name index.json -o -name oci-layout | grep -v ^/proc; \
                    grep -c -E 'kiln-it|/store/' /proc/self/mountinfo";
        assert_eq!(env.kiln(&["run", "busybox", "sh", "-c", look]).fails(1).stdout, "0\n");
    }
}
