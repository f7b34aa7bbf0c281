//! The resolver, with a container's device that is a socket here and servers on
//! loopback at ports of their own.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::super::egress::{Network, Outside, Policy};
use super::super::link::Link;
use super::super::poller::Poller;
use super::super::tcp;
use super::super::terms::HostAddress;
use super::*;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 1);

/// A query as a program's resolver makes it.
pub(super) fn query(id: u16, name: &str, rtype: Rtype) -> Vec<u8> {
    compose(id, name, rtype, None)
}

/// The same that says how much of an answer is taken.
pub(super) fn edns(id: u16, name: &str, rtype: Rtype, takes: u16) -> Vec<u8> {
    compose(id, name, rtype, Some(takes))
}

fn compose(id: u16, name: &str, rtype: Rtype, takes: Option<u16>) -> Vec<u8> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(id);
    message.header_mut().set_rd(true);
    let mut question = message.question();
    question.push((message::OwnName::vec_from_str(name).unwrap(), rtype)).unwrap();
    let mut rest = question.additional();
    if let Some(takes) = takes {
        rest.opt(|opt| {
            opt.set_udp_payload_size(takes);
            Ok(())
        })
        .unwrap();
    }
    rest.finish()
}

/// So many addresses as an answer to what a server was asked.
fn addresses(asked: &[u8], count: u8) -> Vec<u8> {
    let records: Vec<Data> = (0..count).map(|last| Data::Address(Ipv4Addr::new(192, 0, 2, last).into())).collect();
    Query::parse(asked).unwrap().answer(&records)
}

use message::Data;

struct Stage {
    resolver: Resolver,
    poller: Poller,
    network: Network,
    attachments: Attachments,
    keys: Vec<AttachmentKey>,
    devices: Vec<File>,
}

impl Stage {
    /// Containers, and who is asked for them.
    fn new(containers: usize, policy: &Policy, servers: &[&UdpSocket]) -> Self {
        let mut resolver = Resolver::new(8);
        resolver.choice.host.addresses = servers.iter().map(|server| server.local_addr().unwrap()).collect();
        let network = Network {
            subnets: vec!["10.87.0.0/16".parse().unwrap(), "fd6b:656c:7000::/64".parse().unwrap()],
            gateways: vec![GATEWAY.into()],
            host: Vec::new(),
        };
        let (poller, attachments) = (Poller::new().unwrap(), Attachments::default());
        let mut stage = Self { resolver, poller, network, attachments, keys: Vec::new(), devices: Vec::new() };
        (0..containers).for_each(|_| stage.attach(policy));
        stage
    }

    fn attach(&mut self, policy: &Policy) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let addresses = Addresses {
            v4: CLIENT,
            gateway_v4: GATEWAY,
            v6: "fd6b:656c:7000::2".parse().unwrap(),
            gateway_v6: "fd6b:656c:7000::1".parse().unwrap(),
        };
        let given = |name: &str, address| (name.to_owned(), address);
        let hosts = vec![
            given("DB.example", HostAddress::Ip("192.0.2.7".parse().unwrap())),
            given("db.example", HostAddress::Ip("2001:db8::7".parse().unwrap())),
            given("me", HostAddress::Gateway),
            given("host.kelp.internal", HostAddress::Ip("192.0.2.8".parse().unwrap())),
            given(&"x".repeat(64), HostAddress::Gateway),
        ];
        let dns = Client::new(&Dns { servers: Vec::new(), hosts }, addresses, "shop");
        let (policy, tcp) = (policy.clone(), tcp::Stack::new(65_520).unwrap());
        let link = Link::as_it_is(ours);
        let attached = Attached { addresses, policy, mtu: 65_520, link, tcp, dns, token: None, refused: 0 };
        self.keys.push(self.attachments.insert(attached));
        self.devices.push(File::from(theirs));
    }

    /// A container sends a datagram to the resolver.
    fn send(&mut self, container: usize, port: u16, message: &[u8]) {
        let (client, resolver) = (CLIENT.into(), GATEWAY.into());
        let length = UDP_HEADER_LEN + message.len();
        let header = IpRepr::new(client, resolver, IpProtocol::Udp, length, 64);
        let mut packet = vec![0; header.header_len() + length];
        header.emit(&mut packet[..], &ChecksumCapabilities::default());
        let transport = UdpRepr { src_port: port, dst_port: PORT };
        let copy = |room: &mut [u8]| room.copy_from_slice(message);
        let checksums = ChecksumCapabilities::default();
        let payload = &mut packet[header.header_len()..];
        transport.emit(&mut UdpPacket::new_unchecked(payload), &client, &resolver, message.len(), copy, &checksums);
        let frame = Frame::parse(&packet, Segments::One).unwrap();
        let key = self.keys[container];
        let attached = self.attachments.get_mut(key).unwrap();
        assert!(is_query(&frame, &attached.addresses));
        let mut turn = Turn { poller: &mut self.poller, network: &self.network, now: Instant::now() };
        self.resolver.receive(key, attached, &frame, &mut turn);
        self.turn(Duration::ZERO);
    }

    /// What has come up; waits for it for so long.
    fn turn(&mut self, wait: Duration) {
        let mut ready = Vec::new();
        self.poller.wait(Some(wait), &mut ready).unwrap();
        let mut turn = Turn { poller: &mut self.poller, network: &self.network, now: Instant::now() };
        for (source, readiness) in ready {
            match source {
                Source::DnsQuery(key) => self.resolver.ready(key, readiness, &mut self.attachments, &mut turn),
                Source::DnsStream(key) => self.resolver.stream_ready(key, readiness),
                other => panic!("{other:?}"),
            }
        }
        self.resolver.settle(&mut self.attachments, &mut turn);
    }

    /// The message that a container has got at a port, if there is one.
    fn received(&mut self, container: usize) -> Option<(u16, Vec<u8>)> {
        let (mut header, mut packet) = ([0; 10], vec![0; 70_000]);
        let device = &self.devices[container];
        let read = (&*device).read_vectored(&mut [IoSliceMut::new(&mut header), IoSliceMut::new(&mut packet)]);
        let frame = Frame::parse(&packet[..read.ok()? - 10], Segments::One).unwrap();
        assert_eq!((frame.source, frame.destination), (GATEWAY.into(), CLIENT.into()));
        let view = UdpPacket::new_checked(frame.payload()).unwrap();
        assert!(view.verify_checksum(&GATEWAY.into(), &CLIENT.into()));
        assert_eq!(view.src_port(), PORT);
        Some((view.dst_port(), view.payload().to_vec()))
    }

    /// Goes on until a container has got something.
    fn answer(&mut self, container: usize) -> (u16, Vec<u8>) {
        (0..600)
            .find_map(|_| {
                self.turn(Duration::from_millis(50));
                self.received(container)
            })
            .expect("an answer")
    }

    /// The answer to a question that is asked nobody else.
    fn own(&mut self, name: &str, rtype: Rtype) -> (Rcode, String) {
        self.send(0, 40_000, &query(7, name, rtype));
        let (port, answer) = self.received(0).unwrap_or_else(|| panic!("no answer to {name}"));
        assert_eq!(port, 40_000);
        let message = Message::from_octets(&answer[..]).unwrap();
        let mut records = Vec::new();
        for record in message.answer().unwrap() {
            let data = record.unwrap().into_any_record::<domain::rdata::AllRecordData<_, _>>().unwrap();
            records.push(data.data().to_string());
        }
        (message.header().rcode(), records.join(" "))
    }
}

fn server() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// What a server is asked, and by whom.
fn asked(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 5000];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    buffer.truncate(length);
    (buffer, from)
}

fn rcode(answer: &[u8]) -> Rcode {
    Message::from_octets(answer).unwrap().header().rcode()
}

#[test]
fn own_names_are_answered_here() {
    let mut stage = Stage::new(1, &Policy { outside: Outside::None, ..Policy::default() }, &[]);
    for (name, rtype, expected) in [
        ("host.docker.internal", Rtype::A, "10.87.0.1"),
        ("Host.Docker.Internal", Rtype::AAAA, "fd6b:656c:7000::1"),
        ("host.docker.internal", Rtype::MX, ""),
        // What the user says of it comes first.
        ("host.kelp.internal", Rtype::A, "192.0.2.8"),
        ("db.EXAMPLE", Rtype::A, "192.0.2.7"),
        ("db.example", Rtype::AAAA, "2001:db8::7"),
        ("me", Rtype::ANY, "10.87.0.1 fd6b:656c:7000::1"),
        ("1.0.87.10.in-addr.arpa", Rtype::PTR, "host.kelp.internal."),
        ("2.0.87.10.in-addr.arpa", Rtype::PTR, "shop."),
        ("2.0.87.10.in-addr.arpa", Rtype::A, ""),
    ] {
        assert_eq!(stage.own(name, rtype), (Rcode::NOERROR, expected.to_owned()), "{name} {rtype}");
    }
    // Nobody but this network knows of its addresses, and without a way out nothing else is known.
    assert_eq!(stage.own("3.0.87.10.in-addr.arpa", Rtype::PTR).0, Rcode::NXDOMAIN);
    assert_eq!(stage.own("www.example", Rtype::A).0, Rcode::REFUSED);
}

#[test]
fn questions_are_passed_on_and_answers_checked() {
    let server = server();
    let mut stage = Stage::new(1, &Policy::default(), &[&server]);
    let message = edns(7, "WwW.example", Rtype::A, 4096);
    stage.send(0, 40_001, &message);
    let (first, from) = asked(&server);
    assert_eq!(first[2..], message[2..]);
    // Who asks again has the server asked again, of the same socket.
    stage.send(0, 40_001, &message);
    assert_eq!(asked(&server), (first.clone(), from));
    assert_eq!(stage.resolver.exchanges.len(), 1);
    // Another identification, another question, another sender: none of them is believed.
    let mut forged = addresses(&first, 9);
    message::set_id(&mut forged, u16::from_be_bytes([first[0], first[1]]).wrapping_add(1));
    server.send_to(&forged, from).unwrap();
    let mut other = query(0, "evil.example", Rtype::A);
    other[..2].copy_from_slice(&first[..2]);
    server.send_to(&addresses(&other, 9), from).unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&addresses(&first, 9), from).unwrap();
    server.send_to(&addresses(&first, 2), from).unwrap();
    let (port, answer) = stage.answer(0);
    assert_eq!((port, &answer[..2], &answer[2..]), (40_001, &message[..2], &addresses(&first, 2)[2..]));
    assert!(stage.resolver.exchanges.is_empty() && stage.resolver.by_asked.is_empty());
    // The next one has another identification and comes from another port.
    stage.send(0, 40_001, &message);
    let (second, other_from) = asked(&server);
    assert!((&second[..2], other_from) != (&first[..2], from));
}

#[test]
fn an_answer_is_cut_to_what_the_client_takes() {
    let server = server();
    let mut stage = Stage::new(1, &Policy::default(), &[&server]);
    for (message, is_cut) in [
        (query(1, "many.example", Rtype::A), true),
        (edns(2, "many.example", Rtype::A, 1232), true),
        (edns(3, "many.example", Rtype::A, 4096), false),
    ] {
        stage.send(0, 40_002, &message);
        let (question, from) = asked(&server);
        server.send_to(&addresses(&question, 100), from).unwrap();
        let (_, answer) = stage.answer(0);
        let answer = Message::from_octets(&answer[..]).unwrap();
        assert_eq!((answer.header().tc(), answer.header_counts().ancount() == 100), (is_cut, !is_cut));
    }
}

#[test]
fn the_next_server_is_asked_when_one_fails() {
    let (failing, good) = (server(), server());
    let gone = server();
    let mut stage = Stage::new(1, &Policy::default(), &[&gone, &failing, &good]);
    drop(gone);
    stage.send(0, 40_003, &query(7, "a.example", Rtype::A));
    // Nobody listens at the first.
    stage.turn(Duration::from_secs(5));
    let (question, from) = asked(&failing);
    failing.send_to(&Query::parse(&question).unwrap().failed(), from).unwrap();
    stage.turn(Duration::from_secs(5));
    let (question, from) = asked(&good);
    good.send_to(&addresses(&question, 1), from).unwrap();
    assert_eq!(rcode(&stage.answer(0).1), Rcode::NOERROR);

    // Where all fail, what one of them said is the answer; with none of them there, it is SERVFAIL.
    stage.resolver.choice.host.addresses = vec![failing.local_addr().unwrap()];
    stage.send(0, 40_003, &query(8, "a.example", Rtype::A));
    let (question, from) = asked(&failing);
    failing.send_to(&Query::parse(&question).unwrap().refused(), from).unwrap();
    assert_eq!(rcode(&stage.answer(0).1), Rcode::REFUSED);
    drop(failing);
    stage.send(0, 40_003, &query(9, "a.example", Rtype::A));
    assert_eq!(rcode(&stage.answer(0).1), Rcode::SERVFAIL);
}

#[test]
fn a_silent_server_is_waited_for_no_longer_than_resolv_conf_says() {
    let (silent, good) = (server(), server());
    let mut stage = Stage::new(1, &Policy::default(), &[&silent, &good]);
    stage.resolver.choice.host.patience = Duration::from_secs(1);
    stage.send(0, 40_004, &query(7, "a.example", Rtype::A));
    let (late, late_from) = asked(&silent);
    while stage.resolver.exchanges.iter().all(|(_, exchange)| exchange.silent().count() == 0) {
        stage.turn(Duration::from_secs(5));
    }
    let (question, from) = asked(&good);
    good.send_to(&addresses(&question, 1), from).unwrap();
    assert_eq!(rcode(&stage.answer(0).1), Rcode::NOERROR);
    // From now on the other one is asked first; what comes too late is nobody's.
    silent.send_to(&addresses(&late, 9), late_from).ok();
    stage.send(0, 40_004, &query(8, "a.example", Rtype::A));
    let (question, from) = asked(&good);
    good.send_to(&addresses(&question, 1), from).unwrap();
    assert_eq!(rcode(&stage.answer(0).1), Rcode::NOERROR);
    // Nobody says anything: so it is said.
    stage.resolver.choice.host.addresses = vec![silent.local_addr().unwrap()];
    stage.resolver.choice.host.rounds = 1;
    stage.send(0, 40_004, &query(9, "a.example", Rtype::A));
    assert_eq!(rcode(&stage.answer(0).1), Rcode::SERVFAIL);
}

#[test]
fn who_asks_too_much_does_not_take_the_room_of_others() {
    let server = server();
    let mut stage = Stage::new(2, &Policy::default(), &[&server]);
    for id in 0..8 {
        stage.send(0, 40_005, &query(id, "a.example", Rtype::A));
    }
    assert!(stage.received(0).is_none());
    stage.send(0, 40_005, &query(8, "a.example", Rtype::A));
    let (_, refused) = stage.received(0).unwrap();
    assert_eq!((refused[1], rcode(&refused)), (8, Rcode::SERVFAIL));
    // Another container gets in, and the first one's oldest question is given up.
    stage.send(1, 40_005, &query(0, "b.example", Rtype::A));
    let (_, refused) = stage.received(0).unwrap();
    assert_eq!((refused[1], rcode(&refused)), (0, Rcode::SERVFAIL));
    assert!(stage.received(1).is_none());
    assert_eq!(stage.resolver.exchanges.len(), 8);
    // Half and half, and no more.
    (1..6).for_each(|id| stage.send(1, 40_005, &query(id, "b.example", Rtype::A)));
    let open: Vec<usize> = stage.keys.iter().map(|key| stage.attachments.get(*key).unwrap().dns.open).collect();
    assert_eq!(open, [4, 4]);
    let mut turn = Turn { poller: &mut stage.poller, network: &stage.network, now: Instant::now() };
    stage.resolver.detach(stage.keys[0], &mut turn);
    assert_eq!(stage.resolver.exchanges.len(), 4);
}

/// A connection of a container, as TCP has it.
fn connect(stage: &mut Stage) -> TcpStream {
    let key = stage.keys[0];
    let attached = stage.attachments.get_mut(key).unwrap();
    let socket = attached.dns.connect().unwrap();
    let mut turn = Turn { poller: &mut stage.poller, network: &stage.network, now: Instant::now() };
    stage.resolver.accept(key, attached, &mut turn);
    socket
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// The next message of a stream.
fn next_of(stage: &mut Stage, stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..600 {
        stage.turn(Duration::from_millis(20));
        let mut piece = vec![0; 2];
        if bytes.len() >= 2 {
            piece.resize(2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) - bytes.len(), 0);
        }
        if let Ok(read) = (&*stream).read(&mut piece) {
            assert_ne!(read, 0, "it was closed");
            bytes.extend(&piece[..read]);
        }
        if bytes.len() > 2 && bytes.len() == 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) {
            return bytes.split_off(2);
        }
    }
    panic!("no message");
}

#[test]
fn streams_carry_several_questions_and_whole_answers() {
    let server = server();
    let listener = TcpListener::bind(server.local_addr().unwrap()).unwrap();
    let mut stage = Stage::new(1, &Policy::default(), &[&server]);
    let stream = connect(&mut stage);
    // Two in one piece, the second of them in two.
    let (first, second) =
        (framed(&query(1, "host.docker.internal", Rtype::A)), framed(&query(2, "many.example", Rtype::A)));
    (&stream).write_all(&[&first[..], &second[..9]].concat()).unwrap();
    assert_eq!(next_of(&mut stage, &stream)[..2], [0, 1]);
    (&stream).write_all(&second[9..]).unwrap();
    stage.turn(Duration::from_secs(5));
    // The server's answer does not fit into a datagram: it is asked for by TCP.
    let (question, from) = asked(&server);
    server.send_to(&message::truncate(&addresses(&question, 200)).unwrap(), from).unwrap();
    stage.turn(Duration::from_secs(5));
    let (mut tcp, _) = listener.accept().unwrap();
    stage.turn(Duration::from_secs(5));
    let mut asked = vec![0; framed(&question).len()];
    tcp.read_exact(&mut asked).unwrap();
    assert_eq!(asked, framed(&question));
    let whole = framed(&addresses(&question, 200));
    tcp.write_all(&whole[..100]).unwrap();
    stage.turn(Duration::from_secs(5));
    tcp.write_all(&whole[100..]).unwrap();
    let answer = next_of(&mut stage, &stream);
    assert_eq!((answer[..2].to_vec(), answer.len()), (vec![0, 2], whole.len() - 2));
    // The container ends, and so does this.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    while !stage.resolver.streams.is_empty() {
        stage.turn(Duration::from_secs(5));
    }
    assert_eq!(stage.attachments.get(stage.keys[0]).unwrap().dns.streams, 0);
    assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
}

#[test]
fn streams_are_bounded() {
    let server = server();
    let mut stage = Stage::new(1, &Policy::default(), &[&server]);
    let stream = connect(&mut stage);
    // Nobody has to read answers for their number to be bounded: those that are not read are waited for.
    let message = framed(&query(1, "host.docker.internal", Rtype::A));
    let many = message.repeat(1 << 16 >> 4);
    let mut sent = 0;
    for _ in 0..2000 {
        sent += (&stream).write(&many[sent % message.len()..]).unwrap_or(0);
        stage.turn(Duration::ZERO);
    }
    let kept = stage.resolver.streams.iter().map(|(_, stream)| stream.bytes()).max().unwrap();
    assert!(kept <= 3 * limits::DNS_QUERY_BYTES_MAX, "{kept}");
    // One that says to be larger than any is not waited for.
    let other = connect(&mut stage);
    (&other).write_all(&[0xff, 0xff, 0]).unwrap();
    while stage.resolver.streams.len() == 2 {
        stage.turn(Duration::from_secs(5));
    }
    let attached = stage.attachments.get_mut(stage.keys[0]).unwrap();
    let _held: Vec<TcpStream> = (1..limits::DNS_STREAMS_A_CONTAINER).map(|_| attached.dns.connect().unwrap()).collect();
    assert!(attached.dns.connect().is_err());
}
