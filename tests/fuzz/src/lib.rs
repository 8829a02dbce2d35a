//! What the fuzz targets share: their bodies, which CI replays without a fuzzer, and a mutator for JSON.

pub mod json;
#[path = "../targets/mod.rs"]
pub mod targets;
