//! Trouble at GitHub's side as an operator meets it: told by `status`, `/readyz` and `why-waiting` while
//! it lasts, and over at a word once it is mended.

use std::time::Duration;

use runner_fleet::fake::github::{Once, Operation};
use serde_json::Value;

use crate::support::{
    e2e::{Home, PATIENCE, eventually},
    e2e_fakes::{Outside, TOKEN, pool},
};

const SCOPE: &str = "octo-org";
/// Shorter than the first hold after a refusal, which is 30 seconds or so.
const AT_ONCE: Duration = Duration::from_secs(20);

async fn furnished(seed: u64) -> (Outside, Home) {
    let outside = Outside::start(seed).await;
    let home = Home::new();
    outside.furnish(&home);
    let text = outside.head("token_file = \"token\"") + &pool("small", SCOPE, "min = 1\nmax = 2");
    home.configure(&text);
    (outside, home)
}

fn trouble(status: &Value) -> Option<Value> {
    let of_scope = |one: &&Value| one["side"] == "scope" && one["name"] == SCOPE;
    let listing = status["listings"].as_array()?.iter().find(of_scope)?;
    listing["trouble"].is_object().then(|| listing["trouble"].clone())
}

#[tokio::test]
async fn a_github_that_refuses_us_is_told_while_it_does_and_not_after() {
    let (outside, home) = furnished(71).await;
    let _daemon = home.start();
    home.holds("small", "idle", 1).await;
    home.ready().await;
    outside.github.faults().revoke(TOKEN);
    home.cli(&["reconcile"]).await.good();
    let status = eventually(PATIENCE, "the fleet is not ready", || async {
        home.status().await.filter(|status| status["ready"] == false)
    })
    .await;
    let trouble_told = trouble(&status).expect("what fails");
    assert!(trouble_told["since"].is_string() && trouble_told["until"].is_string(), "{status}");
    assert!(trouble_told["error"]["what"].as_str().unwrap().contains("401"), "{status}");
    let table = home.cli(&["status"]).await.good();
    let row = table.lines().find(|line| line.starts_with("github octo-org")).expect("a row");
    assert!(row.contains("fails since") && row.contains("held until"), "{table}");
    assert!(table.contains("NOT READY"), "{table}");
    // What was wrong is mended, and said to be.
    outside.github.faults().accept(TOKEN);
    home.cli(&["reconcile"]).await.good();
    home.ready().await;
    let status = home.status().await.unwrap();
    assert_eq!(trouble(&status), None, "{status}");
    assert!(!home.cli(&["status"]).await.good().contains("fails since"));
}

#[tokio::test]
async fn a_scope_that_was_never_listed_has_a_row_that_says_since_when() {
    let (outside, home) = furnished(72).await;
    outside.github.faults().forbid(true);
    let _daemon = home.start();
    let status = eventually(PATIENCE, "the row says what fails", || async {
        home.status().await.filter(|status| trouble(status).is_some())
    })
    .await;
    assert_eq!(status["ready"], false, "{status}");
    let table = home.cli(&["status"]).await.good();
    let row = table.lines().find(|line| line.starts_with("github octo-org")).expect("a row");
    assert!(row.contains("not listed yet since") && row.contains("403"), "{table}");
}

/// `word`: what ends the hold.
async fn a_hold_ends_at(word: &str, seed: u64) {
    let (outside, home) = furnished(seed).await;
    let refusal = r#"{"message": "Resource not accessible by personal access token"}"#;
    for _ in 0..8 {
        let refused = Once::Say(403, refusal.to_owned());
        outside.github.faults().once(Operation::JitConfig, refused);
    }
    let _daemon = home.start();
    let held = |pool: Value| pool["holds"][0]["until"].is_string().then_some(pool);
    eventually(PATIENCE, "launches are held", || async { held(home.pool("small").await?) }).await;
    // Still wrong: one launch finds out, and no burst.
    home.cli(&[word]).await.good();
    eventually(AT_ONCE, "the probe has failed", || async {
        let pool = home.pool("small").await?;
        (pool["holds"][0]["failures"] == 2).then_some(())
    })
    .await;
    // Mended.
    outside.github.faults().forget(Operation::JitConfig);
    home.cli(&[word]).await.good();
    eventually(AT_ONCE, "the launch goes through", || async {
        let pool = home.pool("small").await?;
        (pool["counts"]["idle"] == 1 && pool["holds"] == serde_json::json!([])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hold_ends_at_reconcile_and_one_launch_finds_out() {
    a_hold_ends_at("reconcile", 73).await;
}

#[tokio::test]
async fn a_hold_ends_at_reload_and_one_launch_finds_out() {
    a_hold_ends_at("reload", 74).await;
}
