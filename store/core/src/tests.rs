//! Tests of the core: tables for the rules of etcd, properties against a model.
//! Invariant under test: what the model says, the store says, however entries are batched and space is given back.

mod auth;
mod decoders;
mod harness;
mod hub;
mod leases;
mod model;
mod pages;
mod record;
mod rules;
