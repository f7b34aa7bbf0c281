//! `kelp stats`: what containers use, as it changes.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::format::{Fields, Format, Listing};
use super::{Session, openmetrics, output, units};
use crate::container::cgroupfs::Pressure;
use crate::container::record::now_ns;
use crate::engine::stats::{Order, Row, Watch};
use crate::error::{Failure, Result};
use crate::kernel::terminal;

/// How long the first look takes: shares of processors are of some time.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Arguments of `kelp stats`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Names or ids; without any, all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Show containers that do not run, too
    #[arg(short, long)]
    all: bool,
    /// Print once and end
    #[arg(long)]
    no_stream: bool,
    /// Print one table below the other, also on a terminal
    #[arg(long)]
    no_reset: bool,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Show first who uses most, or by name; the newest first if not given
    #[arg(long, value_name = "KEY")]
    sort: Option<Sort>,
    /// How to print: table, json, openmetrics, or a Go template such as 'table {{.Name}}\t{{.CPUPerc}}'
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: StatsFormat,
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    Cpu,
    Memory,
    Pids,
    Name,
}

impl From<Sort> for Order {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Cpu => Self::Cpu,
            Sort::Memory => Self::Memory,
            Sort::Pids => Self::Tasks,
            Sort::Name => Self::Name,
        }
    }
}

/// How it is printed: as any listing, or for Prometheus.
#[derive(Debug, Clone)]
enum StatsFormat {
    Listing(Format),
    OpenMetrics,
}

impl FromStr for StatsFormat {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "openmetrics" => Ok(Self::OpenMetrics),
            _ if text.contains("{{") => Ok(Self::Listing(text.parse()?)),
            _ => text.parse().map(Self::Listing).map_err(|_: Failure| {
                Failure::usage("it is table, json, openmetrics or a template such as \"{{.Name}}\"")
            }),
        }
    }
}

/// One container for programs. What is null nobody knows: the container has no
/// cgroup of its own, or that lacks the controller.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    name: &'a str,
    state: &'static str,
    /// Of one processor.
    cpu_percent: f64,
    /// The same since it was started.
    average_cpu_percent: f64,
    cpu_ns: u64,
    cpu_user_ns: Option<u64>,
    cpu_system_ns: Option<u64>,
    cpu_periods: Option<u64>,
    cpu_throttled_periods: Option<u64>,
    cpu_throttled_ns: Option<u64>,
    memory_bytes: u64,
    memory_limit_bytes: u64,
    memory_percent: f64,
    memory_peak_bytes: Option<u64>,
    swap_bytes: Option<u64>,
    oom_kills: Option<u64>,
    network_received_bytes: u64,
    network_sent_bytes: u64,
    block_read_bytes: u64,
    block_written_bytes: u64,
    /// Processes and threads.
    pids: u64,
    pids_peak: Option<u64>,
    pids_limit: Option<u64>,
    cpu_pressure: Option<PressureDocument>,
    memory_pressure: Option<PressureDocument>,
    io_pressure: Option<PressureDocument>,
    up_ns: u64,
}

/// How long was waited for what is short.
#[derive(Serialize)]
struct PressureDocument {
    /// Share of the last ten seconds in which something waited.
    some_percent: f64,
    some_ns: u64,
    /// Share of the last ten seconds in which all waited.
    full_percent: Option<f64>,
    full_ns: Option<u64>,
}

impl PressureDocument {
    fn of(pressure: Pressure) -> Self {
        Self {
            some_percent: pressure.some.avg10_percent,
            some_ns: pressure.some.total_ns,
            full_percent: pressure.full.map(|full| full.avg10_percent),
            full_ns: pressure.full.map(|full| full.total_ns),
        }
    }
}

const LISTING: Listing = Listing {
    headings: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
        // podman's.
        ("AVGCPU", "AVG CPU %"),
        ("AvgCPU", "AVG CPU"),
        ("BlockInput", "BLOCK INPUT"),
        ("BlockOutput", "BLOCK OUTPUT"),
        ("ContainerID", "CONTAINER ID"),
        ("CPU", "CPU"),
        ("CPUNano", "CPU NANO"),
        ("CPUSystemNano", "CPU SYSTEM NANO"),
        ("Duration", "DURATION"),
        ("MemLimit", "MEM LIMIT"),
        ("MemUsageBytes", "MEM USAGE / LIMIT"),
        ("PIDS", "PIDS"),
        ("SystemNano", "SYSTEM NANO"),
        ("Up", "UP"),
        ("UpTime", "UP TIME"),
        // kelp's own.
        ("CPUPressure", "CPU PRESSURE"),
        ("IOPressure", "I/O PRESSURE"),
        ("MemPeak", "MEM PEAK"),
        ("MemPressure", "MEM PRESSURE"),
        ("OOMKills", "OOM KILLS"),
        ("PIDsLimit", "PIDS LIMIT"),
        ("PIDsPeak", "PIDS PEAK"),
        ("Swap", "SWAP"),
        ("Throttled", "THROTTLED"),
        ("ThrottledTime", "THROTTLED TIME"),
    ],
    shown: &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
};

/// Prints, waits and prints again, until what was asked for is removed.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let mut watch = Watch::new(&session.paths, &arguments.containers, arguments.all)?;
    let mut look = || -> Result<(Vec<Row>, bool)> {
        let mut rows = watch.look(&session.paths)?;
        if let Some(sort) = arguments.sort {
            Order::from(sort).sort(&mut rows);
        }
        let is_over = watch.is_over(&rows);
        Ok((rows, is_over))
    };
    let (rows, mut is_over) = look()?;
    let format = match &arguments.format {
        StatsFormat::Listing(format) => format,
        StatsFormat::OpenMetrics => {
            output::text(&openmetrics::text(&rows));
            return Ok(0);
        }
    };
    let interval = Duration::from_secs(arguments.interval);
    let is_live = !arguments.no_stream && !arguments.no_reset && io::stdout().is_terminal();
    let is_live = is_live && !matches!(format, Format::Json);
    let mut wait = interval.min(FIRST_LOOK);
    while !is_over {
        std::thread::sleep(wait);
        let (mut rows, is_last) = look()?;
        is_over = is_last || arguments.no_stream;
        if is_live {
            output::clear();
            rows.truncate(rows_shown());
        }
        LISTING.print(format, &rows, |row| fields(row, arguments.no_trunc), document)?;
        wait = interval;
    }
    Ok(0)
}

/// What fits on the terminal beside the headings: more would push them out.
fn rows_shown() -> usize {
    let size = terminal::size(io::stdout().as_fd());
    size.ok().filter(|size| size.rows > 2).map_or(usize::MAX, |size| usize::from(size.rows) - 2)
}

fn fields(row: &Row, whole: bool) -> Fields {
    let (record, usage) = (&row.record, &row.usage);
    let id = if whole { record.id.clone() } else { record.short_id().to_owned() };
    let pair = |one: u64, other: u64| format!("{} / {}", units::bytes(one), units::bytes(other));
    let memory = [usage.memory_bytes, usage.memory_limit_bytes].map(units::binary_bytes).join(" / ");
    let pids = usage.tasks.to_string();
    let mut fields = vec![
        ("Container", id.clone()),
        ("ID", id),
        ("Name", record.name.clone()),
        ("CPUPerc", percent(row.cpu_percent)),
        ("MemUsage", memory.clone()),
        ("MemPerc", percent(row.memory_percent())),
        ("NetIO", pair(usage.network.received, usage.network.sent)),
        ("BlockIO", pair(usage.block.read, usage.block.written)),
        ("PIDs", pids.clone()),
        ("MemUsageBytes", memory),
        ("PIDS", pids),
    ];
    fields.extend(podmans(row));
    fields.extend(own(row));
    fields
}

/// Fields that podman has beside docker's.
fn podmans(row: &Row) -> Fields {
    let (record, usage) = (&row.record, &row.usage);
    let system_ns = usage.readings.cpu.map_or(0, |cpu| cpu.system_ns);
    let up = up_time(row.up_ns);
    vec![
        ("AVGCPU", percent(row.average_cpu_percent())),
        ("AvgCPU", row.average_cpu_percent().to_string()),
        ("BlockInput", usage.block.read.to_string()),
        ("BlockOutput", usage.block.written.to_string()),
        ("ContainerID", record.id.clone()),
        ("CPU", row.cpu_percent.to_string()),
        ("CPUNano", usage.cpu_ns.to_string()),
        ("CPUSystemNano", system_ns.to_string()),
        ("Duration", usage.cpu_ns.to_string()),
        ("MemLimit", usage.memory_limit_bytes.to_string()),
        ("SystemNano", now_ns().to_string()),
        ("Up", up.clone()),
        ("UpTime", up),
    ]
}

/// What neither has; `--` is not known.
fn own(row: &Row) -> Fields {
    let readings = &row.usage.readings;
    let pressure = |pressure: Option<Pressure>| shown(pressure, |pressure| percent(pressure.some.avg10_percent));
    let (memory, pids) = (readings.memory, readings.pids);
    vec![
        ("CPUPressure", pressure(readings.cpu_pressure)),
        ("IOPressure", pressure(readings.io_pressure)),
        ("MemPressure", pressure(readings.memory_pressure)),
        ("MemPeak", shown(memory.and_then(|memory| memory.peak_bytes), units::binary_bytes)),
        ("OOMKills", shown(readings.memory_events, |events| events.oom_kill.to_string())),
        ("PIDsLimit", shown(pids.and_then(|pids| pids.limit), |limit| limit.to_string())),
        ("PIDsPeak", shown(pids.and_then(|pids| pids.peak), |peak| peak.to_string())),
        ("Swap", shown(memory.and_then(|memory| memory.swap_bytes), units::binary_bytes)),
        ("Throttled", shown(row.throttled_percent, percent)),
        ("ThrottledTime", shown(row.throttling(), |throttling| up_time(throttling.throttled_ns))),
    ]
}

fn shown<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "--".to_owned(), text)
}

fn percent(percent: f64) -> String {
    format!("{percent:.2}%")
}

/// As Go prints a duration of whole seconds: `1h2m3s`.
fn up_time(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

fn document(row: &Row) -> Document<'_> {
    let (record, usage) = (&row.record, &row.usage);
    let readings = &usage.readings;
    let (throttling, memory, pids) = (row.throttling(), readings.memory, readings.pids);
    Document {
        id: &record.id,
        name: &record.name,
        state: record.status.word(),
        cpu_percent: row.cpu_percent,
        average_cpu_percent: row.average_cpu_percent(),
        cpu_ns: usage.cpu_ns,
        cpu_user_ns: readings.cpu.map(|cpu| cpu.user_ns),
        cpu_system_ns: readings.cpu.map(|cpu| cpu.system_ns),
        cpu_periods: throttling.map(|throttling| throttling.periods),
        cpu_throttled_periods: throttling.map(|throttling| throttling.throttled),
        cpu_throttled_ns: throttling.map(|throttling| throttling.throttled_ns),
        memory_bytes: usage.memory_bytes,
        memory_limit_bytes: usage.memory_limit_bytes,
        memory_percent: row.memory_percent(),
        memory_peak_bytes: memory.and_then(|memory| memory.peak_bytes),
        swap_bytes: memory.and_then(|memory| memory.swap_bytes),
        oom_kills: readings.memory_events.map(|events| events.oom_kill),
        network_received_bytes: usage.network.received,
        network_sent_bytes: usage.network.sent,
        block_read_bytes: usage.block.read,
        block_written_bytes: usage.block.written,
        pids: usage.tasks,
        pids_peak: pids.and_then(|pids| pids.peak),
        pids_limit: pids.and_then(|pids| pids.limit),
        cpu_pressure: readings.cpu_pressure.map(PressureDocument::of),
        memory_pressure: readings.memory_pressure.map(PressureDocument::of),
        io_pressure: readings.io_pressure.map(PressureDocument::of),
        up_ns: row.up_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m0s"), (3_661, "1h1m1s"), (100 * 3600, "100h0m0s")] {
            assert_eq!(up_time(seconds * 1_000_000_000 + 999), text);
        }
    }

    #[test]
    fn every_field_has_a_heading() {
        let record = crate::container::record::Record::new("ab".repeat(32), "x".to_owned());
        let row = Row { record, usage: Default::default(), cpu_percent: 0.0, throttled_percent: None, up_ns: 0 };
        let mut names: Vec<&str> = fields(&row, false).into_iter().map(|(name, _)| name).collect();
        let mut headings: Vec<&str> = LISTING.headings.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        headings.sort_unstable();
        assert_eq!(names, headings);
    }

    #[test]
    fn formats() {
        assert!(matches!("openmetrics".parse(), Ok(StatsFormat::OpenMetrics)));
        assert!(matches!("json".parse(), Ok(StatsFormat::Listing(Format::Json))));
        let said = "prometheus".parse::<StatsFormat>().unwrap_err().to_string();
        assert!(said.contains("openmetrics"), "{said}");
        assert!("{{.ID".parse::<StatsFormat>().unwrap_err().to_string().contains("not valid"));
    }
}
