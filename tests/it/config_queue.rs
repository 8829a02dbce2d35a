//! What a configuration may say of queues: where they are, and which one feeds a pool.

use std::path::Path;

use crate::support::config::{GOOD, assert_refused, env, parse, refused, with};
use runner_fleet::config::{Config, DemandKind, QueueKind, SecretSource};

fn queued(section: &str, pool: &str) -> String {
    let text = with("[github]", &format!("[queue]\n{section}\n[github]"));
    text.replace("max = 5", &format!("max = 5\ndemand = [\"queue\"]\n{pool}"))
}

const AMQP: &str = "kind = \"amqp\"\nurl_file = \"queue-url\"";

#[test]
fn a_pool_reads_the_queue_of_its_name_unless_it_names_another() {
    let config = parse(&queued(AMQP, "")).unwrap();
    let queue = config.queue.unwrap();
    assert_eq!(queue.kind, QueueKind::Amqp);
    assert_eq!(queue.url, SecretSource::File("/etc/queue-url".into()));
    assert!(config.pools[0].demand.contains(&DemandKind::Queue));
    assert_eq!(config.pools[0].queue, "small");
    let mongo = "kind = \"mongodb\"\nurl_credential = \"queue-url\"\nca_file = \"ca.pem\"";
    let config = parse(&queued(mongo, "queue = { name = \"github/large\" }")).unwrap();
    assert_eq!(config.queue.unwrap().ca_file, Some("/etc/ca.pem".into()));
    assert_eq!(config.pools[0].queue, "github/large");
    assert_eq!(parse(GOOD).unwrap().queue, None);
}

#[test]
fn what_this_build_cannot_speak_to_is_refused_where_it_is_named() {
    let refused = |text: &str, kind: &'static str| {
        let env = env(&[]).built_without(kind);
        Config::parse(text, Path::new("/etc/fleet.toml"), &env).unwrap_err().to_string()
    };
    let amqp = refused(&queued(AMQP, ""), "amqp");
    assert!(amqp.contains("queue.kind: \"amqp\" is not in this runner-fleet"), "{amqp}");
    assert!(amqp.contains("cargo feature \"amqp\""), "{amqp}");
    let mongo = queued("kind = \"mongodb\"\nurl_file = \"q\"", "");
    assert!(refused(&mongo, "mongodb").contains("queue.kind: \"mongodb\" is not in"));
    let cloud = refused(GOOD, "openstack");
    assert!(cloud.contains("providers.cloud.kind: \"openstack\" is not in"), "{cloud}");
}

#[test]
fn queues_that_could_not_be_read_are_refused() {
    assert_refused(&queued("", ""), &["queue.kind: is needed", "queue.url_file: is needed"]);
    assert_refused(
        &queued("kind = \"kafka\"\nurl_file = \"q\"", ""),
        &["queue.kind: \"kafka\" is not allowed: it is one of \"amqp\", \"mongodb\""],
    );
    let name = |name: &str| queued(AMQP, &format!("queue = {{ name = {name:?} }}"));
    assert_refused(&name("amq.mine"), &["queue: \"amq.mine\" is not allowed"]);
    assert_refused(&name("a\tb"), &["is not allowed: at most 255 bytes"]);
    assert_refused(&queued(AMQP, "queue = {}"), &["queue.name: is needed"]);
    let no_section = GOOD.replace("max = 5", "max = 5\ndemand = [\"queue\"]");
    assert_refused(&no_section, &["pools[small].demand: \"queue\" needs a table [queue]"]);
    let unused = GOOD.replace("max = 5", "max = 5\nqueue = { name = \"x\" }");
    assert_refused(&unused, &["pools[small].queue: is of use only where demand names"]);
}

#[test]
fn an_address_with_its_password_is_not_written_here_and_never_shown() {
    for key in ["url_file", "url", "url_env"] {
        let text = queued(&format!("kind = \"amqp\"\n{key} = \"amqp://me:s3cr3t@mq\""), "");
        let faults = refused(&text).concat();
        assert!(!faults.contains("s3cr3t"), "{faults}");
    }
}
