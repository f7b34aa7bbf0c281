//! DNS messages (RFC 1035 section 4.1, RFC 6891), as far as a forwarder has to
//! know them: a query is one question, an answer is one to a query. What is
//! forwarded stays as it is, to the byte, but for its identification.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::header::HeaderSection;
use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::name::{Name, ParsedName};
use domain::base::{Header, Message, MessageBuilder, Ttl};
use domain::rdata::{A, Aaaa, Ptr};

/// A name of its own, in the form of messages.
pub(super) type OwnName = Name<Vec<u8>>;

/// What a receiver takes that does not say more (RFC 1035 section 4.2.1), and
/// what everybody takes (RFC 6891 section 6.2.3).
const BYTES_UNSAID: u16 = 512;

/// What a datagram carries, in IPv4.
const BYTES_MAX: u16 = u16::MAX - 20 - 8;

/// What this resolver says to take in its own answers (RFC 9715 section 3.2).
const BYTES_TAKEN: u16 = 1232;

/// How long an answer of this resolver holds. Addresses of a network stay for a
/// container's life.
const TTL: Ttl = Ttl::from_secs(60);

/// A query, checked: one question, whose name is written out.
pub struct Query<'a> {
    message: Message<&'a [u8]>,
    name: ParsedName<&'a [u8]>,
    /// The type that is asked for.
    pub rtype: Rtype,
    /// The class, which is that of the Internet but for oddities.
    pub class: Class,
    /// The most bytes that the client takes in a datagram.
    pub takes: usize,
    /// Whether it speaks EDNS, and wants signatures.
    edns: Option<bool>,
}

/// What is to be said to what is no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Nothing: it is an answer, or no message at all.
    Silence,
    /// This message.
    Answer(Vec<u8>),
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// The name of one.
    Pointer(OwnName),
}

impl<'a> Query<'a> {
    /// Checks what a container sent.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Refused> {
        let message = Message::from_octets(bytes).map_err(|_| Refused::Silence)?;
        if message.header().qr() {
            return Err(Refused::Silence);
        }
        let refuse = |rcode| Refused::Answer(error(&message, rcode));
        if message.header().opcode() != Opcode::QUERY {
            return Err(refuse(Rcode::NOTIMP));
        }
        let question = message.sole_question().map_err(|_| refuse(Rcode::FORMERR))?;
        // Before the one question there is nothing that its name could point to. One that begins with a pointer is
        // not said to be compressed.
        let begins_elsewhere = bytes.get(size_of::<HeaderSection>()).is_some_and(|first| first & 0xc0 != 0);
        if begins_elsewhere || question.qname().is_compressed() {
            return Err(refuse(Rcode::FORMERR));
        }
        let (name, rtype, class) = (*question.qname(), question.qtype(), question.qclass());
        // A zone comes in as many messages as it takes, which no forwarder carries.
        if matches!(rtype, Rtype::AXFR | Rtype::IXFR) {
            return Err(refuse(Rcode::REFUSED));
        }
        let opt = message.opt();
        let takes = opt.as_ref().map_or(BYTES_UNSAID, |opt| opt.udp_payload_size().clamp(BYTES_UNSAID, BYTES_MAX));
        let edns = opt.map(|opt| opt.dnssec_ok());
        Ok(Self { message, name, rtype, class, takes: takes.into(), edns })
    }

    /// The client's identification of it.
    pub fn id(&self) -> u16 {
        self.message.header().id()
    }

    /// The name that is asked about.
    pub fn name(&self) -> &ParsedName<&'a [u8]> {
        &self.name
    }

    /// The message as it came, under another identification.
    pub fn with_id(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.message.as_slice().to_vec();
        set_id(&mut bytes, id);
        bytes
    }

    /// An answer that holds these records: none of them, and no error, says
    /// that the name has none of the type.
    pub fn answer(&self, records: &[Data]) -> Vec<u8> {
        self.compose(Rcode::NOERROR, true, records)
    }

    /// An answer that there is no such name.
    pub fn no_such_name(&self) -> Vec<u8> {
        self.compose(Rcode::NXDOMAIN, true, &[])
    }

    /// It cannot be answered now.
    pub fn failed(&self) -> Vec<u8> {
        self.compose(Rcode::SERVFAIL, false, &[])
    }

    /// It is not allowed to be asked.
    pub fn refused(&self) -> Vec<u8> {
        self.compose(Rcode::REFUSED, false, &[])
    }

    fn compose(&self, rcode: Rcode, is_own: bool, records: &[Data]) -> Vec<u8> {
        let mut answer = MessageBuilder::new_vec().start_error(&self.message, rcode);
        answer.header_mut().set_aa(is_own);
        answer.header_mut().set_ra(true);
        answer.header_mut().set_cd(self.message.header().cd());
        for record in records {
            // The builder's bound is that of a stream: 65,535 bytes, far above a few addresses.
            match record {
                Data::Address(IpAddr::V4(address)) => answer.push((&self.name, Class::IN, TTL, A::new(*address))),
                Data::Address(IpAddr::V6(address)) => answer.push((&self.name, Class::IN, TTL, Aaaa::new(*address))),
                Data::Pointer(name) => answer.push((&self.name, Class::IN, TTL, Ptr::new(name))),
            }
            .ok();
        }
        let mut rest = answer.additional();
        if let Some(dnssec_ok) = self.edns {
            add_opt(&mut rest, dnssec_ok);
        }
        rest.finish()
    }
}

/// Who speaks EDNS is answered in it (RFC 6891 section 7).
fn add_opt(rest: &mut domain::base::message_builder::AdditionalBuilder<Vec<u8>>, dnssec_ok: bool) {
    let pushed = rest.opt(|opt| {
        opt.set_udp_payload_size(BYTES_TAKEN);
        opt.set_dnssec_ok(dnssec_ok);
        Ok(())
    });
    // As above: there is room.
    pushed.ok();
}

/// An answer without its question, to what was not understood.
fn error(query: &Message<&[u8]>, rcode: Rcode) -> Vec<u8> {
    let mut answer = MessageBuilder::new_vec();
    let (header, asked) = (answer.header_mut(), query.header());
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_opcode(asked.opcode());
    header.set_rd(asked.rd());
    header.set_ra(true);
    header.set_rcode(rcode);
    answer.finish()
}

/// What a server's message is to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// None of its answers: somebody else's, or made up.
    Foreign,
    /// An answer.
    Answer,
    /// A part of an answer: there is more by TCP.
    Truncated,
    /// The server cannot or will not answer; another one may.
    Failed,
    /// The same, but it does not even repeat the question.
    FailedWithoutQuestion,
}

impl Reply {
    /// What `bytes` is to `query`, a message that was sent to where it comes from.
    pub fn of(bytes: &[u8], query: &[u8]) -> Self {
        let (Ok(answer), Ok(query)) = (Message::from_octets(bytes), Message::from_octets(query)) else {
            return Self::Foreign;
        };
        let header = answer.header();
        let has_failed = matches!(header.rcode(), Rcode::SERVFAIL | Rcode::REFUSED | Rcode::NOTIMP);
        if header.qr() && header.id() == query.header().id() && answer.header_counts().qdcount() == 0 {
            let is_error = has_failed || header.rcode() == Rcode::FORMERR;
            return if is_error { Self::FailedWithoutQuestion } else { Self::Foreign };
        }
        match answer.is_answer(&query) {
            false => Self::Foreign,
            true if has_failed => Self::Failed,
            true if header.tc() => Self::Truncated,
            true => Self::Answer,
        }
    }
}

/// Puts an identification into a message.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(field) = message.first_chunk_mut() {
        *field = id.to_be_bytes();
    }
}

/// An answer cut to what says that it was cut (RFC 2181 section 9): its header,
/// its question, and that it speaks EDNS. `None` for what is no message.
pub fn truncate(answer: &[u8]) -> Option<Vec<u8>> {
    let answer = Message::from_octets(answer).ok()?;
    let header = answer.header();
    let mut cut = MessageBuilder::new_vec().start_error(&answer, header.rcode());
    let new: &mut Header = cut.header_mut();
    let mut flags = header.flags();
    flags.tc = true;
    new.set_flags(flags);
    let mut rest = cut.additional();
    if let Some(opt) = answer.opt() {
        add_opt(&mut rest, opt.dnssec_ok());
    }
    Some(rest.finish())
}

/// The address that a name of the reverse tree stands for (RFC 1035 section
/// 3.5, RFC 3596 section 2.5).
pub(super) fn address_of(name: &ParsedName<&[u8]>) -> Option<IpAddr> {
    let labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label.as_slice()).to_ascii_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [d, c, b, a, "in-addr", "arpa", ""] => {
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().zip([a, b, c, d]) {
                *octet = label.parse().ok()?;
            }
            Some(Ipv4Addr::from(octets).into())
        }
        [nibbles @ .., "ip6", "arpa", ""] if nibbles.len() == 32 => {
            let digit = |label: &&str| (label.len() == 1).then(|| u128::from_str_radix(label, 16).ok()).flatten();
            let mut number = 0;
            for label in nibbles.iter().rev() {
                number = number << 4 | digit(label)?;
            }
            Some(Ipv6Addr::from_bits(number).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{edns, query};
    use super::*;

    fn refusal(bytes: &[u8]) -> Option<Rcode> {
        match Query::parse(bytes) {
            Ok(_) => panic!("it is taken"),
            Err(Refused::Silence) => None,
            Err(Refused::Answer(answer)) => {
                assert_eq!(answer[..2], bytes[..2]);
                Some(Message::from_octets(answer).unwrap().header().rcode())
            }
        }
    }

    #[test]
    fn a_query_is_one_question() {
        let bytes = query(7, "WwW.Example", Rtype::AAAA);
        let parsed = Query::parse(&bytes).unwrap();
        assert_eq!((parsed.id(), parsed.name().to_string(), parsed.rtype), (7, "WwW.Example".to_owned(), Rtype::AAAA));
        assert_eq!(parsed.takes, 512);
        assert_eq!(parsed.with_id(9)[2..], bytes[2..]);
        for (said, takes) in [(100, 512), (1232, 1232), (u16::MAX, 65_507)] {
            assert_eq!(Query::parse(&edns(7, "a.example", Rtype::A, said)).unwrap().takes, takes);
        }
        // 255 bytes with the lengths: the longest name (RFC 1035 section 2.3.4).
        let longest = [&"a".repeat(63)[..], &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join(".");
        assert!(Query::parse(&query(7, &longest, Rtype::A)).is_ok());
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let good = query(7, "a.example", Rtype::A);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(refusal(&good[..11]), None);
        assert_eq!(refusal(&with(2, 0x80)), None);
        assert_eq!(refusal(&with(2, 5 << 3)), Some(Rcode::NOTIMP));
        assert_eq!(refusal(&with(5, 0)), Some(Rcode::FORMERR));
        assert_eq!(refusal(&with(5, 2)), Some(Rcode::FORMERR));
        assert_eq!(refusal(&good[..good.len() - 1]), Some(Rcode::FORMERR));
        assert_eq!(refusal(&query(7, "a.example", Rtype::AXFR)), Some(Rcode::REFUSED));
        // A label of 64 bytes, a pointer to itself, one into the header, a name of 300 bytes.
        assert_eq!(refusal(&with(12, 64)), Some(Rcode::FORMERR));
        assert_eq!(refusal(&[&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat()), Some(Rcode::FORMERR));
        assert_eq!(refusal(&[&good[..12], &[0xc0, 4, 0, 1, 0, 1]].concat()), Some(Rcode::FORMERR));
        let long = [&good[..12], &[b"\x31".as_slice(), &[b'a'; 49]].concat().repeat(6), &[0, 0, 1, 0, 1]].concat();
        assert_eq!(refusal(&long), Some(Rcode::FORMERR));
    }

    #[test]
    fn answers_repeat_the_question_as_it_is_spelt() {
        let bytes = edns(7, "DB.example", Rtype::A, 4096);
        let parsed = Query::parse(&bytes).unwrap();
        let answer = parsed.answer(&[Data::Address("192.0.2.1".parse().unwrap())]);
        let message = Message::from_octets(&answer[..]).unwrap();
        assert!(message.is_answer(&Message::from_octets(&bytes[..]).unwrap()));
        assert_eq!(answer[12..27], bytes[12..27]);
        let header = message.header();
        assert!(header.qr() && header.aa() && header.ra() && header.rd() && !header.tc());
        assert_eq!((message.header_counts().ancount(), message.opt().is_some()), (1, true));
        assert_eq!(Message::from_octets(parsed.failed()).unwrap().header().rcode(), Rcode::SERVFAIL);
        assert!(Message::from_octets(parsed.no_such_name()).unwrap().header().aa());
    }

    #[test]
    fn what_is_cut_says_so() {
        let bytes = edns(7, "a.example", Rtype::A, 4096);
        let addresses = (0..100).map(|last| Data::Address(Ipv4Addr::new(192, 0, 2, last).into()));
        let answer = Query::parse(&bytes).unwrap().answer(&addresses.collect::<Vec<_>>());
        let cut = truncate(&answer).unwrap();
        assert!(answer.len() > 512 && cut.len() < 64);
        assert_eq!(Reply::of(&answer, &bytes), Reply::Answer);
        assert_eq!(Reply::of(&cut, &bytes), Reply::Truncated);
        let message = Message::from_octets(&cut[..]).unwrap();
        assert!(message.header().aa() && message.header().ra() && message.opt().is_some());
    }

    #[test]
    fn only_an_answer_to_the_question_is_one() {
        let bytes = query(7, "a.example", Rtype::A);
        let answer = |query: &[u8]| Query::parse(query).unwrap().answer(&[]);
        assert_eq!(Reply::of(&answer(&query(7, "A.EXAMPLE", Rtype::A)), &bytes), Reply::Answer);
        for other in
            [query(8, "a.example", Rtype::A), query(7, "b.example", Rtype::A), query(7, "a.example", Rtype::MX)]
        {
            assert_eq!(Reply::of(&answer(&other), &bytes), Reply::Foreign);
        }
        assert_eq!(Reply::of(&bytes, &bytes), Reply::Foreign);
        assert_eq!(Reply::of(&Query::parse(&bytes).unwrap().failed(), &bytes), Reply::Failed);
        let bare = error(&Message::from_octets(&bytes[..]).unwrap(), Rcode::FORMERR);
        assert_eq!(Reply::of(&bare, &bytes), Reply::FailedWithoutQuestion);
        let silent = error(&Message::from_octets(&bytes[..]).unwrap(), Rcode::NOERROR);
        assert_eq!(Reply::of(&silent, &bytes), Reply::Foreign);
    }

    #[test]
    fn reverse_names_are_read() {
        let address = |name: &str| {
            let bytes = query(1, name, Rtype::PTR);
            let parsed = Query::parse(&bytes).unwrap();
            address_of(parsed.name()).map(|address| address.to_string())
        };
        assert_eq!(address("1.0.87.10.in-addr.ARPA").as_deref(), Some("10.87.0.1"));
        let v6 = format!("1.{}0.0.0.7.c.6.5.6.b.6.d.f.ip6.arpa", "0.".repeat(19));
        assert_eq!(address(&v6).as_deref(), Some("fd6b:656c:7000::1"));
        for none in ["0.87.10.in-addr.arpa", "256.0.87.10.in-addr.arpa", "1.ip6.arpa", "in-addr.arpa", "example"] {
            assert_eq!(address(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            counts in prop::option::of(prop::collection::vec(0u8..3, 4)),
            other in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut bytes = bytes;
            // Else hardly any would get beyond the header.
            if let Some(counts) = counts && bytes.len() >= 12 {
                bytes[2] &= 0x07;
                counts.iter().enumerate().for_each(|(at, count)| (bytes[4 + 2 * at], bytes[5 + 2 * at]) = (0, *count));
            }
            match Query::parse(&bytes) {
                Ok(query) => {
                    prop_assert!(query.with_id(1)[2..] == bytes[2..]);
                    for answer in [query.answer(&[]), query.failed(), query.refused(), query.no_such_name()] {
                        prop_assert!(answer.len() <= 512 && Message::from_octets(&answer[..]).unwrap().header().qr());
                    }
                    address_of(query.name());
                }
                Err(Refused::Answer(answer)) => prop_assert_eq!(&answer[..2], &bytes[..2]),
                Err(Refused::Silence) => {}
            }
            Reply::of(&bytes, &other);
            Reply::of(&other, &bytes);
            if let Some(cut) = truncate(&bytes) {
                prop_assert!(Message::from_octets(&cut[..]).unwrap().header().tc());
            }
        }
    }
}
