//! Rows as they will be once the present batch is written: the batch laid over the backend.
//! Not a cache: nothing is kept beyond the round that owns it.
//! Invariant: a read through the overlay equals a read of the backend after the batch is written.

use std::{cmp::Ordering, ops::Bound, sync::Arc};

use bytes::Bytes;

use crate::backend::{Backend, Batch, Cursor, Keyspace, Read, Result};

/// A batch over a base.
pub(crate) struct Overlay {
    base: Arc<dyn Backend>,
    pub(crate) batch: Batch,
}

impl Overlay {
    pub(crate) fn new(base: Arc<dyn Backend>) -> Self {
        Self {
            base,
            batch: Batch::default(),
        }
    }
}

impl Read for Overlay {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        match self.batch.get(space, key) {
            Some(written) => Ok(written.cloned()),
            None => self.base.get(space, key),
        }
    }

    fn scan(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Box<dyn Cursor + '_>> {
        let base = self.base.scan(space, from, to)?;
        let to = to.map(Bytes::copy_from_slice);
        let mut rows = rows(&self.batch, space, from, to.as_deref());
        let pending = rows.next();
        let mut cursor = Merged {
            batch: &self.batch,
            space,
            rows,
            pending,
            base,
            to,
            side: Side::End,
        };
        cursor.settle()?;
        Ok(Box::new(cursor))
    }

    fn first(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<(Bytes, Bytes)>> {
        let Some((key, written)) = self.batch.range(space, Bound::Included(from), to).next() else {
            return self.base.first(space, from, to);
        };
        // The batch holds nothing before `key`, so a row of the base found there stands.
        if let Some(row) = self.base.first(space, from, Some(key))? {
            return Ok(Some(row));
        }
        if let Some(value) = written {
            return Ok(Some((key.clone(), value.clone())));
        }
        let cursor = self.scan(space, from, to)?;
        Ok(cursor
            .key()
            .is_some()
            .then(|| (cursor.key_bytes(), cursor.value_bytes())))
    }
}

type BatchRow<'a> = (&'a Bytes, Option<&'a Bytes>);

/// Which of the two sources holds the present row.
#[derive(Clone, Copy)]
enum Side {
    Base,
    Batch,
    End,
}

struct Merged<'a> {
    batch: &'a Batch,
    space: Keyspace,
    rows: Box<dyn Iterator<Item = BatchRow<'a>> + 'a>,
    pending: Option<BatchRow<'a>>,
    base: Box<dyn Cursor + 'a>,
    to: Option<Bytes>,
    side: Side,
}

impl<'a> Merged<'a> {
    fn restart(&mut self, from: &[u8]) {
        self.rows = rows(self.batch, self.space, from, self.to.as_deref());
        self.pending = self.rows.next();
    }

    /// Chooses the side with the smaller key; the batch wins ties and hides what it deletes.
    fn settle(&mut self) -> Result<()> {
        loop {
            let Some((key, value)) = self.pending else {
                self.side = if self.base.key().is_some() {
                    Side::Base
                } else {
                    Side::End
                };
                return Ok(());
            };
            let order = self
                .base
                .key()
                .map_or(Ordering::Less, |base| key.as_ref().cmp(base));
            match (order, value) {
                (Ordering::Greater, _) => {
                    self.side = Side::Base;
                    return Ok(());
                }
                (Ordering::Equal, _) => self.base.advance()?,
                (Ordering::Less, Some(_)) => {
                    self.side = Side::Batch;
                    return Ok(());
                }
                (Ordering::Less, None) => self.pending = self.rows.next(),
            }
        }
    }
}

impl Cursor for Merged<'_> {
    fn key(&self) -> Option<&[u8]> {
        match self.side {
            Side::Base => self.base.key(),
            Side::Batch => self.pending.map(|(key, _)| key.as_ref()),
            Side::End => None,
        }
    }

    fn value(&self) -> &[u8] {
        match self.side {
            Side::Base => self.base.value(),
            Side::Batch => self
                .pending
                .and_then(|(_, value)| value)
                .map_or(&[], AsRef::as_ref),
            Side::End => &[],
        }
    }

    fn advance(&mut self) -> Result<()> {
        match self.side {
            Side::Base => self.base.advance()?,
            Side::Batch => self.pending = self.rows.next(),
            Side::End => return Ok(()),
        }
        self.settle()
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.base.seek(key)?;
        self.restart(key);
        self.settle()
    }
}

fn rows<'a>(
    batch: &'a Batch,
    space: Keyspace,
    from: &[u8],
    to: Option<&[u8]>,
) -> Box<dyn Iterator<Item = BatchRow<'a>> + 'a> {
    Box::new(batch.range(space, Bound::Included(from), to))
}
