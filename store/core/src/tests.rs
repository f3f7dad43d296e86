//! Tests of the core: tables for the rules of etcd, properties against a model.
