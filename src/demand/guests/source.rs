//! The guests' reports as a source of the daemon's.

use std::sync::Arc;

use runner_fleet_actors::{
    event::FleetEvent,
    port::{DemandSource, Observer},
};

use super::GuestReports;
use crate::{
    config::{Config, DemandKind, Pool},
    demand::source::{House, Kind, Source, details},
    http::api::SourceStatus,
};

/// Pools with `demand = ["guests"]`. Where guests report is no matter of demand: `[guests]` is for orders
/// as well.
pub struct OfGuests;

impl Kind for OfGuests {
    fn name(&self) -> &'static str {
        "guests"
    }

    fn make(&self, _: &Config, house: &House) -> Result<Option<Box<dyn Source>>, String> {
        Ok(Some(Box::new(Hearing(GuestReports::new(Arc::clone(&house.clock))))))
    }
}

struct Hearing(Arc<GuestReports>);

impl Source for Hearing {
    fn of(&self, pool: &Pool) -> Option<Arc<dyn DemandSource>> {
        let reports = || Arc::clone(&self.0) as Arc<dyn DemandSource>;
        pool.demand.contains(&DemandKind::Guests).then(reports)
    }

    /// Nothing where no guest has ever reported.
    fn status(&self) -> Vec<SourceStatus> {
        let status = Some(self.0.status()).filter(|status| status.words > 0);
        let shown = status.map(|status| SourceStatus {
            source: "guests".to_owned(),
            connected_since: None,
            last_word_at: status.last_word_at,
            signals: status.words,
            last_error: None,
            failing_since: None,
            details: details(&status),
        });
        shown.into_iter().collect()
    }

    fn observe(&self, event: &FleetEvent) {
        self.0.observe(event);
    }
}
