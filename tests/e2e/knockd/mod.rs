//! posternd under the name knockd, beside Debian's knockd 0.8.

mod article;
mod differential;
mod faults;
mod generate;
mod names;
mod pair;
