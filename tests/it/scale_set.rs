//! Scale sets over HTTP: a daemon's listener and forge against the fake GitHub.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::support::github::*;
use crate::support::scale_set::world::*;
use runner_fleet::{
    demand::scale_set::{self, Found, PoolSet},
    fake::github::{FakeGithub, Group, JobOrder, Once, Options, SetCall, SetOptions},
};
use runner_fleet_actors::{
    job::{JobWord, Repositories},
    name::RegistrationId,
    port::{ErrorClass, TokioClock},
};

fn queue(fake: &FakeGithub, jobs: u32) {
    for _ in 0..jobs {
        fake.queue_job_for_scale_set(&scope("octo-org"), "small", Duration::from_millis(50));
    }
}

async fn demand_is(daemon: &Daemon, waiting: u32, running: u32) {
    let what = format!("{waiting} jobs that wait and {running} that run");
    until(&what, || {
        daemon.demand().is_some_and(|demand| (demand.waiting, demand.running) == (waiting, running))
    })
    .await;
}

#[tokio::test]
async fn a_scale_set_is_made_and_its_jobs_are_served_and_heard_of() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    let set = the_set(&fake).unwrap();
    assert_eq!(set.labels, ["small", "self-hosted", "Linux"], "its name first, each label once");
    assert_eq!(set.session.as_deref(), Some("ci on test-host"));
    demand_is(&daemon, 0, 0).await;

    queue(&fake, 2);
    demand_is(&daemon, 2, 0).await;
    tokio::join!(run_one(&fake, &*daemon.forge, 1), run_one(&fake, &*daemon.forge, 2));
    demand_is(&daemon, 0, 0).await;
    until("both runners' ends", || kept.told.lock().unwrap().len() == 4).await;
    for runner in [name(1), name(2)] {
        let told = kept.told.lock().unwrap();
        let of: Vec<_> = told.iter().filter(|(one, _)| *one == runner).map(|(_, w)| *w).collect();
        assert_eq!(of, ["started", "completed"], "{runner}");
    }
    until("both jobs' ends", || kept.words().values().all(|word| *word == JobWord::Done)).await;
    assert_eq!(kept.words().len(), 2);
    let done: Vec<_> = fake.jobs().iter().map(|job| job.result.clone()).collect();
    assert_eq!(done, [Some("success".to_owned()), Some("success".to_owned())]);
}

#[tokio::test]
async fn a_look_at_a_scale_set_makes_none_and_names_the_labels_that_it_lacks() {
    let fake = fake(SetOptions::default()).await;
    let github = Arc::new(client(with_token(&fake)));
    let look = async |set: PoolSet| scale_set::look(Arc::clone(&github), &set).await;
    assert_eq!(look(pool_set(5)).await.unwrap(), Found::None);
    assert_eq!(fake.scale_sets().len(), 0);

    let daemon = Daemon::start(&fake, &Arc::default(), vec![pool_set(5)]);
    listening(&fake, 5).await;
    let id = the_set(&fake).unwrap().id;
    assert_eq!(look(pool_set(5)).await.unwrap(), Found::Set { id, missing: Vec::new() });
    let labels = vec!["Small".to_owned(), "gpu".to_owned()];
    let missing = vec!["gpu".to_owned()];
    let wanted = PoolSet { labels, ..pool_set(5) };
    assert_eq!(look(wanted).await.unwrap(), Found::Set { id, missing });
    assert_eq!(the_set(&fake).unwrap().sessions, 1, "the daemon's session is left alone");

    let elsewhere = PoolSet { group: Some("nobody-has-it".to_owned()), ..pool_set(5) };
    let refused = look(elsewhere).await.unwrap_err();
    assert!(refused.what.contains("nobody-has-it"), "{refused}");
    daemon.stop().await;
}

#[tokio::test]
async fn an_orderly_end_leaves_no_session_and_the_next_start_adopts_the_scale_set() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    let first = the_set(&fake).unwrap();
    daemon.stop().await;
    assert_eq!(the_set(&fake).unwrap().session, None);

    queue(&fake, 3);
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(6)]);
    demand_is(&daemon, 3, 0).await;
    let second = the_set(&fake).unwrap();
    assert_eq!((second.id, second.sessions, second.conflicts), (first.id, 2, 0));
}

#[tokio::test]
async fn killed_in_mid_burst_no_job_is_lost_or_served_twice() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let mut daemon = Daemon::start(&fake, &kept, vec![pool_set(100)]);
    listening(&fake, 100).await;
    let mut runners = Vec::new();
    for round in 0..3_u64 {
        queue(&fake, 10);
        for token in 0..10 {
            let (fake, forge) = (fake.clone(), Arc::clone(&daemon.forge));
            runners.push(tokio::spawn(async move {
                // Registrations that the kill breaks off are tried again by the next daemon.
                run_one(&fake, &*forge, round * 100 + token).await
            }));
        }
        until("some jobs run", || fake.stats().waits.len() > (round * 8) as usize).await;
        daemon.kill();
        daemon = Daemon::start(&fake, &kept, vec![pool_set(100)]);
        until("its session is open", || daemon.status().connected_since.is_some()).await;
    }
    // Whoever scales by demand launches what is missing, until nothing waits.
    let mut token = 1000;
    while fake.stats().completed < 30 {
        let (before, waiting) = (fake.stats().completed, daemon.demand().map_or(0, |d| d.waiting));
        for _ in 0..waiting {
            token += 1;
            let (fake, forge) = (fake.clone(), Arc::clone(&daemon.forge));
            runners.push(tokio::spawn(async move { run_one(&fake, &*forge, token).await }));
        }
        until("one more job has ended, or is seen to wait", || {
            let waits = daemon.demand().is_some_and(|demand| demand.waiting > 0);
            fake.stats().completed > before || (waiting == 0 && waits)
        })
        .await;
    }
    demand_is(&daemon, 0, 0).await;
    assert!(fake.jobs().iter().all(|job| job.completed_at.is_some() && job.lost.is_none()));
    assert!(fake.jobs().iter().all(|job| job.assignments == 1), "none was served twice");
    until("all are heard of", || {
        let words = kept.words();
        words.len() == 30 && words.values().all(|word| *word == JobWord::Done)
    })
    .await;
    until("all is acknowledged", || the_set(&fake).unwrap().unacknowledged == 0).await;
    let set = the_set(&fake).unwrap();
    assert_eq!((set.sessions, set.conflicts), (4, 0), "each one swept the dead session away");
    runners.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_second_daemon_waits_says_why_and_knows_no_demand() {
    let fake = fake(SetOptions::default()).await;
    let (kept, other) = (Arc::default(), Arc::default());
    let first = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    let second = Daemon::start(&fake, &other, vec![pool_set(5)]);
    until("a conflict", || second.status().conflict_since.is_some()).await;
    assert_eq!(second.demand(), None);
    let error = second.status().last_error.unwrap();
    assert!(error.contains("already has an active session"), "{error}");
    queue(&fake, 1);
    demand_is(&first, 1, 0).await;
    assert_eq!(the_set(&fake).unwrap().sessions, 1);
}

#[tokio::test]
async fn tokens_that_end_in_mid_poll_are_renewed_and_the_session_goes_on() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    fake.faults().end_queue_tokens();
    until("a renewal", || fake.set_calls(SetCall::RenewSession) == 1).await;
    queue(&fake, 1);
    demand_is(&daemon, 1, 0).await;
    assert_eq!(the_set(&fake).unwrap().sessions, 1);

    fake.faults().end_admin_tokens();
    let both = [1, 2].map(|token| order(&scope("octo-org"), token));
    let (one, two) = tokio::join!(daemon.forge.register(&both[0]), daemon.forge.register(&both[1]));
    one.and(two).unwrap();
    assert_eq!(fake.set_calls(SetCall::Connect), 2, "one renewal serves all that wait for it");
}

#[tokio::test]
async fn a_session_that_github_dropped_is_opened_anew() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    let first = the_set(&fake).unwrap();
    fake.faults().drop_sessions();
    until("another session", || the_set(&fake).unwrap().sessions == 2).await;
    queue(&fake, 2);
    demand_is(&daemon, 2, 0).await;
    assert_eq!(the_set(&fake).unwrap().id, first.id);
}

#[tokio::test]
async fn a_scale_set_that_was_deleted_is_made_anew_and_gets_the_jobs() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    let first = the_set(&fake).unwrap();
    queue(&fake, 2);
    demand_is(&daemon, 2, 0).await;
    fake.faults().delete_scale_sets();
    until("another scale set", || the_set(&fake).is_some_and(|set| set.id != first.id)).await;
    demand_is(&daemon, 2, 0).await;
    assert!(run_one(&fake, &*daemon.forge, 1).await.is_some());
    demand_is(&daemon, 1, 0).await;
}

#[tokio::test]
async fn lost_acknowledgements_and_repeated_messages_change_no_number() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    fake.faults().once_at_set(SetCall::Acknowledge, Once::DoAndHangUp);
    fake.faults().once_at_set(SetCall::Poll, Once::DoAndHangUp);
    queue(&fake, 1);
    demand_is(&daemon, 1, 0).await;
    queue(&fake, 1);
    demand_is(&daemon, 2, 0).await;
    until("all is acknowledged", || the_set(&fake).unwrap().unacknowledged == 0).await;
    let heard = kept.news.lock().unwrap().len();
    fake.faults().repeat_last_messages();
    until("it is heard again", || kept.news.lock().unwrap().len() > heard).await;
    until("all is acknowledged", || the_set(&fake).unwrap().unacknowledged == 0).await;
    demand_is(&daemon, 2, 0).await;
    assert_eq!(kept.words().len(), 2, "the same jobs");
}

#[tokio::test]
async fn news_that_the_disk_refuses_are_not_acknowledged() {
    let fake = fake(SetOptions::default()).await;
    let kept: Arc<Kept> = Arc::default();
    *kept.failing.lock().unwrap() = 1;
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    queue(&fake, 1);
    until("the failure is known", || daemon.status().last_error.is_some()).await;
    assert!(daemon.status().last_error.unwrap().contains("the disk is full"));
    assert_eq!(the_set(&fake).unwrap().unacknowledged, 1);
    assert_eq!(daemon.demand().unwrap().waiting, 1, "the number counts all the same");
    until("it is acknowledged", || the_set(&fake).unwrap().unacknowledged == 0).await;
    assert_eq!(kept.words().len(), 1);
}

#[tokio::test]
async fn jobs_that_must_be_acquired_are_left_where_their_repository_is_shut_out() {
    let fake = fake(SetOptions { must_be_acquired: true, ..SetOptions::default() }).await;
    let allow = vec!["octo-org/app".parse().unwrap()];
    let repositories = Repositories { allow, ..Repositories::default() };
    let of = |repository: &str| JobOrder {
        repository: Some(repository.to_owned()),
        ..JobOrder::new(&scope("octo-org"), &["small".to_owned()], Duration::from_secs(60))
    };
    let queue = |repository: &str| fake.queue(of(repository));
    // Half of them wait already when somebody first looks, the others are told of.
    let _queued = ["octo-org/other", "octo-org/app"].map(queue);
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![PoolSet { repositories, ..pool_set(9) }]);
    listening(&fake, 9).await;
    let _queued = ["octo-org/other", "octo-org/app"].map(queue);
    until("those that are let in are acquired", || the_set(&fake).unwrap().assigned == 2).await;
    let looked = fake.set_calls(SetCall::Acquirable);
    queue("octo-org/app");
    until("one more, and it has looked again", || {
        the_set(&fake).unwrap().assigned == 3 && fake.set_calls(SetCall::Acquirable) > looked
    })
    .await;
    assert_eq!(fake.jobs().len(), 5, "the others are left to others");
    daemon.stop().await;
}

#[tokio::test]
async fn where_jobs_must_be_acquired_they_are_up_to_the_maximum() {
    let fake = fake(SetOptions { must_be_acquired: true, ..SetOptions::default() }).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(2)]);
    listening(&fake, 2).await;
    queue(&fake, 3);
    demand_is(&daemon, 2, 0).await;
    assert_eq!(the_set(&fake).unwrap().assigned, 2, "the third is left to others");
    assert!(run_one(&fake, &*daemon.forge, 1).await.is_some());
    until("the third is acquired", || fake.set_calls(SetCall::Acquirable) > 0).await;
    until("it is ours", || the_set(&fake).unwrap().assigned == 2).await;
    demand_is(&daemon, 2, 0).await;
}

#[tokio::test]
async fn a_changed_maximum_is_told_at_once_and_not_at_the_end_of_a_poll() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(1)]);
    listening(&fake, 1).await;
    queue(&fake, 3);
    demand_is(&daemon, 1, 0).await;
    daemon.sets.configure(vec![pool_set(3)]);
    demand_is(&daemon, 3, 0).await;
    assert_eq!(the_set(&fake).unwrap().sessions, 1, "the session goes on");
    daemon.sets.configure(Vec::new());
    until("the session is closed", || the_set(&fake).unwrap().session.is_none()).await;
    assert_eq!(daemon.demand(), None);
}

#[tokio::test]
async fn runners_are_registered_listed_and_removed_by_the_actions_service() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    let (org, forge) = (scope("octo-org"), &daemon.forge);

    // An answer is lost: the name is taken, and taken again.
    fake.faults().once_at_set(SetCall::JitConfig, Once::DoAndHangUp);
    let lost = forge.register(&order(&org, 1)).await.unwrap_err();
    assert_eq!((lost.class, lost.certain), (ErrorClass::Transient, false));
    let registered = forge.register(&order(&org, 1)).await.unwrap();
    assert_eq!(fake.stats().registrations, 1);

    let mut listener = fake.connect(registered.jit_config.expose()).await.unwrap();
    queue(&fake, 1);
    listener.next_job().await;
    let idle = forge.register(&order(&org, 2)).await.unwrap();
    fake.add_registration(&org, "somebody-else", &labels());
    let listing = forge.list(&org).await.unwrap();
    let seen: Vec<_> =
        listing.entries.iter().map(|one| (one.name.clone(), one.online, one.busy)).collect();
    assert!(listing.complete, "{:?}", listing.faults);
    assert_eq!(seen, [(name(1), true, Some(true)), (name(2), false, Some(false))]);

    let busy = forge.deregister(&org, &name(1), Some(registered.id)).await.unwrap_err();
    assert_eq!(busy.class, ErrorClass::Busy);
    assert_eq!(forge.register(&order(&org, 1)).await.unwrap_err().class, ErrorClass::Busy);
    forge.deregister(&org, &name(2), None).await.unwrap();
    forge.deregister(&org, &name(2), Some(idle.id)).await.unwrap();
    forge.deregister(&org, &name(3), Some(RegistrationId(9999))).await.unwrap();
    listener.complete(true);
    assert_eq!(fake.stats().lost, 0);
    let by_rest =
        ["actions/generate-runner-jitconfig-for-org", "actions/delete-self-hosted-runner-from-org"];
    assert!(by_rest.iter().all(|call| !fake.stats().calls.contains_key(call)), "none by REST");
}

#[tokio::test]
async fn other_pools_are_served_by_the_rest_api_as_ever_and_listed_along() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let mut set = pool_set(5);
    set.pool = "other".parse().unwrap();
    let daemon = Daemon::start(&fake, &kept, vec![set]);
    listening(&fake, 5).await;
    let (org, forge) = (scope("octo-org"), &daemon.forge);
    let registered = forge.register(&order(&org, 1)).await.unwrap();
    assert_eq!(fake.set_calls(SetCall::JitConfig), 0);
    let listing = forge.list(&org).await.unwrap();
    assert_eq!(listing.entries.iter().map(|one| one.id).collect::<Vec<_>>(), [registered.id]);
    forge.deregister(&org, &name(1), Some(registered.id)).await.unwrap();
    assert_eq!((fake.set_calls(SetCall::RemoveAgent), fake.stats().registrations), (0, 0));
    let elsewhere = scope("another-org");
    assert!(forge.list(&elsewhere).await.unwrap().complete);
    assert_eq!(fake.set_calls(SetCall::Agents), 1, "only where there are scale sets");
}

#[tokio::test]
async fn a_listing_of_which_one_half_failed_is_incomplete() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    fake.faults().once_at_set(SetCall::Agents, Once::Refuse(502));
    let listing = daemon.forge.list(&scope("octo-org")).await.unwrap();
    assert!(!listing.complete);
    assert!(listing.faults[0].contains("502"), "{:?}", listing.faults);
}

#[tokio::test]
async fn a_runner_group_is_looked_up_by_name_and_a_wrong_one_is_said() {
    let groups = vec![
        Group { id: 1, name: "Default".to_owned(), default: true, closed: false },
        Group { id: 4, name: "trusted ones".to_owned(), default: false, closed: false },
    ];
    let fake = start(Options { groups, ..Options::default() }).await;
    let kept = Arc::default();
    let in_group = |group: &str| vec![super_set(group)];
    fn super_set(group: &str) -> runner_fleet::demand::scale_set::PoolSet {
        let mut set = pool_set(5);
        set.group = Some(group.to_owned());
        set
    }
    let daemon = Daemon::start(&fake, &kept, in_group("trusted ones"));
    listening(&fake, 5).await;
    daemon.sets.configure(in_group("nobody's"));
    until("the fault is said", || {
        daemon.status().last_error.is_some_and(|error| error.contains("nobody's"))
    })
    .await;
    assert_eq!(daemon.demand(), None);
}

#[tokio::test]
async fn without_the_permission_demand_is_unknown_and_what_is_missing_is_said() {
    let fake = fake(SetOptions::default()).await;
    fake.faults().forbid(true);
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    until("the fault is said", || {
        daemon.status().last_error.is_some_and(|error| error.contains("Self-hosted runners: write"))
    })
    .await;
    assert_eq!(daemon.demand(), None);
    let refused = daemon.forge.register(&order(&scope("octo-org"), 1)).await.unwrap_err();
    assert_eq!((refused.class, refused.certain), (ErrorClass::Transient, true));
    fake.faults().forbid(false);
    daemon.sets.end_hold();
    listening(&fake, 5).await;
    until("the error is over", || daemon.status().last_error.is_none()).await;
}

#[tokio::test]
async fn a_refused_way_to_the_actions_service_is_tried_once_for_all_who_want_it() {
    let fake = fake(SetOptions::default()).await;
    fake.faults().forbid(true);
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    until("the fault is said", || daemon.status().last_error.is_some()).await;
    let asked = || {
        fake.stats()
            .calls
            .get("actions/create-registration-token-for-org")
            .copied()
            .unwrap_or_default()
    };
    let before = asked();
    assert!((1..=2).contains(&before), "{before}");
    for _ in 0..20 {
        let _refused = daemon.forge.list(&scope("octo-org")).await;
    }
    assert_eq!(asked(), before, "the hold is one for listener, listings and launches");
    daemon.sets.end_hold();
    let _refused = daemon.forge.list(&scope("octo-org")).await;
    assert_eq!(asked(), before + 1, "a word that it is mended is one try");
}

#[tokio::test]
async fn a_system_clock_that_is_set_forward_ends_no_hold() {
    let fake = fake(SetOptions::default()).await;
    fake.faults().forbid(true);
    let (kept, ahead) = (Arc::default(), Arc::new(AtomicI64::new(0)));
    let hours = Arc::clone(&ahead);
    let wall = move || chrono::Utc::now() + chrono::TimeDelta::hours(hours.load(Ordering::SeqCst));
    let clock = Arc::new(TokioClock::with_wall(wall));
    let daemon = Daemon::start_by(clock, &fake, &kept, vec![pool_set(5)]);
    until("the fault is said", || daemon.status().last_error.is_some()).await;
    let asked = || fake.stats().calls.get("actions/create-registration-token-for-org").copied();
    let before = asked();
    assert!(before.is_some(), "it was asked at all");
    ahead.store(2, Ordering::SeqCst);
    for _ in 0..20 {
        assert!(daemon.forge.list(&scope("octo-org")).await.is_err());
    }
    assert_eq!(asked(), before);
}

#[tokio::test]
async fn no_token_and_no_jit_config_is_ever_shown() {
    let fake = fake(SetOptions::default()).await;
    let kept = Arc::default();
    let daemon = Daemon::start(&fake, &kept, vec![pool_set(5)]);
    listening(&fake, 5).await;
    let registered = daemon.forge.register(&order(&scope("octo-org"), 1)).await.unwrap();
    let mut shown = format!("{:?} {registered:?}", daemon.sets);
    let calls = [SetCall::JitConfig, SetCall::Agents, SetCall::RemoveAgent];
    for fault in [Once::Refuse(500), Once::DoAndHangUp, Once::DoAndSay(400)] {
        calls.iter().for_each(|call| fake.faults().once_at_set(*call, fault.clone()));
        let org = scope("octo-org");
        shown += &format!("{:?}", daemon.forge.register(&order(&org, 2)).await);
        shown += &format!("{:?}", daemon.forge.list(&org).await);
        shown += &format!("{:?}", daemon.forge.deregister(&org, &name(1), None).await);
    }
    fake.faults().end_queue_tokens();
    fake.faults().once_at_set(SetCall::RenewSession, Once::Refuse(500));
    until("an error of the session", || daemon.status().last_error.is_some()).await;
    shown += &format!("{:?}", daemon.status());
    for secret in [TOKEN, "AREG", "eyJ", &registered.jit_config.expose()[..20]] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}
