//! The life of a scale set's session against a service that fails: what holds whatever happens.

use crate::support::scale_set::service;

use std::time::Duration;

use runner_fleet::demand::scale_set::listener::{Action, Listener, Memory};

/// Runs a listener until it is settled: session open, every message acknowledged, numbers true.
#[track_caller]
fn settles(service: &mut service::Service, mut listener: Listener, within: Duration) -> Listener {
    let begin = service.now;
    loop {
        let told = listener.numbers(service.now).map(|numbers| numbers.statistics);
        let polls = matches!(listener.action(), Action::Poll { .. });
        if polls && service.settled() && told == Some(service.truth) {
            return listener;
        }
        assert!(service.now < begin + within, "not within {within:?}: {listener:?}");
        listener = service.step(listener);
    }
}

#[test]
fn whatever_goes_wrong_no_message_is_lost_and_the_numbers_never_go_back() {
    for seed in 0..400 {
        let mut service = service::Service::new(seed);
        let mut listener = Listener::new(seed);
        let mut newest = 0;
        for step in 0..600_u64 {
            service.trouble = if step / 100 % 2 == 0 { 0.0 } else { 0.2 };
            match (seed + step * 7) % 23 {
                0 => service.job(),
                1 => service.mishap(),
                2 if step % 5 == 0 => {
                    // The process dies here; the next one has what was kept.
                    listener = Listener::new(seed + step);
                    newest = 0;
                }
                _ => {}
            }
            // Where the session cannot be asked, what a message says has to do.
            let asks = matches!(listener.action(), Action::Renew { .. });
            listener = service.step(listener);
            if let Some(told) = listener.numbers(service.now) {
                let version = told.statistics.running;
                assert!(
                    asks || version >= newest,
                    "seed {seed}, step {step}: {version} after {newest}"
                );
                newest = version;
            }
        }
        service.trouble = 0.0;
        settles(&mut service, listener, Duration::from_secs(3600));
    }
}

#[test]
fn who_takes_over_with_what_was_kept_has_the_session_at_once() {
    for seed in 0..100 {
        let mut service = service::Service::new(seed);
        let mut listener = Listener::new(seed);
        // The old one dies at any step after it has kept its session.
        for _ in 0..(7 + seed % 40) {
            listener = service.step(listener);
        }
        let (died, before) = (service.now, service.sessions);
        let mut next = Listener::new(seed + 1);
        while !next.connected() {
            next = service.step(next);
        }
        let took = (service.now - died).to_std().unwrap();
        assert!(took < Duration::from_secs(60), "seed {seed}: {took:?}");
        assert!(service.sessions > before);
    }
}

#[test]
fn who_takes_over_with_nothing_kept_has_the_session_within_a_minute_of_the_old_ones_lapse() {
    for seed in 0..100 {
        let mut service = service::Service::new(seed);
        let mut listener = Listener::new(seed);
        for _ in 0..(7 + seed % 40) {
            listener = service.step(listener);
        }
        let lapses =
            service.session_heard().map_or(service.now, |heard| heard + Duration::from_secs(120));
        service.memory = Memory::default();
        let mut next = Listener::new(seed + 1);
        while !next.connected() {
            next = service.step(next);
        }
        let late = (service.now - lapses).to_std().unwrap_or_default();
        assert!(late < Duration::from_secs(60), "seed {seed}: {late:?} after the lapse");
    }
}
