use rustix::thread::CapabilitySet;

use super::filter::program;
use super::program::{
    ALLOW, AND, ANY_BIT, ARCH, ARGUMENTS, AT_LEAST, ENOSYS, EPERM, EQUAL, JUMP, LOAD, NOTIFY, NUMBER, RETURN,
};
use super::table::{Arch, NEWEST};
use super::*;
use crate::sandbox::sys::{Instruction, Notification};

/// Runs `program` over one call, as the kernel does.
fn run(program: &[Instruction], arch: u32, number: u32, first: u32) -> u32 {
    run_with(program, arch, number, &[first])
}

fn run_with(program: &[Instruction], arch: u32, number: u32, args: &[u32]) -> u32 {
    steps(program, arch, number, args).0
}

/// The answer, and after how many instructions.
fn steps(program: &[Instruction], arch: u32, number: u32, args: &[u32]) -> (u32, usize) {
    let (mut at, mut a) = (0usize, 0u32);
    for count in 1.. {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let skip = |yes: bool| usize::from(if yes { jt } else { jf });
        match code {
            LOAD => {
                a = match k {
                    NUMBER => number,
                    ARCH => arch,
                    low if low >= ARGUMENTS && low.is_multiple_of(8) => {
                        args.get((low - ARGUMENTS) as usize / 8).copied().unwrap_or(0)
                    }
                    other => panic!("loads offset {other}"),
                }
            }
            RETURN => return (k, count),
            EQUAL => at += skip(a == k),
            AT_LEAST => at += skip(a >= k),
            ANY_BIT => at += skip(a & k != 0),
            JUMP => at += k as usize,
            AND => a &= k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
    unreachable!("every path returns")
}

const ALL: [Arch; 4] = [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm];

/// Docker's default capabilities.
const DEFAULT: CapabilitySet = crate::sandbox::confine::DEFAULT_CAPABILITIES;

/// One line of the profile's facts.
struct Fact {
    name: &'static str,
    answer: u32,
    /// Whether a first argument is meant.
    argument: Option<(&'static str, u64)>,
    /// Of these capabilities the command has one, or none.
    with: Option<CapabilitySet>,
    without: Option<CapabilitySet>,
    on: Option<Vec<&'static str>>,
    not_on: Vec<&'static str>,
}

fn facts() -> Vec<Fact> {
    let text = include_str!("../../../testdata/seccomp/docker-default.txt");
    text.lines().filter(|line| !line.starts_with('#')).map(fact).collect()
}

fn fact(line: &'static str) -> Fact {
    let (name, rest) = line.split_once(": ").expect("a name");
    let mut words = rest.split(' ').peekable();
    let answer = match words.next() {
        Some("allow") => ALLOW,
        Some("errno") => 0x0005_0000 | words.next().expect("a number").parse::<u32>().expect("a number"),
        other => panic!("{other:?}"),
    };
    let mut out = Fact { name, answer, argument: None, with: None, without: None, on: None, not_on: vec![] };
    while let Some(word) = words.next() {
        let mut list = || {
            let mut list = Vec::new();
            while let Some(word) = words.next_if(|word| !["with", "without", "on", "not"].contains(word)) {
                list.push(word);
            }
            list
        };
        match word {
            "with" => out.with = Some(list().into_iter().map(capability).collect()),
            "without" => out.without = Some(list().into_iter().map(capability).collect()),
            "on" => out.on = Some(list()),
            "not" => {
                words.next();
                out.not_on = vec!["s390"];
                words.by_ref().for_each(drop);
            }
            // All kernels that kiln runs on are newer.
            "since" => drop(words.next()),
            "arg0" => {
                let operator = words.next().expect("an operator");
                out.argument = Some((operator, words.next().expect("a value").parse().expect("a number")));
                if operator == "&" {
                    assert_eq!((words.next(), words.next()), (Some("=="), Some("0")));
                }
            }
            "arg1" => {
                out.on = Some(vec!["s390"]);
                words.by_ref().for_each(drop);
            }
            other => panic!("{other} in {line}"),
        }
    }
    out
}

fn capability(name: &str) -> CapabilitySet {
    match name {
        "CAP_BPF" => CapabilitySet::BPF,
        "CAP_DAC_READ_SEARCH" => CapabilitySet::DAC_READ_SEARCH,
        "CAP_PERFMON" => CapabilitySet::PERFMON,
        "CAP_SYSLOG" => CapabilitySet::SYSLOG,
        "CAP_SYS_ADMIN" => CapabilitySet::SYS_ADMIN,
        "CAP_SYS_BOOT" => CapabilitySet::SYS_BOOT,
        "CAP_SYS_CHROOT" => CapabilitySet::SYS_CHROOT,
        "CAP_SYS_MODULE" => CapabilitySet::SYS_MODULE,
        "CAP_SYS_NICE" => CapabilitySet::SYS_NICE,
        "CAP_SYS_PACCT" => CapabilitySet::SYS_PACCT,
        "CAP_SYS_PTRACE" => CapabilitySet::SYS_PTRACE,
        "CAP_SYS_RAWIO" => CapabilitySet::SYS_RAWIO,
        "CAP_SYS_TIME" => CapabilitySet::SYS_TIME,
        "CAP_SYS_TTY_CONFIG" => CapabilitySet::SYS_TTY_CONFIG,
        other => panic!("{other}"),
    }
}

/// What the profile answers a call with this first argument; of several lines an allowing one counts.
fn expected(facts: &[Fact], name: &str, arch: Arch, capabilities: CapabilitySet, argument: u32) -> u32 {
    let names: &[&str] = match arch {
        Arch::X86_64 => &["amd64"],
        Arch::I386 => &["x86"],
        Arch::Aarch64 => &["arm64"],
        Arch::Arm => &["arm"],
    };
    let holds = |fact: &&Fact| {
        let value = u64::from(argument);
        fact.name == name
            && fact.on.as_ref().is_none_or(|on| on.iter().any(|arch| names.contains(arch)))
            && fact.with.is_none_or(|with| with.intersects(capabilities))
            && fact.without.is_none_or(|without| !without.intersects(capabilities))
            && fact.argument.is_none_or(|(operator, operand)| match operator {
                "<" => value < operand,
                ">" => value > operand,
                "==" => value == operand,
                "&" => value & operand == 0,
                other => panic!("{other}"),
            })
    };
    let answers: Vec<u32> = facts.iter().filter(holds).map(|fact| fact.answer).collect();
    match answers.contains(&ALLOW) {
        true => ALLOW,
        false => answers.first().copied().unwrap_or(EPERM),
    }
}

/// First arguments on both sides of everything that a rule could tell apart.
fn arguments() -> Vec<u32> {
    let bits = (0..32).map(|bit| 1u32 << bit);
    (0..64).chain(bits.clone()).chain(bits.map(|bit| bit | 17)).chain([0x2_0008, u32::MAX, 0x0120_0011]).collect()
}

#[test]
fn filter_answers_every_call_as_docker_profile() {
    // N-54, S-70
    let facts = facts();
    for more in [CapabilitySet::empty(), CapabilitySet::SYS_PTRACE, CapabilitySet::SYS_TIME, CapabilitySet::BPF] {
        let capabilities = DEFAULT.union(more);
        let program = program(&ALL, capabilities, None);
        for arch in ALL {
            for number in 0..=NEWEST {
                let name = arch.calls().find(|(_, known, _)| *known == number).map(|(name, ..)| name);
                let several = facts.iter().any(|fact| Some(fact.name) == name && fact.argument.is_some());
                let values = if several { arguments() } else { vec![0, u32::MAX] };
                for value in values {
                    let want = name.map_or(EPERM, |name| expected(&facts, name, arch, capabilities, value));
                    let is = run(&program, arch.audit(), number, value);
                    assert_eq!(is, want, "{name:?} ({number}) of {value:#x} on {arch:?} with {more:?}");
                }
            }
        }
    }
}

#[test]
fn table_has_every_call_of_the_profile_once() {
    // N-54
    let rows: Vec<&str> = table::CALLS.iter().map(|(name, ..)| *name).collect();
    assert!(rows.is_sorted_by_key(|name| name.trim_start_matches('_')), "easy to read");
    let ours = |fact: &Fact| {
        let on = |on: &Vec<&str>| on.iter().any(|arch| ["amd64", "x86", "arm64", "arm"].contains(arch));
        fact.on.as_ref().is_none_or(on)
    };
    // Another name of sync_file_range2, and a call of RISC-V alone.
    let elsewhere = ["arm_sync_file_range", "riscv_hwprobe"];
    let mut names: Vec<&str> = facts().iter().filter(|fact| ours(fact)).map(|fact| fact.name).collect();
    names.dedup();
    names.retain(|name| !elsewhere.contains(name));
    let mut sorted = rows.clone();
    sorted.sort_unstable();
    names.sort_unstable();
    assert_eq!(sorted, names);
    for arch in ALL {
        let mut numbers: Vec<u32> = arch.calls().map(|(_, number, _)| number).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "two calls of {arch:?} have one number");
        assert_eq!(numbers.iter().filter(|number| **number <= NEWEST).max(), Some(&NEWEST));
    }
}

#[test]
fn filter_ignores_upper_half_of_argument() {
    // The kernel takes 32 bits of these; a filter that compared 64 would let 2^32 + AF_ALG pass.
    let program = program(&ALL, DEFAULT, None);
    assert!(program.iter().filter(|i| i.code == LOAD && i.k >= ARGUMENTS).all(|i| (i.k - ARGUMENTS).is_multiple_of(8)));
    for arch in ALL {
        let socket = arch.calls().find(|(name, ..)| *name == "socket").expect("socket").1;
        assert_eq!(run(&program, arch.audit(), socket, 38), EPERM, "AF_ALG on {arch:?}");
    }
}

#[test]
fn filter_hides_unknown_calls_and_interfaces() {
    let program = program(&ALL, DEFAULT, None);
    for arch in ALL {
        for number in [NEWEST + 1, 467, 1000, 0x1000_0000, u32::MAX] {
            assert_eq!(run(&program, arch.audit(), number, 0), ENOSYS, "{number} on {arch:?}");
        }
    }
    // x32 numbers carry a bit; without the check mount would pass as 0x40000000 + 165.
    for number in 0..=NEWEST {
        assert_eq!(run(&program, Arch::X86_64.audit(), 0x4000_0000 | number, 0), ENOSYS);
    }
    assert_eq!(run(&program, 0x1234, 0, 0), ENOSYS);
    // ARM's private calls: breakpoint, cache flush, TLS.
    for (number, want) in [(0x000F_0001, ALLOW), (0x000F_0002, ALLOW), (0x000F_0003, ENOSYS), (0x000F_0005, ALLOW)] {
        assert_eq!(run(&program, Arch::Arm.audit(), number, 0), want, "{number:#x}");
    }
}

#[test]
fn filter_reports_unmapped_ids_and_devices() {
    // N-53, N-55
    let limits = |ids, groups| program(&ALL, DEFAULT, Some(Limits { ids, groups, names: false }));
    let (one, many, root) = (limits(1, false), limits(65_537, true), limits(u32::MAX, true));
    for arch in ALL {
        let number = |wanted: &str| arch.calls().find(|(name, ..)| *name == wanted).map(|(_, number, _)| number);
        let call = |program: &[Instruction], name: &str, args: &[u32]| {
            number(name).map(|number| run_with(program, arch.audit(), number, args) == NOTIFY)
        };
        for (name, args) in [
            ("fchown", &[3, 5, 0][..]),
            ("fchown", &[3, 0, 5]),
            ("chown", &[3, u32::MAX, 70_000]),
            ("fchownat", &[3, 0, 5, 0, 0]),
            ("fchownat", &[3, 0, 0, 5, 0]),
            ("lchown32", &[0, 5, 5]),
            ("setuid", &[5]),
            ("setresuid", &[u32::MAX, u32::MAX, 5]),
            ("setresgid", &[5, 5, 5]),
        ] {
            let reported = [&one, &many, &root].map(|program| call(program, name, args));
            let beyond = args.contains(&70_000);
            let want = number(name).map(|_| true);
            assert_eq!(reported, [want, want.map(|_| beyond), want.map(|_| false)], "{name} {args:?} on {arch:?}");
        }
        for (name, args) in [("fchown", &[9, 0, 0][..]), ("fchown", &[9, u32::MAX, u32::MAX]), ("setuid", &[0])] {
            assert_eq!(call(&one, name, args), number(name).map(|_| false), "{name} {args:?} on {arch:?}");
        }
        assert_eq!([&one, &many].map(|program| call(program, "setgroups", &[1, 7])), [Some(true), Some(false)]);
        for (mode, device) in
            [(libc::S_IFCHR, true), (libc::S_IFBLK | 0o600, true), (libc::S_IFREG, false), (0o644, false)]
        {
            for program in [&one, &many, &root] {
                assert_eq!(call(program, "mknodat", &[3, 0, mode, 259]), Some(device), "{mode:o} on {arch:?}");
            }
        }
        // Everything else is answered as without.
        let plain = program(&ALL, DEFAULT, None);
        for number in 0..=NEWEST {
            assert_eq!(run(&root, arch.audit(), number, 0), run(&plain, arch.audit(), number, 0), "{number}");
        }
    }
}

#[test]
fn filter_decides_in_few_instructions() {
    for limits in [None, Some(Limits { ids: 1, groups: false, names: true })] {
        let program = program(&ALL, DEFAULT, limits);
        assert!(program.len() <= 4096, "{}", program.len());
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let most = (0..=NEWEST + 1).map(|number| steps(&program, arch.audit(), number, &[]).1).max();
            assert!(most <= Some(30), "{most:?} on {arch:?}");
        }
    }
    assert!(!filter(DEFAULT, None).is_empty());
}

/// Calls by the C library's names.
macro_rules! numbers {
    ($($name:ident)*) => {
        [$((stringify!($name), ::libc::$name)),*]
    };
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn native_column_agrees_with_the_c_library() {
    let arch = Arch::native()[0];
    for (name, number) in numbers!(
        SYS_accept4 SYS_acct SYS_add_key SYS_bpf SYS_brk SYS_capset SYS_chroot SYS_clock_gettime SYS_clone SYS_clone3
        SYS_close_range SYS_connect SYS_copy_file_range SYS_delete_module SYS_dup3 SYS_epoll_pwait SYS_execve
        SYS_execveat SYS_exit_group SYS_faccessat2 SYS_fchmodat SYS_fchown SYS_fchownat SYS_finit_module SYS_flock
        SYS_fsconfig SYS_fsmount SYS_fsopen SYS_futex SYS_getdents64 SYS_getrandom SYS_init_module SYS_io_setup
        SYS_ioctl SYS_kcmp SYS_kexec_load SYS_keyctl SYS_landlock_create_ruleset SYS_linkat SYS_lookup_dcookie
        SYS_mbind SYS_membarrier SYS_memfd_create SYS_mkdirat SYS_mknodat SYS_mmap SYS_mount SYS_mount_setattr
        SYS_move_mount SYS_move_pages SYS_mq_open SYS_name_to_handle_at SYS_open_by_handle_at SYS_open_tree SYS_openat
        SYS_openat2 SYS_perf_event_open SYS_personality SYS_pidfd_getfd SYS_pidfd_open SYS_pipe2 SYS_pivot_root
        SYS_prctl SYS_process_madvise SYS_process_vm_readv SYS_ptrace SYS_quotactl SYS_read SYS_readlinkat SYS_reboot
        SYS_renameat2 SYS_request_key SYS_rseq SYS_rt_sigaction SYS_sched_setaffinity SYS_seccomp SYS_sendmsg
        SYS_set_mempolicy SYS_setdomainname SYS_setgroups SYS_sethostname SYS_setns SYS_setresuid SYS_setsid
        SYS_settimeofday SYS_setxattr SYS_shmget SYS_socket SYS_socketpair SYS_splice SYS_statx SYS_swapon SYS_symlinkat
        SYS_syslog SYS_umount2 SYS_unlinkat SYS_unshare SYS_userfaultfd SYS_utimensat SYS_vhangup SYS_waitid SYS_write
        SYS_io_uring_setup
    ) {
        let name = name.trim_start_matches("SYS_");
        let row = arch.calls().find(|(known, ..)| *known == name).map(|(_, row, _)| i64::from(row));
        let other = arch.calls().find(|(_, row, _)| i64::from(*row) == number).map(|(known, ..)| known);
        assert_eq!(row.unwrap_or(number), number, "{name}");
        assert!(other.is_none_or(|other| other == name), "{name} has the number of {other:?}");
    }
}

/// Whether the file filter stops a call.
fn stops(program: &[Instruction], arch: u32, number: u32, args: &[i32]) -> bool {
    let args: Vec<u32> = args.iter().map(|arg| *arg as u32).collect();
    match run_with(program, arch, number, &args) {
        NOTIFY => true,
        ALLOW => false,
        other => panic!("{number}: {other:#x}"),
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn file_filter_stops_only_calls_that_change_files() {
    use libc::{O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
    let (all, moves) = (file_filter(WatchScope::All), file_filter(WatchScope::Renames));
    let [x86, i386] = [Arch::X86_64, Arch::I386].map(Arch::audit);
    for (number, args, is) in [
        (libc::SYS_open, &[0, O_WRONLY][..], true),
        (libc::SYS_open, &[0, O_RDONLY | O_TRUNC], true),
        (libc::SYS_open, &[0, O_RDONLY | O_CREAT], false),
        (libc::SYS_openat, &[0, 0, O_RDWR | O_CREAT], true),
        (libc::SYS_openat, &[0, 0, O_RDWR | O_CREAT | O_EXCL], false),
        (libc::SYS_openat, &[0, 0, O_RDWR | O_EXCL], true),
        (libc::SYS_openat, &[0, 0, O_RDONLY], false),
        (libc::SYS_openat2, &[], true),
        (libc::SYS_unlinkat, &[0, 0, 0], true),
        (libc::SYS_unlinkat, &[0, 0, libc::AT_REMOVEDIR], false),
        (libc::SYS_fchmod, &[], true),
        (libc::SYS_setxattr, &[], true),
        (libc::SYS_link, &[], true),
        (libc::SYS_read, &[], false),
        (libc::SYS_write, &[], false),
        (libc::SYS_mkdir, &[], false),
    ] {
        assert_eq!(stops(&all, x86, number as u32, args), is, "{number} {args:?}");
        assert!(!stops(&moves, x86, number as u32, args), "{number} {args:?}");
    }
    for program in [&all, &moves] {
        assert!(stops(program, x86, libc::SYS_rename as u32, &[]) && stops(program, i386, 38, &[]));
        // Of an interface that the tables do not know, the other filter decides.
        assert!(!stops(program, 0x1234, 82, &[]));
    }
    for (name, number) in [
        ("chmod", libc::SYS_chmod),
        ("chown", libc::SYS_chown),
        ("creat", libc::SYS_creat),
        ("fchmodat", libc::SYS_fchmodat),
        ("fchown", libc::SYS_fchown),
        ("fchownat", libc::SYS_fchownat),
        ("fremovexattr", libc::SYS_fremovexattr),
        ("fsetxattr", libc::SYS_fsetxattr),
        ("futimesat", libc::SYS_futimesat),
        ("lchown", libc::SYS_lchown),
        ("linkat", libc::SYS_linkat),
        ("lremovexattr", libc::SYS_lremovexattr),
        ("lsetxattr", libc::SYS_lsetxattr),
        ("removexattr", libc::SYS_removexattr),
        ("renameat", libc::SYS_renameat),
        ("renameat2", libc::SYS_renameat2),
        ("truncate", libc::SYS_truncate),
        ("unlink", libc::SYS_unlink),
        ("utime", libc::SYS_utime),
        ("utimensat", libc::SYS_utimensat),
        ("utimes", libc::SYS_utimes),
    ] {
        assert!(stops(&all, x86, number as u32, &[]), "{name}");
    }
}

#[test]
fn decode_finds_operands_of_each_call() {
    let arch = Arch::native()[0];
    let call = |name: &str, args| {
        let mut call = Notification::default();
        call.number = files::number(name, arch).expect("a call of this architecture");
        call.arch = arch.audit();
        call.args = args;
        call
    };
    let path = |dir, address, follow, empty| Operand::Path { dir, address, follow, empty, resolve: 0 };
    let (nofollow, empty, here) = (libc::AT_SYMLINK_NOFOLLOW as u64, libc::AT_EMPTY_PATH as u64, libc::AT_FDCWD);
    let cwd = here as u32 as u64;
    for (name, args, want) in [
        ("fchmod", [7, 0, 0, 0, 0, 0], vec![(Some(FileOperation::Modify), Operand::Fd(7))]),
        ("fchownat", [7, 100, 0, 0, nofollow, 0], vec![(Some(FileOperation::Modify), path(7, 100, false, false))]),
        ("fchownat", [7, 100, 0, 0, empty, 0], vec![(Some(FileOperation::Modify), path(7, 100, true, true))]),
        ("utimensat", [7, 0, 0, 0, 0, 0], vec![(Some(FileOperation::Modify), Operand::Fd(7))]),
        (
            "openat",
            [cwd, 100, libc::O_WRONLY as u64, 0, 0, 0],
            vec![(Some(FileOperation::Modify), path(here, 100, true, false))],
        ),
        ("openat", [cwd, 100, libc::O_PATH as u64 | 1, 0, 0, 0], vec![]),
        (
            "linkat",
            [3, 100, 4, 200, 0, 0],
            vec![(None, path(4, 200, false, false)), (Some(FileOperation::Modify), path(3, 100, false, false))],
        ),
        (
            "renameat2",
            [3, 100, 4, 200, 1, 0],
            vec![(None, path(4, 200, false, false)), (Some(FileOperation::Rename), path(3, 100, false, false))],
        ),
        (
            "renameat2",
            [3, 100, 4, 200, 0, 0],
            vec![
                (Some(FileOperation::Rename), path(3, 100, false, false)),
                (Some(FileOperation::Unlink), path(4, 200, false, false)),
            ],
        ),
        (
            "renameat2",
            [3, 100, 4, 200, 2, 0],
            vec![
                (Some(FileOperation::Rename), path(3, 100, false, false)),
                (Some(FileOperation::Rename), path(4, 200, false, false)),
            ],
        ),
        ("unlinkat", [3, 100, 0, 0, 0, 0], vec![(Some(FileOperation::Unlink), path(3, 100, false, false))]),
    ] {
        assert_eq!(decode(&call(name, args), |_| None), want, "{name}");
    }
    let opened = decode(&call("openat2", [3, 100, 50, 24, 0, 0]), |how| (how == 50).then_some((1, 8)));
    assert_eq!(
        opened,
        [(Some(FileOperation::Modify), Operand::Path { dir: 3, address: 100, follow: true, empty: false, resolve: 8 })]
    );
    assert_eq!(decode(&Notification::default(), |_| None), []);
}
