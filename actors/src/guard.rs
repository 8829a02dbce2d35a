//! The drop guard that reports an actor's end to its parent.
//!
//! Measured on actix 0.13.5: a panic in a handler or in a spawned future ends that actor only, and
//! nobody is told; `actix::Supervisor` does not restart it. A guard inside the actor is dropped on
//! every end, so the parent always learns of it. Nothing here may panic: a second panic during an
//! unwind aborts the process.

use actix::{Message, Recipient};

/// A child came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Died<K: Send + 'static> {
    /// Which child.
    pub key: K,
    /// Which of the starts of that child it was; an older one's end is no news.
    pub start: u64,
    /// Whether it ended as it should.
    pub orderly: bool,
}

/// Held by the child; reports when it is dropped.
#[derive(Debug)]
pub struct Guard<K: Clone + Send + 'static> {
    key: K,
    start: u64,
    orderly: bool,
    parent: Recipient<Died<K>>,
}

impl<K: Clone + Send + 'static> Guard<K> {
    /// A guard that tells `parent` of the end of `key`.
    #[must_use]
    pub fn new(key: K, start: u64, parent: Recipient<Died<K>>) -> Self {
        Self { key, start, orderly: false, parent }
    }

    /// The end that follows is as it should be.
    pub fn orderly(&mut self) {
        self.orderly = true;
    }

    /// Whether the parent still lives.
    #[must_use]
    pub fn parent_lives(&self) -> bool {
        self.parent.connected()
    }
}

impl<K: Clone + Send + 'static> Drop for Guard<K> {
    fn drop(&mut self) {
        let orderly = self.orderly && !std::thread::panicking();
        self.parent.do_send(Died { key: self.key.clone(), start: self.start, orderly });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a guard is for actors that panic")]

    use std::panic::{AssertUnwindSafe, catch_unwind};

    use actix::{Actor, ActorContext, Addr, Context, Handler, MessageResult};

    use super::*;

    /// Which children have ended, and whether as they should.
    #[derive(Default)]
    struct Parent(Vec<(&'static str, bool)>);

    #[derive(Message)]
    #[rtype(result = "Vec<(&'static str, bool)>")]
    struct Told;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Stop;

    impl Actor for Parent {
        type Context = Context<Self>;
    }

    impl Handler<Died<&'static str>> for Parent {
        type Result = ();

        fn handle(&mut self, died: Died<&'static str>, _: &mut Context<Self>) {
            self.0.push((died.key, died.orderly));
        }
    }

    impl Handler<Told> for Parent {
        type Result = MessageResult<Told>;

        fn handle(&mut self, _: Told, _: &mut Context<Self>) -> Self::Result {
            MessageResult(self.0.clone())
        }
    }

    impl Handler<Stop> for Parent {
        type Result = ();

        fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
            context.stop();
        }
    }

    fn guard(key: &'static str, parent: &Addr<Parent>) -> Guard<&'static str> {
        Guard::new(key, 1, parent.clone().recipient())
    }

    #[test]
    fn an_end_is_orderly_only_where_that_was_said_and_nothing_panicked() {
        actix::System::new().block_on(async {
            let parent = Parent::default().start();
            drop(guard("unsaid", &parent));
            let mut said = guard("said", &parent);
            said.orderly();
            drop(said);
            let mut panics = guard("panics", &parent);
            panics.orderly();
            let ended = catch_unwind(AssertUnwindSafe(move || {
                let _held = panics;
                panic!("a child's own fault");
            }));
            assert!(ended.is_err());
            let told = parent.send(Told).await.unwrap_or_default();
            assert_eq!(told, [("unsaid", false), ("said", true), ("panics", false)]);
        });
    }

    #[test]
    fn a_child_can_see_that_its_parent_is_gone() {
        actix::System::new().block_on(async {
            let parent = Parent::default().start();
            let child = guard("child", &parent);
            assert!(child.parent_lives());
            parent.do_send(Stop);
            while parent.connected() {
                tokio::task::yield_now().await;
            }
            assert!(!child.parent_lives());
        });
    }
}
