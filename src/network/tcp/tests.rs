//! The router and a container's kernel that is played here: packets go over a
//! socket instead of a device, to a real server on the host's loopback.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use proptest::prelude::*;
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::super::attachment::{Addresses, Attachment};
use super::super::dns;
use super::super::egress::{Loopback, Network, Outside, Policy};
use super::super::frame::{Frame, Segments};
use super::super::link::Link;
use super::super::router::{Config, Router};
use super::super::terms::Dns;
use super::Stack;
use super::device::Announced;
use super::rings::{End, Rings};
use crate::limits;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 1);

/// What the container saw of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    control: TcpControl,
    seq: i32,
    ack: Option<i32>,
    window: u16,
    payload: Vec<u8>,
}

/// A segment of the container's to the gateway.
fn packet(port: u16, control: TcpControl, seq: i32, ack: Option<i32>, window: u16, payload: &[u8]) -> Vec<u8> {
    let is_first = control == TcpControl::Syn;
    let repr = TcpRepr {
        src_port: 40_000,
        dst_port: port,
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: ack.map(TcpSeqNumber),
        window_len: window,
        window_scale: is_first.then_some(7),
        max_seg_size: is_first.then_some(65_480),
        sack_permitted: is_first,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let (from, to) = (IpAddress::from(CLIENT), IpAddress::from(GATEWAY));
    let ip = IpRepr::new(from, to, IpProtocol::Tcp, repr.buffer_len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    repr.emit(&mut TcpPacket::new_unchecked(&mut packet[20..]), &from, &to, &ChecksumCapabilities::ignored());
    packet
}

struct Stage {
    router: Router,
    device: File,
    server: TcpListener,
    port: u16,
}

impl Stage {
    fn new() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs): (OwnedFd, OwnedFd) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let network = Network { subnets: Vec::new(), gateways: vec![GATEWAY.into()], host: Vec::new() };
        let mut router = Router::new(Config { network, flows_max: 100, published_max: 0 }).unwrap();
        let addresses = Addresses {
            v4: CLIENT,
            gateway_v4: GATEWAY,
            v6: "fd6b:656c:7000::2".parse().unwrap(),
            gateway_v6: "fd6b:656c:7000::1".parse().unwrap(),
        };
        let policy = Policy { outside: Outside::All, loopback: Loopback::Open };
        let dns = dns::Client::new(&Dns::default(), addresses, "");
        router.add(Attachment { addresses, policy, mtu: 65_520, link: Link::as_it_is(ours), dns }).unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        Self { router, device: File::from(theirs), server, port }
    }

    fn turn(&mut self) {
        self.router.turn(Some(Duration::ZERO)).unwrap();
    }

    fn send(&mut self, control: TcpControl, seq: i32, ack: Option<i32>, window: u16, payload: &[u8]) {
        let packet = packet(self.port, control, seq, ack, window, payload);
        let parts = [IoSlice::new(&[0; 10]), IoSlice::new(&packet)];
        // A device has a queue, which the router is to empty.
        let mut written = (&self.device).write_vectored(&parts);
        while written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
            self.turn();
            written = (&self.device).write_vectored(&parts);
        }
        assert_eq!(written.unwrap(), 10 + packet.len());
    }

    fn receive(&mut self) -> Option<Seen> {
        let (mut header, mut packet) = ([0; 10], vec![0; 70_000]);
        let read = (&self.device).read_vectored(&mut [IoSliceMut::new(&mut header), IoSliceMut::new(&mut packet)]);
        let frame = Frame::parse(&packet[..read.ok()? - 10], Segments::One).unwrap();
        let view = TcpPacket::new_checked(frame.payload()).unwrap();
        let repr =
            TcpRepr::parse(&view, &frame.source.into(), &frame.destination.into(), &ChecksumCapabilities::ignored())
                .unwrap();
        Some(Seen {
            control: repr.control,
            seq: repr.seq_number.0,
            ack: repr.ack_number.map(|ack| ack.0),
            window: repr.window_len,
            payload: repr.payload.to_vec(),
        })
    }

    fn all_received(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.receive()).collect()
    }

    /// A connection: the server's socket, and the router's first sequence number.
    fn connect(&mut self) -> (TcpStream, i32) {
        self.send(TcpControl::Syn, 999, None, 65_535, b"");
        let answer = (0..100).find_map(|_| {
            self.turn();
            self.receive()
        });
        let answer = answer.unwrap();
        assert_eq!((answer.control, answer.ack), (TcpControl::Syn, Some(1000)));
        self.send(TcpControl::None, 1000, Some(answer.seq + 1), 512, b"");
        self.turn();
        let (stream, _): (TcpStream, SocketAddr) = self.server.accept().unwrap();
        (stream, answer.seq.wrapping_add(1))
    }
}

#[test]
fn a_connection_is_what_both_ends_think_it_is() {
    let mut stage = Stage::new();
    let (mut stream, seq) = stage.connect();
    stage.send(TcpControl::Psh, 1000, Some(seq), 512, b"to the server");
    stage.turn();
    let mut buffer = [0; 13];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"to the server");
    stream.write_all(b"and back").unwrap();
    drop(stream);
    stage.turn();
    stage.turn();
    let seen = stage.all_received();
    let payload: Vec<u8> = seen.iter().flat_map(|seen| seen.payload.clone()).collect();
    assert_eq!(payload, b"and back");
    let last = seen.last().unwrap();
    assert_eq!((last.control, last.ack), (TcpControl::Fin, Some(1013)));
    stage.send(TcpControl::Fin, 1013, Some(seq.wrapping_add(9)), 512, b"");
    stage.turn();
    assert_eq!(stage.all_received().last().unwrap().ack, Some(1014));
    assert_eq!(stage.router.tcp_flows(), 0);
}

/// Packets to smoltcp and from it, without a kernel.
#[derive(Default)]
struct Played {
    next: Option<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Incoming(Vec<u8>);
struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        let mut packet = vec![0; length];
        let result = work(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Played {
    type RxToken<'t> = Incoming;
    type TxToken<'t> = Outgoing<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        Some((Incoming(self.next.take()?), Outgoing(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        Announced(65_520).capabilities()
    }
}

/// smoltcp takes the window of its SYN-ACK for a shifted one. A container that
/// sends as much as that at once, before it is told of another, must find room:
/// smoltcp panics where there is none.
#[test]
fn rings_have_room_for_what_the_first_window_is_believed_to_be() {
    let mut rings = Rings::default();
    for generous in [true, false] {
        if !generous {
            rings.touch(limits::TCP_RINGS_BYTES_GENEROUS + 1);
        }
        let mut end = rings.take();
        let mut stack = Stack::new(65_520).unwrap();
        let mut device = Played::default();
        let at = Instant::ZERO;
        end.socket().listen((IpAddress::from(GATEWAY), 80)).unwrap();
        let mut give = |device: &mut Played, end: &mut End, packet: Vec<u8>| {
            device.next = Some(packet);
            stack.interface.poll_ingress_single(at, device, &mut end.set);
            stack.interface.poll_egress(at, device, &mut end.set);
        };
        give(&mut device, &mut end, packet(80, TcpControl::Syn, 999, None, 65_535, b""));
        let answer = device.sent.pop().unwrap();
        let view = TcpPacket::new_checked(&answer[20..]).unwrap();
        let ack = Some(view.seq_number().0.wrapping_add(1));
        give(&mut device, &mut end, packet(80, TcpControl::None, 1000, ack, 512, b""));
        // In one turn, so that nothing is sent in between.
        for number in 0..20 {
            device.next = Some(packet(80, TcpControl::None, 1000 + number * 65_000, ack, 512, &[7; 65_000]));
            stack.interface.poll_ingress_single(at, &mut device, &mut end.set);
        }
        assert!(end.socket().recv_queue() > 65_000);
    }
}

/// Of a segment: what it is, where it says to be and to have got to, how much.
fn segments() -> impl Strategy<Value = (u8, i32, i32, u16, usize)> {
    let near = prop_oneof![
        Just(0),
        Just(1),
        Just(-1),
        -70_000..70_000i32,
        Just(524_280),
        Just(524_281),
        Just(1 << 20),
        Just(i32::MIN),
        Just(i32::MAX),
        any::<i32>(),
    ];
    let length = prop_oneof![Just(0usize), Just(1), 0..3000usize, Just(65_000)];
    (0..5u8, near.clone(), near, any::<u16>(), length)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a container sends on a connection of its own: the router lives,
    /// and another connection works.
    #[test]
    fn no_sequence_of_segments_breaks_the_router(script in prop::collection::vec((segments(), any::<bool>()), 1..40)) {
        let mut stage = Stage::new();
        let (mut stream, seq) = stage.connect();
        stream.set_nonblocking(true).unwrap();
        let (mut next, mut acked) = (1000i32, seq);
        for ((kind, at, to, window, length), server_writes) in script {
            let control = [TcpControl::None, TcpControl::Psh, TcpControl::Fin, TcpControl::Rst, TcpControl::Syn][usize::from(kind)];
            let ack = (kind != 4 || length == 1).then_some(acked.wrapping_add(to));
            // Where it is believed, go on from there.
            stage.send(control, next.wrapping_add(at), ack, window, &vec![7; length]);
            if at == 0 {
                next = next.wrapping_add(length as i32 + i32::from(kind == 2));
            }
            if server_writes {
                drop(stream.write(&[7; 5000]));
                drop(stream.read(&mut [0; 100_000]));
            }
            stage.turn();
            for seen in stage.all_received() {
                acked = acked.max(seen.seq.wrapping_add(seen.payload.len() as i32));
            }
        }
        stage.turn();
        stage.all_received();
        prop_assert!(stage.router.tcp_flows() <= 2);
    }
}
