//! The harness of the black-box tests: a lab of real processes, a real registry with images made here, real kubectl. Nothing
//! in it knows how Corten works inside; it drives binaries and reads what they answer.
//!
//! Each test owns its lab, by name, under its own folder, and removes it at the end, also when it fails.

pub mod background;
pub mod cluster;
pub mod conformance;
pub mod image;
pub mod load;
pub mod machine;
pub mod registry;
pub mod wait;

pub use cluster::Cluster;
