//! Capture files, and (with the feature `e2e`, as root on Linux) interfaces.

mod files;
#[cfg(all(feature = "e2e", target_os = "linux"))]
mod live;
