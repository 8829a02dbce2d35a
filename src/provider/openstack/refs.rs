//! Images, flavors and networks: from the configuration's words to the cloud's identifiers.
//!
//! A name must mean one thing: an unknown one is answered with what there is, an ambiguous one with
//! the identifiers to choose from. Identifiers are remembered, because a launch of fifty VMs should not
//! ask the same three questions fifty times, and forgotten as soon as the cloud refuses one: images are
//! rebuilt under the same name all the time. The lock of a kind is held while it is asked about, so
//! that the fifty wait for one question.
//!
//! No launch waits for what can be asked beforehand. What the pools name is asked at the start, in the
//! background; what is remembered for longer than [`FRESH`] is still used, once, and asked anew behind
//! that launch; and [`Refs::keep`] asks now and then where nothing is launched, so that it never gets
//! older than [`USABLE`]. To ask every few minutes instead would be most of what an idle fleet asks at
//! all.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use runner_fleet_actors::port::{Clock, ErrorClass, PortError, Shape, Time};
use serde_json::Value;
use tokio::sync::Mutex;

use super::{
    answer::{Purpose, tidy},
    api::{Api, Call, Service},
    pages,
};

/// For how long an identifier is not asked for anew.
const FRESH: TimeDelta = TimeDelta::minutes(5);
/// For how long it is used at all.
const USABLE: TimeDelta = TimeDelta::minutes(60);
/// How often is asked where nothing is launched.
const KEPT: Duration = Duration::from_secs(25 * 60);
/// What nobody has launched with for so long is asked for no more.
const UNUSED: TimeDelta = TimeDelta::hours(24);
/// Glance's word for an image that VMs can be made from.
const ACTIVE: &str = "active";
/// How many names an error lists.
const SHOWN: usize = 8;

/// What a name can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Image,
    Flavor,
    Network,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Flavor => "flavor",
            Self::Network => "network",
        }
    }

    fn service(self) -> Service {
        match self {
            Self::Image => Service::Image,
            Self::Flavor => Service::Compute,
            Self::Network => Service::Network,
        }
    }

    fn collection(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Flavor => "flavors",
            Self::Network => "networks",
        }
    }
}

/// A shape in the cloud's identifiers.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) image: String,
    pub(super) flavor: String,
    pub(super) network: Option<String>,
    /// Whether any of them was remembered and not asked for now.
    pub(super) remembered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    id: String,
    name: String,
    status: String,
}

/// What a word was found to stand for.
#[derive(Debug, Clone)]
struct Found {
    id: String,
    asked: Time,
    used: Time,
    /// Whether it is asked for at the moment.
    asking: bool,
}

type Known = HashMap<String, Found>;

/// The memory of one cloud.
pub(super) struct Refs {
    clock: Arc<dyn Clock>,
    images: Mutex<Known>,
    flavors: Mutex<Known>,
    networks: Mutex<Known>,
}

impl Refs {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (images, flavors, networks) = <_>::default();
        Self { clock, images, flavors, networks }
    }

    fn of(&self, kind: Kind) -> &Mutex<Known> {
        match kind {
            Kind::Image => &self.images,
            Kind::Flavor => &self.flavors,
            Kind::Network => &self.networks,
        }
    }

    /// A shape in the cloud's identifiers.
    pub(super) async fn resolve(
        self: &Arc<Self>,
        api: &Arc<Api>,
        shape: &Shape,
    ) -> Result<Resolved, PortError> {
        let remembered = AtomicBool::new(false);
        let one = async |kind: Kind, word: &str| {
            let (id, from_memory) = self.one(api, kind, word).await?;
            remembered.fetch_or(from_memory, Ordering::Relaxed);
            Ok::<_, PortError>(id)
        };
        let network = async {
            match &shape.network {
                Some(word) => one(Kind::Network, word).await.map(Some),
                None => Ok(None),
            }
        };
        let (image, flavor, network) = tokio::try_join!(
            one(Kind::Image, &shape.image),
            one(Kind::Flavor, &shape.flavor),
            network
        )?;
        Ok(Resolved { image, flavor, network, remembered: remembered.into_inner() })
    }

    /// Forgets everything that the shape's words were resolved to.
    pub(super) async fn forget(&self, shape: &Shape) {
        self.images.lock().await.remove(&shape.image);
        self.flavors.lock().await.remove(&shape.flavor);
        if let Some(network) = &shape.network {
            self.networks.lock().await.remove(network);
        }
    }

    /// The identifier that a word stands for, and whether it was remembered.
    pub(super) async fn one(
        self: &Arc<Self>,
        api: &Arc<Api>,
        kind: Kind,
        word: &str,
    ) -> Result<(String, bool), PortError> {
        let mut known = self.of(kind).lock().await;
        let now = self.clock.now();
        if let Some(found) = known.get_mut(word).filter(|found| now < found.asked + USABLE) {
            found.used = now;
            if found.asked + FRESH <= now && !std::mem::replace(&mut found.asking, true) {
                let (refs, api, word) = (Arc::clone(self), Arc::clone(api), word.to_owned());
                tokio::spawn(async move { refs.renew(&api, kind, &word).await });
            }
            return Ok((found.id.clone(), true));
        }
        let id = ask(api, kind, word).await?;
        let found = Found { id: id.clone(), asked: now, used: now, asking: false };
        known.insert(word.to_owned(), found);
        Ok((id, false))
    }

    /// Asks anew for what is remembered. What the word no longer stands for is forgotten: who launches with
    /// it next is told why.
    async fn renew(&self, api: &Api, kind: Kind, word: &str) {
        let asked = self.clock.now();
        let answer = ask(api, kind, word).await;
        let mut known = self.of(kind).lock().await;
        let Some(found) = known.get_mut(word) else { return };
        found.asking = false;
        match answer {
            Ok(id) => (found.id, found.asked) = (id, asked),
            Err(error) => {
                tracing::debug!(kind = kind.word(), %word, %error, "cannot be looked up anew");
                if error.class == ErrorClass::Invalid {
                    known.remove(word);
                }
            }
        }
    }

    /// Asks anew for all that was used of late, and forgets the rest.
    async fn renew_all(&self, api: &Api) {
        let now = self.clock.now();
        for kind in [Kind::Image, Kind::Flavor, Kind::Network] {
            let words: Vec<String> = {
                let mut known = self.of(kind).lock().await;
                known.retain(|_, found| now < found.used + UNUSED);
                known.keys().cloned().collect()
            };
            for word in words {
                self.renew(api, kind, &word).await;
            }
        }
    }

    /// Asks for what these shapes name, and keeps what is remembered from growing old, for as long as
    /// somebody else holds both. What cannot be asked for now is asked for by the first launch.
    pub(super) async fn keep(refs: Weak<Self>, api: Weak<Api>, shapes: Vec<Shape>) {
        for shape in shapes {
            let (Some(refs), Some(api)) = (refs.upgrade(), api.upgrade()) else { return };
            if let Err(error) = refs.resolve(&api, &shape).await {
                tracing::warn!(%error, "what a pool names is not found at the start");
            }
        }
        loop {
            tokio::time::sleep(KEPT).await;
            let (Some(refs), Some(api)) = (refs.upgrade(), api.upgrade()) else { return };
            refs.renew_all(&api).await;
        }
    }
}

async fn ask(api: &Api, kind: Kind, word: &str) -> Result<String, PortError> {
    let invalid = |what: String| PortError::certain(ErrorClass::Invalid, what);
    if word.is_empty() {
        return Err(invalid(format!("no {} is named: name one in the pool", kind.word())));
    }
    let tried = format!("looking up {} {word:?}", kind.word());
    // Flavors have no filter by name in Nova; a cloud has some dozens of them.
    let found = match kind {
        Kind::Flavor => list(api, kind, &tried, None).await?,
        Kind::Image | Kind::Network => list(api, kind, &tried, Some(word)).await?,
    };
    // What is being uploaded, deactivated or deleted has its name still, and is no choice.
    let usable = |c: &&Candidate| kind != Kind::Image || c.status == ACTIVE;
    if let Some(candidate) = found.iter().find(|c| c.id == word) {
        return match usable(&candidate) {
            true => Ok(candidate.id.clone()),
            false => Err(unusable(&tried, &candidate.status)),
        };
    }
    let all: Vec<&Candidate> = found.iter().filter(|c| c.name == word).collect();
    let named: Vec<&Candidate> = all.iter().copied().filter(usable).collect();
    if let ([], [idle, ..]) = (named.as_slice(), all.as_slice()) {
        return Err(unusable(&tried, &idle.status));
    }
    match named.as_slice() {
        [one] => return Ok(one.id.clone()),
        [] => {}
        several => {
            let ids: Vec<&str> = several.iter().take(SHOWN).map(|c| c.id.as_str()).collect();
            return Err(invalid(format!(
                "{tried}: {} {}s have this name; use one of their ids: {}",
                several.len(),
                kind.word(),
                ids.join(", ")
            )));
        }
    }
    if kind != Kind::Flavor
        && uuid::Uuid::parse_str(word).is_ok()
        && exists(api, kind, word).await?
    {
        return Ok(word.to_owned());
    }
    let there = if kind == Kind::Flavor { found } else { list(api, kind, &tried, None).await? };
    Err(invalid(format!("{tried}: there is none; there are: {}", shown(&there))))
}

fn shown(candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        return "none that this project may see".to_owned();
    }
    let mut names: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    let mut text = tidy(&names[..names.len().min(SHOWN)].join(", "), &[]);
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

async fn list(
    api: &Api,
    kind: Kind,
    tried: &str,
    name: Option<&str>,
) -> Result<Vec<Candidate>, PortError> {
    let mut call = Call::read(tried, kind.service(), [kind.collection()]);
    if let Some(name) = name {
        // Glance reads `in:` and commas as operators; a name with them is quoted (Image API v2).
        let quoted = match kind {
            Kind::Image if name.contains([',', ':']) => format!("in:\"{name}\""),
            _ => name.to_owned(),
        };
        call = call.query("name", quoted);
    }
    if kind == Kind::Image {
        call = call.query("limit", "100");
        if name.is_none() {
            call = call.query("status", ACTIVE);
        }
    }
    let text = |e: &Value, key: &str| e.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(pages::all(api, call, kind.collection())
        .await?
        .iter()
        .filter_map(|e| {
            let status = text(e, "status").unwrap_or_default();
            Some(Candidate {
                id: text(e, "id")?,
                name: text(e, "name").unwrap_or_default(),
                status,
            })
        })
        .collect())
}

/// Whether there is an image or network of this identifier: neither API filters by it everywhere.
async fn exists(api: &Api, kind: Kind, id: &str) -> Result<bool, PortError> {
    let tried = format!("looking up {} {id}", kind.word());
    let call = Call::read(tried, kind.service(), [kind.collection(), id]);
    let answer = api.send(&call).await?;
    if answer.status.as_u16() == 404 {
        return Ok(false);
    }
    let answer = answer.success(&call.tried, Purpose::Read)?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let (Kind::Image, Some(status)) = (kind, body.get("status").and_then(Value::as_str))
        && status != ACTIVE
    {
        return Err(unusable(&call.tried, status));
    }
    Ok(true)
}

/// An image that is there and that no VM can be made from.
fn unusable(tried: &str, status: &str) -> PortError {
    let advice = match status {
        "deactivated" => {
            "an administrator can make it active again (openstack image set --activate)"
        }
        _ => "wait until it is active, or name another",
    };
    let status = tidy(status, &[]);
    let what = format!("{tried}: it is there and its status is {status:?}, not active: {advice}");
    PortError::certain(ErrorClass::Invalid, what)
}
