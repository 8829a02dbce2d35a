//! Providers: what makes VMs.

pub mod openstack;
