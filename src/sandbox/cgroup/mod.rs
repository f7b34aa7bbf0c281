//! A cgroup of a container's own: where it is made ([`placement`], which
//! decides; [`scope`] and [`tree`], which do), what it may use ([`limits`]), and
//! what is done with it ([`Group`]).
//!
//! Without a controller a cgroup still freezes, kills and counts time, since
//! that is the tree's own; so there is one wherever it can be had cheaply.

mod group;
pub mod limits;
mod own;
pub mod placement;
pub mod scope;
mod shares;
pub mod tree;
mod write;

pub use group::{Entrance, Group, remove};
pub use limits::Limits;
pub use placement::Placement;
pub use scope::Scoped;
pub use shares::Shares;
pub use write::{Undo, change, write};
