//! What a terminating namespace says about itself, in upstream's words: people and tools wait for these. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Content;

/// Type, truth, reason and message.
type Said = (&'static str, bool, &'static str, String);

/// All conditions, with their times kept where the status did not change.
pub(super) fn of(
    old: &[NamespaceCondition],
    content: &Content,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let ours = [
        // Kinds are built in: there is nothing to discover that could fail.
        said(
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        said(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        failures(content),
        remaining(content),
        finalizers(content),
    ];
    let foreign = old
        .iter()
        .filter(|c| ours.iter().all(|(kind, ..)| c.type_ != *kind));
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
    mine.chain(foreign.cloned()).collect()
}

/// A condition that is false, as all is well.
fn said(kind: &'static str, reason: &'static str, message: &str) -> Said {
    (kind, false, reason, message.to_owned())
}

fn failures(content: &Content) -> Said {
    const KIND: &str = "NamespaceDeletionContentFailure";
    if content.failures.is_empty() {
        let message = "All content successfully deleted, may be waiting on finalization";
        return said(KIND, "ContentDeleted", message);
    }
    let (count, list) = (content.failures.len(), content.failures.join(", "));
    let message = format!("Failed to delete all resource types, {count} remaining: {list}");
    (KIND, true, "ContentDeletionFailed", message)
}

fn remaining(content: &Content) -> Said {
    const KIND: &str = "NamespaceContentRemaining";
    if content.remaining.is_empty() {
        return said(KIND, "ContentRemoved", "All content successfully removed");
    }
    let list = list(&content.remaining, ". has", "resource instances");
    let message = format!("Some resources are remaining: {list}");
    (KIND, true, "SomeResourcesRemain", message)
}

fn finalizers(content: &Content) -> Said {
    const KIND: &str = "NamespaceFinalizersRemaining";
    if content.finalizers.is_empty() {
        let message = "All content-preserving finalizers finished";
        return said(KIND, "ContentHasNoFinalizers", message);
    }
    let list = list(&content.finalizers, " in", "resource instances");
    let message = format!("Some content in the namespace has finalizers remaining: {list}");
    (KIND, true, "SomeFinalizersRemain", message)
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
