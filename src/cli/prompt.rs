//! Questions to the person at the terminal, if there is one.

use std::io::{self, BufRead, IsTerminal, Read};
use std::os::fd::AsFd;

use super::output;
use crate::error::{Context, Failure, Result};
use crate::kernel::terminal::Raw;
use crate::limits;

/// Whether there is somebody to ask.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a line.
pub(super) fn line(question: &str) -> Result<String> {
    check()?;
    output::prompt(question);
    let mut text = String::new();
    io::stdin().lock().take(limits::PASSWORD_BYTES_MAX as u64).read_line(&mut text).doing(|| "read your answer")?;
    Ok(text.trim().to_owned())
}

/// Asks for a line that does not show. The terminal is raw meanwhile, so that
/// Ctrl-C cannot end kelp and leave it without echo.
pub(super) fn secret(question: &str) -> Result<String> {
    check()?;
    output::prompt(question);
    let result = {
        let _raw = Raw::enter(io::stdin().as_fd())?;
        read_secret(&mut io::stdin().lock())
    };
    output::prompt("\n");
    result
}

fn check() -> Result<()> {
    if is_possible() {
        return Ok(());
    }
    Err(Failure::usage("standard input is no terminal, so nobody can be asked")
        .hint("give --username, and the password with --password-stdin"))
}

/// Reads keys as a raw terminal sends them, up to Enter.
fn read_secret(keys: &mut impl Read) -> Result<String> {
    let mut text = Vec::new();
    loop {
        let mut key = [0];
        let count = keys.read(&mut key).doing(|| "read your answer")?;
        match (count, key) {
            (0, _) | (_, [b'\r' | b'\n']) => break,
            // Ctrl-D
            (_, [0x04]) if text.is_empty() => break,
            // Ctrl-C
            (_, [0x03]) => return Err(Failure::user("interrupted")),
            // Backspace takes a whole character.
            (_, [0x08 | 0x7f]) => while text.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {},
            // Ctrl-U
            (_, [0x15]) => text.clear(),
            (_, [byte]) => text.push(byte),
        }
        if text.len() > limits::PASSWORD_BYTES_MAX {
            break;
        }
    }
    String::from_utf8(text).map_err(|_| Failure::user("what you typed is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_they_do_elsewhere() {
        let typed = |keys: &str| read_secret(&mut keys.as_bytes());
        assert_eq!(typed("secret\rmore").unwrap(), "secret");
        assert_eq!(typed("secrä\u{7f}et\r").unwrap(), "secret");
        assert_eq!(typed("wrong\u{15}right\n").unwrap(), "right");
        assert_eq!(typed("\u{7f}\u{4}").unwrap(), "");
        assert!(typed("secr\u{3}et\r").is_err());
        assert!(typed(&"x".repeat(limits::PASSWORD_BYTES_MAX * 2)).unwrap().len() <= limits::PASSWORD_BYTES_MAX + 1);
    }
}
