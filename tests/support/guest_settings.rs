//! What a real guest in a container is told, so that it finds the world of its test.

use runner_fleet::guest::{Application, Guest, Home, Settings};
use runner_fleet_actors::{
    name::RunnerName,
    port::{Secret, UserData},
};
use serde_json::Value;

use super::{
    guest_world::{World, jit_config, token},
    lxd_guests::{Lxd, stand_in},
};

/// A world for one runner application that behaves as `wish` says, and the settings that lead to it.
pub async fn world(lxd: &Lxd, mut wish: Value) -> (World, Settings) {
    let (archive, sha256) = stand_in(&wish);
    let world = World::start(&lxd.bridge, archive).await;
    wish["STAND_IN_GITHUB"] = world.url().into();
    let env = wish.as_object().unwrap().iter();
    let env = env.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect();
    let settings = Settings {
        application: Application::Mirror {
            url: format!("{}/application.tar.gz", world.url()),
            sha256,
        },
        env,
        home: Some(Home { url: world.url(), ca_pem: None }),
        ..Settings::default()
    };
    (world, settings)
}

/// The user data of one runner of a world.
pub fn user_data(settings: &Settings, name: &str) -> String {
    let guest = Guest::new(
        settings.clone(),
        |name: &RunnerName| Secret::new(token(name.as_str())),
        |_| None,
    );
    let rendered = guest.render(&name.parse().unwrap(), &Secret::new(jit_config(name)));
    rendered.unwrap().expose().to_owned()
}
