//! Where the walk is, and what it found wrong there.
//!
//! Invariant: only the first failure counts, and faults are bounded.

use std::cell::RefCell;

use serde::de::Error;

use crate::quote::quote;
use crate::schema::{Field, Type};

/// Unknown and duplicate fields beyond these are not told.
const FAULTS_MAX: usize = 100;

/// What the walk found besides the value. Serde's errors cannot carry it without losing the words.
#[derive(Default)]
pub(in crate::decode) struct Context {
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    failure: Option<String>,
    faults: Vec<String>,
}

impl Context {
    pub(in crate::decode) fn finish(self) -> (Option<String>, Vec<String>) {
        let found = self.found.into_inner();
        (found.failure, found.faults)
    }

    pub(super) fn fail<E: Error>(&self, message: String) -> E {
        self.found.borrow_mut().failure.get_or_insert(message);
        E::custom("refused")
    }

    pub(super) fn fault(&self, what: &str, path: &Path<'_>, key: &str) {
        let faults = &mut self.found.borrow_mut().faults;
        if faults.len() < FAULTS_MAX {
            let mut text = String::new();
            path.write_steps(&mut text);
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(key);
            let fault = format!("{what} field {}", quote(&text));
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
}

/// Where the walk is: a chain of steps on the stack, turned into text only when something is wrong.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
    pub(super) depth: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Root,
    Field(&'static Type, &'static Field),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Path<'static> = Path {
        parent: None,
        step: Step::Root,
        depth: 0,
    };

    pub(super) fn step(&'a self, step: Step<'a>) -> Path<'a> {
        Path {
            parent: Some(self),
            step,
            depth: self.depth + 1,
        }
    }

    /// As people write it: `spec.containers[0].name`.
    pub(super) fn write_steps(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_steps(out);
        }
        let name = match self.step {
            Step::Root => return,
            Step::Index(index) => {
                out.push_str(&format!("[{index}]"));
                return;
            }
            Step::Field(_, field) => field.name,
            Step::Key(key) => key,
        };
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(name);
    }

    /// As Go's decoder tells it: the innermost struct, then the fields from the root, without indexes and keys.
    pub(super) fn go_field(&self) -> String {
        let (mut names, mut owner, mut at) = (Vec::new(), None, Some(self));
        while let Some(path) = at {
            if let Step::Field(ty, field) = path.step {
                names.push(field.name);
                names.extend(field.inlined.iter().rev().map(|(_, name)| *name));
                owner.get_or_insert(ty.go_name());
            }
            at = path.parent;
        }
        names.push(owner.unwrap_or_default());
        names.reverse();
        names.join(".")
    }
}
