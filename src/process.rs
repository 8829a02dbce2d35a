//! What the process asks of its system before it holds any secret.
//!
//! Secrets live in this process's memory: tokens, keys, JIT configs on their way. So no core dump is
//! written of it, and no other process of the same user may read its memory. And it may open as many
//! files as it is let: each guest's poll is a connection, and a stranger's connections must not take
//! the last descriptor from the operator's socket.

use rustix::{
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};

/// Where the system names no limit: more than is ever opened.
const NO_LIMIT: u64 = 1 << 20;

/// Makes the process ready: no core dumps, memory nobody else's, open files up to the hard limit.
/// Returns what the system refused, for the log; the daemon works without as well.
#[must_use]
pub fn prepare() -> Vec<String> {
    let mut refused = Vec::new();
    let mut note = |what: &str, done: Result<(), Errno>| {
        if let Err(error) = done {
            refused.push(format!("{what}: {error}"));
        }
    };
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    note("core dumps cannot be switched off", setrlimit(Resource::Core, none));
    let private = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    note("the process's memory stays readable for its user's other processes", private);
    let files = getrlimit(Resource::Nofile);
    let all = Rlimit { current: files.maximum, maximum: files.maximum };
    note("the limit of open files stays as it is", setrlimit(Resource::Nofile, all));
    refused
}

/// How many files the process may have open at once.
#[must_use]
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(NO_LIMIT).min(NO_LIMIT)
}
