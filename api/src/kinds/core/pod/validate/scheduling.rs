//! What the scheduler reads besides affinity: tolerations, spreading, gates.

use serde_json::Value;

use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks the effect of a taint or toleration; a toleration without one tolerates all.
pub(crate) fn taint_effect(effect: &str, empty_ok: bool, path: &Path<'_>, errors: &mut Errors) {
    if effect.is_empty() {
        if !empty_ok {
            errors.required(path, "");
        }
    } else if !EFFECTS.contains(&effect) {
        errors.not_supported(path, effect, EFFECTS);
    }
}

/// Checks a list of tolerations.
pub(crate) fn tolerations(tolerations: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let at = path.index(i);
        let (key, operator, value) = (
            toleration.text("key"),
            toleration.text("operator"),
            toleration.text("value"),
        );
        if !key.is_empty() {
            errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at.child("operator"), operator, detail);
        }
        let effect = toleration.text("effect");
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                errors.invalid_each(&at.child("operator"), value, names::label_value(value))
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(
                    &at.child("operator"),
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            other => errors.not_supported(&at.child("operator"), other, &["Equal", "Exists"]),
        }
        taint_effect(effect, true, &at.child("effect"), errors);
    }
}

/// Checks topology spread constraints.
pub(super) fn spread(constraints: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, constraint) in constraints.iter().enumerate() {
        let at = path.index(i);
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        let key = constraint.text("topologyKey");
        topology_key(key, &at.child("topologyKey"), errors);
        let action = constraint.text("whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.not_supported(&at.child("whenUnsatisfiable"), action, &actions);
        }
        let twin =
            |c: &&Value| c.text("topologyKey") == key && c.text("whenUnsatisfiable") == action;
        if constraints[..i].iter().any(|c| twin(&c)) {
            errors.duplicate(
                &at.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {action}}}"),
            );
        }
        min_domains(constraint, action, &at.child("minDomains"), errors);
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(text) = constraint.opt_text(policy) {
                errors.one_of(&at.child(policy), text, &["Honor", "Ignore"]);
            }
        }
        validate_label_selector(
            constraint.at("labelSelector"),
            &at.child("labelSelector"),
            errors,
        );
        let keys = at.child("matchLabelKeys");
        if !constraint.is_empty_at("matchLabelKeys") && !constraint.has("labelSelector") {
            errors.forbidden(&keys, "must not be specified when labelSelector is not set");
        }
        for (i, key) in constraint.list("matchLabelKeys").iter().enumerate() {
            let key = key.as_str().unwrap_or("");
            errors.invalid_each(&keys.index(i), key, names::qualified_name(key));
        }
    }
}

fn min_domains(constraint: &Value, action: &str, path: &Path<'_>, errors: &mut Errors) {
    let Some(domains) = constraint.int("minDomains") else {
        return;
    };
    if domains <= 0 {
        errors.invalid(path, domains, "must be greater than zero");
    }
    if action != "DoNotSchedule" {
        let detail =
            format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.invalid(path, domains, detail);
    }
}

/// Checks the label by which nodes are grouped.
pub(super) fn topology_key(key: &str, path: &Path<'_>, errors: &mut Errors) {
    if key.is_empty() {
        errors.required(path, "can not be empty");
    } else {
        errors.invalid_each(path, key, names::qualified_name(key));
    }
}

/// Checks scheduling gates.
pub(super) fn gates(gates: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, gate) in gates.iter().enumerate() {
        let at = path.index(i);
        let name = gate.text("name");
        errors.invalid_each(&at, name, names::qualified_name(name));
        if gates[..i].iter().any(|g| g.text("name") == name) {
            errors.duplicate(&at, name);
        }
    }
}

/// Checks readiness gates.
pub(super) fn readiness_gates(gates: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, gate) in gates.iter().enumerate() {
        let at = path.index(i);
        let kind = gate.text("conditionType");
        errors.invalid_each(
            &at.child("conditionType"),
            kind,
            names::qualified_name(kind),
        );
    }
}
