#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use runner_fleet_fuzz::{json, targets};

fuzz_target!(|data: &[u8]| targets::scale_sets::check(data));
fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    json::mutate(data, size, max, seed)
});
