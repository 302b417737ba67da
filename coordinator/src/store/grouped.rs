//! Records that are written in groups, one transaction each.

use super::{Failure, File, StoreError};

/// Writes records to a file, a group at a time.
pub(crate) struct Grouped<T> {
    file: File,
    most: usize,
    insert: fn(&redb::WriteTransaction, &T) -> Result<(), Failure>,
    waiting: Vec<T>,
}

impl<T> Grouped<T> {
    /// Writes by `insert`, at most `most` records in one transaction.
    pub(crate) fn new(
        file: File,
        most: usize,
        insert: fn(&redb::WriteTransaction, &T) -> Result<(), Failure>,
    ) -> Grouped<T> {
        let waiting = Vec::new();
        Grouped {
            file,
            most,
            insert,
            waiting,
        }
    }

    /// Takes a record, which is durable by [`Grouped::finish`].
    pub(crate) fn take(&mut self, record: T) -> Result<(), StoreError> {
        self.waiting.push(record);
        match self.waiting.len() >= self.most {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Makes all of it durable.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.write()
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let (records, insert) = (std::mem::take(&mut self.waiting), self.insert);
        self.file
            .write(|transaction| records.iter().try_for_each(|record| insert(transaction, record)))
    }
}
