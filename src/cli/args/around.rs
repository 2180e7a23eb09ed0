//! The options about what is around a command: the same for `kiln build` and `kiln run`.

use clap::Args;

const AROUND: &str = "Around commands";

/// Hosts, resolver and limits.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct AroundArgs {
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "HOST:IP", help_heading = AROUND)]
    pub(in crate::cli) add_host: Vec<String>,

    /// Use this name server instead of the host's
    #[arg(long, value_name = "IP", help_heading = AROUND)]
    pub(in crate::cli) dns: Vec<String>,

    /// Complete names with this domain
    #[arg(long, value_name = "DOMAIN", help_heading = AROUND)]
    pub(in crate::cli) dns_search: Vec<String>,

    /// An option for /etc/resolv.conf
    #[arg(long, value_name = "OPTION", help_heading = AROUND)]
    pub(in crate::cli) dns_option: Vec<String>,

    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", default_value = "64m", help_heading = AROUND)]
    pub(in crate::cli) shm_size: String,

    /// A resource limit, for example nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = AROUND)]
    pub(in crate::cli) ulimit: Vec<String>,

    /// Memory that one command may use
    #[arg(long, short = 'm', value_name = "SIZE", help_heading = AROUND)]
    pub(in crate::cli) memory: Option<String>,

    /// Memory and swap together, -1 for all swap there is [default: twice the memory]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = AROUND)]
    pub(in crate::cli) memory_swap: Option<String>,

    /// CPUs that one command may keep busy, for example 1.5
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = AROUND)]
    pub(in crate::cli) cpus: Option<String>,

    /// Weight among those who want CPU time [1024 is one share]
    #[arg(long, short = 'c', value_name = "SHARES", help_heading = AROUND)]
    pub(in crate::cli) cpu_shares: Option<u64>,

    /// Microseconds of CPU time in a period, -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true, help_heading = AROUND)]
    pub(in crate::cli) cpu_quota: Option<i64>,

    /// Microseconds in a period
    #[arg(long, value_name = "MICROSECONDS", help_heading = AROUND)]
    pub(in crate::cli) cpu_period: Option<u64>,

    /// CPUs to run on, for example 0-3,5
    #[arg(long, value_name = "LIST", help_heading = AROUND)]
    pub(in crate::cli) cpuset_cpus: Option<String>,

    /// Memory nodes to use, for example 0-1
    #[arg(long, value_name = "LIST", help_heading = AROUND)]
    pub(in crate::cli) cpuset_mems: Option<String>,

    /// Processes and threads that one command may have at a time, -1 for any number
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = AROUND)]
    pub(in crate::cli) pids_limit: Option<i64>,
}
