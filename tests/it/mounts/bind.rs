//! Test `RUN --mount=type=bind`: sources, targets and write access.

use std::fs;

use super::{built, context, last_layer, refused};
use crate::support::TestEnv;
use crate::support::env::each_user;

const FILES: &str = "
-- .dockerignore --
hidden
-- hidden --
no
-- file --
of the context
-- dir/inner --
inner
-- dir/link -> /file --
";

#[test]
fn mount_defaults_to_read_only_bind_of_context() {
    // M-1, M-3, M-4, M-5
    requires!(userns, overlay);
    for env in each_user() {
        let lines = "
WORKDIR /w
RUN --mount=target=here cat here/file here/dir/inner && test ! -e here/hidden && test -d /w/here
RUN --mount=type=bind,dst=/m (echo no > /m/new) 2>&1 | grep Read-only && test ! -e /m/new
RUN --mount=destination=/m/f,src=file test -f /m/f && test \"$(cat /m/f)\" = 'of the context'
RUN --mount=target=/m,source=/dir/../dir test \"$(ls /m)\" = \"$(printf 'inner\\nlink')\"
RUN --mount=target=/m,source=dir/link test \"$(cat /m)\" = 'of the context'
RUN test ! -e /w/here && test ! -e /m";
        let dir = context(&env, lines, FILES);
        env.build(&["-t", "app"], &dir).ok();
        let tree = env.image("app").tree();
        assert!(!tree.has("w/here") && !tree.has("m"), "{tree}");
        let missing = context(&env, "RUN --mount=target=/m,source=nothing true", FILES);
        env.build(&[], &missing).fails(1).says("nothing").says("Dockerfile:2");
        env.assert_swept();
    }
}

#[test]
fn mount_from_accepts_stage_image_or_context() {
    // M-4
    requires!(userns, overlay);
    for env in each_user() {
        env.build(&["-t", "other"], &context(&env, "RUN echo of an image > /file", "")).ok();
        let named = env.context("-- file --\nof a context\n");
        let lines = "
RUN echo first > /file && mkdir /dir && echo deep > /dir/file
FROM busybox AS second
RUN --mount=from=first,target=/m cat /m/file /m/dir/file && test -x /m/bin/busybox
RUN --mount=from=first,target=/m,source=dir test \"$(cat /m/file)\" = deep
RUN --mount=from=other,source=/file,target=/m test \"$(cat /m)\" = 'of an image'
RUN --mount=from=named,target=/m test \"$(cat /m/file)\" = 'of a context'
RUN --mount=from=scratch,target=/m test -z \"$(ls -A /m)\" && ! touch /m/x
RUN --mount=from=scratch,target=/m,rw touch /m/x
RUN test ! -e /m";
        let dir = env.context(&format!("-- Dockerfile --\nFROM busybox AS first{lines}\n"));
        let named = format!("named={}", named.display());
        env.build(&["-t", "app", "--build-context", &named], &dir).ok();
        // A changed source stage reruns the command that mounts it.
        fs::write(
            dir.join("Dockerfile"),
            fs::read_to_string(dir.join("Dockerfile")).expect("read").replace("echo deep", "echo  deep"),
        )
        .expect("write");
        let again = env.build(&["-t", "app", "--build-context", &named], &dir).ok();
        assert!(!again.progress().ran().is_empty(), "{again}");
        let later = "FROM busybox AS first\nRUN --mount=from=later,target=/m true\nFROM busybox AS later\nFROM first";
        let later = env.context(&format!("-- Dockerfile --\n{later}\n"));
        env.build(&[], &later).fails(1).says("stage `later` must be defined before this stage");
        // A number names an image, not a stage, and variables are not expanded.
        env.kiln(&["tag", "busybox", "0"]).ok();
        let first = "FROM busybox\nRUN touch /of-the-stage\nFROM busybox\n";
        let by = |from: &str| {
            let run = format!("RUN --mount=from={from},target=/m test -x /m/bin/busybox && test ! -e /m/of-the-stage");
            env.build(&[], &env.context(&format!("-- Dockerfile --\nARG B=0\n{first}ARG B\n{run}\n")))
        };
        by("0").ok();
        for variable in ["$B", "${B}", "x$B"] {
            by(variable).fails(1).says("is not expanded");
        }
    }
}

#[test]
fn writes_to_bind_mount_are_discarded_after_command() {
    // M-5
    requires!(userns, overlay);
    for env in each_user() {
        let change = "echo new > /m/file && rm -r /m/dir && echo more > /m/more && cat /m/file";
        for flag in ["rw", "readwrite", "rw=true", "ro=false", "readonly=false"] {
            let lines = format!(
                "RUN --mount=target=/m,{flag} {change} && test ! -e /m/hidden\n\
                 RUN --mount=target=/m grep context /m/file && test -e /m/dir/inner && test ! -e /m/more"
            );
            let dir = context(&env, &lines, FILES);
            env.build(&["-t", "app"], &dir).ok();
            assert_eq!(fs::read_to_string(dir.join("file")).expect("read"), "of the context\n", "{flag}");
            assert!(dir.join("dir/inner").exists() && !dir.join("more").exists(), "{flag}");
            assert_eq!(last_layer(&env), [""; 0], "{flag}");
        }
        for flag in ["ro", "readonly", "rw=false", "readwrite=false"] {
            let dir = context(&env, &format!("RUN --mount=target=/m,{flag} ! touch /m/file"), FILES);
            env.build(&[], &dir).ok();
        }
        let dir = env.context(&format!(
            "-- Dockerfile --\nFROM busybox AS first\nRUN echo old > /file && mkdir /dir\n\
             FROM busybox AS writer\nRUN --mount=from=first,target=/m,rw {change}\n\
             FROM first\nCOPY --from=writer /etc/passwd /after\n\
             RUN --mount=from=first,target=/m test \"$(cat /file /m/file)\" = \"$(printf 'old\\nold')\" && \
             test -d /dir && test ! -e /more && test ! -e /m/more\n"
        ));
        env.build(&[], &dir).ok();
        env.assert_swept();
    }
}

#[test]
fn mount_targets_leave_no_trace_in_layer() {
    // M-2
    requires!(userns, overlay);
    for env in each_user() {
        built(
            &env,
            &[],
            "RUN mkdir -p /old/dir && touch -d @1000000 /old\nWORKDIR /w\n\
             RUN --mount=type=tmpfs,target=/old/made/deep --mount=type=tmpfs,target=rel/x stat -c %Y /old > /when && \
             touch /old/made/deep/f /w/rel/x/f",
        );
        assert_eq!(env.image("app").content("when"), b"1000000\n");
        assert_eq!(last_layer(&env), ["when"]);
        // Files that the command creates next to the mount are in the layer.
        built(&env, &[], "RUN --mount=type=tmpfs,target=/new/mount echo x > /new/file");
        assert_eq!(last_layer(&env), ["new", "new/file"]);
        // A parent replaced by a symlink does not lead the cleanup out of the root (S-3).
        let host = env.dir().join("host/b");
        fs::create_dir_all(&host).expect("create");
        let up = env.dir().join("host").display().to_string();
        built(&env, &[], &format!("RUN --mount=type=tmpfs,target=/a/b mv /a /moved; ln -sfn {up} /a; ls -ld /a"));
        assert!(host.is_dir(), "the cleanup left the root");
        for target in ["/", "/.", "/w/.."] {
            refused(&env, 1, &format!("RUN --mount=type=tmpfs,target={target} true")).says("a mount cannot cover `/`");
        }
        refused(&env, 1, "RUN --mount=type=tmpfs true").says("a mount needs a target");
    }
}

#[test]
fn mount_source_symlinks_do_not_escape() {
    // S-18
    requires!(userns, overlay);
    for env in each_user() {
        let host = env.dir().join("host");
        fs::create_dir(&host).expect("create");
        fs::write(host.join("canary"), "of the host\n").expect("write");
        let out = host.display();
        let up = format!("../../../../../../../../..{out}");
        // Symlinks are followed inside the stage.
        let stage = format!(
            "RUN mkdir -p .{out} /d && echo inside > .{out}/canary && ln -s / /root-link && ln -s .. /d/up && \
             ln -s {out} /abs && ln -s {up} /rel && ln -s /proc/1/root /magic && ln -s /proc/self/cwd /cwd"
        );
        for (source, look) in [
            ("/root-link", format!("/m{out}/canary")),
            ("/d/up", format!("/m{out}/canary")),
            ("/d/../..", format!("/m{out}/canary")),
            ("/abs", "/m/canary".to_owned()),
            ("/rel", "/m/canary".to_owned()),
            ("/root-link/rel/../../../../abs/canary", "/m".to_owned()),
        ] {
            for mode in ["ro", "rw"] {
                let write = if mode == "rw" { format!(" && echo w > {look}") } else { String::new() };
                let dir = env.context(&format!(
                    "-- Dockerfile --\nFROM busybox AS x\n{stage}\nFROM busybox\n\
                     RUN --mount=type=bind,from=x,source={source},target=/m,{mode} cat {look}{write}\n"
                ));
                env.build(&["--progress", "plain"], &dir).ok().says("| inside").never_says("of the host");
            }
        }
        for source in ["/magic", "/magic/etc", "/cwd"] {
            let dir = env.context(&format!(
                "-- Dockerfile --\nFROM busybox AS x\n{stage}\nFROM busybox\n\
                 RUN --mount=from=x,source={source},target=/m ls /m\n"
            ));
            env.build(&["--progress", "plain"], &dir).fails(1).says(source.trim_start_matches('/'));
        }
        // Symlinks in the context.
        let files = format!("-- abs -> {out} --\n-- up -> {up} --\n-- root -> / --\n-- proc -> /proc/self/root --\n");
        for source in ["abs", "up", "root/abs", "proc", "abs/canary"] {
            let dir = context(&env, &format!("RUN --mount=target=/m,source={source} cat /m /m/canary"), &files);
            env.build(&["--progress", "plain"], &dir).fails(1).never_says("of the host");
        }
        let dir =
            context(&env, "RUN --mount=target=/m,source=root,rw test -e /m/Dockerfile && test ! -e /m/etc", &files);
        env.build(&[], &dir).ok();
        assert_eq!(fs::read_to_string(host.join("canary")).expect("read"), "of the host\n");
        env.assert_swept();
    }
}

#[test]
fn mount_options_of_other_builders_are_refused() {
    // S-20
    let env = TestEnv::new();
    for option in ["bind-propagation=rshared", "bind-propagation=rshared,exec", "relabel=shared", "nosuid", "Z", "U"] {
        let done = refused(&env, 1, &format!("RUN --mount=type=bind,target=/m,{option} true"));
        done.says(option.split(['=', ',']).next().expect("a word"));
    }
}
