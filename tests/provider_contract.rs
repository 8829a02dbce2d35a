//! Every provider keeps the contract of `Provider`: OpenStack on the fake cloud always, and on a real
//! one where there is one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use runner_fleet::{
    fake::openstack::{FakeOpenstack, Options},
    provider::openstack::{
        OpenStack, OpenStackConfig,
        cloud::{CloudConfig, Sources},
    },
};
use runner_fleet_actors::{
    name::FleetId,
    port::{Provider, Shape, TokioClock},
};

#[path = "provider/contract.rs"]
mod contract;

use contract::Environment;

async fn connect(cloud: CloudConfig, fleet: &FleetId, page_size: u32) -> Box<dyn Provider> {
    let config = OpenStackConfig { page_size, ..OpenStackConfig::new(cloud, fleet.clone()) };
    let clock = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    Box::new(OpenStack::connect(config, clock).await.unwrap())
}

fn shape() -> Shape {
    Shape {
        image: "debian-12".into(),
        flavor: "m1.tiny".into(),
        network: Some("demo-net".into()),
        ..Shape::default()
    }
}

struct Fake(FakeOpenstack);

impl Fake {
    async fn start() -> Self {
        let networks = ["demo-net", "twin-net", "twin-net"].map(str::to_owned).to_vec();
        let options = Options { networks, page_limit: 3, ..Options::default() };
        Self(FakeOpenstack::start(options).await.unwrap())
    }
}

#[async_trait]
impl Environment for Fake {
    async fn provider(&self, fleet: &FleetId, page_size: u32) -> Box<dyn Provider> {
        let clouds = Some(("clouds.yaml".into(), self.0.clouds_yaml()));
        let found = Sources { clouds, ..Sources::default() };
        connect(CloudConfig::parse(&found, None).unwrap(), fleet, page_size).await
    }

    fn shape(&self) -> Shape {
        shape()
    }

    fn fleet(&self) -> FleetId {
        "ci".parse().unwrap()
    }

    fn hopeless_flavor(&self) -> Option<String> {
        Some("no.such.host".into())
    }

    fn ambiguous_network(&self) -> Option<String> {
        Some("twin-net".into())
    }

    fn plant(&self, name: &str, tags: &[&str]) -> Option<String> {
        Some(self.0.plant(name, tags))
    }

    fn raw_names(&self) -> Option<Vec<String>> {
        Some(self.0.vms().into_iter().map(|vm| vm.name).collect())
    }

    fn revoke_tokens(&self) -> bool {
        self.0.faults().revoke_tokens();
        true
    }
}

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $case() {
            contract::$case(&Fake::start().await).await;
        }
    )+};
}

cases!(
    a_launched_vm_is_listed_with_all_that_a_restart_needs,
    a_name_is_launched_once_however_often_it_is_asked_for,
    a_delete_is_accepted_then_gone_and_gone_again,
    what_the_cloud_does_not_know_is_answered_with_what_it_knows,
    an_ambiguous_network_is_answered_with_the_ids_to_choose_from,
    a_vm_that_found_no_host_says_no_capacity_and_can_be_deleted,
    the_vms_of_others_are_neither_listed_nor_deleted,
    a_listing_of_many_pages_is_one_sweep,
    user_data_that_no_cloud_takes_is_refused_without_a_call,
    a_revoked_token_is_renewed_and_nobody_notices,
);

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

    fn hopeless_flavor(&self) -> Option<String> {
        Some("no.such.host".into())
    }

    fn ambiguous_network(&self) -> Option<String> {
        Some("twin-net".into())
    }

    fn plant(&self, _name: &str, _tags: &[&str]) -> Option<String> {
        None
    }

    fn raw_names(&self) -> Option<Vec<String>> {
        None
    }

    fn revoke_tokens(&self) -> bool {
        false
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

#[tokio::test]
async fn the_contract_holds_on_a_real_openstack() {
    let Ok(path) = std::env::var("RUNNER_FLEET_TEST_CLOUDS_YAML") else {
        eprintln!(
            "skipped, because RUNNER_FLEET_TEST_CLOUDS_YAML is not set (tests/openstack/up.sh \
             starts one)"
        );
        return;
    };
    let name = std::env::var("RUNNER_FLEET_TEST_CLOUD").unwrap_or_else(|_| "ostest".to_owned());
    let cloud = CloudConfig::load(Some(Path::new(&path)), Some(&name)).unwrap();
    contract::holds(&Real(cloud)).await;
}
