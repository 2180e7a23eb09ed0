//! Test `RUN --mount=type=secret`: a secret is visible to one command and stored nowhere, however the build ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{built, context, last_layer, refused};
use crate::support::env::each_user;
use crate::support::{TestEnv, canary};

#[test]
fn secret_file_is_readable_by_its_owner_only() {
    // M-12, M-13, M-16
    requires!(userns, overlay);
    for env in each_user() {
        fs::write(env.dir().join("file"), "hush").expect("write");
        let file = format!("id=f,src={}", env.dir().join("file").display());
        let lines = "
RUN --mount=type=secret,id=f test \"$(stat -c '%a %u %g %s' /run/secrets/f)\" = '400 0 0 4' && \
    test \"$(cat /run/secrets/f)\" = hush && ! (echo x > /run/secrets/f)
RUN --mount=type=secret,target=/deep/er/f test \"$(cat /deep/er/f)\" = hush && ls -lR /deep > /listing
RUN --mount=type=secret,source=f,target=/x test \"$(cat /x)\" = hush
RUN --mount=type=secret,id=f,target=/x,mode=0440,uid=1000,gid=1500 test \"$(stat -c '%a %u %g' /x)\" = '440 1000 1500'
RUN test ! -e /run/secrets/f && test ! -e /deep && test ! -e /x
USER app
RUN --mount=type=secret,id=f ! cat /run/secrets/f
RUN --mount=type=secret,id=f,uid=1000 test \"$(cat /run/secrets/f)\" = hush
RUN --mount=type=secret,id=f,mode=0444 test \"$(cat /run/secrets/f)\" = hush";
        built(&env, &["--secret", &file], lines);
        let tree = env.image("app").tree();
        assert!(!tree.has("run/secrets") && !tree.has("deep") && !tree.has("x"), "{tree}");
        env.assert_swept();
    }
}

#[test]
fn secret_variable_is_in_no_file() {
    // M-14
    requires!(userns, overlay);
    for env in each_user() {
        let lines = "
ENV TOKEN=image
RUN --mount=type=secret,id=t,env=TOKEN test \"$TOKEN\" = \"$(printf hu; printf sh)\" && test ! -e /run/secrets
RUN --mount=type=secret,id=t,env=TOKEN,target=/both test \"$TOKEN\" = \"$(cat /both)\"
RUN --mount=type=secret,id=none,env=TOKEN test -z \"$TOKEN\"
RUN test \"$TOKEN\" = image";
        let done = env.build(&["-t", "app", "--secret", "id=t,env=T"], &context(&env, lines, "")).env("T", "hush").ok();
        done.never_says("hush");
        let image = env.image("app");
        assert!(!image.config.to_string().contains("hush"));
        assert_eq!(last_layer(&env), [""; 0]);
    }
}

#[test]
fn missing_secret_fails_only_if_required() {
    // M-15
    requires!(userns, overlay);
    for env in each_user() {
        built(&env, &[], "RUN --mount=type=secret,id=a,target=/x --mount=type=secret,id=b,required=false test ! -e /x");
        for required in ["required", "required=true"] {
            let done = refused(&env, 1, &format!("RUN --mount=type=secret,id=tok,{required} true"));
            done.says("\"tok\"").says("--secret id=tok,src=FILE").says("Dockerfile:2");
        }
        built(&env, &["--secret", "id=tok,src=/etc/hostname"], "RUN --mount=type=secret,id=tok,required true");
    }
}

#[test]
fn missing_required_secret_fails_before_anything_runs() {
    // M-15
    requires!(userns, overlay);
    for env in each_user() {
        let needs = "RUN --mount=type=secret,id=tok,required echo with";
        let text = |first: &str| {
            format!(
                "-- Dockerfile --
FROM busybox AS unused
RUN --mount=type=secret,id=other,required true
FROM busybox AS made
RUN {first}
FROM busybox
RUN echo made here
COPY --from=made /made /
{needs}
"
            )
        };
        let dir = env.context(&text("echo made first; echo same > /made"));
        let done = env.build(&["-t", "app"], &dir).fails(1);
        done.says("secret \"tok\" is required").says("Dockerfile:8").never_says("made first").never_says("made here");
        let given = ["-t", "app", "--secret", "id=tok,env=T"];
        env.build(&given, &dir).env("T", "hush").ok();
        // A cached step needs no secret, also if the hit is found only after its sources are built.
        env.build(&["-t", "app"], &dir).ok();
        env.add(&dir, &text("echo made second; echo same > /made; touch -d @1 /made"));
        env.build(&given, &dir).env("T", "hush").ok();
        env.add(&dir, &text("echo made third; echo same > /made; touch -d @1 /made"));
        let done = env.build(&["-t", "app"], &dir).ok();
        assert_eq!(done.progress().ran().len(), 1, "{done}");
        let cold = env.build(&["-t", "app", "--no-cache"], &dir).fails(1);
        cold.never_says("made third").says("pass --secret id=tok,src=FILE");
        env.assert_swept();
    }
}

#[test]
fn secret_is_passed_exactly_up_to_size_limit() {
    // S-118, M-12
    requires!(userns, overlay);
    for env in each_user() {
        let given = |bytes: &[u8]| {
            let path = env.dir().join("bytes");
            fs::write(&path, bytes).expect("write");
            format!("id=b,src={}", path.display())
        };
        let binary: Vec<u8> = (0..=255).chain(*b"\0\r\n\n").collect();
        for bytes in [&b""[..], b"no newline", b"newline\n", b"two\n\n", &binary, &vec![b'x'; 500 << 10]] {
            let sum = crate::support::image::sha256(bytes);
            let line = format!("RUN --mount=type=secret,id=b echo '{sum}  /run/secrets/b' | sha256sum -c");
            built(&env, &["--secret", &given(bytes)], &line);
        }
        let dir = context(&env, "RUN --mount=type=secret,id=b true", "");
        let done = env.build(&["--secret", &given(&vec![b'x'; (500 << 10) + 1])], &dir).output();
        assert!(matches!(done.code, 1 | 2), "{done}");
        done.says("500 KiB");
    }
}

#[test]
fn secret_id_is_in_key_and_value_is_not() {
    // S-117
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let build = |id: &str, value: &str| {
        let dir = context(&env, &format!("RUN --mount=type=secret,id={id},target=/x cat /x | wc -c"), "");
        env.build(&["--secret", &format!("id={id},env=V")], &dir).env("V", value).ok()
    };
    build("a", "one");
    build("a", "another").says("CACHED [2/2]");
    assert!(!build("b", "one").progress().ran().is_empty());
}

/// A Dockerfile that uses a secret in every way and ends with the command `last`.
fn user(last: &str) -> String {
    format!(
        "ENV KEPT=x
RUN --mount=type=secret,id=f --mount=type=secret,id=e,env=TOKEN test $(cat /run/secrets/f) = $TOKEN && \
    ls -lR /run/secrets > /listing && cp /run/secrets/f /dev/shm/copy
RUN --mount=type=secret,id=f,target=/etc/deep/f --mount=type=tmpfs,target=/t --mount=type=cache,target=/c \
    cp /etc/deep/f /t/f && test -s /t/f
RUN ! env | grep TOKEN && test ! -e /dev/shm/copy
RUN --mount=type=secret,id=f --mount=type=secret,id=e,env=TOKEN test -s /run/secrets/f && echo running && {last}"
    )
}

/// Files in the directory of the test that contain the secret, except its source file.
fn leaks(env: &TestEnv, secret: &str) -> Vec<PathBuf> {
    let given = env.dir().join("given");
    canary::leaks(env.dir(), secret).into_iter().filter(|path| *path != given).collect()
}

fn arguments(env: &TestEnv, secret: &str) -> [String; 2] {
    fs::write(env.dir().join("given"), secret).expect("write");
    [format!("id=f,src={}", env.dir().join("given").display()), "id=e,env=E".to_owned()]
}

#[test]
fn secret_is_not_left_behind_by_finished_build() {
    // S-110, S-111
    requires!(userns, overlay);
    for env in each_user() {
        let secret = canary::text();
        let [file, variable] = arguments(&env, &secret);
        for (progress, last, code) in
            [("plain", "true", 0), ("json", "true", 0), ("plain", "exit 3", 1), ("json", "nosuch", 1)]
        {
            let out = env.dir().join("out.tar").display().to_string();
            let line = [
                "-t",
                "app",
                "--no-cache",
                "--progress",
                progress,
                "--secret",
                &file,
                "--secret",
                &variable,
                "--metadata-file",
                "metadata.json",
                "--iidfile",
                "iid",
                "-o",
                &format!("type=oci,dest={out}"),
            ];
            let done = env.build(&line, &context(&env, &user(last), "")).env("E", &secret).fails(code);
            done.never_says(&secret);
            assert_eq!(leaks(&env, &secret), [""; 0].map(PathBuf::from), "{progress} {last}");
        }
        // Later commands do not show it either.
        for line in [&["history", "app"][..], &["inspect", "app"], &["cache", "mounts", "ls"]] {
            env.kiln(line).output().never_says(&secret);
        }
        env.assert_swept();
    }
}

#[test]
fn secret_is_not_left_behind_by_killed_build() {
    // S-110, S-112
    requires!(userns, overlay);
    for env in each_user() {
        for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
            let secret = canary::text();
            let [file, variable] = arguments(&env, &secret);
            let line = ["-t", "app", "--no-cache", "--progress", "plain", "--secret", &file, "--secret", &variable];
            let mut build = env.build(&line, &context(&env, &user("sleep 3600"), "")).env("E", &secret).spawn();
            let mut said = BufReader::new(build.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
            let mut log: Vec<String> = said.by_ref().take_while(|line| !line.contains("| running")).collect();
            // While it runs, the secret is in no command line and in no file.
            for process in fs::read_dir("/proc").expect("list /proc").flatten() {
                let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&line).contains(&secret), "{:?}", process.path());
            }
            assert_eq!(leaks(&env, &secret), [""; 0].map(PathBuf::from), "while it runs");
            kill(Pid::from_raw(i32::try_from(build.id()).expect("a pid")), signal).expect("signal");
            log.extend(said);
            let status = build.wait().expect("wait");
            assert!(!status.success() && !log.iter().any(|line| line.contains(&secret)), "{log:?}");
            let began = Instant::now();
            while !leaks(&env, &secret).is_empty() {
                assert!(began.elapsed() < Duration::from_secs(1), "after {signal}: {:?}", leaks(&env, &secret));
            }
            built(&env, &[], "RUN true");
            assert_eq!(leaks(&env, &secret), [""; 0].map(PathBuf::from), "after the next build");
        }
        env.assert_swept();
    }
}

#[test]
fn secret_is_invisible_to_concurrent_stage() {
    // S-77, S-111
    requires!(userns, overlay);
    for env in each_user() {
        let secret = canary::text();
        let [file, variable] = arguments(&env, &secret);
        let text = "
-- Dockerfile --
FROM busybox AS one
RUN --mount=type=cache,id=meet,target=/c --mount=type=secret,id=f --mount=type=secret,id=e,env=TOKEN \
    touch /c/one; cp /run/secrets/f /dev/shm/f; cp /run/secrets/f /tmp/f; \
    while [ ! -e /c/looked ]; do sleep 0.05; done; rm /tmp/f
FROM busybox AS two
RUN --mount=type=cache,id=meet,target=/c while [ ! -e /c/one ]; do sleep 0.05; done; \
    (cat /proc/*/environ /proc/*/cmdline; cat /proc/*/root/run/secrets/f; cat /dev/shm/f /tmp/f; env; \
    ps; ls -l /run/secrets) > /seen 2>&1; touch /c/looked
FROM busybox
COPY --from=one /etc/passwd /one
COPY --from=two /seen /seen
";
        let dir = env.context(text);
        let line = ["-t", "app", "--jobs", "4", "--secret", &file, "--secret", &variable];
        env.build(&line, &dir).env("E", &secret).ok();
        let seen = String::from_utf8_lossy(&env.image("app").content("seen")).into_owned();
        assert!(!seen.contains(&secret) && seen.contains("PATH="), "{seen}");
    }
}

#[test]
fn missing_optional_secret_leaves_an_empty_variable() {
    // N-32
    requires!(userns, overlay);
    for env in each_user() {
        let empty = "test \"${TOKEN+set}\" = set && test -z \"$TOKEN\"";
        let lines = [
            format!("RUN --mount=type=secret,id=t,env=TOKEN {empty}"),
            format!("RUN --mount=type=secret,id=t,env=TOKEN,required=false {empty}"),
            format!("RUN --mount=type=secret,id=t,env=TOKEN,target=/t {empty} && test ! -e /t"),
            format!("ENV TOKEN=image\nRUN --mount=type=secret,id=t,env=TOKEN {empty}"),
            "RUN test \"$TOKEN\" = image".to_owned(),
        ];
        built(&env, &[], &lines.join("\n"));
        refused(&env, 1, "RUN --mount=type=secret,id=t,env=TOKEN,required true").says("secret");
    }
}
