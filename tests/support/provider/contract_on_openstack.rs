//! What the contract's suite asks of an OpenStack, real or fake: one with image `debian-12`, flavors
//! `m1.tiny` and `no.such.host`, network `demo-net`, and two networks `twin-net`.

use std::sync::Arc;

use runner_fleet::provider::openstack::{OpenStack, OpenStackConfig, cloud::CloudConfig};
use runner_fleet_actors::{
    name::FleetId,
    port::{Provider, Shape, TokioClock},
};

pub async fn connect(cloud: CloudConfig, fleet: &FleetId, page_size: u32) -> Box<dyn Provider> {
    let config = OpenStackConfig { page_size, ..OpenStackConfig::new(cloud, fleet.clone()) };
    let clock = Arc::new(TokioClock::starting_at(chrono::Utc::now()));
    Box::new(OpenStack::connect(config, clock).await.unwrap())
}

pub fn shape() -> Shape {
    Shape {
        image: "debian-12".into(),
        flavor: "m1.tiny".into(),
        network: Some("demo-net".into()),
        ..Shape::default()
    }
}

pub fn unknown() -> Vec<(Shape, String, Option<String>)> {
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
