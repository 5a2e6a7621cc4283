//! A double of FreeBSD's pfctl(8), for tests.

fn main() {}
