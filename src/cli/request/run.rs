//! `kiln run`: arguments, environment and env files → a [`RunRequest`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::cli::args::{NetworkArg, RunArgs};
use crate::cli::failure::{Failure, no_private_network};
use crate::oci::config::RuntimeConfig;
use crate::plan::DeviceName;
use crate::sandbox::{Device, Mount, Network, Publish, Source, private_network};

use super::container::{self, Container};
use super::devices::{self, Asked};
use super::{Environment, publish, value};

/// PATH, if neither the image nor the command line sets it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A run, before the image is known.
#[derive(Debug)]
pub(in crate::cli) struct RunRequest {
    /// Variables to set or, without a value, to remove from the environment of the image.
    env: Vec<(OsString, Option<OsString>)>,
    /// Mounts.
    pub(in crate::cli) mounts: Vec<Mount>,
    /// The network.
    pub(in crate::cli) network: Network,
    /// Why the network is `none` instead of `private`.
    pub(in crate::cli) no_network: Option<String>,
    /// Published ports.
    pub(in crate::cli) publish: Vec<Publish>,
    /// Device nodes of the host.
    pub(in crate::cli) devices: Vec<Device>,
    /// CDI devices.
    pub(in crate::cli) named_devices: Vec<DeviceName>,
    /// Directories with CDI files.
    pub(in crate::cli) spec_dirs: Vec<PathBuf>,
    /// Hosts, resolver, limits.
    pub(in crate::cli) container: Container,
}

/// Ok: every option is valid and can be honoured; mounted files of the host exist.
pub(in crate::cli) fn run(args: &RunArgs, environment: &Environment) -> Result<RunRequest, Failure> {
    refuse(args)?;
    // The parser takes an unknown option for the image.
    let image = args.image();
    if let Some(option) = image.strip_prefix('-') {
        let option = format!("-{}", option.split('=').next().unwrap_or_default());
        return Err(Failure::usage(format!("kiln run has no option {option}"))
            .hint("list the options with kiln run --help; they come before the image"));
    }
    let usage = |option: &'static str| move |why: String| Failure::usage(format!("{option} {why}"));
    let mut env = Vec::new();
    if args.tty {
        let term = environment.non_empty("TERM").map_or_else(|| "xterm".into(), ToOwned::to_owned);
        env.push(("TERM".into(), Some(term)));
    }
    for path in &args.env_file {
        env.extend(env_file(path, environment)?);
    }
    for text in &args.env {
        env.push(variable(text, environment).map_err(usage("--env"))?);
    }
    let mut mounts = Vec::new();
    for text in &args.volume {
        mounts.push(volume(text).map_err(|f| f.prefixed("--volume "))?);
    }
    for text in &args.mount {
        mounts.push(mount(text).map_err(|f| f.prefixed("--mount "))?);
    }
    for text in &args.tmpfs {
        mounts.push(tmpfs(text).map_err(usage("--tmpfs"))?);
    }
    if let Some(dir) = args.workdir.as_deref().filter(|dir| !dir.starts_with('/')) {
        return Err(Failure::usage(format!("--workdir {dir:?}: want a path that begins with /")));
    }
    if !is_host_name(&args.hostname) {
        let want = format!("want at most {LONGEST_NAME} letters, digits, dots, - and _");
        return Err(Failure::usage(format!("--hostname {:?}: {want}", args.hostname)));
    }
    let publish = publish::all(&args.publish)?;
    let (mut devices, mut named_devices) = (Vec::new(), Vec::new());
    for text in &args.device {
        match devices::device(text)? {
            Asked::Node(node) => devices.push(node),
            Asked::Named(name) => named_devices.push(name),
        }
    }
    let (network, no_network) = network(args.network, !publish.is_empty())?;
    Ok(RunRequest {
        env,
        mounts,
        network,
        no_network,
        publish,
        devices,
        named_devices,
        spec_dirs: devices::spec_dirs(&args.cdi_spec_dir)?,
        container: container::container(&args.container, network == Network::Host, environment)?,
    })
}

/// Longest host name of the kernel.
const LONGEST_NAME: usize = 64;

/// Whether it is a valid host name and one word in `/etc/hosts`.
fn is_host_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(fits)
}

/// The network, and why it is not `private` where that would be the default.
fn network(asked: NetworkArg, publishes: bool) -> Result<(Network, Option<String>), Failure> {
    Ok(match (asked, publishes) {
        (NetworkArg::Host, true) => {
            return Err(Failure::usage("--publish does not work with --network host")
                .hint("omit --publish: with the host's network, ports of the command are reachable"));
        }
        (NetworkArg::Default, true) => match private_network() {
            Ok(_) => (Network::Private, None),
            Err(lack) => (Network::None, Some(no_private_network(&lack))),
        },
        (NetworkArg::Default | NetworkArg::Host, _) => (Network::Host, None),
        (NetworkArg::None, _) => (Network::None, None),
        (NetworkArg::Private, _) => (Network::Private, None),
    })
}

/// Refuses options of `docker run` that kiln does not have, with a suggestion.
fn refuse(args: &RunArgs) -> Result<(), Failure> {
    let refused = [
        (
            args.detach,
            "--detach is not supported: kiln has no daemon",
            "run it in the background of the shell: kiln run … &",
        ),
        (
            args.name.is_some(),
            "--name is not supported: containers are not kept",
            "keep the changed files as an image with --commit NAME",
        ),
        (args.privileged, "--privileged is not supported", ""),
    ];
    match refused.into_iter().find(|(given, ..)| *given) {
        Some((_, why, "")) => Err(Failure::usage(why)),
        Some((_, why, hint)) => Err(Failure::usage(why).hint(hint)),
        None => Ok(()),
    }
}

impl RunRequest {
    /// The environment of the command: the image's, then that of the options.
    pub(in crate::cli) fn environment(&self, image: &RuntimeConfig) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: OsString, value: Option<OsString>| {
            all.retain(|(known, _)| *known != name);
            all.extend(value.map(|value| (name, value)));
        };
        set("PATH".into(), Some(DEFAULT_PATH.into()));
        for text in &image.env {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            set(name.into(), Some(value.into()));
        }
        for (name, value) in &self.env {
            set(name.clone(), value.clone());
        }
        all
    }
}

/// The command line: ENTRYPOINT and the given words, or CMD without words. `--entrypoint` replaces both.
pub(in crate::cli) fn command_line(args: &RunArgs, image: &RuntimeConfig) -> Result<Vec<OsString>, Failure> {
    let words = |words: &Option<Vec<String>>| words.iter().flatten().map(OsString::from).collect::<Vec<_>>();
    let mut line = match args.entrypoint.as_deref() {
        Some("") => Vec::new(),
        Some(program) => vec![OsString::from(program)],
        None => words(&image.entrypoint),
    };
    if args.command().is_empty() && args.entrypoint.is_none() {
        line.extend(words(&image.cmd));
    }
    line.extend(args.command().iter().cloned());
    if line.is_empty() {
        return Err(Failure::usage(format!("{} has no command", args.image()))
            .hint(format!("name one: kiln run {} COMMAND", args.image())));
    }
    Ok(line)
}

/// Parses `KEY=VALUE`, or `KEY` for the value in kiln's environment; if it is unset there, it is removed.
fn variable(text: &str, environment: &Environment) -> Result<(OsString, Option<OsString>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(OsString::from(value))),
        None => (text, environment.get(text).map(ToOwned::to_owned)),
    };
    if name.is_empty() || name.contains('\0') {
        return Err(format!("{text:?}: want KEY=VALUE or KEY"));
    }
    Ok((name.into(), value))
}

/// Reads one variable per line, in the form of `--env`. Empty lines and comments (`#`) are skipped. Nothing is unquoted or
/// expanded, as with docker.
fn env_file(path: &Path, environment: &Environment) -> Result<Vec<(OsString, Option<OsString>)>, Failure> {
    let wrong = |why: String| Failure::usage(format!("--env-file {why}"));
    let bytes = fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let text = str::from_utf8(&bytes).map_err(|_| wrong(format!("{}: it is not UTF-8", path.display())))?;
    let mut found = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |why: String| wrong(format!("{}:{}: {why}", path.display(), number + 1));
        let name = line.split('=').next().unwrap_or_default();
        if name.contains(char::is_whitespace) {
            return Err(at(format!("the variable name {name:?} has spaces")));
        }
        found.push(variable(line, environment).map_err(at)?);
    }
    Ok(found)
}

/// `HOST:INSIDE[:ro|rw]`.
fn volume(text: &str) -> Result<Mount, Failure> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, options) = match parts.as_slice() {
        [host, inside] => (*host, *inside, ""),
        [host, inside, options] => (*host, *inside, *options),
        _ => return Err(Failure::usage(format!("{text:?}: want HOST:INSIDE or HOST:INSIDE:ro"))),
    };
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            "rw" => readonly = false,
            other => return Err(Failure::usage(format!("{text:?}: {other:?} is not an option: want ro or rw"))),
        }
    }
    if !host.contains('/') && host != "." && host != ".." {
        return Err(Failure::usage(format!("{text:?}: named volumes are not supported"))
            .hint(format!("write ./{host} for a directory of this host")));
    }
    bind(host, inside, readonly)
}

/// `type=bind,src=…,dst=…,ro` or `type=tmpfs,dst=…,tmpfs-size=…,tmpfs-mode=…`.
fn mount(text: &str) -> Result<Mount, Failure> {
    let wrong = |why: &str| Failure::usage(format!("{text:?}: {why}"));
    let (mut kind, mut source, mut target, mut readonly) = (None, None, None, false);
    let (mut size, mut mode) = (None, None);
    for (key, value) in value::fields(text).map_err(Failure::usage)? {
        match (key.as_str(), value) {
            ("type", Some(value)) => kind = Some(value),
            ("src" | "source", Some(value)) => source = Some(value),
            ("dst" | "destination" | "target", Some(value)) => target = Some(value),
            ("ro" | "readonly", None) => readonly = true,
            ("ro" | "readonly", Some(value)) => {
                readonly = value.parse().map_err(|_| wrong("readonly is true or false"))?;
            }
            ("tmpfs-size" | "size", Some(value)) => size = Some(value::size(&value).map_err(|why| wrong(&why))?),
            ("tmpfs-mode" | "mode", Some(value)) => mode = Some(octal(&value).map_err(|why| wrong(&why))?),
            (key, _) => return Err(wrong(&format!("{key:?} is not an attribute, or needs a value"))),
        }
    }
    let kind = match kind.as_deref() {
        Some(kind @ ("bind" | "tmpfs")) => kind,
        Some(other) => return Err(wrong(&format!("{other:?} is not a type: want bind or tmpfs"))),
        None => return Err(wrong("the type is missing: want type=bind or type=tmpfs")),
    };
    let target = target.ok_or_else(|| wrong("dst is missing"))?;
    match kind {
        "bind" if size.is_some() || mode.is_some() => Err(wrong("size and mode are for type=tmpfs")),
        "bind" => bind(&source.ok_or_else(|| wrong("src is missing"))?, &target, readonly),
        _ if source.is_some() => Err(wrong("src is for type=bind")),
        _ => {
            let source = Source::Tmpfs { size, mode: mode.unwrap_or(0o1777) };
            Ok(Mount { source, target: inside(&target).map_err(Failure::usage)?, readonly })
        }
    }
}

/// `INSIDE[:size=…,mode=…]`.
fn tmpfs(text: &str) -> Result<Mount, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size, mut mode, mut readonly) = (None, 0o1777, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => size = Some(value::size(value)?),
            Some(("mode", value)) => mode = octal(value)?,
            None if option == "ro" => readonly = true,
            None if option == "rw" => readonly = false,
            _ => return Err(format!("{text:?}: {option:?} is not an option: want size=, mode=, ro or rw")),
        }
    }
    Ok(Mount { source: Source::Tmpfs { size, mode }, target: inside(target)?, readonly })
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("{text:?} is not a mode: want for example 1777"))
}

fn bind(host: &str, target: &str, readonly: bool) -> Result<Mount, Failure> {
    let target = inside(target).map_err(Failure::usage)?;
    // Absolute, because the sandbox is prepared from `/`.
    let path = std::fs::canonicalize(host).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::usage(format!("{host}: no such file or directory")).hint("create it with mkdir: kiln does not")
        }
        _ => Failure::usage(format!("{host}: {e}")),
    })?;
    Ok(Mount { source: Source::Path(path), target, readonly })
}

fn inside(target: &str) -> Result<PathBuf, String> {
    match target {
        "/" => Err("cannot mount over /".to_owned()),
        _ if target.starts_with('/') => Ok(PathBuf::from(target)),
        _ => Err(format!("{target:?}: want a path that begins with /")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn args(line: &[&str]) -> RunArgs {
        let line = ["kiln"].iter().chain(line);
        Line::try_parse_from(line).unwrap_or_else(|e| panic!("{e}")).args
    }

    fn words(items: &[&str]) -> Option<Vec<String>> {
        Some(items.iter().map(|&item| item.to_owned()).collect())
    }

    #[test]
    fn words_replace_cmd_and_entrypoint_both() {
        let image = RuntimeConfig { entrypoint: words(&["/e", "x"]), cmd: words(&["c"]), ..RuntimeConfig::default() };
        let bare = RuntimeConfig { cmd: words(&["c", "d"]), ..RuntimeConfig::default() };
        for (image, line, want) in [
            (&image, &["i"][..], "/e x c"),
            (&image, &["i", "a", "-b"], "/e x a -b"),
            (&image, &["--entrypoint", "/n", "i"], "/n"),
            (&image, &["--entrypoint", "/n", "i", "a"], "/n a"),
            (&image, &["--entrypoint", "", "i", "a"], "a"),
            (&bare, &["i"], "c d"),
            (&bare, &["i", "--rm"], "--rm"),
        ] {
            let got = command_line(&args(line), image).expect("a command").join(" ".as_ref());
            assert_eq!(got, want, "{line:?}");
        }
        let failure = command_line(&args(&["i"]), &RuntimeConfig::default()).expect_err("nothing to run");
        assert_eq!((failure.message.as_str(), failure.kind.code()), ("i has no command", 2));
        assert!(command_line(&args(&["--entrypoint", "", "i"]), &bare).is_err());
    }

    #[test]
    fn later_environment_sources_override_earlier() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("env");
        let text = b"\xef\xbb\xbf# comment\n\n  A=file\nHERE\nQ=\"as is\" $A\n";
        crate::base::publish::atomic(&file, text, 0o600).expect("write");
        let environment = Environment::of(0, &[("HERE", "here"), ("TERM", "vt100")]);
        let file = file.to_str().expect("UTF-8");
        let request = |line: &[&str]| run(&args(line), &environment).expect("a request");
        let image = RuntimeConfig { env: vec!["A=image".into(), "GONE=1".into()], ..RuntimeConfig::default() };
        let line = ["--env-file", file, "-e", "B=", "-e", "GONE", "-e", "A=x=y", "i"];
        let got: Vec<String> = request(&line)
            .environment(&image)
            .iter()
            .map(|(k, v)| format!("{}={}", k.display(), v.display()))
            .collect();
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(got, [path.as_str(), "HERE=here", "Q=\"as is\" $A", "B=", "A=x=y"]);
        let got = request(&["-t", "i"]).environment(&RuntimeConfig { env: vec!["PATH=/p".into()], ..image });
        assert_eq!(got, [("PATH", "/p"), ("TERM", "vt100")].map(|(k, v)| (k.into(), v.into())));
    }

    #[test]
    fn mount_options_parse_or_fail_by_name() {
        let here = std::fs::canonicalize("/").expect("the root");
        let path = |readonly| Ok((true, readonly));
        for (line, want) in [
            (&["-v", "/:/x"][..], path(false)),
            (&["-v", "/:/x:ro"], path(true)),
            (&["--mount", "type=bind,src=/,dst=/x,ro"], path(true)),
            (&["--mount", "type=bind,source=/,target=/x,readonly=false"], path(false)),
            (&["--mount", "type=tmpfs,dst=/x,size=1m"], Ok((false, false))),
            (&["--tmpfs", "/x:size=1m,mode=700"], Ok((false, false))),
            (&["-v", "/x"], Err("--volume \"/x\": want HOST:INSIDE")),
            (&["-v", "data:/x"], Err("named volumes are not supported")),
            (&["-v", "/:x"], Err("want a path that begins with /")),
            (&["-v", "/:/"], Err("cannot mount over /")),
            (&["-v", "/:/x:z"], Err("\"z\" is not an option")),
            (&["-v", "/nonexistent:/x"], Err("no such file or directory")),
            (&["--mount", "type=volume,dst=/x"], Err("\"volume\" is not a type")),
            (&["--mount", "type=volume"], Err("\"volume\" is not a type")),
            (&["--mount", "type=bind,dst=/x"], Err("src is missing")),
            (&["--mount", "type=bind,src=/"], Err("dst is missing")),
            (&["--mount", "type=bind,src=/,dst=/x,bind-propagation=shared"], Err("\"bind-propagation\"")),
            (&["--tmpfs", "/x:mode=9"], Err("--tmpfs \"9\" is not a mode")),
        ] {
            let line: Vec<&str> = line.iter().copied().chain(["i"]).collect();
            match (run(&args(&line), &Environment::of(0, &[])), want) {
                (Ok(request), Ok((bind, readonly))) => {
                    let mount = &request.mounts[0];
                    assert_eq!(matches!(&mount.source, Source::Path(p) if *p == here), bind, "{line:?}");
                    assert_eq!((mount.target.as_path(), mount.readonly), (Path::new("/x"), readonly), "{line:?}");
                }
                (Err(failure), Err(want)) => assert!(failure.message.contains(want), "{line:?}: {}", failure.message),
                (got, want) => panic!("{line:?}: {got:?}, want {want:?}"),
            }
        }
    }

    #[test]
    fn docker_run_options_fail_with_a_suggestion() {
        for (line, want) in [
            (&["-d"][..], "--detach"),
            (&["-p", "80:80", "--network", "host"], "--publish"),
            (&["--name", "x"], "--name"),
            (&["--privileged"], "--privileged"),
            (&["--read-only"], "kiln run has no option --read-only"),
            (&["--cap-add=ALL"], "kiln run has no option --cap-add"),
            (&["-P"], "kiln run has no option -P"),
            (&["-w", "rel"], "--workdir"),
            (&["-e", "=x"], "--env"),
            (&["--env-file", "/nonexistent"], "--env-file"),
            (&["--ulimit", "x=1"], "--ulimit"),
            (&["--add-host", "x"], "--add-host"),
            (&["--shm-size", "x"], "--shm-size"),
            (&["--hostname", ""], "--hostname"),
            (&["--hostname", "a b"], "--hostname"),
            (&["--hostname", "a\n1.2.3.4"], "--hostname"),
            (&["--hostname", &"x".repeat(65)], "--hostname"),
        ] {
            let line: Vec<&str> = line.iter().copied().chain(["i"]).collect();
            let failure = run(&args(&line), &Environment::of(0, &[])).expect_err("refused");
            assert!(failure.message.starts_with(want), "{line:?}: {}", failure.message);
            assert_eq!(failure.kind.code(), 2);
        }
    }
}
