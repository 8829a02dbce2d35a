//! Every provider keeps the contract of `Provider`: here OpenStack on the fake cloud, and in
//! `tests/openstack` and `tests/lxd` each on a real one.

use async_trait::async_trait;
use runner_fleet::{
    fake::openstack::{FakeOpenstack, Options},
    provider::openstack::cloud::{CloudConfig, Sources},
};
use runner_fleet_actors::{
    name::FleetId,
    port::{Provider, Shape},
};

use crate::support::provider::{
    contract::{self, Environment},
    contract_on_openstack::{connect, shape, unknown},
};

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

    async fn plant(&self, name: &str, owner: Option<&FleetId>) -> Option<String> {
        let tag = owner.map(|owner| format!("runner-fleet:{owner}"));
        Some(self.0.plant(name, &tag.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    async fn raw_names(&self, _prefix: &str) -> Option<Vec<String>> {
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
    what_has_changed_is_told_down_to_a_deletion,
    user_data_that_no_cloud_takes_is_refused_without_a_call,
    a_revoked_token_is_renewed_and_nobody_notices,
);
