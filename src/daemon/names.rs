//! Whoever asks GitHub what the scopes of the pools are called, and tells it to the desk.

use std::time::Duration;

use runner_fleet_actors::port::Clock;

use crate::{
    demand::desk::Desk,
    github::{
        names::{self, Names, Question},
        records::Records,
    },
};

/// Asks whenever something is in doubt, for ever. One question at a time: a fleet of many scopes spends no
/// burst of calls on its start.
pub(super) async fn keep(names: &Names, records: &dyn Records, desk: &Desk, clock: &dyn Clock) {
    loop {
        let now = clock.now();
        let (due, next) = names.book(|book| book.due(now));
        for question in &due {
            ask(names, records, desk, clock, question).await;
        }
        if !due.is_empty() {
            continue;
        }
        let wait = next.map(|at| (at - now).to_std().unwrap_or_default());
        let sleep = tokio::time::sleep(wait.unwrap_or(Duration::MAX));
        tokio::select! {
            () = names.doubted() => {}
            renamed = desk.renamed() => renamed.iter().for_each(|scope| names.doubt(scope)),
            () = sleep => {}
        }
    }
}

async fn ask(
    names: &Names,
    records: &dyn Records,
    desk: &Desk,
    clock: &dyn Clock,
    question: &Question,
) {
    let answer = records.identity(question).await;
    if let Err(error) = &answer {
        tracing::debug!(scope = %question.scope, %error, "what a scope is called is not told");
    }
    let answer = answer.map_err(|error| error.class);
    let known = names.book(|book| {
        let news = book.learn(question, answer, clock.now());
        news.then(|| book.known())
    });
    let Some(known) = known else { return };
    desk.learn(&known);
    match known.get(&question.scope) {
        Some(known) => match names::told(&question.scope, known) {
            Some(told) => tracing::warn!(scope = %question.scope, %told, "a scope has moved"),
            None => {
                tracing::info!(scope = %question.scope, id = known.id, "github told a scope's number");
            }
        },
        None => {
            let (scope, id) = (&question.scope, question.id);
            tracing::warn!(%scope, id, "github has no such number any more; the name decides anew");
        }
    }
}
