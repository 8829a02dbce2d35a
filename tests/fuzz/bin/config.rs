#![no_main]

use libfuzzer_sys::fuzz_target;
use runner_fleet_fuzz::targets;

fuzz_target!(|data: &[u8]| targets::config::check(data));
