//! `kelp network …`: the networks that containers are in.

pub(super) mod inspect;
pub(super) mod ls;
