//! Signals by name and number, real-time ones included: programs such as
//! systemd take SIGRTMIN+3 for "end".

use nix::sys::signal::Signal;

/// The first real-time signal that glibc and musl leave to programs
/// (signal(7)); an image's own C library counts from here.
const RTMIN: i32 = 34;
/// The last one.
const RTMAX: i32 = 64;

/// The number of a signal: a name with or without SIG, in any case, or a number.
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |start: i32, rest: &str| match rest {
        "" => Some(start),
        rest => rest.parse::<i32>().ok().map(|offset| start + offset),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => real_time(RTMIN, rest).filter(|_| !rest.starts_with('-'))?,
        (_, Some(rest)) => real_time(RTMAX, rest).filter(|_| !rest.starts_with('+'))?,
        _ => return format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32),
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// The name of a signal, as docker and podman print it.
pub fn name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if number == RTMIN => "SIGRTMIN".to_owned(),
        Err(_) => format!("SIGRTMIN+{}", number - RTMIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("SIGINT", Some(2)),
            ("int", Some(2)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("rtmin", Some(34)),
            ("RTMAX-1", Some(63)),
            ("RTMAX+1", None),
            ("RTMIN-1", None),
            ("65", None),
            ("0", None),
            ("-1", None),
            ("", None),
            ("SIG", None),
            ("SIGSIGINT", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        assert_eq!((name(2), name(37)), ("SIGINT".to_owned(), "SIGRTMIN+3".to_owned()));
    }
}
