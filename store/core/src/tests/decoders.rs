//! Bytes from a disk that lies: every decoder of rows says no, and none panics.

use bytes::Bytes;
use proptest::prelude::*;

use crate::backend::{Backend as _, Batch, Keyspace};
use crate::codec::{self, Record};
use crate::memory::MemoryBackend;
use crate::state::State;
use crate::{LeaseId, Revision, lease_rows, store};

fn with_row(key: &[u8], value: &Bytes) -> MemoryBackend {
    let backend = MemoryBackend::new();
    let mut batch = Batch::default();
    batch.put(Keyspace::Meta, key.to_vec(), value.clone());
    backend.write(batch).unwrap();
    backend
}

proptest! {
    #[test]
    fn rows_of_any_bytes_are_read_or_refused(row in prop::collection::vec(any::<u8>(), 0..60)) {
        let row = Bytes::from(row);
        let _ = codec::split_key_row(&row);
        let _ = codec::user_key(&row);
        let _ = codec::rev_row_revision(&row);
        let _ = codec::attachment_key(&row);
        let _ = codec::lease_of_row(&row);
        let _ = codec::alarm_of_row(&row);
        if let Ok(record) = Record::decode(row.clone()) {
            prop_assert_eq!(Record::decode(record.encode()).unwrap(), record);
        }
        let _ = State::load(&with_row(codec::META_STATE, &row));
        let lease = LeaseId(7);
        let _ = lease_rows::get(&with_row(&codec::lease_row(lease), &row), lease);
        let _ = lease_rows::all(&with_row(&[&[codec::META_LEASE], &row[..]].concat(), &row));
        let _ = store::alarms(&with_row(&[&[codec::META_ALARM], &row[..]].concat(), &row));
    }

    #[test]
    fn keys_survive_their_rows(key in prop::collection::vec(any::<u8>(), 0..20), revision in 0i64..i64::MAX) {
        let revision = Revision::new(revision);
        let row = Bytes::from(codec::key_row(&key, revision));
        prop_assert_eq!(codec::split_key_row(&row).unwrap().1, revision);
        prop_assert_eq!(codec::user_key(&row).unwrap(), key);
    }
}
