//! The contract of `Provider` on a real LXD, for containers and for virtual machines.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use runner_fleet_actors::{
    name::FleetId,
    port::{LxdShape, Provider, Shape},
};

use crate::support::{
    lxd::{self, RealLxd},
    lxd_gate::Gate,
    provider::contract::{self, Environment},
};

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
        Box::new(self.reached.provider(fleet))
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
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn the_contract_holds_on_a_real_lxd() {
    contract::holds(&Planted::containers(RealLxd::found())).await;
}

#[tokio::test]
#[ignore = "needs a real LXD: tests/lxd/up.sh"]
async fn the_contract_holds_for_a_real_lxds_virtual_machines_short_of_their_start() {
    let lxd = RealLxd::found();
    if !lxd.makes_vms().await {
        return;
    }
    let gate = Gate::before(lxd.socket.clone());
    gate.keep_starts_back();
    let reached = gate.reached(&lxd);
    let env = Planted { reached, shape: lxd.vm_shape(), ..Planted::containers(lxd) };
    contract::a_name_is_launched_once_however_often_it_is_asked_for(&env).await;
    contract::a_delete_is_accepted_then_gone_and_gone_again(&env).await;
    contract::the_vms_of_others_are_neither_listed_nor_deleted(&env).await;
    contract::a_listing_of_many_pages_is_one_sweep(&env).await;
}
