//! TCP between containers and the host's sockets.

use super::attachment::{Attached, AttachmentKey, Attachments};
use super::frame::Frame;
use super::poller::Readiness;
use super::router::Turn;
use super::slots::Key;
use crate::error::Result;

/// What TCP keeps for each container.
pub struct Stack {}

impl Stack {
    /// For a device with this MTU.
    pub fn new(_mtu: u16) -> Result<Self> {
        Ok(Self {})
    }
}

/// All TCP flows.
pub struct Flows {}

impl Flows {
    /// No flows, and room for `most`.
    pub fn new(_most: usize) -> Result<Self> {
        Ok(Self {})
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        0
    }

    /// Whether a flow has something to do without waiting.
    pub fn has_more(&self) -> bool {
        false
    }

    /// A flow's socket is ready, or its time has come.
    pub fn ready(&mut self, _key: Key, _readiness: Readiness) {}

    /// A container sent a segment.
    pub fn receive(&mut self, _key: AttachmentKey, _from: &mut Attached, _frame: &Frame<'_>, _turn: &mut Turn<'_>) {}

    /// Does what has come up in this turn.
    pub fn settle(&mut self, _attachments: &mut Attachments, _turn: &mut Turn<'_>) {}

    /// A container is gone.
    pub fn detach(&mut self, _key: AttachmentKey, _turn: &mut Turn<'_>) {}
}
