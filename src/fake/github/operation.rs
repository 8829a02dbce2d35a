//! Which operation of GitHub's API a request is.

use runner_fleet_actors::name::Scope;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Lists runners.
    List,
    /// Shows one runner.
    Get,
    /// Removes one runner.
    Delete,
    /// Shows the labels of one runner.
    Labels,
    /// Sets the custom labels of one runner.
    SetLabels,
    /// Moves one runner to a group.
    Move,
    /// Registers a runner.
    JitConfig,
    /// Lists runner groups.
    Groups,
    /// Lists the runner applications on offer.
    Downloads,
    /// Tells until when a version of the runner application is taken.
    Deprecation,
    /// Makes an installation token.
    InstallationToken,
    /// Makes a token that registers runners and scale sets.
    RegistrationToken,
    /// Shows the rate limit.
    RateLimit,
    /// Shows one job.
    Job,
    /// Shows a repository.
    Repository,
    /// Shows an organisation.
    Organisation,
    /// Lists the deliveries of a hook.
    Deliveries,
    /// Makes a delivery of a hook anew.
    Redeliver,
}

/// A request's target.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) operation: Operation,
    /// `None` for what belongs to no scope.
    pub(crate) scope: Option<Scope>,
    /// Number of the runner, installation, job or delivery.
    pub(crate) id: u64,
    /// Number of the hook; the App's has none in its paths. Of a runner that is moved: of the group.
    pub(crate) hook: u64,
    /// The version of the runner application; empty for whatever has none.
    pub(crate) version: String,
}

impl Target {
    fn new(operation: Operation, scope: Option<Scope>, id: u64) -> Self {
        Self { operation, scope, id, hook: 0, version: String::new() }
    }

    /// The target of a method and a path without `/api/v3`.
    pub(crate) fn of(method: &str, path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (scope, rest) = match parts.as_slice() {
            ["repos", owner, repo, "actions", rest @ ..] => (format!("{owner}/{repo}"), rest),
            ["orgs", org, "actions", rest @ ..] => ((*org).to_owned(), rest),
            ["enterprises", slug, "actions", rest @ ..] => (format!("enterprises/{slug}"), rest),
            ["app", "installations", id, "access_tokens"] if method == "POST" => {
                let id = id.parse().ok()?;
                return Some(Self::new(Operation::InstallationToken, None, id));
            }
            ["app", "hook", "deliveries", rest @ ..] => {
                return Self::of_hook(method, None, 0, rest);
            }
            ["repos", owner, repo, "hooks", hook, "deliveries", rest @ ..] => {
                let scope = format!("{owner}/{repo}").parse().ok()?;
                return Self::of_hook(method, Some(scope), hook.parse().ok()?, rest);
            }
            ["orgs", org, "hooks", hook, "deliveries", rest @ ..] => {
                let scope = org.parse().ok()?;
                return Self::of_hook(method, Some(scope), hook.parse().ok()?, rest);
            }
            ["repos", owner, repo] if method == "GET" => {
                let scope = format!("{owner}/{repo}").parse().ok()?;
                return Some(Self::new(Operation::Repository, Some(scope), 0));
            }
            ["orgs", org] if method == "GET" => {
                return Some(Self::new(Operation::Organisation, Some(org.parse().ok()?), 0));
            }
            ["rate_limit"] if method == "GET" => {
                return Some(Self::new(Operation::RateLimit, None, 0));
            }
            _ => return None,
        };
        let scope: Scope = scope.parse().ok()?;
        let (operation, id) = match (method, rest) {
            ("GET", ["runners"]) => (Operation::List, 0),
            ("POST", ["runners", "generate-jitconfig"]) => (Operation::JitConfig, 0),
            ("POST", ["runners", "registration-token"]) => (Operation::RegistrationToken, 0),
            ("GET", ["runners", "downloads"]) => (Operation::Downloads, 0),
            ("GET", ["runners", "deprecations", version]) => {
                let target = Self::new(Operation::Deprecation, Some(scope), 0);
                return Some(Self { version: (*version).to_owned(), ..target });
            }
            ("GET", ["jobs", id]) if matches!(scope, Scope::Repository { .. }) => {
                (Operation::Job, id.parse().ok()?)
            }
            ("GET", ["runners", id]) => (Operation::Get, id.parse().ok()?),
            ("DELETE", ["runners", id]) => (Operation::Delete, id.parse().ok()?),
            ("GET", ["runners", id, "labels"]) => (Operation::Labels, id.parse().ok()?),
            ("PUT", ["runners", id, "labels"]) => (Operation::SetLabels, id.parse().ok()?),
            ("PUT", ["runner-groups", group, "runners", id])
                if !matches!(scope, Scope::Repository { .. }) =>
            {
                let id = id.parse().ok()?;
                let hook = group.parse().ok()?;
                return Some(Self { hook, ..Self::new(Operation::Move, Some(scope), id) });
            }
            ("GET", ["runner-groups"]) if !matches!(scope, Scope::Repository { .. }) => {
                (Operation::Groups, 0)
            }
            _ => return None,
        };
        Some(Self::new(operation, Some(scope), id))
    }

    /// What is asked of a hook's deliveries.
    fn of_hook(method: &str, scope: Option<Scope>, hook: u64, rest: &[&str]) -> Option<Self> {
        let (operation, id) = match (method, rest) {
            ("GET", []) => (Operation::Deliveries, 0),
            ("POST", [id, "attempts"]) => (Operation::Redeliver, id.parse().ok()?),
            _ => return None,
        };
        Some(Self { hook, ..Self::new(operation, scope, id) })
    }

    /// Whether it is for the App itself, who shows a JWT, and not for one of its installations.
    pub(crate) fn is_for_app(&self) -> bool {
        use Operation as Op;
        self.scope.is_none()
            && matches!(self.operation, Op::InstallationToken | Op::Deliveries | Op::Redeliver)
    }

    /// GitHub's name of the operation.
    pub(crate) fn operation_id(&self) -> &'static str {
        use Operation as Op;
        match (self.operation, &self.scope) {
            (Op::InstallationToken, _) => "apps/create-installation-access-token",
            (Op::Deliveries, None) => "apps/list-webhook-deliveries",
            (Op::Redeliver, None) => "apps/redeliver-webhook-delivery",
            (Op::RateLimit, _) | (_, None) => "rate-limit/get",
            (Op::Repository, Some(_)) => "repos/get",
            (Op::Organisation, Some(_)) => "orgs/get",
            (Op::Job, Some(_)) => "actions/get-job-for-workflow-run",
            (Op::Deliveries, Some(Scope::Repository { .. })) => "repos/list-webhook-deliveries",
            (Op::Deliveries, Some(_)) => "orgs/list-webhook-deliveries",
            (Op::Redeliver, Some(Scope::Repository { .. })) => "repos/redeliver-webhook-delivery",
            (Op::Redeliver, Some(_)) => "orgs/redeliver-webhook-delivery",
            (Op::List, Some(Scope::Repository { .. })) => {
                "actions/list-self-hosted-runners-for-repo"
            }
            (Op::List, Some(Scope::Organisation(_))) => "actions/list-self-hosted-runners-for-org",
            (Op::List, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/list-self-hosted-runners-for-enterprise"
            }
            (Op::Get, Some(Scope::Repository { .. })) => "actions/get-self-hosted-runner-for-repo",
            (Op::Get, Some(Scope::Organisation(_))) => "actions/get-self-hosted-runner-for-org",
            (Op::Get, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/get-self-hosted-runner-for-enterprise"
            }
            (Op::Delete, Some(Scope::Repository { .. })) => {
                "actions/delete-self-hosted-runner-from-repo"
            }
            (Op::Delete, Some(Scope::Organisation(_))) => {
                "actions/delete-self-hosted-runner-from-org"
            }
            (Op::Delete, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/delete-self-hosted-runner-from-enterprise"
            }
            (Op::JitConfig, Some(Scope::Repository { .. })) => {
                "actions/generate-runner-jitconfig-for-repo"
            }
            (Op::JitConfig, Some(Scope::Organisation(_))) => {
                "actions/generate-runner-jitconfig-for-org"
            }
            (Op::JitConfig, Some(Scope::Enterprise(_))) => {
                "actions/generate-runner-jitconfig-for-enterprise"
            }
            (Op::RegistrationToken, Some(Scope::Repository { .. })) => {
                "actions/create-registration-token-for-repo"
            }
            (Op::RegistrationToken, Some(Scope::Organisation(_))) => {
                "actions/create-registration-token-for-org"
            }
            (Op::RegistrationToken, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/create-registration-token-for-enterprise"
            }
            (Op::Downloads, Some(Scope::Repository { .. })) => {
                "actions/list-runner-applications-for-repo"
            }
            (Op::Downloads, Some(Scope::Organisation(_))) => {
                "actions/list-runner-applications-for-org"
            }
            (Op::Downloads, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/list-runner-applications-for-enterprise"
            }
            (Op::Deprecation, Some(Scope::Repository { .. })) => {
                "actions/get-runner-version-deprecation-for-repo"
            }
            (Op::Deprecation, Some(Scope::Organisation(_))) => {
                "actions/get-runner-version-deprecation-for-org"
            }
            (Op::Deprecation, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/get-runner-version-deprecation-for-enterprise"
            }
            (Op::Labels, Some(Scope::Repository { .. })) => {
                "actions/list-labels-for-self-hosted-runner-for-repo"
            }
            (Op::Labels, Some(Scope::Organisation(_))) => {
                "actions/list-labels-for-self-hosted-runner-for-org"
            }
            (Op::Labels, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/list-labels-for-self-hosted-runner-for-enterprise"
            }
            (Op::SetLabels, Some(Scope::Repository { .. })) => {
                "actions/set-custom-labels-for-self-hosted-runner-for-repo"
            }
            (Op::SetLabels, Some(Scope::Organisation(_))) => {
                "actions/set-custom-labels-for-self-hosted-runner-for-org"
            }
            (Op::SetLabels, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/set-custom-labels-for-self-hosted-runner-for-enterprise"
            }
            (Op::Move, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/add-self-hosted-runner-to-group-for-enterprise"
            }
            (Op::Move, Some(_)) => "actions/add-self-hosted-runner-to-group-for-org",
            (Op::Groups, Some(Scope::Enterprise(_))) => {
                "enterprise-admin/list-self-hosted-runner-groups-for-enterprise"
            }
            (Op::Groups, Some(_)) => "actions/list-self-hosted-runner-groups-for-org",
        }
    }
}
