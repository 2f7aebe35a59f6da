//! The `exclave` command.
fn main() {}
