//! A DNS server for tests: what it answers follows from the question alone, so
//! that a test can ask for every kind of answer.
//!
//! ```text
//! names ADDRESS...
//!     serves port 53 of each address, UDP and TCP; prints "ready", then a
//!     line "udp|tcp ADDRESS NAME TYPE" for each question
//! ```
//! | first label | answer |
//! | --- | --- |
//! | `many` | 100 addresses; by UDP, if they are more than is taken, cut |
//! | `gone` | NXDOMAIN |
//! | `fail` | SERVFAIL |
//! | `silent` | none |
//! | `forged` | first others that are none of it, then the right one |
//! | any other | one address: A 192.0.2.N and AAAA 2001:db8::N, where N is the last of the server's own |

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::name::ToName;
use domain::base::{Message, MessageBuilder, Ttl};
use domain::rdata::{A, Aaaa};

fn main() {
    let servers: Vec<IpAddr> = std::env::args().skip(1).map(|word| word.parse().unwrap()).collect();
    let sockets: Vec<(IpAddr, UdpSocket, TcpListener)> = servers
        .into_iter()
        .map(|server| {
            let address = SocketAddr::new(server, 53);
            (server, UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap())
        })
        .collect();
    println!("ready");
    std::thread::scope(|scope| {
        for (server, datagrams, streams) in &sockets {
            scope.spawn(move || serve_datagrams(*server, datagrams));
            scope.spawn(move || {
                for stream in streams.incoming() {
                    serve_stream(*server, stream.unwrap());
                }
            });
        }
    });
}

fn serve_datagrams(server: IpAddr, socket: &UdpSocket) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        let query = Message::from_octets(&buffer[..length]).unwrap();
        say("udp", server, &query);
        let takes = query.opt().map_or(512, |opt| usize::from(opt.udp_payload_size()).max(512));
        if label(&query) == "forged" {
            for forged in forgeries(&query) {
                socket.send_to(&forged, client).unwrap();
            }
        }
        if let Some(answer) = answer(server, &query) {
            let answer = if answer.len() > takes { cut(&query) } else { answer };
            socket.send_to(&answer, client).unwrap();
        }
    }
}

fn serve_stream(server: IpAddr, mut stream: TcpStream) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut bytes).unwrap();
        let query = Message::from_octets(&bytes[..]).unwrap();
        say("tcp", server, &query);
        if let Some(answer) = answer(server, &query) {
            stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()).unwrap();
        }
    }
}

fn say(by: &str, server: IpAddr, query: &Message<&[u8]>) {
    let question = query.sole_question().unwrap();
    println!("{by} {server} {} {}", question.qname(), question.qtype());
}

fn label(query: &Message<&[u8]>) -> String {
    let question = query.sole_question().unwrap();
    question.qname().first().to_string().to_ascii_lowercase()
}

fn answer(server: IpAddr, query: &Message<&[u8]>) -> Option<Vec<u8>> {
    let question = query.sole_question().unwrap();
    let label = label(query);
    let rcode = match label.as_str() {
        "silent" => return None,
        "gone" => Rcode::NXDOMAIN,
        "fail" => Rcode::SERVFAIL,
        _ => Rcode::NOERROR,
    };
    let last = match server {
        IpAddr::V4(server) => server.octets()[3],
        IpAddr::V6(server) => server.octets()[15],
    };
    let each = if label == "many" { 1..=100 } else { last..=last };
    let mut answer = MessageBuilder::new_vec().start_answer(query, rcode).unwrap();
    answer.header_mut().set_ra(true);
    let (name, ttl) = (question.qname(), Ttl::from_secs(60));
    for last in each.filter(|_| rcode == Rcode::NOERROR) {
        match question.qtype() {
            Rtype::A => answer.push((name, Class::IN, ttl, A::new(Ipv4Addr::new(192, 0, 2, last)))).unwrap(),
            Rtype::AAAA => {
                let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into());
                answer.push((name, Class::IN, ttl, Aaaa::new(address))).unwrap();
            }
            _ => {}
        }
    }
    let mut rest = answer.additional();
    if query.opt().is_some() {
        rest.opt(|opt| {
            opt.set_udp_payload_size(4096);
            Ok(())
        })
        .unwrap();
    }
    Some(rest.finish())
}

fn cut(query: &Message<&[u8]>) -> Vec<u8> {
    let mut answer = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR).unwrap();
    answer.header_mut().set_tc(true);
    answer.finish()
}

/// Answers with another identification, and to another question.
fn forgeries(query: &Message<&[u8]>) -> [Vec<u8>; 2] {
    let question = query.sole_question().unwrap();
    let evil = A::new(Ipv4Addr::new(192, 0, 2, 66));
    let mut one = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR).unwrap();
    one.header_mut().set_id(query.header().id() ^ 1);
    one.push((question.qname(), Class::IN, Ttl::ZERO, evil.clone())).unwrap();
    let mut other = MessageBuilder::new_vec();
    other.header_mut().set_id(query.header().id());
    other.header_mut().set_qr(true);
    let mut asked = other.question();
    let root = question.qname().to_name::<Vec<u8>>().parent().unwrap().to_vec();
    asked.push((&root, Rtype::A)).unwrap();
    let mut other = asked.answer();
    other.push((&root, Class::IN, Ttl::ZERO, evil.clone())).unwrap();
    [one.finish(), other.finish()]
}
