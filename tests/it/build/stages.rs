//! Test which stages run, and in which order.

use std::time::Duration;

use serde_json::json;

use crate::support::TestEnv;

#[test]
fn stages_not_needed_by_target_do_not_run() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM no.such.host/nothing AS unreachable
COPY missing /
FROM busybox AS broken
RUN false
FROM busybox AS used
RUN echo used > /used
FROM busybox
COPY --from=used /used /
FROM broken AS after
",
    );
    let done = env.build(&["-t", "app", "--target", "3"], &context).ok();
    done.never_says("unreachable").never_says("broken");
    assert_eq!(env.image("app").content("used"), b"used\n");
    env.build(&["--target", "broken"], &context).fails(1);
    env.build(&["--target", "used", "-t", "used"], &context).ok();
    assert_eq!(env.image("used").layers.len(), env.image("busybox").layers.len() + 1);
}

#[test]
fn independent_stages_run_in_parallel() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    // Each waits for the other, so that running them one after the other fails.
    let context = env.context(
        "
-- Dockerfile --
FROM busybox AS left
RUN --mount=type=cache,target=/meet echo left > /meet/left; for i in $(seq 300); do [ -e /meet/right ] && exit 0; sleep 0.1; done; exit 7
FROM busybox AS right
RUN --mount=type=cache,target=/meet echo right > /meet/right; for i in $(seq 300); do [ -e /meet/left ] && exit 0; sleep 0.1; done; exit 8
FROM busybox
COPY --from=left /etc/group /left
COPY --from=right /etc/group /right
",
    );
    env.build(&["-t", "app"], &context).ok();
}

#[test]
fn failing_stage_stops_others_and_is_reported() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM busybox AS slow
RUN sleep 300
FROM busybox AS wrong
RUN echo the reason >&2; exit 9
FROM busybox
COPY --from=slow /bin/sh /a
COPY --from=wrong /bin/sh /b
",
    );
    let done = env.build(&["-t", "app"], &context).fails(1);
    assert!(done.took < Duration::from_secs(120), "the slow stage was not stopped\n{done}");
    done.says("the reason").says("exited with status 9").says("Dockerfile:4");
    env.assert_swept();
}

#[test]
fn stage_continues_from_earlier_stage() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM busybox AS one
ENV A=1
WORKDIR /one
USER 1000
RUN id -u > /tmp/who
FROM one AS two
ENV B=2
RUN echo $A $B $PWD $(id -u) > /tmp/all
FROM two
USER root
RUN rm /tmp/who
",
    );
    env.build(&["-t", "app"], &context).ok();
    let image = env.image("app");
    assert_eq!(image.content("tmp/all"), b"1 2 /one 1000\n");
    assert_eq!(image.config["config"]["User"], "root");
    assert_eq!(image.config["config"]["WorkingDir"], "/one");
    let env_of = image.config["config"]["Env"].as_array().expect("Env");
    assert!(env_of.contains(&json!("A=1")) && env_of.contains(&json!("B=2")), "{env_of:?}");
    assert!(!image.tree().has("tmp/who"));
    assert_eq!(image.tree()["tmp/all"].uid, 1000);
}
