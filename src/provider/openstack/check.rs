//! Asking a cloud whether it could launch a fleet's shapes, without launching anything.

use runner_fleet_actors::port::{PortError, Shape};
use serde_json::Value;

use super::{
    OpenStack,
    api::{Call, Service},
    pages,
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
        findings.extend(self.check_cloud().await);
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

    /// What may be odd about the cloud as a whole: clocks, a region that nobody chose, tags.
    async fn check_cloud(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(what) = self.api.keystone().clocks() {
            findings.push(Finding::new(Grade::Warning, "clocks", what));
        }
        if let Ok(token) = self.api.keystone().token(None).await
            && let Some(regions) = self.api.keystone().unchosen(&token)
        {
            let what = format!(
                "the cloud has {}, and clouds.yaml chooses none: the first is used; write \
                 region_name into it",
                regions.join(", ")
            );
            findings.push(Finding::new(Grade::Warning, "region", what));
        }
        let tried = "looking whether VMs show tags";
        let call = Call::read(tried, Service::Compute, ["servers", "detail"]).query("limit", "1");
        let about = "tags of VMs";
        match self.api.json(call).await {
            Err(error) => findings.push(Finding::of(about, error)),
            Ok(listing) => {
                let vms = listing.get("servers").and_then(Value::as_array);
                let first = vms.and_then(|vms| vms.first());
                if first.is_some_and(|vm| vm.get("tags").is_none_or(|tags| !tags.is_array())) {
                    let what = "the cloud shows none, and no VM could be told to be the fleet's: the \
                                header OpenStack-API-Version does not reach Nova, or the endpoint is \
                                an old one (compute_endpoint_override in clouds.yaml names another)";
                    findings.push(Finding::new(Grade::Fault, about, what));
                }
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
        let groups = match pages::all(&self.api, call, "security_groups").await {
            Ok(groups) => groups,
            Err(error) => return Finding::of(about, error),
        };
        let text = |g: &Value, key: &str| g.get(key).and_then(Value::as_str).map(str::to_owned);
        let is = |g: &&Value, key: &str| text(g, key).as_deref() == Some(group);
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
        let call = compute("listing key pairs", "os-keypairs");
        let found = pages::all(&self.api, call, "keypairs").await;
        let names = |pairs: Vec<Value>| strings(&pairs, |pair| pair.get("keypair")?.get("name"));
        one_of(about, key, found.map(names))
    }

    async fn check_zone(&self, zone: &str) -> Finding {
        let about = format!("availability zone {zone}");
        let call = compute("listing availability zones", "os-availability-zone");
        let found = pages::all(&self.api, call, "availabilityZoneInfo").await;
        let names = |zones: Vec<Value>| strings(&zones, |zone| zone.get("zoneName"));
        // A zone may be given as ZONE:HOST.
        let zone = zone.split(':').next().unwrap_or(zone);
        one_of(about, zone, found.map(names))
    }
}

fn compute<'a>(tried: &str, what: &'a str) -> Call<'a> {
    Call::read(tried, Service::Compute, [what])
}

fn strings(elements: &[Value], name: impl Fn(&Value) -> Option<&Value>) -> Vec<String> {
    elements.iter().filter_map(|e| name(e)?.as_str().map(str::to_owned)).collect()
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
