//! Asking a cloud whether it could launch a fleet's shapes, without launching anything.

use runner_fleet_actors::port::{PortError, Shape};
use serde_json::Value;

use super::{
    OpenStack,
    api::{Call, Service},
    refs::Kind,
};
use crate::provider::{
    finding::{Finding, Grade},
    text::candidates,
};

impl OpenStack {
    /// Looks whether credentials work, and whether all that the shapes name is there once: image,
    /// flavor, network, security groups, key pair, availability zone; and what the quota leaves.
    pub async fn check_online(&self, shapes: &[Shape]) -> Vec<Finding> {
        let limits = match self.api.json(compute("reading the project's limits", "limits")).await {
            Ok(limits) => limits,
            // Without a log-in everything else would fail in the same words.
            Err(error) => {
                return vec![Finding::new(Grade::Fault, "credentials and compute", error.what)];
            }
        };
        let works = "log-in works, compute answers";
        let mut findings = vec![Finding::new(Grade::Fine, "credentials and compute", works)];
        findings.extend(quota(&limits));
        let mut asked = Vec::new();
        let mut once = |kind: &'static str, word: &str| {
            let key = (kind, word.to_owned());
            let new = !asked.contains(&key);
            if new {
                asked.push(key);
            }
            new
        };
        for shape in shapes {
            let network = shape.network.iter().map(|word| (Kind::Network, word));
            let words = [(Kind::Image, &shape.image), (Kind::Flavor, &shape.flavor)];
            for (kind, word) in words.into_iter().chain(network) {
                if once(kind.word(), word) {
                    findings.push(self.check_ref(kind, word).await);
                }
            }
            for group in &shape.security_groups {
                if once("security group", group) {
                    findings.push(self.check_group(group).await);
                }
            }
            if let Some(key) = &shape.key
                && once("key pair", key)
            {
                findings.push(self.check_key(key).await);
            }
            if let Some(zone) = &shape.availability_zone
                && once("availability zone", zone)
            {
                findings.push(self.check_zone(zone).await);
            }
        }
        findings
    }

    async fn check_ref(&self, kind: Kind, word: &str) -> Finding {
        let about = format!("{} {word}", kind.word());
        match self.refs.one(&self.api, kind, word).await {
            Ok((id, _)) => Finding::new(Grade::Fine, about, format!("is {id}")),
            Err(error) => Finding::of(about, error),
        }
    }

    async fn check_group(&self, group: &str) -> Finding {
        let about = format!("security group {group}");
        let tried = format!("looking up security group {group:?}");
        let call = Call::read(tried, Service::Network, ["security-groups"]);
        let reply = match self.api.json(call).await {
            Ok(reply) => reply,
            Err(error) => return Finding::of(about, error),
        };
        let groups = reply.get("security_groups").and_then(Value::as_array);
        let groups: Vec<&Value> = groups.into_iter().flatten().collect();
        let text = |g: &Value, key: &str| g.get(key).and_then(Value::as_str).map(str::to_owned);
        let is = |g: &&&Value, key: &str| text(g, key).as_deref() == Some(group);
        let named = groups.iter().filter(|g| is(g, "name")).count();
        match (groups.iter().any(|g| is(&g, "id")), named) {
            (true, _) | (false, 1) => Finding::new(Grade::Fine, about, "is there"),
            (false, 0) => {
                let names = groups.iter().filter_map(|g| text(g, "name"));
                Finding::new(Grade::Fault, about, candidates(names.collect()))
            }
            (false, several) => {
                let what = format!("{several} groups have this name: use the id of one");
                Finding::new(Grade::Fault, about, what)
            }
        }
    }

    async fn check_key(&self, key: &str) -> Finding {
        let about = format!("key pair {key}");
        let found = self.api.json(compute("listing key pairs", "os-keypairs")).await;
        let names = |reply: &Value| strings(reply, "keypairs", |k| k.get("keypair")?.get("name"));
        one_of(about, key, found.as_ref().map(names).map_err(Clone::clone))
    }

    async fn check_zone(&self, zone: &str) -> Finding {
        let about = format!("availability zone {zone}");
        let call = compute("listing availability zones", "os-availability-zone");
        let found = self.api.json(call).await;
        let names = |reply: &Value| strings(reply, "availabilityZoneInfo", |z| z.get("zoneName"));
        // A zone may be given as ZONE:HOST.
        let zone = zone.split(':').next().unwrap_or(zone);
        one_of(about, zone, found.as_ref().map(names).map_err(Clone::clone))
    }
}

fn compute<'a>(tried: &str, what: &'a str) -> Call<'a> {
    Call::read(tried, Service::Compute, [what])
}

fn strings(reply: &Value, list: &str, name: impl Fn(&Value) -> Option<&Value>) -> Vec<String> {
    let elements = reply.get(list).and_then(Value::as_array);
    elements.into_iter().flatten().filter_map(|e| name(e)?.as_str().map(str::to_owned)).collect()
}

fn one_of(about: String, wanted: &str, names: Result<Vec<String>, PortError>) -> Finding {
    match names {
        Ok(names) if names.iter().any(|n| n == wanted) => {
            Finding::new(Grade::Fine, about, "is there")
        }
        Ok(names) => Finding::new(Grade::Fault, about, candidates(names)),
        Err(error) => Finding::of(about, error),
    }
}

/// What the quota leaves, resource by resource. Nova writes "no limit" as -1.
fn quota(limits: &Value) -> Vec<Finding> {
    let absolute = limits.get("limits").and_then(|l| l.get("absolute"));
    let number = |key: &str| absolute?.get(key)?.as_i64();
    [
        ("VMs", "maxTotalInstances", "totalInstancesUsed"),
        ("cores", "maxTotalCores", "totalCoresUsed"),
        ("MiB of memory", "maxTotalRAMSize", "totalRAMUsed"),
    ]
    .into_iter()
    .filter_map(|(what, max, used)| {
        let (max, used) = (number(max)?, number(used)?);
        let about = format!("quota of {what}");
        Some(if max < 0 {
            Finding::new(Grade::Fine, about, format!("{used} used, no limit"))
        } else if used >= max {
            Finding::new(Grade::Warning, about, format!("{used} of {max} used: nothing is left"))
        } else {
            Finding::new(Grade::Fine, about, format!("{used} of {max} used"))
        })
    })
    .collect()
}
