use super::*;
use crate::sandbox::sys::Notification;

/// What the kernel would do: runs `program` over one call.
fn run(program: &[Instruction], arch: u32, number: u32, first: u32) -> u32 {
    run_with(program, arch, number, &[first])
}

fn run_with(program: &[Instruction], arch: u32, number: u32, args: &[u32]) -> u32 {
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let skip = |yes: bool| usize::from(if yes { jt } else { jf });
        match code {
            LOAD => {
                a = match k {
                    NUMBER => number,
                    ARCH => arch,
                    low if low >= ARGUMENTS && low.is_multiple_of(8) => args[(low - ARGUMENTS) as usize / 8],
                    other => panic!("loads offset {other}"),
                }
            }
            RETURN => return k,
            EQUAL => at += skip(a == k),
            GREATER => at += skip(a > k),
            ANY_BIT => at += skip(a & k != 0),
            JUMP => at += k as usize,
            watched::AND => a &= k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

const ALL: [Arch; 4] = [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm];

#[test]
fn every_call_of_the_tables_is_refused_on_every_architecture() {
    // S-70
    let program = program(&ALL);
    for arch in ALL {
        for (name, number) in arch.refused() {
            assert_eq!(run(&program, arch.audit(), number, 0), EPERM, "{name} on {arch:?}");
        }
        assert_eq!(run(&program, arch.audit(), arch.special()[1], 0), ENOSYS, "clone3 on {arch:?}");
    }
}

#[test]
fn ordinary_calls_are_allowed() {
    let program = program(&ALL);
    // read, write, execve, ptrace; then the newest that programs probe for.
    for (arch, numbers) in [
        (Arch::X86_64, [0, 1, 59, 101, 435 + 4, 462]),
        (Arch::I386, [3, 4, 11, 26, 439, 462]),
        (Arch::Aarch64, [63, 64, 221, 117, 439, 462]),
        (Arch::Arm, [3, 4, 11, 26, 439, 0x000F_0005]),
    ] {
        for number in numbers {
            assert_eq!(run(&program, arch.audit(), number, 0), ALLOW, "{number} on {arch:?}");
        }
    }
}

#[test]
fn clone_makes_processes_but_no_namespaces() {
    let program = program(&ALL);
    for arch in ALL {
        let clone = arch.special()[0];
        let call = |flags| run(&program, arch.audit(), clone, flags);
        assert_eq!(call(0x0120_0011), ALLOW, "fork on {arch:?}");
        assert_eq!(call(0x003D_0F00), ALLOW, "a thread on {arch:?}");
        for flag in [0x0002_0000u32, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(call(flag | 17), EPERM, "{flag:#x} on {arch:?}");
        }
    }
}

#[test]
fn personality_and_socket_are_looked_at_more_closely() {
    let program = program(&ALL);
    for arch in ALL {
        let [_, _, personality, socket] = arch.special();
        for allowed in PERSONALITIES {
            assert_eq!(run(&program, arch.audit(), personality, allowed), ALLOW, "{allowed:#x}");
        }
        for refused in [0x0004_0000, 1, 0x0040_0000] {
            assert_eq!(run(&program, arch.audit(), personality, refused), EPERM, "{refused:#x}");
        }
        assert_eq!(run(&program, arch.audit(), socket, 2), ALLOW);
        assert_eq!(run(&program, arch.audit(), socket, AF_VSOCK), EPERM);
    }
}

#[test]
fn unknown_calls_and_interfaces_do_not_exist() {
    let program = program(&ALL);
    for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64] {
        assert_eq!(run(&program, arch.audit(), NEWEST + 1, 0), ENOSYS);
        assert_eq!(run(&program, arch.audit(), u32::MAX, 0), ENOSYS);
    }
    // x32 numbers carry a bit; without the check mount would pass as 0x40000000 + 165.
    assert_eq!(run(&program, Arch::X86_64.audit(), X32 | 165, 0), ENOSYS);
    assert_eq!(run(&program, 0x1234, 0, 0), ENOSYS);
}

#[test]
fn the_program_fits_the_kernels_limit() {
    assert!(program(&ALL).len() <= 4096);
    assert!(!filter().is_empty());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_native_column_agrees_with_the_c_library() {
    let numbers: std::collections::BTreeMap<&str, u32> = Arch::X86_64.refused().collect();
    for (name, number) in [
        ("mount", libc::SYS_mount),
        ("unshare", libc::SYS_unshare),
        ("keyctl", libc::SYS_keyctl),
        ("bpf", libc::SYS_bpf),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("setns", libc::SYS_setns),
        ("pivot_root", libc::SYS_pivot_root),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("move_mount", libc::SYS_move_mount),
        ("kexec_load", libc::SYS_kexec_load),
    ] {
        assert_eq!(i64::from(numbers[name]), number, "{name}");
    }
    let special = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_personality, libc::SYS_socket];
    assert_eq!(Arch::X86_64.special().map(i64::from), special);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_that_change_files_are_stopped_and_others_are_not() {
    use libc::{O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
    let (all, moves) = (watching(true), watching(false));
    let [x86, i386] = [Arch::X86_64, Arch::I386].map(Arch::audit);
    let stops = |program: &[Instruction], arch, number, args: &[i32]| {
        let args: Vec<u32> = args.iter().map(|arg| *arg as u32).collect();
        match run_with(program, arch, number, &args) {
            watched::NOTIFY => true,
            ALLOW => false,
            other => panic!("{number}: {other:#x}"),
        }
    };
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
fn operands_are_found_where_the_calls_have_them() {
    let arch = Arch::native()[0];
    let call = |name: &str, args| {
        let mut call = Notification::default();
        call.number = watched::number(name, arch).expect("a call of this architecture");
        call.arch = arch.audit();
        call.args = args;
        call
    };
    let path = |dir, address, follow, empty| Operand::Path { dir, address, follow, empty, resolve: 0 };
    let (nofollow, empty, here) = (libc::AT_SYMLINK_NOFOLLOW as u64, libc::AT_EMPTY_PATH as u64, libc::AT_FDCWD);
    let cwd = here as u32 as u64;
    for (name, args, want) in [
        ("fchmod", [7, 0, 0, 0, 0, 0], vec![(Some(Deed::Change), Operand::Fd(7))]),
        ("fchownat", [7, 100, 0, 0, nofollow, 0], vec![(Some(Deed::Change), path(7, 100, false, false))]),
        ("fchownat", [7, 100, 0, 0, empty, 0], vec![(Some(Deed::Change), path(7, 100, true, true))]),
        ("utimensat", [7, 0, 0, 0, 0, 0], vec![(Some(Deed::Change), Operand::Fd(7))]),
        (
            "openat",
            [cwd, 100, libc::O_WRONLY as u64, 0, 0, 0],
            vec![(Some(Deed::Change), path(here, 100, true, false))],
        ),
        ("openat", [cwd, 100, libc::O_PATH as u64 | 1, 0, 0, 0], vec![]),
        (
            "linkat",
            [3, 100, 4, 200, 0, 0],
            vec![(None, path(4, 200, false, false)), (Some(Deed::Change), path(3, 100, false, false))],
        ),
        (
            "renameat2",
            [3, 100, 4, 200, 1, 0],
            vec![(None, path(4, 200, false, false)), (Some(Deed::Move), path(3, 100, false, false))],
        ),
        (
            "renameat2",
            [3, 100, 4, 200, 0, 0],
            vec![(Some(Deed::Move), path(3, 100, false, false)), (Some(Deed::Leave), path(4, 200, false, false))],
        ),
        (
            "renameat2",
            [3, 100, 4, 200, 2, 0],
            vec![(Some(Deed::Move), path(3, 100, false, false)), (Some(Deed::Move), path(4, 200, false, false))],
        ),
        ("unlinkat", [3, 100, 0, 0, 0, 0], vec![(Some(Deed::Leave), path(3, 100, false, false))]),
    ] {
        assert_eq!(decode(&call(name, args), |_| None), want, "{name}");
    }
    let opened = decode(&call("openat2", [3, 100, 50, 24, 0, 0]), |how| (how == 50).then_some((1, 8)));
    assert_eq!(
        opened,
        [(Some(Deed::Change), Operand::Path { dir: 3, address: 100, follow: true, empty: false, resolve: 8 })]
    );
    assert_eq!(decode(&Notification::default(), |_| None), []);
}
