//! What every store of objects must do, as one function. Each implementation runs it; none is tested apart from it
//! in what it promises.

use hapax_proto::span::{Length, Offset};

use super::{ObjectReader, Objects};
use crate::{
    error::StoreError,
    id::{DirId, ObjectId, ObjectName},
};

const DIR: DirId = DirId::new(1);

/// Runs the whole contract on an empty store.
pub(crate) fn keeps_the_contract(objects: &dyn Objects) {
    directories_can_be_made_twice(objects);
    bytes_come_back_as_written(objects);
    readers_share_and_outlive_a_deletion(objects);
    names_are_taken_once(objects);
    an_unfinished_object_goes_away(objects);
    listings_are_complete(objects);
}

/// Draws a name in the directory of the suite.
pub(crate) fn fresh_name() -> ObjectName {
    ObjectName { dir: DIR, id: ObjectId::random().unwrap() }
}

/// Writes an object in two runs.
pub(crate) fn store(objects: &dyn Objects, name: ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
    let mut writer = objects.create(name)?;
    let (first, second) = bytes.split_at(bytes.len() / 3);
    writer.write(first)?;
    writer.write(second)?;
    writer.finish()
}

/// Reads an object whole.
pub(crate) fn read_whole(reader: &dyn ObjectReader) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; usize::try_from(reader.length().get()).unwrap()];
    reader.read_at(Offset::ZERO, &mut bytes)?;
    Ok(bytes)
}

fn directories_can_be_made_twice(objects: &dyn Objects) {
    assert!(objects.create(fresh_name()).is_err(), "no directory, no object");
    assert_eq!(objects.list(DIR).unwrap(), []);
    objects.make_dir(DIR).unwrap();
    objects.make_dir(DIR).unwrap();
    objects.sync_dir(DIR).unwrap();
    assert_eq!(objects.list(DIR).unwrap(), []);
}

fn bytes_come_back_as_written(objects: &dyn Objects) {
    let name = fresh_name();
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    store(objects, name, &bytes).unwrap();
    let reader = objects.open(name).unwrap();
    assert_eq!(reader.length(), Length::of(&bytes));
    assert_eq!(read_whole(&*reader).unwrap(), bytes);
    let mut middle = [0; 1000];
    reader.read_at(Offset::new(70_001), &mut middle).unwrap();
    assert_eq!(middle, bytes[70_001..71_001]);
    reader.read_at(Offset::new(1), &mut []).unwrap();

    let past = Offset::new(bytes.len() as u64 - 999);
    let error = reader.read_at(past, &mut middle).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    objects.delete(name).unwrap();
}

fn readers_share_and_outlive_a_deletion(objects: &dyn Objects) {
    let name = fresh_name();
    store(objects, name, b"once").unwrap();
    let (a, b) = (objects.open(name).unwrap(), objects.open(name).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(read_whole(&*a).unwrap(), b"once"));
        }
    });
    assert!(objects.delete(name).unwrap());
    assert!(!objects.delete(name).unwrap());
    assert_eq!(read_whole(&*b).unwrap(), b"once");
    assert!(matches!(objects.open(name).err().unwrap(), StoreError::MissingObject { .. }));
}

fn names_are_taken_once(objects: &dyn Objects) {
    let name = fresh_name();
    store(objects, name, b"first").unwrap();
    assert!(objects.create(name).is_err());
    assert_eq!(read_whole(&*objects.open(name).unwrap()).unwrap(), b"first");
    objects.delete(name).unwrap();
}

fn an_unfinished_object_goes_away(objects: &dyn Objects) {
    let name = fresh_name();
    let mut writer = objects.create(name).unwrap();
    writer.write(b"half").unwrap();
    drop(writer);
    assert!(!objects.delete(name).unwrap());
}

fn listings_are_complete(objects: &dyn Objects) {
    let mut names: Vec<_> = (0..10).map(|_| fresh_name()).collect();
    for name in &names {
        store(objects, *name, b"x").unwrap();
    }
    objects.delete(names.swap_remove(3)).unwrap();
    let mut listed = objects.list(DIR).unwrap();
    let mut expected: Vec<_> = names.iter().map(|name| name.id).collect();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for name in names {
        objects.delete(name).unwrap();
    }
}
