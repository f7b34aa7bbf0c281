//! The memory of flows: a ring for each direction, of which only touched pages
//! cost anything.
//!
//! A ring is a mapping of its own (`kernel/memory.rs`): zeroed by the kernel
//! page by page as it is touched. A few that were used stay, warm, for the
//! flows that come next; they go when it has been quiet for a while. How much
//! of all rings is touched is counted; when it is much, new flows get small
//! ones, and when it is too much, flows are ended ([`Rings::is_over`]).

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

use crate::limits;

/// One end of a flow: a socket set with exactly one socket. smoltcp's calls
/// take time in proportion to a set's sockets, by design.
pub(super) struct End {
    pub(super) set: SocketSet<'static>,
    pub(super) handle: SocketHandle,
    size: Size,
}

/// What a flow's rings may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Large,
    Small,
}

impl Size {
    /// Bytes of each ring: the largest window that the window field can say
    /// with a shift (RFC 7323 section 2.2), and not a byte less.
    ///
    /// smoltcp 0.14 believes the window of its SYN-ACK, which is never shifted,
    /// to have been: 65,535 << shift. In a ring with less room than that, a
    /// container that sends as much at once makes it panic
    /// (`enqueue_unallocated`).
    fn bytes(self) -> usize {
        match self {
            Self::Large => 65_535 << 3,
            Self::Small => 65_535,
        }
    }
}

impl End {
    fn new(size: Size) -> Self {
        let ring = || SocketBuffer::new(vec![0; size.bytes()]);
        let mut socket = Socket::new(ring(), ring());
        // Acknowledgements are sent once for all that came in a turn.
        socket.set_ack_delay(None);
        // The program at the other end has Nagle's algorithm for itself where it wants it.
        socket.set_nagle_enabled(false);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self { set, handle, size }
    }

    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    pub(super) fn bytes(&self) -> usize {
        self.size.bytes()
    }
}

/// Rings in use and in stock.
#[derive(Default)]
pub(super) struct Rings {
    /// Used ones, large, their sockets closed.
    stock: Vec<End>,
    /// Bytes of rings in use that were touched.
    touched: usize,
}

impl Rings {
    /// Rings for a new flow.
    pub(super) fn take(&mut self) -> End {
        if self.touched > limits::TCP_RINGS_BYTES_GENEROUS {
            return End::new(Size::Small);
        }
        self.stock.pop().unwrap_or_else(|| End::new(Size::Large))
    }

    /// Takes the rings of a flow that has ended; `touched` of their bytes were.
    pub(super) fn give(&mut self, mut end: End, touched: usize) {
        self.touched = self.touched.saturating_sub(touched);
        if end.socket().state() != State::Closed {
            end.socket().abort();
        }
        if end.size == Size::Large && self.stock.len() < limits::TCP_RINGS_IN_STOCK {
            self.stock.push(end);
        }
    }

    /// More of a flow's rings was touched.
    pub(super) fn touch(&mut self, bytes: usize) {
        self.touched += bytes;
    }

    /// Whether flows have to end for want of memory.
    pub(super) fn is_over(&self) -> bool {
        self.touched > limits::TCP_RINGS_BYTES_MAX
    }

    /// Whether there is something in stock.
    pub(super) fn has_stock(&self) -> bool {
        !self.stock.is_empty()
    }

    /// Lets the stock go.
    pub(super) fn clear_stock(&mut self) {
        self.stock = Vec::new();
    }
}
