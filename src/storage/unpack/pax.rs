//! pax extended headers: `LENGTH KEY=VALUE\n`, over and over.
//!
//! Pure. Keys that change what an entry is are read strictly; those that only
//! comment on it are passed over; those kelp cannot honour are refused.

use crate::error::{Failure, Result};
use crate::image::quote::quoted_bytes;
use crate::limits;

use super::archive::{Timestamp, valid_id};

/// Prefix of an extended attribute's key, as written by star, GNU tar and Go.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// What one extended header says about the next entry.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub modified: Option<Timestamp>,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Records {
    /// Reads the body of an extended header.
    pub(super) fn parse(mut body: &[u8]) -> Result<Self> {
        let mut records = Self::default();
        let mut attribute_bytes = 0;
        while !body.is_empty() {
            let (key, value, rest) = record(body).ok_or_else(|| Failure::user("pax header is not well formed"))?;
            body = rest;
            if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                attribute_bytes += name.len() + value.len();
                if attribute_bytes > limits::ENTRY_XATTR_BYTES_MAX {
                    return Err(Failure::user(format!(
                        "extended attributes are larger than {} bytes",
                        limits::ENTRY_XATTR_BYTES_MAX
                    )));
                }
                records.attributes.push((name.to_vec(), value.to_vec()));
            } else {
                records.take(key, value)?;
            }
        }
        Ok(records)
    }

    /// A global header may only comment: one that changes entries after it is
    /// read differently by different programs.
    pub(super) fn check_global(&self) -> Result<()> {
        let Self { path, target, size, uid, gid, modified, attributes } = self;
        let plain = path.is_none() && target.is_none() && size.is_none() && uid.is_none() && gid.is_none();
        if plain && modified.is_none() && attributes.is_empty() {
            return Ok(());
        }
        Err(Failure::user("global pax header changes the entries after it, which is not supported"))
    }

    /// Of two records with the same key the last one counts; one without a
    /// value takes back those before it (pax(1)).
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let given = Some(value).filter(|value| !value.is_empty());
        match key {
            b"path" => self.path = given.map(<[u8]>::to_vec),
            b"linkpath" => self.target = given.map(<[u8]>::to_vec),
            b"size" => self.size = given.map(decimal).transpose()?,
            b"uid" => self.uid = given.map(decimal).transpose()?.map(valid_id).transpose()?,
            b"gid" => self.gid = given.map(decimal).transpose()?.map(valid_id).transpose()?,
            b"mtime" => self.modified = given.map(timestamp).transpose()?,
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(Failure::user("sparse file in pax format is not supported"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Splits the first record off: key, value, rest.
fn record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().take(20).position(|byte| *byte == b' ')?;
    let (digits, _) = body.split_at(space);
    let length = usize::try_from(decimal(digits).ok()?).ok()?;
    let (record, rest) = body.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    let (key, value) = record.split_at(equals);
    Some((key, value.get(1..)?, rest))
}

fn decimal(digits: &[u8]) -> Result<u64> {
    let value = digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    value
        .filter(|_| !digits.is_empty())
        .ok_or_else(|| Failure::user(format!("{} in a pax header is not a number", quoted_bytes(digits))))
}

/// Seconds since 1970 as a decimal number with sign and fraction.
fn timestamp(text: &[u8]) -> Result<Timestamp> {
    let invalid = || Failure::user(format!("{} in a pax header is not a time", quoted_bytes(text)));
    let (negative, number) = match text.strip_prefix(b"-") {
        Some(number) => (true, number),
        None => (false, text),
    };
    let mut parts = number.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next().unwrap_or_default())?).map_err(|_| invalid())?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds },
        // −1.25 s is 0.75 s after −2 s.
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records() {
        let records = Records::parse(b"12 path=a/b\n30 SCHILY.xattr.user.x=1\n2=\0\xff\n10 size=5\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(records.size, Some(5));
        assert_eq!(records.attributes, [(b"user.x".to_vec(), b"1\n2=\0\xff".to_vec())]);
    }

    #[test]
    fn the_last_record_counts_and_an_empty_one_takes_back() {
        assert_eq!(Records::parse(b"10 size=5\n10 size=6\n").unwrap().size, Some(6));
        assert_eq!(Records::parse(b"10 size=5\n8 size=\n").unwrap().size, None);
    }

    #[test]
    fn refuses_malformed_records() {
        for body in [
            &b"x"[..],
            b"11 path=a/bX",
            b"13 path=a/b\n",
            b"3 a\n",
            b"0 a=b\n",
            b"5 =b\n",
            b"-6 a=b\n",
            b"99999999999999999999 a=b\n",
            b"12 size=-5\n\n",
            b"18 uid=4294967295\n",
            b"11 mtime=x\n",
            b"13 mtime=1.x\n",
            b"24 GNU.sparse.major=1\nxx",
        ] {
            assert!(Records::parse(body).is_err(), "{:?}", body.escape_ascii().to_string());
        }
    }

    #[test]
    fn reads_times() {
        let check = |text: &str, seconds, nanoseconds| {
            assert_eq!(timestamp(text.as_bytes()).unwrap(), Timestamp { seconds, nanoseconds }, "{text}");
        };
        check("1", 1, 0);
        check("1.5", 1, 500_000_000);
        check("1.0000000019", 1, 1);
        check("-1.25", -2, 750_000_000);
        check("-3", -3, 0);
        check("5.", 5, 0);
    }

    #[test]
    fn a_global_header_may_only_comment() {
        assert!(Records::parse(b"13 comment=x\n").unwrap().check_global().is_ok());
        assert!(Records::parse(b"10 size=5\n").unwrap().check_global().is_err());
    }
}
