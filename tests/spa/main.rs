//! Single-packet authorization against fwknop: packets that it has made (vectors.txt), and, with
//! the feature `e2e`, its programs.

mod vectors;

#[cfg(all(feature = "e2e", target_os = "linux"))]
mod fwknop;
