//! Test every instruction in a real build: its effect on files, on commands and on the config.

use serde_json::json;

use crate::support::TestEnv;

#[test]
fn metadata_instructions_are_in_config() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        r#"
-- Dockerfile --
FROM busybox
MAINTAINER Some One <one@example.org>
ARG WHO=world
ENV GREETING="hello $WHO" LEGACY=1
ENV old style with blanks
LABEL org.example.a="b c" "quoted key"=v
EXPOSE 443 80/udp 8000-8002
VOLUME /data /more
VOLUME ["/json"]
WORKDIR /srv
WORKDIR app
USER app:extra
SHELL ["/bin/sh", "-ec"]
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=3s --retries=2 CMD wget -q -O /dev/null http://127.0.0.1/
ONBUILD RUN echo triggered
ENTRYPOINT ["env"]
CMD echo "$GREETING"
"#,
    );
    env.build(&["-t", "app"], &context).ok();
    let image = env.image("app");
    assert_eq!(image.config["author"], "Some One <one@example.org>");
    let config = &image.config["config"];
    let env_of = config["Env"].as_array().expect("Env");
    for want in ["GREETING=hello world", "LEGACY=1", "old=style with blanks"] {
        assert!(env_of.contains(&json!(want)), "{want}: {env_of:?}");
    }
    assert_eq!(config["Labels"], json!({"org.example.a": "b c", "quoted key": "v"}));
    assert_eq!(
        config["ExposedPorts"],
        json!({"443/tcp": {}, "80/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}})
    );
    let volumes = config["Volumes"].as_object().expect("Volumes");
    assert!(["/data", "/more", "/json"].iter().all(|v| volumes.contains_key(*v)), "{volumes:?}");
    assert_eq!(config["WorkingDir"], "/srv/app");
    assert_eq!(config["User"], "app:extra");
    assert_eq!(config["Shell"], json!(["/bin/sh", "-ec"]));
    assert_eq!(config["StopSignal"], "SIGQUIT");
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"]));
    assert_eq!(config["Healthcheck"]["Interval"], 30_000_000_000_u64);
    assert_eq!(config["Healthcheck"]["Retries"], 2);
    assert_eq!(config["OnBuild"], json!(["RUN echo triggered"]));
    assert_eq!(config["Entrypoint"], json!(["env"]));
    assert_eq!(config["Cmd"], json!(["/bin/sh", "-ec", "echo \"$GREETING\""]));
}

#[test]
fn onbuild_triggers_run_once_in_child_build() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let parent = env.context(
        "
-- Dockerfile --
FROM busybox
WORKDIR /app
ONBUILD COPY config .
ONBUILD RUN cat config > seen
ONBUILD ENV BUILT=yes
",
    );
    env.build(&["-t", "parent"], &parent).ok();
    assert!(!env.image("parent").tree().has("app/seen"));
    let child = env.context("-- Dockerfile --\nFROM parent\nRUN echo $BUILT > built\n-- config --\nvalue\n");
    env.build(&["-t", "child"], &child).ok();
    let image = env.image("child");
    assert_eq!(image.content("app/seen"), b"value\n");
    assert_eq!(image.content("app/built"), b"yes\n");
    assert!(image.config["config"]["OnBuild"].as_array().is_none_or(Vec::is_empty), "{:#}", image.config);
}

#[test]
fn run_supports_shell_exec_and_heredoc_forms() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        r#"
-- Dockerfile --
FROM busybox
RUN echo "shell $0" > /shell && \
    echo more >> /shell
RUN ["/bin/busybox", "touch", "/exec $HOME"]
RUN <<EOF
echo one > /here
echo two >> /here
EOF
SHELL ["/bin/busybox", "ash", "-c"]
RUN echo "$0" > /other
"#,
    );
    env.build(&["-t", "app"], &context).ok();
    let image = env.image("app");
    assert_eq!(image.content("shell"), b"shell /bin/sh\nmore\n");
    assert!(image.tree().has("exec $HOME"), "the exec form expands nothing");
    assert_eq!(image.content("here"), b"one\ntwo\n");
    assert!(String::from_utf8_lossy(&image.content("other")).contains("ash"));
}

#[test]
fn copy_and_add_place_files_with_mode_and_owner() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM busybox
COPY a.txt /renamed
COPY a.txt b.txt /dir/
COPY tree /flat
COPY --chown=app:extra --chmod=0750 tree/run.sh /bin/
COPY --chown=7:8 tree /owned
COPY *.txt /glob/
COPY <<EOF /inline
text
EOF
ADD files.tar.gz /unpacked/
ADD a.txt /added
WORKDIR /made/here
COPY a.txt .
-- a.txt --
a
-- b.txt 0600 --
b
-- tree/run.sh 0755 --
run
-- tree/sub/link -> ../run.sh --
-- tree/empty/ 0711 --
",
    );
    let tar = std::process::Command::new("tar")
        .args(["-C", context.to_str().expect("UTF-8"), "--owner=12", "--group=34", "-czf"])
        .arg(context.join("files.tar.gz"))
        .args(["tree", "a.txt"])
        .status()
        .expect("run tar");
    assert!(tar.success());
    env.build(&["-t", "app"], &context).ok();
    let image = env.image("app");
    let tree = image.tree();
    assert_eq!(image.content("renamed"), b"a\n");
    assert_eq!((tree["dir/a.txt"].mode, tree["dir/b.txt"].mode, tree["dir/b.txt"].uid), (0o644, 0o600, 0));
    assert_eq!(tree["flat/sub/link"].link, "../run.sh");
    assert_eq!((tree["flat/empty"].kind, tree["flat/empty"].mode), ("dir", 0o711));
    let script = &tree["bin/run.sh"];
    assert_eq!((script.mode, script.uid, script.gid), (0o750, 1000, 1500), "C-16, C-17");
    for path in ["owned", "owned/run.sh", "owned/sub", "owned/sub/link", "owned/empty"] {
        assert_eq!((tree[path].uid, tree[path].gid), (7, 8), "{path}");
    }
    assert!(tree.has("glob/a.txt") && tree.has("glob/b.txt") && !tree.has("glob/tree"));
    assert_eq!(image.content("inline"), b"text\n");
    assert_eq!((tree["unpacked/tree/run.sh"].uid, tree["unpacked/tree/run.sh"].gid), (12, 34), "C-26");
    assert_eq!(image.content("added"), b"a\n");
    assert_eq!(image.content("made/here/a.txt"), b"a\n");
    assert!(image.tree()["bin"].kind == "dir" && tree.has("bin/busybox"), "the target directory keeps what it had");
}

#[test]
fn user_gets_supplementary_groups_and_clean_environment() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context(
        "
-- Dockerfile --
FROM busybox
ENV ONLY=this
USER app
WORKDIR /home/app
RUN id > who; env | sort > environment; ls -l /proc/self/fd | grep -c ' -> ' > fds; pwd > where
",
    );
    env.build(&["-t", "app"], &context).env("LEAK", "from outside").ok();
    let image = env.image("app");
    let text = |path: &str| String::from_utf8(image.content(path)).expect("UTF-8");
    assert_eq!(text("home/app/who"), "uid=1000(app) gid=1000(app) groups=29(audio),1000(app),1500(extra)\n");
    assert_eq!(text("home/app/where"), "/home/app\n");
    let environment = text("home/app/environment");
    assert!(environment.contains("ONLY=this\n") && environment.contains("HOME=/home/app\n"), "{environment}");
    assert!(!environment.contains("LEAK") && !environment.contains("KILN"), "{environment}");
    assert_eq!(text("home/app/fds"), "3\n", "stdin, stdout and stderr");
    assert_eq!(image.tree()["home/app/who"].uid, 1000);
}

#[test]
fn scratch_image_holds_only_copied_files() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY f /\nLABEL a=b\n-- f --\nx\n");
    env.build(&["-t", "app"], &context).ok();
    let image = env.image("app");
    assert_eq!((image.layers.len(), image.layer_tree(0).names()), (1, vec!["f"]));
    image.skopeo_check();
}
