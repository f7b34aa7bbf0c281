//! What containers use, for Prometheus and all that reads what it reads: one
//! scrape as OpenMetrics text 1.0 (prometheus.io/docs/specs/om).
//!
//! Names are cAdvisor's where it has one, so that the dashboards that people
//! have show kelp's containers. Only counters and gauges, and no time stamps:
//! node_exporter's textfile collector, which reads the older format, takes it
//! as well.

use std::fmt::Write;

use crate::container::cgroupfs::{Pressure, Stall};
use crate::container::procfs::NetworkBytes;
use crate::engine::stats::Row;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// One family of metrics. Its name ends with its unit, and the samples of a
/// counter with `_total`, as the specification asks.
struct Family {
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    /// What a container has of it, if it is known.
    value: fn(&Row) -> Option<Value>,
}

enum Value {
    Number(u64),
    Nanoseconds(u64),
}

use Kind::{Counter, Gauge};
use Value::{Nanoseconds, Number};

const fn family(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    value: fn(&Row) -> Option<Value>,
) -> Family {
    Family { name, kind, unit, help, value }
}

/// What is told of every container, and of those that run.
const FAMILIES: &[Family] = &[
    family("container_running", Gauge, "", "Whether the container runs.", |row| {
        Some(Number(row.started_ns().is_some().into()))
    }),
    family("container_start_time_seconds", Gauge, "seconds", "When it was started, since the epoch.", |row| {
        Some(Nanoseconds(row.started_ns()?.try_into().ok()?))
    }),
    family("container_cpu_usage_seconds", Counter, "seconds", "Processor time used.", |row| {
        row.started_ns().map(|_| Nanoseconds(row.usage.cpu_ns))
    }),
    family("container_cpu_user_seconds", Counter, "seconds", "Processor time used in user mode.", |row| {
        Some(Nanoseconds(row.usage.readings.cpu?.user_ns))
    }),
    family("container_cpu_system_seconds", Counter, "seconds", "Processor time used in kernel mode.", |row| {
        Some(Nanoseconds(row.usage.readings.cpu?.system_ns))
    }),
    family("container_cpu_cfs_periods", Counter, "", "Periods in which a limit of processor time held.", |row| {
        Some(Number(row.throttling()?.periods))
    }),
    family("container_cpu_cfs_throttled_periods", Counter, "", "Of those, in which it was used up.", |row| {
        Some(Number(row.throttling()?.throttled))
    }),
    family("container_cpu_cfs_throttled_seconds", Counter, "seconds", "Time stood still for that limit.", |row| {
        Some(Nanoseconds(row.throttling()?.throttled_ns))
    }),
    family("container_memory_usage_bytes", Gauge, "bytes", "Memory, the page cache included.", |row| {
        Some(Number(row.usage.readings.memory?.current_bytes))
    }),
    family("container_memory_working_set_bytes", Gauge, "bytes", "Memory without inactive pages of files.", |row| {
        row.started_ns().map(|_| Number(row.usage.memory_bytes))
    }),
    family("container_memory_max_usage_bytes", Gauge, "bytes", "The most memory that it ever had.", |row| {
        Some(Number(row.usage.readings.memory?.peak_bytes?))
    }),
    family("container_memory_rss", Gauge, "", "Memory that no file is behind, in bytes.", |row| {
        Some(Number(row.usage.readings.memory?.anonymous_bytes))
    }),
    family("container_memory_cache", Gauge, "", "Pages of files, tmpfs included, in bytes.", |row| {
        Some(Number(row.usage.readings.memory?.file_bytes))
    }),
    family("container_memory_swap", Gauge, "", "Memory that is in swap, in bytes.", |row| {
        Some(Number(row.usage.readings.memory?.swap_bytes?))
    }),
    family("container_spec_memory_limit_bytes", Gauge, "bytes", "What it may have of memory.", |row| {
        row.started_ns().map(|_| Number(row.usage.memory_limit_bytes))
    }),
    family("container_memory_limit_hits", Counter, "", "Times that memory was about to exceed its limit.", |row| {
        Some(Number(row.usage.readings.memory_events?.max))
    }),
    family("container_oom_events", Counter, "", "Processes killed for want of memory.", |row| {
        Some(Number(row.usage.readings.memory_events?.oom_kill))
    }),
    family("container_fs_reads_bytes", Counter, "bytes", "Bytes read from block devices.", |row| {
        row.started_ns().map(|_| Number(row.usage.block.read))
    }),
    family("container_fs_writes_bytes", Counter, "bytes", "Bytes written to block devices.", |row| {
        row.started_ns().map(|_| Number(row.usage.block.written))
    }),
    family("container_fs_reads", Counter, "", "Requests to block devices to read.", |row| {
        Some(Number(row.usage.readings.io?.reads))
    }),
    family("container_fs_writes", Counter, "", "Requests to block devices to write.", |row| {
        Some(Number(row.usage.readings.io?.writes))
    }),
    family("container_network_receive_bytes", Counter, "bytes", "Bytes received over its network.", |row| {
        network(row).map(|network| Number(network.received))
    }),
    family("container_network_transmit_bytes", Counter, "bytes", "Bytes sent over its network.", |row| {
        network(row).map(|network| Number(network.sent))
    }),
    family("container_threads", Gauge, "", "Processes and threads.", |row| {
        row.started_ns().map(|_| Number(row.usage.tasks))
    }),
    family("container_threads_max", Gauge, "", "How many it may have.", |row| {
        Some(Number(row.usage.readings.pids?.limit?))
    }),
    family(
        "container_pressure_cpu_waiting_seconds",
        Counter,
        "seconds",
        "Time something waited for a processor.",
        |row| some(row.usage.readings.cpu_pressure),
    ),
    family("container_pressure_cpu_stalled_seconds", Counter, "seconds", "Time all waited for a processor.", |row| {
        full(row.usage.readings.cpu_pressure)
    }),
    family(
        "container_pressure_memory_waiting_seconds",
        Counter,
        "seconds",
        "Time something waited for memory.",
        |row| some(row.usage.readings.memory_pressure),
    ),
    family("container_pressure_memory_stalled_seconds", Counter, "seconds", "Time all waited for memory.", |row| {
        full(row.usage.readings.memory_pressure)
    }),
    family("container_pressure_io_waiting_seconds", Counter, "seconds", "Time something waited for a device.", |row| {
        some(row.usage.readings.io_pressure)
    }),
    family("container_pressure_io_stalled_seconds", Counter, "seconds", "Time all waited for a device.", |row| {
        full(row.usage.readings.io_pressure)
    }),
];

fn some(pressure: Option<Pressure>) -> Option<Value> {
    pressure.map(|pressure| total(pressure.some))
}

fn full(pressure: Option<Pressure>) -> Option<Value> {
    pressure?.full.map(total)
}

fn total(stall: Stall) -> Value {
    Nanoseconds(stall.total_ns)
}

/// Nothing where the network is not its own.
fn network(row: &Row) -> Option<NetworkBytes> {
    row.started_ns().map(|_| row.usage.network).filter(|_| row.record.network != "host")
}

/// The text of one scrape, without the end of its last line.
pub(super) fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for family in FAMILIES {
        let samples: Vec<(&Row, Value)> = rows.iter().filter_map(|row| Some((row, (family.value)(row)?))).collect();
        if !samples.is_empty() {
            write(&mut text, family, &samples);
        }
    }
    text.push_str("# EOF");
    text
}

fn write(text: &mut String, family: &Family, samples: &[(&Row, Value)]) {
    let Family { name, kind, unit, help, .. } = family;
    let (word, suffix) = match kind {
        Counter => ("counter", "_total"),
        Gauge => ("gauge", ""),
    };
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        text.write_fmt(line).ok();
        text.push('\n');
    };
    line(format_args!("# TYPE {name} {word}"));
    if !unit.is_empty() {
        line(format_args!("# UNIT {name} {unit}"));
    }
    line(format_args!("# HELP {name} {help}"));
    for (row, value) in samples {
        let record = &row.record;
        let [id, own_name, image] = [&record.id, &record.name, &record.image].map(|label| escaped(label));
        let value = match value {
            Number(number) => number.to_string(),
            Nanoseconds(nanoseconds) => seconds(*nanoseconds),
        };
        line(format_args!("{name}{suffix}{{id=\"{id}\",name=\"{own_name}\",image=\"{image}\"}} {value}"));
    }
}

/// A label's value: what would end it or the line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Exactly, however long it has been: a float would lose digits.
fn seconds(nanoseconds: u64) -> String {
    let (whole, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::container::cgroupfs::{Cpu, Io, Memory, MemoryEvents, Pids, Readings, Throttling};
    use crate::container::record::{Record, Status};
    use crate::container::usage::Usage;
    use crate::process::identity::Identity;

    fn row(name: &str, readings: Readings) -> Row {
        let mut record = Record::new("ab".repeat(32), name.to_owned());
        record.image = "a\\b\"c\nd".to_owned();
        let own = Identity { pid: 1, start_time: 0 };
        record.status =
            Status::Running { supervisor: own, payload: own, started_ns: 1_500_000_000, paused: false, health: None };
        let usage = Usage { cpu_ns: 12_000_000_001, memory_bytes: 5, readings, ..Usage::default() };
        Row { record, usage, cpu_percent: 0.0, throttled_percent: None, up_ns: 1 }
    }

    fn all() -> Readings {
        let pressure = Some(Pressure { full: Some(Stall::default()), ..Pressure::default() });
        Readings {
            cpu: Some(Cpu {
                throttling: Some(Throttling { throttled_ns: 50, ..Throttling::default() }),
                ..Cpu::default()
            }),
            memory: Some(Memory { peak_bytes: Some(9), swap_bytes: Some(0), ..Memory::default() }),
            memory_events: Some(MemoryEvents { oom_kill: 3, ..MemoryEvents::default() }),
            io: Some(Io::default()),
            pids: Some(Pids { limit: Some(7), ..Pids::default() }),
            cpu_pressure: pressure,
            memory_pressure: pressure,
            io_pressure: pressure,
        }
    }

    #[test]
    fn families_are_named_as_the_specification_asks() {
        let mut names = BTreeSet::new();
        for Family { name, unit, help, .. } in FAMILIES {
            assert!(names.insert(name), "{name}");
            assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name}");
            assert!(!name.ends_with("_total") && !name.ends_with("_created"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(help.ends_with('.') && !help.contains(['\\', '\n', '"']), "{name}");
        }
    }

    #[test]
    fn a_scrape_is_read_line_by_line() {
        let text = text(&[row("web", all()), row("db", Readings::default())]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.last(), Some(&"# EOF"));
        let labels = format!("{{id=\"{}\",name=\"web\",image=\"a\\\\b\\\"c\\nd\"}}", "ab".repeat(32));
        for line in [
            "# TYPE container_cpu_usage_seconds counter".to_owned(),
            "# UNIT container_cpu_usage_seconds seconds".to_owned(),
            format!("container_cpu_usage_seconds_total{labels} 12.000000001"),
            format!("container_cpu_cfs_throttled_seconds_total{labels} 0.00000005"),
            format!("container_memory_max_usage_bytes{labels} 9"),
            format!("container_start_time_seconds{labels} 1.5"),
            format!("container_oom_events_total{labels} 3"),
            format!("container_threads_max{labels} 7"),
            format!("container_pressure_io_stalled_seconds_total{labels} 0"),
        ] {
            assert!(lines.contains(&line.as_str()), "{line} is not in {text}");
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with("# TYPE ")).count(), FAMILIES.len());
        // Every sample stands below its own family's lines.
        let mut family = "";
        for line in lines.iter().filter(|line| !line.starts_with("# UNIT") && !line.starts_with("# HELP")) {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => family = rest.split(' ').next().unwrap(),
                None => assert!(line.starts_with(family) || *line == "# EOF", "{line}"),
            }
        }
        assert_eq!(text.matches("name=\"db\"").count(), 10, "{text}");
    }

    #[test]
    fn what_does_not_run_is_told_of_alone() {
        assert_eq!(super::text(&[]), "# EOF");
        let mut ended = row("old", Readings::default());
        ended.record.status = Status::Created;
        let text = text(&[ended]);
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 1);
        assert!(text.contains("container_running{") && text.contains("} 0\n# EOF"), "{text}");
    }

    #[test]
    fn seconds_are_exact() {
        for (nanoseconds, text) in
            [(0, "0"), (1, "0.000000001"), (10_000_000_000, "10"), (u64::MAX, "18446744073.709551615")]
        {
            assert_eq!(seconds(nanoseconds), text);
        }
    }
}
