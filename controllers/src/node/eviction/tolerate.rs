//! How long a pod bears the taints of its node. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

/// How much longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Endless,
    Left(Duration),
}

/// The shortest patience over all taints. `age` is how long the pod is on the node.
pub(super) fn patience(pod: &Pod, age: Duration, taints: &[(Taint, Duration)]) -> Patience {
    let tolerations: Vec<&Toleration> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.tolerations.iter().flatten())
        .collect();
    let mut shortest = Patience::Endless;
    for (taint, taint_age) in taints {
        let bearing: Vec<&&Toleration> = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .collect();
        if bearing.is_empty() {
            return Patience::Left(Duration::ZERO);
        }
        // Of several tolerations the shortest counts; one without seconds sets no limit.
        let Some(seconds) = bearing
            .iter()
            .filter_map(|toleration| toleration.toleration_seconds)
            .min()
        else {
            continue;
        };
        let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let left = limit.saturating_sub(age.min(*taint_age));
        shortest = match shortest {
            Patience::Left(before) => Patience::Left(before.min(left)),
            Patience::Endless => Patience::Left(left),
        };
    }
    shortest
}

/// Whether a toleration is about a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration
        .effect
        .as_deref()
        .filter(|effect| !effect.is_empty());
    let key = toleration.key.as_deref().filter(|key| !key.is_empty());
    if effect.is_some_and(|effect| effect != taint.effect)
        || key.is_some_and(|key| key != taint.key)
    {
        return false;
    }
    match toleration
        .operator
        .as_deref()
        .filter(|operator| !operator.is_empty())
        .unwrap_or("Equal")
    {
        "Exists" => true,
        "Equal" => {
            key.is_some()
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}
