//! `kelp port`: where the published ports of a container are reached, in
//! docker's lines.

use clap::Args;

use super::{Session, output};
use crate::engine::lifecycle;
use crate::error::{Failure, Result};

/// Arguments of `kelp port`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only this port of the container: PORT, PORT/tcp, PORT/udp or PORT/sctp
    #[arg(value_name = "PORT")]
    port: Option<String>,
}

/// Prints them; fails for a port that is not published.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let record = lifecycle::find(&session.paths, &arguments.container)?.record;
    let wanted = arguments.port.as_deref().map(parse).transpose()?;
    let mut is_found = false;
    for bound in record.published() {
        let port = bound.port.to_string();
        match &wanted {
            None => output::line(format!("{port} -> {}", bound.host)),
            Some(wanted) if *wanted == port => {
                is_found = true;
                output::line(bound.host.to_string());
            }
            Some(_) => {}
        }
    }
    match wanted.filter(|_| !is_found) {
        None => Ok(0),
        Some(port) => {
            let failure = Failure::user(format!("no public port '{port}' published for {}", record.name));
            Err(match record.network.as_str() {
                "host" => failure.hint("with --network host, its ports are the host's"),
                _ => failure.hint("-p publishes a port when a container is made"),
            })
        }
    }
}
/// A port with its protocol, which is tcp if none is given.
fn parse(text: &str) -> Result<String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match (port.parse::<u16>(), protocol) {
        (Ok(port), "tcp" | "udp" | "sctp") => Ok(format!("{port}/{protocol}")),
        _ => Err(Failure::usage(format!("\"{text}\" is not PORT, PORT/tcp, PORT/udp or PORT/sctp"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_protocol() {
        for (text, expected) in [("80", "80/tcp"), ("53/udp", "53/udp"), ("65535/sctp", "65535/sctp")] {
            assert_eq!(parse(text).unwrap(), expected);
        }
        for text in ["", "http", "80/", "80/icmp", "65536", "-1", "80/tcp/x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
