//! What runs beside the requests: caches, authorizer, system objects, the kubernetes Service, repairs, compaction.
//!
//! Invariant: nothing here delays the listener; until the tasks have done their first work the server answers, but is not
//! ready.

use std::sync::Arc;
use std::time::Duration;

use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};

use super::Server;
use crate::allocators;
use crate::authz::live::Live;
use crate::chain::Edge;
use crate::chain::objects::Objects;
use crate::registry::{Registry, create_system_objects};
use crate::storage::{self, Revision};
use crate::{bootstrap, cache::Caches};

/// The store may still be electing a leader when the server starts.
const RETRY: Duration = Duration::from_millis(300);
/// How soon arrived rules are noticed.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A readiness check of its own, so that people see what is missing.
const BOOTSTRAP: &str = "bootstrap";

/// Starts everything; all of it ends with the server.
pub(super) fn start(server: &Server) {
    let shutdown = &server.inner;
    spawn(
        "watch-cache",
        TaskKind::Critical,
        Arc::clone(&server.caches).run(shutdown.clone()),
    );
    let objects: Arc<dyn Objects> = Arc::clone(&server.registry) as Arc<dyn Objects>;
    server.authorizer.start(&objects, shutdown);
    if let Some(seats) = server.edge.seats() {
        seats.start(&objects, shutdown);
    }
    bootstrap::aggregate::start(&objects, shutdown);
    spawn(
        "compaction",
        TaskKind::Background,
        storage::compact_regularly(server.registry.store.clone(), shutdown.clone()),
    );
    spawn(
        "allocations",
        TaskKind::Background,
        allocators::repair(server.registry.store.clone(), shutdown.clone()),
    );
    let (registry, admin, stop) = (
        Arc::clone(&server.registry),
        server.admin.clone(),
        shutdown.clone(),
    );
    let (advertised, authorizer) = (server.advertised.clone(), Arc::clone(&server.authorizer));
    let services = registry.allocators.service_cidr;
    let client_ca = server.client_ca.clone();
    spawn("bootstrap", TaskKind::Critical, async move {
        system_objects(&registry, &stop).await;
        bootstrap::run(&objects, services, &stop).await;
        bootstrap::client_ca::start(&objects, client_ca, &stop);
        let living = Arc::new(registry.store.clone());
        bootstrap::endpoints::start(&objects, living, advertised, &stop);
        rules_arrive(&authorizer, &stop).await;
        authorizer.loaded();
        admin.readiness().set(BOOTSTRAP, Ok(()));
    });
}

/// What was just written reaches the authorizer through the watch cache, a moment later.
async fn rules_arrive(authorizer: &Live, shutdown: &Shutdown) {
    loop {
        let arrived = authorizer.synced() && bootstrap::has_arrived(authorizer);
        if arrived || shutdown.is_triggered() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Adds the checks. Done while building: a server that does not run yet is not ready either.
pub(super) fn readiness(
    admin: &AdminServer,
    caches: &Arc<Caches>,
    authorizer: &Arc<Live>,
    edge: &Edge,
) {
    let readiness = admin.readiness();
    readiness.set(
        BOOTSTRAP,
        Err("system objects are not in place yet".to_owned()),
    );
    let caches = Arc::clone(caches);
    readiness.check("watch-cache", move || match caches.observed() {
        Revision::ZERO => Err("nothing has been loaded from the store yet".to_owned()),
        _ => Ok(()),
    });
    let authorizer = Arc::clone(authorizer);
    readiness.check("authorization", move || {
        if authorizer.synced() {
            Ok(())
        } else {
            Err("rules are still being loaded".to_owned())
        }
    });
    if let Some(seats) = edge.seats().map(Arc::clone) {
        readiness.check("priority-and-fairness", move || {
            if seats.is_configured() {
                Ok(())
            } else {
                Err("priority levels are still being loaded".to_owned())
            }
        });
    }
}

async fn system_objects(registry: &Registry, shutdown: &Shutdown) {
    loop {
        let created = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            created = create_system_objects(registry) => created,
        };
        match created {
            Ok(()) => return,
            Err(status) => tracing::warn!(%status, "system objects are not in place yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
