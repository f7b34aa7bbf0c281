//! Every bound kelp keeps, with its reason. Input from outside meets one of
//! these before it can cost memory, disk or time without end.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::error::{Failure, Result};

/// A message between two kelp processes. A sandbox spec with the largest
/// environment the kernel takes (ARG_MAX, 2 MiB by default, escaped) fits.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// A manifest or index: the distribution spec asks registries to accept 4 MiB
/// ("Pushing Manifests"), so nothing larger is portable.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// An image config. Real ones are some KiB; history can make them long.
pub const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// Layers of one image: the kernel's overlayfs takes 500 lower layers
/// (fs/overlayfs, OVL_MAX_STACK).
pub const LAYERS_MAX: usize = 500;

/// Entries of one layer. Inodes are a shared resource; a full distribution
/// with desktop has about a million files.
pub const LAYER_ENTRIES_MAX: u64 = 20_000_000;

/// Bytes of one layer unpacked. Model images of hundreds of GiB are real; a
/// decompression bomb is not stopped by this alone but by the disk's free
/// space, which the unpack stage watches too.
pub const LAYER_BYTES_MAX: u64 = 4 << 40;

/// A path inside a layer, in bytes. PATH_MAX is 4,096: a longer one could be
/// made but not used by any program.
pub const ENTRY_PATH_BYTES_MAX: usize = 4096;

/// Directories below each other inside a layer.
pub const ENTRY_DEPTH_MAX: usize = 1024;

/// Extended attributes of one entry (pax `SCHILY.xattr.*`), all together; one
/// value is limited by the kernel to 64 KiB (XATTR_SIZE_MAX).
pub const ENTRY_XATTR_BYTES_MAX: usize = 1 << 20;

/// Extended header of one entry (pax records, GNU long names): attributes, two
/// paths and room for records that kelp passes over.
pub const ENTRY_HEADER_BYTES_MAX: u64 = 2 << 20;

/// Data segments of one sparse file in a layer. Each costs 16 bytes of memory.
pub const SPARSE_SEGMENTS_MAX: usize = 1 << 20;

/// Names of a layer's directories, kept in memory until their times can be
/// set. A full distribution needs 5 MiB.
pub const LAYER_DIRECTORY_BYTES_MAX: usize = 512 << 20;

/// Names of files with several names, kept in memory while a layer is packed so
/// that the later ones become links. A full distribution needs some KiB.
pub const LAYER_LINK_BYTES_MAX: usize = 512 << 20;

/// A file of /proc or /sys that is copied, as far as it is read: these say no
/// size, and some have no end. The longest that people ask for (smaps of a
/// large process, kallsyms) have some MiB.
pub const KERNEL_FILE_BYTES_MAX: u64 = 16 << 20;

/// The list of what changed in a container, read whole to be sorted: ten
/// million paths.
pub const CHANGES_BYTES_MAX: u64 = 1 << 30;

/// Symbolic links followed for the parent of one entry or for one mount; the
/// kernel's own bound (path_resolution(7)).
pub const ENTRY_LINKS_MAX: usize = 40;

/// Directories above a mount point in an image that a volume takes its content
/// from: each holds descriptors, one for each layer that has it.
pub const MOUNT_DEPTH_MAX: usize = 128;

/// /etc/passwd and /etc/group of an image are read whole up to this size.
pub const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// An env-file, a seccomp profile, a Docker config: read whole up to this size.
pub const USER_FILE_BYTES_MAX: u64 = 16 << 20;

/// Entries of one file of credentials: a person has some, a build farm
/// hundreds.
pub const AUTH_ENTRIES_MAX: usize = 100_000;

/// A name or a password. Tokens and keys that serve as passwords have some KiB.
pub const PASSWORD_BYTES_MAX: usize = 64 << 10;

/// What a credential helper may answer: a secret of some KiB.
pub const KEYCHAIN_BYTES_MAX: usize = 1 << 20;

/// How long a credential helper may take. It may ask the user to unlock the
/// keychain.
pub const KEYCHAIN_PATIENCE_MS: u64 = 120_000;

/// Environment variables of one container.
pub const ENVIRONMENT_MAX: usize = 16_384;

/// Mounts of one container; the kernel's own default is 100,000 a namespace
/// (/proc/sys/fs/mount-max).
pub const MOUNTS_MAX: usize = 1_024;

/// Instructions of a seccomp filter (BPF_MAXINSNS).
pub const FILTER_INSTRUCTIONS_MAX: usize = 4_096;

/// Name of a container or volume, in bytes. A name becomes a file name, and
/// file names end at 255 bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// How long the last supervisor lives on after its container, so that the next
/// start finds the base user namespace still mapped (docs/processes.md).
pub const BASE_LINGER_MS: u64 = 15_000;

/// How long a network's process lives on after its last container, so that the
/// next one need not launch it.
pub const NETWORK_LINGER_MS: u64 = 5_000;

/// Connections to a network's process: one for each container, and commands.
/// Each container costs it two descriptors, of which it has as many as its user
/// may ask for (RLIMIT_NOFILE's hard limit; often 4,096, else far more).
pub const NETWORK_PEERS_MAX: usize = 4_096;

/// Servers, domains, options and names that one container is told of its
/// network's: each becomes a line of a file that every lookup reads.
pub const NETWORK_NAMES_MAX: usize = 4_096;

/// The host's resolv.conf. Real ones have some hundred bytes.
pub const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

/// How long a program may take to end after it was asked to (docker's number).
pub const STOP_TIMEOUT_S: i64 = 10;

/// Probes of a container's health that are remembered: docker's maxLogEntries.
pub const HEALTH_LOG_MAX: usize = 5;

/// Bytes of what a probe says that are kept: docker's maxOutputLen.
pub const HEALTH_OUTPUT_BYTES_MAX: usize = 4096;

/// A log of them: a byte takes up to six in JSON, and there is room for the rest.
pub const HEALTH_LOG_BYTES_MAX: u64 = 256 << 10;

/// An image cannot have a container probed without a pause: docker's least time.
pub const HEALTH_TIME_MIN: Duration = Duration::from_millis(1);

/// Programs beside a container's own, by exec: each takes up to four of the
/// supervisor's 1,024 descriptors (the usual RLIMIT_NOFILE).
pub const EXEC_SESSIONS_MAX: usize = 200;

/// How long a command that attached to a container may hold its program up by
/// not reading what it writes.
pub const LISTENER_PATIENCE_MS: u64 = 10_000;

/// Commands that talk to one supervisor at once. Each costs up to three of the
/// 1,024 descriptors that a process usually may have (RLIMIT_NOFILE).
pub const CLIENTS_MAX: usize = 200;

/// How long a command that says nothing and waits for nothing may keep its place
/// when there is none for others. All of ours speak at once.
pub const SILENCE: Duration = Duration::from_secs(2);

/// How long it may take until a container's first process is its program. It is
/// milliseconds, and seconds where hundreds are started at once.
pub const START_PATIENCE: Duration = Duration::from_secs(120);

/// The same of a program that joins a container.
pub const EXEC_PATIENCE: Duration = Duration::from_secs(60);

/// Containers that one command asks to stop before it waits for the first of
/// them. Each costs one of the 1,024 descriptors that a process usually may have.
pub const STOPS_AT_ONCE: usize = 500;

/// A tag's file: a reference, digests and times of our own writing.
pub const TAG_BYTES_MAX: u64 = 64 << 10;

/// An image archive read from a pipe or a compressed one; as a layer, it may
/// hold a model of hundreds of GiB.
pub const ARCHIVE_BYTES_MAX: u64 = 4 << 40;

/// A file of an archive that comes through a pipe: a larger one goes straight
/// into the store, where it belongs if it is a layer. Documents are smaller.
pub const ARCHIVE_ASIDE_BYTES_MAX: u64 = 1 << 20;

/// Layers that are copied out of an archive at once. Hashing is what takes
/// time, so more than a few processors are of no use beside the disk.
pub const ARCHIVE_LAYERS_AT_ONCE: usize = 4;

/// Entries of an image archive: each layer is up to three of them (a
/// directory, a version, a tar), so this is some hundred full images.
pub const ARCHIVE_ENTRIES_MAX: usize = 200_000;

/// Images in one archive.
pub const ARCHIVE_IMAGES_MAX: usize = 1_024;

/// Links followed from a layer's name in an archive to the layer itself.
/// docker save (until 24) wrote one, from a repeated layer to its first place.
pub const ARCHIVE_LINKS_MAX: usize = 8;

/// How long a save waits for another that writes into the same image layout,
/// which may be a large one on a slow file system.
pub const LAYOUT_PATIENCE_MS: u64 = 10_000;

/// Indexes within indexes, from a tag to an image: an OCI layout has one index
/// of its own and may list another.
pub const INDEX_DEPTH_MAX: usize = 4;

/// The answer of a token server. Tokens of some KiB are real (many scopes).
pub const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// Redirects followed for one request; curl's and Go's bound is of this size.
pub const REDIRECTS_MAX: usize = 10;

/// Tries of one request to a registry that is busy or out of reach.
pub const REQUEST_TRIES_MAX: u32 = 5;

/// Waiting for a busy registry, one wait: longer than this, the person wants
/// to be told.
pub const RETRY_WAIT_MS_MAX: u64 = 30_000;

/// Blobs fetched from one registry at once (docker's and podman's number).
pub const DOWNLOADS_MAX: usize = 3;

/// Blobs sent to one registry at once (docker's number).
pub const UPLOADS_MAX: usize = 5;

/// How many times longer than for the next bytes a registry may think about an
/// upload that is complete: it hashes it once more, and copies it where its
/// storage cannot rename. Minutes are real for a layer of 10 GiB.
pub const COMMIT_PATIENCE: u32 = 10;

/// From this length on a registry is asked before an upload's bytes are sent
/// (curl's number).
pub const EXPECT_BYTES_MIN: u64 = 1 << 20;

/// Chunks of an upload, once the registry would not take it in one piece or
/// the connection broke: what a second break costs at most. Proxies that limit
/// a request's size have limits of 100 MB and more.
pub const UPLOAD_CHUNK_BYTES: u64 = 64 << 20;

/// The smallest chunk that is tried on a registry that refuses larger ones.
pub const UPLOAD_CHUNK_BYTES_MIN: u64 = 1 << 20;

/// Threads that compress a layer. Each has two blocks of up to 4 MiB and their
/// compressed forms in memory; more are waited for by the one that reads,
/// hashes and writes.
pub const COMPRESS_THREADS_MAX: usize = 32;

/// Names asked for in one page of a list; registries give fewer as they like.
pub const LIST_PAGE_NAMES: usize = 1_000;

/// One page of a list of tags or repositories, or a search's answer: a
/// thousand names of the greatest length fit twice.
pub const LIST_PAGE_BYTES_MAX: u64 = 1 << 20;

/// Pages of one list. Registries that send a hundred names a page have less
/// than this many.
pub const LIST_PAGES_MAX: usize = 1_000;

/// Tags of one repository, or repositories of one registry. A build server's
/// nightly tags of some years are some thousand.
pub const LIST_NAMES_MAX: usize = 100_000;

/// Repositories from which blobs are mounted in one push; each may cost a
/// token.
pub const MOUNT_SOURCES_MAX: usize = 16;

/// Layers fetched and unpacked together. Each holds some descriptors in two
/// processes; 1,024 is what a process usually may have (RLIMIT_NOFILE).
pub const LAYER_BATCH: usize = 64;

/// How long blobs that no tag needs are kept: a pull that broke off goes on
/// where it was when it is repeated within a day.
pub const BLOB_KEEP_S: u64 = 24 * 60 * 60;

/// How long the beginning of a blob is kept whose download broke off. Longer
/// than blobs: a model of a hundred GiB may take a weekend and two reboots.
pub const PARTIAL_KEEP_S: u64 = 7 * 24 * 60 * 60;

/// How long a removal waits for a start or a pull that is under way before it
/// leaves the deletion to the next one. Starts take milliseconds.
pub const COLLECT_PATIENCE_MS: u64 = 2_000;

/// What the embedded image is told about its host: some KiB, more only with
/// hundreds of ranges in /etc/subuid.
pub const HOST_VIEW_BYTES_MAX: u64 = 1 << 20;

/// A record of our own beside a container, a layer or a volume. The largest
/// holds argv and labels that came in one message ([`FRAME_BYTES_MAX`]).
pub const RECORD_BYTES_MAX: u64 = 16 << 20;

/// The file of events: a busy machine's day at some hundred bytes each. There
/// is a second one, the previous.
pub const EVENTS_BYTES_MAX: u64 = 8 << 20;

/// One event. Labels can be longer than all else in it; they are left out then.
pub const EVENT_BYTES_MAX: usize = 64 << 10;

/// Threads that verify blobs. A disk is busy with fewer; the bound is for
/// machines with hundreds of cores that others use too.
pub const HASH_THREADS_MAX: usize = 8;

/// What a `--format` template makes of one row or document. The largest whole
/// documents (an image config, [`CONFIG_BYTES_MAX`]) fit several times over.
pub const FORMAT_BYTES_MAX: usize = 64 << 20;

/// Spaces that one call of `pad` in a `--format` template can make: more than
/// any terminal is wide.
pub const FORMAT_PAD_MAX: usize = 4_096;

/// The one line of /proc/PID/stat: 52 numbers of up to 20 digits and a name.
pub const PROCESS_STAT_BYTES_MAX: u64 = 2 << 10;

/// `memory.events` of a cgroup: seven lines of some 20 bytes.
pub const MEMORY_EVENTS_BYTES_MAX: usize = 1 << 10;

/// Another file that the kernel makes up of a process or a cgroup. The longest
/// have a line for each device; what is beyond is left out.
pub const PROCESS_FILE_BYTES_MAX: u64 = 64 << 10;

/// What is shown of a program's command line, which it may rewrite to be as
/// long as its memory: what ps(1) could show at most for most of its life.
pub const COMMAND_LINE_BYTES_MAX: u64 = 4 << 10;

/// A line of a container's log: what is longer becomes several entries, as
/// Docker cuts it, so that no program can make kelp remember more.
pub const LOG_LINE_BYTES: usize = 16 << 10;

/// What `--log-opt` may add to every line of a log: labels and variables. A
/// line of its own would otherwise cost megabytes.
pub const LOG_EXTRAS_BYTES_MAX: usize = 32 << 10;

/// One line of a log's file. A longest line of control characters takes six
/// times its size ([`LOG_LINE_BYTES`]), with extras 128 KiB.
pub const LOG_ENTRY_BYTES_MAX: usize = 256 << 10;

/// Entries that are collected before they are written: what a full pipe
/// (64 KiB) becomes goes out at once or twice, and 500 supervisors stay small.
pub const LOG_BATCH_BYTES: usize = 64 << 10;

/// A log's file when nothing is said: Docker's has no end, which fills disks
/// and quotas in the dark. With [`LOG_FILES`] a container may keep 1 GB, more
/// than anybody reads.
pub const LOG_FILE_BYTES: u64 = 64_000_000;

/// Files of a log when nothing is said.
pub const LOG_FILES: u32 = 16;

/// Files of one log. A reader holds them all open, and 1,024 descriptors are
/// what a process usually may have (RLIMIT_NOFILE).
pub const LOG_FILES_MAX: u32 = 256;

/// Cgroups above the caller's own that are looked at for one that is delegated:
/// systemd nests six deep, batch systems ten.
pub const CGROUP_DEPTH_MAX: usize = 32;

/// Processes of a cgroup that are looked at for whether they are kelp's: one
/// that is not is enough.
pub const CGROUP_RESIDENTS_MAX: usize = 256;

/// Cgroups that a container with a writable tree may make (cgroup.max.descendants),
/// so that it can be removed: systemd in it makes some fifty.
pub const CGROUP_DESCENDANTS_MAX: u32 = 1_000;

/// How deep (cgroup.max.depth).
pub const CGROUP_NESTING_MAX: u32 = 16;

/// A message of the user's bus: those that are waited for have some hundred
/// bytes.
pub const BUS_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// How long the user's systemd may take to make a scope where a container could
/// do without: it takes some milliseconds.
pub const SCOPE_PATIENCE_MS: u64 = 1_000;

/// The same where limits hang on it: a busy machine's takes longer.
pub const SCOPE_PATIENCE_REQUIRED_MS: u64 = 15_000;

/// Ports that one container publishes. Each is a listening socket, at all
/// addresses two.
pub const PUBLISHED_PORTS_MAX: usize = 1_024;

/// How often another port is tried where any will do: the kernel chooses one
/// for IPv4, and somebody else may have its number in IPv6.
pub const PUBLISH_TRIES: usize = 16;

/// Sockets in a container's network namespace that are kept ahead of need, to
/// begin with; twice as many each time they run out.
pub const PUBLISHED_STOCK: usize = 8;

/// The most of them, of each family: what one message carries.
pub const PUBLISHED_STOCK_MAX: usize = 64;

/// How long until sockets are asked for again that did not come, or a port is
/// bound again that somebody else has.
pub const PUBLISHED_AGAIN: Duration = Duration::from_secs(1);

/// Connections that are taken in at one port in a turn, so that others have
/// their turn.
pub const PUBLISHED_ACCEPTS_A_TURN: usize = 32;

/// Connections through the published ports of one container. More wait in the
/// kernel's queue (net.core.somaxconn), unanswered when that is full.
pub const PUBLISHED_CONNECTIONS_A_CONTAINER: usize = 8_192;

/// What is read in one piece and copied; the size of a piece that a bulk flow
/// comes in.
pub const PUBLISHED_PIECE_BYTES: usize = 64 << 10;

/// Full pieces in a row that are copied before a pipe is taken.
pub const PUBLISHED_PIECES_COPIED: u32 = 2;

/// Small pieces in a row for which a pipe is kept.
pub const PUBLISHED_PIECES_SPLICED: u32 = 8;

/// Room in a pipe. Users may have 64 MiB in all pipes (pipe-user-pages-soft).
pub const PUBLISHED_PIPE_BYTES: i32 = 256 << 10;

/// Pipes that are kept for the next bulk flows.
pub const PUBLISHED_PIPES_IN_STOCK: usize = 16;

/// What epoll hands out in one turn of the network's loop. More wait for the
/// next one; the bound keeps a turn short with ten thousand flows.
pub const EVENTS_A_TURN: usize = 256;

/// Packets that are read from one container's device in a turn, so that what
/// came in is passed on before more is read, and others have their turn.
pub const PACKETS_A_TURN: usize = 16;

/// One packet on a container's device: an IP packet's length has 16 bits, in
/// IPv6 without its header.
pub const PACKET_BYTES_MAX: usize = 40 + 65_535;

/// Bytes that one TCP flow takes from the host in a turn: what goes through the
/// processor's cache at once, and others have their turn.
pub const TCP_BYTES_A_TURN: usize = 256 << 10;

/// Packets that one TCP flow sends to its container in a turn.
pub const TCP_PACKETS_A_TURN: usize = 64;

/// TCP flows of one container. Each has a descriptor in the network process and
/// up to 1 MiB of rings; who wants one more loses one that is idle, or gets a
/// reset.
pub const TCP_FLOWS_A_CONTAINER: usize = 16_384;

/// Touched bytes of all rings together, above which new flows get small ones:
/// two hundred and fifty flows at full speed.
pub const TCP_RINGS_BYTES_GENEROUS: usize = 256 << 20;

/// Touched bytes of all rings together. Above it the flows that have most of
/// them are reset: those whose readers do not read.
pub const TCP_RINGS_BYTES_MAX: usize = 1 << 30;

/// Used rings that are kept warm for the next flows, until it has been quiet
/// for [`TCP_QUIET`].
pub const TCP_RINGS_IN_STOCK: usize = 32;

/// How long no TCP flow ends before kept memory is given back.
pub const TCP_QUIET: Duration = Duration::from_secs(5);

/// A block of memory that is a mapping of its own (M_MMAP_THRESHOLD): rings
/// are, small things are not.
pub const MAPPED_BLOCK_BYTES_MIN: i32 = 60_000;

/// How long a destination may take to answer a SYN: longer than the host's
/// kernel tries (net.ipv4.tcp_syn_retries of 6: 127 s), which says why.
pub const TCP_OPENING: Duration = Duration::from_secs(180);

/// How long a TCP flow may be idle: RFC 5382 (REQ-5) asks for no less.
pub const TCP_IDLE: Duration = Duration::from_secs(2 * 3600 + 4 * 60);

/// The same once one side has ended (RFC 5382, REQ-5: "transitory").
pub const TCP_HALF_CLOSED: Duration = Duration::from_secs(4 * 60);

/// How long a TCP flow must have been idle to be reset for a new one when there
/// is no room.
pub const TCP_EVICT_AFTER: Duration = Duration::from_secs(60);

/// Flows that are looked at for one that can go.
pub const TCP_EVICT_SAMPLE: usize = 64;

/// UDP ports of one container that are mapped to sockets of the host's. Each
/// has a descriptor and some 3 KiB, most of them the kernel's; who wants one
/// more loses the one that has been idle for the longest.
pub const UDP_FLOWS_A_CONTAINER: usize = 8_192;

/// The same of all containers together: each takes a port of the host's, of
/// which there are 28,232 (net.ipv4.ip_local_port_range). Above it the container
/// that has most of them loses one.
pub const UDP_FLOWS_MAX: usize = 16_384;

/// Addresses that one UDP port is known to talk to, by which what comes is
/// accepted: some 70 KiB. Nodes of a distributed hash table talk to hundreds.
/// Those that were not talked to for the longest are forgotten.
pub const UDP_PEERS_A_FLOW: usize = 1_024;

/// The same of all ports of a container: some 4.5 MiB. Above it a port that
/// talks to another address forgets all others of its own.
pub const UDP_PEERS_A_CONTAINER: usize = 65_536;

/// How long a UDP port may be idle that nobody has answered: RFC 4787 (REQ-5)
/// asks for no less.
pub const UDP_IDLE: Duration = Duration::from_secs(2 * 60);

/// The same once somebody has: what RFC 4787 (REQ-5) recommends.
pub const UDP_IDLE_ANSWERED: Duration = Duration::from_secs(5 * 60);

/// Identifiers of a container's echo requests: programs that ping at once.
pub const ECHO_FLOWS_A_CONTAINER: usize = 64;

/// The same of all containers together.
pub const ECHO_FLOWS_MAX: usize = 512;

/// How long echo requests may pause: RFC 5508 (REQ-1) asks for no less.
pub const ECHO_IDLE: Duration = Duration::from_secs(60);

/// Datagrams, as the kernel gives them, that one socket is read for in a turn.
pub const DATAGRAMS_A_TURN: usize = 32;

/// Errors that one socket is read for in a turn, and before each datagram.
pub const DATAGRAM_ERRORS_A_TURN: usize = 16;

/// Datagrams in one packet: as many as a kernel puts there (UDP_MAX_SEGMENTS,
/// 64 before Linux 6.9). Packets of more are dropped: each costs a call.
pub const DATAGRAM_SEGMENTS_MAX: usize = 128;

/// What a socket keeps of datagrams until they are read (SO_RCVBUF), where the
/// host allows as much (net.core.rmem_max): some milliseconds at full speed.
pub const DATAGRAM_RECEIVE_BYTES: usize = 1 << 20;

/// Packets of one container whose fragments are waited for, of up to 64 KiB
/// each. One more takes the place of the oldest.
pub const FRAGMENTED_A_CONTAINER: usize = 16;

/// Fragments of one packet: 64 KiB in pieces of 552 bytes, the smallest that
/// Linux makes (net.ipv4.route.min_pmtu). Who sends more loses the packet.
pub const FRAGMENTS_A_PACKET: usize = 128;

/// How long fragments are waited for (RFC 8200 section 4.5 has 60 s, Linux 30).
pub const FRAGMENTS_WAIT: Duration = Duration::from_secs(30);

/// IPv6 extension headers in front of what a packet carries. Real ones have one
/// or two; each costs a step of a loop.
pub const EXTENSION_HEADERS_MAX: usize = 8;

/// A value for a file of a cgroup. The kernel takes no more than a page at
/// once (kernfs_fop_write_iter).
pub const CGROUP_VALUE_BYTES_MAX: usize = 4_000;

/// How often a memory limit without a cgroup is looked after: seldom enough to
/// cost little, often enough that a program is not far above it.
pub const WATCH_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The same at most, on a machine with so many processes that reading them
/// takes its time.
pub const WATCH_PAUSE_MAX: Duration = Duration::from_millis(500);

/// The whole of a file of at most `max` bytes; a larger one is refused, never
/// cut. The caller says what was being read.
pub fn read_file(path: &Path, max: u64) -> Result<Vec<u8>> {
    // Most of what is read so is smaller than that, and read at once.
    let mut bytes = Vec::with_capacity(8 << 10);
    File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(Failure::user(format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}

/// Servers that one question about a name is asked of: as many as glibc asks
/// (MAXNS in resolv.h).
pub const DNS_SERVERS_MAX: usize = 3;

/// Questions of one container that servers are being asked. One that is not
/// answered takes up to three descriptors for ten seconds.
pub const DNS_QUERIES_A_CONTAINER: usize = 1_024;

/// The same of all containers, or a sixteenth of the descriptors that there are.
pub const DNS_QUERIES_MAX: usize = 4_096;

/// One question, with all that EDNS adds: cookies, padding (RFC 8467) and a
/// signature have room in a quarter of it.
pub const DNS_QUERY_BYTES_MAX: usize = 4_096;

/// Connections of one container to the resolver: each takes two descriptors.
pub const DNS_STREAMS_A_CONTAINER: usize = 64;

/// Questions of one connection at the same time; the next is read when one of
/// them is answered.
pub const DNS_STREAM_QUERIES: usize = 16;

/// How long a connection to the resolver may be idle (RFC 7766 section 6.2.3:
/// "on the order of a few seconds").
pub const DNS_STREAM_IDLE: Duration = Duration::from_secs(20);

/// How long a server is waited for at least, however many there are.
pub const DNS_PATIENCE_MIN: Duration = Duration::from_millis(500);

/// How long a question may take, whatever resolv.conf(5) says: longer than
/// programs wait.
pub const DNS_ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long a server that did not answer in time is asked after the others.
pub const DNS_SILENT: Duration = Duration::from_secs(30);

/// Servers of which that is known; above it all are asked again.
pub const DNS_SILENT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "four").unwrap();
        assert_eq!(read_file(file.path(), 4).unwrap(), b"four");
        assert_eq!(read_file(file.path(), 3).unwrap_err().to_string(), "it is larger than 3 bytes");
        assert!(read_file(&file.path().join("x"), 3).unwrap_err().is_errno(libc::ENOTDIR));
    }
}
