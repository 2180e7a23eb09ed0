//! Which system calls are refused, and their numbers on each architecture.
//!
//! Everything Docker's default profile leaves to capabilities that a build does not have, plus what it never allows.
//! Facts of the kernel's interface; a test holds the native column against the C library's constants.

/// One architecture's numbers, and the columns they stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, as a 64-bit kernel runs it.
    I386,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, as a 64-bit kernel runs it.
    Arm,
}

/// No such call on this architecture.
pub(super) const NO: u32 = u32::MAX;

/// Refused with EPERM: name, then numbers for x86-64, i386, aarch64, arm.
#[rustfmt::skip]
const REFUSED: &[(&str, [u32; 4])] = &[
    ("acct", [163, 51, 89, 51]),
    ("add_key", [248, 286, 217, 309]),
    ("bpf", [321, 357, 280, 386]),
    ("clock_adjtime", [305, 343, 266, 372]),
    ("clock_adjtime64", [NO, 405, NO, 405]),
    ("clock_settime", [227, 264, 112, 262]),
    ("clock_settime64", [NO, 404, NO, 404]),
    ("create_module", [174, 127, NO, NO]),
    ("delete_module", [176, 129, 106, 129]),
    ("fanotify_init", [300, 338, 262, 367]),
    ("finit_module", [313, 350, 273, 379]),
    ("fsconfig", [431, 431, 431, 431]),
    ("fsmount", [432, 432, 432, 432]),
    ("fsopen", [430, 430, 430, 430]),
    ("fspick", [433, 433, 433, 433]),
    ("get_kernel_syms", [177, 130, NO, NO]),
    ("get_mempolicy", [239, 275, 236, 320]),
    ("init_module", [175, 128, 105, 128]),
    ("io_uring_enter", [426, 426, 426, 426]),
    ("io_uring_register", [427, 427, 427, 427]),
    ("io_uring_setup", [425, 425, 425, 425]),
    ("ioperm", [173, 101, NO, NO]),
    ("iopl", [172, 110, NO, NO]),
    ("kcmp", [312, 349, 272, 378]),
    ("kexec_file_load", [320, NO, 294, 401]),
    ("kexec_load", [246, 283, 104, 347]),
    ("keyctl", [250, 288, 219, 311]),
    ("lookup_dcookie", [212, 253, 18, 249]),
    ("mbind", [237, 274, 235, 319]),
    ("mount", [165, 21, 40, 21]),
    ("mount_setattr", [442, 442, 442, 442]),
    ("move_mount", [429, 429, 429, 429]),
    ("move_pages", [279, 317, 239, 344]),
    ("nfsservctl", [180, 169, 42, 169]),
    ("open_by_handle_at", [304, 342, 265, 371]),
    ("open_tree", [428, 428, 428, 428]),
    ("open_tree_attr", [467, 467, 467, 467]),
    ("perf_event_open", [298, 336, 241, 364]),
    ("pidfd_getfd", [438, 438, 438, 438]),
    ("pivot_root", [155, 217, 41, 218]),
    ("process_madvise", [440, 440, 440, 440]),
    ("query_module", [178, 167, NO, NO]),
    ("quotactl", [179, 131, 60, 131]),
    ("quotactl_fd", [443, 443, 443, 443]),
    ("reboot", [169, 88, 142, 88]),
    ("request_key", [249, 287, 218, 310]),
    ("set_mempolicy", [238, 276, 237, 321]),
    ("set_mempolicy_home_node", [450, 450, 450, 450]),
    ("setdomainname", [171, 121, 162, 121]),
    ("sethostname", [170, 74, 161, 74]),
    ("setns", [308, 346, 268, 375]),
    ("settimeofday", [164, 79, 170, 79]),
    ("stime", [NO, 25, NO, NO]),
    ("swapoff", [168, 115, 225, 115]),
    ("swapon", [167, 87, 224, 87]),
    ("sysfs", [139, 135, NO, 135]),
    ("_sysctl", [156, 149, NO, 149]),
    ("syslog", [103, 103, 116, 103]),
    ("umount", [NO, 22, NO, NO]),
    ("umount2", [166, 52, 39, 52]),
    ("unshare", [272, 310, 97, 337]),
    ("uselib", [134, 86, NO, 86]),
    ("userfaultfd", [323, 374, 282, 388]),
    ("ustat", [136, 62, NO, 62]),
    ("vhangup", [153, 111, 58, 111]),
    ("vm86", [NO, 166, NO, NO]),
    ("vm86old", [NO, 113, NO, NO]),
];

/// `clone`, `clone3`, `personality`, `socket`: looked at more closely.
#[rustfmt::skip]
const SPECIAL: [[u32; 4]; 4] = [
    [56, 120, 220, 120],
    [435, 435, 435, 435],
    [135, 136, 92, 136],
    [41, 359, 198, 281],
];

/// The newest call the tables know; later ones do not exist for a program inside (ENOSYS), which lets it fall back to
/// older ones, where a refusal (EPERM) would be taken at its word.
pub(super) const NEWEST: u32 = 469;

impl Arch {
    pub(super) fn column(self) -> usize {
        match self {
            Arch::X86_64 => 0,
            Arch::I386 => 1,
            Arch::Aarch64 => 2,
            Arch::Arm => 3,
        }
    }

    /// The kernel's name for it (`AUDIT_ARCH_*`).
    pub(super) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xC000_003E,
            Arch::I386 => 0x4000_0003,
            Arch::Aarch64 => 0xC000_00B7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// What a kernel that runs this binary may be asked to run, itself first.
    pub(super) fn native() -> &'static [Arch] {
        if cfg!(target_arch = "x86_64") {
            &[Arch::X86_64, Arch::I386]
        } else if cfg!(target_arch = "aarch64") {
            &[Arch::Aarch64, Arch::Arm]
        } else {
            &[]
        }
    }

    /// Numbers refused with EPERM.
    pub(super) fn refused(self) -> impl Iterator<Item = (&'static str, u32)> {
        let column = self.column();
        REFUSED.iter().map(move |(name, numbers)| (*name, numbers[column])).filter(|(_, number)| *number != NO)
    }

    /// `[clone, clone3, personality, socket]`.
    pub(super) fn special(self) -> [u32; 4] {
        SPECIAL.map(|numbers| numbers[self.column()])
    }
}
