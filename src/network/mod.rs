//! The way of packets between containers and the host's sockets.
//!
//! ```text
//!   container's network namespace            the network process, in the host's
//!   -----------------------------            ----------------------------------
//!   programs                                 router    one thread, one epoll
//!      |                                        |
//!   kernel's TCP/IP                          frame     checked, or dropped
//!      |                                        |
//!   tun device  <== frames up to 64 KiB ==>  link      |
//!                                               |      v
//!                                               +-- tcp    a stack for one end of each flow (smoltcp),
//!                                               |          the host's socket at the other
//!                                               +-- udp, icmp   a host's socket for each flow
//!                                               +-- dns    names: answered here, or by the host's servers
//! ```
//! A frame from a container is checked ([`frame`]), its destination is asked
//! about ([`egress`]), and it goes to the handler of its protocol. A handler
//! opens an ordinary socket to the destination and speaks for it: the host's
//! kernel routes, and to the outside it is this user's program that talks.
//! What cannot be reached is answered truthfully ([`refusal`]): a reset where
//! the destination sent one, an ICMP error where the kernel said one.
//!
//! [`router::Router`] is a library: it knows devices, addresses and policies
//! ([`attachment::Attachment`]), and nothing of who asked for them. That is
//! [`process`]'s, the one process of each network, which holds the router:
//! supervisors attach their containers to it by the dialogue of [`control`],
//! with [`client`]; [`lease`] has the addresses, and [`terms`] what each may do.
//!
//! # Invariants
//! - No byte of a frame is believed: [`frame::Frame`] is a checked view, and
//!   nothing panics on any of them.
//! - What one flow costs is independent of how many others there are.
//! - No container is known but by its lease and terms, no namespace of one is
//!   entered, and once the process serves no file is opened ([`confine`]).
//! - Everything is bounded, in `limits.rs`; what comes above a bound is
//!   refused, not queued.
//! - Data is never dropped to make room: a full ring is a closed window.

pub mod attachment;
pub mod checksum;
pub mod client;
mod confine;
pub mod control;
pub mod datagram;
pub mod dns;
pub mod egress;
pub mod fragments;
pub mod frame;
mod host_addresses;
pub mod icmp;
pub mod lease;
pub mod link;
mod mapping;
mod peers;
pub mod poller;
pub mod process;
pub mod publish;
pub mod refusal;
pub mod resolv_conf;
pub mod router;
pub mod slots;
pub mod tcp;
pub mod terms;
mod timers;
pub mod udp;
