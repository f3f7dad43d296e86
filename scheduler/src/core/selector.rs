//! Selectors over labels, compiled from the API's forms once per pod. Hashable, so that equal ones share their counts.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What a requirement asks of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

impl Requirement {
    /// The key has exactly this value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            operator: Operator::In,
            values: vec![value.to_owned()],
        }
    }

    fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Option<Self> {
        let operator = match operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => return None,
        };
        Some(Self {
            key: key.to_owned(),
            operator,
            values: values.cloned().unwrap_or_default(),
        })
    }

    /// Whether a value (absent: `None`) satisfies it.
    pub fn accepts(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.iter().any(|v| v == value)),
            Operator::NotIn => !value.is_some_and(|value| self.values.iter().any(|v| v == value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self.compare(value, |have, limit| have > limit),
            Operator::Lt => self.compare(value, |have, limit| have < limit),
        }
    }

    fn compare(&self, value: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let have = value.and_then(|value| value.parse().ok());
        let limit = self.values.first().and_then(|limit| limit.parse().ok());
        matches!((have, limit), (Some(have), Some(limit)) if holds(have, limit))
    }
}

/// A label selector: all requirements hold, or it selects nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    nothing: bool,
    requirements: Vec<Requirement>,
}

impl Selector {
    /// Selects nothing: what an absent selector means in a term.
    pub fn nothing() -> Self {
        Self {
            nothing: true,
            requirements: Vec::new(),
        }
    }

    /// Selects what has all these labels.
    pub fn labels(labels: &Labels) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement::equals(key, value))
            .collect();
        Self {
            nothing: false,
            requirements,
        }
    }

    /// Compiles the API's selector; absent selects nothing, an unknown operator too.
    pub fn compile(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self::nothing();
        };
        let mut compiled = selector.match_labels.as_ref().map_or(
            Self {
                nothing: false,
                requirements: Vec::new(),
            },
            Self::labels,
        );
        for expression in selector.match_expressions.iter().flatten() {
            match Requirement::new(
                &expression.key,
                &expression.operator,
                expression.values.as_ref(),
            ) {
                Some(requirement) => compiled.requirements.push(requirement),
                None => return Self::nothing(),
            }
        }
        compiled
    }

    /// Adds a requirement.
    pub fn require(&mut self, requirement: Requirement) {
        if !self.requirements.contains(&requirement) {
            self.requirements.push(requirement);
        }
    }

    /// Whether the labels are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|req| req.accepts(labels.get(&req.key).map(String::as_str)))
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

/// One term of a node selector: all of its requirements on labels and on fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
    /// An unknown operator: matches nothing.
    broken: bool,
}

impl NodeTerm {
    /// Compiles the API's term.
    pub fn compile(term: &NodeSelectorTerm) -> Self {
        let mut broken = false;
        let mut compile = |requirements: Option<&Vec<NodeSelectorRequirement>>| {
            let mut compiled = Vec::new();
            for req in requirements.into_iter().flatten() {
                match Requirement::new(&req.key, &req.operator, req.values.as_ref()) {
                    Some(requirement) => compiled.push(requirement),
                    None => broken = true,
                }
            }
            compiled
        };
        let labels = compile(term.match_expressions.as_ref());
        let fields = compile(term.match_fields.as_ref());
        Self {
            labels,
            fields,
            broken,
        }
    }

    /// Whether the node is selected. An empty term selects nothing; the only field is the name.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let empty = self.labels.is_empty() && self.fields.is_empty();
        !self.broken
            && !empty
            && self
                .labels
                .iter()
                .all(|req| req.accepts(labels.get(&req.key).map(String::as_str)))
            && self
                .fields
                .iter()
                .all(|req| req.key == "metadata.name" && req.accepts(Some(name)))
    }
}
