//! A double of FreeBSD's ipfw(8), for tests.

fn main() {}
