//! What a steady pool costs GitHub: calls a completed job, on paused time.
//!
//! Fifty runners that are always busy: a runner takes a job as soon as it is online, and powers off
//! at its end. The listings keep their real pace. A listing is asked for with the ETag of the last
//! one, so where nothing changed it costs nothing of the rate limit (GitHub docs, "Use conditional
//! requests"); it is a call all the same, so both counts are held to the bound.
//!
//! `cargo bench -p runner-fleet-brain --bench steady`; ends with 1 where the bound is broken.

#![allow(clippy::print_stdout, reason = "a bench reports to the person who runs it")]

use std::{process::ExitCode, time::Duration};

use common::{World, on_paused_time, pool, start};
use runner_fleet_actors::event::Phase;

const RUNNERS: u32 = 50;
const BOUND: f64 = 2.0;
const MINUTE: Duration = Duration::from_secs(60);
/// Until the jobs no longer begin together, in lengths of a job.
const WARM_UP: u32 = 4;
/// How long it is measured, in lengths of a job: some 800 jobs.
const MEASURED: u32 = 16;

fn main() -> ExitCode {
    let good = [5, 30].map(|minutes| on_paused_time(steady(minutes * MINUTE)));
    if good.iter().all(|good| *good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn steady(job: Duration) -> bool {
    let world = World { jobs: Some(job), ..World::new() };
    world.with(|outside| outside.keep_events = false);
    let fleet = start(&world, vec![pool("small", RUNNERS, RUNNERS + RUNNERS / 5)]);
    fleet.until("all busy", |fleet| fleet.count(Phase::Busy) == RUNNERS as usize).await;
    tokio::time::sleep(WARM_UP * job).await;
    let before = world.with(|outside| outside.forge);
    let (mut looks, mut busy) = (0_u64, 0_usize);
    let end = tokio::time::Instant::now() + MEASURED * job;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(MINUTE).await;
        looks += 1;
        busy += fleet.count(Phase::Busy);
    }
    let after = world.with(|outside| outside.forge);
    let good = report(job, &before.until(&after), busy as f64 / looks as f64);
    fleet.stop().await;
    good
}

fn report(job: Duration, calls: &common::ForgeCalls, busy: f64) -> bool {
    let jobs = calls.jobs.max(1) as f64;
    let all = calls.registers + calls.deregisters + calls.lists;
    let counted = all - calls.unchanged;
    let a_job = |calls: u64| calls as f64 / jobs;
    println!(
        "steady, jobs of {} min: {:.2} calls a job, {:.2} of them count ({:.2} register, {:.2} \
         deregister, {:.2} list, {:.2} list unchanged); {} jobs, {busy:.1} known busy (bound {BOUND})",
        job.as_secs() / 60,
        a_job(all),
        a_job(counted),
        a_job(calls.registers),
        a_job(calls.deregisters),
        a_job(calls.lists - calls.unchanged),
        a_job(calls.unchanged),
        calls.jobs,
    );
    a_job(all) <= BOUND
}
