//! Providers: what makes VMs.
//!
//! An adapter speaks to one kind of cloud; decorators add what is the same for all of them.

pub mod breaker;
mod finding;
pub mod limited;
pub mod lxd;
#[cfg(feature = "openstack")]
pub mod openstack;
pub mod pace;
mod text;

pub use finding::{Finding, Grade};
pub use limited::{Limited, Limits};
