//! Test the effect of options that no other test covers (N-8): each changes the result or is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sandbox::groups::{CPU, MEMORY, PIDS, SWAP, can_limit};
use crate::support::TestEnv;
use crate::support::env::fixture;

/// A Dockerfile with two stages, an argument, a secret and a cache.
const TWO_STAGES: &str = "-- Other --
FROM busybox AS one
ARG W=2
RUN --mount=type=secret,id=s,required --mount=type=cache,target=/c true
FROM scratch AS two
COPY Other /
";

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn format_json_prints_one_document() {
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    env.build(&["-t", "app"], &context).ok();
    let dir = text(&context);
    for command in [
        &["cache", "ls"][..],
        &["cache", "mounts", "ls"],
        &["cache", "prune", "--dry-run"],
        &["check", dir],
        &["diff", "busybox", "app"],
        &["doctor"],
        &["du"],
        &["fsck"],
        &["history", "app"],
        &["images"],
        &["info"],
        &["prune", "--dry-run"],
        &["version"],
    ] {
        let json = env.kiln(&[command, &["--format", "json"]].concat()).ok();
        assert!(serde_json::from_str::<Value>(&json).is_ok(), "{command:?}: {json}");
        let text = env.kiln(&[command, &["--format", "text"]].concat()).ok();
        assert!(serde_json::from_str::<Value>(&text).is_err(), "{command:?}: {text}");
        assert_eq!(env.kiln(command).ok().stdout, text.stdout, "{command:?}: text is the default");
    }
}

#[test]
fn check_and_call_describe_selected_dockerfile() {
    let env = TestEnv::with_busybox();
    let context = env.context(TWO_STAGES);
    let file = text(&context.join("Other")).to_owned();
    let dir = text(&context);
    let check = |args: &[&str]| env.kiln(&[&["check", "--file", &file, dir], args].concat()).ok();
    check(&["--targets"]).says("one").says("two (default)");
    let outline = |args: &[&str]| {
        let told = check(&[&["--outline"], args].concat());
        told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(outline(&[]), ["TARGET two"]);
    let one =
        ["TARGET one", "", "ARGUMENT VALUE DESCRIPTION", "W 2", "", "SECRET REQUIRED", "s yes", "", "CACHE", "/c"];
    assert_eq!(outline(&["--target", "one"]), one);
    assert!(outline(&["--target", "one", "--build-arg", "W=7"]).contains(&"W 7".to_owned()));
    let other = env.kiln(&["check", "--file", &file, dir, "--platform", "linux/s390x"]).fails(1);
    other.says("InvalidBaseImagePlatform");
    check(&[]).never_says("InvalidBaseImagePlatform");
    let call = |args: &[&str]| env.build(&[&["--file", file.as_str()], args].concat(), &context);
    assert_eq!(call(&["--call", "outline"]).ok().stdout, check(&["--outline"]).stdout);
    assert_eq!(call(&["--call", "targets,format=json"]).ok().stdout, check(&["--targets", "--format", "json"]).stdout);
    call(&["--call", "check", "-t", "x"]).ok().says("no warnings");
    call(&["--call", "nothing"]).fails(2).says("--call");
    env.kiln(&["inspect", "x"]).fails(1);
}

#[test]
fn listing_options_take_effect() {
    let env = TestEnv::with_busybox();
    let digest = env.image("busybox").digest;
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n-- more --\n");
    env.build(&[], &context).ok();
    env.build(&["-t", "app"], &context).ok();
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY more /\n").expect("write");
    env.build(&["-t", "app"], &context).ok();
    let images = |args: &[&str]| env.kiln(&[&["images"], args].concat()).ok();
    images(&["--digests"]).says(&digest);
    images(&[]).never_says(&digest);
    images(&["--no-trunc"]).says(&digest);
    assert_eq!(images(&["--quiet"]).lines().max_by_key(|line| line.len()).map(str::len), Some(12));
    // Untagged images are always listed, so that `--all` changes nothing.
    assert_eq!(images(&["--all"]).stdout, images(&[]).stdout);
    images(&["--filter", "dangling=false"]).says("busybox").never_says("<none>");
    let long = |args: &[&str]| env.kiln(args).ok().lines().any(|line| line.split("  ").any(|word| word.len() >= 64));
    for command in [&["history", "app"][..], &["cache", "ls"], &["du"]] {
        assert!(!long(command) && long(&[command, &["--no-trunc"]].concat()), "{command:?}");
    }
    let raw = env.kiln(&["inspect", "--raw", "app"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&raw).expect("JSON"), env.image("app").manifest);
    env.kiln(&["import", "--message", "from afar", text(&fixture("busybox").join("rootfs.tar")), "told"]).ok();
    env.kiln(&["history", "told"]).ok().says("from afar");
    env.kiln(&["rmi", "nobody"]).fails(1);
    env.kiln(&["rmi", "--force", "nobody"]).ok();
}

#[test]
fn requested_platform_is_used_or_refused() {
    let env = TestEnv::with_busybox();
    env.kiln(&["save", "-o", "a.tar", "busybox"]).ok();
    let own = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    for command in [
        &["history", "busybox"][..],
        &["inspect", "busybox"],
        &["inspect", "--config", "busybox"],
        &["diff", "busybox", "busybox"],
        &["load", "-i", "a.tar"],
    ] {
        let with = |platform: &str| env.kiln(&[command, &["--platform", platform]].concat());
        with("linux/s390x").fails(1).says("is an image for").says("not for linux/s390x");
        with(own).ok();
    }
    env.kiln(&["inspect", "--raw", "--platform", own, "busybox"]).fails(2).says("--raw");
}

#[test]
fn diff_ignores_each_attribute() {
    requires!(root, attributes);
    let env = TestEnv::new();
    let dirs = env.context("-- a/f --\nf\n-- a/g = a/f --\n-- b/f --\nf\n-- b/g --\nf\n");
    let script = "touch -d @1 a/f b/f b/g; touch -d @2 b/f; chmod 600 b/f; chown 7:8 b/f; setfattr -n user.x -v y b/f";
    let done = Command::new("sh").args(["-ec", script]).current_dir(&dirs).status();
    assert!(done.expect("run sh").success());
    for name in ["a", "b"] {
        env.kiln(&["import", name, name]).dir(&dirs).ok();
    }
    let context = env.context("-- Dockerfile --\nFROM b\nENV X=y\n");
    env.build(&["-t", "c"], &context).ok();
    let all = ["config", "link", "mode", "mtime", "owner", "xattr"];
    let diff = |ignored: &[&str]| {
        let done = env.kiln(&["diff", "a", "c", "--ignore", &ignored.join(",")]).ok();
        done.stdout
    };
    assert_eq!(diff(&all).trim(), "");
    for (attribute, shown) in all.into_iter().zip(["Env X", "/g", "0600", "mtime", "uid", "user.x"]) {
        let others: Vec<&str> = all.into_iter().filter(|other| *other != attribute).collect();
        assert!(diff(&others).contains(shown), "{attribute}: {}", diff(&others));
        assert!(!diff(&[attribute]).is_empty(), "{attribute}");
    }
}

#[test]
fn foreign_syntax_is_refused_unless_overridden() {
    let env = TestEnv::new();
    let build = |syntax: &str, args: &[&str]| {
        let text = format!("-- Dockerfile --\n# syntax={syntax}\nFROM scratch\nCOPY Dockerfile /\n");
        env.build(args, &env.context(&text))
    };
    build("docker/dockerfile:1", &[]).ok().never_says("syntax");
    build("foreign/x:1", &[]).fails(1).says("asks for another frontend: foreign/x:1");
    build("foreign/x:1", &["--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1"]).ok();
    build("docker/dockerfile:1", &["--build-arg", "BUILDKIT_SYNTAX=foreign/y"]).fails(1).says("foreign/y");
    build("docker/dockerfile:99", &[]).ok().says("may use features that are not known here");
}

#[test]
fn init_false_makes_command_process_1() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let pid = |init: &[&str]| env.kiln(&[&["run"], init, &["busybox", "sh", "-c", "echo $$"]].concat()).ok().stdout;
    assert_eq!(pid(&["--init=false"]), "1\n");
    for with in [&[][..], &["--init"], &["--init=true"]] {
        assert_ne!(pid(with), "1\n", "{with:?}");
    }
}

#[test]
fn completions_name_every_command_and_option() {
    let env = TestEnv::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        env.kiln(&["completions", shell]).ok().says("prune").says("no-cache-filter");
    }
}

#[test]
fn compression_sets_media_type_and_level_changes_size() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY words /\n");
    let words: String = (0..60_000u32).map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 9973)).collect();
    fs::write(context.join("words"), words).expect("write");
    let layer = |args: &[&str]| {
        env.build(&[&["-t", "app", "--no-cache", "--compression"], args].concat(), &context).ok();
        let layer = &env.image("app").manifest["layers"][0];
        (layer["mediaType"].as_str().expect("a type").to_owned(), layer["size"].as_u64().expect("a size"))
    };
    for (kind, end) in [("gzip", "+gzip"), ("zstd", "+zstd"), ("uncompressed", ".tar")] {
        assert!(layer(&[kind]).0.ends_with(end), "{kind}");
    }
    for kind in ["gzip", "zstd"] {
        let sizes = ["1", "12"].map(|level| layer(&[kind, "--compression-level", level]).1);
        assert!(sizes[1] < sizes[0], "{kind}: {sizes:?}");
    }
    env.build(&["--compression", "uncompressed", "--compression-level", "1"], &context).fails(2);
}

#[test]
fn progress_aliases_give_same_format() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY Dockerfile /\n");
    let shown = |how: &str| env.build(&["--no-cache", "--progress", how], &context).ok();
    for json in ["json", "rawjson"] {
        let all = shown(json).stderr;
        assert!(all.lines().count() > 1 && all.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()), "{all}");
    }
    // Without a terminal, auto is plain.
    for plain in ["plain", "auto", "tty"] {
        shown(plain).says("COPY Dockerfile /");
    }
    for quiet in ["quiet", "none"] {
        let done = shown(quiet);
        assert!(done.stderr.is_empty() && done.stdout.starts_with("sha256:"), "{done}");
    }
    let done = env.build(&["--quiet"], &context).ok();
    assert!(done.stderr.is_empty() && done.stdout.starts_with("sha256:"), "{done}");
    let told = env.build(&["--no-cache"], &context).env("BUILDKIT_PROGRESS", "json").ok();
    assert!(told.stderr.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()), "{told}");
}

#[test]
fn pull_option_decides_when_registry_is_contacted() {
    let env = TestEnv::with_busybox();
    let name = "registry.invalid/base";
    env.kiln(&["tag", "busybox", name]).ok();
    let context = env.context(&format!("-- Dockerfile --\nFROM {name}\nLABEL a=b\n"));
    for here in ["missing", "never", "false"] {
        env.build(&[&format!("--pull={here}")], &context).ok();
    }
    for asks in ["always", "true"] {
        env.build(&[&format!("--pull={asks}")], &context).fails(3).says("registry.invalid");
    }
    let other = env.context("-- Dockerfile --\nFROM registry.invalid/other\nLABEL a=b\n");
    env.build(&["--pull=never"], &other).fails(1).never_says("resolve");
}

#[test]
fn resolver_options_reach_builds_and_runs() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN cat /etc/resolv.conf\n");
    let asked = ["--dns-option", "ndots:3", "--dns-search", "corp.example"];
    env.build(&asked, &context).ok().says("options ndots:3").says("search corp.example");
    let run = [&["run"], &asked[..], &["busybox", "cat", "/etc/resolv.conf"]].concat();
    env.kiln(&run).ok().says("options ndots:3").says("search corp.example");
}

#[test]
fn network_and_snapshotter_values_take_effect() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context =
        env.context("-- Dockerfile --\nFROM busybox\nRUN ls /sys/class/net | wc -l; readlink /proc/self/ns/net\n");
    let build = |args: &[&str]| env.build(&[args, &["--no-cache"]].concat(), &context);
    let run = |args: &[&str]| env.kiln(&[&["run"], args, &["busybox", "readlink", "/proc/self/ns/net"]].concat());
    let host = fs::read_link("/proc/self/ns/net").expect("read").display().to_string();
    build(&["--network", "default"]).ok().says(&host);
    build(&["--network", "host"]).ok().says(&host);
    build(&["--network", "none"]).ok().never_says(&host);
    for shared in ["default", "host"] {
        assert_eq!(&*run(&["--network", shared]).ok(), host);
    }
    assert_ne!(&*run(&["--net", "none"]).ok(), host);
    // A private network, or an error that says why there is none.
    for private in [build(&["--network", "private"]), run(&["--network", "private"])] {
        private.output().never_says(&host);
    }
    for how in ["auto", "overlay", "copy"] {
        build(&["--snapshotter", how]).ok();
        let mounts = env.kiln(&["run", "--snapshotter", how, "busybox", "cat", "/proc/mounts"]).ok();
        assert_eq!(mounts.lines().any(|l| l.contains(" / overlay ")), how != "copy", "{how}: {mounts}");
    }
    let failing = env.context("-- Dockerfile --\nFROM busybox\nRUN exit 3\n");
    env.build(&["--on-failure", "stop"], &failing).fails(1).says("exited with status 3");
    env.build(&["--on-failure", "shell"], &failing).fails(2).says("not a terminal");
}

#[test]
fn jobs_1_runs_commands_one_at_a_time() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let alone = "RUN --mount=type=cache,target=/c mkdir /c/busy && sleep 0.3 && rmdir /c/busy";
    let context = env.context(&format!(
        "-- Dockerfile --\nFROM busybox AS a\n{alone}\nFROM busybox AS b\n{alone} && echo b\nFROM scratch\n\
         COPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n"
    ));
    env.build(&["--jobs", "2"], &context).fails(1);
    env.kiln(&["cache", "mounts", "rm", "--all"]).ok();
    env.build(&["--jobs", "1", "--no-cache"], &context).ok();
}

/// Waits for the control group with this CPU weight and returns its files; `None` after ten seconds.
fn group_with(shares: &str) -> Option<BTreeMap<String, String>> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        let all = walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten();
        let ours = all.filter(|dir| dir.file_type().is_dir() && dir.file_name().to_string_lossy().starts_with("kiln-"));
        let ours: Vec<_> = ours.map(walkdir::DirEntry::into_path).collect();
        let read = |file: &Path| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
        let weight = (1 + (shares.parse::<u64>().unwrap_or_default() - 2) * 9999 / 262_142).to_string();
        let has = |dir: &&PathBuf| read(&dir.join("cpu.shares")) == shares || read(&dir.join("cpu.weight")) == weight;
        if let Some(found) = ours.iter().find(has) {
            let parts = ours.iter().filter(|dir| dir.file_name() == found.file_name());
            let files = parts.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
            return Some(
                files.map(|file| (file.file_name().to_string_lossy().into_owned(), read(&file.path()))).collect(),
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

#[test]
fn resource_limits_are_set_in_control_groups() {
    requires!(root, userns, overlay);
    if ![CPU, MEMORY, PIDS].into_iter().all(can_limit) {
        return;
    }
    let env = TestEnv::with_busybox();
    let context = env.context("-- Dockerfile --\nFROM busybox\nRUN sleep 2\n");
    let (build, run) = (&[text(&context)][..], &["busybox", "sleep", "2"][..]);
    let (parts, whole) = (("--cpu-quota 31000 --cpu-period 61000", "61000"), ("--cpus 0.31", "100000"));
    for (shares, command, rest, (cpu, period)) in [
        ("517", "build --no-cache", build, parts),
        ("519", "build --no-cache", build, whole),
        ("521", "run", run, parts),
        ("523", "run", run, whole),
    ] {
        let asked = format!(
            "{command} {cpu} --cpu-shares {shares} --cpuset-cpus 0 --cpuset-mems 0 --memory 65m --memory-swap 97m \
             --pids-limit 77"
        );
        let line: Vec<&str> = asked.split(' ').chain(rest.iter().copied()).collect();
        let mut child = env.kiln(&line).spawn();
        group_with(shares).unwrap_or_else(|| panic!("{command}: no control group"));
        // The groups of the other controllers are created one by one.
        std::thread::sleep(Duration::from_millis(300));
        let group = group_with(shares).unwrap_or_else(|| panic!("{command}: the group is gone"));
        assert!(child.wait().expect("wait").success(), "{command}");
        // Version 1 and version 2 have different file names.
        for (option, names, want) in [
            ("--cpu-quota", ["cpu.cfs_quota_us", "cpu.max"], "31000"),
            ("--cpu-period", ["cpu.cfs_period_us", "cpu.max"], period),
            ("--cpuset-cpus", ["cpuset.cpus", "cpuset.cpus"], "0"),
            ("--cpuset-mems", ["cpuset.mems", "cpuset.mems"], "0"),
            ("--memory", ["memory.limit_in_bytes", "memory.max"], "68157440"),
            // One more for the process that starts the command.
            ("--pids-limit", ["pids.max", "pids.max"], "78"),
        ] {
            let found = names.iter().find_map(|name| group.get(*name)).unwrap_or_else(|| panic!("{option}: {group:?}"));
            assert!(found.split(' ').any(|word| word == want), "{command} {option}: {found}");
        }
        if can_limit(SWAP) {
            let swap = [("memory.memsw.limit_in_bytes", "101711872"), ("memory.swap.max", "33554432")];
            assert!(swap.iter().any(|(name, want)| group.get(*name).is_some_and(|is| is == want)), "{group:?}");
        }
    }
}

#[test]
fn ulimit_sets_every_limit_of_command() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let limits = [
        ("as", "4096000000", "Max address space"),
        ("core", "4096", "Max core file size"),
        ("cpu", "77", "Max cpu time"),
        ("data", "4096000000", "Max data size"),
        ("fsize", "4096000", "Max file size"),
        ("locks", "77", "Max file locks"),
        ("memlock", "4096", "Max locked memory"),
        ("msgqueue", "4096", "Max msgqueue size"),
        ("nice", "0", "Max nice priority"),
        ("nofile", "77", "Max open files"),
        ("nproc", "777", "Max processes"),
        ("rss", "4096000", "Max resident set"),
        ("rtprio", "0", "Max realtime priority"),
        ("rttime", "4096", "Max realtime timeout"),
        ("sigpending", "77", "Max pending signals"),
        ("stack", "4096000", "Max stack size"),
    ];
    let given: Vec<String> = limits.iter().map(|(name, value, _)| format!("--ulimit={name}={value}")).collect();
    let mut line = vec!["run"];
    line.extend(given.iter().map(String::as_str));
    line.extend(["busybox", "cat", "/proc/self/limits"]);
    let said = env.kiln(&line).ok();
    for (name, value, title) in limits {
        let row = said.lines().find(|row| row.starts_with(title)).unwrap_or_else(|| panic!("{name}: {said}"));
        let soft = row[title.len()..].split_whitespace().next();
        assert_eq!(soft, Some(value), "{name}: {row}");
    }
}

#[test]
fn secret_type_selects_file_or_variable() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let context =
        env.context("-- Dockerfile --\nFROM busybox\nRUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN\n");
    fs::write(env.dir().join("TOKEN"), "from the file\n").expect("write");
    let build = |secret: &str| {
        env.build(&["--no-cache", "--secret", secret], &context).dir(env.dir()).env("TOKEN", "from the variable")
    };
    for (secret, want) in [
        ("id=TOKEN", "from the variable"),
        ("type=file,id=TOKEN", "from the file"),
        ("id=TOKEN,type=env", "from the variable"),
        ("type=env,id=TOKEN", "from the variable"),
        ("type=env,id=TOKEN,src=TOKEN", "from the variable"),
        ("id=TOKEN,source=TOKEN", "from the file"),
        ("id=TOKEN,env=TOKEN", "from the variable"),
    ] {
        build(secret).ok().says(want);
    }
    build("type=file,id=TOKEN,env=TOKEN").fails(2).says("type=file and env contradict each other");
}

#[test]
fn run_mount_options_accept_every_key() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let dir = env.context("-- data/file --\nhere\n");
    let run = |mount: &str, script: &str| {
        env.kiln(&["run", "--mount", mount, "busybox", "sh", "-c", script]).dir(&dir).output()
    };
    for source in ["src", "source"] {
        for target in ["dst", "destination", "target"] {
            let done = run(&format!("type=bind,{source}=data,{target}=/m"), "cat /m/file");
            assert_eq!(done.stdout, "here\n", "{done}");
        }
    }
    for readonly in ["ro", "readonly", "readonly=true"] {
        run(&format!("type=bind,src=data,dst=/m,{readonly}"), "touch /m/x").says("Read-only file system");
    }
    for (size, mode) in [("size", "mode"), ("tmpfs-size", "tmpfs-mode")] {
        let done = run(&format!("type=tmpfs,dst=/m,{size}=64k,{mode}=0710"), "stat -c %a /m; df -k /m | tail -1");
        assert!(done.stdout.starts_with("710\n") && done.stdout.contains(" 64 "), "{done}");
    }
    let tmpfs = |options: &str, script: &str| {
        env.kiln(&["run", "--tmpfs", &format!("/m:{options}"), "busybox", "sh", "-c", script]).output()
    };
    tmpfs("ro", "touch /m/x").says("Read-only file system");
    assert_eq!(tmpfs("rw,size=64k,mode=0710", "touch /m/x; stat -c %a /m").stdout, "710\n");
    let volume =
        env.kiln(&["run", "-v", "./data:/m:rw", "busybox", "sh", "-c", "echo new > /m/new"]).dir(&dir).output();
    assert_eq!(volume.code, 0, "{volume}");
}
