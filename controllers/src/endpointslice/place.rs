//! Placing endpoints into slices with few writes. Pure. Invariant: after the writes each endpoint stands in exactly one
//! slice, and no slice holds more than `MAX_ENDPOINTS`.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::endpoint::Group;

/// Endpoints of one slice: upstream's limit, which keeps an update of a large Service small.
pub(super) const MAX_ENDPOINTS: usize = 100;

/// Writes, in terms of slices. Slices to create have no name yet.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// All slices that stay, changed or not.
    pub(super) updates: Vec<EndpointSlice>,
    pub(super) creates: Vec<EndpointSlice>,
    pub(super) deletes: Vec<EndpointSlice>,
}

/// Places the groups into the slices that exist.
pub(super) fn place(groups: Vec<Group>, mut existing: Vec<EndpointSlice>) -> Placed {
    let mut placed = Placed::default();
    for group in groups {
        let fits = |slice: &EndpointSlice| {
            slice.address_type == group.family && ports(slice) == group.ports
        };
        let (mine, rest): (Vec<_>, Vec<_>) = existing.into_iter().partition(fits);
        existing = rest;
        place_group(group, mine, &mut placed);
    }
    placed.deletes.append(&mut existing);
    reuse(&mut placed);
    placed
}

/// The ports of a slice with the API's defaults, as groups have them.
fn ports(slice: &EndpointSlice) -> Vec<EndpointPort> {
    let mut ports = slice.ports.clone().unwrap_or_default();
    for port in &mut ports {
        port.name.get_or_insert_default();
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    ports
}

fn place_group(group: Group, slices: Vec<EndpointSlice>, placed: &mut Placed) {
    let is_empty = group.endpoints.is_empty();
    let mut missing = group.endpoints;
    let mut changed = Vec::new();
    let mut same = Vec::new();
    for mut slice in slices {
        let before = slice.endpoints.clone();
        slice.endpoints = before
            .iter()
            .filter_map(|endpoint| take(&mut missing, endpoint))
            .collect();
        if slice.endpoints == before {
            same.push(slice)
        } else {
            changed.push(slice)
        }
    }
    // Slices that are written anyway take the new ones first; then the fullest that has room for all that is left.
    for slice in &mut changed {
        fill(slice, &mut missing);
    }
    if !missing.is_empty() && missing.len() < MAX_ENDPOINTS {
        let room = |slice: &EndpointSlice| MAX_ENDPOINTS.saturating_sub(slice.endpoints.len());
        let fitting = same.iter_mut().filter(|slice| room(slice) >= missing.len());
        if let Some(slice) = fitting.min_by_key(|slice| MAX_ENDPOINTS - slice.endpoints.len()) {
            fill(slice, &mut missing);
        }
    }
    let mut kept: Vec<EndpointSlice> = Vec::new();
    for slice in same.into_iter().chain(changed) {
        // One empty slice stays when the whole group is empty.
        if slice.endpoints.is_empty() && !(is_empty && kept.is_empty()) {
            placed.deletes.push(slice);
        } else {
            kept.push(slice);
        }
    }
    if is_empty && kept.is_empty() {
        placed
            .creates
            .push(new_slice(&group.family, &group.ports, Vec::new()));
    }
    placed.updates.append(&mut kept);
    while !missing.is_empty() {
        let some = missing.drain(..missing.len().min(MAX_ENDPOINTS)).collect();
        placed
            .creates
            .push(new_slice(&group.family, &group.ports, some));
    }
}

/// Takes the wanted state of an endpoint that a slice holds, if it is still wanted.
fn take(missing: &mut Vec<Endpoint>, held: &Endpoint) -> Option<Endpoint> {
    let held_uid = uid(held);
    let same = |wanted: &Endpoint| wanted.addresses == held.addresses && uid(wanted) == held_uid;
    let at = missing.iter().position(same)?;
    Some(missing.remove(at))
}

fn uid(endpoint: &Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.uid.as_deref()
}

fn fill(slice: &mut EndpointSlice, missing: &mut Vec<Endpoint>) {
    let room = MAX_ENDPOINTS.saturating_sub(slice.endpoints.len());
    slice
        .endpoints
        .extend(missing.drain(..missing.len().min(room)));
}

fn new_slice(family: &str, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints,
        ports: Some(ports.to_vec()),
        ..EndpointSlice::default()
    }
}

/// A slice that would go takes the place of one that would come.
fn reuse(placed: &mut Placed) {
    let mut creates = Vec::new();
    for slice in placed.creates.drain(..) {
        match placed
            .deletes
            .iter()
            .position(|old| old.address_type == slice.address_type)
        {
            Some(at) => {
                let mut old = placed.deletes.remove(at);
                (old.endpoints, old.ports) = (slice.endpoints, slice.ports);
                placed.updates.push(old);
            }
            None => creates.push(slice),
        }
    }
    placed.creates = creates;
}
