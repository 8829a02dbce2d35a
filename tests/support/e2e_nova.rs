//! A real OpenStack as its administrator sees it, and the guests that its VMs do not have.
//!
//! The hypervisor of `tests/openstack` boots nothing, so somebody must play what runs in a VM: this
//! reads its user data as only an administrator may (Nova, microversion 2.3,
//! `OS-EXT-SRV-ATTR:user_data`), connects to the fake GitHub with the JIT config in it, runs one job
//! and stops the VM (`os-stop`), which Nova then shows as a guest that has powered off: SHUTOFF.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use reqwest::{Client, Method, StatusCode};
use runner_fleet::provider::openstack::cloud::{CloudConfig, Credentials, Named, Owned};
use runner_fleet::{
    fake::github::{FakeGithub, Next},
    guest::jit_config_in,
};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How often the cloud is asked what there is, where it answers soon: the list holds the user data of all.
const GLANCE: Duration = Duration::from_millis(700);

/// The administrator's way to Nova.
pub struct Admin {
    client: Client,
    login: Value,
    auth_url: String,
    session: Mutex<Option<(String, String)>>,
}

/// A VM as the administrator sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub id: String,
    pub name: String,
    pub status: String,
    pub deleting: bool,
    pub flavor: String,
    user_data: Option<String>,
}

impl Admin {
    /// Logs in as that cloud of a clouds.yaml.
    pub fn of(clouds: &Path, cloud: &str) -> Self {
        let cloud = CloudConfig::load(Some(clouds), Some(cloud)).unwrap();
        let Credentials::Password { user, password, project } = &cloud.credentials else {
            panic!("{} logs in with a password", clouds.display());
        };
        let named = |one: &Named| match one {
            Named::Id(id) => json!({ "id": id }),
            Named::Name(name) => json!({ "name": name }),
        };
        let owned = |one: &Owned| {
            let mut it = named(&one.what);
            it["domain"] = named(&one.domain);
            it
        };
        let mut who = owned(user);
        who["password"] = password.expose().into();
        let login = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": who}},
            "scope": {"project": owned(project)}}});
        Self {
            client: Client::builder().timeout(Duration::from_secs(30)).build().unwrap(),
            login,
            auth_url: cloud.auth_url.as_str().trim_end_matches('/').to_owned(),
            session: Mutex::new(None),
        }
    }

    /// Nova's address and a token; the error of a Keystone that is away.
    async fn session(&self) -> Result<(String, String), String> {
        if let Some(session) = self.session.lock().unwrap().clone() {
            return Ok(session);
        }
        let told = |error: reqwest::Error| error.to_string();
        let url = format!("{}/auth/tokens", self.auth_url);
        let answer = self.client.post(url).json(&self.login).send().await.map_err(told)?;
        let token = answer.headers().get("x-subject-token").and_then(|text| text.to_str().ok());
        let token = token.ok_or(format!("login: {}", answer.status()))?.to_owned();
        let body: Value = answer.json().await.map_err(told)?;
        let compute = body["token"]["catalog"].as_array().unwrap().iter();
        let compute = compute.filter(|entry| entry["type"] == "compute");
        let endpoints = compute.flat_map(|entry| entry["endpoints"].as_array().unwrap());
        let public = endpoints.filter(|one| one["interface"] == "public").map(|one| &one["url"]);
        let nova = public.filter_map(Value::as_str).next().expect("a catalog with compute");
        let session = (nova.trim_end_matches('/').to_owned(), token);
        *self.session.lock().unwrap() = Some(session.clone());
        Ok(session)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        let (nova, token) = self.session().await?;
        let mut request = self
            .client
            .request(method, format!("{nova}{path}"))
            .header("x-auth-token", token)
            .header("openstack-api-version", "compute 2.52");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            *self.session.lock().unwrap() = None;
        }
        let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&bytes)));
        }
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// All VMs of a fleet, or why they cannot be seen now.
    pub async fn vms(&self, fleet: &str) -> Result<Vec<Seen>, String> {
        let path = format!("/servers/detail?all_tenants=1&tags=runner-fleet:{fleet}");
        let reply = self.call(Method::GET, &path, None).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let seen = |vm: &Value| Seen {
            id: text(&vm["id"]),
            name: text(&vm["name"]),
            status: text(&vm["status"]),
            deleting: vm["OS-EXT-STS:task_state"] == "deleting" || vm["status"] == "DELETED",
            flavor: text(&vm["flavor"]["original_name"]),
            user_data: vm["OS-EXT-SRV-ATTR:user_data"].as_str().map(str::to_owned),
        };
        Ok(reply["servers"].as_array().ok_or("no list of servers")?.iter().map(seen).collect())
    }

    async fn stop(&self, id: &str) -> Result<(), String> {
        let path = format!("/servers/{id}/action");
        self.call(Method::POST, &path, Some(json!({"os-stop": null}))).await.map(|_| ())
    }

    /// Deletes whatever a failed test has left.
    pub async fn delete_all(&self, fleet: &str) {
        for vm in self.vms(fleet).await.unwrap_or_default() {
            // The test has failed already; what cannot be deleted is no further news.
            let _refused = self.call(Method::DELETE, &format!("/servers/{}", vm.id), None).await;
        }
    }
}

/// What was seen of the VMs so far.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    /// The VMs of the last look.
    pub now: Vec<Seen>,
    /// Names of all VMs that there ever were.
    pub names: BTreeSet<String>,
    /// Most VMs in one look.
    pub most: usize,
    /// VMs that were deleted while their guest ran a job.
    pub taken: Vec<String>,
    /// JIT configs as the user data held them.
    pub jit_configs: BTreeSet<String>,
}

/// The inside of all VMs of a fleet.
pub struct Guests {
    chronicle: Arc<Mutex<Chronicle>>,
    looking: tokio::task::JoinHandle<()>,
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Guests {
    pub fn start(admin: &Arc<Admin>, github: &FakeGithub, fleet: &str) -> Self {
        let chronicle: Arc<Mutex<Chronicle>> = Arc::default();
        let all = All {
            admin: Arc::clone(admin),
            github: github.clone(),
            chronicle: Arc::clone(&chronicle),
        };
        let looking = tokio::spawn(all.look(fleet.to_owned()));
        Self { chronicle, looking }
    }

    pub fn seen(&self) -> Chronicle {
        self.chronicle.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct All {
    admin: Arc<Admin>,
    github: FakeGithub,
    chronicle: Arc<Mutex<Chronicle>>,
}

impl All {
    fn note(&self) -> MutexGuard<'_, Chronicle> {
        self.chronicle.lock().unwrap()
    }

    async fn look(self, fleet: String) {
        let mut alive: BTreeMap<String, watch::Sender<bool>> = BTreeMap::new();
        loop {
            let began = Instant::now();
            if let Ok(vms) = self.admin.vms(&fleet).await {
                let there: HashSet<&str> =
                    vms.iter().filter(|vm| !vm.deleting).map(|vm| vm.id.as_str()).collect();
                // A guest whose VM is gone hears of it by the end of its sender.
                alive.retain(|id, _| there.contains(id.as_str()));
                for vm in vms.iter().filter(|vm| vm.status == "ACTIVE" && !vm.deleting) {
                    if alive.contains_key(&vm.id) {
                        continue;
                    }
                    let (on, killed) = watch::channel(false);
                    alive.insert(vm.id.clone(), on);
                    tokio::spawn(self.clone().live(vm.clone(), killed));
                }
                // SHUTOFF VMs have no guest any more, and none is ever begun anew.
                let mut note = self.note();
                note.most = note.most.max(vms.len());
                note.names.extend(vms.iter().map(|vm| vm.name.clone()));
                note.now = vms;
            }
            tokio::time::sleep(GLANCE.max(began.elapsed() * 2)).await;
        }
    }

    async fn live(self, vm: Seen, killed: watch::Receiver<bool>) {
        let gone = |mut killed: watch::Receiver<bool>| async move {
            while killed.changed().await.is_ok() {}
        };
        let encoded = vm.user_data.as_deref().expect("an administrator sees the user data");
        let data = String::from_utf8(BASE64.decode(encoded).unwrap()).unwrap();
        let config = jit_config_in(&data).expect("the user data holds a JIT config");
        self.note().jit_configs.insert(config.expose().to_owned());
        let end = async {
            // A cloud that is away for a moment costs a guest that moment.
            while self.admin.stop(&vm.id).await.is_err() {
                tokio::time::sleep(GLANCE).await;
            }
        };
        let work = async {
            let Ok(mut listener) = self.github.connect(config.expose()).await else { return true };
            if let Next::Job(job) = listener.next_job().await {
                tokio::select! {
                    () = tokio::time::sleep(job.runs_for) => listener.complete(true),
                    () = listener.deregistered() => {}
                    () = gone(killed.clone()) => {
                        self.note().taken.push(vm.name.clone());
                        return false;
                    }
                }
            }
            true
        };
        let runs_on = tokio::select! {
            biased;
            runs_on = work => runs_on,
            () = gone(killed.clone()) => false,
        };
        if runs_on {
            tokio::select! {
                () = end => {}
                () = gone(killed) => {}
            }
        }
    }
}
