//! postern.

fn main() {}
