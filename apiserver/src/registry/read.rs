//! Get, list and watch: always from the cache, except for pages of lists that are older than the cache remembers.
//!
//! It does not encode. Invariant: without a resourceVersion a read shows everything that was acknowledged before it began;
//! all pages of a list show one revision.

use std::sync::Arc;

use corten_api::field::{FieldError, FieldPath};
use corten_api::selector::{FieldSelector, LabelSelector};
use corten_api::status::Status;

use super::token::Token;
use super::{Answer, Registry, Target};
use crate::cache::{Item, ResourceCache, Selection, Snapshot, Watch, WatchStart};
use crate::storage::{self, RangeQuery, Revision, prefix_end};

/// How a given resourceVersion is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionMatch {
    Exact,
    NotOlderThan,
}

/// Parameters of a list, as the client wrote them.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    /// 0: everything.
    pub limit: i64,
    pub continue_token: String,
    /// None and empty mean the same: the most recent.
    pub resource_version: Option<String>,
    pub resource_version_match: Option<RevisionMatch>,
}

/// Parameters of a watch, as the client wrote them.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<RevisionMatch>,
    pub send_initial_events: Option<bool>,
    pub allow_bookmarks: bool,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct List {
    pub revision: Revision,
    pub items: Vec<Arc<Item>>,
    /// Where the next page begins; none on the last page.
    pub continue_token: Option<String>,
    /// How many objects follow; none when unknown.
    pub remaining: Option<i64>,
}

/// Where a list reads.
enum Source {
    Snapshot(Arc<Snapshot>),
    /// The cache no longer knows the revision; the store may.
    Store,
}

impl Registry {
    /// One object. A resourceVersion means "at least as new".
    pub async fn get(
        &self,
        target: &Target,
        resource_version: Option<&str>,
    ) -> Result<Answer, Status> {
        target.require_verb("get")?;
        if target.subresource == "scale" {
            return self.get_scale(target).await;
        }
        // Streams: whoever may read a pod's log may not therefore read the pod.
        let own_kind = target
            .sub()
            .is_none_or(|sub| sub.kind == target.descriptor.kind);
        if !own_kind || target.subresource == "log" {
            return Err(target.method_not_allowed("get"));
        }
        Ok(Answer::item(self.item(target, resource_version).await?))
    }

    /// One stored object.
    pub async fn item(
        &self,
        target: &Target,
        resource_version: Option<&str>,
    ) -> Result<Arc<Item>, Status> {
        if target.descriptor.is_virtual() {
            return self.component(target).await;
        }
        let cache = self.cache(target)?;
        self.reach(resource_version.unwrap_or("")).await?;
        let snapshot = cache.snapshot();
        let found = snapshot.get(&target.namespace, &target.name);
        found.cloned().ok_or_else(|| target.not_found())
    }

    /// A page of objects.
    pub async fn list(&self, target: &Target, options: &ListOptions) -> Result<List, Status> {
        target.require_verb("list")?;
        let selection = selection(target, &options.label_selector, &options.field_selector)?;
        if target.descriptor.is_virtual() {
            return self.components(target, &selection).await;
        }
        let cache = self.cache(target)?;
        check_list(options)?;
        let given = options.resource_version.as_deref().unwrap_or("");
        let (revision, source, start) = if options.continue_token.is_empty() {
            let exact = options.resource_version_match == Some(RevisionMatch::Exact)
                || (options.resource_version_match.is_none() && options.limit > 0);
            if exact && !matches!(given, "" | "0") {
                let revision = parse(given)?;
                self.reach(given).await?;
                (revision, at_revision(cache, revision), None)
            } else {
                let (revision, snapshot) = self.present(cache, given).await?;
                (revision, Source::Snapshot(snapshot), None)
            }
        } else {
            let token = Token::decode(&options.continue_token, selection.namespace.as_deref())?;
            match token.revision {
                Some(revision) => {
                    self.caches.wait_for(revision).await?;
                    (revision, at_revision(cache, revision), Some(token.start))
                }
                None => {
                    let (revision, snapshot) = self.present(cache, "").await?;
                    (revision, Source::Snapshot(snapshot), Some(token.start))
                }
            }
        };
        let limit = usize::try_from(options.limit).unwrap_or(0);
        let page = Page {
            cache,
            selection: &selection,
            start: start.as_deref(),
            limit,
            revision,
        };
        match source {
            Source::Snapshot(snapshot) => Ok(page.of_snapshot(&snapshot)),
            Source::Store => page.of_store(&self.store).await,
        }
    }

    /// Starts a watch.
    pub async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<Watch, Status> {
        target.require_verb("watch")?;
        let cache = self.cache(target)?;
        let mut selection = selection(target, &options.label_selector, &options.field_selector)?;
        if !target.name.is_empty() {
            // Besides the client's own conditions: those may be what the watch was authorised by.
            selection.fields = selection
                .fields
                .and_equals("metadata.name", target.name.as_str());
        }
        check_watch(options)?;
        let given = options.resource_version.as_deref().unwrap_or("");
        let state = match (options.send_initial_events, given) {
            (Some(initial), _) => initial,
            (None, "" | "0") => true,
            (None, _) => false,
        };
        self.reach(given).await?;
        let observed = self.caches.observed();
        let start = match given {
            _ if state => WatchStart::State,
            "" | "0" => WatchStart::After(observed),
            given => WatchStart::After(parse(given)?),
        };
        Ok(Watch::open(cache, selection, start, observed)?)
    }

    /// Waits until the cache may answer for this resourceVersion: empty for everything acknowledged, "0" for anything.
    async fn reach(&self, resource_version: &str) -> Result<(), Status> {
        match resource_version {
            "" => {
                self.caches.wait_fresh().await?;
            }
            "0" => self.caches.wait_for(Revision::ZERO).await?,
            given => self.caches.wait_for(parse(given)?).await?,
        }
        Ok(())
    }

    /// The present snapshot and the revision that a list of it shows.
    async fn present(
        &self,
        cache: &ResourceCache,
        resource_version: &str,
    ) -> Result<(Revision, Arc<Snapshot>), Status> {
        self.reach(resource_version).await?;
        // In this order: what is observed is in the snapshot that is taken afterwards.
        let observed = self.caches.observed();
        let snapshot = cache.snapshot();
        Ok((observed.max(snapshot.revision), snapshot))
    }
}

fn at_revision(cache: &ResourceCache, revision: Revision) -> Source {
    if let Some(snapshot) = cache.page_snapshot(revision) {
        return Source::Snapshot(snapshot);
    }
    let snapshot = cache.snapshot();
    if snapshot.revision <= revision {
        return Source::Snapshot(snapshot);
    }
    Source::Store
}

/// What a page is cut by.
struct Page<'a> {
    cache: &'a ResourceCache,
    selection: &'a Selection,
    start: Option<&'a str>,
    /// 0: no limit.
    limit: usize,
    revision: Revision,
}

impl Page<'_> {
    fn of_snapshot(&self, snapshot: &Arc<Snapshot>) -> List {
        if let Some(item) = self.only(snapshot) {
            let items = item.into_iter().collect();
            return List {
                revision: self.revision,
                items,
                continue_token: None,
                remaining: None,
            };
        }
        let mut rest = snapshot
            .candidates(self.selection, self.start)
            .filter(|item| self.selection.matches(item));
        if self.limit == 0 {
            let items = rest.cloned().collect();
            return List {
                revision: self.revision,
                items,
                continue_token: None,
                remaining: None,
            };
        }
        let items: Vec<_> = rest.by_ref().take(self.limit).cloned().collect();
        // With selectors it is enough to know whether anything follows; without, clients are told how much.
        let following = if self.selection.has_selectors() {
            usize::from(rest.next().is_some())
        } else {
            rest.count()
        };
        if following > 0 {
            self.cache.keep_for_pages(self.revision, snapshot);
        }
        self.list(items, following)
    }

    /// The object that the field selector names: no need to walk the others.
    fn only(&self, snapshot: &Snapshot) -> Option<Option<Arc<Item>>> {
        let name = self.selection.pinned_name()?;
        let namespace = match (&self.selection.namespace, self.cache.descriptor.namespaced) {
            (Some(namespace), true) => namespace.as_str(),
            (None, true) => return None,
            (_, false) => "",
        };
        let found = snapshot.get(namespace, name);
        Some(found.filter(|item| self.selection.matches(item)).cloned())
    }

    async fn of_store(&self, store: &storage::Store) -> Result<List, Status> {
        /// A filter may drop most of what is read.
        const READ: i64 = 500;
        let prefix = self.cache.prefix();
        let low = self
            .selection
            .namespace
            .as_deref()
            .map(|name| format!("{prefix}{name}/"));
        let low = low.unwrap_or_else(|| prefix.to_owned());
        let start = self
            .start
            .map(|start| format!("{prefix}{start}"))
            .unwrap_or_default();
        let mut query = RangeQuery {
            end: prefix_end(&low),
            start: start.max(low),
            revision: Some(self.revision),
            limit: READ,
        };
        let mut items = Vec::new();
        loop {
            let range = match store.range(&query).await {
                Err(storage::Error::Compacted { .. }) => return Err(self.expired()),
                other => other?,
            };
            let (count, mut seen) = (range.count, 0);
            for stored in &range.items {
                seen += 1;
                let key = &stored.key[prefix.len()..];
                let item = Item::decode(
                    self.cache.descriptor,
                    key,
                    &stored.value,
                    stored.mod_revision,
                )?;
                if !self.selection.matches(&item) {
                    continue;
                }
                items.push(Arc::new(item));
                if self.limit > 0 && items.len() == self.limit {
                    let following = usize::try_from(count - seen).unwrap_or(0);
                    return Ok(self.list(items, following));
                }
            }
            match &range.last_key {
                Some(last) if range.more => query.start = format!("{last}\0"),
                _ => return Ok(self.list(items, 0)),
            }
        }
    }

    fn list(&self, items: Vec<Arc<Item>>, following: usize) -> List {
        let last = items.last().filter(|_| following > 0);
        let continue_token = last.map(|last| {
            let start = format!("{}\0", last.key);
            Token {
                revision: Some(self.revision),
                start,
            }
            .encode()
        });
        let exact = continue_token.is_some() && !self.selection.has_selectors();
        List {
            revision: self.revision,
            items,
            continue_token,
            remaining: exact.then(|| i64::try_from(following).unwrap_or(i64::MAX)),
        }
    }

    fn expired(&self) -> Status {
        match self.start {
            Some(start) => {
                let token = Token {
                    revision: None,
                    start: start.to_owned(),
                };
                Status::continue_expired(token.encode())
            }
            None => Status::expired(format!(
                "The resourceVersion for the provided list is too old: {}",
                self.revision
            )),
        }
    }
}

/// Parses selectors and refuses fields that the kind does not offer.
pub(super) fn selection(target: &Target, labels: &str, fields: &str) -> Result<Selection, Status> {
    let labels = LabelSelector::parse(labels)
        .map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))?;
    let fields =
        FieldSelector::parse(fields).map_err(|error| Status::bad_request(error.to_string()))?;
    let nothing = serde_json::json!({});
    let known = target.descriptor.strategy.selectable_fields(&nothing);
    for field in fields.fields() {
        if known.get(field).is_none() {
            return Err(Status::bad_request(format!(
                "field label not supported: {field}"
            )));
        }
    }
    let namespace = Some(target.namespace.clone()).filter(|namespace| !namespace.is_empty());
    Ok(Selection {
        namespace,
        labels,
        fields,
    })
}

fn parse(resource_version: &str) -> Result<Revision, Status> {
    Revision::parse(resource_version)
        .map_err(|error| Status::bad_request(format!("resourceVersion: {error}")))
}

fn check_list(options: &ListOptions) -> Result<(), Status> {
    let given = options.resource_version.as_deref().unwrap_or("");
    let refuse = |why: &str| Err(invalid_options("resourceVersionMatch", why));
    if options.limit < 0 {
        return Err(Status::bad_request("limit must not be negative"));
    }
    if !options.continue_token.is_empty() && !matches!(given, "" | "0") {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let Some(wanted) = options.resource_version_match else {
        return Ok(());
    };
    if !options.continue_token.is_empty() {
        return refuse("resourceVersionMatch is forbidden when continue is provided");
    }
    if given.is_empty() {
        return refuse("resourceVersionMatch is forbidden unless resourceVersion is provided");
    }
    if wanted == RevisionMatch::Exact && given == "0" {
        return refuse("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
    }
    Ok(())
}

fn check_watch(options: &WatchOptions) -> Result<(), Status> {
    let refuse = |field: &str, why: &str| Err(invalid_options(field, why));
    match (options.send_initial_events, options.resource_version_match) {
        (None, Some(_)) => refuse(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), None | Some(RevisionMatch::Exact)) => refuse(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        _ => Ok(()),
    }
}

fn invalid_options(field: &str, why: &str) -> Status {
    let kind = corten_api::meta::GroupKind::new("meta.k8s.io", "ListOptions");
    Status::invalid(
        &kind,
        "",
        &[FieldError::forbidden(&FieldPath::new(field), why)],
    )
}
