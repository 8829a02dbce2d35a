//! Providers: what makes VMs.
//!
//! An adapter speaks to one kind of cloud; decorators add what is the same for all of them.

pub mod breaker;
pub mod limited;
pub mod openstack;

pub use limited::{Limited, Limits};
