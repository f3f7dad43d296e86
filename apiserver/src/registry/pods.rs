//! What pods need beyond the verbs: binding to a node, and eviction that respects disruption budgets.
//!
//! Invariant: a pod is bound once and never again, and an eviction that is let through has been counted against the
//! budget before the pod is deleted.

use corten_api::kinds::core::pod::binding::bind as apply;
use corten_api::meta;
use corten_api::selector::LabelSelector;
use corten_api::status::{Reason, Status};
use serde_json::{Value, json};

use super::modify::Part;
use super::{Answer, Context, DeleteOptions, Registry, Target};
use crate::admission::{Operation, Review};
use crate::cache::Item;

/// When the next eviction may be worth a try, in seconds.
const RETRY_AFTER: u32 = 10;
const POLICY: &str = "policy";
const BUDGETS: &str = "poddisruptionbudgets";

impl Registry {
    /// `pods/binding`: puts a pod on a node.
    pub(super) async fn bind(
        &self,
        context: &Context,
        target: &Target,
        binding: Value,
    ) -> Result<Answer, Status> {
        let name = if target.name.is_empty() {
            meta::name(&binding)
        } else {
            &target.name
        };
        let node = binding["target"]["name"].as_str().unwrap_or("");
        let kind = binding["target"]["kind"].as_str().unwrap_or("Node");
        if node.is_empty() || !matches!(kind, "" | "Node") {
            return Err(Status::bad_request(
                "a binding needs a target of kind Node with a name",
            ));
        }
        let pod = Target::of("", "pods", &target.namespace, name)?;
        let review = Review {
            context,
            target,
            operation: Operation::Create,
        };
        self.admission
            .validate(self, &review, Some(&binding), None)?;
        let conflict = |why: String| {
            let resource = meta::GroupResource::new("", "pods/binding");
            Status::conflict(&resource, &pod.name, &why)
        };
        let mut compute = |old: &Value| {
            let mut new = old.clone();
            apply(&mut new, &binding, context.now).map_err(|error| conflict(error.to_string()))?;
            let revision = meta::resource_version(&binding).to_owned();
            meta::metadata_mut(&mut new).insert("resourceVersion".to_owned(), revision.into());
            Ok(new)
        };
        self.modify(context, &pod, Part::Own, &mut compute).await?;
        Ok(Answer::status(Status::success(None)).created())
    }

    /// `pods/eviction`: deletes a pod if its disruption budget allows it.
    pub(super) async fn evict(
        &self,
        context: &Context,
        target: &Target,
        eviction: &Value,
    ) -> Result<Answer, Status> {
        let name = meta::name(eviction);
        if !name.is_empty() && name != target.name {
            return Err(Status::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let mut options = DeleteOptions::from_json(&eviction["deleteOptions"])?;
        let pod = Target::of("", "pods", &target.namespace, &target.name)?;
        let item = self.item(&pod, None).await?;
        let object = item.value();
        let review = Review {
            context,
            target,
            operation: Operation::Create,
        };
        self.admission
            .validate(self, &review, Some(eviction), Some(&object))?;
        let phase = object["status"]["phase"].as_str().unwrap_or("Pending");
        let harmless =
            meta::is_deleting(&object) || matches!(phase, "Succeeded" | "Failed" | "Pending");
        if !harmless {
            let budgets = self.budgets_of(&pod, &item)?;
            match budgets.as_slice() {
                [] => {}
                [budget] => {
                    self.spend(context, budget, &object, context.dry_run || options.dry_run)
                        .await?
                }
                _ => {
                    return Err(Status::internal(
                        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                    ));
                }
            }
            // What was counted against the budget is this pod, not another of the same name.
            options.uid.get_or_insert_with(|| item.uid.to_string());
        }
        if !(context.dry_run || options.dry_run) {
            self.mark_evicted(context, &pod, &mut options).await?;
        }
        self.delete(context, &pod, &options).await?;
        Ok(Answer::status(Status::success(None)).created())
    }

    /// Says on the pod why it goes, for whoever judges its end (a Job does not count it as a failure).
    async fn mark_evicted(
        &self,
        context: &Context,
        pod: &Target,
        options: &mut DeleteOptions,
    ) -> Result<(), Status> {
        let mut compute = |old: &Value| {
            let mut new = old.clone();
            if let Some(uid) = &options.uid {
                meta::set_uid(&mut new, &uid.clone().into());
            }
            if let Some(revision) = &options.resource_version {
                let metadata = meta::metadata_mut(&mut new);
                metadata.insert("resourceVersion".to_owned(), revision.clone().into());
            }
            set_disruption_target(&mut new, context.now);
            Ok(new)
        };
        let marked = self.modify(context, pod, Part::Own, &mut compute).await?;
        if let Some(revision) = &mut options.resource_version {
            // The mark is our own write; the deletion is to follow it and no other.
            meta::resource_version(&marked.into_value()).clone_into(revision);
        }
        Ok(())
    }

    fn budgets_of(&self, pod: &Target, item: &Item) -> Result<Vec<Target>, Status> {
        let any = Target::of(POLICY, BUDGETS, &pod.namespace, "")?;
        let snapshot = self.cache(&any)?.snapshot();
        let mut found = Vec::new();
        for budget in snapshot.range(Some(&pod.namespace), None) {
            let selector = &budget.value()["spec"]["selector"];
            let selects = !selector.is_null()
                && LabelSelector::from_json(selector).is_ok_and(|selector| selector.matches(item));
            if selects {
                found.push(any.named(&budget.name));
            }
        }
        Ok(found)
    }

    /// Takes one disruption from the budget, or says why there is none.
    async fn spend(
        &self,
        context: &Context,
        budget: &Target,
        pod: &Value,
        dry_run: bool,
    ) -> Result<(), Status> {
        let context = Context {
            dry_run,
            ..context.clone()
        };
        let mut compute = |old: &Value| {
            let mut new = old.clone();
            if !needs_budget(old, pod) {
                return Ok(new);
            }
            check_budget(&budget.name, old)?;
            let allowed = old["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
            new["status"]["disruptionsAllowed"] = (allowed - 1).into();
            new["status"]["disruptedPods"][meta::name(pod)] = meta::format_time(context.now).into();
            Ok(new)
        };
        self.modify(&context, budget, Part::Own, &mut compute)
            .await
            .map(|_| ())
    }
}

fn set_disruption_target(pod: &mut Value, now: jiff::Timestamp) {
    let generation = meta::generation(pod);
    let status = meta::child_mut(
        pod.as_object_mut().expect("a stored pod is an object"),
        "status",
    );
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let is_target = |condition: &Value| condition["type"] == "DisruptionTarget";
    let known = conditions.iter().find(|condition| is_target(condition));
    // The time tells when it became true, not when it was last said.
    let since = known
        .filter(|condition| condition["status"] == "True")
        .map(|condition| condition["lastTransitionTime"].clone());
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| meta::format_time(now).into()),
        "observedGeneration": generation,
    });
    conditions.retain(|known| !is_target(known));
    conditions.push(condition);
}

/// A pod that is not ready takes nothing away from an application that is healthy without it.
fn needs_budget(budget: &Value, pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    });
    if ready {
        return true;
    }
    if budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" {
        return false;
    }
    let count = |name: &str| budget["status"][name].as_i64().unwrap_or(0);
    !(count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0)
}

fn check_budget(name: &str, budget: &Value) -> Result<(), Status> {
    const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let refuse = |why: String| {
        Err(Status::failure(Reason::TooManyRequests, REFUSED)
            .retry_after(RETRY_AFTER)
            .cause("DisruptionBudget", "", why))
    };
    if count("observedGeneration") < meta::generation(budget) {
        return refuse(format!(
            "The disruption budget {name} is still being processed by the server."
        ));
    }
    if count("disruptionsAllowed") <= 0 {
        return refuse(format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        ));
    }
    Ok(())
}
