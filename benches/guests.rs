//! What a guest costs the daemon: 10,000 of them hold their long polls open, over sockets, each from an address of
//! its own, and ask again when a poll ends. The guests are another process.
//!
//! Memory is what this process holds resident above its start, when everybody has asked several times; the kernel's
//! part (sockets, of both ends here) is shown beside. Then each of a thousand is given an order, by which it is seen
//! that they listen.
//!
//! `cargo bench --bench guests [-- GUESTS]`; ends with 1 where a bound is broken.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench reports to the person who runs it, and stops where its set-up fails"
)]

#[path = "wire/usage.rs"]
mod usage;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use runner_fleet::{
    home::{BODY_MAX, Bounds, Deaf, Ears, GuestKey, Home, Hub, Standing, Told, serve},
    process,
};
use runner_fleet_actors::{
    name::RunnerName,
    port::{Guests, StandDown},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};
use tokio_util::sync::CancellationToken;

/// Resident bytes of each guest.
const BOUND: f64 = 10_000.0;
/// Seconds of a poll; a true one has 50.
const WAIT: u64 = 10;
/// Polls of each guest before the memory is read.
const POLLS: u32 = 4;
const ORDERED: u64 = 1_000;

fn main() -> ExitCode {
    let _refused = process::prepare();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let io = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["crowd", home, state, guests] => {
            io.block_on(crowd(home.parse().unwrap(), state, guests.parse().unwrap()));
            ExitCode::SUCCESS
        }
        words => {
            let guests = words.iter().find_map(|word| word.parse().ok()).unwrap_or(10_000);
            io.block_on(measure(guests))
        }
    }
}

fn name(token: u64) -> RunnerName {
    format!("ci--small--{token:012x}").parse().unwrap()
}

/// Everybody is there, and nobody is told anything.
struct Everybody;

#[async_trait]
impl Ears for Everybody {
    fn standing(&self, _: &RunnerName) -> Standing {
        Standing::Alive
    }

    async fn tell(&self, _: &RunnerName, _: Told) -> Result<(), Deaf> {
        Ok(())
    }

    fn log(&self, _: &RunnerName, _: String) {}
}

async fn measure(guests: u64) -> ExitCode {
    let state = tempfile::tempdir().unwrap();
    let (hub, stop) = (Arc::new(Hub::default()), CancellationToken::new());
    let home = Home {
        key: GuestKey::open(state.path()).unwrap(),
        hub: Arc::clone(&hub),
        ears: Arc::new(Everybody),
        stop: stop.clone(),
    };
    let bounds = Bounds::guests(BODY_MAX);
    assert!(bounds.connections as u64 >= guests, "open files: only {bounds:?}");
    let at_home = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let serving = serve(at_home, None, Arc::new(home), bounds).await.unwrap();
    let before = (usage::resident("self"), kernel(), usage::cpu("self"));
    let mut crowd = tokio::process::Command::new(std::env::current_exe().unwrap())
        .arg("crowd")
        .arg(serving.address.to_string())
        .arg(state.path())
        .arg(guests.to_string())
        .stdin(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Some are always between two polls.
    let hears = || (0..guests).filter(|token| hub.hears(&name(*token))).count() as u64 * 100 / 99;
    until("everybody polls", || hears() >= guests).await;
    let (met, kernel_met) = (usage::resident("self"), kernel());
    let began = (Instant::now(), usage::cpu("self"));
    tokio::time::sleep(Duration::from_secs(WAIT * u64::from(POLLS - 1))).await;
    until("everybody polls again", || hears() >= guests).await;
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / guests as f64;
    let held = each(usage::resident("self"), before.0);
    let polls = guests as f64 * f64::from(POLLS - 1);
    println!(
        "guests: {guests} polls open: {held:.0} bytes each (bound {BOUND}), {:.0} when they had just come; in the \
         kernel {:.0} each and end; a poll costs {:.1} µs of CPU",
        each(met, before.0),
        each(kernel_met.max(kernel()), before.1) / 2.0,
        (usage::cpu("self") - began.1).as_secs_f64() * 1e6 / polls,
    );
    let asked = Instant::now();
    let asks = (0..ORDERED.min(guests)).map(|token| {
        let hub = Arc::clone(&hub);
        tokio::spawn(async move { hub.stand_down(&name(token)).await.unwrap() })
    });
    let answers = futures::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| *answer.as_ref().unwrap() == StandDown::Busy));
    println!(
        "guests: {} of them were asked and have answered within {:.2?}",
        answers.len(),
        asked.elapsed()
    );
    drop(crowd.stdin.take());
    let _ended = crowd.wait().await;
    stop.cancel();
    serving.task.await.unwrap();
    if held <= BOUND { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// So many guests, until their parent ends.
async fn crowd(home: SocketAddr, state: &str, guests: u64) {
    let key = GuestKey::open(std::path::Path::new(state)).unwrap();
    for token in 0..guests {
        let runner = name(token);
        let bearer = key.token(&runner).expose().to_owned();
        tokio::spawn(async move {
            let parts = u32::try_from(token).unwrap();
            let own = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + parts);
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((own, 0).into()).unwrap();
            let mut wire = socket.connect(home).await.unwrap();
            let (mut after, mut answer) = (0_u64, [0; 1024]);
            let path = format!("/v1/guest/{runner}");
            let head = format!(
                "HTTP/1.1\r\nHost: {home}\r\nAccept-Encoding: identity\r\nUser-Agent: runner-fleet-guest/1\r\n\
                 Authorization: Bearer {bearer}\r\n"
            );
            loop {
                let poll = format!("GET {path}/orders?after={after}&wait={WAIT} {head}\r\n");
                wire.write_all(poll.as_bytes()).await.unwrap();
                let Ok(read @ 1..) = wire.read(&mut answer).await else { return };
                let said = String::from_utf8_lossy(&answer[..read]);
                if let Some((_, number)) = said.split_once("\"number\":") {
                    let digits = number.split(|c: char| !c.is_ascii_digit()).next().unwrap();
                    after = digits.parse().unwrap();
                    let body = format!("{{\"number\":{after},\"answer\":\"busy\"}}");
                    let length = body.len();
                    let word =
                        format!("POST {path}/answers {head}Content-Length: {length}\r\n\r\n{body}");
                    wire.write_all(word.as_bytes()).await.unwrap();
                    assert!(wire.read(&mut answer).await.unwrap() > 0);
                }
            }
        });
        // Guests come one after the other, as VMs boot.
        if token % 100 == 99 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let _ended = tokio::io::stdin().read(&mut [0]).await;
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(120), "never reached: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the kernel's own objects take, of all processes.
fn kernel() -> u64 {
    usage::bytes("/proc/meminfo", "SUnreclaim:")
}
