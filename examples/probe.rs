//! The program that tests put into containers: it does one small thing after
//! the other and says what came of it, a line each. Static, so it runs in an
//! image that holds nothing else.
//!
//! `probe ACTION [ARGUMENT...] [+ ACTION [ARGUMENT...]]...`; see [`act`]. It
//! is not a test: it judges nothing.

#![allow(clippy::print_stdout, clippy::exit, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use serde_json::{Value, json};

fn main() {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if arguments.is_empty() {
        say(&inside().to_string());
    }
    for words in arguments.split(|word| word == "+") {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Some((action, rest)) = words.split_first() {
            act(action, rest);
        }
    }
}

fn say(text: &str) {
    println!("{text}");
    io::stdout().flush().ok();
}

/// What an action does over the network.
fn talk(action: &str, words: &[&str]) -> io::Result<String> {
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    let number = |index: usize| word(index).parse::<i64>().unwrap_or_default();
    match action {
        "addresses" => addresses(),
        "connect" => connect(word(0)),
        "datagram" => datagram(word(0), word(1)),
        "ping" => ping(word(0)),
        "serve" => serve(word(0), number(1) as u16, word(2)),
        "lookup" => lookup(word(0), word(1), word(2), word(3), word(4).parse().ok()),
        _ => unreachable!(),
    }
}

/// The actions. What fails prints `error: ERRNO` and goes on.
fn act(action: &str, words: &[&str]) {
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    let number = |index: usize| word(index).parse::<i64>().unwrap_or_default();
    match action {
        "inside" => say(&inside().to_string()),
        "exit" => std::process::exit(number(0) as i32),
        "raise" => nix::sys::signal::raise(Signal::try_from(number(0) as i32).unwrap()).unwrap(),
        "sleep" => std::thread::sleep(Duration::from_millis(number(0) as u64)),
        "echo" => say(&words.join(" ")),
        "lines" => lines(number(0)),
        "error" => eprintln_line(&words.join(" ")),
        "cat" => drop(io::copy(&mut io::stdin(), &mut io::stdout())),
        "line" => answer(read_line()),
        "read" => answer(fs::read_to_string(word(0)).map(|text| text.trim_end().to_owned())),
        "write" => answer(fs::write(word(0), word(1)).map(|()| "ok".to_owned())),
        "open-write" => answer(fs::OpenOptions::new().write(true).open(word(0)).map(|_| "ok".to_owned())),
        "fill" => answer(fs::write(word(0), vec![b'x'; number(1) as usize]).map(|()| "ok".to_owned())),
        "mkdir" => answer(fs::DirBuilder::new().mode(0o755).create(word(0)).map(|()| "ok".to_owned())),
        "remove" => answer(remove(Path::new(word(0))).map(|()| "ok".to_owned())),
        "symlink" => answer(std::os::unix::fs::symlink(word(0), word(1)).map(|()| "ok".to_owned())),
        "fifo" => answer(fifo(word(0)).map(|()| "ok".to_owned())),
        "socket-file" => answer(std::os::unix::net::UnixListener::bind(word(0)).map(|_| "ok".to_owned())),
        "extend" => answer(extend(word(0), number(1) as u64).map(|()| "ok".to_owned())),
        "exchange" => answer(Err(exchange(word(0), word(1)))),
        "hard-link" => answer(fs::hard_link(word(0), word(1)).map(|()| "ok".to_owned())),
        "chmod" => answer(chmod(word(0), word(1)).map(|()| "ok".to_owned())),
        "set-attribute" => answer(set_attribute(word(0), word(1), word(2)).map(|()| "ok".to_owned())),
        "chown" => answer(std::os::unix::fs::chown(word(0), id(word(1)), id(word(2))).map(|()| "ok".to_owned())),
        "list" => answer(list(word(0))),
        "link" => answer(fs::read_link(word(0)).map(|target| target.display().to_string())),
        "stat" => answer(fs::metadata(word(0)).map(|status| describe(&status))),
        "chdir" => answer(std::env::set_current_dir(word(0)).map(|()| "ok".to_owned())),
        "exec" => answer(Err(exec(words))),
        "syscall" => say(&syscall(words)),
        "kernel" => say(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()),
        "size" => say(&terminal_size()),
        "signals" => wait_for_signal(false),
        "stubborn" => wait_for_signal(true),
        "sizes" => wait_for_sizes(),
        "orphan" => say(&orphan()),
        "burn" => loop {
            std::hint::black_box(number(0));
        },
        "allocate" => allocate(number(0) as usize),
        "children" => children(number(0)),
        "stray" => stray(),
        "rename" => answer(rename(word(0))),
        "grow" => answer(grow(word(0), number(1) as u64).map(|()| "ok".to_owned())),
        "mount-memory" => answer(made(mount_memory(word(0)))),
        "breed" => breed(number(0)),
        "hold" => hold(),
        "intrude" => intrude(number(0)),
        "must-exist" if !Path::new(word(0)).exists() => {
            say(&format!("{} is missing", word(0)));
            std::process::exit(1);
        }
        "must-exist" => {}
        "addresses" | "connect" | "datagram" | "ping" | "serve" | "lookup" => answer(talk(action, words)),
        "forever" => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        other => {
            say(&format!("probe: no action \"{other}\""));
            std::process::exit(99);
        }
    }
}

/// Many lines, as fast as they are taken.
fn lines(count: i64) {
    let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout());
    (0..count).try_for_each(|number| writeln!(out, "line {number} of a log")).and_then(|()| out.flush()).unwrap();
}

/// Keeps so many MiB of memory, all of it written to.
fn allocate(mebibytes: usize) {
    let memory = vec![1_u8; mebibytes << 20];
    say("ready");
    std::thread::sleep(Duration::from_secs(3600));
    drop(std::hint::black_box(memory));
}

/// Starts so many children that wait.
fn children(count: i64) {
    let start = |_| std::process::Command::new("/probe").arg("forever").spawn().unwrap();
    let children: Vec<_> = (0..count).map(start).collect();
    say("ready");
    std::thread::sleep(Duration::from_secs(3600));
    drop(children);
}

/// Leaves a process behind whose parent is gone.
fn stray() {
    let mut command = std::process::Command::new("/probe");
    let mut parent = command.args(["children", "1"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    io::Read::read_exact(&mut parent.stdout.take().unwrap(), &mut first).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    say("ready");
}

/// Takes another name, as ps(1) shows it; escapes in `name` are resolved.
fn rename(name: &str) -> io::Result<String> {
    fs::write("/proc/self/comm", name.replace("\\n", "\n").replace("\\e", "\x1b"))?;
    Ok("ok".to_owned())
}

fn eprintln_line(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Addresses of all devices but loopback, each once.
fn addresses() -> io::Result<String> {
    let all = nix::ifaddrs::getifaddrs()?.filter(|one| one.interface_name != "lo");
    let addresses = all.filter_map(|one| {
        let address = one.address?;
        let ipv4 = address.as_sockaddr_in().map(|address| address.ip().to_string());
        let address = ipv4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().to_string()))?;
        Some(format!("{} {address}", one.interface_name))
    });
    Ok(addresses.collect::<Vec<_>>().join(", "))
}

/// What somebody at `ADDRESS:PORT` says until the connection ends.
/// Asks the DNS server at `address`, by UDP or TCP, and says its answer: code,
/// flags, the name as it is spelt there, records. `takes`: how many bytes it is
/// told are taken in a datagram (EDNS).
fn lookup(by: &str, address: &str, name: &str, rtype: &str, takes: Option<u16>) -> io::Result<String> {
    use domain::base::iana::Rtype;
    use domain::base::{Message, MessageBuilder, Name};
    use std::io::Read;
    let rtype: Rtype = rtype.parse().unwrap();
    let mut query = MessageBuilder::new_vec();
    query.header_mut().set_id(std::process::id() as u16);
    query.header_mut().set_rd(true);
    let mut query = query.question();
    query.push((Name::<Vec<u8>>::vec_from_str(name).unwrap(), rtype)).unwrap();
    let mut query = query.additional();
    if let Some(takes) = takes {
        query
            .opt(|opt| {
                opt.set_udp_payload_size(takes);
                Ok(())
            })
            .unwrap();
    }
    let query = query.finish();
    let patience = Some(Duration::from_secs(20));
    let address = std::net::SocketAddr::new(address.parse().unwrap(), 53);
    let mut received = vec![0; 65_535];
    if by == "udp" {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.set_read_timeout(patience)?;
        socket.connect(address)?;
        socket.send(&query)?;
        let length = socket.recv(&mut received)?;
        received.truncate(length);
    } else {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(patience)?;
        stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        received.truncate(usize::from(u16::from_be_bytes(length)));
        stream.read_exact(&mut received)?;
    }
    let said = Message::from_octets(&received[..]).unwrap();
    if !said.is_answer(&Message::from_octets(&query[..]).unwrap()) {
        return Err(io::Error::other("it is no answer to the question"));
    }
    let mut words = vec![said.header().rcode().to_string()];
    words.extend(said.header().tc().then(|| "cut".to_owned()));
    words.push(said.sole_question().unwrap().qname().to_string());
    let records = said.answer().unwrap().map(|record| {
        let record = record.unwrap().into_any_record::<domain::rdata::AllRecordData<_, _>>().unwrap();
        record.data().to_string()
    });
    let records: Vec<String> = records.collect();
    words.extend(if records.len() > 4 { vec![format!("{} records", records.len())] } else { records });
    Ok(words.join(" "))
}

fn connect(address: &str) -> io::Result<String> {
    use std::io::Read;
    let address: std::net::SocketAddr = address.parse().unwrap();
    let mut said = String::new();
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(10))?.read_to_string(&mut said)?;
    Ok(said.trim_end().to_owned())
}

/// Sends a word in a datagram and says what comes back, and from whom.
fn datagram(address: &str, text: &str) -> io::Result<String> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let socket = std::net::UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.send(text.as_bytes())?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Sends an echo request and says who answers.
fn ping(address: &str) -> io::Result<String> {
    use kelp::kernel::datagram::{Family, ping, receive, send};
    let address: std::net::IpAddr = address.parse().unwrap();
    let request = if address.is_ipv4() { [8, 0, 0, 0, 0, 0, 0, 1] } else { [128, 0, 0, 0, 0, 0, 0, 1] };
    let said = |error: kelp::kernel::Error| io::Error::from(error.errno);
    let socket = ping(Family::of(address)).map_err(said)?;
    send(socket.as_fd(), std::net::SocketAddr::new(address, 0), &request, None).map_err(said)?;
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, 10_000_u16)?;
    let received = receive(socket.as_fd(), &mut [0; 100]).map_err(said)?;
    Ok(received.map_or_else(String::new, |received| format!("{} answers", received.from.ip())))
}

/// Serves connections, or with "datagrams" those, at `port` of all addresses
/// from now on.
fn serve(kind: &str, port: u16, address: &str) -> io::Result<String> {
    use std::net::{Ipv6Addr, TcpListener, UdpSocket};
    let kind = kind.to_owned();
    if kind == "datagrams" {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let said = format!("{} {}", from.ip().to_canonical(), String::from_utf8_lossy(&buffer[..length]));
                socket.send_to(said.as_bytes(), from).ok();
            }
        });
        return Ok("ok".to_owned());
    }
    let listener = match address {
        "" => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?,
        address => TcpListener::bind((address, port))?,
    };
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let kind = kind.clone();
            // A client that leaves ends its connection, and nothing else.
            std::thread::spawn(move || serve_one(&kind, connection).ok());
        }
    });
    Ok("ok".to_owned())
}

fn serve_one(kind: &str, mut connection: std::net::TcpStream) -> io::Result<()> {
    use std::io::{BufRead, Read};
    match kind {
        // Who it is.
        "who" => writeln!(connection, "{}", connection.peer_addr()?.ip().to_canonical()),
        // The same bytes, also after the client has sent its last.
        "echo" => io::copy(&mut connection.try_clone()?, &mut connection).map(drop),
        // How many bytes there were and their sum, once they have ended.
        "sum" => {
            let (mut count, mut sum, mut buffer) = (0_u64, 0_u64, vec![0; 64 << 10]);
            loop {
                let length = connection.read(&mut buffer)?;
                if length == 0 {
                    break writeln!(connection, "{count} {sum}");
                }
                for byte in &buffer[..length] {
                    sum = sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
                }
                count += length as u64;
            }
        }
        // As many bytes as a line says.
        "pour" => {
            let mut line = String::new();
            io::BufReader::new(connection.try_clone()?).read_line(&mut line)?;
            let count: usize = line.trim().parse().map_err(io::Error::other)?;
            let bytes: Vec<u8> = (0..=255).cycle().take(count.min(1 << 20)).collect();
            let mut left = count;
            while left > 0 {
                let length = left.min(bytes.len());
                connection.write_all(&bytes[..length])?;
                left -= length;
            }
            Ok(())
        }
        // Nothing: it resets.
        _ => {
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            Ok(nix::sys::socket::setsockopt(&connection, nix::sys::socket::sockopt::Linger, &linger)?)
        }
    }
}

fn answer(result: io::Result<String>) {
    match result {
        Ok(text) => say(&text),
        Err(error) => say(&format!("error: {}", name_of(&error))),
    }
}

fn made(result: nix::Result<()>) -> io::Result<String> {
    Ok(result.map(|()| "ok".to_owned())?)
}

/// A file of so many bytes that takes no room.
fn grow(path: &str, bytes: u64) -> io::Result<()> {
    fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?.set_len(bytes)
}

fn mount_memory(path: &str) -> nix::Result<()> {
    nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
}

/// Stops the next process that comes into the pid namespace after `last`.
fn stop_next(last: i32) -> i32 {
    // Some will have ended before they were met; one behind them will be.
    let is_met = |pid: &i32| nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), Signal::SIGSTOP).is_ok();
    loop {
        if let Some(pid) = (last + 1..last + 400).find(is_met) {
            return pid;
        }
    }
}

/// Stops the next process that comes in, and leaves it so.
fn hold() {
    say("ready");
    stop_next(processes().keys().max().copied().unwrap_or(1));
    say("held");
}

/// Stops each of the next processes that come into the pid namespace as soon as
/// it is there, tells its name and what can be had of it, and lets it go on.
fn intrude(count: i64) {
    let mut last = processes().keys().max().copied().unwrap_or(1);
    say("ready");
    for _ in 0..count {
        last = stop_next(last);
        let pid = nix::unistd::Pid::from_raw(last);
        let path = |name: &str| format!("/proc/{pid}/{name}");
        let link = |name: &str| fs::read_link(path(name)).map(|target| target.display().to_string());
        let open = |name: &str| fs::OpenOptions::new().write(true).open(path(name)).map(|_| "opened".to_owned());
        let mut had =
            vec![link("exe"), open("exe"), open("mem"), link("root"), link("cwd"), link("fd/0"), link("fd/3")];
        let name = fs::read_to_string(path("comm")).unwrap_or_default();
        // Who traces a program that has ended keeps its parent from hearing of it.
        if name.trim() != "probe" {
            // SAFETY: PTRACE_SEIZE takes a pid and two numbers, which are 0.
            let result = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, last, 0, 0) };
            had.push(if result == 0 { Ok("seized".to_owned()) } else { Err(io::Error::last_os_error()) });
            if result == 0 {
                nix::sys::signal::kill(pid, Signal::SIGKILL).ok();
            }
        }
        let had: Vec<String> = had.into_iter().map(|one| one.unwrap_or_else(|error| name_of(&error))).collect();
        say(&format!("{} {}", name.trim(), had.join(" ")));
        nix::sys::signal::kill(pid, Signal::SIGCONT).ok();
    }
}

fn name_of(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
        None => error.to_string(),
    }
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn fifo(path: &str) -> io::Result<()> {
    Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o644))?)
}

/// A file with a hole behind what it has.
fn extend(path: &str, length: u64) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?.set_len(length)
}

/// Exchanges two names again and again, until that fails.
fn exchange(one: &str, other: &str) -> io::Error {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    loop {
        if let Err(errno) = renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE) {
            return errno.into();
        }
    }
}

/// A file, or a directory with all that is in it.
fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn chmod(path: &str, mode: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(u32::from_str_radix(mode, 8).unwrap()))
}

/// Sets an extended attribute; the value is in hexadecimal digits.
fn set_attribute(path: &str, name: &str, value: &str) -> io::Result<()> {
    let text = |text: &str| std::ffi::CString::new(text).unwrap();
    let value: Vec<u8> = value
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap())
        .collect();
    // SAFETY: path and name are NUL-terminated, the value is live for the length given.
    let result =
        unsafe { libc::setxattr(text(path).as_ptr(), text(name).as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(format!("got {line:?}"))
}

fn list(path: &str) -> io::Result<String> {
    let mut names: Vec<String> =
        fs::read_dir(path)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names.join(" "))
}

fn describe(status: &fs::Metadata) -> String {
    format!("{}:{} {:o} {} bytes", status.uid(), status.gid(), status.mode(), status.len())
}

fn exec(words: &[&str]) -> io::Error {
    use std::os::unix::process::CommandExt;
    match words.split_first() {
        Some((program, rest)) => std::process::Command::new(program).args(rest).exec(),
        None => io::Error::other("no program"),
    }
}

/// Makes a raw system call: `NAME [NUMBER...]`, prints the result or the errno.
fn syscall(words: &[&str]) -> String {
    let call = match words.first().copied().unwrap_or_default() {
        "add_key" => libc::SYS_add_key,
        "bpf" => libc::SYS_bpf,
        "clone3" => libc::SYS_clone3,
        "io_uring_setup" => libc::SYS_io_uring_setup,
        "ioctl" => libc::SYS_ioctl,
        "kexec_load" => libc::SYS_kexec_load,
        "keyctl" => libc::SYS_keyctl,
        "mount" => libc::SYS_mount,
        "open_by_handle_at" => libc::SYS_open_by_handle_at,
        "perf_event_open" => libc::SYS_perf_event_open,
        "personality" => libc::SYS_personality,
        "ptrace" => libc::SYS_ptrace,
        "setns" => libc::SYS_setns,
        "setuid" => libc::SYS_setuid,
        "socket" => libc::SYS_socket,
        "unshare" => libc::SYS_unshare,
        "userfaultfd" => libc::SYS_userfaultfd,
        other => return format!("probe: no call \"{other}\""),
    };
    let arguments: Vec<i64> = words.iter().skip(1).map(|word| word.parse().unwrap()).collect();
    let argument = |index: usize| arguments.get(index).copied().unwrap_or_default();
    // SAFETY: the calls above take numbers, or pointers that are null here, which the kernel answers with EFAULT.
    let result = unsafe { libc::syscall(call, argument(0), argument(1), argument(2), argument(3), argument(4)) };
    if result < 0 { format!("{:?}", nix::errno::Errno::last()) } else { "ok".to_owned() }
}

fn terminal_size() -> String {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the pointer, which is to a live one.
    let result = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &mut size) };
    if result < 0 { format!("{:?}", nix::errno::Errno::last()) } else { format!("{}x{}", size.ws_col, size.ws_row) }
}

static WINDOW_CHANGES: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    WINDOW_CHANGES.fetch_add(1, Ordering::Relaxed);
}

fn handled() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGQUIT] {
        set.add(signal);
    }
    set
}

/// Prints `ready`, then the signals that come. Ends with 40 at the first, or
/// never.
fn wait_for_signal(stubborn: bool) {
    let set = handled();
    set.thread_block().unwrap();
    say("ready");
    loop {
        let signal = set.wait().unwrap();
        say(signal.as_str());
        if !stubborn {
            std::process::exit(40);
        }
    }
}

/// Prints the terminal's size now and at each SIGWINCH; ends at a line of
/// input.
fn wait_for_sizes() {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler changes one atomic number, which is safe at any time.
    unsafe { nix::sys::signal::sigaction(Signal::SIGWINCH, &action) }.unwrap();
    let mut told = None;
    loop {
        let changes = WINDOW_CHANGES.load(Ordering::Relaxed);
        if told != Some(changes) {
            told = Some(changes);
            say(&format!("size {}", terminal_size()));
        }
        // A signal between the two is seen in the next turn.
        let stdin = io::stdin();
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if matches!(nix::poll::poll(&mut fds, 10_u8), Ok(1)) {
            return;
        }
    }
}

/// Leaves dead orphans behind and counts the zombies that stay.
fn orphan() -> String {
    for _ in 0..3 {
        // SAFETY: this process has one thread, so the child may do all that a process may.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                // SAFETY: as above.
                if let Ok(nix::unistd::ForkResult::Child) = unsafe { nix::unistd::fork() } {
                    std::thread::sleep(Duration::from_millis(20));
                }
                std::process::exit(0)
            }
            nix::unistd::ForkResult::Parent { child } => drop(nix::sys::wait::waitpid(child, None)),
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    format!("zombies {}", processes().values().filter(|state| state.as_str() == "Z").count())
}

/// So many processes that belong to nobody and ignore all that can be ignored,
/// and this one too.
fn breed(count: i64) {
    handled().thread_block().unwrap();
    for _ in 0..count {
        // SAFETY: this process has one thread, so the child may do all that a process may.
        if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::setsid().unwrap();
            // SAFETY: as above.
            if let nix::unistd::ForkResult::Parent { .. } = unsafe { nix::unistd::fork() }.unwrap() {
                std::process::exit(0);
            }
            break;
        }
    }
    say("ready");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// State of each process, by pid.
fn processes() -> BTreeMap<i32, String> {
    let state = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(text.rsplit_once(") ")?.1.get(..1)?.to_owned())
    };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, state(pid)?))).collect()
}

/// Everything a program can see of its container.
fn inside() -> Value {
    json!({
        "argv": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars_os()
            .map(|(name, value)| format!("{}={}", name.display(), value.display())).collect::<Vec<_>>(),
        "cwd": std::env::current_dir().map(|path| path.display().to_string()).map_err(|error| name_of(&error)).ok(),
        "hostname": nix::unistd::gethostname().map(|name| name.display().to_string()).ok(),
        "pid": std::process::id(),
        "parent": nix::unistd::getppid().as_raw(),
        "processes": processes(),
        "status": status(),
        "uid_map": map("uid_map"),
        "gid_map": map("gid_map"),
        "mounts": mounts(),
        "namespaces": namespaces(),
        "descriptors": descriptors(),
        "limits": limits(),
        "monotonic_s": clock(nix::time::ClockId::CLOCK_MONOTONIC),
        "boottime_s": clock(nix::time::ClockId::CLOCK_BOOTTIME),
        "death_signal": nix::sys::prctl::get_pdeathsig().ok().flatten().map(Signal::as_str),
    })
}

/// /proc/self/status as it is: Uid, Gid, Groups, Cap*, Seccomp, NoNewPrivs, …
fn status() -> BTreeMap<String, String> {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), words(value).join(" ")));
    text.lines().filter_map(field).collect()
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn map(name: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    text.lines().map(|line| words(line).join(" ")).collect()
}

fn mounts() -> Vec<Value> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = |line: &str| {
        let (own, system) = line.split_once(" - ")?;
        let (own, system) = (words(own), words(system));
        Some(json!({
            "root": own.get(3)?, "target": own.get(4)?, "options": own.get(5)?, "propagation": own.get(6..)?,
            "kind": system.first()?, "source": system.get(1)?, "system_options": system.get(2)?,
        }))
    };
    text.lines().filter_map(mount).collect()
}

fn namespaces() -> BTreeMap<String, u64> {
    let inode = |kind: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
        link.to_str()?.split_once('[')?.1.trim_end_matches(']').parse().ok()
    };
    let kinds = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup", "time"];
    kinds.into_iter().filter_map(|kind| Some((kind.to_owned(), inode(kind)?))).collect()
}

/// What is open, without the descriptor that reads the list.
fn descriptors() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if !target.starts_with(Path::new(&format!("/proc/{}/fd", std::process::id()))) {
            found.insert(entry.file_name().to_string_lossy().into_owned(), target.display().to_string());
        }
    }
    found
}

fn limits() -> BTreeMap<String, String> {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = |line: &str| {
        let (name, rest) = (line.get(..26)?.trim(), words(line.get(26..)?));
        Some((name.to_owned(), format!("{} {}", rest.first()?, rest.get(1)?)))
    };
    text.lines().skip(1).filter_map(limit).collect()
}

fn clock(clock: nix::time::ClockId) -> i64 {
    nix::time::clock_gettime(clock).map_or(-1, |time| time.tv_sec())
}
