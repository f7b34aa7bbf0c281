//! Addresses of a network and who has them. Pure.
//!
//! The first address of a subnet is the gateway: the router itself, which also
//! answers questions about names. The others are given out, the lowest free one
//! first, to one container at a time; a container's IPv6 address has the same
//! number as its IPv4 address where that is free.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::publish::ports::Bound;
use crate::error::{Failure, Result};

/// The addresses of a network, one subnet for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnets {
    /// At least a /30.
    pub ipv4: Ipv4Net,
    /// At least a /126.
    pub ipv6: Ipv6Net,
}

/// IPv4 subnets of the default network, in the order in which they are tried:
/// private addresses (RFC 1918) that neither docker, podman, libvirt nor VPNs
/// take by default.
const CANDIDATES: [(u8, u8); 8] =
    [(10, 87), (10, 187), (10, 213), (172, 29), (172, 23), (10, 139), (10, 241), (10, 61)];

/// Of unique local addresses (RFC 4193); the 40 bits begin with "kel".
const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0x656c, 0x7000, 0, 0, 0, 0, 0);

impl Subnets {
    /// Those of the default network where `routes` are the host's: the first
    /// candidate that none of them leads to, else the first of all. A default
    /// route leads everywhere and does not count.
    pub fn choose(routes: &[Ipv4Net]) -> Self {
        let of = |(first, second): (u8, u8)| Ipv4Net::new_assert(Ipv4Addr::new(first, second, 0, 0), 16);
        let is_free = |subnet: &Ipv4Net| {
            let meets = |route: &Ipv4Net| route.contains(&subnet.network()) || subnet.contains(&route.network());
            !routes.iter().any(|route| route.prefix_len() > 0 && meets(route))
        };
        let mut candidates = CANDIDATES.into_iter().map(of);
        let ipv4 = candidates.find(is_free).unwrap_or_else(|| of((10, 87)));
        Self { ipv4, ipv6: Ipv6Net::new_assert(IPV6, 64) }
    }

    /// The address of the router itself.
    pub fn gateway4(&self) -> Ipv4Addr {
        self.number4(1)
    }

    /// The same in IPv6.
    pub fn gateway6(&self) -> Ipv6Addr {
        self.number6(1)
    }

    fn number4(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.ipv4.network().to_bits().wrapping_add(number))
    }

    fn number6(&self, number: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.ipv6.network().to_bits().wrapping_add(number.into()))
    }

    /// The numbers that can be given out: neither the network's own address,
    /// the gateway nor the one for broadcasts.
    fn numbers(&self) -> std::ops::Range<u32> {
        let last = u32::MAX.checked_shr(self.ipv4.prefix_len().into()).unwrap_or(0);
        2..last
    }
}

/// Reads /proc/net/route: destinations and masks in hexadecimal digits, bytes
/// in the machine's order (proc_pid_net(5)).
pub fn parse_routes(text: &str) -> Vec<Ipv4Net> {
    let address = |digits: &str| Some(Ipv4Addr::from(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes()));
    let route = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let destination = address(fields.nth(1)?)?;
        let mask = address(fields.nth(5)?)?;
        Ipv4Net::with_netmask(destination, mask).ok()
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// What one container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its addresses, and where they come from.
    pub ipv4: Ipv4Addr,
    /// The same in IPv6.
    pub ipv6: Ipv6Addr,
    /// The network it is in.
    pub subnets: Subnets,
    /// Where its published ports can be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Bound>,
}

impl Lease {
    /// Addresses with the length of their prefixes.
    pub fn addresses(&self) -> Vec<(IpAddr, u8)> {
        vec![(self.ipv4.into(), self.subnets.ipv4.prefix_len()), (self.ipv6.into(), self.subnets.ipv6.prefix_len())]
    }

    /// Where all else goes; the first also answers questions about names.
    pub fn gateways(&self) -> Vec<IpAddr> {
        vec![self.subnets.gateway4().into(), self.subnets.gateway6().into()]
    }
}

/// What a container would like to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// This address and no other (`--ip`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// This address and no other (`--ip6`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// All that it had of a process that is gone: it lives with it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Lease>,
}

/// Who has which address of one network.
#[derive(Debug)]
pub struct Leases {
    subnets: Subnets,
    ipv4: BTreeSet<Ipv4Addr>,
    ipv6: BTreeSet<Ipv6Addr>,
}

impl Leases {
    /// Nobody has any.
    pub fn new(subnets: Subnets) -> Self {
        Self { subnets, ipv4: BTreeSet::new(), ipv6: BTreeSet::new() }
    }

    /// Gives addresses out. What was had before is given again, even from
    /// another subnet: the container's device has it.
    pub fn take(&mut self, wish: &Wish) -> Result<Lease> {
        let lease = match &wish.previous {
            Some(previous) => previous.clone(),
            None => self.choose(wish)?,
        };
        for (address, is_taken) in [
            (IpAddr::from(lease.ipv4), self.ipv4.contains(&lease.ipv4)),
            (lease.ipv6.into(), self.ipv6.contains(&lease.ipv6)),
        ] {
            if is_taken {
                return Err(Failure::user(format!("the address {address} is taken by another container")));
            }
        }
        self.ipv4.insert(lease.ipv4);
        self.ipv6.insert(lease.ipv6);
        Ok(lease)
    }

    fn choose(&self, wish: &Wish) -> Result<Lease> {
        let Self { subnets, .. } = self;
        let ipv4 = match wish.ipv4 {
            Some(address) => self.check4(address)?,
            None => {
                let mut numbers = subnets.numbers().map(|number| subnets.number4(number));
                let free = numbers.find(|address| !self.ipv4.contains(address));
                free.ok_or_else(|| Failure::user(format!("all addresses of {} are taken", subnets.ipv4)))?
            }
        };
        let ipv6 = match wish.ipv6 {
            Some(address) => self.check6(address)?,
            None => {
                let same = ipv4.to_bits().wrapping_sub(subnets.ipv4.network().to_bits());
                let mut numbers = std::iter::once(same).chain(2..u32::MAX).map(|number| subnets.number6(number));
                let free = numbers.find(|address| !self.ipv6.contains(address));
                free.ok_or_else(|| Failure::user(format!("all addresses of {} are taken", subnets.ipv6)))?
            }
        };
        Ok(Lease { ipv4, ipv6, subnets: *subnets, published: Vec::new() })
    }

    fn check4(&self, address: Ipv4Addr) -> Result<Ipv4Addr> {
        let Subnets { ipv4, .. } = self.subnets;
        let is_special = [ipv4.network(), ipv4.broadcast(), self.subnets.gateway4()].contains(&address);
        if ipv4.contains(&address) && !is_special { Ok(address) } else { Err(outside(address, ipv4)) }
    }

    fn check6(&self, address: Ipv6Addr) -> Result<Ipv6Addr> {
        let Subnets { ipv6, .. } = self.subnets;
        let is_special = [ipv6.network(), self.subnets.gateway6()].contains(&address);
        if ipv6.contains(&address) && !is_special { Ok(address) } else { Err(outside(address, ipv6)) }
    }

    /// Takes addresses back.
    pub fn release(&mut self, lease: &Lease) {
        self.ipv4.remove(&lease.ipv4);
        self.ipv6.remove(&lease.ipv6);
    }
}

fn outside(address: impl Into<IpAddr>, subnet: impl Into<ipnet::IpNet>) -> Failure {
    let (address, subnet) = (address.into(), subnet.into());
    Failure::user(format!("the address {address} cannot be given out"))
        .hint(format!("a container's address is one of {subnet}, but not its first two or its last"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets() -> Subnets {
        Subnets { ipv4: "10.1.2.0/29".parse().unwrap(), ipv6: "fd00::/64".parse().unwrap() }
    }

    fn wish4(address: &str) -> Wish {
        Wish { ipv4: Some(address.parse().unwrap()), ..Wish::default() }
    }

    #[test]
    fn each_address_is_given_out_once() {
        let mut leases = Leases::new(subnets());
        let taken: Vec<Lease> = (0..5).map(|_| leases.take(&Wish::default()).unwrap()).collect();
        let shown: Vec<String> = taken.iter().map(|lease| format!("{} {}", lease.ipv4, lease.ipv6)).collect();
        assert_eq!(shown.first().unwrap(), "10.1.2.2 fd00::2");
        assert_eq!(shown.last().unwrap(), "10.1.2.6 fd00::6");
        let full = leases.take(&Wish::default()).unwrap_err();
        assert_eq!(full.to_string(), "all addresses of 10.1.2.0/29 are taken");
        leases.release(&taken[2]);
        assert_eq!(leases.take(&Wish::default()).unwrap(), taken[2]);
    }

    #[test]
    fn a_wish_is_granted_or_refused() {
        let mut leases = Leases::new(subnets());
        assert_eq!(leases.take(&wish4("10.1.2.3")).unwrap().ipv6.to_string(), "fd00::3");
        assert!(leases.take(&wish4("10.1.2.3")).unwrap_err().to_string().contains("taken"));
        for address in ["10.1.2.0", "10.1.2.1", "10.1.2.7", "10.1.3.2", "127.0.0.1"] {
            assert!(leases.take(&wish4(address)).unwrap_err().to_string().contains("given out"), "{address}");
        }
        let wish = Wish { ipv6: Some("fd00::2".parse().unwrap()), ..wish4("10.1.2.4") };
        let lease = leases.take(&wish).unwrap();
        assert_eq!((lease.ipv4.to_string(), lease.ipv6.to_string()), ("10.1.2.4".into(), "fd00::2".into()));
        // Its own number is taken in one family: another one is found.
        assert_eq!(leases.take(&Wish::default()).unwrap().ipv6.to_string(), "fd00::4");
        for address in ["fd00::", "fd00::1", "fd01::5"] {
            let wish = Wish { ipv6: Some(address.parse().unwrap()), ..Wish::default() };
            assert!(leases.take(&wish).is_err(), "{address}");
        }
    }

    #[test]
    fn what_was_had_before_is_given_again() {
        let mut before = Leases::new(Subnets::choose(&[]));
        let lease = before.take(&Wish::default()).unwrap();
        let mut leases = Leases::new(subnets());
        let wish = Wish { previous: Some(lease.clone()), ..Wish::default() };
        assert_eq!(leases.take(&wish).unwrap(), lease);
        assert!(leases.take(&wish).is_err());
    }

    #[test]
    fn a_subnet_that_the_host_uses_is_not_taken() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    tun0\t0000570A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    broken\n";
        let routes = parse_routes(text);
        assert_eq!(routes, ["0.0.0.0/0".parse().unwrap(), "10.87.0.0/16".parse().unwrap()]);
        assert_eq!(Subnets::choose(&[]).ipv4.to_string(), "10.87.0.0/16");
        assert_eq!(Subnets::choose(&routes).ipv4.to_string(), "10.187.0.0/16");
        let ten = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(Subnets::choose(&ten).ipv4.to_string(), "172.29.0.0/16");
        let one_host = ["10.87.3.4/32".parse().unwrap()];
        assert_eq!(Subnets::choose(&one_host).ipv4.to_string(), "10.187.0.0/16");
        let all = ["10.0.0.0/8".parse().unwrap(), "172.16.0.0/12".parse().unwrap()];
        assert_eq!(Subnets::choose(&all).ipv4.to_string(), "10.87.0.0/16");
    }
}
