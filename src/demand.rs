//! Demand in the daemon: what is kept on disk, and who joins it.
//!
//! The sources themselves live beside GitHub's client, one file each. Here is what they share: the
//! [`ledger`], where news of jobs are kept before anybody is told that they were taken, and the
//! [`desk`], where news become the demand of pools; [`mix`] joins the sources of each pool.

pub mod desk;
pub mod ledger;
pub mod mix;
