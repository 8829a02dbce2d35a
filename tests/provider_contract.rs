//! Every provider keeps the contract of `Provider`: OpenStack on the fake cloud always, OpenStack and
//! LXD on real ones where there are any.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use runner_fleet::{
    fake::openstack::{FakeOpenstack, Options},
    provider::{
        lxd::{Lxd, LxdConfig},
        openstack::{
            OpenStack, OpenStackConfig,
            cloud::{CloudConfig, Sources},
        },
    },
};
use runner_fleet_actors::{
    name::FleetId,
    port::{LxdShape, Provider, Shape, TokioClock},
};

#[path = "provider/contract.rs"]
mod contract;
#[path = "support/lxd_gate.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod gate;
#[path = "support/lxd.rs"]
mod lxd;

use contract::Environment;
use gate::Gate;
use lxd::RealLxd;

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

fn unknown() -> Vec<(Shape, String, Option<String>)> {
    let no = || "no-such-thing".to_owned();
    let named = [
        (Shape { image: no(), ..shape() }, "debian-12"),
        (Shape { flavor: no(), ..shape() }, "m1.tiny"),
        (Shape { network: Some(no()), ..shape() }, "demo-net"),
    ];
    let refused = [
        Shape { security_groups: vec![no()], ..shape() },
        Shape { key: Some(no()), ..shape() },
        Shape { availability_zone: Some(no()), ..shape() },
    ];
    let named = named.map(|(shape, known)| (shape, no(), Some(known.to_owned())));
    named.into_iter().chain(refused.map(|shape| (shape, no(), None))).collect()
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

/// A real LXD, and what the suite put there by hand.
struct Planted {
    lxd: RealLxd,
    /// Where providers reach it, and what they make there.
    reached: RealLxd,
    shape: Shape,
    names: Mutex<Vec<String>>,
}

#[async_trait]
impl Environment for Planted {
    async fn provider(&self, fleet: &FleetId, _page_size: u32) -> Box<dyn Provider> {
        let clock = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
        let config = LxdConfig::new(self.reached.access(), fleet.clone());
        // However busy the machine is, a launch is waited for.
        Box::new(Lxd::connect(LxdConfig { follow: self.patience(), ..config }, clock).unwrap())
    }

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn fleet(&self) -> FleetId {
        lxd::fleet()
    }

    fn unknown(&self) -> Vec<(Shape, String, Option<String>)> {
        let no = || "no-such-thing".to_owned();
        let lxd = |lxd: LxdShape| Shape { lxd: Some(lxd), ..self.lxd.shape() };
        let cases = [
            (Shape { image: no(), ..self.lxd.shape() }, no(), "tiny"),
            (
                Shape { image: "deadbeefdead".into(), ..self.lxd.shape() },
                "deadbeefdead".into(),
                "tiny",
            ),
            (Shape { network: Some(no()), ..self.lxd.shape() }, no(), "lxdbr0"),
            (lxd(LxdShape { profiles: vec![no()], ..LxdShape::default() }), no(), "default"),
            (lxd(LxdShape { storage_pool: Some(no()), ..LxdShape::default() }), no(), "default"),
            (lxd(LxdShape { target: Some(no()), ..LxdShape::default() }), no(), "no cluster"),
        ];
        cases.map(|(shape, no, known)| (shape, no, Some(known.to_owned()))).into()
    }

    async fn plant(&self, name: &str, owner: Option<&FleetId>) -> Option<String> {
        // A second one of a name is refused by LXD itself.
        if !self.lxd.plant(name, owner).await {
            return None;
        }
        self.names.lock().unwrap().push(name.to_owned());
        Some(name.to_owned())
    }

    async fn clear(&self) {
        let names = std::mem::take(&mut *self.names.lock().unwrap());
        for name in names {
            self.lxd.delete(&name).await;
        }
    }

    async fn raw_names(&self, prefix: &str) -> Option<Vec<String>> {
        let names = self.lxd.names().await;
        Some(names.into_iter().filter(|name| name.starts_with(prefix)).collect())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

impl Planted {
    fn containers(lxd: RealLxd) -> Self {
        Self { reached: lxd.clone(), shape: lxd.shape(), lxd, names: Mutex::default() }
    }
}

#[tokio::test]
async fn the_contract_holds_on_a_real_lxd() {
    if let Some(lxd) = RealLxd::found() {
        contract::holds(&Planted::containers(lxd)).await;
    }
}

#[tokio::test]
async fn the_contract_holds_for_a_real_lxds_virtual_machines_short_of_their_start() {
    let Some(lxd) = RealLxd::found() else { return };
    if !lxd.makes_vms().await {
        return;
    }
    let gate = Gate::before(lxd.socket.clone());
    gate.keep_starts_back();
    let reached = RealLxd { socket: gate.socket.clone(), ..lxd.clone() };
    let env = Planted { reached, shape: lxd.vm_shape(), ..Planted::containers(lxd) };
    contract::a_name_is_launched_once_however_often_it_is_asked_for(&env).await;
    contract::a_delete_is_accepted_then_gone_and_gone_again(&env).await;
    contract::the_vms_of_others_are_neither_listed_nor_deleted(&env).await;
    contract::a_listing_of_many_pages_is_one_sweep(&env).await;
}
