//! What the kernel says of processes in /proc, parsed. Pure.
//!
//! Names and command lines are the container's own words: bytes that mean
//! nothing here and are made harmless by whoever shows them.

/// `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// In the namespace of whoever reads.
    pub pid: i32,
    /// The program's name for itself, at most 15 bytes.
    pub name: String,
    /// `R`, `S`, `D`, `Z` ...
    pub state: char,
    /// Its parent; 0 where that is not in sight.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Device number of its controlling terminal; 0 for none.
    pub terminal: u32,
    /// The foreground process group of that terminal.
    pub foreground: i32,
    /// Clock ticks in user mode.
    pub user_ticks: u64,
    /// Clock ticks in kernel mode.
    pub system_ticks: u64,
    /// Both, of children that were waited for and of theirs.
    pub reaped_ticks: u64,
    /// 19 to -20.
    pub nice: i64,
    /// Threads.
    pub threads: u64,
    /// Clock ticks after boot.
    pub start_ticks: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Pages in memory.
    pub resident_pages: u64,
}

impl Stat {
    /// Reads the line.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let line = String::from_utf8_lossy(line);
        // The name stands in parentheses and may hold anything, parentheses
        // and line ends included: it goes from the first to the last one.
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
        let id = |index: usize| number(index).and_then(|value| i32::try_from(value).ok());
        // Some counts have a sign, and none is ever negative.
        let count = |index: usize| Some(fields.get(index)?.parse::<u64>().unwrap_or(0));
        Some(Self {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: id(1)?,
            group: id(2)?,
            session: id(3)?,
            terminal: id(4)?.cast_unsigned(),
            foreground: id(5)?,
            user_ticks: count(11)?,
            system_ticks: count(12)?,
            reaped_ticks: count(13)?.saturating_add(count(14)?),
            nice: number(16)?,
            threads: count(17)?,
            start_ticks: count(19)?,
            virtual_bytes: count(20)?,
            resident_pages: count(21)?,
        })
    }

    /// Clock ticks of the process itself.
    pub fn ticks(&self) -> u64 {
        self.user_ticks.saturating_add(self.system_ticks)
    }
}

/// What is of use in `/proc/PID/status` (proc_pid_status(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// Effective user id, in the reader's user namespace.
    pub uid: u32,
    /// Its pids, from the reader's namespace to the innermost.
    pub pids: Vec<i32>,
}

impl Ids {
    /// Reads the file. The program's name in it is escaped by the kernel, so
    /// that it cannot pretend to be another line.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        let uid = line("Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let pids = line("NSpid")?.split_ascii_whitespace().map_while(|pid| pid.parse().ok()).collect();
        Some(Self { uid, pids })
    }
}

/// Bytes that went to and from block devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockBytes {
    /// Read.
    pub read: u64,
    /// Written, or to be written soon.
    pub written: u64,
}

impl BlockBytes {
    /// Reads `/proc/PID/io` (proc_pid_io(5)): those of the process and of the
    /// children that it waited for.
    pub fn parse(text: &str) -> Option<Self> {
        let value =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
        // What was truncated before it was written never will be.
        let written: u64 = value("write_bytes")?;
        Some(Self {
            read: value("read_bytes")?,
            written: written.saturating_sub(value("cancelled_write_bytes").unwrap_or(0)),
        })
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { read: self.read.saturating_add(other.read), written: self.written.saturating_add(other.written) }
    }
}

/// Bytes that went over a network namespace's devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkBytes {
    /// In.
    pub received: u64,
    /// Out.
    pub sent: u64,
}

impl NetworkBytes {
    /// Sums `/proc/PID/net/dev` (proc_pid_net(5)) up, without the loopback
    /// device: what goes over it stays inside.
    pub fn parse(text: &str) -> Self {
        let device = |line: &str| {
            let (name, counts) = line.split_once(':')?;
            let mut counts = counts.split_ascii_whitespace().map(|count| count.parse::<u64>().ok());
            (name.trim() != "lo").then_some((counts.next()??, counts.nth(7)??))
        };
        text.lines().filter_map(device).fold(Self::default(), |sum, (received, sent)| Self {
            received: sum.received.saturating_add(received),
            sent: sum.sent.saturating_add(sent),
        })
    }
}

/// Pages of a process that no file is behind, from `/proc/PID/statm`
/// (proc_pid_statm(5)): what is resident without what is shared.
pub fn own_pages(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    Some(resident.saturating_sub(shared))
}

/// The machine's memory in bytes, from `/proc/meminfo` (proc_meminfo(5)).
pub fn total_memory(text: &str) -> Option<u64> {
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(kibibytes.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "4242 (nginx: w) orker)) S 4200 4242 4200 34817 4242 4194560 2021 77 0 3 120 45 8 2 25 5 9 0 \
                        8123456 58720256 1733 18446744073709551615 1 1 0 0 0 0 0 4096 1073745152 0 0 0 17 1 0 0 0 0 0\n";

    #[test]
    fn a_name_may_hold_anything() {
        let stat = Stat::parse(STAT.as_bytes()).unwrap();
        assert_eq!((stat.pid, stat.name.as_str(), stat.state), (4242, "nginx: w) orker)", 'S'));
        assert_eq!((stat.parent, stat.group, stat.session), (4200, 4242, 4200));
        assert_eq!((stat.terminal, stat.foreground), (34817, 4242));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.reaped_ticks), (120, 45, 10));
        assert_eq!((stat.nice, stat.threads, stat.start_ticks), (5, 9, 8_123_456));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (58_720_256, 1733));
        let hostile = b"7 (a\nb \xff\x1b[2J) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0";
        let stat = Stat::parse(hostile).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.parent), ("a\nb \u{fffd}\u{1b}[2J", 'Z', 1));
        for line in ["", "1", "1 (a", "1 (a) S", "x (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0"] {
            assert_eq!(Stat::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn ids_are_those_of_the_reader() {
        let status = "Name:\ta\\nUid:\t0\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t4242\nUid:\t100999\t100032\t0\t0\n\
                      Gid:\t1\t1\t1\t1\nNStgid:\t4242\t7\nNSpid:\t4242\t7\nNSpgid:\t4242\t7\n";
        assert_eq!(Ids::parse(status).unwrap(), Ids { uid: 100_032, pids: vec![4242, 7] });
        assert_eq!(Ids::parse("Name:\tx\n"), None);
    }

    #[test]
    fn bytes_are_counted() {
        let io = "rchar: 9\nwchar: 9\nsyscr: 1\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 8192\n\
                  cancelled_write_bytes: 4096\n";
        assert_eq!(BlockBytes::parse(io).unwrap(), BlockBytes { read: 4096, written: 4096 });
        assert_eq!(BlockBytes::parse("rchar: 9\n"), None);
        let devices = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
            lo:    1000      10    0    0    0     0          0         0     1000      10    0    0    0     0 0 0\n  \
            eth0:  5  2 0 0 0 0 0 0 7 2 0 0 0 0 0 0\n  tap0:1 2 0 0 0 0 0 0 3 2 0 0 0 0 0 0\n";
        assert_eq!(NetworkBytes::parse(devices), NetworkBytes { received: 6, sent: 10 });
    }

    #[test]
    fn memory_is_read() {
        assert_eq!(own_pages("5000 120 100 10 0 40 0\n"), Some(20));
        assert_eq!(own_pages("5000"), None);
        assert_eq!(total_memory("MemTotal:       24684428 kB\nMemFree: 1 kB\n"), Some(24_684_428 * 1024));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, text in "[a-zA-Z_:() 0-9.\t\n-]{0,300}") {
            for line in [bytes.as_slice(), text.as_bytes()] {
                drop(Stat::parse(line));
            }
            drop(Ids::parse(&text));
            std::hint::black_box((BlockBytes::parse(&text), NetworkBytes::parse(&text)));
            std::hint::black_box((own_pages(&text), total_memory(&text)));
        }

        #[test]
        fn every_name_is_read_back(name in "[^\0]{0,15}", pid in 1..i32::MAX, parent in 0..i32::MAX, ticks: u64) {
            let line = format!("{pid} ({name}) R {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 -3 1 0 5 0 0 0\n");
            let stat = Stat::parse(line.as_bytes()).unwrap();
            prop_assert_eq!((stat.pid, stat.name, stat.parent), (pid, name, parent));
            prop_assert_eq!((stat.user_ticks, stat.nice), (ticks, -3));
        }
    }
}
