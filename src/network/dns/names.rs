//! Names that are answered here, for one container: those of the host, those
//! that its user gave (`--add-host`), and the reverse names of the network's
//! addresses.
//!
//! Names of other containers, where a network has them, are one more table that
//! [`Names::find`] looks into.

use std::collections::HashMap;
use std::net::IpAddr;

use domain::base::iana::{Class, Rtype};
use domain::base::name::ToName;
use ipnet::IpNet;

use super::super::attachment::Addresses;
use super::super::terms::{Dns, HostAddress};
use super::message::{Data, OwnName, Query, address_of};

/// The names of the host; the first is what its address is called.
pub const HOST_NAMES: [&str; 2] = ["host.kelp.internal", "host.docker.internal"];

/// Names and what they mean.
pub(super) struct Names {
    addresses: HashMap<OwnName, Vec<IpAddr>>,
    pointers: HashMap<IpAddr, OwnName>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// It is there, with these records of the type that was asked for.
    Records(Vec<Data>),
    /// There is no such name, here or elsewhere.
    Nothing,
    /// Others may know.
    Unknown,
}

impl Names {
    /// The names of a container called `own`.
    pub(super) fn new(dns: &Dns, addresses: Addresses, own: &str) -> Self {
        let gateways: [IpAddr; 2] = [addresses.gateway_v4.into(), addresses.gateway_v6.into()];
        let mut table: HashMap<OwnName, Vec<IpAddr>> = HashMap::new();
        for name in HOST_NAMES.iter().filter_map(|name| parse(name)) {
            table.insert(name, gateways.to_vec());
        }
        // The host's names can be given another meaning, as /etc/hosts has it: what the user says comes first there.
        let mut given: HashMap<OwnName, Vec<IpAddr>> = HashMap::new();
        for (name, address) in &dns.hosts {
            // What cannot be a name in a message cannot be asked for.
            let Some(name) = parse(name) else { continue };
            let meaning = given.entry(name).or_default();
            match address {
                HostAddress::Ip(address) => meaning.push(*address),
                HostAddress::Gateway => meaning.extend(gateways),
            }
        }
        table.extend(given);
        let host = parse(HOST_NAMES[0]).into_iter().flat_map(|name| gateways.map(|address| (address, name.clone())));
        let own = parse(own)
            .into_iter()
            .flat_map(|name| [IpAddr::from(addresses.v4), addresses.v6.into()].map(|address| (address, name.clone())));
        Self { addresses: table, pointers: host.chain(own).collect() }
    }

    /// What is known of what `query` asks. `subnets`: the network's, of which
    /// nobody else knows anything.
    pub(super) fn find(&self, query: &Query<'_>, subnets: &[IpNet]) -> Found {
        if query.class != Class::IN {
            return Found::Unknown;
        }
        let name: OwnName = query.name().to_name();
        if let Some(addresses) = self.addresses.get(&name) {
            let is_asked = |address: &&IpAddr| match query.rtype {
                Rtype::A => address.is_ipv4(),
                Rtype::AAAA => address.is_ipv6(),
                rtype => rtype == Rtype::ANY,
            };
            return Found::Records(addresses.iter().filter(is_asked).map(|address| Data::Address(*address)).collect());
        }
        let Some(address) = address_of(query.name()) else { return Found::Unknown };
        match self.pointers.get(&address) {
            Some(name) if matches!(query.rtype, Rtype::PTR | Rtype::ANY) => {
                Found::Records(vec![Data::Pointer(name.clone())])
            }
            Some(_) => Found::Records(Vec::new()),
            None if subnets.iter().any(|subnet| subnet.contains(&address)) => Found::Nothing,
            None => Found::Unknown,
        }
    }
}

fn parse(text: &str) -> Option<OwnName> {
    OwnName::vec_from_str(text).ok()
}
