//! What a configuration may say of Canonical's planner.

use crate::support::config::{GOOD, assert_refused, parse, refused, with};
use runner_fleet::config::SecretSource;

const ACCESS: &str = "url = \"http://planner:8080\"\ntoken_file = \"p\"";

fn planner(body: &str) -> String {
    with("[github]", &format!("[planner]\n{body}\n[github]"))
        .replace("max = 5", "max = 5\ndemand = [\"planner\"]")
}

#[test]
fn one_fleet_alone_serves_all_of_the_pressure_of_the_flavor_named_as_its_pool() {
    let config = parse(&planner(ACCESS)).unwrap_or_else(|f| panic!("{f}"));
    let access = config.planner.unwrap();
    assert_eq!(access.url.as_str(), "http://planner:8080/");
    assert_eq!(access.token, SecretSource::File("/etc/p".into()));
    assert_eq!((access.units, access.unit, access.ca_file), (1, 0, None));
    assert_eq!(config.pools[0].planner_flavor, "small");
    assert_eq!(parse(GOOD).unwrap().planner, None);
}

#[test]
fn units_and_another_flavor_are_read() {
    let body = format!("{ACCESS}\nunits = 3\nunit = 2\nca_file = \"ca.pem\"");
    let pool = planner(&body).replace("max = 5", "max = 5\nplanner = { flavor = \"noble\" }");
    let config = parse(&pool).unwrap_or_else(|f| panic!("{f}"));
    let access = config.planner.unwrap();
    assert_eq!((access.units, access.unit), (3, 2));
    assert_eq!(access.ca_file, Some("/etc/ca.pem".into()));
    assert_eq!(config.pools[0].planner_flavor, "noble");
}

#[test]
fn a_planner_that_could_not_be_asked_is_refused() {
    let more = |body: &str| planner(&format!("{ACCESS}\n{body}"));
    assert_refused(&planner(""), &["planner.url: is needed", "planner.token_file: is needed"]);
    assert_refused(&more("units = 0"), &["planner.units: 0 is not allowed"]);
    assert_refused(&more("units = 2"), &["planner.unit: is needed: which of the 2 units"]);
    assert_refused(&more("units = 2\nunit = 2"), &["planner.unit: 2 is not one of 2 units"]);
    assert_refused(&more("unit = 1"), &["planner.unit: 1 is not one of 1 units"]);
    for url in ["ftp://planner", "planner:8080", "http://planner?a=b", ""] {
        let text = planner(ACCESS).replace("http://planner:8080", url);
        assert_refused(&text, &["planner.url: "]);
    }
    let secret = planner(ACCESS).replace("http://planner", "http://me:s3cr3t@planner");
    assert!(!refused(&secret).concat().contains("s3cr3t"));
    let text = planner("url = \"http://planner\"\ntoken = \"s3cr3t\"");
    assert_refused(&text, &["planner.token: a secret is not written here"]);
    let pool = |more: &str| planner(ACCESS).replace("max = 5", &format!("max = 5\n{more}"));
    let word = pool("planner = \"noble\"");
    assert_refused(&word, &["pools[small].planner: \"noble\" is not allowed"]);
    assert_refused(&pool("planner = { }"), &["pools[small].planner.flavor: is needed"]);
}

#[test]
fn a_source_that_nobody_has_set_up_is_refused() {
    let pool = |more: &str| with("max = 5", &format!("max = 5\n{more}"));
    let wants = |source: &str| pool(&format!("demand = [{source:?}]"));
    assert_refused(
        &wants("planner"),
        &["pools[small].demand: \"planner\" needs a table [planner]"],
    );
    assert_refused(&wants("guests"), &["pools[small].demand: \"guests\" needs a table [guests]"]);
    let flavor = pool("planner = { flavor = \"noble\" }");
    assert_refused(&flavor, &["pools[small].planner: is of use only with demand = [\"planner\"]"]);
}

#[test]
fn another_planner_waits_for_a_restart() {
    let (none, some) = (parse(GOOD).unwrap(), parse(&planner(ACCESS)).unwrap());
    assert_eq!(none.restart_needed(&some), ["planner"]);
}
