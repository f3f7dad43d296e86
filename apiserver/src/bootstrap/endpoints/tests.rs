//! Who stands behind the kubernetes Service, as servers come, stay away and leave.

use std::net::Ipv4Addr;

use parking_lot::Mutex;

use super::*;
use crate::chain::objects::fake::Fake;

/// Servers that live, as the test says.
#[derive(Default)]
struct Living(Mutex<BTreeSet<IpAddr>>);

#[async_trait]
impl Presence for Living {
    async fn announce(&self, ip: IpAddr) -> Result<(), Status> {
        self.0.lock().insert(ip);
        Ok(())
    }

    async fn withdraw(&self, ip: IpAddr) -> Result<(), Status> {
        self.0.lock().remove(&ip);
        Ok(())
    }

    async fn living(&self) -> Result<BTreeSet<IpAddr>, Status> {
        Ok(self.0.lock().clone())
    }
}

fn keeper(objects: &Arc<Fake>, living: &Arc<Living>, ip: [u8; 4]) -> Keeper {
    Keeper {
        objects: Arc::clone(objects) as Arc<_>,
        presence: Arc::clone(living) as Arc<_>,
        advertised: Advertised {
            address: SocketAddr::new(Ipv4Addr::from(ip).into(), 6443),
            cluster_ip: Ipv4Addr::new(10, 96, 0, 1).into(),
        },
    }
}

async fn behind(objects: &Fake) -> Vec<String> {
    let found = objects.get(ENDPOINTS, NAMESPACE, NAME).await.expect("read");
    let found = found.unwrap_or_default();
    let addresses = found["subsets"][0]["addresses"].as_array();
    let ips = addresses.into_iter().flatten();
    ips.filter_map(|address| address["ip"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn servers_come_vanish_and_leave() {
    let (objects, living) = (Fake::with(&[]), Arc::<Living>::default());
    let (one, two) = (
        keeper(&objects, &living, [10, 0, 0, 1]),
        keeper(&objects, &living, [10, 0, 0, 2]),
    );
    one.renew().await.expect("renewed");
    two.renew().await.expect("renewed");
    assert_eq!(behind(&objects).await, ["10.0.0.1", "10.0.0.2"]);
    // The store's lease ran out, whatever any clock says.
    living.0.lock().remove(&IpAddr::from([10, 0, 0, 1]));
    two.renew().await.expect("renewed");
    assert_eq!(behind(&objects).await, ["10.0.0.2"]);
    one.renew().await.expect("renewed");
    one.leave().await.expect("left");
    assert_eq!(behind(&objects).await, ["10.0.0.2"]);
    let slice = objects.get(SLICES, NAMESPACE, NAME).await.expect("read");
    assert_eq!(
        slice.expect("there")["endpoints"][0]["addresses"],
        json!(["10.0.0.2"])
    );
}

#[tokio::test]
async fn a_loopback_address_stands_behind_no_service() {
    let (objects, living) = (Fake::with(&[]), Arc::<Living>::default());
    let local = keeper(&objects, &living, [127, 0, 0, 1]);
    local.renew().await.expect("renewed");
    let service = objects.get(SERVICES, NAMESPACE, NAME).await.expect("read");
    assert!(service.is_some());
    assert!(behind(&objects).await.is_empty());
    assert!(living.0.lock().is_empty());
    local.leave().await.expect("left");
}
