//! The runner-fleet command.
fn main() {}
