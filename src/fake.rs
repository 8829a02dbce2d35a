//! A GitHub and a cloud served on loopback inside the process, for the demo and for tests.

pub mod github;
pub mod guest;
pub mod openstack;
mod voice;
