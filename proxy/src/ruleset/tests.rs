//! Rule sets for given models, that a diff touches only what changed, and the property that a diff always leads to the
//! same kernel state as building anew (checked on a small interpreter of our own scripts).

use proptest::prelude::*;

use super::*;

fn scope() -> Scope {
    Scope {
        pod_cidr: "10.244.0.0/16".parse().expect("cidr"),
        service_cidr: "10.96.0.0/16".parse().expect("cidr"),
        node_local: BTreeSet::from([Ipv4Addr::new(10, 96, 0, 10)]),
    }
}

fn name(service: &str) -> PortName {
    PortName {
        namespace: "default".to_owned(),
        service: service.to_owned(),
        port: String::new(),
    }
}

fn port(last: u8, endpoints: &[u8]) -> ServicePort {
    ServicePort {
        protocol: Protocol::Tcp,
        cluster_ip: Ipv4Addr::new(10, 96, 0, last),
        port: 80,
        external_ips: Vec::new(),
        node_port: None,
        affinity_seconds: None,
        external_local: false,
        internal_local: false,
        source_ranges: Vec::new(),
        endpoints: endpoints
            .iter()
            .map(|e| Endpoint {
                ip: Ipv4Addr::new(10, 244, 0, *e),
                port: 8080,
                local: e % 2 == 0,
                ready: true,
            })
            .collect(),
    }
}

#[test]
fn a_service_without_endpoints_is_refused() {
    let rules = compute(&Model::from([(name("a"), port(5, &[]))]), &scope());
    assert!(rules.chains.is_empty());
    assert_eq!(rules.closed.len(), 1);
}

#[test]
fn the_dns_address_gets_no_rules() {
    let rules = compute(&Model::from([(name("dns"), port(10, &[]))]), &scope());
    assert_eq!(rules, Ruleset::default());
}

#[test]
fn three_endpoints_share_by_numgen() {
    let rules = compute(&Model::from([(name("a"), port(5, &[1, 2, 3]))]), &scope());
    let service = rules.services.values().next().expect("one");
    let body = &rules.chains[service];
    assert_eq!(body[0], "ip saddr != 10.244.0.0/16 jump mark-masquerade");
    assert!(
        body[1].starts_with("numgen random mod 3 vmap { 0 : goto ep-"),
        "{body:?}"
    );
    assert_eq!(rules.chains.len(), 4);
}

#[test]
fn policy_local_uses_local_endpoints_and_keeps_the_source() {
    let mut local = port(5, &[1, 2]);
    local.node_port = Some(30080);
    local.external_local = true;
    let rules = compute(&Model::from([(name("a"), local)]), &scope());
    let body = &rules.chains[&rules.nodeports[&(Protocol::Tcp, 30080)]];
    let outside: Vec<_> = body.iter().filter(|r| !is_from_within(r)).collect();
    assert_eq!(
        outside.len(),
        1,
        "one local endpoint, no masquerade: {body:?}"
    );
    assert!(outside[0].ends_with("-0af40002-8080"), "{body:?}");
}

fn is_from_within(rule: &str) -> bool {
    rule.starts_with("ip saddr 10.244.0.0/16 goto ")
        || rule.starts_with("fib saddr type local goto ")
}

#[test]
fn policy_local_serves_pods_from_everywhere_and_drops_what_it_cannot_serve() {
    let mut elsewhere = port(5, &[1, 3]); // odd ones are on other nodes
    elsewhere.external_ips = vec![Ipv4Addr::new(192, 0, 2, 1)];
    elsewhere.node_port = Some(30080);
    elsewhere.external_local = true;
    for internal_local in [false, true] {
        elsewhere.internal_local = internal_local;
        let rules = compute(&Model::from([(name("a"), elsewhere.clone())]), &scope());
        assert!(rules.closed_nodeports.is_empty(), "nothing is rejected");
        let key = (Ipv4Addr::new(192, 0, 2, 1), Protocol::Tcp, 80);
        let body = &rules.chains[&rules.services[&key]];
        assert_eq!(body.len(), 3, "{body:?}");
        assert!(
            body[..2].iter().all(|rule| is_from_within(rule)),
            "{body:?}"
        );
        assert_eq!(body[2], "drop");
        let everywhere = body[0].split(' ').next_back().expect("a chain");
        let shared = &rules.chains[everywhere];
        assert!(shared[1].starts_with("numgen random mod 2"), "{shared:?}");
    }
    // Without any endpoint at all there is nobody to wait for: that is refused, as at the cluster address.
    elsewhere.endpoints.clear();
    let rules = compute(&Model::from([(name("a"), elsewhere)]), &scope());
    assert_eq!((rules.closed.len(), rules.closed_nodeports.len()), (2, 1));
}

#[test]
fn an_external_address_cannot_take_over_a_service_or_the_cluster_dns() {
    let victim = port(5, &[1]);
    let taken = [victim.cluster_ip, Ipv4Addr::new(10, 96, 0, 10)];
    let free = Ipv4Addr::new(192, 0, 2, 1);
    let external = |last, address: &[Ipv4Addr]| {
        let mut thief = port(last, &[2]);
        thief.external_ips = address.to_vec();
        thief
    };
    // Before and behind the victim in order of names.
    for thief in ["a", "z"] {
        let mut model = Model::from([(name("m"), victim.clone())]);
        let before = compute(&model, &scope());
        model.insert(name(thief), external(6, &[taken[0], taken[1], free]));
        let rules = compute(&model, &scope());
        let key = |ip| (ip, Protocol::Tcp, 80);
        assert_eq!(
            rules.services[&key(taken[0])],
            before.services[&key(taken[0])]
        );
        assert!(!rules.services.contains_key(&key(taken[1])));
        assert!(rules.services[&key(free)].starts_with("ext-"));
        // What two claim is the first one's, and stays it.
        model.insert(name("zz"), external(7, &[free]));
        let again = compute(&model, &scope());
        assert_eq!(again.services[&key(free)], rules.services[&key(free)]);
    }
}

#[test]
fn a_changed_service_leaves_the_others_alone() {
    let mut model = Model::from([(name("a"), port(5, &[1, 2])), (name("b"), port(6, &[3]))]);
    let before = compute(&model, &scope());
    model.insert(name("b"), port(6, &[3, 4]));
    let script = diff("t", &before, &compute(&model, &scope()));
    let a = chain_id(&name("a"), Protocol::Tcp);
    assert!(!script.contains(&a), "{script}");
    assert_eq!(diff("t", &before, &before), "");
}

/// What the kernel would hold after a script: enough of nft to run our own output, and strict about order.
fn run(state: &mut Ruleset, script: &str) {
    for line in script.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words[0], words[1]) {
            ("add", "chain") => assert!(
                state
                    .chains
                    .insert(words[4].to_owned(), Vec::new())
                    .is_none()
            ),
            ("flush", "chain") => state.chains.get_mut(words[4]).expect("known chain").clear(),
            ("delete", "chain") => {
                let used = format!("goto {}", words[4]);
                let refers = |rules: &Vec<String>| {
                    rules
                        .iter()
                        .any(|r| r.split([',', '}']).any(|p| p.trim().ends_with(&used)))
                };
                assert!(!state.chains.values().any(refers), "{line}: still used");
                assert!(
                    !state
                        .services
                        .values()
                        .chain(state.nodeports.values())
                        .any(|c| c == words[4]),
                    "{line}: in a map"
                );
                assert!(state.chains.remove(words[4]).is_some());
            }
            ("add", "rule") => state
                .chains
                .get_mut(words[4])
                .expect("declared")
                .push(words[5..].join(" ")),
            ("add", "set") => {
                let seconds = line
                    .split("timeout ")
                    .last()
                    .and_then(|t| t.split('s').next())
                    .and_then(|t| t.parse().ok());
                state
                    .affinity
                    .insert(words[4].to_owned(), seconds.expect("seconds"));
            }
            ("delete", "set") => drop(state.affinity.remove(words[4])),
            ("flush", "set") => {}
            (verb, "element") => elements(state, verb, words[4], line),
            other => panic!("unknown line {other:?}"),
        }
    }
}

fn elements(state: &mut Ruleset, verb: &str, map: &str, line: &str) {
    let list = line.split_once('{').expect("list").1.trim_end_matches('}');
    for element in list.split(',').map(str::trim) {
        let (key, chain) = match element.split_once(" : goto ") {
            Some((key, chain)) => (key, Some(chain.to_owned())),
            None => (element, None),
        };
        let parts: Vec<&str> = key.split(" . ").collect();
        let number = |text: &str| text.trim().parse::<u16>().expect("port");
        let protocol = Protocol::Tcp;
        match map {
            "services" | "closed" => {
                let key = (parts[0].parse().expect("ip"), protocol, number(parts[2]));
                if map == "closed" {
                    assert!(if verb == "add" {
                        state.closed.insert(key)
                    } else {
                        state.closed.remove(&key)
                    });
                } else if verb == "add" {
                    assert!(
                        state
                            .services
                            .insert(key, chain.expect("verdict"))
                            .is_none()
                    );
                } else {
                    assert!(state.services.remove(&key).is_some());
                }
            }
            _ => {
                let key = (protocol, number(parts[1]));
                if map == "closed-nodeports" {
                    assert!(if verb == "add" {
                        state.closed_nodeports.insert(key)
                    } else {
                        state.closed_nodeports.remove(&key)
                    });
                } else if verb == "add" {
                    assert!(
                        state
                            .nodeports
                            .insert(key, chain.expect("verdict"))
                            .is_none()
                    );
                } else {
                    assert!(state.nodeports.remove(&key).is_some());
                }
            }
        }
    }
}

fn any_port() -> impl Strategy<Value = (u8, ServicePort)> {
    let endpoints = proptest::collection::btree_set(1u8..6, 0..4);
    (
        1u8..6,
        endpoints,
        proptest::option::of(Just(60u32)),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(id, endpoints, affinity, node_port, local)| {
            let endpoints: Vec<u8> = endpoints.into_iter().collect();
            let mut made = port(100 + id, &endpoints);
            made.affinity_seconds = affinity;
            made.node_port = node_port.then_some(30_000 + u16::from(id));
            made.external_local = local;
            (id, made)
        })
}

proptest! {
    #[test]
    fn diffs_lead_where_building_anew_does(steps in proptest::collection::vec(proptest::collection::vec(any_port(), 0..5), 1..6)) {
        let mut kernel = Ruleset::default();
        let mut applied = Ruleset::default();
        for step in steps {
            let model: Model = step.into_iter().map(|(id, port)| (name(&format!("s{id}")), port)).collect();
            let wanted = compute(&model, &scope());
            run(&mut kernel, &diff("t", &applied, &wanted));
            prop_assert_eq!(&kernel, &wanted);
            applied = wanted;
        }
    }
}
