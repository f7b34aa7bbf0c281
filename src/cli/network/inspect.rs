//! `kelp network inspect`: all about networks, in the field names of Docker's API.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::format::DocumentFormat;
use crate::cli::{Session, output};
use crate::engine::networks::{self, Network};
use crate::error::Result;

/// Arguments of `kelp network inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Names of networks
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// How to print: json, or a Go template such as '{{.Containers}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "json", hide_default_value = true)]
    format: DocumentFormat,
}

/// Prints what was found as one array; exit status 1 if a network was not.
pub(in crate::cli) fn run(arguments: Arguments, session: &Session) -> Result<i32> {
    let found = arguments.networks.iter().map(|name| networks::find(&session.paths, name));
    let (found, failures): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
    let documents: Vec<Value> = found.into_iter().flatten().map(|network| document(&network)).collect();
    arguments.format.print(&documents)?;
    let failures: Vec<_> = failures.into_iter().filter_map(Result::err).collect();
    failures.iter().for_each(output::failure);
    Ok(i32::from(!failures.is_empty()))
}

/// The document of one. Its addresses are known while its process lives.
fn document(network: &Network) -> Value {
    let live = network.live.as_ref();
    let config = live.map_or_else(Vec::new, |live| {
        let subnets = &live.subnets;
        vec![
            json!({"Subnet": subnets.ipv4.to_string(), "Gateway": subnets.gateway4().to_string()}),
            json!({"Subnet": subnets.ipv6.to_string(), "Gateway": subnets.gateway6().to_string()}),
        ]
    });
    let containers: Map<String, Value> = live
        .iter()
        .flat_map(|live| &live.containers)
        .map(|container| {
            let lease = &container.lease;
            let document = json!({
                "Name": container.name,
                "EndpointID": "",
                "MacAddress": "",
                "IPv4Address": format!("{}/{}", lease.ipv4, lease.subnets.ipv4.prefix_len()),
                "IPv6Address": format!("{}/{}", lease.ipv6, lease.subnets.ipv6.prefix_len()),
            });
            (container.id.clone(), document)
        })
        .collect();
    json!({
        "Name": network.name,
        "Id": "",
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": live.is_some(),
        "EnableIPv6": live.is_some(),
        "IPAM": {"Driver": "default", "Options": Value::Null, "Config": config},
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "Containers": containers,
        "Options": {},
        "Labels": {},
        "Pid": live.map_or(0, |live| live.pid),
    })
}
