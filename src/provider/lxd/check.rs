//! Asking an LXD whether it could launch a fleet's shapes, without launching anything; and, after a
//! launch that failed, what of its shape is missing.

use runner_fleet_actors::port::{ImageServer, LxdKind, LxdShape, PortError, Shape};
use serde_json::Value;

use super::{
    Inner, Lxd,
    api::Call,
    image_server::{self, Said},
    order,
};
use crate::provider::{
    finding::{Finding, Grade},
    text::candidates,
};

impl Inner {
    /// What the shape names and LXD does not have, each with what there is instead. Empty where all
    /// is there, or LXD cannot be asked.
    pub(super) async fn missing(&self, shape: &Shape, lxd: &LxdShape) -> Vec<String> {
        let findings = self.check_shape(shape, lxd, false).await;
        let faults = findings.into_iter().filter(|finding| finding.grade == Grade::Fault);
        faults.map(|finding| format!("{}: {}", finding.about, finding.what)).collect()
    }

    /// `remote`: whether a remote server of images is asked as well, which fetches its whole list.
    async fn check_shape(&self, shape: &Shape, lxd: &LxdShape, remote: bool) -> Vec<Finding> {
        let mut findings = match &lxd.image_server {
            Some(server) if remote => vec![check_remote(server, &shape.image, lxd.kind).await],
            Some(_) => Vec::new(),
            None => vec![self.check_image(&shape.image, lxd).await],
        };
        for profile in order::profiles(lxd) {
            findings.push(self.check_name("profile", "profiles", &profile).await);
        }
        if let Some(pool) = &lxd.storage_pool {
            findings.push(self.check_name("storage pool", "storage-pools", pool).await);
        }
        if let Some(network) = &shape.network {
            findings.push(self.check_name("network", "networks", network).await);
        }
        if let Some(target) = &lxd.target {
            findings.push(self.check_target(target).await);
        }
        findings
    }

    async fn check_name(&self, kind: &str, collection: &str, name: &str) -> Finding {
        let about = format!("{kind} {name}");
        let call = Call::read(format!("looking for {kind} {name:?}"), [collection, name]);
        match self.api.find(call).await {
            Ok(Some(_)) => Finding::new(Grade::Fine, about, "is there"),
            Ok(None) => {
                let names = self.api.names(&format!("listing {collection}"), collection).await;
                Finding::new(Grade::Fault, about, candidates(names.unwrap_or_default()))
            }
            Err(error) => Finding::of(about, error),
        }
    }

    async fn check_image(&self, image: &str, lxd: &LxdShape) -> Finding {
        let about = format!("image {image}");
        let checked = if order::is_fingerprint(image) {
            self.check_fingerprint(image).await
        } else {
            self.check_alias(image, lxd.kind).await
        };
        match checked {
            Ok(Ok(fingerprint)) => {
                let short = fingerprint.get(..12).unwrap_or(&fingerprint);
                Finding::new(Grade::Fine, about, format!("is {short}"))
            }
            Ok(Err(what)) => Finding::new(Grade::Fault, about, what),
            Err(error) => Finding::of(about, error),
        }
    }

    async fn check_fingerprint(&self, image: &str) -> Result<Result<String, String>, PortError> {
        let call = Call::read(format!("looking for image {image:?}"), ["images", image]);
        let found = self.api.find(call).await?;
        let full = found.as_ref().and_then(|f| f.get("fingerprint")).and_then(Value::as_str);
        match full {
            Some(full) => Ok(Ok(full.to_owned())),
            None => {
                Ok(Err(candidates(self.aliases().await?.into_iter().map(|a| a.name).collect())))
            }
        }
    }

    async fn check_alias(
        &self,
        image: &str,
        kind: LxdKind,
    ) -> Result<Result<String, String>, PortError> {
        let aliases = self.aliases().await?;
        let named: Vec<&Alias> = aliases.iter().filter(|alias| alias.name == image).collect();
        if let Some(alias) = named.iter().find(|alias| alias.kind == Some(kind)) {
            return Ok(Ok(alias.fingerprint.clone()));
        }
        // An LXD that does not say of what kind an image is takes it for what is asked.
        if let Some(alias) = named.iter().find(|alias| alias.kind.is_none()) {
            return Ok(Ok(alias.fingerprint.clone()));
        }
        if !named.is_empty() {
            return Ok(Err(
                "is of the other type: containers and virtual machines have images of \
                           their own"
                    .to_owned(),
            ));
        }
        Ok(Err(candidates(aliases.into_iter().map(|alias| alias.name).collect())))
    }

    async fn aliases(&self) -> Result<Vec<Alias>, PortError> {
        let call =
            Call::read("listing image aliases", ["images", "aliases"]).query("recursion", "1");
        let list = self.api.get(call).await?;
        Ok(list.as_array().into_iter().flatten().filter_map(Alias::read).collect())
    }

    async fn check_target(&self, target: &str) -> Finding {
        let about = format!("target {target}");
        match self.api.server().await {
            Ok(server) if !server.clustered => {
                let what = "this LXD is no cluster: remove the pool's target";
                Finding::new(Grade::Fault, about, what)
            }
            Ok(_) => match target.strip_prefix('@') {
                Some(group) => self.check_name_in(about, "groups", group).await,
                None => self.check_name_in(about, "members", target).await,
            },
            Err(error) => Finding::of(about, error),
        }
    }

    async fn check_name_in(&self, about: String, collection: &str, name: &str) -> Finding {
        let call = Call::read(format!("looking for {about}"), ["cluster", collection, name]);
        match self.api.find(call).await {
            Ok(Some(_)) => Finding::new(Grade::Fine, about, "is there"),
            Ok(None) => Finding::new(Grade::Fault, about, "the cluster has none of that name"),
            Err(error) => Finding::of(about, error),
        }
    }

    fn check_kind(&self, drivers: &str, clustered: bool) -> Finding {
        let about = "virtual machines";
        if clustered {
            let what = "each cluster member has its own say: they are known by trying";
            return Finding::new(Grade::Fine, about, what);
        }
        if drivers.contains("qemu") {
            return Finding::new(Grade::Fine, about, format!("can be made (driver {drivers})"));
        }
        let what = format!(
            "this LXD makes none (its driver is {drivers:?}): QEMU, /dev/kvm and the kernel module \
             vhost_vsock are needed; its log says at its start what is missing"
        );
        Finding::new(Grade::Fault, about, what)
    }
}

async fn check_remote(server: &ImageServer, image: &str, kind: LxdKind) -> Finding {
    let about = format!("image {image}");
    let url = &server.url;
    match image_server::ask(server, image, kind).await {
        Ok(Said::There) => {
            let what = format!("is fetched from {url} at the first launch");
            Finding::new(Grade::Fine, about, what)
        }
        Ok(Said::Missing(there)) => {
            let kind = match kind {
                LxdKind::Container => "containers",
                LxdKind::VirtualMachine => "virtual machines",
            };
            let what = format!("{url} has none of that name for {kind}: {there}");
            Finding::new(Grade::Fault, about, what)
        }
        Err(why) => {
            let what = format!(
                "would be fetched from {url}, which could not be asked from this machine: {why}"
            );
            Finding::new(Grade::Warning, about, what)
        }
    }
}

struct Alias {
    name: String,
    fingerprint: String,
    kind: Option<LxdKind>,
}

impl Alias {
    fn read(element: &Value) -> Option<Self> {
        let text = |key: &str| element.get(key).and_then(Value::as_str);
        Some(Self {
            name: text("name")?.to_owned(),
            fingerprint: text("target").unwrap_or_default().to_owned(),
            kind: match text("type") {
                Some("container") => Some(LxdKind::Container),
                Some("virtual-machine") => Some(LxdKind::VirtualMachine),
                _ => None,
            },
        })
    }
}

impl Lxd {
    /// Looks whether LXD answers and trusts us, whether the project is there, and all that the shapes
    /// name: image, profiles, storage pool, network, cluster target; and whether it makes virtual
    /// machines where a shape wants one.
    pub async fn check_online(&self, shapes: &[Shape]) -> Vec<Finding> {
        let inner = &self.inner;
        let server = match inner.api.server().await {
            Ok(server) => server,
            // Without it everything else would fail in the same words.
            Err(error) => return vec![Finding::new(Grade::Fault, "lxd", error.what)],
        };
        let what =
            format!("{}, trusts this client, project {}", server.version, inner.api.project());
        let mut findings = vec![Finding::new(Grade::Fine, "lxd", what)];
        let mut add = |finding: Finding| {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        };
        for shape in shapes {
            let Some(lxd) = &shape.lxd else { continue };
            if lxd.kind == LxdKind::VirtualMachine {
                add(inner.check_kind(&server.drivers, server.clustered));
            }
            inner.check_shape(shape, lxd, true).await.into_iter().for_each(&mut add);
        }
        findings
    }
}
