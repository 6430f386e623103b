//! The door to objects: large, immutable things that are written once, by one writer, and never changed. Owns the
//! contract; what is inside an object is no concern of it, nor which objects are referred to.
//!
//! ```text
//!   make_dir -> create -> write* -> finish (bytes durable) -> sync_dir (name durable) -> a catalog row may name it
//! ```

use hapax_proto::span::{Length, Offset};

use crate::{
    error::StoreError,
    id::{DirId, ObjectId, ObjectName},
};

/// Objects as files of the local disk.
pub mod local;

/// Objects in memory, with faults, for tests.
pub mod memory;

#[cfg(test)]
pub(crate) mod contract;

/// A store of objects.
pub trait Objects: Send + Sync + 'static {
    /// Creates a directory, or makes sure of one that is there.
    ///
    /// DURABILITY: on return it survives power loss.
    fn make_dir(&self, dir: DirId) -> Result<(), StoreError>;

    /// Begins an object in a directory that was made. A name that is taken is an error: ids are random (R3).
    fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Opens a finished object for reading. Several threads may read at once; deleting it disturbs no open reader.
    ///
    /// # Errors
    /// [`StoreError::MissingObject`] if there is none.
    fn open(&self, name: ObjectName) -> Result<Box<dyn ObjectReader>, StoreError>;

    /// Removes an object; returns whether it was there. After a crash it may be there again.
    fn delete(&self, name: ObjectName) -> Result<bool, StoreError>;

    /// Waits until the names in a directory are durable. One call serves all objects that were finished before it.
    fn sync_dir(&self, dir: DirId) -> Result<(), StoreError>;

    /// Returns the ids in a directory, in no order; none for a directory that was never made. Unfinished objects may
    /// be among them. A name that is no object id is passed over: it is not ours to touch.
    fn list(&self, dir: DirId) -> Result<Vec<ObjectId>, StoreError>;
}

/// An object being written. Dropping it unfinished removes what is there, if it can.
///
/// An error ends the object: nothing makes it whole any more, and every later call fails too (R7). A retry writes a
/// new object.
pub trait ObjectWriter: Send {
    /// Appends bytes. Hand over large runs: each call is at least one system call.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Ends the object. On an error nothing of it stays, if it can be removed.
    ///
    /// DURABILITY: on return its bytes survive power loss; its name does once [`Objects::sync_dir`] returned.
    fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

/// A finished object.
pub trait ObjectReader: Send + Sync {
    /// Returns how long it is.
    fn length(&self) -> Length;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the object ends before the buffer is full.
    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StoreError>;
}

/// Says that an object is not there.
fn missing(name: ObjectName) -> StoreError {
    StoreError::MissingObject { name: name.to_string() }
}

/// Says that an object ended where bytes should be.
fn too_short(name: ObjectName) -> StoreError {
    StoreError::Corrupt { what: format!("object {name}"), why: "it ends too early" }
}
