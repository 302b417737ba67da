//! The agent of one machine.

#[allow(dead_code, unused_imports)]
mod host;

fn main() {}
