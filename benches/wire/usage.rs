//! What a process takes, read of /proc (proc(5)). Processes are called by their number, or `self`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a part of each bench, which stops where it cannot look"
)]

use std::{fs, time::Duration};

/// Bytes that a process holds resident.
pub fn resident(process: &str) -> u64 {
    bytes(&format!("/proc/{process}/status"), "VmRSS:")
}

/// A field of a file that counts kilobytes, in bytes.
pub fn bytes(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
    value.unwrap().parse::<u64>().unwrap() * 1024
}

/// CPU time of all threads so far: first field of each thread's `schedstat`, in nanoseconds (kernel
/// docs, "Scheduler Statistics").
pub fn cpu(process: &str) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanos = threads.filter_map(|thread| {
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
