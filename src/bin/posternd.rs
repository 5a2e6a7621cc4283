//! posternd.

fn main() {}
