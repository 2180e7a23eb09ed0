//! Test mount sources that are swapped for a symlink to a host directory while they are mounted.

use std::fs;
use std::os::unix::fs::symlink;

use super::context;
use crate::sandbox::{put_probe, swapping};
use crate::support::env::each_user;

#[test]
fn swapped_context_directory_does_not_escape() {
    // S-23
    requires!(userns, overlay);
    for env in each_user() {
        let host = env.dir().join("host");
        fs::create_dir(&host).expect("create");
        fs::write(host.join("f"), "of the host\n").expect("write");
        let mounts: String = (0..50).map(|n| format!("--mount=target=/m{n},source=sub ")).collect();
        let lines = format!("RUN {mounts}cat /m*/f | sort | uniq -c");
        let dir = context(&env, &lines, "-- sub/f --\ninside\n");
        symlink(&host, dir.join("link")).expect("link");
        let mut seen = 0;
        let swaps = swapping(&dir.join("sub"), &dir.join("link"), || {
            for _ in 0..20 {
                let done = env.build(&["--no-cache", "--progress", "plain"], &dir).output();
                done.never_says("of the host");
                seen += usize::from(done.code == 0);
            }
        });
        assert!(swaps > 2000, "only {swaps} swaps in {seen} builds");
        env.assert_swept();
    }
}

#[test]
fn swapped_cache_directory_does_not_escape() {
    // S-2, S-23, M-8
    requires!(userns, overlay, cc);
    for env in each_user() {
        let host = env.dir().join("host");
        fs::create_dir(&host).expect("create");
        fs::write(host.join("f"), "of the host\n").expect("write");
        // One stage keeps swapping a directory of the cache with a symlink; the other mounts that directory again and
        // again, until it meets the symlink.
        let uses: String =
            (0..8).map(|n| format!("RUN --mount=type=cache,id=c,source=sub,target=/m cat /m/f; : {n}\n")).collect();
        let text = format!(
            "-- Dockerfile --
FROM busybox AS one
COPY probe /bin/probe
RUN --mount=type=cache,id=c,target=/c rm -rf /c/stop; mkdir -p /c/sub && echo inside > /c/sub/f; \
    ln -sfn {out} /c/link; timeout 3 probe swap /c/sub /c/link; touch /one
FROM busybox AS two
RUN --mount=type=cache,id=c,target=/c n=0; until [ -e /c/sub ] || [ $n -gt 200 ]; do sleep 0.02; n=$((n+1)); done
{uses}RUN touch /two
FROM busybox
COPY --from=two /two /
COPY --from=one /one /
",
            out = host.display()
        );
        let (mut mounted, mut refused) = (0, 0);
        for _ in 0..6 {
            let dir = env.context(&text);
            put_probe(&dir.join("probe"));
            let done = env.build(&["--no-cache", "--progress", "plain", "--jobs", "4"], &dir).output();
            done.never_says("of the host");
            mounted += done.stderr.matches("| inside").count();
            refused += usize::from(done.stderr.contains("symbolic link"));
            remove_caches(&env);
        }
        assert!(refused > 0 && mounted + refused > 3, "{mounted} mounted, {refused} refused");
        env.assert_swept();
    }
}

/// Removes all cache mounts.
fn remove_caches(env: &crate::support::TestEnv) {
    env.kiln(&["cache", "mounts", "rm", "--all"]).ok();
}
