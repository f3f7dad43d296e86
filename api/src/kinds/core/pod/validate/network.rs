//! Names and name service of a pod.

use std::net::IpAddr;

use serde_json::Value;

use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;

/// Checks `dnsPolicy` and `dnsConfig`.
pub(super) fn dns(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let policy = spec.text("dnsPolicy");
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of(&path.child("dnsPolicy"), policy, &policies);
    let config = spec.at("dnsConfig");
    let at = path.child("dnsConfig");
    let servers = config.list("nameservers");
    if policy == "None" {
        if config.is_null() {
            errors.required(&at, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&at.child("nameservers"), detail);
        }
    }
    let list = at.child("nameservers");
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&list, config.at("nameservers"), detail);
    }
    for (i, server) in servers.iter().enumerate() {
        let text = server.as_str().unwrap_or("");
        if text.parse::<IpAddr>().is_err() {
            errors.invalid(&list.index(i), text, names::NOT_AN_IP);
        }
    }
    searches(config, &at.child("searches"), errors);
    let list = at.child("options");
    for (i, option) in config.list("options").iter().enumerate() {
        if option.is_empty_at("name") {
            errors.required(&list.index(i), "must not be empty");
        }
    }
}

fn searches(config: &Value, path: &Path<'_>, errors: &mut Errors) {
    let searches = config.list("searches");
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(path, config.at("searches"), detail);
    }
    let characters: usize = searches
        .iter()
        .map(|s| s.as_str().unwrap_or("").len() + 1)
        .sum();
    if characters > SEARCH_CHARACTERS_MAX + 1 {
        let detail = format!(
            "must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
        );
        errors.invalid(path, config.at("searches"), detail);
    }
    for (i, search) in searches.iter().enumerate() {
        let text = search.as_str().unwrap_or("");
        // A lone dot stands for the root; a trailing one for a full name; underscores occur in the wild.
        if text == "." {
            continue;
        }
        let bare = text.strip_suffix('.').unwrap_or(text).replace('_', "-");
        let bare = bare.trim_matches('-');
        errors.invalid_each(&path.index(i), text, names::subdomain(bare, false));
    }
}

/// Checks the names a pod gives itself.
pub(super) fn host_names(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["hostname", "subdomain"] {
        let name = spec.text(key);
        if !name.is_empty() {
            errors.invalid_each(&path.child(key), name, names::label(name, false));
        }
    }
}

/// Checks the lines added to the pod's hosts file.
pub(super) fn host_aliases(aliases: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, alias) in aliases.iter().enumerate() {
        let at = path.index(i);
        let ip = alias.text("ip");
        if ip.parse::<IpAddr>().is_err() {
            errors.invalid(&at.child("ip"), ip, names::NOT_AN_IP);
        }
        let list = at.child("hostnames");
        for (i, hostname) in alias.list("hostnames").iter().enumerate() {
            let hostname = hostname.as_str().unwrap_or("");
            let faults = names::subdomain(hostname, false);
            errors.invalid_each(&list.index(i), hostname, faults);
        }
    }
}
