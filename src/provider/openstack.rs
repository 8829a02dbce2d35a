//! OpenStack as a provider.
