//! `kelp port`: the published ports of a container. There are none before
//! containers have networks of their own.

use clap::Args;

use super::Session;
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

/// Prints nothing; fails for a port, in docker's words.
pub(super) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let name = lifecycle::find(&session.paths, &arguments.container)?.record.name;
    match arguments.port {
        None => Ok(0),
        Some(text) => {
            let port = parse(&text)?;
            Err(Failure::user(format!("no public port '{port}' published for {name}"))
                .hint("with --network host, its ports are the host's"))
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
