//! The `kelp` command.

fn main() {}
