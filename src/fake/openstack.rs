//! A stand-in for an OpenStack cloud.
