//! GitHub's own description of its API as the judge of both sides.

use std::collections::BTreeMap;

use runner_fleet::fake::github::Exchange;
use serde_json::Value;

/// Statuses that GitHub's description leaves out of most operations and its API sends all the same.
const EVERYWHERE: [u16; 6] = [304, 401, 403, 404, 502, 503];

pub struct Judge(BTreeMap<String, Value>);

impl Judge {
    pub fn new(description: &str) -> Self {
        Self(serde_json::from_str(description).unwrap())
    }

    /// What is wrong with an exchange; empty where nothing is.
    pub fn faults(&self, exchange: &Exchange) -> Vec<String> {
        let Some(operation) = self.0.get(exchange.operation_id) else {
            return vec![format!("no operation {}", exchange.operation_id)];
        };
        let mut faults = Vec::new();
        if operation["method"] != exchange.method.as_str() {
            faults.push(format!("method {}", exchange.method));
        }
        self.path(operation, &exchange.path, &mut faults);
        self.query(operation, &exchange.query, &mut faults);
        self.request(operation, exchange.request.as_ref(), &mut faults);
        self.response(operation, exchange, &mut faults);
        faults.iter().map(|fault| format!("{}: {fault}", exchange.operation_id)).collect()
    }

    fn path(&self, operation: &Value, path: &str, faults: &mut Vec<String>) {
        let template = operation["path"].as_str().unwrap();
        let (wanted, given): (Vec<_>, Vec<_>) =
            (template.split('/').collect(), path.split('/').collect());
        let fits = |(wanted, given): (&&str, &&str)| {
            if wanted.starts_with('{') { !given.is_empty() } else { wanted == given }
        };
        if wanted.len() != given.len() || !wanted.iter().zip(&given).all(fits) {
            faults.push(format!("path {path} is not {template}"));
        }
    }

    fn query(&self, operation: &Value, query: &str, faults: &mut Vec<String>) {
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let known = operation["params"].as_array().unwrap();
            let Some(known) = known.iter().find(|p| p["in"] == "query" && p["name"] == *name)
            else {
                faults.push(format!("unknown query {name}"));
                continue;
            };
            if known["schema"]["type"] == "integer" && value.parse::<u64>().is_err() {
                faults.push(format!("query {name}={value} is no integer"));
            }
        }
    }

    fn request(&self, operation: &Value, body: Option<&Value>, faults: &mut Vec<String>) {
        match (operation.get("request").filter(|schema| !schema.is_null()), body) {
            (Some(schema), Some(body)) => {
                against(schema, body, "request", faults);
                let known = schema["properties"].as_object().unwrap();
                for name in body.as_object().into_iter().flatten().map(|(name, _)| name) {
                    if !known.contains_key(name) {
                        faults.push(format!("unknown request property {name}"));
                    }
                }
            }
            (None, Some(_)) => faults.push("a body where none belongs".to_owned()),
            (_, None) => {}
        }
    }

    fn response(&self, operation: &Value, exchange: &Exchange, faults: &mut Vec<String>) {
        let status = exchange.status;
        match (operation["responses"].get(status.to_string()), &exchange.response) {
            (None, _) if !EVERYWHERE.contains(&status) => {
                faults.push(format!("undocumented status {status}"));
            }
            (Some(Value::Null) | None, None) => {}
            (Some(Value::Null), Some(_)) => faults.push(format!("{status} has no body")),
            (Some(_), None) => faults.push(format!("{status} without a body")),
            (Some(schema), Some(body)) => against(schema, body, "response", faults),
            (None, Some(body)) => {
                if !body["message"].is_string() {
                    faults.push(format!("{status} without a message"));
                }
            }
        }
    }
}

fn against(schema: &Value, body: &Value, what: &str, faults: &mut Vec<String>) {
    let validator = jsonschema::validator_for(schema).unwrap();
    for error in validator.iter_errors(body) {
        faults.push(format!("{what} {}: {error}", error.instance_path));
    }
}
