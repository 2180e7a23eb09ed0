//! Hosts, resolver and limits of a command's container.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cli::args::ContainerArgs;
use crate::cli::failure::Failure;
use crate::sandbox::{Resources, Rlimit};

use super::{Environment, value};

/// The smallest `--memory`, as in Docker.
const LEAST_MEMORY: u64 = 6 << 20;

/// The kernel's largest `--cpu-period`, in microseconds.
const LONGEST_PERIOD: u64 = 1_000_000;

/// The container of a command.
#[derive(Debug)]
pub(in crate::cli) struct Container {
    /// Lines for `/etc/hosts`: name and address.
    pub(in crate::cli) hosts: Vec<(String, String)>,
    /// `/etc/resolv.conf`.
    pub(in crate::cli) resolv_conf: Vec<u8>,
    /// Size of `/dev/shm`, in bytes.
    pub(in crate::cli) shm_size: u64,
    /// Resource limits.
    pub(in crate::cli) rlimits: Vec<Rlimit>,
    /// Limits of control groups.
    pub(in crate::cli) resources: Resources,
}

/// Ok: every option is valid. `shares_host`: commands use the network of the host.
pub(super) fn container(
    args: &ContainerArgs,
    shares_host: bool,
    environment: &Environment,
) -> Result<Container, Failure> {
    let usage = |option: &'static str| move |why: String| Failure::usage(format!("{option} {why}"));
    let hosts =
        args.add_host.iter().map(|text| value::host(text, shares_host).map(|(name, ip)| (name, ip.to_string())));
    Ok(Container {
        hosts: hosts.collect::<Result<_, _>>().map_err(usage("--add-host"))?,
        resolv_conf: resolv_conf(args, environment)?,
        shm_size: value::size(&args.shm_size).map_err(usage("--shm-size"))?,
        rlimits: args.ulimit.iter().map(|l| value::ulimit(l)).collect::<Result<_, _>>().map_err(usage("--ulimit"))?,
        resources: resources(args, environment)?,
    })
}

/// `/etc/resolv.conf` of the host, with the lines that options replace.
fn resolv_conf(args: &ContainerArgs, environment: &Environment) -> Result<Vec<u8>, Failure> {
    for server in &args.dns {
        if server.parse::<IpAddr>().is_err() {
            return Err(Failure::usage(format!("--dns {server:?} is not an IP address")));
        }
    }
    for (option, words) in [("--dns-search", &args.dns_search), ("--dns-option", &args.dns_option)] {
        if let Some(word) = words.iter().find(|word| word.is_empty() || word.contains(char::is_whitespace)) {
            return Err(Failure::usage(format!("{option} {word:?}: want one word")));
        }
    }
    let host = environment.resolv_conf()?;
    let text = String::from_utf8_lossy(&host);
    let replaced = |line: &str| match line.split_whitespace().next() {
        Some("nameserver") => !args.dns.is_empty(),
        Some("search" | "domain") => !args.dns_search.is_empty(),
        Some("options") => !args.dns_option.is_empty(),
        _ => false,
    };
    if ![&args.dns, &args.dns_search, &args.dns_option].iter().any(|given| !given.is_empty()) {
        return Ok(host);
    }
    let mut lines: Vec<String> = args.dns.iter().map(|server| format!("nameserver {server}")).collect();
    lines.extend(text.lines().filter(|line| !replaced(line)).map(str::to_owned));
    for (keyword, words) in [("search", &args.dns_search), ("options", &args.dns_option)] {
        if !words.is_empty() {
            lines.push(format!("{keyword} {}", words.join(" ")));
        }
    }
    lines.push(String::new());
    Ok(lines.join("\n").into_bytes())
}

/// The limits of control groups. Zero and less mean no limit, as with Docker.
fn resources(args: &ContainerArgs, environment: &Environment) -> Result<Resources, Failure> {
    let (memory, memory_swap) = memory(args)?;
    let (cpu_quota, cpu_period) = cpu_time(args)?;
    for (option, list, kind) in
        [("--cpuset-cpus", &args.cpuset_cpus, "cpu"), ("--cpuset-mems", &args.cpuset_mems, "node")]
    {
        if let Some(list) = list {
            check_online(list, environment.online(kind)?.as_deref())
                .map_err(|why| Failure::usage(format!("{option} {list:?}: {why}")))?;
        }
    }
    Ok(Resources {
        memory,
        memory_swap,
        cpu_quota,
        cpu_period,
        cpu_shares: args.cpu_shares.filter(|&shares| shares > 0),
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        pids: positive(args.pids_limit),
    })
}

fn positive(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok()).filter(|&number| number > 0)
}

/// `--memory` and `--memory-swap`.
fn memory(args: &ContainerArgs) -> Result<(Option<u64>, Option<i64>), Failure> {
    let size = |option: &str, text: &Option<String>| match text {
        Some(text) => {
            let size = value::size(text).map_err(|why| Failure::usage(format!("{option} {why}")))?;
            Ok(Some(size).filter(|&size| size > 0))
        }
        None => Ok::<_, Failure>(None),
    };
    let memory = size("--memory", &args.memory)?;
    let swap = match args.memory_swap.as_deref() {
        Some("-1") => Some(-1),
        _ => size("--memory-swap", &args.memory_swap)?.map(|swap| i64::try_from(swap).unwrap_or(i64::MAX)),
    };
    if memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        return Err(Failure::usage("--memory must be at least 6m"));
    }
    match (memory, swap.and_then(|swap| u64::try_from(swap).ok())) {
        (None, Some(_)) => Err(Failure::usage("--memory-swap needs --memory")),
        (Some(memory), Some(swap)) if swap < memory => {
            Err(Failure::usage("--memory-swap is memory and swap together: it cannot be less than --memory"))
        }
        _ => Ok((memory, swap)),
    }
}

/// The quota and period of `--cpus`, `--cpu-quota` and `--cpu-period`, in microseconds.
fn cpu_time(args: &ContainerArgs) -> Result<(Option<u64>, Option<u64>), Failure> {
    let (given, period) = (positive(args.cpu_quota), args.cpu_period.filter(|&period| period > 0));
    if let Some(text) = args.cpus.as_ref().filter(|text| text.parse() != Ok(0.0)) {
        if given.is_some() || period.is_some() {
            return Err(Failure::usage("--cpus and --cpu-quota or --cpu-period contradict each other"));
        }
        let cpus = text.parse::<f64>().ok().filter(|cpus| cpus.is_finite() && *cpus >= 0.01 && *cpus <= 65_536.0);
        let wrong = || Failure::usage(format!("--cpus {text:?}: want a number of at least 0.01, for example 1.5"));
        return Ok((Some((cpus.ok_or_else(wrong)? * 100_000.0).round() as u64), None));
    }
    // The kernel's own bounds, and Docker's: less than a millisecond is refused.
    for (option, time, most) in [("--cpu-quota", given, u64::MAX), ("--cpu-period", period, LONGEST_PERIOD)] {
        if time.is_some_and(|time| !(1_000..=most).contains(&time)) {
            let bounds = if most == u64::MAX { "at least 1000".to_owned() } else { format!("1000 to {most}") };
            return Err(Failure::usage(format!("{option} {}: want {bounds} microseconds", time.unwrap_or(0))));
        }
    }
    Ok((given, period))
}

/// Ok: every number of `list` is in `online`, the kernel's own list. Without that list the kernel itself refuses later.
fn check_online(list: &str, online: Option<&str>) -> Result<(), String> {
    let wanted = number_list(list).ok_or_else(|| "want numbers and ranges, for example 0-3,5".to_owned())?;
    let online = online.unwrap_or_default().trim();
    match number_list(online) {
        Some(known) if !wanted.is_subset(&known) => Err(format!("this host has {online}")),
        _ => Ok(()),
    }
}

/// Parses `0-3,5`, the kernel's notation for CPUs and memory nodes.
fn number_list(text: &str) -> Option<BTreeSet<u16>> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = number(first)?..=number(last)?;
        if range.is_empty() {
            return None;
        }
        all.extend(range);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_options_are_validated() {
        // O-24, O-25
        let read = |change: &dyn Fn(&mut ContainerArgs)| {
            let mut args = ContainerArgs { shm_size: "64m".to_owned(), ..ContainerArgs::default() };
            change(&mut args);
            container(&args, true, &Environment::of(0, &[])).map_err(|f| f.message)
        };
        let some = |text: &str| Some(text.to_owned());
        let all = read(&|a| {
            a.memory = some("1g");
            a.memory_swap = some("-1");
            a.cpus = some("1.5");
            a.cpuset_cpus = some("0");
            a.cpuset_mems = some("0");
            a.pids_limit = Some(9);
        });
        let resources = all.unwrap().resources;
        assert_eq!((resources.memory, resources.memory_swap), (Some(1 << 30), Some(-1)));
        assert_eq!((resources.cpu_quota, resources.pids), (Some(150_000), Some(9)));
        for none in [0, -1] {
            let unlimited = read(&|a| {
                (a.pids_limit, a.cpu_quota) = (Some(none), Some(none));
                (a.cpus, a.cpu_period, a.cpu_shares) = (some("0"), Some(0), Some(0));
                (a.memory, a.memory_swap) = (some("0"), some("0"));
            });
            assert_eq!(unlimited.unwrap().resources, Resources::default(), "{none} is no limit");
        }
        for (change, want) in [
            (&(|a: &mut ContainerArgs| a.memory = some("x")) as &dyn Fn(&mut ContainerArgs), "--memory"),
            (&|a| a.memory = some("5m"), "--memory must be at least 6m"),
            (&|a| a.memory_swap = some("1g"), "--memory-swap needs"),
            (&|a| (a.memory, a.memory_swap) = (some("2g"), some("1g")), "--memory-swap is"),
            (&|a| a.cpus = some("0.001"), "--cpus"),
            (&|a| (a.cpus, a.cpu_quota) = (some("1"), Some(1)), "--cpus and"),
            (&|a| a.cpuset_cpus = some("0;1"), "--cpuset-cpus \"0;1\": want numbers"),
            (&|a| a.cpuset_cpus = some("1-0"), "--cpuset-cpus \"1-0\": want numbers"),
            (&|a| a.cpuset_cpus = some("0,60000"), "--cpuset-cpus \"0,60000\": this host has 0"),
            (&|a| a.cpuset_mems = some("0-60000"), "--cpuset-mems \"0-60000\": this host has 0"),
            (&|a| a.cpu_quota = Some(1), "--cpu-quota 1: want at least 1000"),
            (&|a| a.cpu_period = Some(2_000_000), "--cpu-period 2000000: want 1000 to 1000000"),
            (&|a| a.dns = vec!["example.org".to_owned()], "--dns"),
            (&|a| a.dns_search = vec!["a b".to_owned()], "--dns-search"),
            (&|a| a.add_host = vec!["x".to_owned()], "--add-host"),
            (&|a| a.ulimit = vec!["x=1".to_owned()], "--ulimit"),
            (&|a| a.shm_size = "x".to_owned(), "--shm-size"),
        ] {
            let message = read(change).expect_err(want);
            assert!(message.starts_with(want), "{message}");
        }
    }

    #[test]
    fn dns_options_replace_lines_of_the_host() {
        let mut args = ContainerArgs { shm_size: "64m".to_owned(), ..ContainerArgs::default() };
        args.dns = vec!["192.0.2.7".to_owned()];
        args.dns_search = vec!["a.example".to_owned(), "b.example".to_owned()];
        let text = resolv_conf(&args, &Environment::of(0, &[])).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("nameserver 192.0.2.7\n"), "{text}");
        assert_eq!(text.matches("nameserver").count(), 1, "{text}");
        assert!(text.ends_with("search a.example b.example\n"), "{text}");
    }
}
