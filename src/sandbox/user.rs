//! Who the payload runs as: `--user` and `--group-add` against the image's own
//! /etc/passwd and /etc/group.
//!
//! Both files are hostile bytes: a line that makes no sense is passed over, as
//! the C library does, and nothing in them is looked up on the host. The rules
//! are Docker's (moby/sys/user): a number needs no entry, an entry's groups
//! count only when no group was asked for.

use crate::error::{Failure, Result};
use crate::limits::PASSWD_BYTES_MAX;

/// Largest id: Docker's bound, and -1 must stay out (setresuid(2): "no change").
const ID_MAX: u32 = i32::MAX as u32;

/// Supplementary groups of a process (NGROUPS_MAX, linux/limits.h).
const GROUPS_MAX: usize = 65_536;

/// A payload's user, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// User id inside the container.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups for setgroups(2), the primary one first: without it a
    /// program that drops it keeps what "others" may not do (CVE-2022-36109).
    pub groups: Vec<u32>,
    /// Home directory; `/` without an entry.
    pub home: String,
}

/// Looks up `user` (`USER[:GROUP]`, names or numbers; empty is uid 0) and more
/// `groups` in the content of the image's /etc/passwd and /etc/group.
pub fn resolve(user: &str, groups: &[String], passwd: &[u8], group: &[u8]) -> Result<Resolved> {
    for (bytes, file) in [(passwd, "/etc/passwd"), (group, "/etc/group")] {
        if bytes.len() as u64 > PASSWD_BYTES_MAX {
            return Err(Failure::user(format!("the image's {file} is larger than {PASSWD_BYTES_MAX} bytes")));
        }
    }
    let (user, asked_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let wanted = if user.is_empty() { "0" } else { user };
    let number = number(wanted)?;
    let login = lines(passwd).filter_map(Login::read).find(|login| login.name == wanted || Some(login.uid) == number);
    let uid = match (&login, number) {
        (Some(login), _) => login.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(Failure::user(format!("no user \"{user}\" in the image's /etc/passwd"))),
    };
    let gid = match asked_group {
        Some(asked) => group_id(asked, group)?,
        None => login.as_ref().map_or(0, |login| login.gid),
    };
    let mut all = vec![gid];
    if let (None, Some(login)) = (asked_group, &login) {
        all.extend(lines(group).filter_map(Group::read).filter(|group| group.has(login.name)).map(|group| group.gid));
    }
    for asked in groups {
        all.push(group_id(asked, group)?);
    }
    Ok(Resolved {
        uid,
        gid,
        groups: without_doubles(all)?,
        home: login.map(|login| login.home).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned(),
    })
}

fn group_id(asked: &str, group: &[u8]) -> Result<u32> {
    let number = number(asked)?;
    match lines(group).filter_map(Group::read).find(|group| group.name == asked || Some(group.gid) == number) {
        Some(group) => Ok(group.gid),
        None => number.ok_or_else(|| Failure::user(format!("no group \"{asked}\" in the image's /etc/group"))),
    }
}

/// Keeps the order: the first is the primary group.
fn without_doubles(groups: Vec<u32>) -> Result<Vec<u32>> {
    let mut seen = std::collections::HashSet::new();
    let single: Vec<u32> = groups.into_iter().filter(|gid| seen.insert(*gid)).collect();
    if single.len() > GROUPS_MAX {
        return Err(Failure::user(format!("the user is in more than {GROUPS_MAX} groups")));
    }
    Ok(single)
}

/// `Some` if the text is all digits; an id that is out of range is a failure,
/// never a name.
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= ID_MAX => Ok(Some(id)),
        _ => Err(Failure::user(format!("id {text} is not in the range 0 to {ID_MAX}"))),
    }
}

/// Lines that are text, without the empty ones.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).map(str::trim)
}

/// A line of /etc/passwd (passwd(5)).
struct Login<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Login<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?).ok()??;
        let gid = number(fields.next()?).ok()??;
        let home = fields.nth(1).unwrap_or("");
        Some(Self { name, uid, gid, home })
    }
}

/// A line of /etc/group (group(5)).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?).ok()??;
        Some(Self { name, gid, members: fields.next().unwrap_or("") })
    }

    fn has(&self, member: &str) -> bool {
        self.members.split(',').any(|name| name.trim() == member)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n\nbroken\n\xff:x:5:5::/:\nweb:x:33:34:Web:/srv:/bin/false\r\n\
        bare:x:40:41\n1000:x:7:8::relative:\nbig:x:4294967295:0::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:root,web\ndisk:x:6:root\nweb:x:34:web\naudio:x:29:web, bare\n+\n";

    /// `expected` is `uid:gid groups home`.
    fn check(user: &str, groups: &str, expected: Result<&str, &str>) {
        let groups: Vec<String> = groups.split_whitespace().map(str::to_owned).collect();
        let result = resolve(user, &groups, PASSWD, GROUP);
        let result = result.map(|r| format!("{}:{} {:?} {}", r.uid, r.gid, r.groups, r.home));
        assert_eq!(result.map_err(|e| e.to_string()), expected.map(str::to_owned).map_err(str::to_owned), "{user}");
    }

    #[test]
    fn resolves_as_docker_does() {
        check("", "", Ok("0:0 [0, 4, 6] /root"));
        check("root", "", Ok("0:0 [0, 4, 6] /root"));
        check("web", "", Ok("33:34 [34, 4, 29] /srv"));
        check("33", "", Ok("33:34 [34, 4, 29] /srv"));
        check("web:", "", Ok("33:34 [34, 4, 29] /srv"));
        check("web:disk", "", Ok("33:6 [6] /srv"));
        check("web:12", "", Ok("33:12 [12] /srv"));
        check("12345", "", Ok("12345:0 [0] /"));
        check("12345:99", "", Ok("12345:99 [99] /"));
        check(":disk", "", Ok("0:6 [6] /root"));
        check("bare", "", Ok("40:41 [41, 29] /"));
        check("1000", "", Ok("7:8 [8] /"));
        check("web", "disk 77 34", Ok("33:34 [34, 4, 29, 6, 77] /srv"));
    }

    #[test]
    fn names_what_is_missing() {
        check("nobody", "", Err("no user \"nobody\" in the image's /etc/passwd"));
        check("big", "", Err("no user \"big\" in the image's /etc/passwd"));
        check("web:wheel", "", Err("no group \"wheel\" in the image's /etc/group"));
        check("web", "wheel", Err("no group \"wheel\" in the image's /etc/group"));
        check("4294967295", "", Err("id 4294967295 is not in the range 0 to 2147483647"));
        check("-1", "", Err("no user \"-1\" in the image's /etc/passwd"));
    }

    #[test]
    fn an_image_without_the_files_has_numbers() {
        assert_eq!(resolve("5:6", &[], b"", b"").unwrap().groups, [6]);
        assert_eq!(resolve("", &[], b"", b"").unwrap().home, "/");
    }

    proptest! {
        #[test]
        fn no_files_make_it_panic(user in ".{0,20}", passwd: Vec<u8>, group: Vec<u8>) {
            if let Ok(resolved) = resolve(&user, std::slice::from_ref(&user), &passwd, &group) {
                prop_assert!(resolved.uid <= ID_MAX && resolved.groups.first() == Some(&resolved.gid));
            }
        }
    }
}
