//! Options about what a container may use, of `run`, `create` and `update`.

use clap::Args;

use crate::engine::options::resources::{self, Resources, Typed};
use crate::error::Result;

/// What a container may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
pub(super) struct ResourceArguments {
    /// Limit memory, such as 512m; 0 is no limit
    #[arg(short, long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Leave it this memory where memory is short
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Limit memory and swap together (twice the memory); -1 for all swap there is
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Slow it down above this memory, before it is killed
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_high: Option<String>,
    /// Limit time on processors, such as 1.5 of them
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    cpus: Option<String>,
    /// Share of the processors where they are short (1024)
    #[arg(short, long, value_name = "SHARES", allow_hyphen_values = true)]
    cpu_shares: Option<String>,
    /// The same in the kernel's numbers (100)
    #[arg(long, value_name = "WEIGHT", allow_hyphen_values = true)]
    cpu_weight: Option<String>,
    /// Limit time on processors: microseconds in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// The period of --cpu-quota (100000)
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_period: Option<String>,
    /// Run on these processors only, such as 0-3,8
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Take memory of these nodes only
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Limit the number of processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// Share of the disks where they are short, 10 to 1000
    #[arg(long, value_name = "WEIGHT", allow_hyphen_values = true)]
    blkio_weight: Option<String>,
    /// The same for one disk
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Limit reading from a disk, in bytes a second
    #[arg(long, value_name = "DEVICE:SIZE")]
    device_read_bps: Vec<String>,
    /// Limit writing to a disk, in bytes a second
    #[arg(long, value_name = "DEVICE:SIZE")]
    device_write_bps: Vec<String>,
    /// Limit reading from a disk, in operations a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_read_iops: Vec<String>,
    /// Limit writing to a disk, in operations a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    device_write_iops: Vec<String>,
    /// Write a file of its cgroup, such as memory.oom.group=1
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
}

/// Of `run` and `create`: what only a start can decide.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
pub(super) struct StartArguments {
    /// How willingly the kernel kills it where memory is short, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<String>,
    /// Of a limit that cannot hold here: strict refuses it, best-effort holds it otherwise if that can be
    #[arg(long, value_name = "WAY", default_value = "strict")]
    limits: String,
}

/// What was typed; `start` for a container that is made.
pub(super) fn resources(arguments: ResourceArguments, start: Option<StartArguments>) -> Result<Resources> {
    let (oom_score_adj, mode) = start.map_or((None, None), |start| (start.oom_score_adj, Some(start.limits)));
    resources::parse(&Typed {
        memory: arguments.memory,
        memory_reservation: arguments.memory_reservation,
        memory_swap: arguments.memory_swap,
        memory_high: arguments.memory_high,
        cpus: arguments.cpus,
        cpu_shares: arguments.cpu_shares,
        cpu_weight: arguments.cpu_weight,
        cpu_quota: arguments.cpu_quota,
        cpu_period: arguments.cpu_period,
        cpuset_cpus: arguments.cpuset_cpus,
        cpuset_mems: arguments.cpuset_mems,
        pids_limit: arguments.pids_limit,
        blkio_weight: arguments.blkio_weight,
        blkio_weight_devices: arguments.blkio_weight_device,
        read_bps: arguments.device_read_bps,
        write_bps: arguments.device_write_bps,
        read_iops: arguments.device_read_iops,
        write_iops: arguments.device_write_iops,
        conf: arguments.cgroup_conf,
        oom_score_adj,
        mode,
    })
}
