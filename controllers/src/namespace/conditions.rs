//! What a terminating namespace says about itself, in upstream's words: people and tools wait for these. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Content;

/// All conditions, with their times kept where the status did not change.
pub(super) fn of(
    old: &[NamespaceCondition],
    content: &Content,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let discovered = (
        "NamespaceDeletionDiscoveryFailure",
        false,
        "ResourcesDiscovered",
        "All resources successfully discovered".to_owned(),
    );
    let parsed = (
        "NamespaceDeletionGroupVersionParsingFailure",
        false,
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed".to_owned(),
    );
    let deleted = if content.failures.is_empty() {
        let message = "All content successfully deleted, may be waiting on finalization".to_owned();
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            message,
        )
    } else {
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            content.failures.len(),
            content.failures.join(", ")
        );
        (
            "NamespaceDeletionContentFailure",
            true,
            "ContentDeletionFailed",
            message,
        )
    };
    let remaining = if content.remaining.is_empty() {
        (
            "NamespaceContentRemaining",
            false,
            "ContentRemoved",
            "All content successfully removed".to_owned(),
        )
    } else {
        let message = format!(
            "Some resources are remaining: {}",
            list(&content.remaining, ". has", "resource instances")
        );
        (
            "NamespaceContentRemaining",
            true,
            "SomeResourcesRemain",
            message,
        )
    };
    let finalizers = if content.finalizers.is_empty() {
        let message = "All content-preserving finalizers finished".to_owned();
        (
            "NamespaceFinalizersRemaining",
            false,
            "ContentHasNoFinalizers",
            message,
        )
    } else {
        let message = format!(
            "Some content in the namespace has finalizers remaining: {}",
            list(&content.finalizers, " in", "resource instances")
        );
        (
            "NamespaceFinalizersRemaining",
            true,
            "SomeFinalizersRemain",
            message,
        )
    };
    let ours = [discovered, parsed, deleted, remaining, finalizers];
    let foreign = old
        .iter()
        .filter(|c| ours.iter().all(|(kind, ..)| c.type_ != *kind))
        .cloned();
    let mine = ours.iter().map(|(kind, truth, reason, message)| {
        let status = if *truth { "True" } else { "False" };
        let before = old.iter().find(|c| c.type_ == *kind && c.status == status);
        NamespaceCondition {
            type_: (*kind).to_owned(),
            status: status.to_owned(),
            reason: Some((*reason).to_owned()),
            message: Some(message.clone()),
            last_transition_time: before
                .map_or(Some(Time(now)), |c| c.last_transition_time.clone()),
        }
    });
    mine.chain(foreign).collect()
}

fn list(counts: &BTreeMap<String, usize>, has: &str, what: &str) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name}{has} {count} {what}"))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named_and_times_stay() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let later: Timestamp = "2026-01-01T00:01:00Z".parse().expect("time");
        let content = Content {
            remaining: [("pods".to_owned(), 2)].into(),
            finalizers: [("example.com/x".to_owned(), 1)].into(),
            failures: Vec::new(),
        };
        let first = of(&[], &content, now);
        let words: Vec<_> = first
            .iter()
            .map(|c| {
                format!(
                    "{}={} {}",
                    c.type_,
                    c.status,
                    c.message.clone().unwrap_or_default()
                )
            })
            .collect();
        assert_eq!(
            words[3],
            "NamespaceContentRemaining=True Some resources are remaining: pods. has 2 resource instances"
        );
        assert!(
            words[4].ends_with("finalizers remaining: example.com/x in 1 resource instances"),
            "{words:?}"
        );
        assert_eq!(of(&first, &content, later), first);
        let empty = of(&first, &Content::default(), later);
        assert_eq!(empty[3].status, "False");
        assert_eq!(empty[3].last_transition_time, Some(Time(later)));
        assert_eq!(empty[0].last_transition_time, Some(Time(now)));
    }
}
