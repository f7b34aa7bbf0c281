//! DNS messages, of containers and of servers: each is answered, refused or
//! dropped; what is answered is a message that repeats the question, and no
//! larger than what everybody takes.

#![no_main]

use kelp::network::dns::message::{self, Data, Query, Refused, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|messages: (&[u8], &[u8])| {
    let (one, other) = messages;
    match Query::parse(one) {
        Ok(query) => {
            let sent = query.with_id(query.id() ^ 1);
            assert_eq!(sent[2..], one[2..]);
            let records = [Data::Address([192, 0, 2, 1].into()), Data::Address([0; 16].into())];
            for mut answer in [query.answer(&records), query.no_such_name(), query.failed(), query.refused()] {
                assert!(answer.len() <= 512);
                message::set_id(&mut answer, query.id() ^ 1);
                assert_ne!(Reply::of(&answer, &sent), Reply::Foreign);
                assert_eq!(Reply::of(&answer, one), Reply::Foreign);
            }
        }
        Err(Refused::Answer(answer)) => assert_eq!(answer[..2], one[..2]),
        Err(Refused::Silence) => {}
    }
    _ = Reply::of(other, one);
    if let Some(cut) = message::truncate(other) {
        assert!(cut.len() <= other.len().max(12) + 11);
    }
});
