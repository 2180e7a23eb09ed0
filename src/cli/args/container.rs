//! Hosts, resolver and limits: options that `kiln build` and `kiln run` share.

use clap::Args;

const LIMITS: &str = "Hosts and limits";

/// Hosts, resolver and limits.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct ContainerArgs {
    /// Add a line to /etc/hosts
    ///
    /// The address host-gateway means the host, if the command uses its network.
    #[arg(long, value_name = "HOST:IP", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) add_host: Vec<String>,

    /// Use this name server instead of the host's
    #[arg(long, value_name = "IP", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) dns: Vec<String>,

    /// Set a search domain of the resolver
    #[arg(long, value_name = "DOMAIN", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) dns_search: Vec<String>,

    /// Set an option in /etc/resolv.conf
    #[arg(long, value_name = "OPTION", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) dns_option: Vec<String>,

    /// Set the size of /dev/shm
    #[arg(long, value_name = "SIZE", default_value = "64m", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) shm_size: String,

    /// Set a resource limit
    ///
    /// For example nofile=1024:2048. -1 means no limit.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) ulimit: Vec<String>,

    /// Limit the memory of a command
    ///
    /// At least 6m. Needs control groups; where there are none, a note says so.
    #[arg(long, short = 'm', value_name = "SIZE", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) memory: Option<String>,

    /// Limit memory and swap together
    ///
    /// -1 means unlimited swap. The default is twice the memory limit.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) memory_swap: Option<String>,

    /// Limit the number of CPUs of a command
    ///
    /// For example 1.5. Needs control groups; where there are none, a note says so.
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) cpus: Option<String>,

    /// Set the CPU weight of a command
    ///
    /// The default weight is 1024.
    #[arg(long, short = 'c', value_name = "SHARES", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) cpu_shares: Option<u64>,

    /// Limit the CPU time in a period
    ///
    /// In microseconds, at least 1000; -1 means no limit.
    #[arg(
        long,
        value_name = "MICROSECONDS",
        allow_negative_numbers = true,
        help_heading = LIMITS,
        hide_short_help = true
    )]
    pub(in crate::cli) cpu_quota: Option<i64>,

    /// Set the period of --cpu-quota
    ///
    /// In microseconds, 1000 to 1000000.
    #[arg(long, value_name = "MICROSECONDS", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) cpu_period: Option<u64>,

    /// Choose the CPUs to run on
    ///
    /// For example 0-3,5.
    #[arg(long, value_name = "LIST", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) cpuset_cpus: Option<String>,

    /// Choose the memory nodes to use
    ///
    /// For example 0-1.
    #[arg(long, value_name = "LIST", help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) cpuset_mems: Option<String>,

    /// Limit the processes and threads of a command
    ///
    /// -1 means no limit. Needs control groups; where there are none, a note says so.
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = LIMITS, hide_short_help = true)]
    pub(in crate::cli) pids_limit: Option<i64>,
}
