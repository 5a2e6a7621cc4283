//! What every back end must do, through the trait; then what each must do besides.

mod command;
mod doors;
mod memory;
mod suite;

#[cfg(all(feature = "e2e", target_os = "linux"))]
mod ipfw;
#[cfg(all(feature = "e2e", target_os = "linux"))]
mod net;
#[cfg(all(feature = "e2e", target_os = "linux"))]
mod nft;
#[cfg(all(feature = "e2e", target_os = "linux"))]
mod pf;
