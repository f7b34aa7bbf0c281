//! The container's side of its network: a device whose other end goes to the
//! supervisor, addresses and routes, all in one message to the kernel
//! (rtnetlink(7)). No program of the host or of the image takes part.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::init::Marked;
use crate::error::{Context, Failure, Result};
use crate::kernel::netlink::{self, Netlink};
use crate::kernel::{self, Errno, tun};
use crate::sandbox::spec::Link;

/// The kernel's answers come one a datagram; each is a header, an errno and
/// the header of what it answers.
const ANSWER_BYTES_MAX: usize = 4096;

/// Makes the device of `link` in the caller's network namespace, gives it its
/// addresses and routes and brings it up. Returns the end that packets are read
/// from and written to, and whether marked connections are answered. Needs the
/// host's /dev and /proc.
pub(super) fn set_up(link: &Link) -> Result<(OwnedFd, Marked)> {
    let device = tun::create(&link.device).map_err(crate::host::explain_tun)?;
    let socket = Netlink::open()?;
    let index = netlink::index_of(&link.device)?;
    let mut wishes = wishes(link, index);
    if let Some(mark) = link.inbound_mark {
        wishes.extend(answers(mark));
    }
    let messages: Vec<RouteNetlinkMessage> = wishes.iter().map(|wish| wish.message.clone()).collect();
    let refusals = ask(&socket, messages)?;
    let mut marked = if link.inbound_mark.is_some() { inherit_marks() } else { Marked::default() };
    for (wish, errno) in wishes.iter().zip(refusals) {
        match errno {
            None => {}
            // A kernel without policy routing, or without IPv6: clients are not shown by their addresses.
            Some(_) if wish.is_for_marks => *(if wish.is_ipv6 { &mut marked.ipv6 } else { &mut marked.ipv4 }) = false,
            // A kernel without IPv6 (ipv6.disable=1), or with it closed (disable_ipv6).
            Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EACCES | Errno::ENETUNREACH) if wish.is_ipv6 => {}
            Some(errno) => return Err(kernel::Error::new("rtnetlink", wish.what.clone(), errno).into()),
        }
    }
    Ok((device, marked))
}

/// Has answers marked as what they answer (ip-sysctl): of connections that are
/// accepted (tcp_fwmark_accept, for both families) and of those that are
/// refused (fwmark_reflect). Where /proc is read-only, as in another container,
/// in no family. Says in which.
fn inherit_marks() -> Marked {
    let write = |name: &str| fs::write(format!("/proc/sys/net/{name}"), "1").is_ok();
    // Connections of the host's own come from the gateway's one address, and have 28,000 ports there: they are used
    // again when they only wait for late packets. Without it, that is the bound for a minute.
    write("ipv4/tcp_tw_reuse");
    let is_accepted = write("ipv4/tcp_fwmark_accept");
    Marked { ipv4: is_accepted && write("ipv4/fwmark_reflect"), ipv6: is_accepted && write("ipv6/fwmark_reflect") }
}

/// A rule and a route for each family by which answers to marked connections
/// stay here.
fn answers(mark: u32) -> Vec<Wish> {
    let each = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let wishes = each.into_iter().flat_map(|any| {
        let wish = |message, what: &str| Wish {
            message,
            what: format!("add {what} for marked connections"),
            is_ipv6: any.is_ipv6(),
            is_for_marks: true,
        };
        [
            wish(RouteNetlinkMessage::NewRule(rule(family(any), mark)), "a rule"),
            wish(RouteNetlinkMessage::NewRoute(local_route(family(any), mark)), "a route"),
        ]
    });
    wishes.collect()
}

/// Before the main table, and behind the local one.
const RULE_PRIORITY: u32 = 50;

/// The loopback device's index in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

fn rule(family: AddressFamily, mark: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::ToTable;
    message.attributes.extend([
        RuleAttribute::Priority(RULE_PRIORITY),
        RuleAttribute::FwMark(mark),
        RuleAttribute::Table(mark),
    ]);
    message
}

/// All addresses are here.
fn local_route(family: AddressFamily, table: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Host,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    message.attributes.extend([RouteAttribute::Table(table), RouteAttribute::Oif(LOOPBACK_INDEX)]);
    message
}

/// Lets all groups of the container send echo requests (icmp(7)), as docker
/// does. The id map is written by now: the kernel takes ids of the caller's
/// user namespace. Where /proc is read-only, as in another container, ping
/// needs its capability, which root has.
pub(super) fn open_ping(last_gid: u32) -> Result<()> {
    let path = "/proc/sys/net/ipv4/ping_group_range";
    match fs::write(path, format!("0 {last_gid}")) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::ENOENT)) => Ok(()),
        result => result.doing(|| format!("write {path}")),
    }
}

/// One thing to be done, and its name in an error.
struct Wish {
    message: RouteNetlinkMessage,
    what: String,
    is_ipv6: bool,
    /// All but this works without it.
    is_for_marks: bool,
}

fn wishes(link: &Link, index: u32) -> Vec<Wish> {
    let link_wish = |message, what: &str, is_ipv6| Wish {
        message: RouteNetlinkMessage::SetLink(message),
        what: format!("{what} {}", link.device),
        is_ipv6,
        is_for_marks: false,
    };
    let mut wishes = vec![
        link_wish(without_own_address(index), "configure IPv6 on", true),
        link_wish(up(index, link.mtu), "set up", false),
    ];
    for (address, prefix) in &link.addresses {
        wishes.push(Wish {
            message: RouteNetlinkMessage::NewAddress(address_of(index, *address, *prefix)),
            what: format!("add address {address}/{prefix}"),
            is_ipv6: address.is_ipv6(),
            is_for_marks: false,
        });
    }
    for gateway in &link.gateways {
        wishes.push(Wish {
            message: RouteNetlinkMessage::NewRoute(default_route(index, *gateway)),
            what: format!("add a route by {gateway}"),
            is_ipv6: gateway.is_ipv6(),
            is_for_marks: false,
        });
    }
    wishes
}

/// Without an IPv6 address that the kernel makes up: it would look for routers
/// on a link that has none to answer.
fn without_own_address(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![none]));
    message
}

fn up(index: u32, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message
}

fn address_of(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Address(address));
    match address {
        IpAddr::V4(_) => message.attributes.push(AddressAttribute::Local(address)),
        // Nobody else can have it, so nobody is asked first: it can be used at once.
        IpAddr::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(gateway),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Sends all in one go and reads what came of each.
fn ask(socket: &Netlink, messages: Vec<RouteNetlinkMessage>) -> Result<Vec<Option<Errno>>> {
    let mut outcomes = vec![None; messages.len()];
    socket.send(&encode(messages))?;
    let mut buffer = [0_u8; ANSWER_BYTES_MAX];
    for _ in 0..outcomes.len() {
        let length = socket.receive(&mut buffer)?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(buffer.get(..length).unwrap_or_default())
            .map_err(|error| Failure::bug(format!("an answer of the kernel's: {error}")))?;
        let (header, payload) = answer.into_parts();
        let (Some(outcome), NetlinkPayload::Error(error)) =
            (outcomes.get_mut(header.sequence_number as usize), payload)
        else {
            return Err(Failure::bug("an answer of the kernel's to no question"));
        };
        *outcome = error.code.map(|code| Errno::from_raw(code.get().saturating_neg()));
    }
    Ok(outcomes)
}

/// The bytes of the messages, numbered from 0, each to be answered.
fn encode(messages: Vec<RouteNetlinkMessage>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, message) in (0..).zip(messages) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        header.sequence_number = number;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = bytes.len();
        // Each begins at a multiple of four (NLMSG_ALIGN).
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(bytes.get_mut(start..).unwrap_or_default());
    }
    bytes
}
