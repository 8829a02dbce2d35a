//! The contract of `Provider` on a real OpenStack.

use std::time::Duration;

use async_trait::async_trait;
use runner_fleet::provider::openstack::cloud::CloudConfig;
use runner_fleet_actors::{
    name::FleetId,
    port::{Provider, Shape},
};

use crate::support::{
    openstack,
    provider::{
        contract::{self, Environment},
        contract_on_openstack::{connect, shape, unknown},
    },
};

/// An OpenStack with image `debian-12`, flavors `m1.tiny` and `no.such.host`, network `demo-net`, and
/// two networks `twin-net`: what `tests/openstack/up.sh` makes.
struct Real(CloudConfig);

#[async_trait]
impl Environment for Real {
    async fn provider(&self, fleet: &FleetId, page_size: u32) -> Box<dyn Provider> {
        connect(self.0.clone(), fleet, page_size).await
    }

    fn shape(&self) -> Shape {
        shape()
    }

    /// Another one each time: an earlier run may have left something behind.
    fn fleet(&self) -> FleetId {
        let random = uuid::Uuid::new_v4().simple().to_string();
        format!("t{}", &random[..10]).parse().unwrap()
    }

    fn unknown(&self) -> Vec<(Shape, String, Option<String>)> {
        unknown()
    }

    fn hopeless(&self) -> Option<Shape> {
        Some(Shape { flavor: "no.such.host".into(), ..shape() })
    }

    fn ambiguous_network(&self) -> Option<String> {
        Some("twin-net".into())
    }

    fn user_data_limit(&self) -> Option<usize> {
        Some(65_535)
    }

    fn tells_changes(&self) -> bool {
        true
    }

    async fn plant(&self, _name: &str, _owner: Option<&FleetId>) -> Option<String> {
        None
    }

    async fn raw_names(&self, _prefix: &str) -> Option<Vec<String>> {
        None
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

#[tokio::test]
#[ignore = "needs a real OpenStack: tests/openstack/up.sh"]
async fn the_contract_holds_on_a_real_openstack() {
    let _alone = openstack::CLOUD.lock().await;
    let path = openstack::clouds_yaml();
    let name = std::env::var("RUNNER_FLEET_TEST_CLOUD").unwrap_or_else(|_| "ostest".to_owned());
    let cloud = CloudConfig::load(Some(&path), Some(&name)).unwrap();
    contract::holds(&Real(cloud)).await;
}
