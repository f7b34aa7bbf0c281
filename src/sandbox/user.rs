//! placeholder until the real one is merged
#![allow(missing_docs)]
use crate::error::Result;
pub struct Resolved { pub uid: u32, pub gid: u32, pub groups: Vec<u32>, pub home: String, pub shell: String }
pub fn resolve(_user: &str, _groups: &[String], _passwd: &[u8], _group: &[u8]) -> Result<Resolved> {
    Ok(Resolved { uid: 0, gid: 0, groups: vec![], home: "/root".into(), shell: "/bin/sh".into() })
}
