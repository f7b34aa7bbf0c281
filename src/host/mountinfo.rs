//! /proc/PID/mountinfo (proc_pid_mountinfo(5)), parsed. Pure.

use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// Which directory or file of the file system is mounted.
    pub root: String,
    /// Where.
    pub target: PathBuf,
    /// Options of this mount: `rw`, `nosuid` ...
    pub options: Vec<String>,
    /// `ext4`, `overlay` ...
    pub kind: String,
    /// Options of the file system: `lowerdir=...`.
    pub file_system_options: Vec<String>,
}

impl MountInfo {
    /// Whether nothing can be written here.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro") || self.file_system_options.iter().any(|option| option == "ro")
    }
}

/// All mounts; lines that make no sense are passed over.
pub fn parse(text: &str) -> Vec<MountInfo> {
    text.lines().filter_map(line).collect()
}

/// `36 35 98:0 /root /target rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn line(line: &str) -> Option<MountInfo> {
    // Optional fields in the middle end with a hyphen.
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let root = unescape(fields.next()?);
    let target = PathBuf::from(unescape(fields.next()?));
    let options = comma_separated(fields.next()?);
    let mut fields = file_system.split(' ');
    let kind = fields.next()?.to_owned();
    let file_system_options = comma_separated(fields.nth(1).unwrap_or_default());
    Some(MountInfo { root, target, options, kind, file_system_options })
}

fn comma_separated(text: &str) -> Vec<String> {
    text.split(',').map(unescape).collect()
}

/// Space, tab, newline, backslash and comma come as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, code) {
            (b'\\', Some(code)) => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_and_their_escapes() {
        let text = "36 35 0:44 / / ro,relatime - overlay overlay rw,lowerdir+=/a\\040b,upperdir=/c,userxattr\n\
                    40 36 0:5 /null /proc/kc\\134ore ro,nosuid master:1 propagate_from:2 - devtmpfs none rw\n\
                    nonsense\n41 40 - x\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].kind.as_str(), mounts[0].is_read_only()), ("overlay", true));
        assert_eq!(mounts[0].file_system_options[1], "lowerdir+=/a b");
        assert_eq!((mounts[1].root.as_str(), mounts[1].target.to_str()), ("/null", Some("/proc/kc\\ore")));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[ -~\\n]{0,200}") {
            parse(&text);
        }
    }
}
