//! Carries out plans and makes no choice: order, concurrency and what counts as done are said by `Action`. Invariant:
//! nothing is written after the first failure of a run (of a group, where the plan has groups), or after leadership is
//! lost.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;

use super::action::{Action, Expected, Plan};
use super::own_writes::Written;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::events::Recorder;
use crate::leader::Leadership;
use crate::object::{ObjectName, PartialObject, Revision, Target};
use crate::raw::{Deleted, decode, encode_value};

/// A batch starts with so many calls and doubles: a refusal that would hit all (quota) costs few calls.
const BATCH_FIRST: usize = 4;
/// No batch is larger: the server is not to be flooded by one key.
const BATCH_LAST: usize = 64;

/// Groups carried out side by side.
const GROUPS_AT_ONCE: usize = 16;
/// After so many failures no further group is begun: then it is not about single objects.
const GROUP_FAILURES_MAX: usize = 32;

/// An action that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What was tried, in words.
    pub action: String,
    /// What was tried.
    pub tried: Action,
    /// Why it failed.
    pub error: Error,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) written: Vec<Written>,
    pub(super) failed: Vec<Failed>,
}

/// Carries out plans over a client.
#[derive(Clone, Debug)]
pub struct Executor {
    client: Client,
    recorder: Option<Recorder>,
}

impl Executor {
    /// An executor without events.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            recorder: None,
        }
    }

    /// The same executor recording events here.
    #[must_use]
    pub fn with_recorder(mut self, recorder: Recorder) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Carries out a plan outside of a runner; the failures, if any.
    pub async fn run(&self, plan: Plan) -> Vec<Failed> {
        self.execute(plan, &Leadership::always()).await.failed
    }

    pub(super) async fn execute(&self, plan: Plan, leadership: &Leadership) -> Outcome {
        let mut outcome = Outcome::default();
        let (shared, groups) = plan.split();
        self.in_order(shared, leadership, &mut outcome).await;
        if outcome.failed.is_empty() && !groups.is_empty() {
            self.side_by_side(groups, leadership, &mut outcome).await;
        }
        outcome
    }

    async fn side_by_side(
        &self,
        groups: Vec<Vec<Action>>,
        leadership: &Leadership,
        outcome: &mut Outcome,
    ) {
        let failures = AtomicUsize::new(0);
        let failures = &failures;
        let runs = groups.into_iter().map(|group| async move {
            let mut own = Outcome::default();
            if failures.load(Ordering::Relaxed) < GROUP_FAILURES_MAX {
                self.in_order(group, leadership, &mut own).await;
                failures.fetch_add(own.failed.len(), Ordering::Relaxed);
            }
            own
        });
        let mut runs = futures::stream::iter(runs).buffered(GROUPS_AT_ONCE);
        while let Some(own) = runs.next().await {
            outcome.written.extend(own.written);
            outcome.failed.extend(own.failed);
        }
    }

    async fn in_order(&self, actions: Vec<Action>, leadership: &Leadership, outcome: &mut Outcome) {
        let mut rest = actions.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut batch = vec![first];
            while let Some(next) = rest.next_if(|next| batch[0].goes_with(next)) {
                batch.push(next);
            }
            self.batch(batch, leadership, outcome).await;
            if !outcome.failed.is_empty() {
                break;
            }
        }
    }

    async fn batch(&self, actions: Vec<Action>, leadership: &Leadership, outcome: &mut Outcome) {
        let mut width = BATCH_FIRST;
        let mut rest = actions.into_iter().peekable();
        while rest.peek().is_some() && outcome.failed.is_empty() && leadership.is_leading() {
            let wave: Vec<Action> = rest.by_ref().take(width).collect();
            width = (width * 2).min(BATCH_LAST);
            let calls = wave.into_iter().map(|action| async move {
                let result = self.act(&action).await;
                (action, result)
            });
            let mut results = futures::stream::iter(calls).buffered(BATCH_LAST);
            while let Some((tried, result)) = results.next().await {
                match result {
                    Ok(written) => outcome.written.extend(written),
                    Err(error) => {
                        outcome.failed.push(Failed {
                            action: tried.to_string(),
                            tried,
                            error,
                        });
                    }
                }
            }
        }
    }

    async fn act(&self, action: &Action) -> Result<Option<Written>> {
        match action {
            Action::Create { target, object } => {
                let reply = self.client.create_raw(target, encode_value(object)).await?;
                stored(target, &reply)
            }
            Action::Update { target, object } => {
                let reply = self.client.update_raw(target, encode_value(object)).await?;
                stored(target, &reply)
            }
            Action::Patch { target, patch } => {
                stored(target, &self.client.patch_raw(target, patch).await?)
            }
            Action::Delete { target, options } => {
                let name = ObjectName::new(&target.namespace, &target.name);
                let gone = Written::Gone {
                    collection: target.collection(),
                    name,
                    uid: options.uid.clone(),
                };
                match self.client.delete_raw(target, options).await {
                    Ok(Deleted::Terminating(revision)) => Ok(Some(Written::At {
                        collection: target.collection(),
                        revision,
                    })),
                    Ok(Deleted::Gone) | Err(Error::NotFound(_)) => Ok(Some(gone)),
                    // With a uid as the only precondition, a conflict says that the name is another object's by now.
                    Err(Error::Conflict(_))
                        if options.uid.is_some() && options.resource_version.is_none() =>
                    {
                        Ok(Some(gone))
                    }
                    Err(error) => Err(error),
                }
            }
            Action::Expect { target, state } => {
                let found = self.client.get_raw(target).await;
                check(target, state, found).map(|()| None)
            }
            Action::Event {
                regarding,
                kind,
                reason,
                message,
            } => {
                if let Some(recorder) = &self.recorder {
                    recorder.record((**regarding).clone(), *kind, reason, message.clone());
                }
                Ok(None)
            }
        }
    }
}

/// Whether the server's answer is what was expected. If not, the cache is behind: a conflict, as with any other state.
fn check(target: &Target, state: &Expected, found: Result<bytes::Bytes>) -> Result<()> {
    match (state, found) {
        (Expected::Gone, Err(Error::NotFound(_))) => Ok(()),
        (Expected::Gone, Ok(_)) => Err(Error::conflict(format_args!("{target} exists"))),
        (_, Err(error)) => Err(error),
        (Expected::Alive { uid }, Ok(found)) => {
            let object: PartialObject = decode(&found, || target.to_string())?;
            let same = object.metadata.uid.as_deref() == Some(uid.as_str());
            if same && object.metadata.deletion_timestamp.is_none() {
                return Ok(());
            }
            let what = if same {
                "is being deleted"
            } else {
                "is another one by now"
            };
            Err(Error::conflict(format_args!("{target} {what}")))
        }
    }
}

/// The revision of the stored object. A subresource such as a binding answers a Status: nothing to wait for then.
fn stored(target: &Target, reply: &[u8]) -> Result<Option<Written>> {
    let object: PartialObject = decode(reply, || target.to_string())?;
    let revision = Revision::of(&object.metadata);
    let at = Written::At {
        collection: target.collection(),
        revision,
    };
    Ok((revision > Revision(0)).then_some(at))
}
