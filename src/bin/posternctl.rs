//! posternctl.

fn main() {}
