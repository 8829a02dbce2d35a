//! A GitHub and a cloud served on loopback inside the process, a broker, and a runner application for
//! real guests, for the demo and for tests.

pub mod broker;
pub mod github;
pub mod guest;
pub mod openstack;
pub mod stand_in;
mod voice;
