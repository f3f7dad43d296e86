//! A manager's wishes laid over the live object: structs and maps merge by key, lists as the schema says.
//!
//! Order of lists: what is wished for stands in the wishes' order; the rest keeps its order, and comes before what it stood
//! before, and before what is new. Invariant:
//! nothing of the live object is lost that the wishes do not speak of.

use serde_json::{Map, Value};

use super::walk::{View, is_leaf};

/// The live value with the wishes over it.
pub(super) fn merge(view: View, live: Value, wishes: &Value) -> Value {
    if is_leaf(view, &live) || is_leaf(view, wishes) {
        return wishes.clone();
    }
    match (live, wishes) {
        (Value::Object(live), Value::Object(wishes)) => Value::Object(maps(view, live, wishes)),
        (Value::Array(live), Value::Array(wishes)) => Value::Array(lists(view, live, wishes)),
        (_, wishes) => wishes.clone(),
    }
}

fn maps(
    view: View,
    mut live: Map<String, Value>,
    wishes: &Map<String, Value>,
) -> Map<String, Value> {
    for (name, wish) in wishes {
        let merged = match live.get_mut(name).map(Value::take) {
            Some(present) => merge(view.child(name), present, wish),
            None => wish.clone(),
        };
        live.insert(name.clone(), merged);
    }
    live
}

fn lists(view: View, live: Vec<Value>, wishes: &[Value]) -> Vec<Value> {
    let elements: Vec<_> = live.iter().map(|item| view.element(item)).collect();
    let wished: Vec<_> = wishes.iter().map(|item| view.element(item)).collect();
    // Where each wish stands in the live list, if it does.
    let places: Vec<Option<usize>> = wished
        .iter()
        .map(|element| {
            let element = element.as_ref()?;
            elements
                .iter()
                .position(|other| other.as_ref() == Some(element))
        })
        .collect();
    let mut live: Vec<Option<Value>> = live.into_iter().map(Some).collect();
    let is_free = |at: usize| elements[at].is_none() || !wished.contains(&elements[at]);
    let mut out = Vec::with_capacity(live.len() + wishes.len());
    // Live items up to here have found their place.
    let mut done = 0;
    for (at, (wish, place)) in wishes.iter().zip(&places).enumerate() {
        let next = places[at..].iter().flatten().next().copied();
        let stop = next.filter(|next| *next >= done).unwrap_or(live.len());
        for free in (done..stop).filter(|at| is_free(*at)) {
            out.extend(live[free].take());
        }
        done = stop;
        let present = place.and_then(|place| live[place].take());
        out.push(match present {
            Some(present) => merge(view.item(), present, wish),
            None => wish.clone(),
        });
    }
    for free in (done..live.len()).filter(|at| is_free(*at)) {
        out.extend(live[free].take());
    }
    out
}
