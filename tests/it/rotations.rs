//! Secrets that are replaced while the daemon runs: the new one is used after a reload, and where somebody
//! refuses the old one also without.

use crate::support::{
    e2e::{Daemon, Home, PATIENCE, eventually},
    e2e_fakes::{API_TOKEN, INSTALLATION, Outside, TOKEN, nothing_secret_was_said, pool},
};

const SCOPE: &str = "octo-org";
const OTHER_KEY: &str = include_str!("../data/app-keys/other.pem");
const OTHER_PUBLIC_KEY: &str = include_str!("../data/app-keys/other.pub.pem");

fn app() -> String {
    format!(
        "app = {{ id = 4711, installation_id = {INSTALLATION}, private_key_file = \"app.pem\" }}"
    )
}

async fn running(auth: &str) -> (Outside, Home, Daemon) {
    let outside = Outside::start(11).await;
    let home = Home::new();
    outside.furnish(&home);
    home.configure(&(outside.head(auth) + &pool("small", SCOPE, "min = 1\nmax = 4")));
    let daemon = home.start();
    home.holds("small", "idle", 1).await;
    (outside, home, daemon)
}

async fn another_runner(home: &Home, wanted: u64) {
    home.cli(&["target", "small", &wanted.to_string()]).await.good();
    home.holds("small", "idle", wanted).await;
}

#[tokio::test]
async fn a_new_app_key_signs_from_the_reload_on() {
    let (outside, home, daemon) = running(&app()).await;
    outside.github.faults().replace_app_key(OTHER_PUBLIC_KEY);
    home.secret("app.pem", OTHER_KEY);
    let done = home.cli(&["reload"]).await.good();
    assert!(done.contains("github is renewed"), "{done}");
    outside.github.faults().revoke_installation_tokens();
    another_runner(&home, 2).await;
    assert!(!daemon.said().contains("could not be decoded"), "the old key was not used again");
    let again = home.cli(&["reload"]).await.good();
    assert!(!again.contains("renewed"), "{again}");

    home.secret("app.pem", "hunter2");
    let told = home.cli(&["reload"]).await.bad(1);
    assert!(told.contains("app.pem") && told.contains("no key in PEM form"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    another_runner(&home, 3).await;
    nothing_secret_was_said(&home, &outside.secrets());
}

#[tokio::test]
async fn a_new_app_key_is_found_where_the_old_one_is_refused() {
    let (outside, home, daemon) = running(&app()).await;
    home.secret("app.pem", OTHER_KEY);
    outside.github.faults().replace_app_key(OTHER_PUBLIC_KEY);
    outside.github.faults().revoke_installation_tokens();
    another_runner(&home, 2).await;
    assert!(daemon.said().contains("the private key of the github app was replaced"));
}

#[tokio::test]
async fn new_tokens_and_passwords_take_the_place_of_the_old_ones() {
    let (outside, home, daemon) = running("token_file = \"token\"").await;
    // GitHub's token, by a reload.
    outside.github.faults().accept("github_pat_second");
    home.secret("token", "github_pat_second");
    assert!(home.cli(&["reload"]).await.good().contains("github is renewed"));
    outside.github.faults().revoke(TOKEN);
    another_runner(&home, 2).await;

    // And without one, where GitHub refuses it.
    outside.github.faults().accept("github_pat_third");
    home.secret("token", "github_pat_third");
    outside.github.faults().revoke("github_pat_second");
    another_runner(&home, 3).await;

    // The cloud's password, by a reload.
    let clouds = outside.cloud.clouds_yaml();
    outside.cloud.faults().replace_password("second-password");
    home.secret("clouds.yaml", &clouds.replace("fake-cloud-password", "second-password"));
    assert!(home.cli(&["reload"]).await.good().contains("provider fake is renewed"));
    outside.cloud.faults().revoke_tokens();
    another_runner(&home, 4).await;

    // And without one, where the cloud refuses it.
    outside.cloud.faults().replace_password("third-password");
    home.secret("clouds.yaml", &clouds.replace("fake-cloud-password", "third-password"));
    outside.cloud.faults().revoke_tokens();
    another_runner(&home, 3).await;
    eventually(PATIENCE, "the cloud lets one go", || async {
        (outside.vms_of("small") == 3).then_some(())
    })
    .await;
    assert!(daemon.said().contains("what it is reached with was replaced"));
    let again = home.cli(&["reload"]).await.good();
    assert!(!again.contains("provider fake is renewed"), "it has what is there: {again}");
    let mut secrets = outside.secrets();
    secrets
        .extend(["second-password", "third-password", "pat_second", "pat_third"].map(String::from));
    nothing_secret_was_said(&home, &secrets);
}

#[tokio::test]
async fn the_old_token_of_the_api_is_refused_after_a_reload() {
    let (_outside, home, daemon) = running("token_file = \"token\"").await;
    let said = daemon.said();
    let line = said.lines().find(|line| line.contains("api listens")).unwrap();
    let port = line.split("127.0.0.1:").nth(1).unwrap();
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let ask = async |token: &str| {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(format!("http://127.0.0.1:{port}/v1/status")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((ask(API_TOKEN).await, ask("second-token").await), (200, 401));
    home.secret("api-token", "second-token");
    let done = home.cli(&["reload"]).await.good();
    assert!(done.contains("the api's token is renewed"), "{done}");
    assert_eq!((ask(API_TOKEN).await, ask("second-token").await), (401, 200));
    let again = home.cli(&["reload"]).await.good();
    assert!(!again.contains("renewed"), "{again}");
}
