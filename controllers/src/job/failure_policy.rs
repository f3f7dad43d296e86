//! `podFailurePolicy`: what the end of a failed pod means for its Job. The first rule that fits decides.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One failure more.
    Counts,
    /// As if it had not been.
    Ignored,
    /// The index is not tried again. The pod counts.
    FailsIndex,
    /// The Job is over, with this message. The pod counts.
    FailsJob(String),
}

impl Verdict {
    pub(super) fn counts(&self) -> bool {
        *self != Self::Ignored
    }
}

pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let rules = policy
        .map(|policy| policy.rules.as_slice())
        .unwrap_or_default();
    rules
        .iter()
        .enumerate()
        .find_map(|(at, rule)| judge_by(rule, at, pod))
        .unwrap_or(Verdict::Counts)
}

/// What one rule says, if it fits.
fn judge_by(rule: &PodFailurePolicyRule, at: usize, pod: &Pod) -> Option<Verdict> {
    let status = pod.status.as_ref()?;
    let what = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
        (Some(codes), _) => {
            let (container, code) = ended_with(status, codes)?;
            format!(
                "Container {container} for pod {} failed with exit code {code}",
                name(pod)
            )
        }
        (None, Some(_)) => format!(
            "Pod {} has condition {}",
            name(pod),
            condition(status, rule)?
        ),
        (None, None) => return None,
    };
    let action = rule.action.as_str();
    Some(match action {
        "Ignore" => Verdict::Ignored,
        "FailIndex" => Verdict::FailsIndex,
        "Count" => Verdict::Counts,
        "FailJob" => Verdict::FailsJob(format!("{what} matching {action} rule at index {at}")),
        _ => return None, // validation lets no other in
    })
}

fn name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&meta.namespace), part(&meta.name))
}

fn condition<'a>(status: &'a PodStatus, rule: &PodFailurePolicyRule) -> Option<&'a str> {
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let fits = |kind: &str, truth: &str| {
        patterns
            .iter()
            .any(|p| p.type_ == kind && p.status.as_deref().unwrap_or("True") == truth)
    };
    let mut conditions = status.conditions.iter().flatten();
    let found = conditions.find(|c| fits(&c.type_, &c.status));
    found.map(|condition| condition.type_.as_str())
}

/// The first container that ended in the way that is asked for, and its exit code.
fn ended_with<'a>(
    status: &'a PodStatus,
    wanted: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let listed = |code: i32| wanted.values.contains(&code);
    let fits = |code: i32| match wanted.operator.as_str() {
        "In" => listed(code),
        "NotIn" => !listed(code),
        _ => false,
    };
    let ended = |container: &'a ContainerStatus| {
        let named = wanted
            .container_name
            .as_ref()
            .is_none_or(|n| *n == container.name);
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        (named && code != 0 && fits(code)).then_some((container.name.as_str(), code))
    };
    let containers = status.container_statuses.iter().flatten();
    containers
        .chain(status.init_container_statuses.iter().flatten())
        .find_map(ended)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn verdict(rules: Value, exits: &[(&str, i32)], conditions: Value) -> Verdict {
        let policy: PodFailurePolicy =
            serde_json::from_value(json!({"rules": rules})).expect("policy");
        let statuses: Vec<Value> = exits
            .iter()
            .map(|(name, code)| {
                json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                       "state": {"terminated": {"exitCode": code}}})
            })
            .collect();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": []},
            "status": {"phase": "Failed", "containerStatuses": statuses, "conditions": conditions},
        }))
        .expect("pod");
        judge(Some(&policy), &pod)
    }

    #[test]
    fn exit_codes_decide() {
        let rule = |action: &str, operator: &str, container: Value| json!({"action": action, "onExitCodes": {"operator": operator, "values": [5, 6], "containerName": container}});
        let any = Value::Null;
        let message =
            "Container b for pod d/p failed with exit code 5 matching FailJob rule at index 1";
        let cases = [
            (json!([rule("Ignore", "In", any.clone())]), Verdict::Ignored),
            (json!([rule("Ignore", "In", json!("a"))]), Verdict::Counts),
            (
                json!([rule("Ignore", "NotIn", any.clone())]),
                Verdict::Ignored,
            ),
            (
                json!([rule("Ignore", "NotIn", json!("b"))]),
                Verdict::Counts,
            ),
            (
                json!([
                    rule("Count", "In", any.clone()),
                    rule("Ignore", "In", any.clone())
                ]),
                Verdict::Counts,
            ),
            (
                json!([rule("FailIndex", "In", any.clone())]),
                Verdict::FailsIndex,
            ),
            (
                json!([rule("Ignore", "In", json!("a")), rule("FailJob", "In", any)]),
                Verdict::FailsJob(message.to_owned()),
            ),
        ];
        for (rules, expected) in cases {
            let found = verdict(rules.clone(), &[("a", 1), ("b", 5), ("c", 0)], json!([]));
            assert_eq!(found, expected, "{rules}");
        }
    }

    #[test]
    fn conditions_decide() {
        let rules = json!([
            {"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue", "status": "True"}]},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        ]);
        let message = "Pod d/p has condition ConfigIssue matching FailJob rule at index 0";
        let cases = [
            ("DisruptionTarget", "True", Verdict::Ignored),
            ("DisruptionTarget", "False", Verdict::Counts),
            ("ConfigIssue", "True", Verdict::FailsJob(message.to_owned())),
        ];
        for (kind, status, expected) in cases {
            let conditions = json!([{"type": kind, "status": status}]);
            assert_eq!(verdict(rules.clone(), &[("a", 1)], conditions), expected);
        }
    }
}
