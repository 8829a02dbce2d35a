//! Pools that get their jobs from a runner scale set.

use crate::support::config::*;
use runner_fleet::{config::ScaleSet, demand::scale_set::PoolSet};

const DEMAND: &str = "max = 5\ndemand = [\"scale-set\"]\n";

fn set(keys: &str) -> String {
    with("max = 5\n", &format!("{DEMAND}{keys}")).replace("org/repo", "org")
}

#[test]
fn a_scale_set_is_called_like_its_pool_unless_told_otherwise() {
    let config = parse(&set("group = \"trusted\"\n")).unwrap();
    let wanted = ScaleSet { name: "small".into(), group: Some("trusted".into()) };
    assert_eq!(config.pools[0].scale_set, Some(wanted));

    let config = parse(&set("scale_set = { name = \"Big.one\", group = \"Default\" }\n")).unwrap();
    let wanted = ScaleSet { name: "Big.one".into(), group: None };
    assert_eq!(config.pools[0].scale_set, Some(wanted));
    let of = PoolSet::of(&config.pools[0]).unwrap();
    assert_eq!(
        (of.name.as_str(), of.max, of.labels.as_slice()),
        ("Big.one", 5, &["small".into()][..])
    );
}

#[test]
fn a_pool_without_that_source_of_demand_has_none() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.pools[0].scale_set, None);
    assert_eq!(PoolSet::of(&config.pools[0]), None);
    assert_refused(&with("max = 5\n", "max = 5\nscale_set = {}\n"), &["demand = [\"scale-set\"]"]);
}

#[test]
fn what_cannot_be_is_refused() {
    assert_refused(&set("scale_set = { name = \"a b\" }\n"), &["no space and no comma"]);
    assert_refused(
        &set("group = \"x\"\nscale_set = { group = \"y\" }\n"),
        &["the pool has a group as well"],
    );
    let of_repository = set("scale_set = { group = \"y\" }\n").replace("\"org\"", "\"org/repo\"");
    assert_refused(&of_repository, &["a repository has no runner groups"]);
    assert_refused(&set("scale_set = { nmae = \"y\" }\n"), &["nmae"]);
}

#[test]
fn two_pools_cannot_share_one() {
    let first = set("");
    let (_, pool) = first.split_once("[[pools]]").unwrap();
    let second = pool.replace("name = \"small\"", "name = \"other\"\nscale_set.name = \"SMALL\"");
    let both = format!("{first}[[pools]]{second}");
    assert_refused(&both, &["is the scale set of pool small as well"]);
    let elsewhere = both.replacen("scope = \"org\"", "scope = \"another\"", 1);
    assert_eq!(parse(&elsewhere).unwrap().pools.len(), 2);
}
